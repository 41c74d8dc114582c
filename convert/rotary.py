"""Rotary positions in configurations of transformers, of any year.

transformers 5 writes `rope_parameters`, with the base inside. Older ones write `rope_theta` and, if
wavelengths are scaled, `rope_scaling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convert.family import ConfigReader
from gpt.errors import UserError

_TABLES = ("rope_scaling", "rope_parameters")
_KINDS = ("default", "linear", "llama3")


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """The fields of ModelConfig about rotary positions."""

    rope_theta: float
    rope_scaling: Literal["linear", "llama3"] | None = None
    rope_factor: float = 1.0
    rope_low: float = 1.0
    rope_high: float = 4.0
    rope_original: int | None = None


def read_rotary(config: ConfigReader, block_size: int, *, theta: str = "rope_theta") -> Rotary:
    """The rotary positions of a configuration. Refuses kinds of scaling that are not supported.

    block_size: longest context of the model. theta: name of the base outside the table.
    """
    table = config.table(*_TABLES)
    base = table.number("rope_theta", default=config.number(theta, "rope_theta", default=10000.0))
    if table.is_set("mrope_section"):
        raise UserError("it has rotary positions of images (mrope_section), which convert lacks")
    kind = table.text("rope_type", default=table.text("type", default="default"))
    if kind not in _KINDS:
        raise UserError(
            f"its rotary positions are scaled by {kind[:50]!r}, which is not supported; convert "
            f"knows {', '.join(_KINDS)}"
        )
    if kind == "default":
        return Rotary(rope_theta=base)
    if kind == "linear":
        return Rotary(
            rope_theta=base, rope_scaling="linear", rope_factor=_required(table, "factor")
        )
    original = config.optional_integer("original_max_position_embeddings")
    if original is None:
        original = table.integer("original_max_position_embeddings", default=block_size)
    return Rotary(
        rope_theta=base,
        rope_scaling="llama3",
        rope_factor=_required(table, "factor"),
        rope_low=_required(table, "low_freq_factor"),
        rope_high=_required(table, "high_freq_factor"),
        rope_original=original,
    )


def read_rotary_share(config: ConfigReader, *names: str, default: float) -> float:
    """The share of each head that is rotated, from 0 to 1.

    names: what it is called outside the table; inside, it is partial_rotary_factor.
    """
    share = config.table(*_TABLES).number(
        "partial_rotary_factor", default=config.number(*names, default=default)
    )
    if not 0 < share <= 1:
        raise UserError(f"it rotates {share:g} of each head; the share must be above 0, at most 1")
    return share


def _required(table: ConfigReader, name: str) -> float:
    """A positive number that a kind of scaling cannot do without."""
    if not table.is_set(name) or (value := table.number(name, default=0.0)) <= 0:
        raise UserError(f"its scaling of rotary positions lacks {name}, a number above 0")
    return value
