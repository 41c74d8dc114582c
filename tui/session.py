"""One text and one model: the state of the program and its runs; no widgets.

`load`, `run` and `read` yield what happens; `report` is called with what happens at other times.
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from gpt.capabilities import Capabilities
from tui import store
from tui.autosave import Autosave
from tui.backend import (
    BackendError,
    Completion,
    Connect,
    Connection,
    Done,
    EngineDiedError,
    Status,
    Steps,
)
from tui.changes import carried
from tui.document import Document, Node
from tui.figures import Figures, Tally
from tui.garbage import Settler
from tui.measure import perplexity
from tui.model_in_use import ModelInUse
from tui.news import Change, News, Problem, PromptReturned, State
from tui.node import to_fork
from tui.runs import (
    READY,
    Growth,
    RunSettings,
    advised,
    finished,
    or_as_before,
    read,
    request_for,
    writing,
)
from tui.saved_text import Entry
from tui.special_tokens import segments
from tui.store import Place

CALM = 0.1
"""Seconds between two updates of the panels while text streams; less would flicker."""
KEEP_EVERY = 10.0
"""Seconds between two saves during a run; more if saving takes long."""


class Session(ModelInUse):
    """A document, the file it is saved in, a backend, and the run that writes into the document."""

    def __init__(
        self,
        connect: Connect,
        connection: Connection,
        model: str,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """connection: a backend that loads the model already; connect starts another one."""
        super().__init__(connect, connection, model)
        self.document = Document()
        self.figures = Figures()
        self.growing: dict[int, Node] = {}
        """The last token of each branch that a run lets grow."""
        self.is_branching = False
        """A run writes several branches."""
        self.left: Node | None = None
        """End of the text that the latest step replaced; None if a deletion came since, or none."""
        self.searched = ""
        """Words of the latest search."""
        self.report: Callable[[News], object] = lambda news: None
        """Called with what happens outside a run: a text that could not be saved."""
        self._clock = clock
        self._settler = Settler(clock)
        self._autosave = Autosave(lambda problem: self.report(problem))

    @property
    def perplexity(self) -> float | None:
        """Perplexity of the sampled tokens of the path, by the model's own probabilities; of all
        tokens if none was sampled."""
        if self.is_busy:  # too slow to compute for every token of a long text
            return self.figures.perplexity
        nats, n_tokens, _ = self.document.surprisal()
        return perplexity(nats, n_tokens)

    @property
    def is_of_drawn(self) -> bool:
        """Whether `perplexity` is that of sampled tokens."""
        if self.is_busy:
            return bool(self.document.path) and not self.document.path[-1].is_prompt
        return self.document.surprisal()[2]

    @property
    def n_networks(self) -> int:
        """How many networks, by what is changed inside, the tokens of `perplexity` come from; 1
        during a run."""
        return 1 if self.is_busy else self.document.n_networks

    def switch(self, model: str, *, probe: bool = False) -> None:
        """As ModelInUse; the speed was the other model's."""
        super().switch(model, probe=probe)
        self.figures.speed = None

    @property
    def can_go_back(self) -> bool:
        """Whether `left` is another text than the one on the screen."""
        return self.left is not None and self.left not in self.document.path[-1:]

    # The text.

    def close(self) -> None:
        """End the backend and save the text."""
        self.backend.close()
        try:
            document = self.document
            nodes, path = list(document.nodes()), list(document.path)
            facts = document.system, document.changes, document.setup
            self.place.save(self.model, nodes, path, *facts)
        finally:
            self.place.release()

    def begin(self, document: Document | None = None, place: Place | None = None) -> None:
        """Replace the current text by another one; the current one stays on the disk."""
        new = document or Document()
        if document is None:
            new.changes = carried(self.document.changes)
        self._autosave.move(self.document, self.model, new, place or Place())
        self.document, self.left = new, None

    @property
    def place(self) -> Place:
        """Where the text is saved."""
        return self._autosave.place

    def open(self, path: Path) -> tuple[Entry, bool]:
        """Replace the current text by a saved one, at the place where its reader left it.

        Returns the head of the file, and whether this program may write it: if another program has
        it open, changes are saved as another text.
        """
        document, entry = store.load(path)
        place = Place(path)
        is_ours = place.claim()
        self.begin(document, place)
        return entry, is_ours

    def keep(self) -> None:
        """Start to save the text."""
        self._autosave.start(self.document, self.model)

    # Runs.

    def run(
        self,
        settings: RunSettings,
        text: str = "",
        at: int | None = None,
        new_ids: Sequence[int] = (),
        as_is: bool = False,
    ) -> AsyncIterator[News]:
        """Let the model continue after the path, new_ids and text, which may have special tokens.

        at: cut the path to its first `at` tokens before. as_is: in a chat, the text is not a turn.
        All branches start at the same place; each one has the next seed. If nothing comes, the path
        is the same as before.
        """
        before = list(self.document.path)
        self.left = before[-1] if at is not None and at < len(before) else None
        if at is not None:
            self.document.cut(at)
        parts = segments(text, self.loaded.special_tokens if self.loaded else {})
        request = request_for(self.document, settings, new_ids, parts, as_is=as_is)
        return self.until_free(or_as_before(self.draw(request, text), self.document, before))

    def read(self, text: str, written: bytes = b"") -> AsyncIterator[News]:
        """Replace the current text by this one, as the model's tokens with their probabilities.

        written: for each byte of the text, 1 if the person wrote it; after its end the person
        wrote everything.
        """
        self.begin()
        return self.until_free(read(self.backend, self.document, text, written))

    def read_again(self) -> AsyncIterator[News]:
        """Read the path with the current model; its other branches stay in the old file."""
        path = self.document.path
        self.document.changes = ()  # they name parts of the other model
        written = b"".join(bytes([node.is_prompt]) * len(node.step.added) for node in path)
        return self.read(self.document.text, written)

    def until_free(self, news: AsyncIterator[News]) -> AsyncIterator[News]:
        """The same events; the session is busy until they end, then the text is saved."""
        self.is_busy = True
        return self._until_free(news)

    async def _until_free(self, news: AsyncIterator[News]) -> AsyncIterator[News]:
        try:
            async for each in news:
                if each is Change.GREW:
                    self._settler.settle()
                yield each
        finally:
            self.is_busy, self.is_branching, self.growing = False, False, {}
        self.keep()
        yield Change.ENDED

    def stop(self, node: Node) -> bool:
        """Stop the branch of the run that goes on after a node; False if none is growing there."""
        after = to_fork(node)
        found = [branch for branch, tip in self.growing.items() if tip in after]
        for branch in found:
            self.backend.stop(branch)
        return bool(found)

    async def draw(self, request: Completion, typed: str = "") -> AsyncIterator[News]:
        """A run without `until_free`. typed: the text of the request as it was in its field."""
        waiting = self.loaded is None
        yield State(f"Waiting for the model: {self.waiting}" if waiting else "Reading the prompt")
        before = len(self.document.path)
        try:
            async for each in self._stream(request):
                if not isinstance(each, Done):
                    yield each
                    continue
                if typed and each.finish_reason == "cancelled" and not each.tokens:
                    # Perhaps a part of the prompt was read; sent again, it joins that part.
                    self.document.cut(before)
                    yield Change.PATH
                    yield PromptReturned(typed)
                fork = self.document.fork(len(self.document.path) - 1)
                is_fork = fork is not None and fork >= before
                yield finished(each, is_fork=is_fork)
        except BackendError as error:
            dead = isinstance(error, EngineDiedError)
            yield State("Press Ctrl+R to restart the engine") if dead else READY
            can_go_on = not dead and len(self.document.path) > before
            yield Problem(advised(str(error), "Ctrl+G continues the text" * can_go_on))
            if typed and not self.document.ids[len(request.ids) :]:
                yield PromptReturned(typed)

    async def _stream(self, request: Completion) -> AsyncIterator[News | Done]:
        """The events of a run; the last one is Done. Its first branch becomes the path."""
        growth = Growth(self.document, request)
        self.growing, self.is_branching = growth.tips, request.branches > 1
        was_ready = self.loaded is not None
        tally = Tally(self.figures, self.document, self._clock(), was_ready=was_ready)
        looked, kept, left = -math.inf, self._clock(), request.branches
        async for event in self.backend.complete(request):
            if isinstance(event, Steps):
                can = self.loaded.capabilities if self.loaded else Capabilities()
                on_path, now = growth.add(event, can), self._clock()
                if not event.is_prompt and tally.add(event.steps, now, on_path=on_path):
                    yield writing(left)
                if event.steps and event.steps[-1].finish_reason and left > 1:
                    left -= 1
                    yield writing(left)
                if on_path:
                    yield Change.GREW
                if now - looked > CALM:
                    looked = now
                    yield Change.LOOK
                if now - kept > max(KEEP_EVERY, 20 * self.place.seconds):
                    kept = now
                    self.keep()
            elif isinstance(event, Done):
                self.figures.speed = event.tokens / event.seconds if event.tokens else None
                if self.loaded:
                    self.loaded = self.loaded._replace(**event.how)
                yield Change.COMPLETE
                yield event
                return
            elif isinstance(event, Status):
                if event.is_notice:
                    yield Problem(event.message)
                else:
                    yield State(f"{event.message}; Esc stops")
        raise BackendError("the engine did not say that it was done")
