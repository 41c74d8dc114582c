"""What a person chooses for good: the file, the screen, keys and looks."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.color import Color
from textual.theme import BUILTIN_THEMES
from textual.widgets import Button, DataTable, Label, Select, Static

from gpt.errors import UserError
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tui import preferences
from tui.app import GPTApp
from tui.colour import READABLE, contrast
from tui.heat import STEPS
from tui.keys import KEYS, key_problems, written
from tui.node import Author
from tui.palette import Palette
from tui.preferences import HEAT_MAPS, Preferences
from tui.screens.jump import JumpScreen
from tui.screens.main import MainScreen
from tui.screens.preferences import KeyQuestion, PreferencesScreen
from tui.widgets.dial import Dial, Tick
from tui.widgets.effect import Effect
from tui.widgets.prompt import Prompt
from tui.widgets.token_view import TokenView
from tui.window_keys import problems, window_keys


def app_of(backend: FakeBackend, chosen: Preferences, *problems: str) -> GPTApp:
    plain = app_with(backend, dials=chosen.settings)
    return GPTApp(plain._main, chosen, problems)


def test_a_file_that_is_not_there_is_no_problem() -> None:
    assert preferences.load() == (Preferences(), [])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "theme": st.sampled_from(["nord", "gruvbox", "[/b]"]),
            "heat_map": st.sampled_from(HEAT_MAPS),
            "marks": st.booleans(),
            "settings": st.dictionaries(st.text("ab_"), st.integers(0, 9) | st.just(0.5)),
            "keys": st.dictionaries(st.text("ab._"), st.sampled_from(["f5", "a,b"])),
        },
    )
)
def test_what_is_saved_is_loaded(changes: dict[str, object]) -> None:
    preferences.path().unlink(missing_ok=True)
    preferences.save(changes)
    assert preferences.load() == (Preferences(**changes), [])  # type: ignore[arg-type]


def test_saving_leaves_the_rest_of_the_file_as_it_is(home: Path) -> None:
    path = home / "settings.toml"
    path.write_text('# mine\nmarks = true  # because\n[keys]\nhelp = "h"\nquit = "q"\n')
    preferences.save({"theme": "nord", "keys": {"help": None, "stop": "s"}})
    text = path.read_text()
    assert "# mine\nmarks = true  # because\n" in text
    assert preferences.load()[0] == Preferences(
        theme="nord", marks=True, keys={"quit": "q", "stop": "s"}
    )


NONSENSE = [
    *("heat_map = 'red'", "heat_map = [1]", "marks = 1", "theme = 3", "x=1"),
    *("settings = 1", "settings = [1]", "settings = {a = 'x'}", "settings = {a = nan}"),
    *("settings = {a = inf}", f"settings = {{a = {10**400}}}", "settings = {a = true}"),
    *("keys = 1", "keys = {a = 1}", "keys = {a = ','}", "[[keys]]", f"x = '{'y' * 10_000}'"),
]


@pytest.mark.parametrize("line", NONSENSE)
def test_saving_works_beside_nonsense(home: Path, line: str) -> None:
    (home / "settings.toml").write_text(f"# mine\n{line}\n")
    preferences.save({"theme": "nord", "settings": {"b": 1}, "keys": {"c": "d"}})
    assert preferences.load()[0] == Preferences(
        theme="nord", heat_map="theme", settings={"b": 1}, keys={"c": "d"}
    )
    assert "# mine" in (home / "settings.toml").read_text()


@pytest.mark.parametrize("line", NONSENSE)
def test_a_bad_value_is_named_and_the_others_hold(home: Path, line: str) -> None:
    (home / "settings.toml").write_text(f"{line}\n")
    found, problems = preferences.load()
    assert found == Preferences()
    assert len(problems) == 1 and line.split()[0].split("=")[0].strip("[]") in problems[0]
    assert len(problems[0]) < 300


def test_in_a_table_too_the_others_hold(home: Path) -> None:
    (home / "settings.toml").write_text("[settings]\ntop_k = 7\na = 'x'\n[keys]\nb = 1\nc = 'd'")
    found, problems = preferences.load()
    assert found == Preferences(settings={"top_k": 7}, keys={"c": "d"})
    assert [problem.split()[1] for problem in problems] == ["keys.b", "settings.a"]


def test_of_many_bad_values_a_few_are_named(home: Path) -> None:
    (home / "settings.toml").write_text("".join(f"x{i} = 1\n" for i in range(1000)))
    problems = preferences.load()[1]
    assert len(problems) == 6 and "995 more" in problems[-1]


def test_a_broken_file_is_named_and_never_overwritten(home: Path) -> None:
    path = home / "settings.toml"
    path.write_bytes(b"theme = \xff")
    assert "cannot read" in preferences.load()[1][0]
    path.write_text("theme = ")
    assert "cannot read" in preferences.load()[1][0]
    with pytest.raises(UserError, match="cannot save"):
        preferences.save({"theme": "nord"})
    assert path.read_text() == "theme = "


def state(path: Path) -> tuple[int, ...]:
    """What changes if a file is written or replaced, but not if it is read."""
    facts = os.lstat(path)
    return facts.st_ino, facts.st_mode, facts.st_size, facts.st_mtime_ns


@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.write_text("x = " + "[" * 10_000 + "]" * 10_000),
        lambda path: path.write_text("x = " + "{a=" * 10_000 + "1" + "}" * 10_000),
        lambda path: path.write_text("a." * 10_000 + "a = 1"),
        lambda path: path.write_text("x = " + "9" * 5_000),
        lambda path: path.write_text("x = {a = 1,}"),
        lambda path: path.write_text("#" * (preferences.LARGEST + 1)),
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.symlink_to(path),
    ],
    ids="lists tables dots digits comma huge directory pipe device link".split(),
)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files there")
def test_a_file_that_cannot_be_read_is_said_in_one_sentence(
    home: Path, put: Callable[[Path], object]
) -> None:
    put(home / "settings.toml")
    before = state(home / "settings.toml")
    found, problems = preferences.load()
    assert found == Preferences()
    assert len(problems) == 1 and len(problems[0]) < 500
    with pytest.raises(UserError, match="cannot save settings"):
        preferences.save({"theme": "nord"})
    assert state(home / "settings.toml") == before


def test_the_mark_of_an_editor_at_the_beginning_is_not_read(home: Path) -> None:
    (home / "settings.toml").write_bytes(b"\xef\xbb\xbftheme = 'nord'\r\n")
    assert preferences.load() == (Preferences(theme="nord"), [])
    preferences.save({"marks": True})
    assert preferences.load() == (Preferences(theme="nord", marks=True), [])


SLIPS = {"lenght": 1, "top_k": 7, "top_p": 3}
"""Settings of which two cannot be used."""


async def test_problems_are_said_and_the_rest_works() -> None:
    chosen = Preferences(
        theme="[none]", keys={"nope": "f5"}, settings={"lenght": 1, "top_k": 7, "top_p": 3}
    )
    app = app_of(FakeBackend(), chosen, "settings.toml: [x]")
    async with running(app) as pilot:
        await pilot.pause()
        said = complaints(app)
        for part in ("settings.toml: [x]", "unknown theme '[none]'", "no action 'nope'"):
            assert any(part in each for each in said)
        assert "settings.toml: there is no sampling setting 'lenght' (did you mean length?)" in said
        assert "settings.toml: top-p is 3.0; it must be a number from 0 to 1" in said
        assert main_screen(app).query_one("#top_p", Dial).value == "0.95"
        assert main_screen(app).query_one("#top_k", Dial).value == "7"


async def test_without_colours_no_theme_is_black_on_black(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = app_of(FakeBackend(), Preferences(theme="ansi-light"))
    async with running(app) as pilot:
        await pilot.pause()
        assert app.theme == "textual-light"
        expected = "ansi-light takes the terminal's colours, and NO_COLOR forbids them"
        assert f"{expected}; this is textual-light" in complaints(app)
        app.theme = "ansi-dark"
        await pilot.pause()
        assert app.theme == "textual-light"
        assert "ansi-dark takes the terminal's colours" in complaints(app)[-1]


async def test_keys_of_the_file_hold_in_the_text_in_the_prompt_and_everywhere() -> None:
    backend = FakeBackend("hello")
    keys = {"text.take_1": "ctrl+y", "prompt.send": "alt+s", "tree": "f11", "preferences": "f12"}
    app = app_of(backend, Preferences(keys=keys))
    async with running(app) as pilot:
        screen = main_screen(app)
        await pilot.press("a", "enter", "b", "alt+s")
        await until_written(pilot, screen)
        assert backend.requests[-1].text in ("a\nb", "ab")
        await at(pilot, screen, 2)
        n = len(backend.requests)
        await pilot.press("1")
        assert len(backend.requests) == n
        await pilot.press("ctrl+y")
        await until_written(pilot, screen)
        assert len(backend.requests) == n + 1
        await pilot.press("f12")
        assert isinstance(app.screen, PreferencesScreen)


async def test_choices_on_the_screen_hold_at_once_and_are_saved() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        screen = main_screen(app)
        screen.query_one("#temperature", Dial).value = "1.3"
        before = screen.query_one(TokenView)._palette
        await pilot.press("f6")
        shown = app.screen
        assert isinstance(shown, PreferencesScreen)
        await pilot.pause()
        shown.query_one("#theme", Select).value = "nord"
        shown.query_one("#heat_map", Select).value = "monochrome"
        shown.query_one("#marks", Tick).value = True
        shown.query_one("#dials", Button).press()
        await pilot.pause()
        assert app.theme == "nord"
        palette = screen.query_one(TokenView)._palette
        assert palette is not before
        assert palette.style(STEPS - 1, "model").bold
        table = shown.query_one(DataTable)
        table.focus()
        row = [key.id for key in KEYS].index("tree")
        table.move_cursor(row=row)
        await pilot.press("enter")
        assert isinstance(app.screen, KeyQuestion)
        await pilot.press("f11")
        await pilot.pause()
        assert str(table.get_row_at(row)[0]) == "F11"
        table.move_cursor(row=row - 1)
        await pilot.press("enter", "f11")
        await pilot.pause()
        assert complaints(app)[-1].startswith("F11 is the key for: tree of branches.")
        await pilot.press("enter", "escape")
        await pilot.pause()
        assert app.preferences.keys == {"tree": "f11"}
        await pilot.press("f6")
        assert isinstance(app.screen, MainScreen)
        await write(pilot, app, "ab")
        await pilot.press("f11")
        await pilot.pause()
        assert main_screen(app).panels.chosen == "tree"
    found, problems = preferences.load()
    assert not problems
    assert (found.theme, found.heat_map, found.marks) == ("nord", "monochrome", True)
    assert found.keys == {"tree": "f11"}
    assert found.settings["temperature"] == 1.3 and "seed" not in found.settings


async def test_arrow_keys_go_from_row_to_row_and_enter_opens_a_list() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, size=(80, 24)) as pilot:
        await pilot.press("f6")
        await pilot.pause()
        theme, heat = app.screen.query(Select)
        assert app.screen.focused is theme
        await pilot.press("down")
        assert app.screen.focused is heat and not theme.expanded
        await pilot.press("up", "enter")
        assert theme.expanded
        await pilot.press("escape", *["down"] * 5)
        assert isinstance(app.screen.focused, DataTable)


@pytest.mark.parametrize("size", [(40, 12), (60, 20), (80, 24), (200, 60)])
async def test_all_of_an_action_and_its_name_are_on_the_screen(size: tuple[int, int]) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, size=size) as pilot:
        await pilot.press("f6")
        await pilot.pause()
        table = app.screen.query_one(DataTable)
        said = app.screen.query_one("#action", Static)
        table.focus()
        row = [key.id for key in KEYS].index("what_if")
        table.move_cursor(row=row)
        while "in the file: what_if" not in str(said.content):
            await pilot.pause()
        assert table.region.height >= 4  # the line of names and some keys
        if size[0] >= 60:
            text = " ".join("".join(s.text for s in said.render_line(y)) for y in range(2))
            assert " ".join(text.split()) == (
                "what if: the same random seed with these settings · everywhere · "
                "in the file: what_if"
            )
        shown = "".join(segment.text for segment in table.render_line(row + 1))
        assert ("with these settings" in shown) == (size[0] >= 100)


@pytest.mark.parametrize("name", sorted(name for name in BUILTIN_THEMES if "ansi" in name))
async def test_a_theme_of_the_terminals_own_colours_works(name: str) -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app) as pilot:
        app.theme = name
        await pilot.pause()
        await write(pilot, app, "ab")
        assert "abhello" in "".join(
            s.text for s in main_screen(app).query_one(TokenView).render_line(0)
        )


async def test_a_theme_of_the_palette_is_kept() -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        app.theme = "gruvbox"
        await pilot.pause()
    assert preferences.load()[0].theme == "gruvbox"


def test_every_action_has_a_name_of_its_own() -> None:
    names = [key.id for key in KEYS]
    assert all(names) and len(set(names)) == len(names)
    assert key_problems({}) == []


def test_keys_of_windows_can_be_chosen_too() -> None:
    names = [str(binding.id) for binding in window_keys()]
    assert len(names) > 40 and not set(names) & {key.id for key in KEYS}
    assert problems(dict.fromkeys(names, "f12")) == []
    assert problems({"branches.gone": "f12"}) == [
        "there is no action 'branches.gone', so it cannot have a key"
    ]


@pytest.mark.parametrize("key", ["ctrl+y", "ctrl+j", "alt+delete", "x", "tilde", "space"])
def test_a_key_that_the_prompt_has_for_itself_is_no_key_of_everything(key: str) -> None:
    (problem,) = key_problems({"tree": key})
    assert problem.startswith(f"{written(key)} is the prompt's own key")
    assert not key_problems({"text.ban": key, "text.all_keys": "f12"})
    assert not key_problems({"preferences": "ctrl+y"})  # it comes first everywhere


@pytest.mark.parametrize("key", ["f11", "ctrl+t", "alt+s,f11", "shift+f2"])
def test_other_keys_may_be_chosen(key: str) -> None:
    assert not key_problems({"tree": key})


def test_a_key_that_was_given_to_the_prompt_is_its_own() -> None:
    (problem,) = key_problems({"tree": "f11", "prompt.line_break": "f11"})
    assert problem.startswith("F11 is the prompt's own key")
    assert not key_problems({"page_up": "f11", "prompt.page_up": "f11"})  # they do the same


@pytest.mark.parametrize("kind", HEAT_MAPS)
@pytest.mark.parametrize("name", sorted(name for name in BUILTIN_THEMES if "ansi" not in name))
def test_every_heat_can_be_read_in_every_theme(name: str, kind: str) -> None:
    theme = BUILTIN_THEMES[name]
    variables = {**theme.to_color_system().generate(), **theme.variables, "heat-map": kind}
    palette = Palette(variables)
    grounds = []
    for level in range(STEPS):
        for author in get_args(Author):
            style = palette.style(level, author)
            assert style.color and style.bgcolor
            ink, ground = (Color.from_rich_color(c) for c in (style.color, style.bgcolor))
            assert contrast(ink, ground) >= READABLE - 0.05
        grounds.append(ground)
    steps = [contrast(a, grounds[0]) for a in grounds]
    if kind != "theme":  # told apart by lightness alone
        assert steps[STEPS // 2] > 1.2 * steps[1] and steps[-1] > 1.2 * steps[STEPS // 2]


def test_marks_show_heat_without_colour() -> None:
    variables = BUILTIN_THEMES["textual-dark"].to_color_system().generate()
    palette = Palette({**variables, "heat-marks": "true"})
    looks = [
        (style.underline or False, style.bold or False)
        for style in (palette.style(level, "model") for level in range(STEPS))
    ]
    assert len(set(looks)) == 4 and looks[0] == (False, False)
    changes = sum(a != b for a, b in pairwise(looks))
    assert changes == 3


async def test_no_color_turns_the_marks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = app_with(FakeBackend())
    async with running(app):
        assert main_screen(app).query_one(TokenView)._palette.style(STEPS - 1, "model").bold


async def test_a_letter_leads_to_each_part_of_the_screen() -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        screen = main_screen(app)
        await pilot.press("ctrl+l")
        assert isinstance(app.screen, JumpScreen)
        letters = {part: letter for letter, part in app.screen._parts.items()}
        assert {TokenView, Prompt, Dial} <= {type(part) for part in letters}
        dial = screen.query_one("#top_p", Dial)
        await pilot.press(letters[dial])
        await pilot.pause()
        assert screen.focused is dial
        await pilot.press("ctrl+l", "escape")
        await pilot.pause()
        assert screen.focused is dial


async def test_a_field_below_the_line_of_effects_has_no_letter() -> None:
    app = app_with(FakeBackend("hello"))
    async with running(app, (80, 24)) as pilot:
        screen = await write(pilot, app, "ab")
        screen.panels.chosen = "sampling"
        effect = screen.query_one(Effect)
        while not effect.region.area:
            await pilot.pause()
        await pilot.press("ctrl+l")
        await pilot.pause()
        assert isinstance(app.screen, JumpScreen)
        places = [part.region.offset for part in app.screen._parts.values()]
        assert len(places) > 5 and not any(effect.region.contains(*each) for each in places)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (200, 60)], ids=str)
async def test_only_what_is_in_view_has_a_letter_and_the_prompt_has_always_the_same(
    size: tuple[int, int],
) -> None:
    app = app_with(FakeBackend())
    async with running(app, size) as pilot:
        screen = main_screen(app)
        assert screen.controls
        await screen.controls.open()
        for name in ("token", "sampling", "tree", "layers"):
            screen.panels.chosen = name
            await pilot.pause()
            await pilot.press("ctrl+l")
            await pilot.pause()
            assert isinstance(app.screen, JumpScreen)
            places = [label.region for label in app.screen.query(Label) if label.id != "hint"]
            assert len(places) == len(app.screen._parts) == len({each.offset for each in places})
            for letter, part in app.screen._parts.items():
                if part in screen.controls.walk_children():
                    assert screen.controls.content_region.contains(*part.region.offset), letter
            assert app.screen._parts["a"] is screen.prompt
            await pilot.press("a")
            await pilot.pause()
            assert screen.prompt.has_focus
