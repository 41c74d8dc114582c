"""A backend whose answers a test decides."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from gpt.capabilities import Capabilities
from gpt.interpret.answers import Layer, LikelyPath, Row, Waterfall
from gpt.interventions import Intervention
from gpt.settings import Sampling
from gpt.step import Candidate, Step
from tests.terminal import PATIENCE
from tests.tui.fake_inside import CONFIG, inside
from tui.app import GPTApp
from tui.backend import (
    Backend,
    BackendError,
    CancelledAnswerError,
    Compared,
    Completion,
    Connection,
    Done,
    Event,
    Found,
    Loaded,
    Status,
    Steps,
    Tell,
    Tokens,
)
from tui.key_order import KeysInOrder
from tui.screens.main import MainScreen, Opening
from tui.session import Session

LOADED = Loaded(
    "fake",
    "cpu",
    "float32",
    1_000_000,
    vocab_size=50,
    block_size=64,
    config=CONFIG.to_dict(),
)


def token(position: int, text: str, p: float = 0.5, *, drawn: bool = True) -> Step:
    """A token with a made-up probability and two candidates."""
    logprob = math.log(p)
    candidates = (
        Candidate(ord(text[0]), text.encode(), logprob, logprob if drawn else None),
        Candidate(1, b"x", math.log(0.1), None),
    )
    number = ord(text[0])
    after = logprob if drawn else None
    return Step(position, number, text.encode(), text, logprob, 1, 1.5, candidates, after)


def reading(text: str, length: int = 2) -> list[Step]:
    """A text that exists, in tokens of two characters."""
    parts = [text[i : i + length] for i in range(0, len(text), length)]
    return [token(i, part, 0.2, drawn=False) for i, part in enumerate(parts)]


class FakeBackend:
    """Answers a completion with `reply`, one token a turn of the loop."""

    def __init__(
        self,
        reply: str = "hello",
        *,
        error: BackendError | None = None,
        status: str = "loading PyTorch",
    ) -> None:
        self.status = status
        self.reply = reply
        self.error = error
        self.requests: list[Completion] = []
        self.asked_paths: list[list[int]] = []
        self.asked: list[tuple[list[int], int, Sampling]] = []
        self.asked_changes: list[tuple[Intervention, ...]] = []
        """What was changed inside the network for each of these."""
        self.asked_also: list[int] = []
        """The tokens that the latest of them wants as well."""
        self.asked_layers: list[tuple[Intervention, ...]] = []
        """What was changed inside the network for each request for its layers."""
        self.asked_changed: dict[str, tuple[Intervention, ...]] = {}
        """What was changed inside the network for the latest request of each other kind."""
        self.asked_inside: list[tuple[str, dict[str, Any]]] = []
        self.answers_inside = asyncio.Event()
        self.answers_inside.set()
        self.asked_options: list[tuple[list[int], list[str]]] = []
        self.loaded: list[tuple[str, bool]] = []
        self.capabilities = Capabilities()
        """What the loaded models say that they can answer."""
        self.probed = 0
        """Number of requests to measure that again."""
        self.second = False
        """A second model is loaded."""
        self.divergence: list[float] | None = None
        self.ready = asyncio.Event()
        self.ready.set()
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.cancelled = False
        self.stopped: set[int] = set()
        """Branches of the latest completion that were stopped alone."""
        self.closed = False

    async def load(
        self, model: str, *, second: bool = False, probe: bool = False
    ) -> AsyncIterator[Event]:
        yield Status(self.status)
        await self.ready.wait()
        self.loaded.append((model, second))
        self.probed += probe
        self.second = second
        name = model.partition("@")[0] or "tiny"
        yield LOADED._replace(name=name, capabilities=self.capabilities)

    def can_load(self, model: str) -> bool:
        return True

    async def unload(self) -> None:
        self.second = False

    async def compare(self, ids: list[int]) -> AsyncIterator[Event]:
        if self.error:
            raise self.error
        text = "".join(map(chr, ids))
        yield Steps(reading(text, 1 if self.divergence else 2), False)
        yield Compared(self.divergence)

    async def layers(
        self, ids: list[int], chosen: int, changes: tuple[Intervention, ...] = ()
    ) -> list[Layer]:
        self.asked_layers.append(changes)
        if self.error:
            raise self.error
        n = len(ids)
        even, last = (1 / n,) * n, (0.0,) * (n - 1) + (1.0,)
        best = ((chosen, 1), (bytes([chosen]), b"[x"), (-0.1, -2.0))
        return [
            Layer("embedding", *best, -3.0, 7, ()),
            Layer("layer 1", *best, -0.1, 1, (even, last)),
        ]

    async def look(self, op: str, kind: type[Found], tell: Tell, **fields: Any) -> Found:
        self.asked_inside.append((op, fields))
        if self.error:
            raise self.error
        if not self.answers_inside.is_set():
            tell("token 1 of 9")
            while not self.answers_inside.is_set():
                if self.cancelled:
                    raise CancelledAnswerError("stopped")
                await asyncio.sleep(0)
        found = inside(op, **fields)
        assert isinstance(found, kind)
        return found

    async def attribution(
        self, ids: list[int], chosen: int, changes: tuple[Intervention, ...] = ()
    ) -> list[float | None]:
        self.asked_changed["attribution"] = changes
        if self.error:
            raise self.error
        return [None, *(0.5 * i for i in range(1, len(ids)))]

    async def options(
        self, ids: list[int], options: list[str], changes: tuple[Intervention, ...] = ()
    ) -> list[list[Step]]:
        self.asked_changed["options"] = changes
        self.asked_options.append((ids, options))
        if self.error:
            raise self.error
        return [reading(text) for text in options]

    async def score(self, text: str) -> AsyncIterator[Event]:
        if self.error:
            raise self.error
        steps = reading(text)
        yield Steps(steps, False)
        yield Done(None, len(steps), 0.1)

    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        self.requests.append(request)
        self.cancelled = False
        self.stopped.clear()
        await self.ready.wait()
        if self.error:
            raise self.error
        first = len(request.ids) - request.new_ids
        text = "".join(map(chr, request.ids[first:])) + request.text
        text += "".join(p if isinstance(p, str) else chr(p) for p in request.segments)
        prompt = [token(first + i, c, drawn=False) for i, c in enumerate(text)]
        position = first
        yield Steps(prompt, is_prompt=True)
        drawn, last = 0, min(len(self.reply), request.max_new_tokens) - 1
        growing = list(range(request.branches))
        for i, character in enumerate(self.reply[: request.max_new_tokens]):
            await asyncio.sleep(0)
            await self.go_on.wait()
            for branch in tuple(growing):
                own = chr(ord(character) + branch)  # the branches have different letters
                step = token(position + len(prompt) + i, own, 0.9 / (i + 1))
                is_stopped = self.cancelled or branch in self.stopped
                if is_stopped or i == last:
                    step = step._replace(finish_reason="cancelled" if is_stopped else "length")
                    growing.remove(branch)
                drawn += 1
                yield Steps([step], False, branch)
            if self.cancelled:
                yield Done("cancelled", drawn, 0.1)
                return
        yield Done("length", drawn, 0.5)

    async def waterfall(
        self,
        ids: list[int],
        chosen: int,
        sampling: Sampling,
        changes: tuple[Intervention, ...] = (),
        also: Sequence[int] = (),
    ) -> Waterfall:
        self.asked_also = [*also]
        self.asked.append((ids, chosen, sampling))
        self.asked_changes.append(changes)
        if self.error:
            raise self.error
        own = ("model", "interventions") if changes else ("model",)
        n = len(own)
        rows = (
            Row(chosen, bytes([chosen]), (*(0.6, 0.4)[:n], 1.0), None),
            Row(1, b"x", (*(0.1, 0.3)[:n], 0.0), "top_k"),
        )
        rest, left = (0.3,) * n + (0.0,), (50,) * n + (1,)
        return Waterfall(len(ids), (*own, "top_k"), rows, 48, rest, left, chosen)

    async def tokens(self, text: str) -> Tokens:
        if self.error:
            raise self.error
        return Tokens(
            tuple(map(ord, text)), [word.encode() for word in re.split("( )", text) if word]
        )

    async def paths(
        self, ids: list[int], changes: tuple[Intervention, ...] = ()
    ) -> list[LikelyPath]:
        self.asked_changed["paths"] = changes
        self.asked_paths.append(ids)
        if self.error:
            raise self.error
        found = (("[w]", (-2.0, -0.1, -0.2)), ("xz", (-0.5, -1.5)), ("xy", (-0.5, -1.0)))
        return [
            LikelyPath(tuple(map(ord, text)), tuple(c.encode() for c in text), logprobs)
            for text, logprobs in found
        ]

    def stop(self, branch: int) -> None:
        self.stopped.add(branch)

    def cancel(self) -> None:
        self.cancelled = True
        self.go_on.set()

    def close(self) -> None:
        self.closed = True


def app_with(backend: Backend, **options: object) -> GPTApp:
    """The interface on a backend."""

    def connect(model: str) -> Connection:
        return backend, backend.load(model)

    opening = Opening(**options)  # type: ignore[arg-type]
    return GPTApp(MainScreen(Session(connect, connect("fake"), "fake"), opening))


class Fingers(Pilot[None]):
    """Press keys and wait until each has acted.

    Textual's own pilot takes a process that gets no processor time for one that has nothing to do.
    """

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        await super().press(*keys)
        app = self.app
        assert isinstance(app, KeysInOrder)
        async with asyncio.timeout(PATIENCE):
            while app.is_running and app.acting:
                await asyncio.sleep(0.001)
        if app.is_running:
            await self._wait_for_screen()  # what the keys have sent is there


@asynccontextmanager
async def running(app: GPTApp, size: tuple[int, int] = (110, 32)) -> AsyncIterator[Pilot[None]]:
    """An app whose screen is complete."""
    async with app.run_test(size=size):
        pilot = Fingers(app)
        while main_screen(app).controls is None:
            await pilot.pause()
        await pilot.pause()
        yield pilot
        # A screen that is closed while its widgets are mounted would not find them.
        async with asyncio.timeout(PATIENCE):
            while app.screen_stack and not getattr(app.screen, "is_shown", True):
                await asyncio.sleep(0.001)


def main_screen(app: GPTApp) -> MainScreen:
    """The screen of an app that runs."""
    assert isinstance(app.screen, MainScreen)
    return app.screen
