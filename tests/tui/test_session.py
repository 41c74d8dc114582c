"""A session without a screen: runs, throttling, perplexity, saving, and what goes wrong."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from gpt.settings import Sampling
from tests.tui.fake import FakeBackend, token
from tui import store
from tui.backend import BackendError, Completion, Done, EngineDiedError, Event, Status, Steps
from tui.news import Change, News, Problem, PromptReturned, State, WhatIf
from tui.runs import RunSettings
from tui.saved_text import Entry
from tui.second_opinion import read_with, what_if, write_with
from tui.session import CALM, KEEP_EVERY, Session

SETTINGS = RunSettings(Sampling(temperature=0.8, seed=7), 20)


class Clock:
    """Time that goes on when a test says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def session_of(backend: FakeBackend, clock: Clock | None = None) -> Session:
    connection = backend, backend.load("fake")
    return Session(
        lambda model: (backend, backend.load(model)), connection, "fake", clock or Clock()
    )


async def paced(run: AsyncIterator[News], clock: Clock, seconds: float) -> AsyncIterator[News]:
    """A run in which every token takes so many seconds."""
    async for news in run:
        yield news
        if news is Change.GREW:
            clock.now += seconds


async def all_of(news: AsyncIterator[News]) -> list[News]:
    return [each async for each in news]


def problems(found: list[News]) -> list[str]:
    return [each.message for each in found if isinstance(each, Problem)]


def states(found: list[News]) -> list[str]:
    return [each.message for each in found if isinstance(each, State)]


def branches_of(session: Session) -> list[str]:
    """The texts of all branches."""
    document = session.document
    ends = [branch.end for branch in document.all_branches()]
    return ["".join(node.step.text for node in document.path_to(end)) for end in ends]


async def saved(n: int) -> list[Entry]:
    for _ in range(500):
        if len(found := store.entries()) >= n:
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("nothing was saved")


def test_a_session_does_not_import_textual() -> None:
    code = "import sys, tui.session, tui.second_opinion, tui.possible, tui.local_backend\n"
    code += "assert 'textual' not in sys.modules and 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


async def test_a_run_is_busy_at_once_and_says_what_happens_in_order() -> None:
    session = session_of(FakeBackend("hi"))
    await all_of(session.load())
    assert session.loaded
    run = session.run(SETTINGS, "ab")
    assert session.is_busy
    found = await all_of(run)
    assert not session.is_busy
    assert session.document.text == "abhi"
    assert states(found) == [
        "Reading the prompt",
        "Writing; Esc stops",
        "Done: 2 tokens",
    ]
    assert found.count(Change.GREW) == 3
    assert found[-3:-1] == [Change.COMPLETE, State("Done: 2 tokens")]
    assert found[-1] is Change.ENDED
    assert [node.sampling for node in session.document.path] == [
        None,
        None,
        *[SETTINGS.sampling] * 2,
    ]


async def test_branches_begin_at_one_place_and_each_has_the_next_seed() -> None:
    backend = FakeBackend("hello")
    session = session_of(backend)
    settings = RunSettings(Sampling(seed=2**63 - 2), 20, branches=3)
    found = await all_of(session.run(settings, "ab"))
    said = [f"Writing {n} branches: Ctrl+T shows them, Esc stops" for n in (3, 2)]
    assert states(found)[1:-1] == [*said, "Writing; Esc stops"]  # those that still grow
    assert [request.branches for request in backend.requests] == [3]
    assert branches_of(session) == ["abhello", "abifmmp", "abjgnnq"]
    ends = [branch.end for branch in session.document.all_branches()]
    assert [end.sampling and end.sampling.seed for end in ends] == [2**63 - 2, 2**63 - 1, 0]
    assert session.document.text == "abhello"
    assert session.document.branch_number == 1
    assert session.document.surprisal()[1] == 5
    assert found.count(Change.GREW) == 6
    assert found.count(Change.ENDED) == 1
    assert states(found)[-1] == "Done: 15 tokens; Ctrl+B shows another branch"
    assert not session.growing


async def test_the_text_on_the_screen_is_the_first_branch_whichever_token_comes_first() -> None:
    class Late(FakeBackend):
        async def complete(self, request: Completion) -> AsyncIterator[Event]:
            yield Steps([token(0, "a", drawn=False)], is_prompt=True)
            for branch in range(3):
                yield Steps([token(1, "x")], False, branch)
            for branch, text in ((1, "1"), (2, "2"), (0, "0")):
                yield Steps([token(2, text)], False, branch)
            yield Done("length", 6, 0.1)

    session = session_of(Late())
    for _ in range(2):  # the second time all of them are there
        await all_of(session.run(RunSettings(Sampling(), 2, branches=3), "a", at=0))
        assert session.document.text == "ax0"
        assert branches_of(session) == ["ax0", "ax1", "ax2"]


async def test_branches_that_begin_alike_are_one_until_they_part() -> None:
    class Alike(FakeBackend):
        async def complete(self, request: Completion) -> AsyncIterator[Event]:
            yield Steps([token(0, "a", drawn=False)], is_prompt=True)
            texts = [("x", "y", "1"), ("x", "y", "2"), ("x", "z", "3")]
            for position in range(3):
                for branch, text in enumerate(texts):
                    yield Steps([token(1 + position, text[position])], False, branch)
            yield Done("length", 9, 0.1)

    session = session_of(Alike())
    await all_of(session.run(RunSettings(Sampling(), 3, branches=3), "a"))
    assert branches_of(session) == ["axy1", "axy2", "axz3"]
    assert session.document.text == "axy1"


async def test_one_branch_is_stopped_and_the_others_go_on() -> None:
    backend = FakeBackend("hello")
    session = session_of(backend)
    async for news in session.run(RunSettings(Sampling(), 20, branches=3), "ab"):
        if news is Change.GREW and len(session.document.path) == 4:
            assert session.growing.keys() == {0, 1, 2}
            shown = session.growing[1]
        if news is Change.GREW and len(session.document.path) == 5:
            assert session.growing[1] is not shown, "it has grown since a panel showed it"
            assert session.stop(shown)
        if news is Change.GREW and len(session.document.path) == 7:
            assert not session.stop(shown), "nothing grows there any more"
    assert branches_of(session) == ["abhello", "abifm", "abjgnnq"]
    assert [session.document.all_branches()[i].end.step.finish_reason for i in range(3)] == [
        "length",
        "cancelled",
        "length",
    ]


async def test_the_first_branch_can_be_stopped_and_the_text_stays() -> None:
    session = session_of(FakeBackend("hello"))
    async for news in session.run(RunSettings(Sampling(), 20, branches=2), "ab"):
        if news is Change.GREW and len(session.document.path) == 4:
            session.stop(session.growing[0])
    assert branches_of(session) == ["abhel", "abifmmp"]
    assert session.document.text == "abhel"


async def test_a_run_that_is_stopped_begins_no_other_branch() -> None:
    backend = FakeBackend("hello")
    session = session_of(backend)
    found = []
    async for news in session.run(RunSettings(Sampling(seed=1), 20, branches=3), "ab"):
        found.append(news)
        if news is Change.GREW and len(session.document.path) == 4:
            session.backend.cancel()
    assert branches_of(session) == ["abhe", "abif", "abjg"]
    assert session.document.text == "abhe"
    assert states(found)[-1] == "Stopped"


@pytest.mark.parametrize(("seconds", "looks"), [(CALM / 100, 1), (CALM * 0.06, 3), (CALM * 2, 41)])
async def test_the_newest_token_is_looked_at_now_and_then(seconds: float, looks: int) -> None:
    clock = Clock()
    session = session_of(FakeBackend("a" * 40), clock)
    found = await all_of(paced(session.run(RunSettings(Sampling(), 40), "ab"), clock, seconds))
    assert found.count(Change.GREW) == 41
    assert found.count(Change.LOOK) == looks


async def test_a_run_counts_its_speed_and_its_perplexity() -> None:
    clock = Clock()
    session = session_of(FakeBackend("hello"), clock)
    await all_of(session.load())
    during, speeds = [], []
    async for news in paced(session.run(SETTINGS, "ab"), clock, 0.25):
        if news is Change.GREW and session.figures.perplexity:
            during.append(session.perplexity)
            speeds.append(session.figures.speed)
    expected = [
        math.exp(-math.fsum(math.log(0.9 / i) for i in range(1, n + 1)) / n) for n in range(1, 6)
    ]
    assert during == pytest.approx(expected)
    assert session.perplexity == pytest.approx(expected[-1])
    assert speeds == [None, 4, 4, 4, 4]
    assert session.figures.speed == 10, "as the engine measured it"
    assert session.figures.first == 0.25


async def test_a_run_that_waited_for_the_model_has_no_time_to_its_first_token() -> None:
    backend = FakeBackend("hi")
    session = session_of(backend)
    session.waiting = "loading PyTorch"
    found = await all_of(session.run(SETTINGS, "ab"))
    assert states(found)[0] == "Waiting for the model: loading PyTorch"
    assert session.figures.first is None


async def test_a_long_run_is_saved_while_it_lasts() -> None:
    backend = FakeBackend("hello world")
    clock = Clock()
    session = session_of(backend, clock)
    async for news in paced(session.run(SETTINGS, "ab"), clock, KEEP_EVERY / 2):
        if news is Change.GREW and len(session.document.path) == 6:
            (entry,) = await saved(1)
            document, _ = store.load(entry.path)
            assert len(document.path) == 5  # the first token after more than KEEP_EVERY seconds
            assert session.is_busy
    await asyncio.gather(*session._autosave.tasks)
    assert store.load(entry.path)[0].text == "abhello world"
    session.close()
    assert backend.closed


async def test_a_short_run_is_saved_at_its_end_alone() -> None:
    session = session_of(FakeBackend("hello"))
    async for news in session.run(SETTINGS, "ab"):
        assert news is Change.ENDED or not session._autosave.tasks
    await saved(1)
    session.close()


async def test_what_is_changed_is_saved_before_another_text_takes_its_place() -> None:
    session = session_of(FakeBackend("hello"))
    await all_of(session.run(SETTINGS, "ab"))
    (entry,) = await saved(1)
    await asyncio.gather(*session._autosave.tasks)
    session.document.toggle_mark(3)
    session.begin()
    assert session.document.text == ""
    await asyncio.gather(*session._autosave.tasks)
    assert store.load(entry.path)[0].path[3].is_marked
    before = entry.path.stat().st_mtime_ns
    assert session.open(entry.path)[1], "nobody holds it any more"
    session.begin()
    assert not session._autosave.tasks
    assert entry.path.stat().st_mtime_ns == before, "only looked at"


async def test_a_text_that_cannot_be_saved_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    session = session_of(FakeBackend("hello"))
    reported = list[News]()
    session.report = reported.append

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "write", fail)
    await all_of(session.run(SETTINGS, "ab"))
    await asyncio.gather(*session._autosave.tasks)
    (problem,) = reported
    assert isinstance(problem, Problem) and "No space left" in problem.message


class StoppedEarly(FakeBackend):
    """A run is stopped while its prompt is read."""

    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        self.requests.append(request)
        yield Steps([token(len(request.ids), request.text[0], drawn=False)], is_prompt=True)
        yield Done("cancelled", 0, 0.0)


async def test_a_prompt_that_is_stopped_before_the_first_token_comes_back() -> None:
    session = session_of(StoppedEarly())
    found = await all_of(session.run(SETTINGS, "king"))
    assert PromptReturned("king") in found
    assert states(found)[-1] == "Stopped"
    assert session.document.path == []
    assert session.document.branches(0) == 1, "sent again, it joins what was read"


async def test_an_engine_that_dies_leaves_the_text_and_can_be_started_again() -> None:
    backend = FakeBackend("hello", error=EngineDiedError("the engine has ended"))
    session = session_of(backend)
    await all_of(session.load())
    found = await all_of(session.run(SETTINGS, "ab"))
    assert problems(found) == ["the engine has ended"]
    assert "Ctrl+R" in states(found)[-1]
    assert PromptReturned("ab") in found
    assert not session.is_busy
    backend.error = None
    session.restart()
    assert backend.closed and session.loaded is None
    await all_of(session.load())
    await all_of(session.run(SETTINGS, "ab"))
    assert session.document.text == "abhello"


class DiesInTheMiddle(FakeBackend):
    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        yield Steps([token(0, "a", drawn=False), token(1, "b", drawn=False)], is_prompt=True)
        yield Steps([token(2, "h")], is_prompt=False)
        raise EngineDiedError("gone")


async def test_what_an_engine_has_drawn_before_it_died_stays() -> None:
    session = session_of(DiesInTheMiddle())
    found = await all_of(session.run(SETTINGS, "ab"))
    assert session.document.text == "abh"
    assert not any(isinstance(news, PromptReturned) for news in found)
    assert found[-1] is Change.ENDED
    await saved(1)


class Silent(FakeBackend):
    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        yield Status("reading 1 of 2 tokens")
        yield Status("the GPU failed", is_notice=True)


async def test_an_engine_that_does_not_say_that_it_is_done_is_a_problem() -> None:
    found = await all_of(session_of(Silent()).run(SETTINGS, "ab"))
    assert "reading 1 of 2 tokens; Esc stops" in states(found)
    assert problems(found) == ["the GPU failed", "the engine did not say that it was done"]


async def test_a_reader_that_goes_away_leaves_the_session_free() -> None:
    session = session_of(FakeBackend("hello"))
    run = session.run(SETTINGS, "ab")
    await anext(run)
    await run.aclose()  # type: ignore[attr-defined]
    assert not session.is_busy


async def test_a_model_that_cannot_be_loaded_is_a_problem_and_the_reason_stays() -> None:
    class Broken(FakeBackend):
        async def load(
            self, model: str, *, second: bool = False, probe: bool = False
        ) -> AsyncIterator[Event]:
            yield Status("loading")
            raise BackendError("too large")

    session = session_of(Broken())
    found = await all_of(session.load())
    assert problems(found) == ["too large"]
    assert session.waiting == "no model: too large" and session.loaded is None


async def test_another_model_reads_the_text_and_who_wrote_what_is_kept() -> None:
    session = session_of(FakeBackend("lo"))
    await all_of(session.run(SETTINGS, "hel"))
    session.switch("other")
    await all_of(session.load())
    await all_of(session.read_again())
    assert session.loaded and session.loaded.name == "other"
    assert [node.step.text for node in session.document.path] == ["he", "ll", "o"]
    assert [node.is_prompt for node in session.document.path] == [True, True, False]


async def test_what_if_keeps_the_text_and_its_numbers() -> None:
    backend = FakeBackend("hello")
    session = session_of(backend)
    await all_of(session.run(SETTINGS, "ab"))
    backend.reply = "hexx"
    found = await all_of(what_if(session, 2, Sampling(temperature=1.5, seed=9), slide=False))
    assert backend.requests[-1].sampling == Sampling(temperature=1.5, seed=7)
    assert session.document.text == "abhello"
    assert session.document.path[3].sampling == SETTINGS.sampling
    (result,) = [news for news in found if isinstance(news, WhatIf)]
    assert "".join(node.step.text for node in result.new) == "abhexx"
    assert found[-1] is Change.ENDED and not session.is_busy


async def test_a_second_model_is_unloaded_whatever_happens() -> None:
    backend = FakeBackend("hello")
    session = session_of(backend)
    await all_of(session.run(SETTINGS, "ab"))
    assert not problems(await all_of(write_with(session, "other", 2)))
    assert not problems(await all_of(read_with(session, "other")))
    assert not backend.second and not session.is_busy
    backend.error = BackendError("too large")
    assert problems(await all_of(read_with(session, "other"))) == ["other: too large"]
    assert not backend.second and not session.is_busy
