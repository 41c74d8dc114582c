"""Actions on the turns of a conversation: answer again, send a message again in other words."""

from __future__ import annotations

from dataclasses import replace

from textual import on
from textual.widgets import Checkbox, Input

from tui.document import Document, Node
from tui.runs import READY
from tui.screens.running import RunningScreen
from tui.special_tokens import has_special
from tui.turns import Message, answer_start, message_at
from tui.widgets.prompt import Prompt

_EDITING = "Your message: Enter sends a new branch, Esc keeps the old one"
_APPENDED = "Special token: Enter appends this as it is, without the chat template"
_NO_MESSAGE = "Special token: not possible in an edited message; Esc keeps the old one"
_REFUSED = (
    "With a special token, this message would lose the chat template around it. Delete the special "
    "token, or press Esc to keep the old message."
)


class TurnActions(RunningScreen):
    """Each action's conditions are in the table of possible actions."""

    _edited: tuple[Document, Node] | None = None
    """The first token of the turn whose message is in the prompt."""
    _draft = ""
    """What was in the prompt before."""
    _warning = ""
    """What the line below the prompt says of a special token in it."""

    @on(Input.Changed, "#system")
    def _told(self, event: Input.Changed) -> None:
        """Say when a system prompt counts: a conversation keeps the one that it began with."""
        if self.document.path and event.value and self.document.system != event.value:
            self.say("System prompt: it counts from a new text on (Ctrl+N)")

    @on(Prompt.Changed)
    @on(Checkbox.Changed, "#chat")
    def _warn(self) -> None:
        """Say before Enter what a special token does in a chat: it replaces the template."""
        is_edit = self.edited_at() is not None
        is_chat = is_edit or (self.controls is not None and self.controls.chat)
        is_apart = is_chat and self._has_special(self.prompt.text)
        warning = (_NO_MESSAGE if is_edit else _APPENDED) if is_apart else ""
        if warning != self._warning and not self.is_writing:
            self.say(warning or (_EDITING if is_edit else READY.message))
        self._warning = warning

    def _has_special(self, text: str) -> bool:
        loaded = self.session.loaded
        return loaded is not None and has_special(text, loaded.special_tokens)

    def action_answer_again(self) -> None:
        """Sample the last answer again from its first token, with other noise."""
        start = answer_start(self.document.path)
        settings = self.run_settings()
        if start is None or settings is None:
            return
        sampling = settings.sampling
        if self.controls and self.controls.has_seed:  # the same one would give the same answer
            sampling = replace(
                sampling, seed=(sampling.seed + self.document.branches(start)) % 2**63
            )
        self.begin_run(settings._replace(sampling=sampling), at=start)

    def action_special_token(self) -> None:
        """Choose a special token of the model and insert it into the prompt."""
        from tui.screens.special_tokens import SpecialTokenPicker

        tokens = self.session.loaded.special_tokens if self.session.loaded else {}
        if not tokens:
            said = "This model has no special tokens." if self.session.loaded else "No model yet."
            self.notify(said, markup=False)
            return

        def chosen(name: str | None) -> None:
            if name is not None:
                self.prompt.insert_special(name)
            self.prompt.focus()

        self.app.push_screen(SpecialTokenPicker(tokens), chosen)

    def edited_message(self, index: int) -> bool:
        """Put the message of this token into the prompt; False if it belongs to none."""
        path = self.document.path
        found = message_at(path, index)
        if found is None:
            return False
        if self._edited is None:
            self._draft = self.prompt.text
        self._edited = self.document, path[found.start]
        self.prompt.text = _text(path, found)
        self.prompt.move_cursor(self.prompt.document.end)
        self.prompt.focus()
        self.say(_EDITING)
        return True

    def edited_at(self) -> int | None:
        """Index of the turn whose message is in the prompt; None if there is none."""
        document, node = self._edited or (None, None)
        if document is not self.document or node not in self.document.path:
            return None
        return self.document.path.index(node)

    def end_edit(self, *, draft: bool) -> bool:
        """Forget the message that is edited; False if there is none.

        draft: put back into the prompt what was there before.
        """
        was_edited, self._edited = self._edited is not None, None
        if was_edited and draft:
            self.prompt.restore(self._draft)
        return was_edited

    def send_message(self, text: str, at: int) -> bool:
        """Send a message in the place of the turn at this index; False after an error message."""
        if self._has_special(text):
            self.complain(_REFUSED)
            return False
        settings = self.run_settings()
        return settings is not None and self.begin_run(settings._replace(chat=True), text, at)


def _text(path: list[Node], message: Message) -> str:
    """A message as the person wrote it, if the template did not change it."""
    data = b"".join(path[i].step.added for i in message.tokens)
    return data.decode("utf-8", "replace")
