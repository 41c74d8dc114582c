"""A model with its tokenizer, and what it has read: ids, their keys and values, hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from gpt.cache import KVCache, TreeCache
from gpt.draw import Drawn
from gpt.errors import UserError
from gpt.model import GPT
from gpt.prediction import Prediction, ReadOut, predict
from gpt.progress import NOBODY, Watcher
from gpt.settings import Sampling
from gpt.stages import breakers_of
from gpt.tokenizer import Tokenizer

PREFILL = 256
"""Tokens that the network reads at once: enough to be fast, few enough to stop soon."""


class FastStep(Protocol):
    """The network for single tokens, as machine code (gpt/fast/cpu_step.py)."""

    def hidden(self, token_id: int, cache: KVCache) -> Tensor:
        """→ (E). Afterwards the cache is one token longer."""

    def rows(self, ids: Tensor, at: Tensor, cache: KVCache, mask: Tensor) -> list[Tensor] | None:
        """The newest tokens of several branches → (E) each; None if there is no code for it.

        ids: (N). at: (N) their positions. cache: gets the N tokens. mask: bool (N, S) which tokens
        of the cache each sees, with the N new ones.
        """

    def race(
        self, scores: Tensor, ids: Tensor, settings: Tensor, key: Tensor, all_scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As gpt.draw.race, for all tokens or for the most probable ones of a Prediction."""

    def prediction(self, *hidden: Tensor) -> Prediction | None:
        """For the hidden states (E) that were computed last, all of them; None for any others."""


class FastDraw(Protocol):
    """Tokens drawn one after another by CUDA graphs (gpt/fast/cuda_graph.py)."""

    def draw(
        self, path: list[int], sampling: Sampling, start: int, n: int, top: int
    ) -> Iterator[tuple[ReadOut, Drawn]]:
        """Up to n tokens after path, which grows by each.

        start: index in path of the first token of the context. top: number of candidates.
        """


class Context:
    """A model with its tokenizer, and the ids it has read, with their KV cache and hidden states.

    Reading ids that share a prefix with those read before costs only what differs. The hidden
    states give the distribution at any position by one product, without running the network.
    """

    def __init__(
        self, model: GPT, tokenizer: Tokenizer, ends: frozenset[int] = frozenset()
    ) -> None:
        """ends: ids that end a text."""
        self.model, self.tokenizer, self.ends = model, tokenizer, ends
        self.config = model.config
        self.step: FastStep | None = None
        """Runs the network for single tokens, if there is machine code for it."""
        self.graphs: FastDraw | None = None
        """Draws tokens on a GPU, if CUDA graphs can."""
        self.ids: list[int] = []
        self.hidden: list[Tensor] = []
        """One (E) per id."""
        self.cache = model.new_cache()
        self._device = model.wte.weight.device
        added = tokenizer.added_tokens.items()
        self.names = {i: name for name, i in added if not tokenizer.token_bytes(i)}
        """Id → name of each special token."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Ids of a text, with the token in front of it that the model expects.

        special: whether the names of special tokens in the text are those tokens.
        """
        bos, tokens = self.config.bos_id, self.tokenizer
        ids = tokens.encode_special(text) if special else tokens.encode(text)
        return ids if bos is None or (special and ids[:1] == [bos]) else [bos, *ids]

    def add(self, ids: list[int], part: str | int) -> list[int]:
        """A path with the tokens of a text, or with one id, at its end.

        A path that begins gets the token in front of it that the model expects.
        """
        if isinstance(part, str):
            return ids + self.tokenizer.encode_more(part) if ids else self.encode(part)
        bos = self.config.bos_id
        return [*ids, part] if ids or bos in (None, part) else [bos, part]

    def check_ids(self, ids: Sequence[int]) -> None:
        """Raise UserError naming an id that the model does not have."""
        size = self.config.vocab_size
        if bad := next((i for i in ids if not 0 <= i < size), None):
            raise UserError(f"there is no token {bad}; this model has the ids 0 to {size - 1}")

    def window_start(self, n_tokens: int) -> int:
        """Index at which the context of a text of n tokens begins."""
        return window_start(n_tokens, self.config.block_size)

    @torch.inference_mode()
    def read(self, ids: Sequence[int], watcher: Watcher = NOBODY) -> list[Tensor]:
        """Hidden states of ids, at most block_size; fewer if it was cancelled."""
        same = _common_prefix(self.ids, ids)
        if same == len(ids):
            return self.hidden[:same]  # looking back: what was read after it stays
        self.truncate(same)
        for start in range(same, len(ids), PREFILL):
            if watcher.cancelled():
                break
            chunk = list(ids[start : start + PREFILL])
            if self.step and len(chunk) == 1:
                self.hidden.append(self.step.hidden(chunk[0], self.cache))
            else:
                new = torch.tensor([chunk], device=self._device)  # (1, T)
                self.hidden += self.model.hidden(new, self.cache)[0].unbind(0)  # (E) each
            self.ids += chunk
        return self.hidden

    def read_end(self, ids: Sequence[int], watcher: Watcher = NOBODY) -> list[Tensor]:
        """Hidden states of the end of a text that its next token depends on.

        Tells the watcher how much is read. Fewer states if it was cancelled.
        """
        start = self.window_start(len(ids))
        return self.read(ids[start:], self.reading(start, len(ids), watcher))

    def reading(self, start: int, total: int, watcher: Watcher) -> Watcher:
        """A watcher for `read` that also tells how much of a text is read.

        start: index of the context's first token. total: tokens that will be read in all.
        """

        def cancelled() -> bool:
            watcher.tell(f"reading {start + len(self.ids):,} of {total:,} tokens")
            return watcher.cancelled()

        return Watcher(cancelled, watcher.tell)

    @cached_property
    def breakers(self) -> frozenset[int]:
        """Ids at which DRY's repetitions end."""
        return breakers_of(self.tokenizer, self.config.vocab_size)

    def truncate(self, n_tokens: int) -> None:
        """Forget all tokens but the first n, of at least n that were read."""
        del self.ids[n_tokens:], self.hidden[n_tokens:]
        self.cache.truncate(n_tokens)

    def append(self, token_id: int, hidden: Tensor) -> None:
        """Add a token whose keys and values are in the cache already; hidden (E): its state."""
        self.ids.append(token_id)
        self.hidden.append(hidden)
        self.cache.advance(1)

    def predict(self, *hidden: Tensor) -> Prediction:
        """The next token's distribution after each position with these hidden states (E)."""
        known = self.step.prediction(*hidden) if self.step else None
        return predict(self.raw_logits(torch.stack(hidden))) if known is None else known

    @torch.inference_mode()
    def raw_logits(self, hidden: Tensor) -> Tensor:
        """Hidden states (…, E) → logits (…, V) float32."""
        return self.model.logits(hidden).float()

    def copy(self) -> Context:
        """A context that has read the same and reads on by itself, with the same weights and code.

        Not with CUDA graphs, which have one cache.
        """
        other = Context(self.model, self.tokenizer, self.ends)
        other.step, other.cache = self.step, self.fork(len(self.ids))
        other.ids, other.hidden = [*self.ids], [*self.hidden]
        return other

    def fork(self, n_tokens: int) -> KVCache:
        """A copy of the cache with the first n tokens."""
        return self.cache.copy(n_tokens, [0])


class Continuations:
    """Continuations of a text that the network reads at the same time.

    All their tokens are in one cache, and each sees only the text and the tokens before it in its
    own continuation (tree attention; Miao et al. 2023, arXiv:2305.09781). So the text is in memory
    once, and nothing is copied when one continuation becomes several or ends.
    """

    def __init__(self, context: Context, n_tokens: int) -> None:
        """They follow the first n tokens of the context, which must stay until the first `read`."""
        self._context, self._device = context, context._device
        self._cache = TreeCache(context.cache, n_tokens)
        self._lengths = [n_tokens]
        """For each continuation, its tokens with those of the text."""
        self._visible = torch.ones(1, n_tokens, dtype=torch.bool, device=self._device)
        """(continuations, S) which of the tokens in the cache are its own or the text's."""

    @torch.inference_mode()
    def read(self, rows: Sequence[int], ids: Sequence[Sequence[int]]) -> list[Tensor]:
        """Read more tokens → their hidden states, (T, E) for each row.

        rows: which of the continuations of the call before are continued, some perhaps in several
        ways; at first there is one, which is empty. ids: at least one more token for each.
        """
        sizes = [len(each) for each in ids]
        repeats = torch.tensor(sizes, device=self._device)
        before = self._visible[list(rows)].repeat_interleave(repeats, 0)  # (T of all, S)
        row_of = torch.arange(len(sizes), device=self._device).repeat_interleave(repeats)
        own = (row_of[:, None] == row_of).tril()  # (T of all, T of all)
        mask = torch.cat((before, own), 1)  # (T of all, S + T of all)
        lengths = [self._lengths[row] for row in rows]
        positions = [range(start, start + n) for start, n in zip(lengths, sizes, strict=True)]
        flat = torch.tensor([[i for each in part for i in each] for part in (ids, positions)])
        flat = flat.to(self._device)  # (2, T of all)
        self._visible = mask[repeats.cumsum(0) - 1]
        self._lengths = [start + n for start, n in zip(lengths, sizes, strict=True)]
        step = self._context.step if max(sizes) == 1 else None
        if step and (states := step.rows(flat[0], flat[1], self._cache, mask)):
            return [each[None] for each in states]
        self._cache.mask = mask
        hidden = self._context.model.hidden(flat[:1], self._cache, flat[1])[0]  # (T of all, E)
        return list(torch.split(hidden, sizes))


def window_start(n_tokens: int, block_size: int) -> int:
    """Index at which the context of a text of n tokens begins; 0 while the text fits.

    The window moves by quarters of a block, so it is recomputed rarely and not for every token,
    and a position always has the same context.
    """
    quarter = max(1, block_size // 4)
    return max(0, -(-(n_tokens - block_size) // quarter) * quarter)


def _common_prefix(a: Sequence[int], b: Sequence[int]) -> int:
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    return next(i for i in range(n) if a[i] != b[i])
