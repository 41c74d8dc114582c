"""The settings that few people need: hidden until they are wanted, and their order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Button, Checkbox

from gpt.settings import ORDER, Sampling
from gpt.step import Step
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, write
from tests.tui.test_branching import at
from tui import store
from tui.commands import Command, field_commands, program_commands
from tui.dials import KNOBS, MORE, NEUTRAL, PRESETS, SAMPLED, STAGES
from tui.document import Document
from tui.export.parts import said_settings
from tui.glossary import TERMS
from tui.lookup import find
from tui.node import Node
from tui.sampling_words import differences
from tui.screens.help import _words
from tui.screens.main import MainScreen
from tui.screens.order import OrderScreen
from tui.store import Place
from tui.widgets.dial import Dial
from tui.widgets.slider import Slider


def field(screen: MainScreen, name: str) -> Dial:
    return screen.query_one(f"#{name}", Dial)


def is_open(screen: MainScreen) -> bool:
    """Whether the settings are on the screen."""
    names = {knob.name for knob in MORE}
    shown = [each for each in screen.query(Dial) if each.id in names and each.display]
    assert len(shown) in (0, len(MORE))
    return bool(shown)


async def until_open(pilot: Pilot[None], screen: MainScreen) -> None:
    for _ in range(500):
        await pilot.pause()
        if is_open(screen):
            return
    raise AssertionError("the settings stay hidden")


def test_there_is_a_dial_for_every_number_of_sampling() -> None:
    others = {"seed", "banned", "boosted", "order", "mirostat_mu"}
    names = Sampling().to_dict().keys() - others
    assert {knob.name for knob in SAMPLED} == names == NEUTRAL.keys()
    for knob in MORE:
        assert float(knob.value) == NEUTRAL[knob.name], "it begins where it does nothing"
        for end in knob.ends or ():
            Sampling.from_dict({knob.name: type(NEUTRAL[knob.name])(end)})
    assert STAGES.keys() == {"model", "banned", *ORDER}
    labels = {knob.name: knob.label for knob in KNOBS}
    assert all(STAGES[name] == labels[name] for name in ORDER if name in labels)


@pytest.mark.parametrize("label", [*(knob.label for knob in KNOBS), "order"])
def test_a_click_on_a_label_finds_its_word(label: str) -> None:
    assert next(iter(find(label, [*_words()])), None)


@pytest.mark.parametrize("values", [preset.values for preset in PRESETS.values()])
def test_presets_are_settings(values: dict[str, float]) -> None:
    assert values.keys() <= NEUTRAL.keys()


async def test_they_are_hidden_until_they_are_asked_for() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = main_screen(app)
        assert not is_open(screen)
        screen.query_one("#more").focus()
        await pilot.press("space")
        await until_open(pilot, screen)
        await pilot.pause()
        # The first of them is where one sees it.
        assert field(screen, "presence_penalty").region.y < 40
        assert screen.query_one("#sampling").region.contains_region(
            field(screen, "dry_base").region
        )
        await pilot.press("space")
        await pilot.pause()
        assert not is_open(screen)


async def test_values_count_before_their_fields_are_there() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = main_screen(app)
        controls = screen.controls
        assert controls
        assert not controls.set("top_n_sigma", 1.5)
        assert controls.sampling().top_n_sigma == 1.5
        assert controls.numbers()["top_n_sigma"] == 1.5
        await until_open(pilot, screen)
        assert field(screen, "top_n_sigma").value == "1.5"
        assert controls.sampling().top_n_sigma == 1.5


async def test_a_setting_that_begins_to_act_opens_them_and_counts() -> None:
    app = app_with(FakeBackend("hello"), dials={"dry_multiplier": 0.8})
    async with running(app, (120, 40)) as pilot:
        screen = main_screen(app)
        await until_open(pilot, screen)
        assert field(screen, "dry_multiplier").value == "0.8"
        more = screen.query_one("#more", Checkbox)
        assert str(more.label) == "More 1"
        field(screen, "xtc_threshold").value = "0.3"  # does nothing alone
        field(screen, "mirostat_tau").value = "3"
        await pilot.pause()
        assert str(more.label) == "More 2"
        more.value = False  # the person may close them
        field(screen, "mirostat_tau").value = "4"
        await pilot.pause()
        assert not is_open(screen)
        controls = screen.controls
        assert controls
        controls.use_preset("model")
        await pilot.pause()
        assert str(more.label) == "More"
        assert replace(controls.sampling(), seed=0) == Sampling()


async def test_keys_sliders_and_mistakes() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = main_screen(app)
        controls = screen.controls
        assert controls
        screen.query_one("#more", Checkbox).value = True
        await until_open(pilot, screen)
        for name, keys, value in (
            ("presence_penalty", ["left"], "-0.1"),
            ("dry_base", ["left"] * 30, "1"),
            ("dry_allowed_length", ["left"] * 5, "1"),
            ("typical_p", ["right"], "1"),
            ("xtc_probability", ["right", "right"], "0.2"),
        ):
            field(screen, name).focus()
            await pilot.press(*keys)
            assert field(screen, name).value == value
        slider = screen.query_one("#slide_top_n_sigma", Slider)
        slider.post_message(Slider.Moved(slider, 1.5))
        await pilot.pause()
        assert controls.sampling().top_n_sigma == 1.5
        assert controls.sampling().presence_penalty == -0.1
        field(screen, "penalty_window").value = "1.5"
        await pilot.pause()
        assert controls.has_class("-problem")
        assert str(controls._problem.content) == "window is '1.5'; it must be a whole number"
        field(screen, "penalty_window").value = "-1"
        await pilot.pause()
        assert str(controls._problem.content).startswith("window is -1; it must be")


def command(commands: list[Command], name: str) -> Command:
    (found,) = [each for each in commands if each.name == name]
    return found


async def test_the_palette_goes_to_a_hidden_setting_and_to_the_order() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        screen = main_screen(app)
        await command([*field_commands(screen)], "Set mirostat").run()  # type: ignore[misc]
        await until_open(pilot, screen)
        mirostat = field(screen, "mirostat_tau")
        panel = screen.query_one("#sampling")
        for _ in range(500):
            if mirostat.region.area and panel.region.contains_region(mirostat.region):
                break
            await pilot.pause()
        assert screen.focused is mirostat
        assert panel.region.contains_region(mirostat.region)
        await command([*program_commands(screen)], "Order of the sampling settings").run()  # type: ignore[misc]
        await pilot.pause()
        assert isinstance(app.screen, OrderScreen)


async def test_the_order_is_changed_used_and_reset() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend)
    async with running(app, (120, 40)) as pilot:
        screen = main_screen(app)
        controls = screen.controls
        assert controls
        screen.query_one("#more", Checkbox).value = True
        await until_open(pilot, screen)
        button = screen.query_one("#order", Button)
        assert str(button.label) == "the usual one"
        button.focus()
        await pilot.press("enter")
        assert isinstance(app.screen, OrderScreen)
        await pilot.press("shift+up", "down", "shift+down", "shift+down", "enter")
        await pilot.pause()
        assert not isinstance(app.screen, OrderScreen)
        moved = [*ORDER]
        moved.insert(3, moved.pop(1))
        assert controls.order == tuple(moved)
        assert str(button.label).startswith("boosted, presence, frequency, repetition, DRY")
        assert controls.preset is None
        screen.prompt.focus()
        await write(pilot, app, "ab")
        assert backend.requests[-1].sampling.order == tuple(moved)
        assert screen.document.path[-1].sampling == backend.requests[-1].sampling
        for keys, order in ((["shift+down", "escape"], tuple(moved)), (["delete", "enter"], ())):
            button.focus()
            await pilot.press("enter", *keys)
            await pilot.pause()
            assert controls.order == order
        assert str(button.label) == "the usual one"
        controls.order = tuple(moved)
        controls.use_preset("balanced")
        assert controls.order == () and controls.preset == "balanced"


async def test_a_click_in_the_order_chooses_nothing_yet() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (120, 40)) as pilot:
        await main_screen(app).run_action("order")
        await pilot.pause()
        await pilot.click("OrderScreen OptionList", offset=(5, 4))
        assert isinstance(app.screen, OrderScreen)
        await pilot.press("shift+up", "enter")
        await pilot.pause()
        controls = main_screen(app).controls
        assert controls and controls.order[2:4] == (ORDER[3], ORDER[2])


def node(mu: float | None, sampling: Sampling | None) -> Node:
    return Node(Step(3, 1, b"a", "a", mirostat_mu=mu), is_prompt=False, sampling=sampling)


def test_settings_at_a_token_have_the_mu_that_it_was_drawn_with() -> None:
    run = Sampling(mirostat_tau=3.0, seed=7)
    assert node(4.5, run).at_token(run).mu == 4.5
    hotter = Sampling(mirostat_tau=3.0, temperature=1.5)
    assert node(4.5, run).at_token(hotter) == Sampling(
        mirostat_tau=3.0, temperature=1.5, mirostat_mu=4.5
    )
    # Another target, or none: mirostat begins anew.
    assert node(4.5, run).at_token(Sampling(mirostat_tau=2.0)).mu == 4
    assert node(4.5, run).at_token(Sampling()) == Sampling()
    assert node(None, None).at_token(run) == run


async def test_what_if_and_odds_continue_with_the_mu_of_the_token() -> None:
    backend = FakeBackend("hello")
    app = app_with(backend, seed=7, dials={"mirostat_tau": 3})
    async with running(app, (120, 40)) as pilot:
        screen = await write(pilot, app, "ab")
        third = screen.document.path[4]
        third.step = third.step._replace(mirostat_mu=4.5)
        await at(pilot, screen, 4)
        await pilot.press("f2")
        await pilot.pause()
        _ids, _chosen, sampling = backend.asked[-1]
        assert (sampling.mirostat_tau, sampling.mirostat_mu) == (3, 4.5)
        assert screen.inspector.now is None  # these are the settings that drew it
        await pilot.press("f8")
        while not len(backend.requests) > 1:
            await pilot.pause()
        assert backend.requests[-1].sampling.mirostat_mu == 4.5
        assert not complaints(app)


def test_every_stage_is_explained() -> None:
    names = {term.name for term in TERMS}
    assert {"presence penalty", "frequency penalty", "DRY", "XTC", "mirostat", "typical-p"} <= names


def test_order_and_mu_are_saved_and_exported(home: Path) -> None:
    sampling = Sampling(
        temperature=1.5, min_p=0.1, mirostat_tau=3.0, order=("min_p", "temperature"), seed=7
    )
    document = Document()
    document.append([Step(0, 1, b"a", "a")], is_prompt=True)
    steps = [Step(1, 2, b"b", "b", -1.0, 1, 0.5, mirostat_mu=4.5)]
    document.append(steps, is_prompt=False, sampling=sampling)
    place = Place()
    place.save("fake", list(document.nodes()), list(document.path))
    assert place.path
    loaded, _ = store.load(place.path)
    assert loaded.path[1].sampling == sampling
    assert loaded.path[1].step.mirostat_mu == 4.5
    assert said_settings([sampling]) == (
        "temperature 1.5, min-p 0.1, mirostat 3, in the order min-p, temperature, mirostat, seed 7"
    )
    banned = replace(sampling, banned=((2,), (9,)), order=())
    said = 'temperature 1.5, min-p 0.1, mirostat 3, banned "b", #9, seed 7'
    assert said_settings([banned], loaded.path) == said
    usual = replace(sampling, order=())
    said = "order temperature, min-p, mirostat → min-p, temperature, mirostat"
    assert differences(usual, sampling) == said
