"""Steps of a text that exists (score) and of one that is being drawn (generate)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gpt.cache import KVCache
from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.model import GPT
from gpt.sampling import check_finite, distribution, draw
from gpt.settings import Sampling
from gpt.step import Candidate, FinishReason, Step
from gpt.tokenizer import StreamDecoder, Tokenizer

PREFILL = 256
"""Tokens that the network reads at once: enough to be fast, few enough to stop soon."""
ROWS = 64
"""Positions whose logits are held at once, so that memory does not grow with the text."""


def never() -> bool:
    """The default for `cancelled`."""
    return False


class Context:
    """The ids that a model has read last, with their KV cache and hidden states.

    Reading a path that shares its beginning costs only what differs. The hidden states give
    the distribution at any position read with one product and without the network.
    """

    def __init__(self, model: GPT) -> None:
        self.model = model
        self.ids: list[int] = []
        self.hidden: list[Tensor] = []
        """One (E) per id."""
        self._cache = KVCache(model.config)

    @torch.inference_mode()
    def read(self, ids: Sequence[int], cancelled: Callable[[], bool] = never) -> list[Tensor]:
        """Hidden states of ids, at most block_size; fewer where it was cancelled."""
        same = _common_prefix(self.ids, ids)
        if same == len(ids):
            return self.hidden[:same]  # a look back: what was read behind it stays
        del self.ids[same:], self.hidden[same:]
        self._cache.truncate(same)
        device = self.model.wte.weight.device
        for start in range(same, len(ids), PREFILL):
            if cancelled():
                break
            chunk = list(ids[start : start + PREFILL])
            hidden = self.model.hidden(
                torch.tensor([chunk], device=device), self._cache
            )  # (1, T, E)
            self.ids += chunk
            self.hidden += hidden[0].unbind(0)
        return self.hidden

    def fork(self, n_tokens: int) -> KVCache:
        """A cache of its own with the first tokens that were read."""
        return self._cache.copies(n_tokens, [0])


def _tail(tokenizer: Tokenizer, ids: Sequence[int]) -> bytes:
    """Bytes of the last tokens, in which a character may be half written."""
    return b"".join(tokenizer.token_bytes(i) for i in ids[-4:])


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])


def encode(checkpoint: Checkpoint, text: str) -> list[int]:
    """Ids of a text with what the model wants in front of it."""
    bos = checkpoint.model.config.bos_id
    return ([] if bos is None else [bos]) + checkpoint.tokenizer.encode(text)


def window_start(n_tokens: int, block_size: int) -> int:
    """Where the context of n tokens begins when a text outgrows the block size.

    The window moves on by quarters of a block, so it is recomputed once in a while and not
    for every token, and a position has the same context whoever asks for it.
    """
    quarter = max(1, block_size // 4)
    return max(0, -(-(n_tokens - block_size) // quarter) * quarter)


def score(
    checkpoint: Checkpoint,
    context: Context,
    ids: Sequence[int],
    *,
    start: int = 0,
    top: int = 10,
    cancelled: Callable[[], bool] = never,
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
    for logits in logits_of(checkpoint, context, ids, start=position, cancelled=cancelled):
        chosen = ids[position : position + len(logits)]
        found = read_out(logits.log_softmax(-1), chosen, top)
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
) -> Iterator[Tensor]:
    """Logits (n, V) for the tokens of ids from start on, ROWS positions at a time.

    They end early where it was cancelled. start: at least 1, for the first token has none.
    """
    block_size = checkpoint.model.config.block_size
    position = start
    while position < len(ids):
        left = window_start(position, block_size)
        right = min(left + block_size, len(ids) - 1)  # the last id predicts nothing here
        hidden = context.read(ids[left:right], cancelled)
        if len(hidden) < right - left:
            return
        while position <= right:
            stop = min(position + ROWS, right + 1)
            rows = torch.stack(hidden[position - 1 - left : stop - 1 - left])
            logits = raw_logits(checkpoint.model, rows)
            check_finite(logits, position)
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
) -> Iterator[Step]:
    """Draw tokens behind ids, a Step each; the last one says why it ends.

    stop: strings that end the text where they are complete; they stay in it. slide: go on
    past the block size with the window of window_start, else the reason is "context full".
    Where nothing can be drawn at all there is no Step: `blocked` tells why beforehand.
    Raises UserError for a prompt that does not fit.
    """
    config, tokenizer = checkpoint.model.config, checkpoint.tokenizer
    check_ids(checkpoint, ids)
    path = list(ids)
    if blocked(checkpoint, path, max_new_tokens, slide):
        return
    decoder = StreamDecoder()
    decoder.feed(_tail(tokenizer, path))
    longest_stop = max(map(len, stop), default=0)
    tail = ""
    for count in range(1, max_new_tokens + 1):
        start = window_start(len(path), config.block_size)
        # Only a long prompt is left half read; later on the step itself says "cancelled".
        hidden = context.read(path[start:], cancelled if count == 1 else never)
        if len(hidden) < len(path) - start:
            return
        position = len(path)
        logits = raw_logits(checkpoint.model, hidden[-1])  # (V)
        check_finite(logits, position)
        stages = distribution(logits, sampling, path)
        final = stages[-1].logprobs
        token_id = draw(final, sampling.seed, position)
        path.append(token_id)
        read = read_out(stages[0].logprobs[None], [token_id], top)[0]
        step = _step(tokenizer, decoder, position, token_id, read, final)
        tail = (tail + step.text)[-(longest_stop + len(step.text)) :]
        reason: FinishReason | None = None
        if token_id == config.eos_id:
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


def blocked(
    checkpoint: Checkpoint, ids: Sequence[int], max_new_tokens: int, slide: bool
) -> FinishReason | None:
    """Why no token at all can be drawn behind ids, or None.

    Raises UserError where the ids are more than the model can read, or none.
    """
    block_size = checkpoint.model.config.block_size
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


@torch.inference_mode()
def raw_logits(model: GPT, hidden: Tensor) -> Tensor:
    """Hidden states (…, E) → logits (…, V) float32."""
    return model.logits(hidden).float()


@dataclass(frozen=True)
class ReadOut:
    """What a distribution says of a token, and its most probable tokens."""

    logprob: float
    rank: int
    entropy: float
    top_ids: list[int]
    top_logprobs: list[float]


@torch.inference_mode()
def read_out(logprobs: Tensor, chosen: Sequence[int], top: int) -> list[ReadOut]:
    """Log-probabilities (n, V) and the ids that stand there (n) → what they say of each."""
    # 0 log 0 is 0, also where the logarithm is infinite.
    entropy = -(logprobs.softmax(-1) * logprobs.clamp_min(-1e9)).sum(-1)  # (n)
    own = logprobs.gather(-1, torch.tensor(chosen, device=logprobs.device)[:, None])  # (n, 1)
    rank = (logprobs > own).sum(-1) + 1
    values, ids = logprobs.topk(min(top, logprobs.size(-1)), dim=-1)  # (n, top)
    columns = (own[:, 0], rank, entropy, ids, values)
    return [ReadOut(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _step(
    tokenizer: Tokenizer,
    decoder: StreamDecoder,
    position: int,
    token_id: int,
    read: ReadOut | None = None,
    final: Tensor | None = None,
) -> Step:
    """One Step. read: what the model says; final: (V) log-probabilities after the settings."""
    data = tokenizer.token_bytes(token_id)
    text = decoder.feed(data)
    if read is None:
        return Step(position, token_id, data, text)
    after = [None] * len(read.top_ids) if final is None else final[read.top_ids].tolist()
    candidates = tuple(
        Candidate(i, tokenizer.token_bytes(i), logprob, None if p == -math.inf else p)
        for i, logprob, p in zip(read.top_ids, read.top_logprobs, after, strict=True)
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
        sampling_logprob=None if final is None else float(final[token_id]),
    )


def check_ids(checkpoint: Checkpoint, ids: Sequence[int]) -> None:
    """Raise UserError naming an id that the model does not have."""
    size = checkpoint.model.config.vocab_size
    if bad := next((i for i in ids if not 0 <= i < size), None):
        raise UserError(f"there is no token {bad}; this model has the ids 0 to {size - 1}")
