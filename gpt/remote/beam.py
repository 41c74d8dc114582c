"""The most probable continuations, by requests for several texts at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from gpt.interpret.answers import LikelyPath
from gpt.progress import Watcher
from gpt.remote.server import Server


class _Beam(NamedTuple):
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]

    @property
    def total(self) -> float:
        return sum(self.logprobs)


def likely_paths(
    server: Server, ids: Sequence[int], width: int, depth: int, watcher: Watcher
) -> list[LikelyPath]:
    """The `width` best continuations that a beam search finds (Lowerre 1976), best first.

    Each has `depth` tokens, or fewer if it ends with a special token. The best `width` candidates
    of each beam are enough, because no more than `width` beams are kept.
    Raises RequestCancelledError.
    """
    alive, ended = [_Beam((), ())], list[_Beam]()
    for length in range(1, depth + 1):
        watcher.tell(f"length {length} of {depth} tokens")
        tops = server.following([[*ids, *beam.ids] for beam in alive], width, watcher)
        grown = [
            _Beam((*beam.ids, token_id), (*beam.logprobs, logprob))
            for beam, top in zip(alive, tops, strict=True)
            for token_id, logprob in top[:width]
        ]
        best = sorted(grown, key=lambda beam: -beam.total)[:width]
        pieces = server.pieces([beam.ids[-1] for beam in best])
        ended += [beam for beam in best if not pieces[beam.ids[-1]].bytes]
        alive = [beam for beam in best if pieces[beam.ids[-1]].bytes]
        if not alive:
            break
    found = sorted([*alive, *ended], key=lambda beam: -beam.total)[:width]
    pieces = server.pieces([i for beam in found for i in beam.ids])
    return [
        LikelyPath(beam.ids, tuple(pieces[i].bytes for i in beam.ids), beam.logprobs)
        for beam in found
    ]
