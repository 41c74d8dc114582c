"""Measure a model from a GGUF file in our program and in llama.cpp; prints JSON.

    .venv/bin/python -m benchmarks.gguf_file MODEL.gguf [--rounds 5] [--threads 2]

llama.cpp (the package xllamacpp) runs the file as it is, and its weights in Q8_0. Ours are
converted from the file. All programs draw the same number of tokens after the same prompt,
greedily; ours computes its full read-out with every token. They take turns in every round, each in
its own process. Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.other_programs import Program
from benchmarks.rounds import cpu
from benchmarks.torch_programs import our_cpu_program
from benchmarks.workers import serve, speeds
from gpt import checkpoint, divergence, models
from gpt.generate import logits_of

PROMPT, DRAWN, LONG = 64, 128, 512
OURS = ("float16", "int8")


def factories(work: Path, threads: int) -> dict[str, Callable[[], Program]]:
    """Functions that create each program, by name."""
    found: dict[str, Callable[[], Program]] = {}
    for name in ("given", "Q8_0"):
        found[f"llama.cpp {name}"] = partial(server_program, work / f"{name}.gguf", threads)
    for dtype in OURS:
        for kind in ("eager", "compiled"):
            directory = work / "models" / "given"
            compile = kind == "compiled"
            found[f"ours {dtype} {kind}"] = partial(
                our_cpu_program, directory, dtype, compile=compile
            )
    return found


def server_program(path: Path, threads: int) -> Program:
    """A GGUF file in a llama.cpp server on this machine. Raises ImportError without xllamacpp."""
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(path)
    options.n_ctx, options.n_parallel, options.ui = 2 * LONG, 1, False
    options.hostnames, options.port = ["127.0.0.1"], 0
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(options)

    def run(ids: list[int], n: int) -> list[int]:
        asked = {
            "prompt": ids,
            "n_predict": max(n, 1),
            "temperature": 0,
            "ignore_eos": True,
            "cache_prompt": False,
            "return_tokens": True,
        }
        request = urllib.request.Request(  # noqa: S310
            f"{server.listening_address}/completion",
            json.dumps(asked).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=600) as answer:  # noqa: S310
            tokens: list[int] = json.load(answer)["tokens"]
        return tokens

    return run


def write_q8_0(source: Path, out: Path) -> None:
    """Write a GGUF file with the same metadata, and all matrices that allow it in Q8_0."""
    import gguf

    reader = gguf.GGUFReader(str(source))
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(str(out), architecture)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            kind = field.types[0]
            is_list = kind == gguf.GGUFValueType.ARRAY
            writer.add_key_value(
                field.name, field.contents(), kind, sub_type=field.types[-1] if is_list else None
            )
    stored = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        if data.ndim == 2 and data.shape[1] % 32 == 0:
            writer.add_tensor(tensor.name, gguf.quants.quantize(data, stored), raw_dtype=stored)
        else:
            writer.add_tensor(tensor.name, data)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.inference_mode()
def divergence_of_q8_0(directory: Path) -> float:
    """As gpt.divergence.measure, for weights that are rounded to Q8_0; products are in float32."""
    import gguf

    stored = gguf.GGMLQuantizationType.Q8_0
    ids = divergence._page(directory, "float16")
    expected = divergence._logits(directory, "float32", ids)
    context = checkpoint.load(directory).new_context()
    for weight in context.model.parameters():
        if weight.dim() == 2 and weight.size(1) % 32 == 0:
            rounded = gguf.quants.quantize(weight.numpy(), stored)
            weight.copy_(torch.from_numpy(gguf.quants.dequantize(rounded, stored)))
    found = torch.cat(list(logits_of(context, ids)))
    return float(f"{divergence._divergence(expected, found):.2g}")


def measure(source: Path, work: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Convert the file, and measure all programs."""
    given = work / "given.gguf"
    given.symlink_to(source.resolve())
    command = [sys.executable, "-m", "convert", str(given), "--name", "given"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    write_q8_0(given, work / "Q8_0.gguf")
    ids = [1 + i * 7919 % 20000 for i in range(LONG)]
    names = list(factories(work, threads))
    found = speeds("benchmarks.gguf_file", names, work, threads, ids, (PROMPT, DRAWN), rounds)
    manifest = models.read_manifest(work / "models" / "given")
    return {
        "cpu": cpu(),
        "threads": threads,
        "file_megabytes": round(source.stat().st_size / 1e6),
        "peak_megabytes_of_converting": round(peak / 1024),
        "divergence": {
            **manifest.divergence,
            "Q8_0": divergence_of_q8_0(work / "models" / "given"),
        },
        **found,
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", help="GGUF file.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--worker", nargs=2, metavar=("NAME", "WORK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        name, work = args.worker
        serve(factories(Path(work), args.threads)[name], args.threads)
        return
    if args.file is None:
        parser.error("which GGUF file?")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["GPT_TUI_HOME"] = directory
        print(json.dumps(measure(args.file, Path(directory), args.threads, args.rounds), indent=2))


if __name__ == "__main__":
    main()
