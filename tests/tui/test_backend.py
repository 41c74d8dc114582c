from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gpt.checkpoint import Checkpoint
from gpt.generate import Limits, generate
from gpt.settings import Sampling
from tui.backend import (
    BackendError,
    Completion,
    Done,
    EngineDiedError,
    Event,
    Loaded,
    Status,
    Steps,
)
from tui.local_backend import LocalBackend


@pytest.fixture
async def backend(tiny_directory: Path) -> AsyncIterator[LocalBackend]:
    backend = LocalBackend().start()
    events = [event async for event in backend.load("tiny")]
    assert [type(event) for event in events] == [Status, Status, Loaded]
    loaded = events[-1]
    assert isinstance(loaded, Loaded)
    facts = ("tiny", "cpu", "float32", loaded.n_params, 29, 32)
    assert loaded == Loaded(*facts, config=loaded.config)
    yield backend
    backend.close()


async def collect(events: AsyncIterator[Event]) -> list[Event]:
    return [event async for event in events]


async def test_steps_arrive_as_the_library_makes_them(
    backend: LocalBackend, tiny: Checkpoint
) -> None:
    sampling = Sampling(seed=2)
    ids = tiny.new_context().encode("to")
    events = await collect(backend.complete(Completion(ids, " be", sampling, 8)))
    prompt = [s for e in events if isinstance(e, Steps) and e.is_prompt for s in e.steps]
    drawn = [s for e in events if isinstance(e, Steps) and not e.is_prompt for s in e.steps]
    assert "".join(step.text for step in prompt) == " be"
    path = tiny.new_context().encode("to be")
    expected = list(generate(tiny.new_context(), path, sampling, Limits(8)))
    assert [step.token_id for step in drawn] == [step.token_id for step in expected]
    for a, b in zip(drawn, expected, strict=True):
        assert a.logprob == pytest.approx(b.logprob, abs=1e-4)
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.finish_reason, done.tokens) == ("length", 8)


async def test_score(backend: LocalBackend) -> None:
    events = await collect(backend.score("to be"))
    steps = [step for e in events if isinstance(e, Steps) for step in e.steps]
    assert "".join(step.text for step in steps) == "to be"
    assert isinstance(events[-1], Done)


async def test_cancel(backend: LocalBackend) -> None:
    request = Completion([1], "", Sampling(), 10**9, slide=True)
    async for event in backend.complete(request):
        if isinstance(event, Steps):
            backend.cancel()
        last = event
    assert isinstance(last, Done)
    assert last.finish_reason == "cancelled"


NEVER_LOADED = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    status = {"id": request["id"], "event": "status", "message": request["op"]}
    if request["op"] in ("load", "cancel"):
        print(json.dumps(status), flush=True)
    if request["op"] == "models":  # somebody lets it go on
        print(json.dumps({"id": 1, "event": "error", "message": "no"}), flush=True)
"""


async def test_what_waits_for_a_model_is_stopped_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_loaded.py").write_text(NEVER_LOADED)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    backend = LocalBackend(engine="never_loaded").start()
    loading = backend.load("tiny")
    assert isinstance(await anext(loading), Status)
    for _ in range(2):
        run = asyncio.create_task(collect(backend.complete(Completion([1], "", Sampling(), 9))))
        while not backend._long:
            await asyncio.sleep(0)
        backend.cancel()
        assert await run == [Done("cancelled", 0, 0.0)]
    backend._write({"op": "models", "id": 99})
    with pytest.raises(BackendError, match="no"):
        await anext(loading)
    run = asyncio.create_task(collect(backend.complete(Completion([1], "", Sampling(), 9))))
    while not backend._long:
        await asyncio.sleep(0)
    backend.cancel()  # from now on the engine itself stops a request
    await asyncio.sleep(0)
    assert not run.done()
    backend.close()
    with pytest.raises(BackendError):
        await run


async def test_errors_are_sentences(backend: LocalBackend) -> None:
    with pytest.raises(BackendError, match="not 'é'"):
        await collect(backend.complete(Completion([], "é", Sampling(), 1)))


@pytest.mark.skipif(os.name != "posix", reason="Windows has no signals")
async def test_a_killed_engine_is_noticed_by_whoever_waits(backend: LocalBackend) -> None:
    request = Completion([1], "", Sampling(), 10**9, slide=True)
    with pytest.raises(EngineDiedError, match="ended by signal 9"):
        async for _ in backend.complete(request):
            os.kill(backend._process.pid, signal.SIGKILL)
    with pytest.raises(EngineDiedError):
        await asyncio.wait_for(collect(backend.complete(request)), 20)


async def test_others_have_their_turn_where_events_never_cease(backend: LocalBackend) -> None:
    queue = backend._queues[99] = asyncio.Queue()
    for _ in range(50):
        queue.put_nowait({"event": "status", "message": "more"})
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(other())
    events = backend._events(99)
    for _ in range(50):
        await anext(events)
    assert turns >= 40
    task.cancel()
    await events.aclose()  # type: ignore[attr-defined]
