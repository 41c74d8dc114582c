"""Numbers and words of the views as text; no widgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len


def flowing(parts: Sequence[str], width: int, rows: int) -> Iterator[str]:
    """Words in at most so many rows, two cells apart, each whole."""
    line = ""
    for part in parts:
        longer = f"{line}  {part}" if line else part
        if cell_len(longer) > width and line:
            yield line
            rows -= 1
            longer = part
        if not rows:
            return
        line = longer
    yield line


def signed(value: float, digits: int = 4) -> str:
    """A number with its sign."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")  # no −0.000


def plain_number(value: float, digits: int = 4) -> str:
    """A number without a plus."""
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def vector(numbers: Sequence[float], total: int, width: int) -> str:
    """The first components of a vector of `total`, as many as fit."""
    for n in range(len(numbers), 0, -1):
        text = " ".join(plain_number(number) for number in numbers[:n])
        text = f"[{text}{' …' * (n < total)}]"
        if cell_len(text) <= width:
            return text
    return "[…]"
