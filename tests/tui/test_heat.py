"""Heat maps on every theme."""

from __future__ import annotations

import math
from itertools import pairwise, product
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.style import Style
from textual.app import App
from textual.color import Color

from tests.tui.fake import token
from tui.colour import NOTICED, READABLE, ciede2000, contrast, difference
from tui.document import Node
from tui.heat import SCALES, STEPS, Scale, attention_scale, between, diverging, influence
from tui.node import Author
from tui.palette import Palette
from tui.preferences import HEAT_MAPS

THEMES = App().available_themes
MIXABLE = [name for name in THEMES if not THEMES[name].ansi]
LEVELS = range(STEPS)
AUTHORS = get_args(Author)


def palette(theme: str, kind: str = "theme", marks: str = "false") -> Palette:
    variables = THEMES[theme].to_color_system().generate()
    return Palette({**variables, "heat-map": kind, "heat-marks": marks})


def ground(style: Style) -> Color:
    assert style.bgcolor
    return Color.from_rich_color(style.bgcolor)


def letters(style: Style) -> float:
    """Contrast of the letters."""
    assert style.color
    return contrast(Color.from_rich_color(style.color), ground(style))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [  # from the table of Sharma, Wu and Dalal (2005)
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, 2.49, -0.001), (50, -2.49, 0.0011), 7.2195),
        ((50, -0.001, 2.49), (50, 0.0009, -2.49), 4.8045),
        ((50, -0.001, 2.49), (50, 0.0011, -2.49), 4.7461),
        ((50, 2.5, 0), (50, 0, -2.5), 4.3065),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (61, -5, 29), 22.8977),
        ((50, 2.5, 0), (56, -27, -3), 31.9030),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619), 2.0373),
        ((6.7747, -0.2908, -2.4247), (5.8714, -0.0985, -2.2286), 0.6377),
        ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_difference_of_colours_is_that_of_the_paper(
    one: tuple[float, float, float], other: tuple[float, float, float], expected: float
) -> None:
    assert ciede2000(one, other) == pytest.approx(expected, abs=1e-4)
    assert ciede2000(other, one) == pytest.approx(expected, abs=1e-4)


def test_black_and_white_are_a_hundred_apart() -> None:
    black, white = Color.parse("#000000"), Color.parse("#ffffff")
    assert difference(black, white) == pytest.approx(100, abs=0.1)
    assert difference(white, white) == 0
    assert contrast(black, white) == pytest.approx(21)


@pytest.mark.parametrize("sign", [0, 1, -1])
@pytest.mark.parametrize("kind", HEAT_MAPS)
@pytest.mark.parametrize("theme", MIXABLE)
def test_every_step_can_be_told_from_the_next_one(theme: str, kind: str, sign: int) -> None:
    made = palette(theme, kind)
    styles = [made.style((sign or 1) * i, "model", is_signed=bool(sign)) for i in LEVELS]
    grounds = [ground(style) for style in styles]
    assert min(difference(a, b) for a, b in pairwise(grounds)) >= NOTICED
    assert difference(grounds[0], grounds[1]) >= 3 * NOTICED  # colour or none is seen at once
    # What is more surprising stands out more.
    contrasts = [contrast(each, grounds[0]) for each in grounds]
    assert contrasts == sorted(set(contrasts))
    assert grounds[0] == Color.parse(THEMES[theme].to_color_system().generate()["background"])


@pytest.mark.parametrize("kind", HEAT_MAPS)
@pytest.mark.parametrize("theme", MIXABLE)
def test_letters_can_be_read_on_every_step(theme: str, kind: str) -> None:
    made = palette(theme, kind)
    for level, author, box in product(range(1 - STEPS, STEPS), AUTHORS, (None, 0, 1)):
        style = made.style(level, author, is_signed=True, box=box)
        assert letters(style) >= READABLE - 0.01, (level, author, box)
        if level >= 0:
            style = made.style(level, author, box=box)
            assert letters(style) >= READABLE - 0.01, (level, author, box)
    kinds = ((True, False), (False, True), (True, True))
    marks = [made.first_letter(is_fork=fork, is_seam=seam) for fork, seam in kinds]
    assert len({str(mark) for mark in marks}) == 3
    for style in (made.selected, *marks):
        assert letters(style) >= READABLE - 0.01
        assert contrast(ground(style), ground(made.style(0, "model"))) >= READABLE - 0.01


CVD = {  # severity 1.0, for linear light (Machado, Oliveira and Fernandes 2009)
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def seen(colour: Color, matrix: tuple[tuple[float, ...], ...]) -> Color:
    """The colour as a person with this colour vision sees it."""
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
    mixed = (math.fsum(a * b for a, b in zip(row, light, strict=True)) for row in matrix)
    clipped = (min(1.0, max(0.0, c)) for c in mixed)
    red, green, blue = (
        round(255 * (12.92 * c if c < 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055))
        for c in clipped
    )
    return Color(red, green, blue)


@pytest.mark.parametrize("vision", CVD)
@pytest.mark.parametrize("kind", ["theme", "colour-blind"])
@pytest.mark.parametrize("theme", MIXABLE)
def test_the_signs_have_different_colours_for_everybody(theme: str, kind: str, vision: str) -> None:
    made = palette(theme, kind)
    for level in range(STEPS // 3, STEPS):
        plus, minus = (
            seen(ground(made.style(sign * level, "model", is_signed=True)), CVD[vision])
            for sign in (1, -1)
        )
        assert difference(plus, minus) >= 2 * NOTICED, level


@pytest.mark.parametrize("theme", [*MIXABLE[:2], "ansi-dark", "ansi-light"])
@pytest.mark.parametrize("kind", HEAT_MAPS)
def test_signs_are_seen_without_colour(theme: str, kind: str) -> None:
    made = palette(theme, kind, marks="true")
    looks = {
        (style.bold or False, style.underline or False)
        for style in (made.style(level, "model", is_signed=True) for level in (-9, 0, 9))
    }
    assert len(looks) == 3


@pytest.mark.parametrize("theme", ["ansi-dark", "ansi-light"])
def test_the_terminals_own_colours_get_marks(theme: str) -> None:
    made = palette(theme)
    styles = [made.style(level, "model") for level in LEVELS]
    assert len({(style.bold, style.underline) for style in styles}) == 4
    assert made.selected.reverse  # a colour that is not known cannot be exchanged otherwise
    assert made.style(0, "model", box=0).reverse != made.style(0, "model", box=1).reverse


@pytest.mark.parametrize("kind", HEAT_MAPS)
@pytest.mark.parametrize("theme", MIXABLE)
def test_neighbouring_boxes_differ_from_each_other_and_from_nothing(theme: str, kind: str) -> None:
    made = palette(theme, kind)
    shades = [ground(made.style(0, "model"))]
    shades += [ground(made.style(3, "model", box=b)) for b in (0, 1)]
    assert min(difference(a, b) for a, b in pairwise(shades)) >= 2 * NOTICED
    # Heat is still seen.
    cool, hot = (made.style(level, "model", box=0) for level in (0, STEPS - 1))
    assert cool.color and hot.color
    apart = difference(*(Color.from_rich_color(each.color) for each in (cool, hot) if each.color))
    assert apart >= 3 * NOTICED or (hot.underline and not cool.underline)


SIGNED = diverging("d", [None, 0.5, -3.0], ("model \x1b[1m with a long name", "the other one"))
EVERY = [
    *SCALES,
    between("b", [1.0]),
    SIGNED,
    influence("i", [1.0]),
    attention_scale("a", [Node(token(0, "a"), is_prompt=True)], []),
]


@pytest.mark.parametrize("scale", EVERY, ids=lambda scale: scale.title)
def test_every_legend_says_its_unit_and_fits(scale: Scale) -> None:
    made = palette("textual-dark")
    whole = made.legend(scale)
    assert any(unit in whole.plain for unit in ("%", "rank", "tokens", "bits", "probability"))
    assert whole.plain.isprintable()
    for room in range(40, 80):
        found = made.legend(scale, room)
        assert found.cell_length <= room
        first, *_, last = scale.legend
        assert first in found.plain and last in found.plain


def test_examples_of_a_legend_have_the_colours_of_the_text() -> None:
    made = palette("textual-dark")
    legend = made.legend(SIGNED)
    for label, level in SIGNED.legend.items():
        start = legend.plain.index(f" {label} ")
        look = made.style(level, "model", is_signed=True)
        (span,) = [span for span in legend.spans if span.start == start]
        assert look.bgcolor and span.style.background == Color.from_rich_color(look.bgcolor)


@given(st.lists(st.none() | st.floats(allow_nan=False), min_size=1, max_size=8))
def test_a_scale_with_a_sign_is_symmetric_and_monotone(bits: list[float | None]) -> None:
    def heats(values: list[float | None]) -> list[int]:
        scale = diverging("", values, ("less", "more"))
        return [scale.heat(token(i, "a")) for i in range(len(values))]

    found = heats(bits)
    assert all(abs(level) < STEPS for level in found)
    assert heats([None if b is None else -b for b in bits]) == [-level for level in found]
    known = sorted((b, level) for b, level in zip(bits, found, strict=True) if b is not None)
    levels = [level for _, level in known]
    assert levels == sorted(levels)
    size = between("", [None if b is None else abs(b) for b in bits])
    assert [size.heat(token(i, "a")) for i in range(len(bits))] == [abs(level) for level in found]
    assert diverging("", bits, ("", "")).heat(token(len(bits), "a")) == 0


def test_settings_that_make_a_token_less_probable_have_the_other_sign() -> None:
    step, change = token(0, "a"), SCALES[-1]

    def after(times: float) -> int:
        logprob = (step.logprob or 0) + math.log(times)
        return change.heat(step._replace(sampling_logprob=logprob))

    assert after(2) == -after(0.5) > 0 == after(1)


@pytest.mark.parametrize("kind", HEAT_MAPS)
@pytest.mark.parametrize("theme", MIXABLE)
def test_a_terminal_of_256_colours_shows_every_step(theme: str, kind: str) -> None:
    variables = {**THEMES[theme].to_color_system().generate(), "heat-map": kind}
    made = Palette({**variables, "heat-colours": "256"})
    system = ColorSystem.EIGHT_BIT
    shown = []
    for i in LEVELS:
        style = made.style(i, "model")
        assert style.bgcolor
        number = style.bgcolor.downgrade(system).number
        assert number is not None and number >= 16  # a person may have changed the others
        shown.append(Color.from_rich_color(RichColor.from_ansi(number)))
        assert contrast(Color.from_rich_color(style.color), shown[-1]) >= READABLE - 0.3
    assert len(set(shown)) == len(shown)
    assert min(difference(a, b) for a, b in pairwise(shown)) >= NOTICED
    assert difference(shown[0], shown[1]) >= 3 * NOTICED
