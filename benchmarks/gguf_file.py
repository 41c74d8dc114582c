"""Measure a model from a GGUF file in our program and in llama.cpp; prints JSON.

    .venv/bin/python -m benchmarks.gguf_file MODEL.gguf [--rounds 5] [--threads 2]

llama.cpp (the package xllamacpp) runs the file as it is, and its weights in Q8_0 and Q4_0. Ours are
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
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.other_programs import Program, server_program
from benchmarks.rounds import cpu
from benchmarks.torch_programs import our_cpu_program
from benchmarks.workers import serve, speeds
from gpt import checkpoint, divergence, models
from gpt.generate import logits_of

PROMPT, DRAWN, LONG = 64, 128, 512
OURS = ("float16", "int8", "int4")
THEIRS = ("Q8_0", "Q4_0")


def factories(work: Path, threads: int) -> dict[str, Callable[[], Program]]:
    """Functions that create each program, by name."""
    found: dict[str, Callable[[], Program]] = {}
    for name in ("given", *THEIRS):
        found[f"llama.cpp {name}"] = partial(server_program, work / f"{name}.gguf", threads)
    for dtype in OURS:
        for kind in ("eager", "compiled"):
            directory = work / "models" / "given"
            compile = kind == "compiled"
            found[f"ours {dtype} {kind}"] = partial(
                our_cpu_program, directory, dtype, compile=compile
            )
    return found


def write_as(kind: str, source: Path, out: Path) -> None:
    """Write a GGUF file with the same metadata, and all matrices that allow it in another kind."""
    import gguf

    reader = gguf.GGUFReader(str(source))
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(str(out), architecture)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            value = field.types[0]
            is_list = value == gguf.GGUFValueType.ARRAY
            writer.add_key_value(
                field.name, field.contents(), value, sub_type=field.types[-1] if is_list else None
            )
    stored = gguf.GGMLQuantizationType[kind]
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
def divergence_of(kind: str, directory: Path) -> float:
    """As gpt.divergence.measure, for weights in a kind of llama.cpp's; products are in float32."""
    import gguf

    stored = gguf.GGMLQuantizationType[kind]
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
    for kind in THEIRS:
        write_as(kind, given, work / f"{kind}.gguf")
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
            **{kind: divergence_of(kind, work / "models" / "given") for kind in THEIRS},
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
