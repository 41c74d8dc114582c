"""Steps of a text that exists (score), and of one that is being drawn (generate)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gpt.context import Context
from gpt.draw import Drawn, choose
from gpt.errors import UserError
from gpt.limits import Limits as Limits
from gpt.prediction import Prediction, ReadOut, check_finite, predict, read_out
from gpt.progress import NOBODY, Watcher
from gpt.settings import Sampling, check_setting
from gpt.step import Candidate, FinishReason, Step
from gpt.tokenizer import StreamDecoder, Tokenizer

ROWS = 64
"""Positions whose logits are held at once, so that memory does not grow with the text."""


def score(
    context: Context,
    ids: Sequence[int],
    *,
    start: int = 0,
    top: int = 10,
    watcher: Watcher = NOBODY,
) -> Iterator[Step]:
    """A Step for every token of a text from start on: how probable the model finds it.

    A text longer than the block size is read in sliding windows (see `window_start`).
    """
    context.check_ids(ids)
    decoder = _decoder_after(context.tokenizer, ids[:start])
    if ids and start == 0:
        yield _step(context, decoder, 0, ids[0])
    position = max(1, start)
    for logits in logits_of(context, ids, start=position, watcher=watcher):
        chosen = ids[position : position + len(logits)]
        found = read_out(predict(logits), chosen, top)
        for read, token_id in zip(found, chosen, strict=True):
            if watcher.cancelled():
                return
            yield _step(context, decoder, position, token_id, read)
            position += 1


def logits_of(
    context: Context, ids: Sequence[int], *, start: int = 1, watcher: Watcher = NOBODY
) -> Iterator[Tensor]:
    """Logits (n, V) for the tokens of ids from start on, n at most ROWS.

    They end early if it was cancelled. start: at least 1, for the first token has no context.
    """
    position = start
    while position < len(ids):
        left = context.window_start(position)
        right = min(left + context.config.block_size, len(ids) - 1)  # the last id predicts nothing
        hidden = context.read(ids[left:right], context.reading(left, len(ids), watcher))
        if len(hidden) < right - left:
            return
        while position <= right:
            stop = min(position + ROWS, right + 1)
            logits = context.raw_logits(torch.stack(hidden[position - 1 - left : stop - 1 - left]))
            check_finite(float(logits.sum()), position)
            yield logits
            position = stop


def generate(
    context: Context,
    ids: Sequence[int],
    sampling: Sampling,
    limits: Limits = Limits(),
    *,
    top: int = 10,
    watcher: Watcher = NOBODY,
) -> Iterator[Step]:
    """Draw tokens after ids, a Step each; the last Step says why the text ends.

    top: candidates in a Step. If nothing can be drawn there is no Step: `blocked` says why
    beforehand. Raises UserError for a prompt that does not fit.
    """
    context.check_ids(ids)
    if blocked(context, ids, limits):
        return
    text = GrowingText(context, ids, limits)
    drawing = draws(context, text.path, sampling, limits.max_new_tokens, top, watcher)
    for read, drawn in drawing:
        step = text.step(read, drawn, watcher.cancelled)
        yield step
        if step.finish_reason:
            return


class GrowingText:
    """A text that is being drawn, and where it ends."""

    def __init__(self, context: Context, ids: Sequence[int], limits: Limits) -> None:
        self.path = list(ids)
        self._context, self._limits = context, limits
        self._end = len(ids) + limits.max_new_tokens
        self._decoder = _decoder_after(context.tokenizer, ids)
        self._longest_stop = max(map(len, limits.stop), default=0)
        self._tail = ""

    def step(self, read: ReadOut, drawn: Drawn, cancelled: Callable[[], bool]) -> Step:
        """The Step of the last token of the path; with a reason if the text ends there."""
        path, limits = self.path, self._limits
        step = _step(self._context, self._decoder, len(path) - 1, drawn.token_id, read, drawn)
        self._tail = (self._tail + step.text)[-(self._longest_stop + len(step.text)) :]
        reason: FinishReason | None = None
        if drawn.token_id in self._context.ends:
            reason = "eos"
        elif any(text in self._tail for text in limits.stop):
            reason = "stop"
        elif cancelled():
            reason = "cancelled"
        elif len(path) == self._end:
            reason = "length"
        elif len(path) >= self._context.config.block_size and not limits.slide:
            reason = "context full"
        return step._replace(finish_reason=reason) if reason else step


def draws(
    context: Context,
    path: list[int],
    sampling: Sampling,
    n: int,
    top: int,
    watcher: Watcher = NOBODY,
) -> Iterator[tuple[ReadOut, Drawn]]:
    """n tokens after path, which grows by each; fewer if reading a long prompt is cancelled.

    Raises NonFiniteLogitsError.
    """
    end = len(path) + n
    while len(path) < end:
        start = context.window_start(len(path))
        hidden = context.read_end(path, watcher)
        if len(hidden) < len(path) - start:
            return
        watcher = NOBODY  # from here on a call reads one token, which is not worth a question
        prediction = context.predict(hidden[-1])
        drawn, sampling = draw_next(context, prediction, sampling, path)
        yield read_out(prediction, [drawn.token_id], top)[0], drawn
        # On a GPU, CUDA graphs draw all tokens until the window moves.
        if context.graphs and start == context.window_start(len(path)):
            yield from context.graphs.draw(path, sampling, start, end - len(path), top)


def draw_next(
    context: Context, prediction: Prediction, sampling: Sampling, path: list[int]
) -> tuple[Drawn, Sampling]:
    """Draw the token after a path, which grows by it; the settings for the next one."""
    position = len(path)
    check_finite(float(prediction.total), position)
    compiled = context.step.race if context.step else None
    breakers = context.breakers if "dry_multiplier" in sampling.active else frozenset[int]()
    drawn = choose(prediction, sampling, path, position, compiled, breakers)
    if drawn.mu is not None:
        sampling = sampling.after(drawn.logprob(drawn.token_id) or 0.0)
    path.append(drawn.token_id)
    return drawn, sampling


def blocked(context: Context, ids: Sequence[int], limits: Limits) -> FinishReason | None:
    """Why no token at all can be drawn after ids, or None.

    Raises UserError if there are no ids, or more than the model can read, or if max_new_tokens is
    out of range.
    """
    block_size = context.config.block_size
    check_setting("max_new_tokens", limits.max_new_tokens)
    if not ids:
        raise UserError("the prompt is empty; give the model at least one token to continue from")
    if len(ids) > block_size and not limits.slide:
        raise UserError(
            f"the text has {len(ids):,} tokens and this model reads {block_size:,}; "
            "shorten it, or let the context slide (--slide)"
        )
    if limits.max_new_tokens < 1:
        return "length"
    return "context full" if len(ids) == block_size and not limits.slide else None


def _decoder_after(tokenizer: Tokenizer, ids: Sequence[int]) -> StreamDecoder:
    """A decoder that has seen the last tokens, which may end in half a character."""
    is_start = not any(map(tokenizer.token_bytes, ids))
    decoder = StreamDecoder(drops_blank=is_start and tokenizer.drops_blank)
    decoder.feed(b"".join(tokenizer.token_bytes(i) for i in ids[-4:]))
    return decoder


def _step(
    context: Context,
    decoder: StreamDecoder,
    position: int,
    token_id: int,
    read: ReadOut | None = None,
    drawn: Drawn | None = None,
) -> Step:
    """One Step. read: what the model says; drawn: how the token was drawn, if it was."""
    bytes_of, name_of = context.tokenizer.token_bytes, context.names.get
    data, name = bytes_of(token_id), name_of(token_id, "")
    text = decoder.feed(data)
    if read is None:
        return Step(position, token_id, data, text, name=name)
    candidates = tuple(
        Candidate(i, bytes_of(i), logprob, drawn.logprob(i) if drawn else None, name_of(i, ""))
        for i, logprob in zip(read.top_ids, read.top_logprobs, strict=True)
    )
    return Step(
        position,
        token_id,
        data,
        text,
        logprob=read.logprob,
        rank=read.rank,
        entropy=read.entropy,
        candidates=candidates,
        sampling_logprob=drawn.logprob(token_id) if drawn else None,
        mirostat_mu=drawn.mu if drawn else None,
        name=name,
    )
