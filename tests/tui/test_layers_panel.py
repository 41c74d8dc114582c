"""The panel of the layers: what it shows, what it tells the screen, by keys and by mouse."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App, ComposeResult
from textual.events import MouseScrollUp
from textual.pilot import Pilot

from gpt.interpret.answers import Layer
from gpt.sanitize import one_line
from gpt.step import Step
from tui.document import Node
from tui.heat import attention_scale
from tui.labels import percent
from tui.widgets.head_rows import heads
from tui.widgets.layer_picture import Attention, Found, Looks, Styles
from tui.widgets.layer_rows import curve, picture, shown_layers
from tui.widgets.layers import LayersPanel

STYLES = Styles(*(Style(meta={"part": i}) for i in range(6)))


def node(position: int, data: bytes) -> Node:
    return Node(Step(position, position, data, data.decode("utf-8", "replace")), is_prompt=True)


def text(length: int) -> list[Node]:
    """Tokens named a, b, c …"""
    return [node(i, bytes([ord("a") + i % 26])) for i in range(length)]


def answer(n_layers: int, n_heads: int, length: int, best: bytes = b"x") -> list[Layer]:
    """Layer i ranks the token better than the one before; head h looks at token h most."""

    def head(h: int) -> tuple[float, ...]:
        return tuple(0.6 if i == h % length else 0.4 / max(1, length - 1) for i in range(length))

    def layer(i: int) -> Layer:
        heads = tuple(map(head, range(n_heads))) if i else ()
        p = (i + 1) / (n_layers + 2)
        name = f"layer {i}" if i else "embedding"
        return Layer(name, (7,), (best,), (-0.5,), math.log(p), 1 + n_layers - i, heads)

    return [layer(i) for i in range(n_layers + 1)]


class Shown(App[None]):
    """The panel alone."""

    CSS = "LayersPanel { border: round white; padding: 0 1; }"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, Sequence[float]]] = []

    def compose(self) -> ComposeResult:
        yield LayersPanel()

    def on_layers_panel_looking(self, event: LayersPanel.Looking) -> None:
        self.heard.append((event.title, event.weights))

    @property
    def lines(self) -> list[str]:
        panel = self.query_one(LayersPanel)
        return [panel.render_line(y).text for y in range(panel.content_size.height)]


@asynccontextmanager
async def shown(
    size: tuple[int, int] = (48, 24), n_layers: int = 3, n_heads: int = 2, length: int = 5
) -> AsyncIterator[tuple[Shown, LayersPanel, Pilot[None]]]:
    app = Shown()
    async with app.run_test(size=size) as pilot:
        panel = app.query_one(LayersPanel)
        panel.show(text(length + 1), answer(n_layers, n_heads, length))
        panel.focus()
        await pilot.pause()
        yield app, panel, pilot


async def test_every_layer_has_its_guess_and_the_probability_and_rank_of_the_token() -> None:
    async with shown() as (app, _, _):
        lines = app.lines
    assert lines[0].split() == ["after", "guess", "and", "P", 'P("f")', "rank"]
    assert lines[1].split() == ["embedding", "x", "60.7", "%", "20.0", "%", "4"]
    assert lines[3].split()[:3] == ["layer", "2", "x"] and lines[3].endswith("60.0 %      2")
    assert lines[4].split()[0] == "▸output" and lines[4].endswith("80.0 %      1")
    assert lines[5].split() == ["rank", "by", "layer:", "4", "▅▅▅▄▄▄▃▃▃▁▁▁", "1"]


@pytest.mark.parametrize("width", range(24, 110))
@pytest.mark.parametrize("height", [7, 24])
def test_a_bar_never_stands_without_its_own_number(width: int, height: int) -> None:
    layers = answer(3, 2, 5)  # each guess has e^-0.5 = 60.7 %, the token in the text other ones
    found = Found(text(6), layers, 1, 0, Attention(layers[1].attention))
    rows = picture(found, Looks(width, height, STYLES)).rows
    heading, *lines = ["".join(segment.text for segment in row) for row in rows]
    shown = [line for line in lines if "layer 2" in line or "output" in line]
    assert len(shown) == 2
    for line in shown:
        has_bar = any(block in line for block in "█▉▊▋▌▍▎▏")
        has_number = "60.7 %" in line
        assert has_number or not has_bar
        assert has_number == ("and P" in heading)
        assert has_number == (min(width, lens_width(width, height)) >= 42)


def test_the_output_has_the_numbers_of_the_token_and_hidden_rows_leave_a_sign() -> None:
    layers, nodes = answer(5, 2, 5), text(6)
    chosen = math.exp(layers[-1].chosen_logprob)
    for logprob, expected in ((math.log(chosen) + 1e-3, chosen * 1.001), (-9.0, chosen)):
        step = nodes[-1].step._replace(logprob=logprob)
        found = Found([*nodes[:-1], Node(step, is_prompt=True)], layers, 5, 0, Attention(()))
        for height, sign in ((24, "after "), (5, "after ↕")):
            rows = picture(found, Looks(44, height, STYLES)).rows
            lines = ["".join(segment.text for segment in row) for row in rows]
            assert lines[0].lstrip().startswith(sign)
            (output,) = (line for line in lines if "output" in line)
            assert f" {percent(expected)} " in output


def lens_width(width: int, height: int) -> int:
    """The cells of the layers: they are at the left of their attention, or above it."""
    beside = width >= 96 or (width >= 52 and height < 9)
    return min(56, (width - 2) * 3 // 5) if beside else width


@pytest.mark.parametrize(
    ("n_heads", "width", "head", "shown"),
    [
        (6, 22, 0, "token   weight 123456"),
        (6, 30, 0, "looks at  weight 1 2 3 4 5 6"),
        (12, 30, 0, "looks at  weight 1         12"),
        (12, 30, 5, "looks at  weight     5"),
        (12, 30, 12, "looks at  weight           12"),
    ],
)
def test_the_heads_have_numbers_where_they_have_cells(
    n_heads: int, width: int, head: int, shown: str
) -> None:
    layers = answer(1, n_heads, 5)
    found = Found(text(6), layers, 1, head, Attention(layers[1].attention))
    rows, grid = heads(found, Looks(width, 7, STYLES))
    assert grid and grid.n_shown == n_heads
    assert "".join(segment.text for segment in rows[1]).rstrip() == shown


def test_the_tokens_that_are_not_shown_are_called_others_or_more() -> None:
    layers = answer(1, 2, 200)
    found = Found(text(201), layers, 1, 0, Attention(layers[1].attention))

    def last(width: int) -> str:
        rows, _ = heads(found, Looks(width, 7, STYLES))
        return "".join(segment.text for segment in rows[-1])

    assert last(22).split()[0] == "others" and last(40).split()[:2] == ["196", "more"]


async def test_the_keys_choose_layer_and_head_and_the_screen_hears_of_it() -> None:
    async with shown() as (app, _, pilot):
        mean, first, second = (0.35, 0.35, 0.1, 0.1, 0.1), *(answer(1, 2, 5)[1].attention)

        async def after(*keys: str) -> tuple[str, Sequence[float]]:
            await pilot.press(*keys)
            await pilot.pause()
            return app.heard[-1]

        title, weights = await after()
        assert title == "Attention of layer 3, mean of 2 heads" and weights == pytest.approx(mean)
        assert await after("right") == ("Attention of layer 3, head 1 of 2", first)
        assert await after("up", "right") == ("Attention of layer 2, head 2 of 2", second)
        assert (await after("right"))[0] == "Attention of layer 2, mean of 2 heads"
        assert (await after("left"))[0] == "Attention of layer 2, head 2 of 2"
        assert await after("home") == ("The embedding has no attention", ())
        n = len(app.heard)
        await after("up", "left")  # nothing above the first layer, no head in it
        assert len(app.heard) == n
        assert (await after("end"))[0] == "Attention of layer 3, head 2 of 2"


async def test_the_border_says_of_which_network_or_else_what_the_keys_do() -> None:
    async with shown((48, 24)) as (app, panel, pilot):
        assert str(panel.border_subtitle).startswith("logit lens · ↑↓ layer")
        app.set_focus(None)
        await pilot.pause()
        assert str(panel.border_subtitle) == "logit lens · e moves here"
        of_one, of_whole = "of the network with layer 12 head 3 off", "of the whole network"
        nodes, found = text(6), answer(3, 2, 5)
        for width, whose, said in (
            (60, of_one, f"logit lens {of_one}"),
            (50, of_one, of_one),
            (36, of_one, "of a changed network"),
            (24, of_whole, of_whole),
        ):
            await pilot.resize_terminal(width, 24)
            panel.show(nodes, found, whose)
            await pilot.pause()
            assert str(panel.border_subtitle) == said


async def test_layer_and_head_stay_when_another_token_is_shown() -> None:
    async with shown() as (app, panel, pilot):
        await pilot.press("up", "right", "right")
        panel.show(text(9), answer(3, 2, 8))
        await pilot.pause()
        title, weights = app.heard[-1]
        assert title == "Attention of layer 2, head 2 of 2" and len(weights) == 8
        # What it tells fits what colours the text.
        scale = attention_scale(title, text(9), weights)
        assert max(range(9), key=lambda i: scale.heat(text(9)[i].step)) == 1
        panel.show(text(9), answer(1, 1, 8))  # another model has fewer
        await pilot.pause()
        assert app.heard[-1][0] == "The embedding has no attention"
        await pilot.press("down")
        await pilot.pause()
        assert app.heard[-1][0] == "Attention of layer 1, mean of 1 head"


async def test_a_reason_replaces_the_layers_until_there_is_an_answer() -> None:
    async with shown() as (app, panel, pilot):
        n = len(app.heard)
        panel.wait("First token: no layer has seen anything before it.\x1b[31m [b]")
        await pilot.press("up", "right")
        await pilot.click(panel, offset=(3, 3))
        lines = app.lines
        assert " ".join(" ".join(lines).split()).endswith("before it.␛[31m [b]")
        assert len(app.heard) == n
        panel.show(text(6), [])  # Esc came before the answer
        assert "Stopped" in app.lines[0]
        panel.show(text(6), answer(3, 2, 5))
        await pilot.pause()
        assert "embedding" in app.lines[1] and len(app.heard) == n + 1


async def test_the_mouse_chooses_layer_and_head() -> None:
    async with shown() as (app, panel, pilot):

        async def click(word: str) -> str:
            y = next(i for i, line in enumerate(app.lines) if word in line)
            x = cell_len(app.lines[y].partition(word)[0])
            await pilot.click(panel, offset=(x + 2, y + 1))
            await pilot.pause()
            return app.heard[-1][0]

        assert await click("layer 1") == "Attention of layer 1, mean of 2 heads"
        header = next(i for i, line in enumerate(app.lines) if line.startswith("looks at"))
        x = app.lines[header].rindex("2")
        await pilot.click(panel, offset=(x + 2, header + 2))
        await pilot.pause()
        assert app.heard[-1][0] == "Attention of layer 1, head 2 of 2"
        assert await click("Attention of") == "Attention of layer 1, mean of 2 heads"
        assert await click("output") == "Attention of layer 3, mean of 2 heads"
        await pilot._post_mouse_events([MouseScrollUp], panel, offset=(5, 5))
        await pilot.pause()
        assert app.heard[-1][0] == "Attention of layer 2, mean of 2 heads"


async def test_the_tokens_that_are_looked_at_most_come_first_and_the_rest_is_counted() -> None:
    async with shown((48, 14), length=12) as (app, _, pilot):
        await pilot.press("right", "right")
        await pilot.pause()
        start = next(i for i, line in enumerate(app.lines) if line.startswith("looks at"))
        rows = [line.split() for line in app.lines[start + 1 :]]
    assert rows[0][:3] == ["ab", "−10", "60.0"]
    weights = [float(row[row.index("%") - 1]) for row in rows if row]
    assert math.isclose(sum(weights), 100, abs_tol=0.3)


sizes = st.tuples(st.integers(1, 220), st.integers(0, 60))
bytes_of_tokens = st.one_of(st.binary(max_size=12), st.text(max_size=6).map(str.encode))


@given(sizes, st.integers(0, 60), st.integers(1, 70), st.data())
def test_no_row_is_wider_or_lower_than_the_panel(
    size: tuple[int, int], n_layers: int, n_heads: int, data: st.DataObject
) -> None:
    length = data.draw(st.integers(1, 6))
    nodes = [node(i, data.draw(bytes_of_tokens)) for i in range(length + 1)]
    layers = answer(n_layers, n_heads, length, data.draw(bytes_of_tokens))
    at = data.draw(st.integers(0, n_layers))
    attention = Attention(layers[at].attention)
    head = data.draw(st.integers(0, len(attention.heads)))
    width, height = size
    drawn = picture(Found(nodes, layers, at, head, attention), Looks(width, height, STYLES))
    assert len(drawn.rows) <= height
    for row in drawn.rows:
        line = "".join(segment.text for segment in row)
        assert one_line(line) == line
        if width >= 40:
            assert cell_len(line) <= width
    if width >= 40 and height >= 4:
        assert at in drawn.layers.values() and n_layers in drawn.layers.values()
    if width >= 40 and height >= 12 and attention.heads:
        assert drawn.grid and (not head or 0 <= head - 1 - drawn.grid.first < drawn.grid.n_shown)


@given(st.integers(1, 100), st.integers(2, 100), st.data())
def test_the_rows_hold_the_chosen_layer_and_the_output(
    n: int, room: int, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, n - 1))
    found = shown_layers(n, at, room)
    assert {at, n - 1} <= set(found) and found == sorted(set(found))
    assert len(found) == min(n, room)


@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=60), st.integers(2, 60))
def test_the_curve_is_higher_for_a_worse_rank(ranks: list[int], cells: int) -> None:
    points = curve(ranks, cells)
    assert sum(len(blocks) for _, blocks in points) <= max(cells, 1)
    assert points[0][0] == 0 and points[-1][0] == (len(ranks) - 1 if len(points) > 1 else 0)
    for i, a in points:
        assert (a[0] == "▁") or ranks[i] > 1
        assert all(ord(a[0]) <= ord(b[0]) for j, b in points if ranks[i] <= ranks[j])
