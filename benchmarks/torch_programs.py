"""Our network and transformers' as programs that draw tokens, for benchmarks that compare them."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch

from benchmarks.other_programs import Program
from gpt import checkpoint
from gpt.checkpoint import Checkpoint
from gpt.context import Context
from gpt.fast.cpu_build import CpuBuild
from gpt.generate import Limits, generate
from gpt.settings import Sampling
from gpt.weights.products import packed_is_faster

GREEDY = Sampling(temperature=0.0)


def our_program(loaded: Checkpoint, context: Context) -> Program:
    """Our generate, which computes everything that a Step has."""

    def run(ids: list[int], n: int) -> list[int]:
        context.truncate(0)
        path = list(ids)
        if n == 0:
            context.predict(context.read(ids)[-1])
        while len(path) < len(ids) + n:  # a token that ends a text does not end the measurement
            n_missing = len(ids) + n - len(path)
            for step in generate(context, path.copy(), GREEDY, Limits(n_missing)):
                path.append(step.token_id)
        return path[len(ids) :]

    return run


def our_cpu_program(directory: Path, dtype: str, *, compile: bool) -> Program:
    """A checkpoint of ours on the CPU in a dtype, with compiled code or without."""
    packed = dtype == "int8" and not compile and packed_is_faster()  # as without a compiler
    loaded = checkpoint.load(directory, "cpu", dtype, packed=packed)
    context = loaded.new_context()
    if compile:
        build = CpuBuild(context, dtype)
        build.start(build=True)
        build.wait()
        if not build.is_installed:
            raise ImportError("no compiled code; is there a C++ compiler?")
    gc.freeze()
    return our_program(loaded, context)


def transformers_program(model: Any) -> Program:
    """transformers' generate, and its forward to read a prompt."""

    @torch.inference_mode()
    def run(ids: list[int], n: int) -> list[int]:
        prompt = torch.tensor([ids], device=model.device)
        if n == 0:
            model(prompt, use_cache=True, logits_to_keep=1)
            return []
        options = {"max_new_tokens": n, "min_new_tokens": n, "do_sample": False, "pad_token_id": 0}
        output = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        return output[0, len(ids) :].tolist()

    return run


def transformers_gpt2(work: Path, dtype: torch.dtype) -> Any:
    """transformers' GPT-2 with the weights in work/theirs; no token ends its texts."""
    from transformers import GPT2LMHeadModel

    model = GPT2LMHeadModel.from_pretrained(str(work / "theirs"), dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    return model
