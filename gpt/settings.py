"""How the next token is chosen, as plain numbers; it knows no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from gpt.errors import UserError

Ids = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of sampling. The defaults leave the model's own distribution as it is.

    Raises UserError where a value makes no sense.
    """

    temperature: float = 1.0
    """Logits are divided by it; 0 always takes the most probable token."""
    top_k: int = 0
    """Keep this many most probable tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the fewest most probable tokens that reach this probability together
    (Holtzman et al. 2020, arXiv:1904.09751)."""
    min_p: float = 0.0
    """Keep tokens with at least this share of the most probable one's probability
    (Nguyen et al. 2024, arXiv:2407.01082)."""
    repetition_penalty: float = 1.0
    """Divides positive and multiplies negative logits of tokens that the text already has
    (Keskar et al. 2019, arXiv:1909.05858)."""
    banned: tuple[Ids, ...] = ()
    """Sequences of ids whose last token is never drawn behind the others; a sequence of one id
    is a token that is never drawn. A bare id may stand for it."""
    boosted: tuple[tuple[Ids, float], ...] = ()
    """Sequences of ids, each with what is added to the logit of its next token: its first one
    anywhere, a later one where those before it were drawn. In nats: its odds are multiplied by exp
    of it."""
    seed: int = 0
    """Of the dice: the same seed at the same position throws the same noise."""

    def __post_init__(self) -> None:
        for field in fields(self):
            if field.name in _RANGES and field.name != "boosted":
                check(field.name, getattr(self, field.name))
        banned = tuple(map(_ids, _several(self.banned)))
        if not all(banned):
            raise UserError("banned must be a list of token ids, or of lists of them")
        try:
            boosted = tuple((_ids(ids), nats) for ids, nats in _several(self.boosted))
        except (TypeError, ValueError):
            boosted = (((), 0.0),)
        if not all(ids for ids, _ in boosted):
            raise UserError("boosted must be a list of pairs: token ids and a number")
        for _, nats in boosted:
            check("boosted", nats)
        object.__setattr__(self, "banned", banned)
        object.__setattr__(self, "boosted", tuple((ids, float(nats)) for ids, nats in boosted))

    @cached_property
    def active(self) -> frozenset[str]:
        """Names of the settings, but for the seed, that change the distribution."""
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
        """The reverse of to_dict; missing ones take their defaults, unknown ones raise."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise UserError(f"there is no sampling setting {unknown[0]!r}")
        return cls(**values)


def check(name: str, value: object) -> None:
    """Raise UserError if a setting's value is not a number of its range."""
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


def _shown(value: object) -> str:
    try:
        return repr(value)
    except ValueError:  # Python refuses to write an int of more than 4300 digits
        return "too long to show"


def _several(value: object) -> Sequence[Any]:
    """A list as it is; for anything else, one with nothing valid in it."""
    return value if isinstance(value, list | tuple) else (None,)


def _ids(value: object) -> Ids:
    """One id or several; an empty tuple where it is neither."""
    ids = (value,) if isinstance(value, int) else value
    if not isinstance(ids, list | tuple):
        return ()
    known = tuple(i for i in ids if isinstance(i, int) and not isinstance(i, bool) and i >= 0)
    return known if len(known) == len(ids) else ()
