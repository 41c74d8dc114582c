"""Banned and boosted words of several tokens, at servers that know biases of single tokens."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt.progress import NOBODY, Watcher
from gpt.remote.server import Reading
from gpt.remote.words import draw
from gpt.settings import Sampling
from gpt.stages import banned_and_boosted
from gpt.step import FinishReason

V, END = 6, 5


def _logits(path: Sequence[int]) -> list[float]:
    source = random.Random(f"{list(path[-2:])}")
    return [source.gauss(0, 2) for _ in range(V)]


def _best(path: Sequence[int], sampling: Sampling) -> int:
    """The token that our own engine takes at temperature 0."""
    logits = torch.tensor(_logits(path), dtype=torch.float64)
    return int(banned_and_boosted(logits, sampling, path).argmax())


class Greedy:
    """A server that always takes the best token, and ends a text as one of two kinds does."""

    def __init__(self, *, like_vllm: bool, context: int) -> None:
        self._like_vllm, self._context = like_vllm, context
        self.asked: list[int] = []

    def draw(
        self, ids: Sequence[int], sampling: Sampling, n: int, top: int, watcher: Watcher
    ) -> Generator[Reading, None, None]:
        named = [*sampling.banned, *(each for each, _ in sampling.boosted)]
        assert all(len(each) == 1 for each in named) and len(set(named)) == len(named)
        assert len(ids) < self._context, "a server refuses a full context"
        self.asked.append(n)
        path = list(ids)
        most = min(n, self._context - len(ids))
        for count in range(1, most + 1):
            path.append(_best(path, sampling))
            finish: FinishReason | None = "eos" if path[-1] == END else None
            if self._like_vllm and not finish and count == most:
                finish = "length"
            yield Reading(path[-1], finish=finish)
            if finish:
                return
        yield Reading(-1, finish="length" if most == n else "context full")


_IDS = st.lists(st.integers(0, V - 1), min_size=1, max_size=3).map(tuple)
_WORDS = st.builds(
    Sampling,
    banned=st.lists(_IDS.filter(lambda ids: ids[-1] > 0), max_size=4).map(tuple),
    boosted=st.lists(st.tuples(_IDS, st.sampled_from([-3.0, 1.0, 9.0])), max_size=4).map(tuple),
)


@given(_WORDS, st.integers(1, 12), st.booleans())
def test_the_text_is_that_of_our_own_stages(sampling: Sampling, n: int, like_vllm: bool) -> None:
    server: Any = Greedy(like_vllm=like_vllm, context=2 + n)
    found = list(draw(server, [0, 1], sampling, n, 1, NOBODY))
    path = [0, 1]
    while len(path) < 2 + n and path[-1] != END:
        path.append(_best(path, sampling))
    drawn = [reading for reading in found if reading.token_id >= 0]
    assert [reading.token_id for reading in drawn] == path[2:]
    assert not any(reading.finish for reading in drawn[:-1])
    assert (drawn[-1].finish == "eos") == (path[-1] == END)


def test_single_tokens_need_one_request() -> None:
    server: Any = Greedy(like_vllm=True, context=99)
    sampling = Sampling(banned=((END,), (1,)), boosted=(((2,), 1.0), ((2,), 2.0)))
    assert len(list(draw(server, [0], sampling, 20, 1, NOBODY))) == 20
    assert server.asked == [20]


def test_a_word_costs_a_request_where_it_begins() -> None:
    server: Any = Greedy(like_vllm=True, context=99)
    plain = [r.token_id for r in draw(server, [0], Sampling(banned=((END,),)), 20, 1, NOBODY)]
    word = next((a, b) for a, b in pairwise(plain) if a != b)
    server.asked.clear()
    found = draw(server, [0], Sampling(banned=((END,), word)), 20, 1, NOBODY)
    text = [r.token_id for r in found]
    assert word not in set(pairwise(text))
    begins = text[:-1].count(word[0])
    assert server.asked.count(1) >= begins > 0 and len(server.asked) <= 2 * begins + 1


@pytest.mark.parametrize("nats", [700.0, -700.0])
def test_boosts_of_one_token_add_up_to_what_a_setting_allows(nats: float) -> None:
    server: Any = Greedy(like_vllm=False, context=99)
    sampling = Sampling(boosted=(((2,), nats), ((2,), nats)))
    assert next(draw(server, [0], sampling, 1, 1, NOBODY)).token_id == _best([0], sampling)
