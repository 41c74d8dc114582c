"""The fields of the sampling settings, which the next run uses; no model."""

from __future__ import annotations

from rich.cells import cell_len
from textual import getters, on
from textual.app import ComposeResult
from textual.binding import Binding
from textual.content import Content
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Button, Checkbox, Input, Label

from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Sampling
from tui.dials import KNOBS, MORE, WORDS
from tui.labels import sentence
from tui.widgets.dial import Dial, Tick, Words, number
from tui.widgets.effect import Effect
from tui.widgets.sampling_fields import SamplingFields
from tui.widgets.setting_rows import more_rows, rows, said
from tui.widgets.slider import Slider
from tui.widgets.told import Told

_LATER = {*(knob.name for knob in MORE), "dynatemp_range", "order"}
"""Settings that only the opened panel shows."""
_EXAMPLES = {"banned": "e.g. king, ·king, #12", "boosted": "e.g. king:2 (+2 nats), #12:-1"}
"""What the empty fields for words say."""
_TAB = "Tab to change"
_CHANGED_BY = (
    (Dial, "← → change"),
    (Checkbox, "Space changes"),
    (Button, "Enter changes"),
    (Input, "type words"),
)
"""How what has the focus is changed."""


class Controls(SamplingFields):
    """One row for each setting."""

    BORDER_TITLE = "Sampling"
    BINDINGS = [  # noqa: RUF012
        Binding("up", "field(-1)", "previous setting", show=False, id="setting.last"),
        Binding("down", "field(1)", "next setting", show=False, id="setting.next"),
    ]

    _more_box = getters.query_one("#more", Checkbox)
    _problem = getters.query_one("#problem", Label)

    class Turned(Message):
        """A setting has another value."""

    def __init__(self, *, chat: bool, system: str = "") -> None:
        """system: what the model of a chat is told first."""
        super().__init__()
        self._chat, self._told_first = chat, system
        self._wrong = ""
        """The first problem of the settings."""
        self.acting = frozenset[str]()
        """Names of the settings that are not neutral."""

    def compose(self) -> ComposeResult:
        """Labels, sliders and fields in three columns."""
        yield Label(id="problem", markup=False)
        yield Effect()
        yield from rows(KNOBS[: -len(MORE)])
        for name, tip in WORDS.items():
            yield Label(name, id=f"label_{name}", markup=False)
            yield Words(id=name, compact=True, placeholder=_EXAMPLES[name], tooltip=tip)
        yield Tick(
            "Chat",
            self._chat,
            id="chat",
            compact=True,
            tooltip="each prompt is a message of a chat; the model stops after its answer",
        )
        yield Told(self._told_first)
        yield Tick(
            "Slide context when full",
            id="slide",
            compact=True,
            tooltip="when the context is full, continue and forget the oldest tokens",
        )
        tip = "penalties, DRY, XTC, mirostat and other settings, and their order"
        yield Tick("More", id="more", compact=True, tooltip=tip)

    def show_former(self, sampling: Sampling | None) -> None:
        """Mark on the sliders what the selected token was sampled with."""
        for slider in self.query(Slider):
            slider.former = None if sampling is None else getattr(sampling, slider.knob.name)

    @on(Slider.Moved)
    def _moved(self, event: Slider.Moved) -> None:
        event.stop()
        self._field(event.slider.knob.name).show(f"{event.value:.10g}")

    def _write(self, name: str, text: str) -> None:
        super()._write(name, text)
        if name in self._later:  # a field sends a message
            self.check()

    @on(Input.Changed)
    def check(self) -> None:
        """Show the first problem of the settings and the name of their preset; move the sliders."""
        problem = ""
        focused = self.screen.focused
        try:
            if isinstance(focused, Dial) and focused.problem:  # the one that is being changed
                number(focused.knob, focused.value)
            self._show_acting(self._sampling(seed=self._seed() or 0))
            _ = self.length, self.branches
        except UserError as error:
            problem = one_line(str(error))
        self._wrong = sentence(problem)
        self._problem.update(Content(problem))
        if bool(problem) != self.has_class("-problem"):  # its lines take room from the fields
            self.set_class(bool(problem), "-problem")
            self.on_show()
        self._say()
        for field in self.query(Dial):
            field.set_class(bool(field.problem), "-wrong")
        values = self.numbers()
        for slider in self.query(Slider):
            slider.value = values.get(slider.knob.name)
        self.post_message(self.Turned())

    @on(Input.Submitted)
    def _entered(self, event: Input.Submitted) -> None:
        event.stop()
        event.input.select_all()  # the next number replaces this one
        if isinstance(event.input, Dial):
            event.input.settle()
        said = "A setting acts as soon as it is typed; Ctrl+G continues with it."
        self.notify(self._wrong or said, markup=False)

    def action_field(self, by: int) -> None:
        """Go to the next (1) or previous (-1) setting."""
        inside = [each for each in self.screen.focus_chain if self in each.ancestors]
        here = inside.index(self.screen.focused) if self.screen.focused in inside else 0
        self.screen.set_focus(inside[(here + by) % len(inside)])

    def on_descendant_focus(self) -> None:
        """Say what the keys do now, and mark the setting that they change."""
        self._say()
        focused = self.screen.focused
        for label in self.query(Label):
            label.set_class(focused is not None and label.id == f"label_{focused.id}", "-here")

    on_descendant_blur = on_descendant_focus

    def on_show(self) -> None:
        """The setting that has the focus comes into view, if it was chosen in another window."""
        self.call_after_refresh(self._show_focused)

    def _show_focused(self) -> None:
        if (focused := self.screen.focused) and self in focused.ancestors:
            focused.scroll_visible(animate=False)

    def on_resize(self) -> None:
        """Say what fits."""
        self._say()

    def _say(self) -> None:
        """Say in the border how a setting is changed, and the preset, which a click changes."""
        focused = self.screen.focused if self.has_focus_within else None
        keys = next((said for kind, said in _CHANGED_BY if isinstance(focused, kind)), _TAB)
        preset = Content(f"{self._mixture} ▾").stylize("@click=screen.preset")
        both = Content(" · ").join([Content(keys), preset])
        self.border_subtitle = both if cell_len(both.plain) <= self.size.width - 4 else preset

    @property
    def _mixture(self) -> str:
        """The preset, and how many words change it further."""
        counts = ((name, len(self._words(name).items)) for name in WORDS)
        parts = [self.preset or "no preset", *(f"{n} {name}" for name, n in counts if n)]
        return " + ".join(parts)

    def _show_acting(self, sampling: Sampling) -> None:
        """Open the panel for a setting that begins to act, and count those that do."""
        hidden = sampling.active & _LATER
        if hidden - self.acting:
            self._more_box.value = True
        self.acting = sampling.active.union(sampling.stages)
        self._more_box.label = Content(f"More {len(hidden)}" if hidden else "More")

    async def field_of(self, name: str) -> Widget:
        """The field of a setting, after it is mounted."""
        if name in self._later or self.query_one(f"#{name}").has_class("more"):
            await self.open()
            self.update_node_styles()  # it may get the focus at once
        return self.query_one(f"#{name}")

    async def open(self) -> None:
        """Show the settings that few people need."""
        if texts := self._later:
            self._later = {}
            await self.mount(*more_rows(texts, self.order))
        self.set_class(True, "-more")
        self._more_box.value = True

    @on(Checkbox.Changed, "#more")
    async def _open(self, event: Checkbox.Changed) -> None:
        if event.value:
            await self.open()
        self.set_class(event.value, "-more")
        if self._more_box.has_focus:
            self.call_after_refresh(
                lambda: self.scroll_to(y=self._more_box.virtual_region.y, animate=False)
            )

    def watch_order(self, order: tuple[str, ...]) -> None:
        """Name the settings in their order."""
        if not self._later:
            self.query_one("#order", Button).label = said(order)
        self.check()

    def watch_last_seed(self, seed: int | None) -> None:
        """Say it in the empty field."""
        knob = next(knob for knob in KNOBS if knob.name == "seed")
        self._field("seed").placeholder = (
            knob.empty if seed is None else f"{knob.empty}; last {seed}"
        )

    def tell(self, system: str) -> None:
        """Show the system prompt of a text, if it has one."""
        if system:
            self._system.tell(system)

    @on(Input.Changed, "#system")
    def _told(self, event: Input.Changed) -> None:
        """A system prompt belongs to a chat."""
        self._chat_box.value = self.chat or bool(event.value)
