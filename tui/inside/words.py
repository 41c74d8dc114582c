"""Tokens as vectors: neighbours, sums such as king − man + woman, a plane; asks no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType

from gpt.interpret.looks import Neighbour, Neighbours, Plane
from gpt.sanitize import one_line
from tui.inside.numbers import plain_number
from tui.inside.place import Place, Question, question
from tui.inside.plot import plotted
from tui.inside.sheet import Looks, Row, Sheet
from tui.inside.view import InsideView
from tui.inside.wishes import Ask, Blank, Typed
from tui.labels import fit, visible

TOP = 20
"""Neighbours by each measure."""
POINTS = 40
"""Most tokens of the text on the plane."""
_MATRICES = ("embedding", "output", "positions")
_TITLES = {
    "embedding": "embedding, which the network reads",
    "output": "output matrix, which makes the logits",
    "positions": "learned positions",
}
_NUMBERS = 20
"""Cells of cosine and dot product."""


class WordsView(InsideView):
    """The nearest rows of a matrix by two measures, or chosen tokens on a plane."""

    NAME = "Words"
    TITLE = "Words as vectors"
    HELP = "m matrix · a analogy · p plane · t tokens of the plane · n near this token"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("m", "matrix", "matrix", id="look.matrix"),
        Binding("a", "analogy", "analogy", id="look.analogy"),
        Binding("p", "plane", "plane", id="look.plane"),
        Binding("t", "tokens", "tokens of the plane", id="look.plane_tokens"),
        Binding("n", "near", "near this token", id="look.near"),
        Binding("down", "line(1)", "scroll", show=False, id="look.line_down"),
        Binding("up", "line(-1)", "scroll", show=False, id="look.line_up"),
    ]
    _matrix = 0
    _words: list[Typed] | None = None
    """Three texts: the first minus the second plus the third."""
    _points: Typed | None = None
    """Tokens of the plane that were typed."""
    _is_plane = False

    @property
    def matrix(self) -> str:
        """The matrix whose rows are shown."""
        return _MATRICES[self._matrix]

    def _question(self, place: Place) -> Question:
        if self._is_plane:
            matrix = "embedding" if self.matrix == "positions" else self.matrix
            return question("plane", Plane, tokens=self._tokens(place), matrix=matrix)
        plus: tuple[int, ...] = (place.step.token_id,)
        minus: tuple[int, ...] = ()
        if self.matrix == "positions":
            plus = (place.index,)
        elif self._words:
            first, second, third = (each.ids for each in self._words)
            plus, minus = first + third, second
        return question(
            "neighbours", Neighbours, plus=plus, minus=minus, matrix=self.matrix, top=TOP
        )

    def _tokens(self, place: Place) -> tuple[int, ...]:
        """The tokens of the plane: those that were typed, or the last different ones."""
        if self._points is not None:
            return tuple(dict.fromkeys(self._points.ids))
        ids = [place.step.token_id, *reversed(place.ids)]
        return tuple(dict.fromkeys(ids))[:POINTS]

    def questions(self, place: Place) -> Iterable[Question]:
        """The neighbours, or the plane of two tokens or more."""
        if self._is_plane and len(self._tokens(place)) < 2:
            return ()
        return (self._question(place),)

    @property
    def title(self) -> str:
        """What it is, and of which matrix."""
        matrix = "embedding" if self._is_plane and self.matrix == "positions" else self.matrix
        return f"{self.TITLE} · {_TITLES[matrix]}"

    # Keys.

    def action_matrix(self) -> None:
        """Show the next matrix."""
        self._matrix = (self._matrix + 1) % len(_MATRICES)
        self.changed()

    def action_near(self) -> None:
        """Show the neighbours of the selected token."""
        self._words, self._is_plane = None, False
        self.changed()

    def action_plane(self) -> None:
        """Show tokens on a plane, or neighbours again."""
        self._is_plane, self._top = not self._is_plane, 0
        self.changed()

    def action_analogy(self) -> None:
        """Ask for three texts."""
        labels = ("this, such as king", "minus this, such as man", "plus this, such as woman")
        texts = [each.text for each in self._words] if self._words else ["", "", ""]
        blanks = [Blank(*pair) for pair in zip(labels, texts, strict=True)]
        self.post_message(Ask("Analogy; a space before a word counts", blanks, _empty, self._sum))

    def _sum(self, typed: list[Typed]) -> None:
        self._words, self._is_plane = typed, False
        self._matrix %= 2
        self.changed()

    def action_tokens(self) -> None:
        """Ask for a text whose tokens are shown on the plane."""
        before = self._points.text if self._points else ""
        blanks = [Blank("a text; each different token is a point", before)]
        self.post_message(Ask("Tokens on the plane", blanks, _too_few, self._chose_points))

    def _chose_points(self, typed: list[Typed]) -> None:
        self._points, self._is_plane = typed[0], True
        self.changed()

    def action_line(self, by: int) -> None:
        """Scroll by a row."""
        self._scroll(by)

    # Drawing.

    def sheet(self, place: Place, looks: Looks) -> Sheet | None:
        """Two lists side by side, or the plane."""
        if self._is_plane and len(self._tokens(place)) < 2:
            said = "A plane needs two different tokens: t types them."
            return Sheet([[Segment(fit(said, looks.width), looks.plain)]])
        asked = self._question(place)
        if self._is_plane:
            found = self.answers.get(asked, Plane)
            return None if found is None else plotted(found, place.step.token_id, looks)
        near = self.answers.get(asked, Neighbours)
        return None if near is None else self._lists(near, place, looks)

    def _lists(self, found: Neighbours, place: Place, looks: Looks) -> Sheet:
        half = max(1, (looks.width - 2) // 2)
        is_narrow = half < _NUMBERS + 14
        lists = [("by cosine", found.by_cosine), ("by dot product", found.by_dot)]
        about = [[Segment(fit(self._about(place), looks.width), looks.top)]]
        if is_narrow:  # one below the other
            sheet = Sheet(about)
            for name, rows in lists:
                sheet.body.append(
                    [Segment(fit(_heading(name, looks.width), looks.width), looks.faint)]
                )
                sheet.body += [[_cell(each, looks.width, looks)] for each in rows]
            return sheet
        headings = [Segment(f"{_heading(name, half)}  ", looks.faint) for name, _ in lists]
        sheet = Sheet([*about, headings])
        for pair in zip_longest(*(rows for _, rows in lists)):
            row: Row = []
            for each in pair:
                row += [_cell(each, half, looks), Segment("  ", looks.plain)]
            sheet.body.append(row)
        return sheet

    def _about(self, place: Place) -> str:
        """What the neighbours are near to."""
        if self.matrix == "positions":
            return f"nearest to position {place.index}"
        if self._words:
            first, second, third = (each.text for each in self._words)
            return one_line(f'nearest to "{first}" − "{second}" + "{third}"')
        return f'nearest to "{place.name(place.index)}"'


def _heading(name: str, width: int) -> str:
    return f"{fit(name, max(1, width - _NUMBERS))}{'cosine':>9} {'dot':>10}"


def _cell(each: Neighbour | None, width: int, looks: Looks) -> Segment:
    if each is None:
        return Segment(" " * width, looks.plain)
    token = each.token
    name = visible(token.bytes, token.token_id) if token.bytes else f"{token.token_id}"
    numbers = f"{plain_number(each.cosine):>9} {plain_number(each.dot, 3):>10}"
    return Segment(fit(f"{fit(name, max(1, width - _NUMBERS))}{numbers}", width), looks.plain)


def _empty(typed: Sequence[Typed]) -> str:
    return "" if all(each.ids for each in typed) else "Fill all three fields"


def _too_few(typed: Sequence[Typed]) -> str:
    return "" if len(set(typed[0].ids)) > 1 else "Type at least two different tokens"
