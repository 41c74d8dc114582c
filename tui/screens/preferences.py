"""What a person chooses for good: how it looks, what the dials begin with, which keys it has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.content import Content
from textual.widgets import Button, DataTable, Label, Select, Static

from gpt.sanitize import one_line
from tui.keys import Key, catalogue, key_problems
from tui.preferences import HEAT_MAPS, path
from tui.screens.dialog import Dialog
from tui.widgets.controls import Tick

if TYPE_CHECKING:
    from tui.app import GPTApp


class PreferencesScreen(Dialog[None]):
    """Each change holds at once and is saved at once."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f6", "dismiss(None)", "back", id="preferences.back")
    ]

    def __init__(self, dials: dict[str, float]) -> None:
        super().__init__()
        self._dials = dials
        """What they stand at just now."""
        self._keys = catalogue()

    @property
    def _app(self) -> GPTApp:
        return cast("GPTApp", self.app)

    def compose(self) -> ComposeResult:
        """The looks above the keys."""
        preferences = self._app.preferences
        with Vertical(id="panel") as panel:
            panel.border_title = "settings; on a key: Enter changes it, Delete takes that back"
            panel.border_subtitle = Content(one_line(str(path())))
            with Grid():
                yield Label("theme", markup=False)
                themes = sorted(self.app.available_themes)
                yield _select("theme", themes, self.app.theme)
                yield Label("heat map", markup=False)
                yield _select("heat_map", HEAT_MAPS, preferences.heat_map)
                yield Label("without colour", markup=False)
                yield Tick(
                    "also underlined, bold, both", preferences.marks, id="marks", compact=True
                )
                yield Label("dials", markup=False)
                yield Button("begin with what they stand at now", id="dials", compact=True)
            yield DataTable(cursor_type="row")

    def on_mount(self) -> None:
        """A row for each action."""
        table: DataTable[Text] = self.query_one(DataTable)
        for name, width in (
            ("key", 12),
            ("what it does", 42),
            ("where", 13),
            ("name in the file", 0),
        ):
            table.add_column(name, width=width or None, key=name)
        for key in self._keys:
            table.add_row(
                Text(self._keys_of(key)),
                Text(key.description),
                Text(key.place),
                Text(key.id),
                key=key.id,
            )

    def _keys_of(self, key: Key) -> str:
        return self._app.preferences.keys.get(key.id, key.keys)

    @on(Select.Changed)
    def _chosen(self, event: Select.Changed) -> None:
        name, value = event.select.id or "", str(event.value)
        if getattr(self._app.preferences, name) != value:
            self._app.prefer(**{name: value})

    @on(Tick.Changed)
    def _ticked(self, event: Tick.Changed) -> None:
        if self._app.preferences.marks != event.value:
            self._app.prefer(marks=event.value)

    @on(Button.Pressed)
    def _keep_dials(self) -> None:
        self._app.prefer(settings=self._dials)
        self.notify("the dials begin like this from now on", markup=False)

    @on(DataTable.RowSelected)
    def _ask_for_key(self, event: DataTable.RowSelected) -> None:
        key = self._keys[event.cursor_row]

        def chosen(name: str | None) -> None:
            if name:
                self._give(key, name)

        self.app.push_screen(KeyQuestion(key.description), chosen)

    def key_delete(self) -> None:
        """The highlighted action has its own key again."""
        table: DataTable[Text] = self.query_one(DataTable)
        if table.has_focus and self._keys:
            self._give(self._keys[table.cursor_row], None)

    def _give(self, key: Key, name: str | None) -> None:
        keys = {each: value for each, value in self._app.preferences.keys.items() if each != key.id}
        if name is not None and name != key.keys:
            keys[key.id] = name
        self._app.prefer(keys=keys)
        for problem in key_problems(keys):
            self.notify(one_line(problem), severity="warning", markup=False)
        self.query_one(DataTable).update_cell(key.id, "key", Text(self._keys_of(key)))


class KeyQuestion(Dialog[str | None]):
    """Gives the key that is pressed, or None for Esc."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self._action = action

    def compose(self) -> ComposeResult:
        """Nothing that could take the key."""
        yield Static(Content(f"press the key for: {self._action}"))

    def on_key(self, event: events.Key) -> None:
        """Take it."""
        event.stop()
        self.dismiss(None if event.key == "escape" else event.key)


def _select(name: str, values: Iterable[str], value: str) -> Select[str]:
    options = [(Content(one_line(each)), each) for each in values]
    return Select(options, value=value, allow_blank=False, id=name, compact=True)
