"""Steps of a text that exists (score) and of one that is being drawn (generate)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from gpt.checkpoint import Checkpoint
from gpt.context import Context, never, raw_logits, window_start
from gpt.errors import UserError
from gpt.prediction import ReadOut, check_finite, predict, read_out
from gpt.progress import Tell, reading, silent
from gpt.settings import Sampling, check
from gpt.settle import Drawn, choose
from gpt.step import Candidate, FinishReason, Step
from gpt.tokenizer import StreamDecoder, Tokenizer

ROWS = 64
"""Positions whose logits are held at once, so that memory does not grow with the text."""


def _tail(tokenizer: Tokenizer, ids: Sequence[int]) -> bytes:
    """Bytes of the last tokens, in which a character may be half written."""
    return b"".join(tokenizer.token_bytes(i) for i in ids[-4:])


def encode(checkpoint: Checkpoint, text: str) -> list[int]:
    """Ids of a text with what the model wants in front of it."""
    bos = checkpoint.model.config.bos_id
    return ([] if bos is None else [bos]) + checkpoint.tokenizer.encode(text)


def score(
    checkpoint: Checkpoint,
    context: Context,
    ids: Sequence[int],
    *,
    start: int = 0,
    top: int = 10,
    cancelled: Callable[[], bool] = never,
    tell: Tell = silent,
) -> Iterator[Step]:
    """A Step for every token of a text from start on: what the model thought of it.

    A text longer than the block size is read in sliding windows (see window_start).
    """
    check_ids(checkpoint, ids)
    decoder = StreamDecoder()
    decoder.feed(_tail(checkpoint.tokenizer, ids[:start]))
    if ids and start == 0:
        yield _step(checkpoint.tokenizer, decoder, 0, ids[0])
    position = max(1, start)
    blocks = logits_of(checkpoint, context, ids, start=position, cancelled=cancelled, tell=tell)
    for logits in blocks:
        chosen = ids[position : position + len(logits)]
        found = read_out(predict(logits), chosen, top)
        for read, token_id in zip(found, chosen, strict=True):
            if cancelled():
                return
            yield _step(checkpoint.tokenizer, decoder, position, token_id, read)
            position += 1


def logits_of(
    checkpoint: Checkpoint,
    context: Context,
    ids: Sequence[int],
    *,
    start: int = 1,
    cancelled: Callable[[], bool] = never,
    tell: Tell = silent,
) -> Iterator[Tensor]:
    """Logits (n, V) for the tokens of ids from start on, ROWS positions at a time.

    They end early where it was cancelled. start: at least 1, for the first token has none.
    """
    block_size = checkpoint.model.config.block_size
    position = start
    while position < len(ids):
        left = window_start(position, block_size)
        right = min(left + block_size, len(ids) - 1)  # the last id predicts nothing here
        hidden = context.read(ids[left:right], reading(context, left, len(ids), cancelled, tell))
        if len(hidden) < right - left:
            return
        while position <= right:
            stop = min(position + ROWS, right + 1)
            rows = torch.stack(hidden[position - 1 - left : stop - 1 - left])
            logits = raw_logits(checkpoint.model, rows)
            check_finite(float(logits.sum()), position)
            yield logits
            position = stop


def generate(
    checkpoint: Checkpoint,
    context: Context,
    ids: Sequence[int],
    sampling: Sampling,
    *,
    max_new_tokens: int,
    stop: Sequence[str] = (),
    top: int = 10,
    slide: bool = False,
    cancelled: Callable[[], bool] = never,
    tell: Tell = silent,
) -> Iterator[Step]:
    """Draw tokens behind ids, a Step each; the last one says why it ends.

    stop: strings that end the text where they are complete; they stay in it. slide: go on
    past the block size with the window of window_start, else the reason is "context full".
    Where nothing can be drawn at all there is no Step: `blocked` tells why beforehand.
    Raises UserError for a prompt that does not fit.
    """
    config, tokenizer, ends = checkpoint.model.config, checkpoint.tokenizer, checkpoint.ends
    check_ids(checkpoint, ids)
    path = list(ids)
    if blocked(checkpoint, path, max_new_tokens, slide):
        return
    decoder = StreamDecoder()
    decoder.feed(_tail(tokenizer, path))
    longest_stop = max(map(len, stop), default=0)
    tail = ""
    drawing = draws(context, path, sampling, max_new_tokens, top, cancelled, tell)
    for count, (read, drawn) in enumerate(drawing, 1):
        token_id, position = drawn.token_id, len(path) - 1
        step = _step(tokenizer, decoder, position, token_id, read, drawn)
        tail = (tail + step.text)[-(longest_stop + len(step.text)) :]
        reason: FinishReason | None = None
        if token_id in ends:
            reason = "eos"
        elif any(text in tail for text in stop):
            reason = "stop"
        elif cancelled():
            reason = "cancelled"
        elif count == max_new_tokens:
            reason = "length"
        elif len(path) >= config.block_size and not slide:
            reason = "context full"
        if reason:
            yield replace(step, finish_reason=reason)
            return
        yield step


def draws(
    context: Context,
    path: list[int],
    sampling: Sampling,
    n: int,
    top: int,
    cancelled: Callable[[], bool] = never,
    tell: Tell = silent,
) -> Iterator[tuple[ReadOut, Drawn]]:
    """n tokens behind path, which grows by each; fewer where a long prompt is cancelled.

    Raises NonFiniteLogitsError.
    """
    end = len(path) + n
    stop = cancelled
    while len(path) < end:
        start = window_start(len(path), context.model.config.block_size)
        hidden = context.read(path[start:], reading(context, start, len(path), stop, tell))
        if len(hidden) < len(path) - start:
            return
        stop, tell = never, silent  # only a long prompt is left half read
        position = len(path)
        prediction = context.predict(hidden[-1])
        check_finite(float(prediction.total), position)
        compiled = context.step.race if context.step else None
        drawn = choose(prediction, sampling, path, position, compiled)
        path.append(drawn.token_id)
        yield read_out(prediction, [drawn.token_id], top)[0], drawn
        if context.graphs and start == window_start(len(path), context.model.config.block_size):
            yield from context.graphs.draw(path, sampling, start, end - len(path), top)


def blocked(
    checkpoint: Checkpoint, ids: Sequence[int], max_new_tokens: int, slide: bool
) -> FinishReason | None:
    """Why no token at all can be drawn behind ids, or None.

    Raises UserError where the ids are more than the model can read, or none, or if
    max_new_tokens is out of range.
    """
    block_size = checkpoint.model.config.block_size
    check("max_new_tokens", max_new_tokens)
    if not ids:
        raise UserError("the prompt is empty; give the model at least one token to go on from")
    if len(ids) > block_size and not slide:
        raise UserError(
            f"the prompt has {len(ids)} tokens and this model reads {block_size}; "
            "shorten it, or let the window slide"
        )
    if max_new_tokens < 1:
        return "length"
    return "context full" if len(ids) == block_size and not slide else None


def _step(
    tokenizer: Tokenizer,
    decoder: StreamDecoder,
    position: int,
    token_id: int,
    read: ReadOut | None = None,
    drawn: Drawn | None = None,
) -> Step:
    """One Step. read: what the model says; drawn: how the token was drawn, if it was."""
    data = tokenizer.token_bytes(token_id)
    text = decoder.feed(data)
    if read is None:
        return Step(position, token_id, data, text)
    candidates = tuple(
        Candidate(i, tokenizer.token_bytes(i), logprob, drawn.logprob(i) if drawn else None)
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
    )


def check_ids(checkpoint: Checkpoint, ids: Sequence[int]) -> None:
    """Raise UserError naming an id that the model does not have."""
    size = checkpoint.model.config.vocab_size
    if bad := next((i for i in ids if not 0 <= i < size), None):
        raise UserError(f"there is no token {bad}; this model has the ids 0 to {size - 1}")
