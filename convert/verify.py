"""The same prompt through transformers and through our network, compared in float32.

The only place that imports transformers.
"""

from __future__ import annotations

import contextlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gpt.checkpoint import load_network
from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.quantize import DTYPES, dequantize, quantize
from gpt.tokenizer import Tokenizer

TOLERANCE = 1e-3
"""The largest difference of a logit or a log-probability that is still rounding."""
_PROMPT = "The quick brown fox jumps over the lazy dog. 1 + 1 = 2; naïve café, 東京."
_LENGTH = 64


@dataclass(frozen=True)
class Verification:
    """How a conversion was compared with transformers."""

    status: str
    """passed, or skipped."""
    reason: str = ""
    """Why it was skipped."""
    logits: float | None = None
    """Largest difference of a logit."""
    logprobs: float | None = None
    """Largest difference of a log-probability."""
    n_tokens: int | None = None
    """Length of the prompt."""
    transformers: str = ""
    """The version that was compared with."""


class Skip(Exception):  # noqa: N818
    """There is nothing to compare with; the text says why."""


def verify(
    theirs: Path, draft: Path, config: ModelConfig, tokenizer: Tokenizer, dtype: str, n_params: int
) -> Verification:
    """Compare a checkpoint of transformers with what was made of it.

    dtype: what the draft stores; transformers' weights are rounded to it as well. Raises
    UserError where the two differ by more than TOLERANCE.
    """
    needed, free = 2 * 4 * n_params, available_memory()
    if free is not None and needed > free:
        return Verification(
            "skipped",
            f"both models need {needed / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free",
        )
    ids = _prompt(config, tokenizer)
    with torch.inference_mode():
        ours = load_network(draft)(ids)[0]  # (T, V)
        try:
            reference, version = _reference(theirs, config, ids, dtype)
        except Skip as skip:
            return Verification("skipped", str(skip))
        logits = (ours - reference).abs().max().item()
        logprobs = (ours.log_softmax(-1) - reference.log_softmax(-1)).abs().max().item()
    if not max(logits, logprobs) <= TOLERANCE:  # also where one is NaN
        raise UserError(
            f"the converted model is not what transformers {version} computes: logits differ by "
            f"up to {logits:.2g}, log-probabilities by {logprobs:.2g} (at most {TOLERANCE:g} is "
            "rounding), so nothing was installed; --no-verify installs it all the same"
        )
    return Verification("passed", "", logits, logprobs, ids.size(1), version)


def _prompt(config: ModelConfig, tokenizer: Tokenizer) -> Tensor:
    """Ids (1, T): some text, and then tokens from all over the vocabulary."""
    front = [] if config.bos_id is None else [config.bos_id]
    text = [i for i in tokenizer.encode(_PROMPT) if i < config.vocab_size]
    spread = [i * 7919 % config.vocab_size for i in range(1, _LENGTH + 1)]
    ids = (front + text[: _LENGTH // 2] + spread)[: min(_LENGTH, config.block_size)]
    return torch.tensor([ids])


def _reference(theirs: Path, config: ModelConfig, ids: Tensor, dtype: str) -> tuple[Tensor, str]:
    """transformers' logits (T, V) in float32, and its version."""
    try:
        with _quiet():
            import transformers

            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
                str(theirs),
                dtype=torch.float32,
                attn_implementation="eager",
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # whatever it cannot do is its own affair, not the conversion's
        reason = str(error).strip().partition("\n")[0][:200]
        raise Skip(f"transformers cannot load it: {reason or type(error).__name__}") from error
    model, info = loaded
    if missing := sorted(map(str, info["missing_keys"])) or sorted(
        map(str, info["mismatched_keys"])
    ):
        raise Skip(f"transformers does not find {missing[0]} and would invent it")
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    if tied and not config.tied:
        raise Skip("transformers takes the embedding for the output matrix, which differs")
    model.eval()
    _round(model, dtype)
    return model(input_ids=ids, use_cache=False).logits[0].float(), transformers.__version__


def _round(model: Any, dtype: str) -> None:
    """Give transformers' network the numbers that a dtype leaves of its weights."""
    if dtype != "int8":
        for weight in model.parameters():
            weight.copy_(weight.to(DTYPES[dtype]))
        return
    from transformers.pytorch_utils import Conv1D

    for module in model.modules():
        if isinstance(module, Conv1D):  # (in, out)
            module.weight.copy_(dequantize(*quantize(module.weight.T)).T)
        elif isinstance(module, torch.nn.Linear) or module is model.get_input_embeddings():
            module.weight.copy_(dequantize(*quantize(module.weight)))


@contextlib.contextmanager
def _quiet() -> Any:
    """transformers draws bars and warns; what matters of it we say ourselves."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def available_memory() -> int | None:
    """Bytes of memory that a process may still take, without swapping; None where unknown."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        found.append(limit - int((group / "memory.current").read_text(encoding="ascii")))
    return min(found, default=None)
