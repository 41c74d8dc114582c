"""The text on the screen: boxes, forks, title, legend, scroll bar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.style import Style
from textual.app import App, ComposeResult
from textual.content import Content
from textual.geometry import Offset
from textual.pilot import Pilot

from gpt.interventions import Knockout
from gpt.step import Step
from tests.tui.fake import token
from tui.document import Document, Node
from tui.heat import SCALES, between, diverging
from tui.palette import Palette
from tui.screens.model_comparison import ModelComparisonScreen, Reading
from tui.widgets.token_row import begun, boxed_text, shown_text
from tui.widgets.token_view import TokenView

SIZE = (40, 8)
HALF = (0.5, 0.5, 0.99, 0.01)
"""What a model thinks of four tokens; another one gives each of them a half."""


class Page(App[None]):
    """Nothing but a text."""

    def __init__(self, nodes: Sequence[Node], forks: Sequence[int] = ()) -> None:
        super().__init__()
        self.nodes = nodes
        self.forks = forks
        self.ended: list[range] = []

    def compose(self) -> ComposeResult:
        view = TokenView()
        view.styles.border = "round", "white"
        view.styles.padding = 0, 0, 0, 1
        yield view

    def on_mount(self) -> None:
        self.view.show(self.nodes, self.forks.__contains__)

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {"heat-map": "theme", "heat-marks": "true" if self.no_color else "false"}

    def on_token_view_selection_ended(self) -> None:
        self.ended.append(self.view.selection)

    @property
    def view(self) -> TokenView:
        return self.query_one(TokenView)

    def rows(self) -> list[str]:
        return [self.view.render_line(y).text.rstrip() for y in range(self.view.size.height)]

    @property
    def said(self) -> str:
        return Content.from_markup(self.view.border_title or "").plain


def nodes_of(*texts: str) -> list[Node]:
    return [Node(token(i, text), is_prompt=False) for i, text in enumerate(texts)]


@asynccontextmanager
async def page(
    nodes: Sequence[Node], forks: Sequence[int] = (), size: tuple[int, int] = SIZE
) -> AsyncIterator[tuple[Page, Pilot[None]]]:
    app = Page(nodes, forks)
    async with app.run_test(size=size) as pilot:
        app.view.focus()
        await pilot.pause()
        yield app, pilot


async def test_boxes_show_how_the_text_is_cut() -> None:
    texts = ("The", " cat", "\n", "\t", "sat ")
    parts = [Node(Step(5, 9, b"\xe4\xbd", ""), False), Node(Step(6, 10, b"\xa0", "你"), False)]
    async with page([*nodes_of(*texts), *parts, *nodes_of("z")]) as (app, pilot):
        assert app.rows()[:2] == ["The cat", "    sat 你z"]
        app.view.action_boxes()
        await pilot.pause()
        assert app.rows()[:2] == ["The·cat⏎", "⇥···sat·\\xe4\\xbd你z"]
        assert app.said == "Text · tokens as boxes"
        segments = list(app.view.render_line(0))[:3]
        shades = [segment.style.bgcolor for segment in segments if segment.style]
        assert [segment.text for segment in segments] == ["The", "·cat", "⏎"]
        assert shades[0] == shades[2] != shades[1]
        app.view.action_boxes()
        await pilot.pause()
        assert app.rows()[:2] == ["The cat", "    sat 你z"]
        assert app.said == SCALES[0].title


async def test_boxes_grow_with_the_text_and_keep_the_cursor_in_view() -> None:
    nodes = nodes_of(*(f"w{i} " for i in range(300)))
    async with page(nodes) as (app, pilot):
        app.view.action_select(100)
        app.view.action_boxes()
        await pilot.pause()
        row = app.view.cell_of(100).y
        assert "w100·" in app.rows()[row - 1]
        nodes.append(Node(Step(300, 7, b"\xff", ""), False))
        app.view.action_newest()
        app.view.catch_up()
        await pilot.pause()
        assert app.rows()[-1].endswith("w299·\\xff")


@given(st.binary(min_size=1, max_size=6))
def test_no_box_is_empty(data: bytes) -> None:
    text = data.decode("utf-8", "ignore")
    assert boxed_text(Node(Step(0, 1, data, text), False))


@given(st.text(alphabet="ab \n\t你e\u0301", max_size=6), st.booleans())
def test_a_fork_is_seen_at_one_letter(text: str, is_visible: bool) -> None:
    style, letter = Style(color="red"), Style(underline=True)
    parts = list(begun(text, style, letter, is_visible=is_visible))
    assert len("".join(part.text for part in parts)) == max(1, len(text))
    (changed,) = [part for part in parts if part.style == letter]
    assert changed.text.strip()  # a blank would be seen as a cursor
    assert sum(map(cell_len, changed.text)) <= 2


@pytest.mark.parametrize("no_color", [False, True])
@pytest.mark.parametrize("theme", ["textual-dark", "textual-light", "ansi-dark"])
async def test_forks_are_seen_with_and_without_colour(
    monkeypatch: pytest.MonkeyPatch, no_color: bool, theme: str
) -> None:
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    nodes = nodes_of("one", " two", " three", " four")
    async with page(nodes, forks=[1, 3]) as (app, pilot):
        app.theme = theme
        app.view.action_select(2)
        await pilot.pause()

        def marked() -> list[str]:
            strip = app.view.render_line(0)
            for each in app._filters:
                strip = strip.apply_filter(each, app.view.background_colors[1])
            looks = [segment.style for segment in strip if segment.text == "wo"]
            assert looks[0]
            return [
                segment.text
                for segment in strip
                if segment.style and segment.style.underline and segment.style != looks[0]
            ]

        assert marked() == ["t", "f"]
        app.view.action_select(3)  # also in the selected token
        await pilot.pause()
        assert marked() == ["t", "f"]
        app.view.show(nodes[:3])  # the same forks
        app.view.action_select(2)
        await pilot.pause()
        assert marked() == ["t"]


async def test_a_fork_cut_by_the_end_of_the_row_is_seen_at_its_letter() -> None:
    nodes = nodes_of("x" * 30, "yyyyy", " word", "\n\n go")
    async with page(nodes, forks=[2, 3]) as (app, _):
        fork = app.view._palette.first_letter(is_fork=True, is_seam=False)
        found = [[s.text for s in app.view.render_line(y) if s.style == fork] for y in range(4)]
        assert [row.strip() for row in app.rows()[1:4]] == ["word⏎", "⏎", "·go"]
        assert found == [[], ["w"], [], []]  # the newest token is the selected one


@pytest.mark.parametrize("theme", ["textual-dark", "ansi-dark"])
async def test_the_text_shows_where_another_network_begins_and_where_it_ends(theme: str) -> None:
    nodes = nodes_of("one", " two", " three", " four", " five")
    for node in nodes[1:3]:
        node.changes = (Knockout(part="mlp", layer=1),)
    async with page(nodes, forks=[1]) as (app, pilot):
        app.theme = theme
        await pilot.pause()
        fork, seam, both = (
            app.view._palette.first_letter(is_fork=fork, is_seam=seam)
            for fork, seam in ((True, False), (False, True), (True, True))
        )
        row = list(app.view.render_line(0))
        assert [s.text for s in row if s.style == seam] == ["f"]  # the whole network again
        assert [s.text for s in row if s.style == both] == ["t"]
        assert not [s for s in row if s.style == fork]
        app.view.branch = "branch 2 of 2 · tokens 1–2: 1 part off"
        title = str(app.view.border_title)
        assert title == f"Text · {app.view.branch}"  # 40 cells have no room for more
        await pilot.resize_terminal(200, 20)
        await pilot.pause()
        assert app.view.border_title == f"{SCALES[0].title} · {app.view.branch}"


async def test_forks_of_a_document_are_asked_only_for_rows_that_are_drawn() -> None:
    document = Document()
    document.append([token(i, f"w{i} ") for i in range(2000)], is_prompt=True)
    asked: list[int] = []

    def is_fork(index: int) -> bool:
        asked.append(index)
        return document.branches(index) > 1

    async with page([]) as (app, pilot):
        app.view.show(document.path, is_fork)
        await pilot.pause()
        assert asked and len(asked) < 100
        asked.clear()
        document.append([token(2000 + i, "x ") for i in range(500)], is_prompt=False)
        app.view.catch_up()
        await pilot.pause()
        assert len(set(asked)) < 200


async def test_a_token_over_two_rows_is_one_token() -> None:
    long = "abcdefghij" * 9
    async with page(nodes_of("x ", long, " end"), forks=[1]) as (app, pilot):
        view = app.view
        view.action_select(1)
        await pilot.pause()
        selected = [
            "".join(s.text for s in view.render_line(y) if s.style and s.style.bold)
            for y in range(5)
        ]
        assert "".join(selected) == long
        assert sum(bool(row) for row in selected) == 3
        await pilot.press("right")
        assert view.index == 2
        await pilot.press("left")
        assert view.index == 1
        for y in range(1, 4):  # every part of it is a place to point at
            view.action_select(0)
            await pilot.click(view, offset=(6, 1 + y - (y == 1)))
            assert view.index in (1, 0) if y == 1 else view.index == 1


async def test_the_title_has_colours_caption_boxes_and_branch() -> None:
    async with page(nodes_of("a", "b"), size=(60, 8)) as (app, pilot):
        view = app.view
        assert app.said == "Text · colour: probability"
        view.branch = "branch 2 of 3"
        assert app.said == "Text · colour: probability · branch 2 of 3"
        view.branch = "[b]\x1b[31m"
        assert app.said == "Text · colour: probability · [b]␛[31m"
        view.branch, view.caption = "", "fake: 3 tokens"
        assert app.said == "fake: 3 tokens"
        view.action_colours()
        assert app.said == f"fake: 3 tokens · {SCALES[1].title}"
        app.theme = "nord"
        await pilot.pause()
        assert app.said == f"fake: 3 tokens · {SCALES[1].title}"


async def test_another_scale_goes_and_the_readers_own_one_comes_back() -> None:
    nodes = nodes_of("a", "b")
    async with page(nodes) as (app, pilot):
        view = app.view
        view.action_colours()
        own = SCALES[1].title
        first, second = between("first", [1.0]), diverging("second", [1.0, -2.0], ("less", "more"))
        view.set_scale(first, second)
        assert app.said == "first"
        view.action_colours()
        assert app.said == "second"
        legend = Content.from_markup(view.border_subtitle or "").plain
        assert legend.split() == ["less", "−4", "0", "+4", "more", "bits"]
        a, b = (s.style for s in list(view.render_line(0))[:2])
        assert a and b and a.bgcolor != b.bgcolor
        view.use_own_scale()
        assert app.said == own
        view.set_scale(first)
        view.show(nodes)
        assert app.said == own
        await pilot.pause()


async def test_the_legend_fits_into_any_width() -> None:
    async with page(nodes_of("a"), size=(80, 8)) as (app, pilot):

        def legend() -> str:
            return Content.from_markup(app.view.border_subtitle or "").plain

        assert legend().split() == ["70", "%+", "50", "20", "5", "1", ".1", "%"]
        await pilot.resize_terminal(24, 8)
        while app.view.size.width > 24:
            await pilot.pause()
        await pilot.pause()
        assert legend().split() == ["70", "%+", "20", "1", ".1", "%"]


async def test_a_click_on_the_legend_changes_the_colours() -> None:
    async with page(nodes_of("a")) as (app, pilot):
        look = app.view._border_subtitle
        assert look and look.plain.startswith(" 70 %+ ")
        await pilot.click(app.view, offset=(SIZE[0] - 6, SIZE[1] - 1))
        await pilot.pause()
        assert app.said == SCALES[1].title
        await pilot.click(app.view, offset=(2, SIZE[1] - 1))  # beside it
        await pilot.pause()
        assert app.said == SCALES[1].title


async def test_the_scroll_bar_comes_with_a_long_text_and_moves_nothing() -> None:
    nodes = nodes_of(*["word "] * 20)
    async with page(nodes) as (app, pilot):
        view = app.view
        width, before = view._rows.width, app.rows()[0]
        assert not view.show_vertical_scrollbar
        nodes += [Node(token(20 + i, "more "), False) for i in range(200)]
        view.catch_up()
        await pilot.pause()
        await pilot.pause()
        assert view.show_vertical_scrollbar
        await pilot.resize_terminal(41, 8)
        await pilot.resize_terminal(*SIZE)
        await pilot.pause()
        assert view._rows.width == width == view.size.width - 1  # the bar covers nothing
        view.scroll_home(animate=False)
        await pilot.pause()
        assert app.rows()[0] == before
        assert view.virtual_size.height == len(view._rows)


async def test_the_cell_of_a_token_is_where_it_is_drawn() -> None:
    nodes = nodes_of(*(f"w{i} " for i in range(300)))
    async with page(nodes) as (app, pilot):
        for index in (150, 151, 299):
            app.view.action_select(index)
            await pilot.pause()
            cell = app.view.cell_of(index)
            x, y = cell - Offset(2, 1)
            assert app.rows()[y][x:].startswith(f"w{index}")
        assert app.view.cell_of(0).y == 1  # above the view


async def test_the_mouse_says_when_a_selection_is_complete() -> None:
    async with page(nodes_of(*"abcdef")) as (app, pilot):
        await pilot.mouse_down(app.view, offset=(3, 1))
        await pilot.mouse_up(app.view, offset=(3, 1))
        await pilot.pause()
        assert app.ended == []  # a click
        app.view.capture_mouse()
        app.view.action_extend("move(2)")
        await pilot.mouse_up(app.view, offset=(5, 1))
        await pilot.pause()
        assert app.ended == [range(1, 4)]


async def test_colours_are_computed_once_for_a_theme(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Palette] = []
    init = Palette.__init__

    def counted(self: Palette, variables: dict[str, str]) -> None:
        made.append(self)
        init(self, variables)

    monkeypatch.setattr(Palette, "__init__", counted)
    async with page(nodes_of("a", "b")) as (app, pilot):
        n = len(made)
        for _ in range(20):  # attention follows the cursor
            app.view.set_scale(between("x", [1.0]))
        assert len(made) == n
        app.theme = "nord"
        await pilot.pause()
        assert len(made) == n + 1


@pytest.mark.parametrize("divergence", [None, [0.1, 2.0, 0.0]])
async def test_two_models_have_a_colour_each(divergence: list[float] | None) -> None:
    own = [Node(token(i, c, p), True) for i, (c, p) in enumerate(zip("abcd", HALF, strict=True))]
    other = [Node(token(i, c, 0.5), True) for i, c in enumerate("abcd")]
    screen = ModelComparisonScreen(
        Reading("one", own, 50), Reading("some/two", other, 50), divergence
    )
    app = Page([])
    async with app.run_test(size=(120, 30)) as pilot:
        await app.push_screen(screen)
        await pilot.pause()
        views = list(screen.query(TokenView))
        assert [view.caption for view in views] == ["one", "some/two"]
        if divergence:
            assert [view._scale.is_signed for view in views] == [False, False]
            assert views[0]._scale.heat(own[2].step) > 0
            await pilot.press("c")  # both texts change
        for view, nodes in zip(views, (own, other), strict=True):
            assert (view.border_title or "").startswith(view.caption)
            assert view._scale.is_signed and view._scale.ends == ("two", "one")
            heats = [view._scale.heat(node.step) for node in nodes]
            assert heats[0] == heats[1] == 0
            assert heats[2] > 0 > heats[3]
            assert "bits" in Content.from_markup(view.border_subtitle or "").plain


def test_a_special_token_shows_its_name_and_nothing_that_moves_the_cursor() -> None:
    named = Node(Step(0, 5, b"", "", name="<|end|>\x1b[2J"), is_prompt=False)
    assert "<|end|>" in shown_text(named) and "\x1b" not in shown_text(named)
    assert shown_text(Node(Step(0, 5, b"", ""), is_prompt=False)) == "<5>"
