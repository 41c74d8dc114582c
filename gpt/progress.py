"""What a long computation says meanwhile to a person who waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gpt.context import Context

Tell = Callable[[str], object]
"""Takes a few words that say how far it is; called often."""


def silent(message: str) -> None:
    """The default: nobody waits."""


def reading(
    context: Context, before: int, total: int, cancelled: Callable[[], bool], tell: Tell
) -> Callable[[], bool]:
    """`cancelled` for `Context.read`, which also tells how much is read whenever it is asked.

    before: tokens of the text that stand before the context; total: all that will be read.
    """

    def asked() -> bool:
        tell(f"reading {before + len(context.ids):,} of {total:,} tokens")
        return cancelled()

    return asked
