"""What the settings on the screen do to the selected token, in one line; no document."""

from __future__ import annotations

from rich.text import Text
from textual.widget import Widget

from tui.labels import percent
from tui.widgets.inspector import Inspector, Row, rows

_LABEL = 12
"""Cells of the label: as wide as those of the settings above."""


class Effect(Widget):
    """The probability of each candidate by the model, and after the settings.

    It stands among the settings where the panel of the token has no room next to them.
    """

    def on_mount(self) -> None:
        """Show what the panel of the token shows, which may be hidden."""
        self._token = self.screen.query_one(Inspector)
        for name in ("step", "now", "now_own", "acting"):
            self.watch(self._token, name, self._changed)

    def _changed(self) -> None:
        self.refresh()

    def render(self) -> Text:
        """As many candidates as fit."""
        step, now, own = self._token.step, self._token.now, self._token.now_own
        # If another network read the token than the one that acts now, both are of the latter.
        label = "effect" if own is None else f"{self._token.acting} net"
        text = Text(f"{label:{_LABEL}}", no_wrap=True, overflow="ellipsis", style="dim")
        if step is None or step.logprob is None or (now is None and step.sampling_logprob is None):
            return text.append("select a token to see its candidates here")
        shown = Text()
        found = rows(step, self._token.vocab_size, len(step.candidates), now, own)
        for row in sorted(found, key=lambda row: not row.is_chosen):  # above all the token itself
            said = _said(row)
            if _LABEL + shown.cell_len + said.cell_len > self.size.width:
                break
            shown.append_text(said)
        return Text.assemble(text, shown)


def _said(row: Row) -> Text:
    mark = "▸" if row.is_chosen else ""
    after = "–" if row.after is None else percent(row.after)
    own = percent(row.own).removesuffix("%").rstrip()
    return Text(f"{mark}{row.label} {own} → {after}   ", "bold" if row.is_chosen else "")
