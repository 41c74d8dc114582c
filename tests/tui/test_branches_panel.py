"""The panel of branches, by keys and by mouse."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Static

from gpt.interventions import Edge, Knockout
from tests.tui.fake import FakeBackend, app_with, main_screen, running, token
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tests.tui.test_keeping import until_saved
from tui import store
from tui.app import GPTApp
from tui.backend import Completion, Event, Steps
from tui.screens.comparison import ComparisonScreen
from tui.screens.main import MainScreen
from tui.widgets.branch_rows import BranchRows
from tui.widgets.branches import Branches
from tui.widgets.dial import Dial
from tui.widgets.token_view import TokenView

WIDE = (120, 40)


@asynccontextmanager
async def forked(
    size: tuple[int, int] = WIDE,
) -> AsyncIterator[tuple[GPTApp, Pilot[None], MainScreen]]:
    """ "[b]" with the branches "hello" and "??"; the second one is shown, the panel focused."""
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app, size) as pilot:
        screen = await write(pilot, app, "[b]")
        backend.reply = "??"
        await at(pilot, screen, 2)
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        screen.query_one(TokenView).focus()
        await pilot.press("t")
        await pilot.pause()
        yield app, pilot, screen


def lines(app: GPTApp) -> list[str]:
    """What the panel draws."""
    view = main_screen(app).query_one(BranchRows)
    return [view.render_line(y).text.rstrip() for y in range(len(view._rows))]


async def test_the_panel_shows_every_branch_and_leads_there() -> None:
    async with forked() as (app, pilot, screen):
        view = screen.query_one(BranchRows)
        assert view.has_focus and view.cursor == 2
        assert [line.split("  ")[0] for line in lines(app)] == ["[b]", "├ [b]hello", "└ [b]??"]
        assert lines(app)[1].endswith("5 · 1.53 bits")
        await pilot.press("up", "enter")
        await pilot.pause()
        assert screen.document.text == "[b]hello"
        assert screen.query_one(TokenView).index == 3 and screen.query_one(TokenView).has_focus
        await pilot.press("t", "left")
        assert view.cursor == 0
        await pilot.press("end")
        assert view.cursor == 2
        await pilot.press("escape")
        assert screen.query_one(TokenView).has_focus
        assert screen.document.text == "[b]hello"


async def test_the_panel_opens_on_the_branch_of_the_text_each_time() -> None:
    async with forked((80, 24)) as (_, pilot, screen):
        view = screen.query_one(BranchRows)
        await pilot.press("escape", "left_square_bracket", "t")
        await pilot.pause()
        assert view.row and view.row.text == "hello" and screen.document.text == "[b]hello"
        await pilot.press("home", "escape", "right_square_bracket", "t")
        await pilot.pause()
        assert view.row and view.row.text == "??" and screen.document.text == "[b]??"


async def test_a_branch_says_what_was_changed_inside_the_network() -> None:
    async with forked() as (app, pilot, screen):
        assert "off" not in "".join(lines(app))
        off = Knockout(part="mlp", layer=2)
        screen.document.changes = (off,)
        await at(pilot, screen, 2)
        screen.session.backend.reply = "yes"  # type: ignore[attr-defined]
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        screen.query_one(TokenView).focus()
        await pilot.press("t")
        await pilot.pause()
        assert lines(app)[3].endswith(" layer 2 MLP off · 3 · 1.01 bits")
        await pilot.press("escape")
        screen.document.changes = (off, Knockout(part="mlp", layer=3), Edge(source=0))
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        screen.query_one(TokenView).focus()
        await pilot.press("t", "end")
        await pilot.pause()
        shown = lines(app)
        assert shown[0].endswith(" 3 · 1.00 bits") and "off" not in shown[1]
        assert shown[3].endswith("  changed inside")  # there is no room for all of it
        said = " ".join(str(screen.query_one(Branches).preview.render()).split())
        assert "6 tokens, 1.01 bits each on average; 3 with layer 2 MLP muted; 3 with " in said


async def test_a_star_a_name_and_a_note_are_kept_on_the_disk() -> None:
    async with forked() as (app, pilot, screen):
        await pilot.press("s", "n", *"my [b]", "enter", "o", *"so so", "enter")
        await pilot.pause()
        remark = screen.document.remark
        assert (remark.is_starred, remark.name, remark.note) == (True, "my [b]", "so so")
        assert lines(app)[2].startswith("└ ★ my [b]: [b]??")
        assert screen.query_one(BranchRows).has_focus
        assert "so so" in str(screen.query_one("#preview").render())
        await pilot.press("n", *"xyz", "escape")
        assert screen.document.remark.name == "my [b]"
        assert not screen.query_one(Branches).field.display
        await pilot.press("s")
        assert not screen.document.remark.is_starred
        (entry,) = await until_saved(pilot, 1)
        for _ in range(500):
            if (kept := store.load(entry.path)[0].remark) == screen.document.remark:
                break
            await pilot.pause(0.01)
        assert kept == screen.document.remark and kept.note == "so so"
        screen.query_one(TokenView).focus()
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        assert screen.document.remark.name == "my [b]"  # the same branch, longer


async def test_only_a_branch_that_ends_gets_a_name_and_the_panel_says_so() -> None:
    async with forked() as (app, pilot, screen):
        for key in ("s", "n", "o"):
            await pilot.press("home", key)
            assert complaints(app)[-1].startswith("Several branches continue from here")
        assert not screen.query_one(Branches).field.display
        assert all(not branch.remark.name for branch in screen.document.all_branches())


async def test_another_branch_is_deleted_and_the_text_stays() -> None:
    async with forked() as (app, pilot, screen):
        await pilot.press("up", "s", "delete")
        await pilot.pause()
        assert screen.document.text == "[b]??" and screen.document.branch_count == 1
        screen.query_one(TokenView).focus()
        await pilot.press("z")
        assert screen.document.text == "[b]??" and screen.document.branch_count == 2
        assert any(branch.remark.is_starred for branch in screen.document.all_branches())
        assert complaints(app)[-1].startswith("Restored in Branches")
        await pilot.press("t", "home", "delete")
        await pilot.pause()
        assert screen.document.text == ""
        await pilot.press("delete", "enter")
        assert screen.document.branch_count == 0


async def test_two_branches_stand_side_by_side() -> None:
    async with forked() as (app, pilot, screen):
        await pilot.press("d")
        assert "This branch is on the screen" in complaints(app)[-1]
        await pilot.press("up", "n", *"one", "enter", "d")
        await pilot.pause()
        assert isinstance(app.screen, ComparisonScreen)
        titles = [str(view.border_title) for view in app.screen.query(TokenView)]
        assert titles[0].startswith("Branch 2, on the screen")
        assert titles[1].startswith("one")
        _, measured = str(app.screen.query_one(Static).render()).split("\n")
        assert measured == (
            "The continuations: perplexity 1.57 (2 tokens) and perplexity 2.89 (5 tokens)"
        )
        await pilot.press("escape")
        assert screen.document.text == "[b]??"


async def test_branches_say_what_was_changed_where_they_come_from() -> None:
    async with forked() as (app, pilot, screen):
        screen.document.path[-1].changes = (Knockout(part="mlp", layer=1),)
        await pilot.press("up", "d")
        await pilot.pause()
        titles = [str(view.border_title) for view in app.screen.query(TokenView)]
        last = len(screen.document.path) - 1
        assert titles[0].startswith(f"Branch 2, on the screen, layer 1 MLP off in token {last}")
        assert "off" not in titles[1]
        assert "from 2 networks" in str(app.screen.query_one(Static).render())
        await pilot.press("escape")
        begin = len("[b]")
        screen.document.path[begin].changes = (Knockout(part="mlp", layer=1),)
        await pilot.press("d")
        await pilot.pause()
        said = str(app.screen.query_one(Static).render())
        assert "inside: layer 1 MLP muted → whole network" in said


async def test_the_mouse_does_the_same() -> None:
    async with forked() as (app, pilot, screen):
        await pilot.click(BranchRows, offset=(4, 1))
        await pilot.pause()
        assert screen.document.text == "[b]hello"
        panel = screen.query_one(Branches)
        hints = Content.from_markup(str(panel.border_subtitle)).plain
        row, right = panel.region.bottom - 1, panel.region.right - 2
        await pilot.click(offset=(right - len(hints) - 1 + hints.index("star") + 1, row))
        await pilot.pause()
        assert screen.document.remark.is_starred
        await pilot.click(offset=(right - len(hints) - 1 + hints.index("name") + 1, row))
        await pilot.pause()
        assert panel.field.display and app.focused is panel.field


async def test_nothing_happens_while_the_model_writes_but_a_reason_is_said() -> None:
    async with forked() as (app, pilot, screen):
        backend = screen.session.backend
        assert isinstance(backend, FakeBackend)
        backend.go_on.clear()
        backend.reply = "more"
        screen.write()
        await pilot.pause()
        for key in ("up", "enter", "delete", "d"):
            await pilot.press(key)
            await pilot.pause()
            if key != "up":
                assert "still at work" in complaints(app)[-1]
        assert screen.document.branch_count == 2
        backend.go_on.set()
        await until_written(pilot, screen)


async def test_it_fits_where_there_is_little_room() -> None:
    async with forked((60, 20)) as (app, pilot, screen):
        view = screen.query_one(BranchRows)
        assert view.size.height >= 3
        assert lines(app)[2].startswith("└ [b]??")
        await pilot.press("n", *"name")
        field = screen.query_one(Branches).field
        assert field.region.height == 1 and screen.region.contains_region(field.region)


def test_a_row_never_is_wider_than_its_panel() -> None:
    from rich.cells import cell_len
    from rich.style import Style

    from tests.tui.test_document import tokens
    from tui.document import Document
    from tui.outline import rows

    document = Document()
    for i in range(40):
        document.append(tokens(i % 7, i % 5), is_prompt=False)
        document.cut(len(document.path) - 1)
    view = BranchRows()
    view.get_component_rich_style = lambda *_, **__: Style()  # type: ignore[method-assign]
    off = (Knockout(part="mlp", layer=2),)
    for row in rows(document):
        for each in row, row._replace(inside={off: 1}):
            for width in (1, 5, 9, 20, 44, 100):
                drawn = view._segments(each, width, is_here=False, base=Style())
                assert sum(cell_len(part.text) for part in drawn) == width
                is_said = any("layer 2 MLP off" in part.text for part in drawn)
                assert is_said == (bool(each.inside) and width >= 44)


class Paused(FakeBackend):
    """Waits before the token at position 5 of the first branch."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.resume = asyncio.Event()

    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        async for event in super().complete(request):
            if isinstance(event, Steps) and event.branch == 0 and event.steps[-1].position == 5:
                await self.resume.wait()
            yield event


@asynccontextmanager
async def growing() -> AsyncIterator[tuple[GPTApp, Pilot[None], MainScreen, Paused]]:
    """Three branches after "ab", paused after three tokens of each; the panel is focused."""
    backend = Paused("hello")
    app = app_with(backend)
    async with running(app, WIDE) as pilot:
        screen = main_screen(app)
        screen.query_one("#branches", Dial).value = "3"
        assert screen.write("ab")
        while len(screen.session.growing) < 3 or len(screen.document.path) < 5:
            await pilot.pause()
        screen.query_one(TokenView).focus()
        await pilot.press("t")
        await pilot.pause()
        yield app, pilot, screen, backend
        backend.resume.set()


def hints(screen: MainScreen) -> str:
    """The keys in the border of the panel."""
    return str(screen.query_one(Branches).border_subtitle)


async def test_branches_grow_side_by_side_and_one_is_stopped_alone() -> None:
    async with growing() as (app, pilot, screen, backend):
        assert [line.split("  ")[0] for line in lines(app)] == ["ab", "├ hel", "├ ifm", "└ jgn"]
        assert screen.document.text == "abhel"
        await pilot.press("home")
        await pilot.pause()
        assert "x stop" not in hints(screen)
        await pilot.press("x")
        await pilot.pause()
        assert not backend.stopped
        await pilot.press("down", "down")
        await pilot.pause()
        assert "x stop this branch" in hints(screen)
        await pilot.press("x")
        assert backend.stopped == {1}
        backend.resume.set()
        await until_written(pilot, screen)
        await pilot.pause()
        found = [line.split("  ")[0] for line in lines(app)]
        assert found == ["ab", "├ abhello", "├ abifmm", "└ abjgnnq"]
        assert "x stop" not in hints(screen) and "s star" in hints(screen)


async def test_escape_stops_all_branches() -> None:
    async with growing() as (app, pilot, screen, backend):
        await pilot.press("escape")
        backend.resume.set()
        await until_written(pilot, screen)
        await pilot.pause()
        assert backend.cancelled and not screen.session.growing
        found = [line.split("  ")[0] for line in lines(app)]
        assert found == ["ab", "├ abhell", "├ abifmm", "└ abjgnn"]


async def test_a_growing_row_shows_its_newest_words() -> None:
    async with growing() as (_, pilot, screen, backend):
        view = screen.query_one(BranchRows)
        tip = screen.session.growing[2]
        screen.document.append(
            [token(5 + i, c) for i, c in enumerate("0123456789" * 9)], is_prompt=False, after=tip
        )
        end = screen.document.branch(tip)[-1]
        screen.query_one(Branches).show(screen.document, None, {end})
        await pilot.pause()
        row = view.render_line(3).text
        assert row.startswith("└ …") and "6789 " in row
        backend.resume.set()
