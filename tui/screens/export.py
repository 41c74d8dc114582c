"""The dialog that exports a text: format, branches, file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import ClassVar

from textual import events, getters, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, Static
from textual.widgets.input import Selection

from gpt.errors import UserError
from tui import served
from tui.document import Document
from tui.export.formats import FORMATS, write
from tui.export.parts import Export, Part, every, shown, starred
from tui.labels import shortened
from tui.screens.dialog import Dialog
from tui.screens.texts import free_name
from tui.widgets.choices import Choices
from tui.widgets.field import Field

_SUFFIXES = list(FORMATS)
_FIRST = _SUFFIXES.index(".html")
_NO_STAR = "No branch has a star; s in Branches gives one."
_ONE = "There is only one branch."
_EDITS = {
    "home": "home",
    "end": "end",
    "backspace": "delete_left",
    "delete": "delete_right",
}
"""Key → the field's own action."""


class ExportScreen(Dialog[Path | None]):
    """Returns the path of the file that was written, or None.

    A name that is refused stays in its field, with the reason below.
    """

    DEFAULT_CSS = """
    ExportScreen {
        align: center middle;
        & > Vertical {
            width: 80;
            max-width: 100%;
            height: auto;
            max-height: 100%;
            border: round $primary;
            padding: 0 1;
            background: $background;
        }
        & #file {
            height: 3 !important;
            background: $background;
            border: round $foreground 25% !important;
            border-title-color: $text-muted;
            padding: 0 1;
        }
        & #file:focus { border: round $primary !important; border-title-color: $text; }
        & #problem { height: auto; max-height: 3; color: $text-error; padding: 0 2; }
        & #problem.-busy { color: $text; text-style: bold; }
        & Horizontal { height: 1; align-horizontal: right; }
        & Button { margin-left: 2; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f4", "leave", "back", id="export.back"),
        Binding("enter", "export", "export", id="export.export"),
        Binding("up", "app.focus_previous", "up", show=False),
        Binding("down", "app.focus_next", "down", show=False),
    ]

    formats = getters.query_one("#formats", Choices)
    what = getters.query_one("#what", Choices)
    field = getters.query_one(Field)
    problem = getters.query_one("#problem", Static)

    def __init__(self, document: Document, model: str) -> None:
        super().__init__()
        self._document, self._model = document, model
        self._is_writing = False

    def compose(self) -> ComposeResult:
        """Two rows of buttons, the field, the reason of a refusal, and the last two buttons."""
        stars = sum(branch.remark.is_starred for branch in self._document.all_branches())
        count = self._document.branch_count
        what = "This branch", f"Starred: {stars}", f"All branches: {count}"
        reasons = "", "" if stars else _NO_STAR, "" if count > 1 else _ONE
        with Vertical() as panel:
            panel.border_title = "Export"
            panel.border_subtitle = "Enter exports · ← → choose · ↓ next row · Esc leaves"
            yield Choices("Format", [each.name for each in FORMATS.values()], id="formats")
            yield Choices("What", what, reasons, id="what")
            name = str(self._directory / free_name())
            field = Field(name, id="file", compact=True, select_on_focus=False)
            field.border_title = "File" + ", in the directory of texts" * self.app.is_web
            yield field
            yield Static(id="problem", markup=False)
            with Horizontal():
                yield Button("Export", id="export", compact=True, variant="primary")
                yield Button("Cancel", id="cancel", compact=True)

    @property
    def _directory(self) -> Path:
        """Where a new file is proposed; in a browser only names are."""
        if self.app.is_web:
            return Path()
        try:
            return Path.cwd()
        except OSError:  # it was deleted
            return Path.home()

    def on_mount(self) -> None:
        """Begin with the format; the name is selected without its directory and its end, so that
        typing there replaces it."""
        self.formats.chosen = _FIRST
        self.formats.focus()
        path, text = Path(self.field.value), self.field.value
        self.field.selection = Selection(len(text) - len(path.name), len(text) - len(path.suffix))

    def on_key(self, event: events.Key) -> None:
        """Letters go into the name, wherever the focus is, and so do the keys that edit it."""
        is_letter = event.is_printable and event.key != "space"
        if self.field.has_focus or not (is_letter or event.key in _EDITS):
            return
        event.stop()
        self.set_focus(self.field)
        if is_letter:
            self.field.replace(event.character or "", *self.field.selection)
        else:
            getattr(self.field, f"action_{_EDITS[event.key]}")()

    @on(Choices.Chosen, "#formats")
    def _other_format(self) -> None:
        """The name ends as the format wants it."""
        suffix = _SUFFIXES[self.formats.chosen]
        name = self.field.value
        old = Path(name).suffix
        if old.lower() == suffix:
            return
        stem = name.removesuffix(old) if old.lower() in FORMATS else name
        self.field.value = stem + suffix

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        """The format is the one that the name ends with. What is typed into the proposed name
        replaces its parts: a path from the root or from home its directory, an end its end."""
        self.problem.update("")
        at, proposed = self.field.cursor_position, f"{self._directory}/"
        before, after = event.value[:at], event.value[at:]
        if before.startswith((f"{proposed}/", f"{proposed}~/")):
            before = before.removeprefix(proposed)
        if {after.lower(), Path(before).suffix.lower()} <= FORMATS.keys():
            after = ""
        if before + after != event.value:
            self.field.value = before + after
            self.field.cursor_position = len(before)
            return
        suffix = Path(event.value).suffix.lower()
        if suffix in FORMATS:
            self.formats.chosen = _SUFFIXES.index(suffix)

    @on(Button.Pressed)
    def _pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "export":
            self.action_export()
        else:
            self.action_leave()

    def action_leave(self) -> None:
        """Close without a file; a file that is being written is finished first."""
        if not self._is_writing:
            self.dismiss(None)

    @on(Input.Submitted)
    def action_export(self) -> None:
        """Write the file and close; a refusal stays here."""
        if not self.is_shown:  # a key that arrived with the one that opened the dialog
            self.call_after_refresh(self.action_export)
            return
        if self._is_writing:
            return
        name = self.field.value.strip()
        if not name:
            self._refuse("Type a name for the file.")
            return
        if not self.app.is_web and _is_directory(name):
            name = str(Path(name) / Path(free_name()).stem)
        if not Path(name).suffix and not name.endswith(("/", ".")) and name.lower() not in FORMATS:
            name += _SUFFIXES[self.formats.chosen]
        try:
            path = served.export_path(name) if self.app.is_web else _path(name)
        except UserError as error:
            self._refuse(str(error))
            return
        parts = _PARTS[self.what.chosen](self._document)
        export = Export(parts, self._model, datetime.now().astimezone())
        self._is_writing = True
        self.problem.add_class("-busy")
        self.problem.update(Content(f"Writing {shortened(str(path), 150)} …"))
        self._write(path, export)

    @work(exclusive=True)
    async def _write(self, path: Path, export: Export) -> None:
        """Write in a thread: a long text takes longer than a frame."""
        try:
            await asyncio.to_thread(write, path, export)
        except UserError as error:
            self._refuse(str(error))
        else:
            self.dismiss(path)
        finally:
            self._is_writing = False

    def _refuse(self, reason: str) -> None:
        self.problem.remove_class("-busy")
        said = shortened(reason, 150)
        self.problem.update(Content(said[:1].upper() + said[1:]))
        self.field.focus()


_PARTS: tuple[Callable[[Document], list[Part]], ...] = (shown, starred, every)
"""What each button of "What" exports."""


def _is_directory(name: str) -> bool:
    with suppress(OSError, RuntimeError, ValueError):
        return Path(name).expanduser().is_dir()
    return False


def _path(name: str) -> Path:
    """The path that a person typed; raises UserError if there is no such user's home."""
    try:
        path = Path(name).expanduser().absolute()
        has_directory = path.parent.is_dir()
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"cannot write {name}: {error}") from error
    if not has_directory:
        raise UserError(f"there is no directory {path.parent}")
    return path
