"""What a person wants to know of a server and its model; no widgets.

The values come from the server, by way of our own engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from gpt.capabilities import Capabilities
from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.server_address import read_address
from gpt.setting_names import setting_name
from gpt.settings import Sampling
from tui.backend import Loaded
from tui.labels import model_name, shortened
from tui.model_card import Card, short_count
from tui.servers import Server

_LONGEST = 200
"""Most characters of a fact."""
_FEW = 6
"""Most settings that are listed as ignored."""
_PROMPT = {
    "one request": "probabilities of all tokens, in one request",
    "a request a token": "probabilities of all tokens, with a request for each",
    "none": "no probabilities of tokens that it did not draw",
}
_SEEDS = {
    "strict": "the same seed repeats a text",
    "best effort": "the same seed may not repeat a text exactly",
    "none": "ignored: a text cannot be repeated",
}


def server_card(loaded: Loaded) -> Card:
    """The card of a model at a server."""
    facts = [*_place(loaded), *_numbers(loaded.capabilities), *_choice(loaded.capabilities)]
    return Card(
        shortened(model_name(loaded.name), 60) or "without a name",
        tuple((name, shortened(value, _LONGEST)) for name, value in facts),
    )


def named_card(name: str, server: Server) -> Card:
    """The card of a server of settings.toml that was not asked yet."""
    address = server.address
    facts = [
        ("Address", f"{address.url} ({_way(address.url)})"),
        ("Model", server.model or "the server's only one"),
        ("Key", server.api_key_env or "none"),
    ]
    return Card(f"@{name}", tuple((what, shortened(value, _LONGEST)) for what, value in facts))


def _place(loaded: Loaded) -> Iterator[tuple[str, str]]:
    can = loaded.capabilities
    if model_name(loaded.name) != one_line(loaded.name):
        yield "Path", loaded.name
    yield "Server", can.server
    yield "Address", f"{can.address} ({_way(can.address)})"
    if loaded.n_params:
        yield "Parameters", short_count(loaded.n_params)
    yield "Context", f"{loaded.block_size:,} tokens" if loaded.block_size else "unknown"
    if loaded.vocab_size:
        yield "Vocabulary", f"{loaded.vocab_size:,} tokens"


def _way(url: str) -> str:
    try:
        address = read_address(url)
    except UserError:
        return "unknown"
    if address.is_encrypted:
        return "encrypted"
    return "this machine" if address.is_here else "not encrypted"


def _numbers(can: Capabilities) -> Iterator[tuple[str, str]]:
    """What it says of a position."""
    if can.candidates is None:
        yield "Candidates", "the best few at a token, up to the whole vocabulary if asked (F2)"
    elif can.candidates:
        yield "Candidates", f"the best {can.candidates:,}; all others are one rest"
    else:
        yield "Candidates", "none"
    yield (
        "Probabilities",
        "the model's own" if can.is_raw else "only those after the server's sampling settings",
    )
    bound = "a lower bound (≥), from the candidates; so is equally likely"
    yield "Entropy", bound + "; exact in a small vocabulary" * can.is_exact
    yield "Prompt", _PROMPT[can.prompt]
    if not can.has_ids:
        yield "Tokens", "known by their text alone, without ids"


def _choice(can: Capabilities) -> Iterator[tuple[str, str]]:
    """How it draws, and what it cannot do."""
    yield "Random seed", _SEEDS[can.seed]
    names = [each.name for each in fields(Sampling) if each.name != "seed"]
    acting = names if can.settings is None else [each for each in names if each in can.settings]
    yield "Settings", ", ".join(map(setting_name, acting)) or "none"
    if missing := [setting_name(each) for each in names if each not in acting]:
        yield "Ignored", ", ".join(missing) if len(missing) <= _FEW else "all other settings"
    yield "Chat", "the server's template" if can.chat else "no template"
    if not can.inside:
        yield "Layers", "a server does not show its insides"
