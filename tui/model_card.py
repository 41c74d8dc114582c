"""What a person wants to know of a model before it is loaded; no widgets.

It comes from the manifest and the configuration alone. Both are files that may hold anything.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from gpt import models
from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.known_models import KnownModel, size
from gpt.models import EMBEDDED, TOKENIZERS, Manifest
from tui.labels import shortened

_LONGEST = 200
"""Most characters of a fact."""
_NOTICES = 3
"""Most notices of the conversion that are shown."""
_WIDTHS = {"8": 1, "16": 2, "32": 4}
"""Bits of a number → its bytes."""
_VALIDATIONS = {"sliding": "sliding windows", "disjoint": "disjoint windows", "random": "samples"}
"""How a loss was measured, the most exact way first."""


@dataclass(frozen=True)
class Card:
    """Facts about a model, safe to show."""

    name: str
    facts: tuple[tuple[str, str], ...]
    """Label and value, the most important ones first."""
    parts: tuple[tuple[str, int], ...] = ()
    """Part of the network → number of its parameters; empty if its configuration is damaged."""


def card(name: str, manifest: Manifest) -> Card:
    """The card of an installed model, by the name of its directory."""
    parts: dict[str, int] = {}
    design: list[tuple[str, str]] = []
    try:
        config = models.read_config(models.find(name))
        parts = {part: n for part, n in models.parameters(config).items() if n}
        facts = [*_network(config, manifest), *_memory(config, manifest)]
        design = [("Design", _design(config))]
    except UserError as error:
        facts = [("Problem", str(error)), ("Parameters", short_count(manifest.n_params))]
    origin = manifest.origin
    facts += [*_origin(name, origin), *_quality(origin), *design, *_notices(origin)]
    shown = tuple((label, shortened(value, _LONGEST)) for label, value in facts)
    return Card(shortened(name, 60), shown, tuple(parts.items()))


def known_card(model: KnownModel) -> Card:
    """The card of a model that is worth trying and not here yet."""
    facts = (
        ("On this disk", f"no; the download is about {size(model.n_bytes)}"),
        ("Parameters", short_count(model.n_params)),
        ("Good for", model.good_for),
        ("Licence", model.licence),
        ("Source", f"hub: {model.hub_id}"),
        ("Command", model.command),
    )
    return Card(model.name, facts)


def short_count(n: float) -> str:
    """A number of parameters in at most nine characters, such as 950,272 or 10.7 M."""
    return _short(n, {1e12: " T", 1e9: " B", 1e6: " M"})


def short_size(n: float) -> str:
    """A number of bytes in a few characters."""
    return _short(n, {1e12: " TB", 1e9: " GB", 1e6: " MB", 1e3: " kB"}, " bytes")


def _short(n: float, units: Mapping[float, str], plain: str = "") -> str:
    """units: from the largest to the smallest. Only a damaged file has numbers beyond them."""
    if n >= 1e15:
        return f"{n:.0e}{plain}"
    found = (f"{n / size:.1f}{unit}" for size, unit in units.items() if n >= size)
    return next(found, f"{n:,.0f}{plain}")


def _network(config: ModelConfig, manifest: Manifest) -> Iterator[tuple[str, str]]:
    layers, heads = _many(config.n_layer, "layer"), _many(config.n_head, "head")
    heads += f", {config.n_kv:,} key/value" * (config.n_kv != config.n_head)
    yield "Network", f"{layers} × {heads} × {config.n_embd:,} wide"
    yield "Context", f"{config.block_size:,} tokens"
    kind = next((kind for file, kind in TOKENIZERS.items() if file in manifest.files), "no file")
    size = f"{config.vocab_size:,}"
    yield "Vocabulary", f"{size} {kind}" if kind == "characters" else f"{size} tokens, {kind}"
    total = sum(models.parameters(config).values())
    claimed = f" ({short_count(manifest.n_params)} in the manifest)"
    yield "Parameters", short_count(total) + claimed * (total != manifest.n_params)


def _design(config: ModelConfig) -> str:
    gate = "gated " * config.gated
    output, biases = "tied" if config.tied else "untied", "" if config.bias else "no "
    return (
        f"{config.positions} positions, {config.norm}, {gate}{config.activation}, "
        f"{output} output, {biases}biases"
    )


def _many(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'s' * (n != 1)}"


def _memory(config: ModelConfig, manifest: Manifest) -> Iterator[tuple[str, str]]:
    stored = sum(facts["size"] for facts in manifest.files.values())
    yield "On disk", f"{short_size(stored)}, {manifest.dtype}"
    total = sum(models.parameters(config).values())
    sizes = ", ".join(short_size(total * width) for width in _WIDTHS.values())
    yield "Memory", f"≈ {sizes} in {', '.join(_WIDTHS)} bits"
    costs = [f"{name} {c:.1g}" for name, c in manifest.divergence.items() if c is not None]
    if costs:
        yield "KL to float32", f"{', '.join(costs)} nats a token"
    a_token = 2 * config.n_layer * config.n_kv * config.head_size * _WIDTHS["16"]
    if a_token:
        full = short_size(a_token * config.block_size)
        yield "KV cache", f"{short_size(a_token)} a token, {full} when full, at 16 bits"


def _origin(name: str, origin: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Where the model comes from."""
    kind, model, revision = (_text(origin, key) for key in ("kind", "model", "revision"))
    where = ": ".join(filter(None, (kind, model))) or "unknown"
    yield "Source", f"{where}, revision {revision[:12]}" if revision else where
    licence = _text(origin, "license") or _text(origin, "licence")
    if not licence and name == EMBEDDED:
        licence = "MIT, as this program; the text is in the public domain"
    if licence:
        yield "Licence", licence


def _quality(origin: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was measured, and how chats are written."""
    if (step := _number(origin, "step")) is not None:
        planned, text = _number(origin, "settings", "steps"), _text(origin, "data")
        of = f" of {planned:,.0f}" if planned is not None and planned != step else ""
        yield "Training", f"{step:,.0f}{of} steps" + (f" on {text}" if text else "")
    for protocol, how in _VALIDATIONS.items():
        nats = _number(origin, "validation", protocol, "nats_per_character")
        if nats is not None:
            bits = nats / math.log(2)
            yield "Loss", f"{nats:.3f} nats per character ({bits:.2f} bits), validation, {how}"
            break
    check = _text(origin, "verification", "status")
    if check == "passed":
        version = _text(origin, "verification", "transformers")
        most = _number(origin, "verification", "logits")
        differ = "" if most is None else f": logits differ by at most {most:.1g}"
        yield "Verified", f"same as transformers {version}{differ}"
    elif check:
        reason = _text(origin, "verification", "reason")
        yield "Verified", f"no ({check}{': ' if reason else ''}{reason})"
    if origin.get("chat_template") is True:
        yield "Chat", "has its own template"
    elif origin.get("ends_turns") is True:
        yield "Chat", "no template: each turn ends with the end-of-text token"
    else:
        yield "Chat", "no template: turns begin with User: and Assistant:"


def _notices(origin: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the conversion had to say."""
    notices = origin.get("notices")
    told = [each for each in notices if isinstance(each, str)] if isinstance(notices, list) else []
    for notice in told[:_NOTICES]:
        yield "Note", notice
    if len(told) > _NOTICES:
        yield "Note", f"{len(told) - _NOTICES:,} more in the manifest"


def _value(values: object, *path: str) -> object:
    """A value inside objects; None if it is not there."""
    for key in path:
        values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _text(values: object, *path: str) -> str:
    """A text inside objects; empty if there is none."""
    found = _value(values, *path)
    return found if isinstance(found, str) else ""


def _number(values: object, *path: str) -> float | None:
    """A number of a reasonable size inside objects."""
    found = _value(values, *path)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return found if 0 <= found < 1e15 else None
