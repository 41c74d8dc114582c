"""What if, presets, bans, help, copying and search, by the keys that a person has."""

from __future__ import annotations

import pytest
from textual.content import Content
from textual.events import MouseMove
from textual.widgets import Input, Label

from gpt.settings import Sampling
from gpt.step import Step
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tui.backend import BackendError
from tui.dials import PRESETS
from tui.labels import boxes
from tui.measure import find
from tui.screens.help import HelpScreen
from tui.screens.main import MainScreen
from tui.screens.texts import Question
from tui.widgets.dial import Dial, Words, item_of
from tui.widgets.layers import LayersPanel
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView


async def test_a_preset_turns_all_dials() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = main_screen(app)
        assert screen.controls
        assert screen.controls.preset == "balanced"
        for index, (name, preset) in enumerate(PRESETS.items()):
            await pilot.press("f9", "home", *["down"] * index, "enter")
            await pilot.pause()
            assert screen.controls.preset == name
            settings = {**Sampling().to_dict(), **preset.values}
            sampling = screen.controls.sampling(new_seed=False).to_dict()
            assert sampling | {"seed": 0} == settings | {"seed": 0}
            assert name in str(screen.controls.border_subtitle)
        screen.query_one("#top_k", Dial).value = "3"
        await pilot.pause()
        assert screen.controls.preset is None
        await pilot.press("f9", "escape")
        assert screen.controls.preset is None


async def test_a_token_is_banned_and_allowed_again() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 2)
        await pilot.press("x", "right", "x")
        assert complaints(app)[-1] == 'Banned "e", in this and other texts'
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        assert backend.requests[-1].sampling.banned == ((ord("h"),), (ord("e"),))
        await at(pilot, screen, 2)
        await pilot.press("x")
        assert complaints(app)[-1] == 'Allowed "h"'
        assert screen.query_one("#banned", Input).value == '"e"'
        await pilot.press("+", "ctrl+n")
        assert complaints(app)[-1] == "Sampling settings stay: 1 banned, 1 boosted"
        await write(pilot, app, "c")
        assert list(backend.requests[-1].sampling.banned) == [(ord("e"),)]
        for name in "banned", "boosted":
            screen.query_one(f"#{name}", Input).value = ""
        app.clear_notifications()
        await pilot.press("ctrl+n")
        assert not complaints(app)


async def test_a_token_that_its_text_does_not_name_is_banned_by_its_id() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        step = screen.document.path[2].step
        for data, item in ((b"\xff", "#104"), ("·".encode(), "#104"), (b" a\n", '" a\\n"')):
            assert item_of(step._replace(bytes=data)) == item
        assert item_of(step._replace(name="<|end|>")) == "#104"
        screen.document.path[2].step = step._replace(bytes=b"he")  # the model cuts it into h, e
        await at(pilot, screen, 2)
        await pilot.press("x", "plus")
        while screen.query_one("#boosted", Input).value != "#104:1":
            await pilot.pause()
        assert screen.query_one("#banned", Input).value == "#104"
        assert complaints(app)[-1] == 'Boosted "he" by +1 nats; it stays banned (x)'


async def test_another_model_reads_banned_texts_anew_and_ids_are_named() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 2)
        await pilot.press("x")
        screen.query_one("#boosted", Input).value = "#7:2"
        await pilot.pause()
        assert screen.session.loaded and screen.controls
        screen.session.loaded = screen.session.loaded._replace(name="other")
        screen.show_model()
        await pilot.pause()
        said = "#7 in the settings may be another token of this model."
        assert complaints(app)[-1] == said
        assert screen.controls.sampling().banned == ((ord("h"),),)


async def test_a_space_that_a_person_typed_before_a_word_stays() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        controls = screen.controls
        assert controls
        assert "words" not in str(controls.border_subtitle)
        banned = screen.query_one("#banned", Input)
        screen.panels.chosen = "sampling"
        await pilot.pause()
        banned.focus()
        await pilot.press(*" the ", "space", *"a")
        assert banned.value == "·the ·a"  # seen, and as it acts
        await at(pilot, screen, 2)
        await pilot.press("x")
        assert banned.value == '·the ·a "h"'
        await pilot.pause()
        assert Content.from_markup(str(controls.border_subtitle)).plain.endswith(
            " · balanced + 3 banned ▾"
        )
        assert controls.preset == "balanced"
        await pilot.press("x", "plus")
        await pilot.pause()
        assert banned.value == "·the ·a"
        said = Content.from_markup(str(controls.border_subtitle)).plain
        assert said.endswith("balanced + 2 banned + 1 boosted ▾")


@pytest.mark.parametrize(
    ("typed", "shown"),
    [("king", "king"), (" king", "·king"), ("a b", "a b"), ("a  b", "a ·b"), ("a  ", "a  ")],
)
def test_the_field_shows_the_space_that_belongs_to_a_word(typed: str, shown: str) -> None:
    assert Words().validate_value(typed) == shown


async def test_what_is_typed_into_the_words_comes_after_those_that_are_there() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 2)
        await pilot.press("x")
        screen.panels.chosen = "sampling"
        await pilot.pause()
        screen.query_one("#banned", Words).focus()
        await pilot.pause()
        await pilot.press("space", *"king")
        assert screen.query_one("#banned", Words).value == '"h" king'


async def test_words_are_banned_and_boosted_as_the_model_cuts_them() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        banned, boosted = screen.query_one("#banned", Input), screen.query_one("#boosted", Input)
        banned.value, boosted.value = "no ·so", "yes:-1.5"
        await pilot.pause()
        await at(pilot, screen, 2)
        answers = (("h", "+1"), ("h", "+2"), ("e", "-1"))
        for keys, (name, nats) in zip(
            (["plus"], ["plus"], ["right", "minus"]), answers, strict=True
        ):
            await pilot.press(*keys)
            await pilot.pause()
            assert complaints(app) == [f'Boosted "{name}" by {nats} nats']  # they do not pile up
        assert boosted.value == 'yes:-1.5 "h":2 "e":-1'
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        sampling = backend.requests[-1].sampling
        assert sampling.banned == (tuple(map(ord, "no")), tuple(map(ord, " so")))
        word = tuple(map(ord, "yes"))
        assert sampling.boosted == ((word, -1.5), ((ord("h"),), 2.0), ((ord("e"),), -1.0))
        await at(pilot, screen, 3)
        await pilot.press("plus")
        assert boosted.value == 'yes:-1.5 "h":2'
        boosted.value = "yes:-1.5 never"
        await pilot.press("ctrl+g")
        assert "like king:2" in complaints(app)[-1]
        backend.error = BackendError("no\x1b such character")
        boosted.value, banned.value = "", "é"
        await pilot.pause()
        assert screen.controls
        problem = screen.controls.query_one("#problem", Label)
        assert str(problem.render()) == "é: no␛ such character"
        await pilot.press("ctrl+g")
        assert complaints(app)[-1] == "é: no␛ such character"
        backend.error = None
        banned.value = "é ok"  # the model answers again
        await pilot.pause()
        assert not str(problem.render())
        banned.value = "#50"  # the model has 50 tokens
        await pilot.pause()
        assert "there is no token 50" in str(problem.render())


async def test_help_comes_and_goes() -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        await pilot.press("f1")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("f1")
        await pilot.pause()
        assert main_screen(app)


async def test_the_text_goes_to_the_clipboard() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 2)
        await pilot.press("y")
        assert app.clipboard == "abhello"
        assert complaints(app)[-1] == "Copied 7 tokens"


async def test_a_selection_grows_and_shrinks_and_is_what_is_copied() -> None:
    app = app_with(FakeBackend("hello\nworld"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        view = await at(pilot, screen, 3)
        assert view.selection == range(0)

        def shown() -> list[str]:
            selected = view._palette.selected
            return [
                "".join(
                    segment.text for segment in view.render_line(y) if segment.style == selected
                )
                for y in range(2)
            ]

        await pilot.press("shift+right", "shift+right", "shift+left")
        assert (view.selection, shown()) == (range(3, 5), ["el", ""])
        await pilot.press("shift+down")
        assert shown()[0] == "ello⏎" and view.selection.start == 3
        await pilot.press("y")
        assert app.clipboard == "".join(screen.document.text[i] for i in view.selection)
        await pilot.press("shift+home", "ctrl+c")
        assert app.clipboard == "abhe" and view.selection == range(4)
        assert complaints(app)[-1] == "Copied 4 tokens"
        await pilot.press("shift+end")
        assert view.selection == range(3, 13)
        await pilot.press("left")
        assert view.selection == range(0)
        assert sum(map(len, shown())) == 1


async def test_the_mouse_selects_tokens() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        view = screen.query_one(TokenView)
        await pilot.mouse_down(view, offset=(3, 1))
        await pilot._post_mouse_events([MouseMove], view, offset=(5, 1), button=1)
        await pilot.mouse_up(view, offset=(5, 1))
        assert view.selection == range(1, 4)
        await pilot.hover(view, offset=(6, 1))
        assert view.selection == range(1, 4)
        await pilot.click(view, offset=(2, 1))
        assert view.selection == range(0) and view.index == 0


async def test_search_goes_round_in_both_directions() -> None:
    app = app_with(FakeBackend("hello hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        view = await at(pilot, screen, 0)
        await pilot.press("slash")
        assert isinstance(app.screen, Question)
        await pilot.press(*"LLO", "enter")
        await pilot.pause()
        assert isinstance(app.screen, MainScreen)
        places = [view.index]
        for key in ("n", "n", "N", "N"):
            await pilot.press(key)
            places.append(view.index)
        assert complaints(app)[-1].startswith("Match 1 of 2")
        assert view.selection == range(4, 7) if view.index == 4 else view.selection
        assert places == [4, 10, 4, 10, 4]
        await pilot.press("slash")
        app.screen.query_one(Input).value = "[zz]"
        await pilot.press("enter")
        await pilot.pause()
        assert complaints(app)[-1] == '"[zz]" is not in the text'


@pytest.mark.parametrize(
    ("wanted", "places"), [("ab", [0, 2]), ("b", [0, 2]), ("bA", [0]), ("q", []), ("É", [3])]
)
def test_matches_may_begin_inside_a_token_and_span_several(wanted: str, places: list[int]) -> None:
    steps = [Step(0, 0, t.encode(), t) for t in ("ab", "", "ab", "é")]
    assert find(steps, wanted) == places


async def test_what_is_written_is_shown_as_the_model_cuts_it() -> None:
    backend = FakeBackend()
    app = app_with(backend)
    async with running(app) as pilot:
        prompt = main_screen(app).query_one(Prompt)

        def title() -> str:
            return Content.from_markup(str(prompt.border_title)).plain

        await pilot.press(*"to [b]", "space")
        await pilot.pause()
        assert title() == "4 tokens: to · [b] ·"
        backend.error = BackendError("[bold]no\x1b such character")
        await pilot.press("x")
        await pilot.pause()
        assert title() == "[bold]no␛ such character"
        backend.error = None
        prompt.text = ""
        await pilot.pause()
        assert title() == ""


def test_a_space_at_the_end_is_warned_of_where_words_begin_with_one() -> None:
    assert "remove it" in boxes([b"to", b" "], joins_spaces=True).plain
    assert "remove it" not in boxes([b"to", b" "], joins_spaces=False).plain
    assert "remove it" not in boxes([b"to", b" be"], joins_spaces=True).plain
    assert boxes([b"a"] * 20, joins_spaces=True).plain == "20 tokens:…" + " a" * 12


async def test_a_prompt_that_does_not_fit_says_so_before_it_is_sent() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        assert screen.session.loaded
        screen.session.loaded = screen.session.loaded._replace(block_size=9)
        await pilot.press("c", "space", "d")
        await pilot.pause()
        said = "3 tokens are too many: the context has room for 2"
        assert said in str(screen.prompt.border_title)
        assert screen.controls
        screen.controls.slide = True
        await pilot.press("backspace", "d")
        await pilot.pause()
        assert str(screen.prompt.border_title).startswith("3 tokens: ")


async def test_every_layer_says_what_it_would_and_where_it_looks() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 0)
        await pilot.press("e")
        assert "no layer has seen" in complaints(app)[-1]
        view = await at(pilot, screen, 3)

        async def coloured(title: str, *keys: str) -> list[int]:
            """Press the keys; the heats of the first tokens once the text has this title."""
            await pilot.press(*keys)
            while view._scale.title != title:
                await pilot.pause()
            return [view._scale.heat(node.step) for node in screen.document.path[:4]]

        mean = await coloured("Attention of layer 1, mean of 2 heads", "e")
        assert mean[0] == mean[1] < mean[2] and mean[3] == 0
        panel = screen.query_one(LayersPanel)
        lines = [panel.render_line(y).text.split() for y in range(3)]
        assert lines[1][:2] == ["embedding", "e"] and lines[1][-3:] == ["4.98", "%", "7"]
        assert lines[2][:2] == ["▸output", "e"] and lines[2][-3:] == ["90.5", "%", "1"]
        last = await coloured("Attention of layer 1, head 2 of 2", "e", "left")
        assert last[:2] == [0, 0] and last[2] > mean[2]
        even = await coloured("Attention of layer 1, head 1 of 2", "left")
        assert even[0] == even[1] == even[2] > 0
        assert not any(await coloured("The embedding has no attention", "up"))
        # The panel follows the cursor and keeps what was chosen.
        await at(pilot, screen, 4)
        await coloured("Attention of layer 1, head 1 of 2", "e", "down")
        backend.error = BackendError("[b]gone")
        await at(pilot, screen, 2)
        while complaints(app)[-1:] != ["[b]gone"]:
            await pilot.pause()


async def test_the_text_is_coloured_by_the_influence_on_a_token() -> None:
    backend = FakeBackend("he[/b]")
    app = app_with(backend)
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        view = await at(pilot, screen, 4)
        await pilot.press("E")
        await pilot.pause()
        assert view._scale.title == 'Influence on "[" at 4'
        heats = [view._scale.heat(node.step) for node in screen.document.path]
        assert heats == [0, 1, 3, 5, 0, 0, 0, 0]
        await pilot.press("c")
        assert view._scale.title == "Text · colour: probability"
        await at(pilot, screen, 0)
        await pilot.press("E")
        assert "no earlier token could matter" in complaints(app)[-1]
