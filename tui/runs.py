"""What a run is given, what the program says at its end, and how a text is read; no widgets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from gpt.capabilities import Capabilities
from gpt.settings import Sampling
from tui.backend import Backend, BackendError, Completion, Done, Loaded, Status, Steps
from tui.document import Document, Node
from tui.news import Change, News, Problem, PromptReturned, State
from tui.special_tokens import Segments, without_marks

READY = State("Enter sends")
SLIDE = 'Sampling: tick "Slide context when full"'
CONTEXT_FULL = State("Context full. Enter lets the oldest tokens go")
"""Holds as long as the text fills the context and the tick is off; Enter then ticks it."""
FINISHED = {
    "length": "Done: {n} tokens",
    "eos": "Done: the model ended its text",
    "stop": "Done: the model wrote a stop text",
    "context full": CONTEXT_FULL.message,
    "cancelled": "Stopped",
}
_STOPPED = State(FINISHED["cancelled"])


class RunSettings(NamedTuple):
    """Settings of a run."""

    sampling: Sampling
    length: int
    """Most tokens of a branch."""
    branches: int = 1
    slide: bool = False
    chat: bool = False
    system: str = ""
    """What the model of a chat is told before the first message of a new text."""


def request_for(
    document: Document,
    settings: RunSettings,
    new_ids: Sequence[int],
    parts: Segments,
    *,
    as_is: bool,
) -> Completion:
    """The request to continue after a text, new_ids, and what the person wrote.

    In a chat, an empty text gets the system prompt of the settings.

    parts: texts and special tokens; in a chat a text alone is a message, unless as_is.
    """
    if not document.roots:
        document.system = settings.system if settings.chat else ""
    has_special = any(isinstance(part, int) for part in parts)
    is_apart = has_special or (as_is and settings.chat)
    return Completion(
        [*document.ids, *new_ids],
        "" if is_apart else "".join(map(str, parts)),
        settings.sampling,
        settings.length,
        slide=settings.slide,
        chat=settings.chat,
        new_ids=len(new_ids),
        system=document.system,
        segments=parts if is_apart else (),
        changes=document.changes,
        branches=settings.branches,
    )


class Growth:
    """The branches of a run. The first one becomes the path, the others grow beside it."""

    def __init__(self, document: Document, request: Completion) -> None:
        self._document, self._request = document, request
        self._fork: Node | None = None
        # A token of the first branch may come after the others' at the same place.
        self._older = frozenset(document.nodes()) if request.branches > 1 else None
        self.tips: dict[int, Node] = {}
        """The last token of each branch that grows."""

    def add(self, event: Steps, can: Capabilities) -> bool:
        """Put tokens at the end of their branch; whether the path has grown.

        can: the model, for the settings that they were drawn with.
        """
        document, request, branch = self._document, self._request, event.branch
        sampling = None if event.is_prompt else can.applied(request.sampling.branch(branch))
        if not event.is_prompt and self._fork is None:
            self._fork = document.path[-1]
        last = document.append(
            event.steps,
            is_prompt=event.is_prompt,
            sampling=sampling,
            changes=request.changes,
            after=self.tips.get(branch, self._fork) if branch else None,
            older=None if branch else self._older,
        )
        if last and not event.is_prompt:
            self.tips[branch] = last
            if event.steps[-1].finish_reason:
                del self.tips[branch]
        return not branch


def no_room(
    n: int, loaded: Loaded | None, settings: RunSettings, *, adds: bool, has_text: bool
) -> str:
    """Why the model cannot continue after n tokens; "" if it can, or if that is not known yet.

    adds: these tokens or a prompt are new, so reading them is worth it even if none can follow.
    has_text: a text comes after them.
    """
    if loaded is None or not loaded.block_size or settings.slide:
        return ""
    if n == loaded.block_size and has_text:
        return CONTEXT_FULL.message
    if n > loaded.block_size:
        return (
            f"Up to here the text has {n:,} tokens and the model reads {loaded.block_size:,}. "
            f"{SLIDE}"
        )
    return "" if adds or n < loaded.block_size else CONTEXT_FULL.message


async def or_as_before(
    run: AsyncIterator[News], document: Document, before: Sequence[Node]
) -> AsyncIterator[News]:
    """The same events; if the run failed or was stopped and added nothing, the path is as before.

    before: the path before it was cut for the run.
    """
    is_in_vain = False
    async for news in run:
        is_in_vain |= isinstance(news, Problem) or news in (CONTEXT_FULL, _STOPPED)
        yield news
    path = document.path
    if is_in_vain and len(path) < len(before) and path == before[: len(path)]:
        document.show(before[-1])
        document.cut(len(before))
        yield Change.KEPT


def writing(branches: int) -> State:
    """What to say while a model writes so many branches."""
    if branches > 1:
        return State(f"Writing {branches} branches: Ctrl+T shows them, Esc stops")
    return State("Writing; Esc stops")


def finished(done: Done, *, is_fork: bool = False) -> State:
    """What to say after a run. Without a reason, its branches ended for different ones.

    is_fork: other branches continue from where it began.
    """
    if done.finish_reason == "length" and not done.tokens:
        return READY
    said = FINISHED[done.finish_reason or "length"].format(n=done.tokens)
    if is_fork and said.startswith("Done"):
        said += "; Ctrl+B shows another branch"
    return State(said.replace(" 1 tokens", " 1 token"))


async def read(
    backend: Backend, document: Document, text: str, written: bytes
) -> AsyncIterator[News]:
    """Fill an empty document with a text, as the model's tokens with their probabilities.

    written: for each byte of the text, 1 if the person wrote it; after its end the person wrote
    everything.
    """
    yield Change.PATH
    yield State("Reading the text; Esc stops")
    done, stopped = 0, False
    try:
        async for event in backend.score(text):
            if isinstance(event, Status):
                yield State(f"{event.message}; Esc stops")
            elif isinstance(event, Done):
                stopped = event.finish_reason == "cancelled"
            elif isinstance(event, Steps):
                for step in event.steps:
                    is_prompt = done >= len(written) or bool(written[done])
                    document.append([step], is_prompt=is_prompt)
                    done += len(step.added)
                yield Change.GREW
        yield Change.COMPLETE
        yield State("Stopped; the rest of the text was not read") if stopped else READY
    except BackendError as error:
        yield Problem(str(error))
        yield PromptReturned(without_marks(text))
        yield READY


def advised(problem: str, advice: str) -> str:
    """What is wrong, and what to do; advice may be empty."""
    if not advice:
        return problem
    return f"{problem} {advice}" if problem.endswith("?") else f"{problem}; {advice}"
