"""How far apart two colours are, for letters and for areas; no widgets, no themes."""

from __future__ import annotations

import math

from rich.style import Style
from textual.color import BLACK, WHITE, Color

Lab = tuple[float, float, float]
"""CIELAB coordinates of a colour under daylight (D65): L* from 0 to 100, a* and b*."""

READABLE = 4.5
"""Least contrast of letters (Web Content Accessibility Guidelines: WCAG 2.2, 1.4.3)."""


NOTICED = 2.3
"""Least difference of two areas that people notice (Mahy, Van Eycken and Oosterlinck 1994)."""


def readable(ink: Color, ground: Color) -> Color:
    """The ink, blended with black or white until it is readable on the ground."""
    goal = max(BLACK, WHITE, key=lambda colour: contrast(colour, ground))
    steps = (ink.blend(goal, step / 10) for step in range(11))
    return next((colour for colour in steps if contrast(colour, ground) >= READABLE), goal)


def legible(style: Style) -> Style:
    """The same style with a readable ink; the terminal's own colours stay, as nobody knows them."""
    if not (style.color and style.color.triplet and style.bgcolor and style.bgcolor.triplet):
        return style
    ink = readable(Color(*style.color.triplet), Color(*style.bgcolor.triplet))
    return style + Style(color=ink.rich_color)


def contrast(a: Color, b: Color) -> float:
    """Contrast of two colours, 1 to 21, as the guidelines define it."""
    low, high = sorted((_luminance(a), _luminance(b)))
    return (high + 0.05) / (low + 0.05)


def difference(a: Color, b: Color) -> float:
    """Visible difference of two colours by CIEDE2000, 0 to about 100."""
    return ciede2000(_lab(a), _lab(b))


def ciede2000(one: Lab, other: Lab) -> float:
    """The colour difference formula of 2000, as Sharma, Wu and Dalal (2005) write it."""
    (l1, a1, b1), (l2, a2, b2) = one, other
    grey = 1.5 - 0.5 * _of_chroma((math.hypot(a1, b1) + math.hypot(a2, b2)) / 2)
    c1, c2 = math.hypot(grey * a1, b1), math.hypot(grey * a2, b2)
    h1, h2 = _hue(grey * a1, b1), _hue(grey * a2, b2)
    turn = 0.0
    if c1 * c2:  # a grey has no hue
        turn = (h2 - h1 + math.pi) % math.tau - math.pi
        if turn == -math.pi and h2 > h1:
            turn = math.pi
    by_hue = 2 * math.sqrt(c1 * c2) * math.sin(turn / 2)
    lightness, chroma = (l1 + l2) / 2, (c1 + c2) / 2
    hue = (h1 + turn / 2) % math.tau if c1 * c2 else h1 + h2
    tone = 1 + sum(
        weight * math.cos(times * hue + math.radians(shift))
        for weight, times, shift in ((-0.17, 1, -30), (0.24, 2, 0), (0.32, 3, 6), (-0.2, 4, -63))
    )
    offset = (lightness - 50) ** 2
    l_part = (l2 - l1) / (1 + 0.015 * offset / math.sqrt(20 + offset))
    c_part = (c2 - c1) / (1 + 0.045 * chroma)
    h_part = by_hue / (1 + 0.015 * chroma * tone)
    blue = math.radians(60) * math.exp(-(((math.degrees(hue) - 275) / 25) ** 2))
    rotation = -2 * _of_chroma(chroma) * math.sin(blue)
    return math.sqrt(l_part**2 + c_part**2 + h_part**2 + rotation * c_part * h_part)


def _of_chroma(chroma: float) -> float:
    """0 for greys, near 1 for vivid colours."""
    return math.sqrt(chroma**7 / (chroma**7 + 25.0**7))


def _hue(a: float, b: float) -> float:
    """Angle in radians, 0 to 2π."""
    return math.atan2(b, a) % math.tau


def _linear(colour: Color) -> Lab:
    """Red, green and blue light, 0 to 1 (IEC 61966-2-1)."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized
    )
    return red, green, blue


def _luminance(colour: Color) -> float:
    red, green, blue = _linear(colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _lab(colour: Color) -> Lab:
    red, green, blue = _linear(colour)
    x = (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047
    y = 0.2126729 * red + 0.7151522 * green + 0.0721750 * blue
    z = (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883
    x, y, z = (
        math.cbrt(t) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in (x, y, z)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)
