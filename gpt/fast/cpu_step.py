"""One token's step as machine code that gpt/fast/cpu_compile.py built for this machine.

For each token, decoding calls some hundred operators and reads every weight from memory. Code that
was compiled for a block does both faster. It is kept in the user's cache directory.
"""

from __future__ import annotations

import platform
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gpt.cache import KVCache
from gpt.config import ModelConfig
from gpt.fast.build import code_path
from gpt.model import GPT, Block
from gpt.prediction import TOP, Prediction
from gpt.weights import words
from gpt.weights.groups import group_size
from gpt.weights.quantize import Matrix

_SOURCES = (
    "model.py prediction.py sampling.py draw.py weights/groups.py weights/products.py "
    "weights/quantize.py weights/words.py fast/cpu_compile.py fast/inductor.py fast/cpu_step.py"
).split()
"""Files in gpt/ that the machine code depends on."""
_BLOCK_FIELDS = (
    "n_head n_embd n_kv_head head_dim qk_norm norm norm_gain norm_first eps activation gated "
    "n_inner parallel bias qkv_bias positions rotary_dim"
).split()
"""Fields of ModelConfig that a block's code depends on."""
_INPUT_AND_OUTPUT_FIELDS = (
    "vocab_size block_size n_head n_embd head_dim embd_dim tied positions rope_theta rotary_dim "
    "rope_scaling rope_factor rope_low rope_high rope_original final_norm norm norm_gain eps bias"
).split()
"""The same for the code before the first block and after the last one."""
_PREFIXES = {"input": ("wte.", "proj_in.", "wpe."), "output": ("ln_f.", "proj_out.")}
"""Parameters that the code before and after the blocks needs: how their names start."""
ROWS = 8
"""Tokens that the code for several branches reads at once."""


def library_paths(config: ModelConfig, dtype: str) -> dict[str, Path]:
    """Paths of the machine code for each part of a network, whether it exists or not.

    File names are digests of everything that the code depends on: what is compiled, with which
    compiler, for which processor and how many threads.
    """
    parts = {
        "input": _INPUT_AND_OUTPUT_FIELDS,
        "block": _BLOCK_FIELDS,
        "output": _INPUT_AND_OUTPUT_FIELDS,
        "race": ["vocab_size"],
        "race_of_all": ["vocab_size"],
    }
    if config.vocab_size <= TOP:
        del parts["race_of_all"]
    return _paths(config, dtype, parts)


def batch_paths(config: ModelConfig, dtype: str) -> dict[str, Path]:
    """The same for the code that reads a token of each of several branches.

    There is none unless weights are multiplied as words of bytes: sums of floats take longer than
    PyTorch's products.
    """
    bits = {"int8": 8, "int4": 4}.get(dtype)
    if not (bits and words.are_fast() and words.fit(group_size(config.n_embd, bits), bits)):
        return {}
    parts = {"batch": _BLOCK_FIELDS, "batch_output": _INPUT_AND_OUTPUT_FIELDS}
    return _paths(config, dtype, parts)


def _paths(config: ModelConfig, dtype: str, parts: dict[str, list[str]]) -> dict[str, Path]:
    """parts: name → fields of the configuration that its code depends on."""
    common = {"processor": _processor(), "threads": torch.get_num_threads(), "dtype": dtype}
    values = config.to_dict()
    return {
        part: code_path(part, ".so", _SOURCES, common | {name: values[name] for name in names})
        for part, names in parts.items()
        if config.n_layer or part not in ("block", "batch")
    }


def _processor() -> str:
    """The properties of this processor for which a compiler generates code."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    fields = [line for line in lines if line.lower().startswith(("flags", "features", "vendor"))]
    # Of each field, the first processor's.
    found = {line.partition(":")[0]: line for line in reversed(fields)}
    return " ".join((platform.machine(), platform.processor(), *sorted(found.values())))


def is_intel() -> bool:
    """Whether this is a processor of Intel's."""
    return "GenuineIntel" in _processor()


def parameter_names(part: str, model: GPT) -> list[str]:
    """Names of the parameters that the code before ("input") or after ("output") blocks needs."""
    prefixes = _PREFIXES[part]
    if part == "output":
        prefixes += ("wte." if model.config.tied else "lm_head.",)
    return [name for name, _ in model.named_parameters() if name.startswith(prefixes)]


def streamed(module: nn.Module) -> dict[str, Tensor]:
    """Parameters by name, as compiled code reads them."""
    found = {name: weight.detach() for name, weight in module.named_parameters()}
    for name, child in module.named_modules():
        if isinstance(child, Matrix):
            found[f"{name}.weight"] = child.streamed.detach()
    return found


def block_arguments(block: Block) -> list[Tensor]:
    """The matrices of a block, then one vector: the scale of attention and all its vectors.

    The time of a call grows with the number of tensors, not with their size.
    """
    weights = list(streamed(block).values())
    matrices = [weight for weight in weights if weight.dim() > 1]
    vectors = [weight for weight in weights if weight.dim() == 1]
    return [*matrices, torch.cat([torch.tensor([block.attn.scale]), *vectors])]


def part_arguments(part: str, model: GPT) -> list[Tensor]:
    """The tensors of `parameter_names`. The input looks up single rows, so it reads plain bytes."""
    weights = streamed(model) if part == "output" else dict(model.named_parameters())
    return [weights[name].detach() for name in parameter_names(part, model)]


class CompiledStep:
    """Runs the network for one more token of one sequence, or for one of each of several branches.

    It computes what `GPT.hidden` and `predict` do.
    """

    def __init__(
        self, model: GPT, dtype: str, want_batch: Callable[[], object] | None = None
    ) -> None:
        """want_batch: called the first time that code for branches is asked for and missing.

        Raises RuntimeError if a library cannot be loaded.
        """
        load = runner()
        paths = library_paths(model.config, dtype)
        batch = batch_paths(model.config, dtype)
        self.has_batch = bool(batch) and all(path.exists() for path in batch.values())
        """Whether there is code for branches."""
        self._run: dict[str, Callable[[list[Tensor]], list[Tensor]]] = {
            part: load(str(path), 1).run
            for part, path in (paths | batch if self.has_batch else paths).items()
        }
        self._weights = {part: part_arguments(part, model) for part in _PREFIXES}
        self._blocks = [block_arguments(cast(Block, block)) for block in model.h]
        self._id_and_position = array("q", (0, 0))
        self._input = torch.frombuffer(self._id_and_position, dtype=torch.long)
        """(2) the same memory as a tensor."""
        self._lengths = torch.zeros(model.config.block_size)
        """A slice of it passes the number of tokens to a block, which uses only its size."""
        self._model, self._want_batch = model, want_batch
        self._last: list[Tensor] = []
        """The hidden states (E) that were computed last."""
        self._predictions: list[Prediction] = []
        """Their predictions, of up to ROWS states each."""

    def hidden(self, token_id: int, cache: KVCache) -> Tensor:
        """→ hidden state (E). Afterwards the cache is one token longer."""
        self._id_and_position[0], self._id_and_position[1] = token_id, cache.length
        x, *rotation = self._run["input"]([self._input, *self._weights["input"]])  # (1, 1, C)
        memory = iter(cache.layer_tensors())
        length = self._lengths[: cache.length + 1]
        for weights in self._blocks:
            keys, values = next(memory), next(memory)
            (x,) = self._run["block"]([x, keys, values, length, *rotation, *weights])
        cache.advance(1)
        hidden, *prediction = self._run["output"]([x, *self._weights["output"]])  # (1, 1, E)
        self._last, self._predictions = [hidden.view(-1)], [Prediction(*prediction)]
        return self._last[0]

    def rows(self, ids: Tensor, at: Tensor, cache: KVCache, mask: Tensor) -> list[Tensor] | None:
        """The newest tokens of several branches → their hidden states, (E) each.

        ids: (N). at: (N) their positions. cache: gets the N tokens. mask: bool (N, S) which tokens
        of the cache each sees, with the N new ones. None if there is no code for it.
        """
        if not self.has_batch:
            want, self._want_batch = self._want_batch, None
            if want:
                want()
            return None
        self._last, self._predictions = [], []
        for first in range(0, len(ids), ROWS):
            part = slice(first, first + ROWS)
            self._batch(ids[part], at[part], cache, mask[part])
        return self._last

    def _batch(self, ids: Tensor, at: Tensor, cache: KVCache, mask: Tensor) -> None:
        """As `rows`, for at most ROWS tokens. The code reads ROWS, of which the last are unused."""
        n, model = len(ids), self._model
        length = cache.length + ROWS
        seen = torch.full((ROWS, length), -torch.inf)  # added to scores
        seen[:n].masked_fill_(F.pad(mask[:, : cache.length + n], (0, ROWS - n)), 0)
        seen[n:] = seen[0]
        ids, at = (F.pad(each, (0, ROWS - n)) for each in (ids, at))
        x, rotation = model.embed(ids, at)  # (ROWS, C)
        x = x[None]
        memory = iter(cache.layer_tensors(ROWS))
        for weights in self._blocks:
            keys, values = next(memory), next(memory)
            (x,) = self._run["batch"]([x, keys, values, seen, *(rotation or ()), *weights])
        cache.advance(n)
        hidden, *prediction = self._run["batch_output"]([x, *self._weights["output"]])
        self._last += hidden[0, :n].unbind(0)
        self._predictions.append(Prediction(*(each[:n] for each in prediction)))

    def race(
        self, scores: Tensor, ids: Tensor, settings: Tensor, key: Tensor, all_scores: Tensor
    ) -> tuple[Tensor, Tensor]:
        """As gpt.draw.race, for all tokens or for as many as a Prediction has looked up."""
        part = "race" if len(ids) <= TOP else "race_of_all"
        token, final = self._run[part]([scores, ids, settings, key, all_scores])
        return token, final

    def prediction(self, *hidden: Tensor) -> Prediction | None:
        """For the hidden states (E) that were computed last, all of them; None for any others."""
        # `_last` keeps their memory alive, so no other tensor has the same address.
        if [each.data_ptr() for each in hidden] != [each.data_ptr() for each in self._last]:
            return None
        if len(self._predictions) > 1:
            self._predictions = [Prediction(*map(torch.cat, zip(*self._predictions, strict=True)))]
        return self._predictions[0]


def runner() -> Any:
    """The class that loads machine code; None if this version of torch has none.

    It is an internal class of torch. To import torch._inductor would take a second.
    """
    return getattr(getattr(torch._C, "_aoti", None), "AOTIModelContainerRunnerCpu", None)
