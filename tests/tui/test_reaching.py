"""The views that reach into the network: keys, numbers, layout, and one run of the real program."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from gpt.checkpoint import Checkpoint
from gpt.config import ModelConfig
from gpt.interpret.intervene import effect
from gpt.interpret.looks import Place as Point
from gpt.interpret.looks import Plane, Token
from gpt.interpret.mattered import mattered
from gpt.interpret.patch import patch_grid
from gpt.interpret.words import neighbours
from gpt.interventions import Edge, Knockout, Steer
from gpt.step import Candidate, Step
from tests.marks import slow_but
from tests.terminal import Terminal, needs_pty, terminals
from tests.tui import fake_reach
from tests.tui.fake import FakeBackend, main_screen
from tests.tui.fake_inside import CONFIG
from tests.tui.test_app import complaints, until_written
from tests.tui.test_inside import ALL_SIZES, TEXT, TINY_SIZES, drawn, inside, press, settled
from tests.tui.test_snapshots import picture
from tui.app import GPTApp
from tui.document import Node
from tui.inside.knockout import Columns, state_of, toggled
from tui.inside.numbers import signed
from tui.inside.patch import PatchView
from tui.inside.place import Answers, Place
from tui.inside.plot import plotted
from tui.inside.steer import texts_of
from tui.inside.tabs import digit, shown
from tui.inside.views import VIEWS
from tui.inside.wishes import Typed
from tui.inside.words import WordsView
from tui.labels import percent
from tui.screens.comparison import WhatIfScreen
from tui.screens.fields import FieldsScreen
from tui.screens.inside import InsideScreen
from tui.screens.main import MainScreen
from tui.widgets.effect import Effect
from tui.widgets.inspector import Inspector
from tui.widgets.status import Status
from tui.widgets.waterfall import WaterfallTable

WHO, MUTE, PATCH, STEER, WORDS = "6", "7", "8", "9", "0"
BEFORE = tuple(ord(c) for c in TEXT[:7])
WHOLE = tuple(ord(c) for c in TEXT + "hello")


async def type_in(pilot: Pilot[None], app: GPTApp, *texts: str) -> None:
    """Fill the fields of the window that is open, and finish."""
    await pilot.pause()
    assert isinstance(app.screen, FieldsScreen)
    for field, text in zip(app.screen.query(Input), texts, strict=True):
        field.value = text
    await pilot.press(*["enter"] * len(texts))
    for _ in range(3):
        await pilot.pause()


async def test_who_mattered_has_three_numbers_of_both_signs_for_each_token() -> None:
    async with inside(WHO) as (app, screen, pilot, backend):
        asked = [fields["measures"] for op, fields in backend.asked_inside if op == "mattered"]
        assert asked == [("gradient",), ("cut",), ("left out",)]  # the cheapest first
        assert backend.asked_inside[-1][1]["ids"] == BEFORE
        shown = drawn(app)
        assert "to·beb −1 +1.250 −2.500 +5.000" in shown
        assert "to·bebo 0 +1.500 – +6.000" in shown  # no edge from the last token to itself
        assert f"sum {signed(5.25, 3)} {signed(-7.5, 3)} {signed(21.0, 3)}" in shown
        heat = screen.around._scale.heat
        assert heat(screen.place.nodes[6].step) > heat(screen.place.nodes[2].step) > 0
        await press(pilot, "c", "c")
        assert "colour: cut" in drawn(app)
        assert screen.around._scale.heat(screen.place.nodes[5].step) < 0
        await press(pilot, "s")
        where = re.findall(r" (−[1-6]|0) [+]\d[.]", drawn(app))
        assert where == ["−6", "−5", "−4", "−3", "−2", "−1", "0"]


async def test_one_token_has_one_distance_everywhere() -> None:
    async with inside(WHO, size=(200, 60)) as (app, _, pilot, _):
        found = [re.findall(r"to·beb +(\S+) ", drawn(app))]
        await press(pilot, "2")  # the chosen head looks at the token before
        found.append(re.findall(r"to·beb +(\S+) ", drawn(app)))
        await press(pilot, "escape")
        while "looks at where weight" not in (shown := drawn(app)):
            await pilot.pause(0.02)
        found.append(re.findall(r"to·beb +(\S+) ", shown))
        assert found == [["−1"]] * 3


def test_a_switch_goes_off_to_its_mean_and_on_again() -> None:
    head, other = ("head", 2, 1), ("mlp", 1, None)
    once = toggled((), head)  # type: ignore[arg-type]
    assert once == (Knockout(part="head", layer=2, head=1),)
    both = toggled(once, other)  # type: ignore[arg-type]
    twice = toggled(both, head)  # type: ignore[arg-type]
    assert state_of(twice, head) == "mean" and state_of(twice, other) == "zero"  # type: ignore[arg-type]
    assert toggled(twice, head) == both[1:]  # type: ignore[arg-type]


async def test_parts_are_switches_and_the_text_shows_the_effect() -> None:
    async with inside(MUTE) as (app, screen, pilot, backend):
        assert not [op for op, _ in backend.asked_inside if op == "effect"]  # nothing is changed
        assert "nothing is changed" in drawn(app)
        await press(pilot, "up", "h", "h", "space", "H", "H", "down", "space", "space")
        changes = (
            Knockout(part="head", layer=2, head=1),
            Knockout(part="layer", layer=3, by="mean"),
        )
        assert screen.place.changes == changes
        asked = {"ids": WHOLE, "interventions": changes}
        assert ("effect", asked) in backend.asked_inside
        assert backend.asked_inside[-1] == (
            "waterfall",
            {"ids": WHOLE[: screen.place.index], "chosen": ord("p"), "interventions": changes},
        )
        shown = drawn(app)
        assert "layer 2 head 1 muted layer 3 replaced by its mean" in shown
        assert "mean KL 1.0000 bits over 19 tokens" in shown
        assert f'"p": P {percent(0.5)} → {percent(0.25)}, KL 1.0000 bits' in shown
        assert re.search(rf"▸p +{percent(0.5)} +{percent(0.25)}", shown)
        assert re.search(rf" x +{percent(0.1)} +{percent(0.35)}", shown)
        rows = [
            line.split()[1:-1] for line in shown.splitlines() if re.search("│ +[1-3] +[●○◐]", line)
        ]
        assert rows[1] == ["2", "●", "●", "○", "●", "●"]  # layer, attention, two heads, MLP
        assert rows[2] == ["3", "◐", "·", "·", "·", "·"]
        heat = screen.around._scale.heat
        assert heat(screen.place.nodes[0].step) == 0 < heat(screen.place.nodes[1].step)
        await press(pilot, "x")
        assert not screen.place.changes and "nothing is changed" in drawn(app)


async def test_keys_that_come_together_act_one_after_the_other() -> None:
    async with inside("1") as (app, screen, pilot, _):
        for key in (MUTE, "space", "h", "space", "w"):
            app.post_message(events.Key(key, " " if key == "space" else key))
        await until(pilot, app, "The model writes with this: 2 parts off.")
        parts = [each.part for each in screen.place.acting if isinstance(each, Knockout)]
        assert parts == ["layer", "attention"]


async def test_undo_all_also_ends_what_the_model_writes_with() -> None:
    async with inside(MUTE, "space", "w", "H", "space") as (app, screen, pilot, _):
        assert "layer 3 off · K undoes it" in drawn(app)
        await press(pilot, "x")
        assert not screen.place.changes and not screen.place.acting
        assert not screen._session.document.changes
        assert "The model writes with this: the whole network." in drawn(app)
        assert "part off" not in str(screen.around.border_title)


async def test_the_same_key_ends_it_here_and_in_the_text() -> None:
    async with inside(MUTE, "space", "w", "H", "space") as (app, screen, pilot, _):
        layer, mlp = screen.place.changes
        assert screen.place.acting == (layer,)
        await press(pilot, "K")
        assert screen.place.changes == (mlp,)  # what is only tried here stays
        assert not screen.place.acting and not screen._session.document.changes
        await press(pilot, "w", "escape", "K", "L")
        assert isinstance(app.screen, InsideScreen) and app.screen is not screen
        assert not app.screen.place.changes and "nothing is changed" in drawn(app)
        await press(pilot, "K")
        assert complaints(app)[-1] == "The model writes with the whole network already."


OF_PART, OF_WHOLE = "of the network with layer 3 off", "of the whole network"


async def test_a_view_shows_the_network_that_drew_the_token_and_says_so() -> None:
    backend = FakeBackend("hello")
    async with inside(MUTE, "space", "w", "escape", "r", backend=backend) as (app, _, pilot, _):
        main = main_screen(app)
        await until_written(pilot, main)
        changes = main.document.changes
        assert main.document.path[-1].changes == changes and not main.document.path[1].changes
        main.view.action_select(len(main.document.path) - 1)
        await press(pilot, "L")
        asked = {
            "1": {"lens", "cell"},
            "2": {"heads"},
            "3": {"work"},
            "5": {"norms"},
            "6": {"mattered"},
        }
        for key, ops in asked.items():
            backend.asked_inside.clear()
            await press(pilot, key)
            assert {op for op, _ in backend.asked_inside} == ops
            assert all(f["interventions"] == changes for _, f in backend.asked_inside)
            assert OF_PART in drawn(app)
            assert "layer 3 off · K undoes it" in drawn(app)  # whatever is shown below
        for key in "4", "8":
            await press(pilot, key)
            assert OF_WHOLE in drawn(app) and OF_PART not in drawn(app)
        backend.asked_inside.clear()
        await press(pilot, "1", "home", "right")  # a token that the whole network read
        assert OF_WHOLE in drawn(app)
        assert all("interventions" not in fields for _, fields in backend.asked_inside)
        await press(pilot, "K")
        assert OF_WHOLE not in drawn(app)  # there is no other network now


async def test_questions_in_the_text_are_asked_of_the_changed_network_and_say_so() -> None:
    backend = FakeBackend("hello")
    async with inside(MUTE, "space", "w", "escape", "r", backend=backend) as (app, _, pilot, _):
        main = main_screen(app)
        await until_written(pilot, main)
        changes = main.document.changes
        main.view.action_select(len(main.document.path) - 1)
        await press(pilot, "E")
        assert backend.asked_changed["attribution"] == changes
        assert "Influence on" in drawn(app) and OF_PART in drawn(app)
        main.view.action_select(2)  # a token that the whole network read
        await press(pilot, "E")
        assert backend.asked_changed["attribution"] == ()
        assert OF_WHOLE in drawn(app)
        await press(pilot, "p")  # continuations: those that the model would write now
        await until(pilot, app, f"Likely continuations, {OF_PART}")
        assert backend.asked_changed["paths"] == changes
        await press(pilot, "escape", "k", "a", "enter")
        await until(pilot, app, f"Compare continuations, {OF_PART}")
        assert backend.asked_changed["options"] == changes
        await press(pilot, "escape", "K", "E")
        await until(pilot, app, 'Influence on "·" at 2')
        assert OF_WHOLE not in drawn(app)


async def test_where_networks_meet_each_number_says_whose_it_is() -> None:
    async with inside(MUTE, "space", "w", "escape", size=(80, 24)) as (app, _, pilot, backend):
        main = main_screen(app)
        assert main.step is not None
        main.view.action_select(3)  # a token that the whole network drew
        while main.inspector.acting != "changed" or main.table.found is None:
            await pilot.pause(0.02)
        while backend.asked_also != [each.token_id for each in main.step.candidates]:
            await pilot.pause(0.02)
        await pilot.press("f2")
        await until(pilot, app, "How each setting")
        assert "│ whole changed top-k" in drawn(app)
        await press(pilot, "f2", "full_stop")
        said = main.query_one(Effect).render().plain
        assert re.match(r"changed net +▸. 40\.0 → 100 %", said)
        main.document.path[3].changes = (Knockout(part="mlp", layer=1),)
        main.show_token()  # both networks are changed, each otherwise
        while main.inspector.acting != "other changed":
            await pilot.pause(0.02)


async def until(pilot: Pilot[None], app: GPTApp, words: str) -> None:
    """Wait for words on the screen."""
    while words not in drawn(app):
        await pilot.pause(0.02)


@pytest.mark.slow
async def test_the_panel_of_the_layers_shows_the_network_that_drew_the_token() -> None:
    backend = FakeBackend("hello")
    keys = (MUTE, "space", "w", "escape", "r")
    async with inside(*keys, backend=backend, size=(200, 60)) as (app, _, pilot, _):
        main = main_screen(app)
        await until_written(pilot, main)
        panel = main.layers_panel
        assert panel is not None and panel.display
        while OF_PART not in str(panel.border_subtitle):
            await pilot.pause(0.02)
        assert backend.asked_layers[-1] == main.document.changes
        main.view.action_select(2)
        while OF_WHOLE not in str(panel.border_subtitle):
            await pilot.pause(0.02)
        assert backend.asked_layers[-1] == ()


@pytest.mark.parametrize("width", [24, 38, 58, 78, 118])
@pytest.mark.parametrize("chosen", range(10))
def test_the_chosen_tab_and_its_neighbours_are_whole(width: int, chosen: int) -> None:
    tabs = shown([view.NAME for view in VIEWS], chosen, width)
    assert sum(map(len, tabs.values())) <= width and list(tabs) == sorted(tabs)
    near = [n for n in (chosen - 1, chosen, chosen + 1) if 0 <= n < len(VIEWS)]
    names = range(10) if width >= 78 else near if width >= 38 else [chosen]
    assert all(tabs[n].split() == [digit(n), VIEWS[n].NAME] for n in names)


@pytest.mark.parametrize("width", [30, 56, 76, 116, 196])
@pytest.mark.parametrize("n_head", [1, 12, 40, 128])
def test_the_chosen_part_is_always_among_the_columns(width: int, n_head: int) -> None:
    config = ModelConfig(vocab_size=9, block_size=8, n_layer=2, n_head=n_head, n_embd=2 * n_head)
    place = Place([], 0, config, 1)
    for chosen in range(n_head + 3):
        columns = Columns(place, chosen, width)
        assert chosen in [column for column, _ in columns.shown]
        assert sum(cells for _, cells in columns.shown) + 4 <= width
        left = 4
        for column, cells in columns.shown:
            assert columns.at(left) == columns.at(left + cells - 1) == column
            left += cells
        assert columns.at(left) is None


@pytest.mark.slow
async def test_an_edge_leads_from_the_selected_token_to_the_next_selected_one() -> None:
    async with inside(MUTE) as (app, screen, pilot, _):
        await press(pilot, "e", "right", "right", "e")
        assert screen.place.changes == (Edge(source=7, target=9),)
        await press(pilot, "h", "h", "e")
        assert "in layer 3 head 1" in drawn(app) or "every later token" in drawn(app)
        await press(pilot, "e")
        last = list(screen.place.changes)[-1]
        assert last == Edge(source=9, target=None, layer=3, head=1)
        await press(pilot, "e", "e")  # the same once more: the edge is whole again
        assert screen.place.changes == (Edge(source=7, target=9),)


async def test_the_model_writes_with_it_until_a_key_in_the_text_ends_it() -> None:
    backend = FakeBackend("hello")
    async with inside(MUTE, "space", "w", backend=backend) as (app, screen, pilot, _):
        changes = (Knockout(part="layer", layer=3),)
        assert screen.place.acting == changes
        assert "The model writes with this: layer 3 off." in drawn(app)
        await pilot.press("escape")
        await pilot.pause()
        main = main_screen(app)
        assert "layer 3 off · K undoes it" in str(main.query_one(Status).render())
        assert backend.asked_changes[-1] == changes  # the panel shows these settings
        backend.go_on.clear()
        await pilot.press("r")
        while not main.is_writing or main.session.loaded is None:
            await pilot.pause(0.02)
        main.show_status()
        shown = str(main.query_one(Status).render())
        assert " layer 3 off " in shown and "K undoes it" not in shown  # not while it writes
        backend.go_on.set()
        await until_written(pilot, main)
        assert backend.requests[-1].changes == changes
        assert "layer 3 off · K undoes it" in str(main.query_one(Status).render())
        assert main.query_one(Inspector).inside == "layer 3 muted"
        assert "inside: layer 3 muted" in str(main.query_one(Inspector).render())
        await pilot.press("K")
        await pilot.pause()
        assert not main.document.changes and main.query_one(Status).inside == ""
        await pilot.press("r")
        await until_written(pilot, main)
        assert not backend.requests[-1].changes
        assert "perplexity 2.69 (2 networks)" in drawn(app)


@pytest.mark.parametrize(("width", "says_how"), [(76, False), (84, True)])
async def test_how_to_undo_a_change_gives_way_to_the_numbers(width: int, says_how: bool) -> None:
    async with inside(MUTE, "space", "w", "escape", size=(width, 24)) as (app, _, _, _):
        shown = drawn(app)
        assert " layer 3 off " in shown and "context 20/64" in shown and "perplexity" in shown
        assert ("K undoes it" in shown) == says_how


async def test_in_a_narrow_window_a_change_is_counted_and_not_named() -> None:
    keys = (MUTE, "h", "h", "space", "w", "escape")
    for width, name in ((70, "1 part off"), (80, "layer 3 head 1 off")):
        async with inside(*keys, size=(width, 24)) as (app, _, _, _):
            assert f" {name} fake 1.0M · context 20/64 · perplexity 2.89" in drawn(app)


async def test_a_muted_head_does_not_look_alive() -> None:
    keys = (MUTE, "up", "up", "h", "h", "space", "w", "escape", "r")
    async with inside(*keys, size=(200, 60)) as (app, _, pilot, _):
        main = main_screen(app)
        await until_written(pilot, main)
        main.view.action_select(len(main.document.path) - 1)
        await until(pilot, app, "mean of 2 heads, 1 not used")
        await press(pilot, "L", "2", "h")
        await until(pilot, app, "layer 1, head 2 looks at")
        row = next(line for line in picture(app).splitlines() if line.startswith("│   1 "))
        assert "·" * 8 in row
        await press(pilot, "h")
        await until(pilot, app, "layer 1, head 1 (muted) looks at")


async def test_what_if_says_which_text_is_which() -> None:
    backend = FakeBackend("hello")
    async with inside(MUTE, "space", "w", "escape", backend=backend) as (app, _, pilot, _):
        main = main_screen(app)
        main.view.action_select(len(TEXT))
        backend.reply = "hexxo"
        await pilot.press("f8")
        while not isinstance(app.screen, WhatIfScreen):
            await pilot.pause()
        await pilot.pause()
        shown = drawn(app)
        assert "no setting differs; inside: whole network → layer 3 muted" in shown
        assert "Original, whole network" in shown and "What if, layer 3 off" in shown


async def test_the_first_column_of_the_odds_is_the_network_as_it_is() -> None:
    async with inside(MUTE, "space", "w", "escape", "f2") as (app, _, pilot, backend):
        await pilot.pause()
        assert backend.asked_changes[-1] == (Knockout(part="layer", layer=3),)
        table = main_screen(app).query_one(WaterfallTable)
        assert table.display and table.found is not None


@pytest.mark.slow
async def test_a_direction_is_typed_turned_and_used() -> None:
    async with inside(STEER) as (app, screen, pilot, backend):
        assert "No direction yet" in drawn(app)
        await pilot.press("t")
        await type_in(pilot, app, "love | joy", "hate")
        await settled(pilot)
        steer = Steer(layer=3, towards=("love", "joy"), away=("hate",))
        assert screen.place.changes == (steer,)
        assert ("steering", {"ids": BEFORE, "interventions": (steer,)}) in backend.asked_inside
        shown = drawn(app)
        assert 'towards "love" | "joy"' in shown and "strength +1" in shown
        assert "stream, mean over the text 8.00" in shown
        await press(pilot, "plus", "plus", "up", "o")
        turned = Steer(layer=2, towards=("love", "joy"), away=("hate",), strength=2.0, over="mean")
        assert screen.place.changes == (turned,)
        assert "added: |strength · d| 4.00" in drawn(app)
        await press(pilot, *["minus"] * 5)
        assert "strength −0.5" in drawn(app)
        await press(pilot, MUTE, "space", STEER, "x")  # what is muted stays
        assert [type(each).__name__ for each in screen.place.changes] == ["Knockout"]


def test_texts_of_a_list_are_apart() -> None:
    assert texts_of("love") == ("love",)
    assert texts_of(" love | hate|x |  y") == (" love"[1:], "hate", "x", " y")
    assert texts_of(" love ") == (" love ",)
    assert texts_of("|") == texts_of("") == ()


async def test_a_window_refuses_a_missing_text_and_an_impossible_direction() -> None:
    async with inside(STEER) as (app, screen, pilot, _):
        await pilot.press("t")
        await type_in(pilot, app, "love", "")
        assert isinstance(app.screen, FieldsScreen)
        assert "Type at least one text in each field" in drawn(app)
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, InsideScreen) and not screen.place.changes


async def test_patching_needs_a_text_of_the_same_length_and_tells_a_cell_in_words() -> None:
    async with inside(PATCH) as (app, screen, pilot, backend):
        assert "needs another text with 7 tokens" in drawn(app)
        await pilot.press("t")
        await pilot.pause()
        assert app.screen.query_one(Input).value == TEXT[:7]
        await type_in(pilot, app, "to bo")
        assert "It has 5 tokens; 7 are needed" in drawn(app)
        await type_in(pilot, app, TEXT[:7])
        assert "That is the same text" in drawn(app)
        await type_in(pilot, app, "to Bebo")
        await settled(pilot)
        other = tuple(map(ord, "to Bebo"))
        fields = {"ids": BEFORE, "other": other, "chosen": ord("p"), "versus": 1}
        assert backend.asked_inside[-1] == ("patch", {**fields, "positions": (3, 4, 5, 6)})
        shown = drawn(app)
        grid = fake_reach.patch(BEFORE, other, ord("p"), 1, (3, 4, 5, 6))
        assert grid.share is not None
        for name, row in zip(("▸embedding", "layer 1", "layer 2"), grid.share, strict=False):
            numbers = " ".join(f"{share:.2f}".replace("-", "−") for share in row)
            assert f"{name} {numbers}" in shown
        assert 'logit of "p" minus logit of "x": here +1.000, other text +3.000' in shown
        await press(pilot, "down", "h", "h", "h")
        said = '+1.667, 33 % of the way: layer 1 at "o" (position 6) from the other text'
        assert said in drawn(app)
        assert screen.around._scale.heat(screen.place.nodes[6].step) == 4
        await press(pilot, "right")  # the other text is one too short now
        assert "needs another text with 8 tokens" in drawn(app)
        assert "The one you typed has 7." in drawn(app)


def test_a_change_far_back_has_columns_like_the_end() -> None:
    candidates = (Candidate(9, b"x", -1.0),)
    steps = [Step(i, 1, b"a", "a", -1.0, candidates=candidates) for i in range(200)]
    nodes = [Node(step, is_prompt=False) for step in steps]
    for index, columns in ((84, range(20, 84)), (150, (*range(20, 52), *range(118, 150)))):
        view, place = PatchView(Answers()), Place(nodes, index, CONFIG, layer=1)
        view._typed = Typed("other", tuple(2 if i == 20 else 1 for i in range(index)))
        (asked,) = view.questions(place)
        assert dict(asked.fields)["positions"] == tuple(columns)


async def test_another_branch_can_be_patched_in() -> None:
    backend = FakeBackend("hello")
    async with inside(backend=backend) as (app, _, pilot, _):
        await pilot.press("escape")
        main = main_screen(app)
        main.view.action_select(len(TEXT) + 1)
        backend.reply = "axxo"
        await pilot.press("r")
        await until_written(pilot, main)
        main.view.action_select(len(TEXT) + 4)
        await pilot.press("L", PATCH)
        await settled(pilot)
        assert "take one of 1 other branches" in drawn(app)
        await press(pilot, "b")
        asked = backend.asked_inside[-1][1]
        assert asked["ids"] == tuple(map(ord, TEXT + "haxx"))
        assert asked["other"] == tuple(map(ord, TEXT + "hell"))


@pytest.mark.slow
async def test_words_have_neighbours_sums_and_positions() -> None:
    async with inside(WORDS) as (app, screen, pilot, backend):
        asked = {"plus": (ord("p"),), "minus": (), "matrix": "embedding", "top": 20}
        assert backend.asked_inside[-1] == ("neighbours", asked)
        shown = drawn(app)
        assert 'nearest to "p"' in shown and "q 0.9900 3.000" in shown
        await press(pilot, "m")
        assert backend.asked_inside[-1][1]["matrix"] == "output"
        await press(pilot, "m")
        assert backend.asked_inside[-1][1]["plus"] == (7,)  # the position
        assert "nearest to position 7" in drawn(app)
        await pilot.press("a")
        await type_in(pilot, app, "k", "m", "w")
        await settled(pilot)
        asked = backend.asked_inside[-1][1]
        assert (asked["plus"], asked["minus"]) == ((ord("k"), ord("w")), (ord("m"),))
        assert 'nearest to "k" − "m" + "w"' in drawn(app)
        await press(pilot, "n", "p")
        tokens = tuple(dict.fromkeys([ord("p"), *reversed(BEFORE)]))
        assert backend.asked_inside[-1] == ("plane", {"tokens": tokens, "matrix": "embedding"})
        assert f"two principal components of {len(tokens)} tokens" in drawn(app)
        await pilot.press("t")
        await type_in(pilot, app, "abba")
        await settled(pilot)
        assert backend.asked_inside[-1][1]["tokens"] == (ord("a"), ord("b"))
        assert isinstance(screen.view, WordsView)


async def test_points_stand_where_they_belong_and_names_do_not_cover_each_other() -> None:
    async with inside(WORDS, "p") as (_, screen, _, _):
        assert screen.view is not None
        looks = screen.view.looks()
        places = ((0, 0.0, 0.0), (1, 1.0, 1.0), (2, 1.0, 1.0), (3, 0.5, 0.0))
        names = (b"left", b"right", b"hidden", b"middle")
        points = tuple(Point(Token(i, names[i]), x, y) for i, x, y in places)
        sheet = plotted(Plane("embedding", points, (0.6, 0.4)), 1, looks)
        rows = ["".join(segment.text for segment in row) for row in sheet.body]
        assert rows[0].endswith("right•") and len(rows[0]) == looks.width
        assert rows[-1].startswith("•left") and "•middle" in rows[-1]
        assert "1 points without a name" in "".join(s.text for s in sheet.foot[0])


@pytest.mark.slow
async def test_progress_and_escape_of_a_patch() -> None:
    backend = FakeBackend("hello")
    async with inside(PATCH, backend=backend) as (app, screen, pilot, _):
        backend.answers_inside.clear()
        await pilot.press("t")
        await type_in(pilot, app, "to Bebo")
        while "token 1 of 9; Esc stops" not in drawn(app):
            await pilot.pause(0.02)
        await pilot.press("escape")
        await settled(pilot)
        assert app.screen is screen and "Stopped." in drawn(app)
        backend.cancelled = False
        backend.answers_inside.set()
        await press(pilot, "v")
        assert isinstance(screen.view, PatchView) and "of the way" in drawn(app)


async def test_escape_stops_the_question_about_a_switch_and_leaves_the_switches() -> None:
    backend = FakeBackend("hello")
    async with inside(MUTE, backend=backend, size=(80, 24)) as (app, screen, pilot, _):
        backend.answers_inside.clear()
        await pilot.press("space")
        while "token 1 of 9; Esc stops" not in drawn(app):
            await pilot.pause(0.02)
        await pilot.press("escape")
        await settled(pilot)
        shown = drawn(app)
        assert app.screen is screen and "Stopped. Any key that moves asks again." in shown
        assert "layer 3 muted" in shown and "layer attn 1 2 MLP" in shown


async def test_what_was_tried_ends_with_its_text_and_with_the_key_that_undoes_it() -> None:
    async with inside(MUTE, "space", "w", "H", "space", "escape") as (app, screen, pilot, _):
        await press(pilot, "K", "L")
        assert isinstance(app.screen, InsideScreen) and app.screen is not screen
        assert not app.screen.place.changes
        await press(pilot, "space", "escape", "ctrl+n", "a", "b", "enter")
        await until_written(pilot, main_screen(app))
        await press(pilot, "tab", "L")
        again = app.screen
        assert isinstance(again, InsideScreen) and not again.place.changes
        assert "nothing is changed" in drawn(app)


async def test_what_is_chosen_waits_until_the_screen_opens_again() -> None:
    async with inside(MUTE, "space", "escape") as (app, _, pilot, _):
        assert isinstance(app.screen, MainScreen)
        await pilot.press("L")
        await settled(pilot)
        assert isinstance(app.screen, InsideScreen)
        assert app.screen.place.changes == (Knockout(part="layer", layer=3),)
        assert "The model writes with the whole network; w changes it to this." in drawn(app)


@pytest.mark.parametrize("size", slow_but(ALL_SIZES, (60, 20)), ids=str)
async def test_all_that_counts_fits(size: tuple[int, int]) -> None:
    async with inside(MUTE, "h", "h", "space", size=size) as (app, _, pilot, _):
        shown = drawn(app)
        assert "layer 3 head 1 muted" in shown and "bits over" in shown
        await press(pilot, STEER)
        await pilot.press("t")
        await type_in(pilot, app, "love", "hate")
        await settled(pilot)
        assert "strength +1" in drawn(app) and 'away from "hate"' in drawn(app)
        await press(pilot, WHO)
        assert "left out" in drawn(app) and "+6.000" in drawn(app)
        await press(pilot, PATCH)
        await pilot.press("t")
        await type_in(pilot, app, "to Bebo")
        await settled(pilot)
        assert "% of the way" in drawn(app) and "▸embedding" in drawn(app)
        await press(pilot, WORDS)
        assert "by cosine" in picture(app)


SHOWN = {
    WHO: (),
    MUTE: ("up", "h", "h", "space"),
    PATCH: (),
    STEER: (),
    WORDS: (),
}
"""View → keys that give it something to show."""


async def show(pilot: Pilot[None], app: GPTApp, view: str) -> None:
    """Open a view, with something to show."""
    await press(pilot, view, *SHOWN[view])
    if view in (PATCH, STEER):
        await pilot.press("t")
        await type_in(pilot, app, *(["to Bebo"] if view == PATCH else ["love", "hate"]))
        await settled(pilot)


@pytest.mark.parametrize("size", slow_but(ALL_SIZES, (80, 24)), ids=str)
@pytest.mark.parametrize("view", SHOWN)
async def test_the_screen_looks_like_this(
    size: tuple[int, int], view: str, snapshot: SnapshotAssertion
) -> None:
    async with inside(size=size) as (app, _, pilot, _):
        await show(pilot, app, view)
        assert picture(app) == snapshot


@pytest.mark.slow
@pytest.mark.parametrize("size", slow_but(TINY_SIZES, (43, 8)), ids=str)
async def test_no_size_is_too_small_or_too_large(size: tuple[int, int]) -> None:
    async with inside(size=size) as (app, screen, pilot, _):
        for view in SHOWN:
            await show(pilot, app, view)
            keys = ("up", "down", "right", "left", "pagedown", "h", "p", "m", "c", "s", "space")
            await press(pilot, *keys)
            if view != MUTE:  # the help
                await press(pilot, "escape")
        assert screen.place.index == 7


@pytest.mark.slow
async def test_the_first_token_has_nothing_before_it() -> None:
    async with inside(at_index=1) as (app, screen, pilot, backend):
        await press(pilot, "left")
        backend.asked_inside.clear()
        for view in SHOWN:
            await press(pilot, view, "up", "down", "h", "b", "plus", "o", "v")
            assert "First token" in drawn(app)
        assert screen.place.index == 0 and not backend.asked_inside


async def test_a_click_chooses_a_part_and_a_second_one_turns_it() -> None:
    async with inside(MUTE) as (app, screen, pilot, _):
        y = next(i for i, line in enumerate(picture(app).splitlines()) if line.startswith("│   2 "))
        for clicks in (1, 2):
            await pilot.click(offset=(2 + 4 + 6 + 5 + 1, y))  # after the layer and attention
            await settled(pilot)
            assert (screen.place.layer, screen.place.head) == (2, 1)
            assert len(screen.place.changes) == clicks - 1
        assert screen.place.changes == (Knockout(part="head", layer=2, head=1),)


@pytest.fixture
def start(tiny_directory: Path) -> Iterator[Callable[..., Terminal]]:
    del tiny_directory
    yield from terminals("tiny", "--seed", "1", "-n", "8")


@needs_pty
def test_in_a_terminal_the_numbers_are_those_of_the_network(
    start: Callable[..., Terminal], tiny: Checkpoint
) -> None:
    terminal = start("--prompt", "to be", "--dtype", "float32", size=(120, 40))
    terminal.shows("Done: 8 tokens")
    terminal.press("tab", "home", *["right"] * 4)
    terminal.shows("position 4")
    context, ids = tiny.new_context(), tiny.tokenizer.encode("to b")
    (e,) = tiny.tokenizer.encode("e")
    terminal.press("L", "6")
    found = mattered(context, ids, e)
    for nats in (found.left_out[0], found.cut[0], found.gradient[0]):
        assert nats is not None
        terminal.shows(signed(nats / math.log(2), 3).replace("+", r"\+"))
    terminal.press("0")
    best = neighbours(context, [e]).by_cosine[0]
    terminal.shows(rf"{best.cosine:.4f}".replace("-", "−"))
    terminal.press("7", " ")
    terminal.shows("layer 2 muted", r"mean KL \d\.\d+ bits over 12 tokens")
    whole = tiny.tokenizer.encode("to be")
    moved = effect(context, whole, [Knockout(part="layer", layer=2)])
    before, after = (percent(math.exp(p)) for p in (moved.before[4] or 0, moved.after[4] or 0))
    terminal.shows(f'"e": P {before} → {after}')
    terminal.press("8", "t")
    terminal.shows("as many as stand before")
    terminal.press("backspace", "o", "enter")
    other = tiny.tokenizer.encode("to o")
    terminal.shows(r"% of the way")
    shown = next(line for line in terminal.text.splitlines() if "minus logit of" in line)
    name = shown.partition('minus logit of "')[2].partition('"')[0].replace("·", " ")
    (versus,) = tiny.tokenizer.encode("\n" if name == "⏎" else name)
    grid = patch_grid(context, ids, other, e, versus)
    ends = f"here {signed(grid.here, 3)}, other text {signed(grid.there, 3)}"
    assert ends in shown
    terminal.press("7", "w")
    terminal.shows("The model writes with this: layer 2 off")
    terminal.press("escape")
    terminal.shows("layer 2 off · K undoes it")
    terminal.press("f8")
    terminal.shows("inside: whole network → layer 2 muted")
    terminal.press("enter", "end")
    terminal.shows("inside: layer 2 muted")
    terminal.press("K")
    terminal.shows("The model writes with the whole network again")
    assert terminal.quit() == 0
