"""The panel of each layer's guess (logit lens) and of where its heads look; asks no model."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from gpt.interpret.answers import Layer
from gpt.sanitize import one_line
from tui.colour import legible
from tui.document import Node
from tui.labels import fit, fit_hints
from tui.widgets.layer_picture import Attention, Found, Looks, Picture, Styles
from tui.widgets.layer_rows import picture

_HINTS = {
    True: "logit lens · ↑↓ layer · ←→ head · L look inside",
    False: "logit lens · e moves here",
}
"""Whether the keys act here → what they do."""
_PARTS = ("faint", "guess", "cell", "top", "here")


class LayersPanel(Widget, can_focus=True):
    """A row for each layer, and below it or next to it the attention of the chosen one.

    The chosen layer and head stay when another token is shown.
    """

    BORDER_TITLE = "Layers"
    ALLOW_SELECT = False
    COMPONENT_CLASSES: ClassVar[set[str]] = {f"layers--{name}" for name in _PARTS}
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,L", "screen.inside", "look inside", id="inside.look"),
        Binding("right", "head(1)", "next head", id="inside.next"),
        Binding("left", "head(-1)", "previous head", id="inside.last"),
        Binding("down", "layer(1)", "next layer", id="inside.down"),
        Binding("up", "layer(-1)", "previous layer", id="inside.up"),
        Binding("end", "layer(1024)", "output", id="inside.end", show=False),
        Binding("home", "layer(-1024)", "embedding", id="inside.home", show=False),
    ]
    DEFAULT_CSS = """
    LayersPanel {
        height: 1fr;

        & > .layers--faint { color: $text-muted; }
        & > .layers--guess { color: $primary; }
        & > .layers--cell { color: $text-muted; }
        & > .layers--top { color: $text-accent; text-style: bold; }
        & > .layers--here {
            background: $block-cursor-blurred-background;
            color: $block-cursor-blurred-foreground;
            text-style: bold;
        }
        &:focus > .layers--here {
            background: $block-cursor-background;
            color: $block-cursor-foreground;
        }
    }
    """

    class Looking(Message):
        """Another attention is shown: of another layer, another head or another token."""

        def __init__(self, title: str, weights: Sequence[float]) -> None:
            super().__init__()
            self.title = title
            self.weights = weights
            """Of the last tokens before the selected one; empty for the embedding."""

    def __init__(self, **kwargs: str) -> None:
        super().__init__(**kwargs)  # type: ignore[arg-type]
        self._up_to: Sequence[Node] = []
        """The context of the token, then the token."""
        self._answer: Sequence[Layer] = []
        self._reason = "Select a token."
        self._from_end = 0
        """The chosen layer, counted from the output, so that it is the output at first."""
        self._head, self._whose = 0, ""
        self._attention: tuple[int, Attention] | None = None
        """Index of a layer, and its attention."""
        self._drawn: Picture | None = None

    def show(self, nodes: Sequence[Node], found: Sequence[Layer], whose: str = "") -> None:
        """Show the layers' answer about a token.

        nodes: its context, then the token. whose: of which network the numbers are, if that is
        not clear.
        """
        self._say(whose)
        if not found:
            self.wait("Stopped before the layers answered.")
            return
        self._up_to, self._answer, self._attention = nodes, found, None
        self._look()

    def _say(self, whose: str) -> None:
        """Say of which network the numbers are, or else the keys; the title has the tabs."""
        self._whose = whose
        room = self.size.width - 4
        keys = fit_hints(_HINTS[self.has_focus], room)
        short = "of a changed network" if " with " in whose else whose
        ways = (f"logit lens {whose}", whose)
        of = next((each for each in ways if cell_len(each) <= room), short)
        self.border_subtitle = of if whose else keys

    def on_resize(self) -> None:
        """Say what fits."""
        self._say(self._whose)

    def watch_has_focus(self, has_focus: bool) -> None:
        """Say what the keys do."""
        super().watch_has_focus(has_focus)
        self._say(self._whose)

    @property
    def has_answer(self) -> bool:
        """Whether layers are shown, of this token or of another one."""
        return bool(self._answer)

    def wait(self, reason: str) -> None:
        """Show a sentence instead of the layers."""
        self._say("")
        self._reason, self._answer, self._drawn = one_line(reason), (), None
        self.refresh()

    def action_layer(self, by: int) -> None:
        """Choose a layer further down or up the list."""
        if self._answer:
            self._choose(self._at + by, self._head)

    def action_head(self, by: int) -> None:
        """Choose another head of the layer, or the mean of all."""
        if self._answer and (n := len(self._answer[self._at].attention)):
            self._choose(self._at, (self._found.head + by) % (n + 1))

    def on_click(self, event: events.Click) -> None:
        """Choose the layer or the head under the mouse; the mean at the title of the heads."""
        place = event.get_content_offset(self)
        if place is None or not self._answer:
            return
        shown = self._picture()
        layer, head = shown.layer(*place), shown.head(*place)
        if layer is not None:
            self._choose(layer, self._head)
        elif head is not None:
            self._choose(self._at, head)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Choose the next layer."""
        event.stop()
        self.action_layer(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Choose the previous layer."""
        event.stop()
        self.action_layer(-1)

    @property
    def _at(self) -> int:
        return max(0, len(self._answer) - 1 - self._from_end)

    @property
    def _found(self) -> Found:
        at = self._at
        if self._attention is None or self._attention[0] != at:
            self._attention = at, Attention(self._answer[at].attention)
        attention = self._attention[1]
        head = self._head if self._head <= len(attention.heads) else 0
        return Found(self._up_to, self._answer, at, head, attention)

    def _choose(self, layer: int, head: int) -> None:
        before = self._from_end, self._head
        last = len(self._answer) - 1
        self._from_end, self._head = last - max(0, min(layer, last)), head
        if before != (self._from_end, self._head):
            self._look()

    def _look(self) -> None:
        """Draw, and tell the screen where the chosen head looks."""
        found, self._drawn = self._found, None
        weights = found.attention.weights(found.head)
        self.post_message(self.Looking(found.titles[0], weights))
        self.refresh()

    def render_lines(self, crop: Region) -> list[Strip]:
        """Rows of the panel with its frame; a picture of another size or theme is drawn again."""
        if self._drawn and self._drawn.looks != self._looks():
            self._drawn = None
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        """One row of the panel."""
        drawn = self._picture()
        strip = Strip(drawn.rows[y] if y < len(drawn.rows) else [])
        return strip.adjust_cell_length(drawn.looks.width, drawn.looks.styles.plain)

    def _looks(self) -> Looks:
        """Size and colours of a picture."""
        parts = (legible(self.get_component_rich_style(f"layers--{name}")) for name in _PARTS)
        return Looks(*self.content_size, Styles(self.rich_style, *parts))

    def _picture(self) -> Picture:
        """What is drawn now."""
        if self._drawn is None:
            looks = self._looks()
            if self._answer:
                self._drawn = picture(self._found, looks)
            else:
                lines = wrap(self._reason, max(1, looks.width))
                faint = looks.styles.faint
                rows = [[Segment(fit(line, looks.width), faint)] for line in lines]
                self._drawn = Picture(looks, rows)
        return self._drawn
