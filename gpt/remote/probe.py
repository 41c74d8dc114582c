"""What a server can do, measured: both vLLM and llama.cpp ignore fields that they do not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from gpt.capabilities import Capabilities, WholePrompt
from gpt.errors import UserError
from gpt.progress import NOBODY
from gpt.remote.server import Reading, Server
from gpt.settings import PARTS, Sampling

Values = Mapping[str, Any]
"""Sampling settings by name."""


class Subject(NamedTuple):
    """What is measured."""

    server: Server
    ids: list[int]
    """A text that repeats itself."""
    hot: float
    """The highest temperature that the server accepts: tokens are most equally probable."""


Test = Callable[[Subject], bool]
"""Whether a setting works."""
_TEXT = "The cat sat on the mat. The cat sat on the mat. The cat sat on the"
_TOKENS = 4
_CANDIDATES = (1000, 100, 20, 5, 1)
"""Numbers of candidates that are tried, for a server that does not name all tokens."""
_HOTTEST = (100.0, 2.0)
"""Temperatures that are tried; vLLM accepts at most 2."""
_CLOSE = 1e-3
"""Difference of log-probabilities that batches and caches of a server can make."""


def measure(server: Server, capabilities: Capabilities) -> Capabilities:
    """Capabilities with everything measured that can be.

    capabilities: what this kind of server can do at best.
    """
    ids = server.tokenize(_TEXT, is_start=True)
    candidates = _most_candidates(server, ids)
    subject = Subject(server, ids, _hottest(server, ids))
    return capabilities._replace(
        candidates=candidates,
        is_exact=candidates is None,
        is_raw=_is_raw(server, ids),
        prompt=_prompt(server, ids, capabilities.prompt),
        seed=capabilities.seed if _works(_repeats, subject) else "none",
        settings=_settings(subject),
        chat=_has_chat(server),
    )


def _hottest(server: Server, ids: Sequence[int]) -> float:
    """The first temperature that the server accepts. Raises UserError if it accepts none."""
    first, second = _HOTTEST
    try:
        _draw(server, ids, 1, {"temperature": first})
    except UserError:
        _draw(server, ids, 1, {"temperature": second})
        return second
    return first


def _draw(server: Server, ids: Sequence[int], n: int, values: Values) -> list[Reading]:
    sampling = Sampling.from_dict(values)
    readings = server.draw(ids, sampling, n, 1, NOBODY)
    return [reading for reading in readings if reading.token_id >= 0]


def _most_candidates(server: Server, ids: Sequence[int]) -> int | None:
    """The most candidates; None if the server names the whole vocabulary."""
    size = server.model.vocab_size
    if size:
        with suppress(UserError):
            if len(server.following([ids], size, NOBODY)[0]) >= size:
                return None
    for n in _CANDIDATES:
        with suppress(UserError):
            if found := len(server.following([ids], n, NOBODY)[0]):
                return found
    return 0


def _is_raw(server: Server, ids: Sequence[int]) -> bool:
    """Whether a temperature changes nothing in the log-probabilities of the same token."""
    cool, hot = (_draw(server, ids, 1, {"temperature": t}) for t in (1.0, 2.0))
    if not cool or not hot or cool[0].logprob is None or hot[0].logprob is None:
        return True
    values = {**dict(cool[0].top), cool[0].token_id: cool[0].logprob}
    other = {**dict(hot[0].top), hot[0].token_id: hot[0].logprob}
    return all(abs(values[i] - other[i]) < _CLOSE for i in values.keys() & other.keys())


def _prompt(server: Server, ids: Sequence[int], known: WholePrompt) -> WholePrompt:
    """How a text's log-probabilities are read, if they can be."""
    try:
        found = list(server.read(ids, len(ids) - 1, 1, NOBODY))
    except UserError:
        return "none"
    return known if found and found[-1].logprob is not None else "none"


def _repeats(subject: Subject) -> bool:
    """Whether the same seed repeats a text and another one does not."""
    one, same, other = (
        _drawn(subject, 8, {"temperature": subject.hot, "seed": seed}) for seed in (1, 1, 2)
    )
    return one == same != other


def _drawn(subject: Subject, n: int, values: Values) -> list[int]:
    return [reading.token_id for reading in _draw(subject.server, subject.ids, n, values)]


def _only_best(**values: Any) -> Test:
    """Whether settings leave only the best token, although others are about as probable."""

    def works(subject: Subject) -> bool:
        heated = {"temperature": subject.hot, "seed": 1, **values}
        found = _draw(subject.server, subject.ids, _TOKENS, heated)
        return bool(found) and all(reading.rank == 1 for reading in found)

    return works


def _changes(before: Values, **values: Any) -> Test:
    """Whether settings change what is drawn with other ones."""

    def works(subject: Subject) -> bool:
        return _drawn(subject, _TOKENS, before) != _drawn(subject, _TOKENS, {**before, **values})

    return works


def _heated(**values: Any) -> Test:
    """Whether settings change what is drawn at a high temperature."""
    return lambda subject: _changes({"temperature": subject.hot / 2, "seed": 1}, **values)(subject)


def _penalises(name: str, *values: float) -> Test:
    """Whether a penalty changes the best text. Some servers allow few values, which decide only
    among tokens that are almost equal: those of the text, all of them boosted."""

    def works(subject: Subject) -> bool:
        boosted = [[[i], 100.0] for i in dict.fromkeys(subject.ids)]
        for before in (_GREEDY, {**_GREEDY, "boosted": boosted}):
            for value in values:
                with suppress(UserError):
                    if _changes(before, **{name: value})(subject):
                        return True
        return False

    return works


def _bans(subject: Subject) -> bool:
    best = _drawn(subject, 1, _GREEDY)
    return bool(best) and _drawn(subject, 1, {**_GREEDY, "banned": [best]}) != best


def _boosts(subject: Subject) -> bool:
    return all(  # one of them may be the best token without it
        _drawn(subject, 1, {**_GREEDY, "boosted": [[[wanted], 100.0]]}) == [wanted]
        for wanted in subject.ids[-3:-1]
    )


_GREEDY: Values = {"temperature": 0.0}
_TESTS: dict[str, Test] = {
    "temperature": lambda subject: _changes(_GREEDY, temperature=subject.hot, seed=1)(subject),
    "top_k": _only_best(top_k=1),
    "top_p": _only_best(top_p=1e-6),
    "min_p": _only_best(min_p=1.0),
    "top_n_sigma": _only_best(top_n_sigma=1e-3),
    "typical_p": _heated(typical_p=1e-3),
    "repetition_penalty": _penalises("repetition_penalty", 50.0, 2.0),
    "presence_penalty": _penalises("presence_penalty", 100.0, 2.0),
    "frequency_penalty": _penalises("frequency_penalty", 100.0, 2.0),
    "dry_multiplier": _changes(_GREEDY, dry_multiplier=100.0, dry_allowed_length=1),
    "dynatemp_range": lambda subject: _heated(dynatemp_range=subject.hot / 2)(subject),
    "xtc_probability": _heated(xtc_probability=1.0, xtc_threshold=1e-6),
    "banned": _bans,
    "boosted": _boosts,
}
"""Setting → whether it changes what the server draws."""


def _settings(subject: Subject) -> tuple[str, ...]:
    """The settings that change what the server draws, and those that belong to them. Those that
    are not sent to this kind of server need no test."""
    sends = subject.server.sends
    working = [name for name, test in _TESTS.items() if name in sends and _works(test, subject)]
    parts = [
        name
        for name in sends
        if name not in _TESTS and (name == "order" or set(PARTS[name]) & set(working))
    ]
    return (*working, *sorted(parts))


def _works(test: Test, subject: Subject) -> bool:
    try:
        return test(subject)
    except UserError:
        return False


def _has_chat(server: Server) -> bool:
    try:
        return bool(server.apply_template([{"role": "user", "content": "a"}]))
    except UserError:
        return False
