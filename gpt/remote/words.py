"""Words of several tokens that are banned or boosted, at servers that know biases of tokens only.

A later token of a word has a bias only where the text ends with the tokens before it. So a stream
that comes to such a place is closed, and the next token is asked for alone, with its bias.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace

from gpt.progress import Watcher
from gpt.remote.server import Reading, Server
from gpt.settings import Ids, Sampling

_MOST_NATS = 1000.0
"""A boost has at most these."""


def banned_after(path: Sequence[int], sampling: Sampling) -> set[int]:
    """The tokens that are banned after a text."""
    return {ids[-1] for ids in sampling.banned if len(ids) == 1 or _completes(path, ids)}


def boosts_after(path: Sequence[int], sampling: Sampling) -> dict[int, float]:
    """The tokens that are boosted after a text, with their nats."""
    found: dict[int, float] = {}
    for ids, nats in sampling.boosted:
        following = {i for n, i in enumerate(ids) if _completes(path, ids[: n + 1])}
        found |= {i: found.get(i, 0.0) + nats for i in following}
    return found


def _completes(path: Sequence[int], ids: Ids) -> bool:
    """Whether a text ends with all but the last of these ids."""
    n = len(ids) - 1
    return n == 0 or (len(path) >= n and tuple(path[-n:]) == ids[:-1])


def _biases(path: Sequence[int], sampling: Sampling) -> tuple[set[int], dict[int, float]]:
    return banned_after(path, sampling), boosts_after(path, sampling)


def _of_tokens(sampling: Sampling, banned: set[int], boosts: dict[int, float]) -> Sampling:
    """The settings with these bans and boosts, each of a single token."""
    left = ((i, nats) for i, nats in sorted(boosts.items()) if i not in banned)
    return replace(
        sampling,
        banned=tuple((i,) for i in sorted(banned)),
        boosted=tuple(((i,), max(-_MOST_NATS, min(nats, _MOST_NATS))) for i, nats in left),
    )


def draw(
    server: Server, ids: Sequence[int], sampling: Sampling, n: int, top: int, watcher: Watcher
) -> Generator[Reading, None, None]:
    """At most n tokens after ids, as Server.draw, with words of several tokens."""
    path, end = list(ids), len(ids) + n
    usual = _biases([], sampling)
    has_words = any(len(each) > 1 for each in (*sampling.banned, *dict(sampling.boosted)))
    while len(path) < end:
        start, here = len(path), _biases(path, sampling)
        is_rest = here == usual
        most = end - start if is_rest else 1
        found = server.draw(path.copy(), _of_tokens(sampling, *here), most, top, watcher)
        with closing(found) as readings:
            for reading in readings:
                is_token = reading.token_id >= 0
                if not is_token and not is_rest and len(path) > start:
                    break  # the end of the request, not of the text
                is_end = not is_token or reading.finish == "eos" or bool(is_rest and reading.finish)
                path.append(reading.token_id)
                yield reading if is_end or len(path) == end else reading._replace(finish=None)
                if is_end:
                    return
                if has_words and _biases(path, sampling) != here:
                    break
            else:
                if is_rest or len(path) == start:
                    return
