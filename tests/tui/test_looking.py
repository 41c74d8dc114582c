"""Requests about the inside of the network, from the interface to the engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpt.checkpoint import load, save
from gpt.config import ModelConfig
from gpt.interpret.heads import heads
from gpt.interpret.intervene import intervened
from gpt.interpret.lens import layers
from gpt.interpret.looks import Heads, LensGrid
from gpt.interventions import Knockout
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tui.backend import BackendError, CancelledAnswerError, Loaded, Looked, Status
from tui.engine_events import event_of, looked
from tui.local_backend import LocalBackend


def nobody(message: str) -> None:
    """Listens to no progress."""


@pytest.fixture
async def backend(tiny_directory: Path) -> AsyncIterator[LocalBackend]:
    """An engine whose model has a long context."""
    save(tiny_directory, random_model(block_size=4096, n_layer=6), CharTokenizer(CHARACTERS))
    backend = LocalBackend().start()
    events = [event async for event in backend.load("tiny")]
    loaded = events[-1]
    assert isinstance(loaded, Loaded)
    assert ModelConfig.from_dict(loaded.config).n_layer == 6
    yield backend
    backend.close()


async def test_an_answer_is_the_record_that_the_library_makes(
    backend: LocalBackend, tiny_directory: Path
) -> None:
    found = await backend.look("heads", Heads, nobody, ids=(1, 2, 3), scores=True)
    expected = heads(load(tiny_directory).new_context(), [1, 2, 3])
    assert found.weights[5][1] == pytest.approx(expected.weights[5][1], abs=1e-5)
    assert found.scores[3].previous == pytest.approx(expected.scores[3].previous, abs=1e-5)


async def test_the_layers_can_be_those_of_a_changed_network(
    backend: LocalBackend, tiny_directory: Path
) -> None:
    changes = (Knockout(part="mlp", layer=2),)
    context = load(tiny_directory).new_context()
    with intervened(context, changes, [1, 2, 3]) as muted:
        expected = [layer.chosen_logprob for layer in layers(muted, [1, 2, 3], 4)]
    found = await backend.layers([1, 2, 3], 4, changes)
    assert [layer.chosen_logprob for layer in found] == pytest.approx(expected, abs=1e-5)
    whole = await backend.layers([1, 2, 3], 4)
    assert abs(whole[-1].chosen_logprob - found[-1].chosen_logprob) > 1e-3


async def test_a_refusal_is_a_sentence(backend: LocalBackend) -> None:
    with pytest.raises(BackendError, match="the text is empty"):
        await backend.look("heads", Heads, nobody, ids=())


async def test_who_no_longer_waits_ends_the_engines_work(backend: LocalBackend) -> None:
    heard: list[str] = []
    ids = tuple([1, 2, 3, 4] * 1000)
    task = asyncio.create_task(backend.look("lens", LensGrid, heard.append, ids=ids, last=4000))
    while not heard:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    found = await backend.look("heads", Heads, nobody, ids=(1, 2, 3))  # is not kept waiting
    assert found.position == 2
    while backend._queues or backend._long:  # closed in a later turn of the loop
        await asyncio.sleep(0)


async def test_escape_ends_it_as_well(backend: LocalBackend) -> None:
    ids = tuple([1, 2, 3, 4] * 1000)
    with pytest.raises(CancelledAnswerError):
        await backend.look("lens", LensGrid, lambda _: backend.cancel(), ids=ids, last=4000)


async def test_a_damaged_answer_is_a_sentence() -> None:
    async def events(*found: object) -> AsyncIterator[object]:
        for each in found:
            yield each

    line = {"id": 1, "event": "heads", "position": "x", "start": 0}
    event = event_of(line)
    assert isinstance(event, Looked)
    told: list[str] = []
    with pytest.raises(BackendError, match="cannot be read: position must be a whole number"):
        await looked(events(Status("busy"), event), Heads, told.append)  # type: ignore[arg-type]
    assert told == ["busy"]
    with pytest.raises(BackendError, match="did not answer"):
        await looked(events(), Heads, told.append)  # type: ignore[arg-type]
