"""Compares the logits of our network and of transformers for the same tokens in float32.

Only this module imports transformers, and only while it compares.
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

from convert.gguf_source import UnpackedGguf
from gpt.checkpoint import load_network
from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.tokenizer import Tokenizer
from gpt.weights.quantize import DTYPES, dequantize, quantize

TOLERANCE = 1e-3
"""Differences of logits and log-probabilities up to this are rounding."""
_PROMPT = "The quick brown fox jumps over the lazy dog. 1 + 1 = 2; naïve café, 東京."
_MAX_TOKENS = 64


@dataclass(frozen=True)
class Verification:
    """The result of a comparison with transformers."""

    status: str
    """passed or skipped."""
    reason: str = ""
    """Why the comparison was skipped."""
    logits: float | None = None
    """Largest difference of a logit."""
    logprobs: float | None = None
    """Largest difference of a log-probability, in nats."""
    n_tokens: int | None = None
    """Tokens that were compared."""
    transformers: str = ""
    """Version of transformers."""


class NotComparableError(Exception):
    """transformers cannot compute reference logits; the text says why."""


def verify(
    source: Path | UnpackedGguf,
    draft: Path,
    config: ModelConfig,
    tokenizer: Tokenizer,
    dtype: str,
    n_params: int,
) -> Verification:
    """Compare a checkpoint of transformers with the draft that was converted from it.

    dtype: the draft's dtype, to which the weights of transformers are rounded too. Raises
    UserError if logits or log-probabilities differ by more than TOLERANCE.
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
            reference, version = _reference(source, config, ids, dtype)
        except NotComparableError as error:
            return Verification("skipped", str(error))
        logits = (ours - reference).abs().max().item()
        logprobs = (ours.log_softmax(-1) - reference.log_softmax(-1)).abs().max().item()
    if not max(logits, logprobs) <= TOLERANCE:  # true for NaN too
        raise UserError(
            f"the converted model differs from transformers {version}: logits by up to "
            f"{logits:.2g}, log-probabilities by up to {logprobs:.2g} (rounding is at most "
            f"{TOLERANCE:g}), so nothing was installed; --no-verify installs it anyway"
        )
    return Verification("passed", "", logits, logprobs, ids.size(1), version)


def _prompt(config: ModelConfig, tokenizer: Tokenizer) -> Tensor:
    """Ids (1, T): some text, then tokens spread over the vocabulary."""
    start = [] if config.bos_id is None else [config.bos_id]
    text = [i for i in tokenizer.encode(_PROMPT) if i < config.vocab_size]
    spread = [i * 7919 % config.vocab_size for i in range(1, _MAX_TOKENS + 1)]
    ids = (start + text[: _MAX_TOKENS // 2] + spread)[: min(_MAX_TOKENS, config.block_size)]
    return torch.tensor([ids])


def _reference(
    source: Path | UnpackedGguf, config: ModelConfig, ids: Tensor, dtype: str
) -> tuple[Tensor, str]:
    """The logits of transformers (T, V) in float32, and its version."""
    try:
        with _quiet():
            import transformers

            loaded: Any = (
                _from_gguf(transformers, source)
                if isinstance(source, UnpackedGguf)
                else transformers.AutoModelForCausalLM.from_pretrained(
                    str(source),
                    dtype=torch.float32,
                    attn_implementation="eager",
                    local_files_only=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
            )
    except Exception as error:  # not an error of the conversion
        reason = str(error).strip().partition("\n")[0][:200]
        raise NotComparableError(
            f"transformers cannot load it: {reason or type(error).__name__}"
        ) from error
    model, info = loaded
    if missing := sorted(map(str, info["missing_keys"])) or sorted(
        map(str, info["mismatched_keys"])
    ):
        raise NotComparableError(
            f"transformers does not find {missing[0]} and would use random numbers for it"
        )
    tied = model.get_input_embeddings().weight is model.get_output_embeddings().weight
    if tied and not config.tied:
        raise NotComparableError(
            "transformers uses the embedding as output matrix, but the checkpoint has another one"
        )
    model.eval()
    _round_weights(model, dtype)
    return model(input_ids=ids, use_cache=False).logits[0].float(), transformers.__version__


def _from_gguf(transformers: Any, source: UnpackedGguf) -> tuple[Any, dict[str, list[str]]]:
    """transformers' network with the tensors of a GGUF file, and which are missing.

    transformers' own reader of GGUF files needs another package and much more time.
    """
    config = transformers.AutoConfig.from_pretrained(
        str(source.directory), local_files_only=True, trust_remote_code=False
    )
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation="eager", trust_remote_code=False
    )
    state = {name: source.weights.read(name).float() for name in source.weights.tensors}
    found = model.load_state_dict(state, strict=False, assign=True)
    model.tie_weights()
    head = "lm_head.weight" if config.tie_word_embeddings else ""
    return model, {
        "missing_keys": [name for name in found.missing_keys if name != head],
        "mismatched_keys": found.unexpected_keys,
    }


def _round_weights(model: Any, dtype: str) -> None:
    """Round the weights of transformers' network in place, as storing them in a dtype would."""
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
    """Hide the progress bars and warnings of transformers."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)


def available_memory() -> int | None:
    """Bytes that this process can still allocate without swapping; None if unknown."""
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
