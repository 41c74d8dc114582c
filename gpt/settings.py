"""Settings of sampling, as plain numbers, without torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any

from gpt.errors import UserError

Ids = tuple[int, ...]
"""Token ids, one after another."""

ORDER = (
    "boosted",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
    "dry_multiplier",
    "temperature",
    "top_n_sigma",
    "top_k",
    "typical_p",
    "top_p",
    "min_p",
    "xtc_probability",
    "mirostat_tau",
)
"""The settings that are a stage of their own, in the order in which they act by default: what
changes logits, then what removes tokens. Top-n-sigma measures the spread of all logits, so it
comes before what removes some; XTC and mirostat choose among what the others leave."""
PARTS = {
    "penalty_window": ("repetition_penalty", "presence_penalty", "frequency_penalty"),
    "dry_base": ("dry_multiplier",),
    "dry_allowed_length": ("dry_multiplier",),
    "dry_window": ("dry_multiplier",),
    "dynatemp_exponent": ("dynatemp_range",),
    "xtc_threshold": ("xtc_probability",),
    "mirostat_eta": ("mirostat_tau",),
    "mirostat_mu": ("mirostat_tau",),
}
"""Setting that does nothing alone → those that it belongs to."""


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
    presence_penalty: float = 0.0
    """Number that is subtracted from the logit of each token that is already in the text."""
    frequency_penalty: float = 0.0
    """The same, times the number of times that the token is in the text. Both as in OpenAI's
    interface, but the prompt counts as well."""
    penalty_window: int = 0
    """Number of tokens at the end of the text that the three penalties look at; 0: all of it."""
    dry_multiplier: float = 0.0
    """Strength of DRY ("don't repeat yourself", p-e-w 2024, text-generation-webui). If the end of
    the text, n tokens, stood there before, the token that followed it then loses
    multiplier · base ** (n − allowed length). Line breaks, colons, quotes and asterisks end such a
    repetition."""
    dry_base: float = 1.75
    """Growth of that loss with each more repeated token."""
    dry_allowed_length: int = 2
    """The shortest repetition that counts."""
    dry_window: int = 0
    """Number of tokens at the end of the text in which DRY looks; 0: all of it."""
    dynatemp_range: float = 0.0
    """Most that the temperature goes down if the model is certain, and up if it is not, by the
    entropy of its distribution (dynamic temperature, kalomaze 2023, koboldcpp)."""
    dynatemp_exponent: float = 1.0
    """Above 1: only great uncertainty raises the temperature; below 1: already a little does."""
    top_n_sigma: float = 0.0
    """Keep the tokens whose logit is at most this many standard deviations of all logits below the
    best one; 0 keeps all (Tang et al. 2024, arXiv:2411.07641)."""
    typical_p: float = 1.0
    """Keep the tokens whose surprisal is nearest to the entropy, as few as reach this probability
    together (Meister et al. 2022, arXiv:2202.00666)."""
    xtc_probability: float = 0.0
    """How often XTC acts ("exclude top choices", p-e-w 2024, text-generation-webui): it removes
    all tokens that reach the threshold, except the least probable of these."""
    xtc_threshold: float = 0.1
    """Probability that makes a token a top choice."""
    mirostat_tau: float = 0.0
    """Surprisal in bits that mirostat 2 aims at; 0: off (Basu et al. 2021, arXiv:2007.14966). It
    keeps the tokens of at most mu bits, and moves mu after each token of a run."""
    mirostat_eta: float = 0.1
    """How far mu moves for each bit between the surprisal of a token and tau."""
    mirostat_mu: float | None = None
    """mu at the first token that is drawn; None: 2 · tau."""
    order: tuple[str, ...] = ()
    """Names from ORDER. They take, in this order, the places that they have in ORDER; the others
    keep theirs. Empty: ORDER. What is banned is removed before everything."""
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
            value = getattr(self, field.name)
            if field.name in _RANGES and field.name != "boosted" and value is not field.default:
                check_setting(field.name, value)
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
        object.__setattr__(self, "order", _full_order(self.order))
        object.__setattr__(self, "banned", banned)
        object.__setattr__(self, "boosted", tuple((ids, float(nats)) for ids, nats in boosted))

    def branch(self, number: int) -> Sampling:
        """The same settings for a branch, counted from 0: each has the next seed."""
        return replace(self, seed=(self.seed + number) % 2**63)

    @cached_property
    def active(self) -> frozenset[str]:
        """Names of the settings that change the distribution; the seed does not."""
        changed = {
            field.name
            for field in fields(self)
            if field.name not in ("seed", "order") and getattr(self, field.name) != field.default
        }
        changed -= {name for name in changed & set(PARTS) if not changed & set(PARTS[name])}
        if _acting(self.order or ORDER, changed) != _acting(ORDER, changed):
            changed.add("order")
        return frozenset(changed)

    @cached_property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that act, in their order: "banned", then those of ORDER."""
        return _acting(("banned", *(self.order or ORDER)), self.active)

    def after(self, logprob: float) -> Sampling:
        """The settings for the next token of a run: mirostat's mu has moved.

        logprob: log-probability, after these settings, of the token that was drawn with them.
        """
        surprisal = -logprob / math.log(2)
        mu = self.mu - self.mirostat_eta * (surprisal - self.mirostat_tau)
        return replace(self, mirostat_mu=mu)

    @property
    def mu(self) -> float:
        """The largest surprisal in bits that mirostat allows now."""
        return 2 * self.mirostat_tau if self.mirostat_mu is None else self.mirostat_mu

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Sampling:
        """The reverse of to_dict. A missing setting has its default; unknown names are refused."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise UserError(f"there is no sampling setting {unknown[0]!r}")
        return cls(**values)


def _acting(names: Iterable[str], active: Collection[str]) -> tuple[str, ...]:
    """Those of the stages that the active settings belong to."""
    dynamic = {"temperature"} if "dynatemp_range" in active else set()
    return tuple(name for name in names if name in active or name in dynamic)


def _full_order(names: object) -> tuple[str, ...]:
    """A name for each place of ORDER; empty if it is ORDER itself."""
    given = _items(names)
    if not all(isinstance(name, str) and name in ORDER for name in given):
        raise UserError(f"order must be a list of settings out of: {', '.join(ORDER)}")
    if len(set(given)) < len(given):
        raise UserError("order names a setting twice")
    following = iter(given)
    full = tuple(next(following) if name in given else name for name in ORDER)
    return () if full == ORDER else full


def check_setting(name: str, value: object, called: str = "") -> None:
    """Refuse a value that is not a number in the range of the setting of that name.

    called: what the error calls the setting, if that is not its name in code.
    """
    if not is_allowed(name, value):
        raise UserError(f"{called or name} is {_shown(value)}; it must be {allowed(name)}")


def is_allowed(name: str, value: object) -> bool:
    """Whether a value is a number in the range of the setting of that name."""
    kind, low, high = _RANGES[name]
    # A comparison with NaN is false.
    return isinstance(value, int | kind) and not isinstance(value, bool) and low <= value <= high


def type_of(name: str) -> type[int] | type[float]:
    """The type of the setting of that name, which is a number."""
    return _RANGES[name][0]


def allowed(name: str) -> str:
    """The values that the setting of that name can have, in words."""
    kind, low, high = _RANGES[name]
    return f"{'a whole number' if kind is int else 'a number'} from {low} to {high}"


_RANGES: dict[str, tuple[type[int] | type[float], float, float]] = {
    "temperature": (float, 0, 100),
    "top_k": (int, 0, 2**31 - 1),
    "top_p": (float, 0, 1),
    "min_p": (float, 0, 1),
    "repetition_penalty": (float, 0.01, 100),
    "presence_penalty": (float, -100, 100),
    "frequency_penalty": (float, -100, 100),
    "penalty_window": (int, 0, 2**31 - 1),
    "dry_multiplier": (float, 0, 100),
    "dry_base": (float, 1, 100),
    "dry_allowed_length": (int, 1, 2**31 - 1),
    "dry_window": (int, 0, 2**31 - 1),
    "dynatemp_range": (float, 0, 100),
    "dynatemp_exponent": (float, 0.01, 100),
    "top_n_sigma": (float, 0, 100),
    "typical_p": (float, 0, 1),
    "xtc_probability": (float, 0, 1),
    "xtc_threshold": (float, 0, 1),
    "mirostat_tau": (float, 0, 100),
    "mirostat_eta": (float, 0, 10),
    "mirostat_mu": (float, -1e9, 1e9),
    "boosted": (float, -1000, 1000),
    "seed": (int, 0, 2**63 - 1),
    "max_new_tokens": (int, 0, 2**31 - 1),
    "branches": (int, 1, 64),
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
