"""Settings of sampling, as plain numbers, without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from gpt.errors import UserError

Ids = tuple[int, ...]
"""Token ids, one after another."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the next token is chosen. The defaults keep the model's own distribution."""

    temperature: float = 1.0
    """Number that divides the logits; 0 always takes the most probable token."""
    top_k: int = 0
    """Number of most probable tokens to keep; 0 keeps all."""
    top_p: float = 1.0
    """Keep the most probable tokens, as few as reach this probability together
    (Holtzman et al. 2020, arXiv:1904.09751)."""
    min_p: float = 0.0
    """Keep the tokens that have at least this share of the most probable token's probability
    (Nguyen et al. 2024, arXiv:2407.01082)."""
    repetition_penalty: float = 1.0
    """Number that divides positive logits, and multiplies negative ones, of tokens that are
    already in the text (Keskar et al. 2019, arXiv:1909.05858)."""
    banned: tuple[Ids, ...] = ()
    """Sequences of ids that are never completed: the last id is never drawn after the others. A
    sequence of one id bans that token everywhere; the bare id is accepted for it."""
    boosted: tuple[tuple[Ids, float], ...] = ()
    """Sequences of ids with nats that are added to the logit of the next id in the sequence: of
    the first id everywhere, of a later one if the text ends with those before it. Adding x nats
    multiplies the odds by exp(x)."""
    seed: int = 0
    """Random seed: the same seed at the same position draws with the same noise."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in _RANGES and field.name != "boosted":
                check_setting(field.name, getattr(self, field.name))
        banned = tuple(map(_ids, _items(self.banned)))
        if not all(banned):
            raise UserError("banned must be a list of token ids, or of lists of them")
        try:
            boosted = tuple((_ids(ids), nats) for ids, nats in _items(self.boosted))
        except (TypeError, ValueError):
            boosted = (((), 0.0),)
        if not all(ids for ids, _ in boosted):
            raise UserError("boosted must be a list of pairs: token ids and a number")
        for _, nats in boosted:
            check_setting("boosted", nats)
        object.__setattr__(self, "banned", banned)
        object.__setattr__(self, "boosted", tuple((ids, float(nats)) for ids, nats in boosted))

    @cached_property
    def active(self) -> frozenset[str]:
        """Names of the settings that change the distribution; the seed does not."""
        return frozenset(
            field.name
            for field in fields(self)
            if field.name != "seed" and getattr(self, field.name) != field.default
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sampling:
        """The reverse of to_dict. A missing setting has its default; unknown names are refused."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise UserError(f"there is no sampling setting {unknown[0]!r}")
        return cls(**values)


def check_setting(name: str, value: object) -> None:
    """Refuse a value that is not a number in the range of the setting of that name."""
    kind, low, high = _RANGES[name]
    # A comparison with NaN is false.
    if not isinstance(value, int | kind) or isinstance(value, bool) or not low <= value <= high:
        noun = "a whole number" if kind is int else "a number"
        raise UserError(f"{name} is {_shown(value)}; it must be {noun} from {low} to {high}")


_RANGES: dict[str, tuple[type[int] | type[float], float, float]] = {
    "temperature": (float, 0, 100),
    "top_k": (int, 0, 2**31 - 1),
    "top_p": (float, 0, 1),
    "min_p": (float, 0, 1),
    "repetition_penalty": (float, 0.01, 100),
    "boosted": (float, -1000, 1000),
    "seed": (int, 0, 2**63 - 1),
    "max_new_tokens": (int, 0, 2**31 - 1),
}
"""Type, lowest and highest value of each number."""


def _shown(value: object) -> str:
    """A value for an error message."""
    try:
        return repr(value)
    except ValueError:  # Python refuses to write an int of more than 4300 digits
        return "too long to show"


def _items(value: object) -> Sequence[Any]:
    """The items of a list; for anything else one item that is not valid."""
    return value if isinstance(value, list | tuple) else (None,)


def _ids(value: object) -> Ids:
    """One id or a list of ids as a tuple; an empty tuple if it is neither."""
    ids = (value,) if isinstance(value, int) else value
    if not isinstance(ids, list | tuple):
        return ()
    valid = tuple(i for i in ids if isinstance(i, int) and not isinstance(i, bool) and i >= 0)
    return valid if len(valid) == len(ids) else ()
