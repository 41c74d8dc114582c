"""The styles of each heat in a theme; no widgets.

The heats of a scale are equal steps of visible difference (CIEDE2000), and not of red, green and
blue: so each one can be told from its neighbours in every theme. Only the step from no heat to the
first one is larger: whether a token has a colour must be seen without looking for it. Equal visible
steps, and one hue for each sign around a neutral middle, are what Kovesi (2015, "Good Colour Maps")
and Moreland (2009, "Diverging Color Maps for Scientific Visualization") ask of a scale.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.style import Style as RichStyle
from textual.color import Color
from textual.content import Content
from textual.style import Style

from tui.colour import NOTICED, contrast, difference, readable
from tui.heat import STEPS, Scale
from tui.labels import fit
from tui.node import Author

CIVIDIS = ("#00224e", "#575d6d", "#a59c74", "#fee838")
"""Stops of a scale that looks the same with every colour vision (Nuñez et al. 2018)."""
SIGNS = {True: ("#0072b2", "#d55e00"), False: ("#56b4e9", "#e69f00")}
"""On a light theme or not → colours of the most negative and the most positive number.

Blue and orange can be told apart with every colour vision (Okabe and Ito 2008).
"""
_HOTTEST = 0.9
"""How far the hottest background goes from the theme's background to the colour of heat."""
_FIRST = 3 * NOTICED
"""Least visible difference of the first heat and the theme's background: whether a token has a
colour must be seen around a dark letter."""
_HOT = STEPS * 2 / 3
_SAMPLES = 32
_BOX = 5.0
"""Visible difference of two boxes side by side, and of a box and the space around the text."""
_MARKS = (
    RichStyle(),
    RichStyle(underline=True),
    RichStyle(bold=True),
    RichStyle(bold=True, underline=True),
)
_QUIET = 0.4
"""How far the letters of a chat template go from the text's colour to the background's."""
_AUTHORS = {
    (author, is_ansi): RichStyle(italic=author == "person", dim=is_ansi and author == "template")
    for author in ("person", "template", "model")
    for is_ansi in (False, True)
}
"""Who wrote a token, and whether colours cannot be blended → its letters."""
_SIGN_MARKS = {0: RichStyle(), 1: RichStyle(bold=True), -1: RichStyle(underline=True)}


class Palette:
    """The styles of each heat in a theme.

    variables: the theme's, with heat-map (one of the preferences' HEAT_MAPS), heat-marks ("true"
    shows heat by bold and underlined letters as well) and heat-colours ("256" if the terminal has
    no more).
    """

    def __init__(self, variables: dict[str, str]) -> None:
        self._kind = variables.get("heat-map", "theme")
        self._ground = Color.parse(variables["background"])
        self._text = Color.parse(variables["foreground"])
        self._prompt = Color.parse(variables["accent"])
        self._error, self._warning = (Color.parse(variables[name]) for name in ("error", "warning"))
        # The terminal's own colours cannot be blended.
        self._is_ansi = self._ground.ansi is not None
        quiet = self._text if self._is_ansi else self._text.blend(self._ground, _QUIET)
        self._inks = {"person": self._prompt, "template": quiet, "model": self._text}
        self._is_256 = variables.get("heat-colours") == "256" and not self._is_ansi
        self._has_marks = variables.get("heat-marks") == "true" or self._is_ansi
        self._ramps: dict[int, list[Color]] = {}
        self._styles: dict[tuple[int, Author, bool, int | None], RichStyle] = {}
        self.selected = RichStyle(bold=True, reverse=True)
        fork = RichStyle(reverse=True)
        seam = RichStyle(reverse=True, italic=True, bold=True)
        if not self._is_ansi:
            names = ("foreground",) * 2 if self._has_marks else ("primary", "success")
            shades = [readable(Color.parse(variables[name]), self._ground) for name in names]
            self.selected = _inverse(self._ground, self._text) + RichStyle(bold=True)
            fork = _inverse(self._ground, shades[0])
            seam = _inverse(self._ground, shades[1]) + RichStyle(italic=True, bold=True)
        self._first_letters = {
            (True, False): fork + RichStyle(underline=True),
            (False, True): seam,
            (True, True): seam + RichStyle(underline=True),
        }

    def style(
        self, level: int, author: Author, is_signed: bool = False, box: int | None = None
    ) -> RichStyle:
        """The style of a token with this heat.

        is_signed: the heat is of a scale with a sign. box: 0 or 1 for the two kinds of boxes, which
        show heat by their letters; None for no box.
        """
        key = level, author, is_signed, box
        style = self._styles.get(key)
        if style is None:
            style = self._styles[key] = self._made(*key)
        return style

    def _made(self, level: int, author: Author, is_signed: bool, box: int | None) -> RichStyle:
        way = (level > 0) - (level < 0) if is_signed else 0
        ink = self._inks[author]
        ground, look = self._ground, RichStyle()
        has_marks = self._has_marks or (
            self._kind == "monochrome" and (is_signed or box is not None)
        )
        if self._is_ansi:
            look = RichStyle(reverse=box == 1)
            ink = self._error if abs(level) > _HOT else ink
        elif box is None:
            ground = self._ramp(way)[abs(level)]
            ink = readable(ink, ground)
        else:
            ground = self._shades()[box]
            ink = readable(self._letters(level, ink, way), ground)
            look = RichStyle(bold=abs(level) > _HOT and not has_marks)
        look += RichStyle(color=ink.rich_color, bgcolor=ground.rich_color)
        look += _AUTHORS[author, self._is_ansi]
        if has_marks:
            look += _SIGN_MARKS[way] if is_signed else _marks(level)
        return look

    def first_letter(self, *, is_fork: bool, is_seam: bool) -> RichStyle:
        """The first letter of a token that has a mark.

        is_fork: the tree has another continuation there. is_seam: another network than that of the
        token before read or drew it.
        """
        return self._first_letters[is_fork, is_seam]

    def number(self, value: float) -> RichStyle:
        """The style of a number with a sign: the hue that a text has for such numbers."""
        hot = self._stops(1 if value > 0 else -1)[-1]
        ink = self._text if self._is_ansi and value > 0 else readable(hot, self._ground)
        return RichStyle(color=ink.rich_color, bgcolor=self._ground.rich_color)

    def _shades(self) -> list[Color]:
        """Backgrounds of two boxes side by side."""
        found = [self._ground]
        for i in range(1, _SAMPLES):
            colour = self._ground.blend(self._text, i / _SAMPLES)
            if len(found) < 3 and difference(found[-1], colour) >= _BOX:
                found.append(colour)
        return found[1:]

    def _letters(self, level: int, ink: Color, way: int) -> Color:
        """The letters of a box, from the usual ones to the colour of heat."""
        if self._kind == "monochrome":  # marks say it
            return ink
        # Cividis ends near black or near white, as the letters do.
        hot = self._stops(way or int(self._kind == "colour-blind"))[-1]
        return ink.blend(hot, abs(level) / (STEPS - 1))

    def _ramp(self, way: int) -> list[Color]:
        """Background of each heat from 0 on; the first is the theme's."""
        if way not in self._ramps:
            stops = self._stops(way)
            for first in range(1, STEPS):
                ground, *colours = even_steps(stops, STEPS - 1 + first)
                self._ramps[way] = [ground, *colours[first - 1 :]]
                if difference(*self._ramps[way][:2]) >= _FIRST:
                    break
            if self._is_256:
                self._ramps[way] = among_256(self._ramps[way])
        return self._ramps[way]

    def _stops(self, way: int) -> list[Color]:
        """Colours that the heats go through. way: the sign; 0 for a scale without one."""
        is_light = self._ground.brightness > 0.5
        if self._is_ansi or self._kind == "monochrome":
            hot = self._error if self._is_ansi else self._text
        elif way:
            hot = Color.parse(SIGNS[is_light][way > 0])
        elif self._kind == "colour-blind":
            # Away from the theme's background, so that more surprising tokens stand out more.
            stops = CIVIDIS[2::-1] if is_light else CIVIDIS[1:]
            return [self._ground, *map(Color.parse, stops)]
        else:
            # Two hues can be told apart in more steps than one; each is farther from the theme's
            # background than the one before.
            middle, hot = sorted(
                (self._error, self._warning), key=lambda each: contrast(each, self._ground)
            )
            return [self._ground, self._ground.blend(middle, _HOTTEST), hot]
        return [self._ground, self._ground.blend(hot, _HOTTEST)]

    def legend(self, scale: Scale, room: int = 999, *, boxes: bool = False) -> Content:
        """The colours of a few example values with their unit, for a border of `room` cells.

        With little room there are fewer examples, and then shorter names.
        """
        examples, names = list(scale.legend.items()), scale.ends
        unit = f" {scale.unit} " if scale.unit else ""

        def left(*names: str) -> int:
            width = cell_len(unit) + sum(cell_len(label) + 2 for label, _ in examples)
            return room - width - sum(cell_len(name) + 2 for name in names if name)

        while len(examples) > 2 and left(*names) < 0:
            examples = [*examples[:-1:2], examples[-1]]
        if left(*names) < 0:
            each = left() // 2 - 2
            before, after = (fit(name, each).rstrip() if each > 1 else "" for name in names)
            names = before, after
        parts = [
            (f" {label} ", Style.from_rich_style(self._example(level, scale, i if boxes else None)))
            for i, (label, level) in enumerate(examples)
        ]
        before, after = (f" {name}" if name else "" for name in names)
        return Content.assemble(f"{before} " if before else "", *parts, after, unit)

    def _example(self, level: int, scale: Scale, place: int | None) -> RichStyle:
        box = None if place is None else place % 2
        return self.style(level, "model", is_signed=scale.is_signed, box=box)


def _inverse(ink: Color, ground: Color) -> RichStyle:
    return RichStyle(color=readable(ink, ground).rich_color, bgcolor=ground.rich_color)


def even_steps(stops: Sequence[Color], steps: int) -> list[Color]:
    """Colours from the first stop to the last one, as far from each other as possible."""
    samples = [_along(stops, i / _SAMPLES) for i in range(_SAMPLES + 1)]
    walked = list(accumulate((difference(a, b) for a, b in pairwise(samples)), initial=0.0))
    found = [stops[0]]
    for step in range(1, steps - 1):
        goal = walked[-1] * step / (steps - 1)
        after = max(1, bisect_left(walked, goal))
        gap = walked[after] - walked[after - 1]
        part = (goal - walked[after - 1]) / gap if gap else 0.0
        found.append(_along(stops, (after - 1 + part) / _SAMPLES))
    return [*found, stops[-1]]


def _cube_and_greys() -> list[Color]:
    """The colours of a terminal with 256 that Rich leaves as they are.

    The first 16 are not among them: a person may have chosen others.
    """
    every = (RichColor.from_ansi(number) for number in range(16, 256))
    found = [Color.from_rich_color(each) for each in every]
    shown = (each.rich_color.downgrade(ColorSystem.EIGHT_BIT) for each in found)
    return [a for a, b in zip(found, shown, strict=True) if a == Color.from_rich_color(b)]


def among_256(colours: Sequence[Color]) -> list[Color]:
    """For each colour the most similar one of a terminal with 256; none is taken twice.

    Rich would take black for every dark colour, because between black and the next red the cube of
    such a terminal has nothing.
    """
    left = _cube_and_greys()
    found = [min(left, key=lambda each: difference(colours[0], each))]
    left = [each for each in left if difference(found[0], each) >= _FIRST]
    for colour in colours[1:]:
        found.append(min(left, key=lambda each: difference(colour, each)))
        left.remove(found[-1])
    return found


def _along(stops: Sequence[Color], place: float) -> Color:
    """The colour at a place from 0, the first stop, to 1, the last one."""
    before = min(int(place * (len(stops) - 1)), len(stops) - 2)
    return stops[before].blend(stops[before + 1], place * (len(stops) - 1) - before)


def _marks(level: int) -> RichStyle:
    """No mark for heat 0, then a stronger one for every third of the scale."""
    return _MARKS[0 if level == 0 else 1 + (level - 1) * 3 // (STEPS - 1)]
