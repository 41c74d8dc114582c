"""The line of keys at the foot of a screen."""

from __future__ import annotations

from collections.abc import Iterator

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text
from textual.binding import Binding
from textual.widget import Widget

HELP = ("F1", "help", "app.help")
ALL_KEYS = "all keys"
"""What the footer calls the list of the text's keys."""
_FIRST = "screen.branch(-1)"
"""An action that is offered only after a person did something, so it is news."""
_GAP = 2


class Hints(Widget):
    """The keys that can do something now, as many as fit; a click acts like the key.

    Behind a window, only the help: the other keys are the window's.
    """

    def on_mount(self) -> None:
        """Follow the focus, what is possible, and windows that come and go in front."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())
        self.app.screen_change_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> Text:
        """Hints from the left, each whole; the ways to all others at the right."""
        if not getattr(self.screen, "is_whole", True):  # before the first frame it would take long
            return Text()
        room = self.size.width - 2
        line, offers = Text(" "), list(self._offers()) if self.screen.is_active else []
        ends = [_hint(*offer) for offer in offers if offer[1] == ALL_KEYS]
        end = Text(" " * _GAP).join([*ends, _hint(*HELP)])
        for key, label, action in offers:
            hint = _hint(key, label, action)
            if label == ALL_KEYS:
                continue
            if cell_len(line.plain) + cell_len(hint.plain) + _GAP + cell_len(end.plain) > room:
                continue
            line.append_text(hint).append(" " * _GAP)
        line.append(" " * (room + 1 - cell_len(line.plain) - cell_len(end.plain)))
        return line.append_text(end)

    def _offers(self) -> Iterator[tuple[str, str, str]]:
        """Key, label and action of each binding that the footer shows."""
        left_out = getattr(self.screen, "left_out", frozenset[str]())
        labels = getattr(self.screen, "labels", {})
        seen = {HELP[1]}
        found = self.screen.active_bindings.values()
        for active in sorted(found, key=lambda each: _place(each.binding)):
            binding = active.binding
            if not (binding.show and active.enabled) or binding.action in left_out:
                continue
            if binding.description not in seen:
                seen.add(binding.description)
                label = labels.get(binding.action, binding.description)
                yield self._key(binding), label, f"app.simulate_key({binding.key!r})"

    def _key(self, binding: Binding) -> str:
        if binding.action == "screen.take(1)":
            return "1-9"  # the other digits take the other candidates
        return self.app.get_key_display(binding)


def _place(binding: Binding) -> int:
    """Where it comes among the hints: news, the way back, the others."""
    return 0 if binding.action == _FIRST else 1 if binding.key == "escape" else 2


def _hint(key: str, label: str, action: str) -> Text:
    text = Text()
    text.append(key, "bold").append(f" {label}")
    text.stylize(Style.from_meta({"@click": action}))
    return text
