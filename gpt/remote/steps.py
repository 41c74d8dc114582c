"""What a server says of a token → a Step."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gpt.remote.server import Piece, Reading, Top
from gpt.step import Candidate, FinishReason, Step
from gpt.tokenizer import StreamDecoder
from gpt.typed_values import LARGEST

SamplingLogprobs = Callable[[Reading], dict[int, float]]
"""Token → log-probability after the settings; empty if the candidates are not enough."""


def entropy(top: Top, vocab_size: int) -> tuple[float | None, bool]:
    """Entropy in nats, and whether it is only a lower bound.

    It is exact if top is the whole distribution. Otherwise the rest has the probability
    r = 1 - Σ p, and none of its tokens is more probable than the last candidate, so it adds at
    least -r log p_last.
    """
    if not top:
        return None, False
    known = -sum([math.exp(logprob) * logprob for _, logprob in top])
    if 0 < vocab_size <= len(top):
        return max(0.0, known), False
    rest = max(0.0, 1.0 - math.fsum(math.exp(logprob) for _, logprob in top))
    # Rounding may leave a rest where there is none: it is no more than all other tokens can have.
    rest = min(rest, ((vocab_size or LARGEST) - len(top)) * math.exp(top[-1][1]))
    return max(0.0, known - rest * top[-1][1]), True


class StepMaker:
    """Makes the Steps of a text, one after another."""

    def __init__(self, before: Sequence[bytes], *, vocab_size: int, drops_blank: bool) -> None:
        """before: the bytes of the tokens so far, which may end in half a character."""
        self._position = len(before)
        self._vocab_size = vocab_size
        self._decoder = StreamDecoder(drops_blank=drops_blank and not any(before))
        self._decoder.feed(b"".join(before[-4:]))

    def first(self, token_id: int, piece: Piece) -> Step:
        """The first token of a text, of which nothing is known."""
        step = Step(0, token_id, piece.bytes, self._decoder.feed(piece.bytes), name=piece.name)
        self._position = 1
        return step

    def step(
        self,
        reading: Reading,
        pieces: dict[int, Piece],
        top: int,
        after: SamplingLogprobs | None = None,
    ) -> Step:
        """The next Step. top: candidates in it; after: None if the token was not drawn."""
        piece = pieces[reading.token_id]
        uncertainty, is_bound = entropy(reading.top, self._vocab_size)
        sampled = after(reading) if after else {}
        candidates = tuple(
            Candidate(i, pieces[i].bytes, logprob, sampled.get(i), pieces[i].name)
            for i, logprob in reading.top[:top]
        )
        step = Step(
            self._position,
            reading.token_id,
            piece.bytes,
            self._decoder.feed(piece.bytes),
            logprob=reading.logprob,
            rank=reading.rank,
            entropy=uncertainty,
            candidates=candidates,
            sampling_logprob=sampled.get(reading.token_id),
            finish_reason=reading.finish,
            name=piece.name,
            entropy_is_bound=is_bound,
        )
        self._position += 1
        return step


class StopText:
    """Finds strings that end a text, also if they are spread over several tokens."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = stop
        self._longest = max(map(len, stop), default=0)
        self._tail = ""

    def is_complete(self, text: str) -> bool:
        """Whether one of the strings is complete with this text."""
        self._tail = (self._tail + text)[-(self._longest + len(text)) :]
        return any(stop in self._tail for stop in self._stop)


def finish_of(
    step: Step, stop: StopText, *, cancelled: bool, count: int, limits: tuple[int, int]
) -> FinishReason | None:
    """Why a text ends with a token. limits: tokens that were asked for, and that have room."""
    wanted, room = limits
    if step.finish_reason == "eos":
        return "eos"
    if stop.is_complete(step.text):
        return "stop"
    if cancelled:
        return "cancelled"
    if count >= wanted:
        return "length"
    return "context full" if count >= room else step.finish_reason
