"""The preferences: looks, first values of the sampling settings, keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, cast

from rich.text import Text
from textual import events, getters, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Grid, Vertical
from textual.content import Content
from textual.widgets import Button, DataTable, Label, Select, Static
from textual.widgets.data_table import ColumnKey

from gpt.sanitize import one_line
from tui.keys import KEYS, Key, names, written
from tui.preferences import HEAT_MAPS, Chooser, path
from tui.screens.dialog import Dialog
from tui.widgets.dial import Tick
from tui.window_keys import problems

_ACTION = "what it does"


class PreferencesScreen(Dialog[None]):
    """Each change is applied and saved at once."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f6", "dismiss(None)", "back", id="preferences.back"),
        Binding("up", "app.focus_previous", "up", show=False),
        Binding("down", "app.focus_next", "down", show=False),
    ]

    table = getters.query_one(DataTable)

    def __init__(self, dials: dict[str, float]) -> None:
        super().__init__()
        self._dials = dials
        """Current values of the sampling settings."""

    @property
    def _app(self) -> Chooser:
        return cast(Chooser, self.app)

    def compose(self) -> ComposeResult:
        """Looks above the table of keys."""
        preferences = self._app.preferences
        with Vertical(id="panel") as panel:
            panel.border_title = Content(f"Preferences · {one_line(str(path()))}")
            panel.border_subtitle = "On a key: Enter changes, Delete resets it · Esc: back"
            with Grid():
                yield Label("theme", markup=False)
                themes = sorted(self.app.available_themes)
                yield _select("theme", themes, self.app.theme)
                yield Label("heat map", markup=False)
                yield _select("heat_map", HEAT_MAPS, preferences.heat_map)
                yield Label("heat marks", markup=False)
                yield Tick(
                    "underline and bold, besides colour",
                    preferences.marks,
                    id="marks",
                    compact=True,
                )
                yield Label("copying", markup=False)
                yield Tick(
                    "copy what the mouse selects at once",
                    preferences.copy_on_select,
                    id="copy_on_select",
                    compact=True,
                )
                yield Label("sampling", markup=False)
                yield Button("Start with the current settings", id="dials", compact=True)
            yield DataTable(cursor_type="row")
            yield Static(id="action")

    def on_mount(self) -> None:
        """Add a row for each action."""
        for name, width in (("key", 12), (_ACTION, 40), ("where", 13)):
            self.table.add_column(name, width=width, key=name)
        for key in KEYS:
            self.table.add_row(
                Text(self._keys_of(key)), Text(key.description), Text(key.place), key=key.id
            )
        self.call_after_refresh(self._fit)

    def on_resize(self) -> None:
        """Give the sentences the room that there is."""
        self.call_after_refresh(self._fit)

    def _fit(self) -> None:
        room = self.table.scrollable_content_region.width
        columns = list(self.table.ordered_columns)
        others = sum(each.width for each in columns if each.key.value != _ACTION)
        padding = 2 * self.table.cell_padding * len(columns)
        self.table.columns[ColumnKey(_ACTION)].width = max(20, room - others - padding)
        self.table.refresh(layout=True)

    @on(DataTable.RowHighlighted)
    def _say(self, event: DataTable.RowHighlighted) -> None:
        """Say all of an action, with the name that it has in the file."""
        key = KEYS[event.cursor_row]
        said = f"{key.description} · {key.place} · in the file: {key.id}"
        self.query_one("#action", Static).update(Content(said))

    def _keys_of(self, key: Key) -> str:
        return ", ".join(map(written, names(key, self._app.preferences.keys)))

    @on(Select.Changed)
    def _chosen(self, event: Select.Changed) -> None:
        name, value = event.select.id or "", str(event.value)
        if getattr(self._app.preferences, name) != value:
            self._app.prefer(**{name: value})

    @on(Tick.Changed)
    def _ticked(self, event: Tick.Changed) -> None:
        name = event.checkbox.id or ""
        if getattr(self._app.preferences, name) != event.value:
            self._app.prefer(**{name: event.value})

    @on(Button.Pressed)
    def _keep_dials(self) -> None:
        self._app.prefer(settings=self._dials)
        self.notify("The program will start with these sampling settings.", markup=False)

    @on(DataTable.RowSelected)
    def _ask_for_key(self, event: DataTable.RowSelected) -> None:
        key = KEYS[event.cursor_row]

        def chosen(name: str | None) -> None:
            if name:
                self._give(key, name)

        self.app.push_screen(KeyQuestion(key.description), chosen)

    def key_delete(self) -> None:
        """Reset the key of the highlighted action."""
        if self.table.has_focus:
            self._give(KEYS[self.table.cursor_row], None)

    def _give(self, key: Key, name: str | None) -> None:
        """Give an action a key, unless another one has it; None: its own key again."""
        chosen = self._app.preferences.keys
        wanted = names(key, {} if name is None else {key.id: name})
        for other in KEYS:
            taken = set(wanted) & set(names(other, chosen))
            if taken and other.place == key.place and other is not key:
                said = f"{written(min(taken))} is the key for: {other.description}"
                self.notify(f"{said}. Give that another key first.", markup=False)
                return
        keys = {each: value for each, value in self._app.preferences.keys.items() if each != key.id}
        if name is not None and name != key.keys:
            keys[key.id] = name
        self._app.prefer(keys=keys)
        for problem in problems(keys):
            self.notify(one_line(problem), severity="warning", markup=False)
        self.table.update_cell(key.id, "key", Text(self._keys_of(key)))


class KeyQuestion(Dialog[str | None]):
    """Returns the key that is pressed, or None for Esc."""

    def __init__(self, action: str) -> None:
        super().__init__()
        self._action = action

    def compose(self) -> ComposeResult:
        """Text only: no widget may handle the key."""
        yield Static(Content(f"Press the new key for: {self._action} · Esc: as it was"))

    def on_key(self, event: events.Key) -> None:
        """Return the key."""
        event.stop()
        self.dismiss(None if event.key == "escape" else event.key)


class _Choice(Select[str], inherit_bindings=False):
    """The arrow keys leave it alone until Enter or Space opens it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter,space", "show_overlay", show=False)]


def _select(name: str, values: Iterable[str], value: str) -> Select[str]:
    options = [(Content(one_line(each)), each) for each in values]
    return _Choice(options, value=value, allow_blank=False, id=name, compact=True)
