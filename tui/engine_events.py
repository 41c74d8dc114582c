"""The engine's lines as events; no widgets, no torch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, cast

from gpt import models
from gpt.capabilities import Capabilities
from gpt.interpret.answers import Layer, LikelyPath, Waterfall
from gpt.step import Step
from tui.backend import (
    Attribution,
    BackendError,
    CancelledAnswerError,
    Compared,
    Done,
    Event,
    Found,
    Layers,
    Loaded,
    Looked,
    Options,
    Paths,
    Status,
    Steps,
    Tell,
    Tokens,
    Unloaded,
)


def event_of(line: dict[str, Any]) -> Event:
    """The event of an answer of our own engine, whose values are not checked."""
    match line["event"]:
        case "status":
            return Status(line["message"], line.get("is_notice", False))
        case "loaded":
            return Loaded(
                line["name"],
                line["device"],
                line["dtype"],
                line["manifest"]["n_params"],
                line["config"]["vocab_size"],
                line["config"]["block_size"],
                line.get("compiled", False),
                line.get("notice", ""),
                models.divergence(line["manifest"].get("origin", {})),
                Capabilities.from_dict(line.get("capabilities", {})),
                line.get("special_tokens", {}),
                line["config"],
            )
        case "prompt" | "steps" as event:
            return Steps(line["steps"], event == "prompt", line.get("branch", 0))
        case "waterfall":
            return Waterfall.from_dict({name: line[name] for name in Waterfall._fields})
        case "tokens":
            return Tokens(tuple(line["ids"]), [bytes(part) for part in line["bytes"]])
        case "layers":
            return Layers([Layer.from_dict(layer) for layer in line["layers"]])
        case "attribution":
            return Attribution(line["nats"])
        case "options":
            return Options([[Step.from_dict(step) for step in one] for one in line["options"]])
        case "compared":
            return Compared(line["divergence"])
        case "unloaded":
            return Unloaded()
        case "paths":
            return Paths([LikelyPath.from_dict(path) for path in line["paths"]])
        case "done":
            return Done(
                line["finish_reason"],
                line["tokens"],
                line["seconds"],
                {name: line[name] for name in ("device", "dtype", "compiled") if name in line},
            )
        case other:
            from gpt.protocol.inside import INSIDE  # at the start it would take time

            if other in INSIDE:
                return Looked({name: line[name] for name in line.keys() - {"id", "event"}})
            raise BackendError(f"the engine sent an unknown event: {other}")


async def looked(events: AsyncIterator[Event], kind: type[Found], tell: Tell) -> Found:
    """The answer to a request about the inside of the network, as a record of this kind."""
    async for event in events:
        if isinstance(event, kind):  # one that other panels show as well
            return event
        if isinstance(event, Looked):
            try:
                return cast(Found, kind.from_dict(event.values))
            except ValueError as error:
                raise BackendError(f"the engine's answer cannot be read: {error}") from error
        if isinstance(event, Status):
            tell(event.message)
        elif isinstance(event, Done):
            raise CancelledAnswerError("stopped")
    raise BackendError("the engine did not answer")
