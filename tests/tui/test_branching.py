"""Branches, bookmarks, the waterfall and colours, by the keys that a person has for them."""

from __future__ import annotations

import math

import pytest
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Tree

from gpt.interpret.answers import Row, Waterfall
from gpt.step import Candidate
from tests.tui.fake import FakeBackend, app_with, main_screen, running, token
from tests.tui.test_app import complaints, until_written, write
from tui.backend import BackendError
from tui.heat import FORKS, SCALES, STEPS
from tui.screens.main import MainScreen
from tui.screens.paths import PathsScreen
from tui.widgets.dial import Dial, Words
from tui.widgets.replacement import Replacement
from tui.widgets.token_view import TokenView
from tui.widgets.waterfall import WaterfallTable, as_drawn


async def at(pilot: Pilot[None], screen: MainScreen, index: int) -> TokenView:
    """The token with this index selected, and the keys going to the text."""
    view = screen.query_one(TokenView)
    view.focus()
    await pilot.pause()
    view.action_select(index)
    await pilot.pause()
    return view


async def test_a_candidate_takes_the_place_of_a_token_and_the_model_goes_on() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        backend.reply = "!"
        candidate = screen.document.path[3].step.candidates[1]
        await pilot.press("2")
        await until_written(pilot, screen)
        request = backend.requests[-1]
        assert request.ids == [*map(ord, "abh"), candidate.token_id]
        assert (request.text, request.new_ids) == ("", 1)
        assert screen.document.ids == [*map(ord, "abh"), candidate.token_id, ord("!")]
        assert [node.is_prompt for node in screen.document.path[2:]] == [False, True, False]
        assert screen.document.branches(3) == 2
        await at(pilot, screen, 3)
        await pilot.press("9")
        assert complaints(app)[-1] == "This token has 2 candidates."


async def test_a_candidate_that_is_not_on_the_screen_is_not_taken() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app, (60, 20)) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        node = screen.document.path[3]
        many = [Candidate(i, b"x", -float(i), None) for i in range(1, 10)]
        node.step = node.step._replace(candidates=tuple(many))
        screen.show_token()
        await pilot.pause()
        hidden = str(max(screen.inspector.numbers) + 1)
        await pilot.press(hidden)
        said = f"Candidate {hidden} is not on the screen: a taller window shows more."
        assert complaints(app)[-1] == said and len(backend.requests) == 1
        await pilot.resize_terminal(60, 40)
        await pilot.press(hidden)
        await until_written(pilot, screen)
        assert len(backend.requests) == 2


async def test_something_else_in_the_place_of_a_token_of_the_prompt() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 1)
        await pilot.press("i", *"xy", "enter")
        await until_written(pilot, screen)
        assert screen.document.text == "axyhello"
        await at(pilot, screen, 1)
        await pilot.press("right_square_bracket")
        assert screen.document.text == "abchello"
        await pilot.press("left_square_bracket")
        assert screen.document.text == "axyhello"
        await at(pilot, screen, 0)
        await pilot.press("i", *"no", "escape")
        assert screen.document.text == "axyhello"


async def test_the_candidate_that_is_in_the_text_already_stays_and_the_rest_is_new() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        first = screen.document.path[2]
        assert first.step.candidates[0].token_id == first.step.token_id
        await at(pilot, screen, 2)
        backend.reply = "oy"
        await pilot.press("1")
        await until_written(pilot, screen)
        assert screen.document.text == "abhoy"
        assert screen.document.path[2] is first and not first.is_prompt
        assert screen.document.branches(2) == 1 and screen.document.branches(3) == 2


async def test_all_selected_tokens_are_replaced() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abcd")
        await at(pilot, screen, 1)
        await pilot.press("shift+right", "i")
        field = screen.query_one(Replacement)
        assert (field.value, field.selected_text) == ("bc", "bc")
        await pilot.press(*"xy", "enter")
        await until_written(pilot, screen)
        assert screen.document.text == "axyhello"
        assert backend.requests[-1].ids == [ord("a")]
        await pilot.press("right_square_bracket")
        assert screen.document.text == "abcdhello"


async def test_a_change_in_the_middle_keeps_the_rest_which_the_model_reads_again() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        screen.query_one("#branches", Dial).value = "4"
        await at(pilot, screen, 1)
        await pilot.press("I")
        assert "keep the rest" in str(screen.query_one(Replacement).border_subtitle)
        await pilot.press("x", "enter")
        await until_written(pilot, screen)
        assert screen.document.text == "axchello"
        request = backend.requests[-1]
        assert (request.ids, request.text) == ([ord("a")], "xchello")
        assert (request.max_new_tokens, request.branches) == (0, 1)
        # Nothing of it was drawn, and the old text is as it was.
        assert all(node.sampling is None for node in screen.document.path)
        await at(pilot, screen, 1)
        await pilot.press("right_square_bracket")
        assert screen.document.text == "abchello" and screen.document.path[4].sampling


async def test_special_tokens_after_a_change_stay_special_tokens() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        last = screen.document.path[-1]
        last.step = last.step._replace(name="<end>", text="", bytes=b"")
        assert screen.session.loaded
        screen.session.loaded = screen.session.loaded._replace(special_tokens={"<end>": 7})
        await at(pilot, screen, 0)
        await pilot.press("I", "x", "enter")
        await until_written(pilot, screen)
        assert backend.requests[-1].segments == ("xbhell", 7)


async def test_a_change_that_cannot_be_read_is_not_lost() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        screen.query_one("#temperature", Dial).value = "hot"
        await at(pilot, screen, 1)
        await pilot.press("I", *"xy", "enter")
        assert "hot" in complaints(app)[-1]
        assert screen.query_one(Replacement).value == "xy"
        assert screen.document.text == "abchello"


async def test_z_goes_back_to_the_text_before_the_latest_step_and_forth_again() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 1)
        await pilot.press("i", "x", "enter")
        await until_written(pilot, screen)
        for text in ("abchello", "axhello", "abchello"):
            await pilot.press("z")
            await pilot.pause()
            assert screen.document.text == text and screen.view.index == 1
        assert screen.document.branch_count == 2
        await pilot.press("end", "delete", "z")  # the deletion is the latest step
        await pilot.pause()
        assert screen.document.text == "abchello" and complaints(app)[-1] == "Restored"
        await pilot.press("z")
        assert complaints(app)[-1].startswith("There is nothing to undo")
        await pilot.press("end", "delete", "r")  # a step after a deletion: first it, then that
        await until_written(pilot, screen)
        await pilot.press("z")
        assert complaints(app)[-1] == "The text before; z again restores what was deleted."
        await pilot.press("z")
        await pilot.pause()
        assert screen.document.text == "abchello" and complaints(app)[-1] == "Restored"
        await pilot.press("r")
        await until_written(pilot, screen)
        screen.session.left = screen.document.path[-1]  # a run that wrote nothing
        assert screen.refusal("undo", ())
        screen.session.begin()
        assert not screen.refusal("write", ()) and screen.refusal("undo", ())


async def test_only_the_selected_tokens_are_taken_out_or_banned() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 1)
        await pilot.press("shift+right", "x")
        assert screen.query_one("#banned", Words).items == ['"bc"']
        await pilot.press("x")
        assert not screen.query_one("#banned", Words).items
        await pilot.press("delete")
        await until_written(pilot, screen)
        assert screen.document.text == "ahello" and screen.document.branch_count == 2
        assert "2 tokens taken out; z goes back." in complaints(app)
        await pilot.press("z")
        await pilot.pause()
        assert screen.document.text == "abchello"
        await at(pilot, screen, 5)
        await pilot.press("shift+end", "delete")
        await pilot.pause()
        assert screen.document.text == "abche"
        assert complaints(app)[-1] == "Deleted 3 tokens, to the end; z restores them."


async def test_a_deleted_branch_comes_back() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 4)
        await pilot.press("delete")
        assert screen.document.text == "abhe"
        await pilot.press("z")
        assert screen.document.text == "abhello"
        await pilot.press("z")
        assert complaints(app)[-1] == "There is nothing to undo; Del deletes from a token on."
        await at(pilot, screen, 0)
        await pilot.press("delete")
        assert screen.document.text == ""
        assert screen.query_one(TokenView).index is None
        await pilot.press("delete", "z")
        assert screen.document.text == "abhello"


async def test_bookmarks_are_found_in_any_branch() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        view = await at(pilot, screen, 5)
        await pilot.press("b")
        assert "no bookmark" in complaints(app)[-1]
        await pilot.press("m")
        marked = screen.document.path[5]
        assert marked.is_marked
        await at(pilot, screen, 1)
        assert any(s.style and s.style.underline2 for s in view.render_line(0))
        backend.reply = "??"
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        assert screen.document.text == "ab??"
        await at(pilot, screen, 0)
        await pilot.press("b")
        assert screen.document.text == "abhello"
        assert screen.document.path[view.index or 0] is marked
        await pilot.press("m")
        assert not marked.is_marked


async def test_several_branches_at_once_differ_by_their_dice() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend, seed=7)
    async with running(app) as pilot:
        screen = main_screen(app)
        screen.query_one("#branches", Dial).value = "3"
        await write(pilot, app, "ab")
        ends = [branch.end for branch in screen.document.all_branches()]
        assert [end.sampling and end.sampling.seed for end in ends] == [7, 8, 9]
        assert screen.document.text == "abhello"
        screen.query_one("#branches", Dial).value = "0"
        await write(pilot, app, "c")
        assert complaints(app)[-1] == "Branches is 0; it must be a whole number from 1 to 64"


async def test_the_waterfall_follows_the_token_and_the_settings() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend, seed=5)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        assert not backend.asked
        await at(pilot, screen, 3)
        await pilot.press("f2")
        await pilot.pause()
        table = screen.query_one(WaterfallTable)
        ids, chosen, sampling = backend.asked[-1]
        assert (ids, chosen) == ([*map(ord, "abh")], ord("e"))
        assert (sampling.temperature, sampling.seed) == (0.8, 5)
        shown = str(table.render())
        assert "model" in shown and "top-k" in shown and "45.0 %" in shown
        assert "✕ gone" in shown and "48 more" in shown and "55.0 %" in shown
        subtitle = Content.from_markup(str(table.border_subtitle)).plain
        assert subtitle.endswith("picked by this random seed: e")
        screen.query_one("#temperature", Dial).value = "1.5"
        await pilot.pause()
        assert backend.asked[-1][2].temperature == 1.5
        before = len(backend.asked)
        screen.query_one("#temperature", Dial).value = ""
        await pilot.pause()
        assert len(backend.asked) == before  # half a number
        await at(pilot, screen, 0)
        assert "nothing to predict it from" in str(table.render())
        backend.error = BackendError("[bold]broken\x1b[31m")
        screen.query_one("#temperature", Dial).value = "1"
        await at(pilot, screen, 2)
        await pilot.pause()
        assert "broken" in complaints(app)[-1] and "\x1b" not in complaints(app)[-1]
        assert "No answer; select the token again" in str(table.render())
        await pilot.press("f2")
        assert not table.display


async def test_the_waterfall_says_why_it_is_empty() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        backend.go_on.clear()
        await pilot.press("a", "enter", "f2")
        screen = main_screen(app)
        table = screen.query_one(WaterfallTable)
        while not screen.document.path or not table.display:
            await pilot.pause()
        assert str(table.render()) == "The model is still at work"
        backend.go_on.set()
        await until_written(pilot, screen)
        table.found = Waterfall(
            1, ("model",), (Row(2, b"", (0.1,), None),), 49_142, (0.9,), (9,), 2
        )
        table.names = {2: "<|end|>"}
        assert "<|end|>" in str(table.render()) and "49,142 more" in str(table.render())
        stages = ("model", *(f"stage {i}" for i in range(20)))
        ones = (1.0,) * len(stages)
        table.found = Waterfall(1, stages, (Row(2, b"", ones, None),), 0, ones, (9,) * 21, 2)
        heading = str(table.render()).splitlines()[0]
        first, _, rest = heading.partition("…")
        assert first.split() == ["model"] and rest.endswith("stage 19")
        assert not rest.startswith("stage 0"), "others are hidden before it"


async def test_an_empty_seed_keeps_the_dice_of_the_last_run_in_the_waterfall() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        await pilot.press("f2", "left", "left")
        await pilot.pause()
        seeds = {sampling.seed for *_, sampling in backend.asked}
        assert seeds == {backend.requests[-1].sampling.seed}


async def test_colours_can_mean_something_else_and_say_so() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        view = await at(pilot, screen, 0)
        titles = []
        for _ in SCALES:
            titles.append(view.border_title)
            await pilot.press("c")
        assert titles == [scale.title for scale in SCALES]
        assert view.border_title == SCALES[0].title


@pytest.mark.parametrize("scale", SCALES, ids=lambda scale: scale.title)
def test_every_scale_begins_uncoloured_and_rises(scale: object) -> None:
    levels = list(scale.legend.values())  # type: ignore[attr-defined]
    assert levels[len(levels) // 2 if scale.is_signed else 0] == 0  # type: ignore[attr-defined]
    assert levels == sorted(set(levels))
    assert max(map(abs, levels)) < STEPS


async def test_forks_are_found_in_both_directions() -> None:
    app = app_with(FakeBackend("a" * 30))  # 0.9 / i: the 19th and later are under 5 %
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        view = await at(pilot, screen, 0)
        await pilot.press("s")
        assert view.index == 2 + 17
        await pilot.press("s", "s")
        assert view.index == 2 + 19
        await pilot.press("S")
        assert view.index == 2 + 18
        await pilot.press("u")
        assert view.index == 2 + 19  # every token of the fake is as uncertain
        await pilot.press("o")
        assert view.index == 2 + 19
        assert "No token that was not the first choice after this one." in complaints(app)[-1]


def test_what_counts_as_a_fork() -> None:
    uncertain, other, surprised = FORKS.values()
    assert uncertain(token(0, "a"))  # 1.5 nats
    assert not other(token(0, "a"))
    assert surprised(token(0, "a", 0.05)) and not surprised(token(0, "a", 0.06))


async def test_a_likely_path_is_taken_up_to_any_token() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 3)
        await pilot.press("p")
        while not isinstance(app.screen, PathsScreen):
            await pilot.pause()
        await pilot.pause()
        assert backend.asked_paths == [[*map(ord, "abhe")]]
        tree: Tree[list[int]] = app.screen.query_one(Tree)
        first, second = tree.root.children
        assert str(first.label) == "x  60.7 %" and str(second.label) == "[  13.5 %"
        y = str(first.children[0].label)
        assert y == "y  36.8 %  total 22.3 %"
        assert len(first.children) == 2
        tree.move_cursor(first.children[1])
        await pilot.press("enter")
        await until_written(pilot, screen)
        assert screen.document.text == "abhexz"
        request = backend.requests[-1]
        assert (request.new_ids, request.max_new_tokens) == (2, 0)
        assert screen.document.branches(4) == 2
        backend.error = BackendError("no")
        await at(pilot, screen, 3)
        await pilot.press("p")
        await pilot.pause()
        assert complaints(app)[-1] == "No"


def test_rounding_leaves_no_probability_to_tokens_that_are_gone() -> None:
    step = token(3, "e", 0.4)  # its candidates are e with 40 % and x with 10 %
    e = Row(ord("e"), b"e", (0.401, 0.8), None)
    x = Row(1, b"x", (0.1, 0.2), None)
    found = Waterfall(3, ("model", "top_k"), (e, x), 48, (0.499, 0.0), (50, 2), ord("e"))
    after = step.candidates[0]._replace(sampling_logprob=math.log(0.7995))
    step = step._replace(candidates=(after, step.candidates[1]), sampling_logprob=math.log(0.7995))
    agreed = as_drawn(found, step, 0, same_settings=True)
    assert agreed.rows[0].probabilities == pytest.approx((0.4, 0.7995))
    assert agreed.rest == pytest.approx((0.5, 0.0), abs=1e-9)
