"""The same text with other settings or a second model; no widgets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace

from gpt.settings import Sampling
from tui.backend import BackendError, Compared, Completion, Loaded, Steps
from tui.document import Node
from tui.news import Change, News, Problem, SecondReading, SecondText, State, WhatIf
from tui.runs import READY
from tui.session import Session


def what_if(
    session: Session, begin: int, sampling: Sampling, *, slide: bool
) -> AsyncIterator[News]:
    """Sample the path from token `begin` again, with the same random seed and other settings.

    What is changed inside the network now acts; if it acted already and the settings are the same,
    the whole network writes. At the end the old text is on the path again; the new one is a branch.
    """
    return session.until_free(_what_if(session, begin, sampling, slide=slide))


async def _what_if(
    session: Session, begin: int, sampling: Sampling, *, slide: bool
) -> AsyncIterator[News]:
    document = session.document
    old = list(document.path)
    sampling = replace(old[begin].at_token(sampling), seed=_drawn_with(old[begin]).seed)
    document.cut(begin)
    yield Change.PATH
    same = sampling == old[begin].sampling and document.changes == old[begin].changes
    request = Completion(
        document.ids,
        "",
        sampling,
        len(old) - begin,
        slide=slide,
        changes=() if same else document.changes,
    )
    async for news in session.draw(request):
        yield news
    new = list(document.path)
    document.show(old[-1])
    document.cut(len(old))
    yield Change.PATH
    yield WhatIf(old, new, begin)


def write_with(session: Session, model: str, begin: int) -> AsyncIterator[News]:
    """Let a second model continue from token `begin`, with the same random seed and settings."""
    old = list(session.document.path)
    settings = old[begin].at_token(_drawn_with(old[begin]))
    ids = [node.step.token_id for node in old[:begin]]
    request = Completion(
        ids, "", settings, len(old) - begin, slide=True, new_ids=begin, second=True
    )

    async def write(loaded: Loaded) -> AsyncIterator[News]:
        yield State(f"{model} is writing; Esc stops")
        new: list[Node] = []
        acting = loaded.capabilities.applied(settings)
        async for event in session.backend.complete(request):
            if isinstance(event, Steps):
                new.extend(Node(step, event.is_prompt, sampling=acting) for step in event.steps)
        first = next((i for i, node in enumerate(new) if not node.is_prompt), len(new))
        yield SecondText(model, old, new, begin, first)

    session.is_busy = True
    return _with_second_model(session, model, write)


def read_with(session: Session, model: str) -> AsyncIterator[News]:
    """Let a second model read the text."""
    old = list(session.document.path)

    async def read(loaded: Loaded) -> AsyncIterator[News]:
        yield State(f"{model} reads the text; Esc stops")
        new: list[Node] = []
        async for event in session.backend.compare([node.step.token_id for node in old]):
            if isinstance(event, Steps):
                new.extend(Node(step, is_prompt=False) for step in event.steps)
            elif isinstance(event, Compared):
                yield SecondReading(model, old, new, loaded.vocab_size, event.divergence)

    session.is_busy = True
    return _with_second_model(session, model, read)


async def _with_second_model(
    session: Session, model: str, job: Callable[[Loaded], AsyncIterator[News]]
) -> AsyncIterator[News]:
    """Load a second model, do the job, and drop the model."""
    yield State(f"Loading {model} as the second model")
    try:
        async for event in session.backend.load(model, second=True):
            if isinstance(event, Loaded):
                async for news in job(event):
                    yield news
    except BackendError as error:
        yield Problem(f"{model}: {error}")
    finally:
        session.is_busy = False
    with suppress(BackendError):  # an engine that died says so at the next request
        await session.backend.unload()
    yield READY
    yield Change.ENDED


def _drawn_with(node: Node) -> Sampling:
    return node.sampling or Sampling()
