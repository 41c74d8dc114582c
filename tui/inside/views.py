"""The table of views, in the order of their tabs."""

from __future__ import annotations

from tui.inside.heads import HeadsView
from tui.inside.knockout import KnockoutView
from tui.inside.lens import LensView
from tui.inside.mattered import MatteredView
from tui.inside.model import ModelView
from tui.inside.parts import PartsView
from tui.inside.patch import PatchView
from tui.inside.steer import SteerView
from tui.inside.view import InsideView
from tui.inside.words import WordsView
from tui.inside.work import WorkView

VIEWS: tuple[type[InsideView], ...] = (
    LensView,
    HeadsView,
    WorkView,
    PartsView,
    ModelView,
    MatteredView,
    KnockoutView,
    PatchView,
    SteerView,
    WordsView,
)
"""A digit switches to each: the first nine have 1 to 9, the tenth 0."""
