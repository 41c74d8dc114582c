"""Measure seconds and peak memory of a conversion, a plain copy and transformers; prints JSON.

    python -m benchmarks.convert [--runs 5] [--only small large] [--scale 1.0]

`small` is a random GPT-2 124M in one file, `large` a random GPT-2 of about 3 GB in shards. Each
measurement is a process of its own, and the kinds take turns:

- convert: python -m convert MODEL --no-verify
- copy: cp, then the sha256 of the copied files
- transformers: from_pretrained, then save_pretrained
- startup: starting Python and torch; the figures for convert include it

The peak is VmHWM of the process on Linux, without pages of the file cache.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
SIZES = {
    "small": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},  # 774M
}
SHARD_BYTES = 500_000_000
_PEAK = (
    "import pathlib, sys, time\n"
    "def report():\n"
    "    lines = pathlib.Path('/proc/self/status').read_text().splitlines()\n"
    "    peak = next(int(l.split()[1]) for l in lines if l.startswith('VmHWM'))\n"
    "    print('peak', peak * 1024, file=sys.stderr)\n"
)
CONVERT = _PEAK + (
    "from convert.__main__ import main\n"
    "main([sys.argv[1], '--out', sys.argv[2], '--no-verify'])\n"
    "report()\n"
)
COPY = _PEAK + (
    "import hashlib, subprocess\n"
    "subprocess.run(['cp', '-r', sys.argv[1], sys.argv[2]], check=True)\n"
    "for path in pathlib.Path(sys.argv[2]).iterdir():\n"
    "    with path.open('rb') as file:\n"
    "        hashlib.file_digest(file, 'sha256').hexdigest()\n"
    "report()\n"
)
TRANSFORMERS = _PEAK + (
    "import transformers\n"
    "model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype='auto')\n"
    "model.save_pretrained(sys.argv[2])\n"
    "report()\n"
)
STARTUP = _PEAK + "import convert.write\npathlib.Path(sys.argv[2]).mkdir()\nreport()\n"
KINDS = {"convert": CONVERT, "copy": COPY, "transformers": TRANSFORMERS, "startup": STARTUP}


def make(directory: Path, sizes: dict[str, int], sharded: bool) -> int:
    """Write a random checkpoint shard by shard. Returns the size of its weights in bytes."""
    import torch
    from safetensors.torch import save_file

    directory.mkdir()
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 50257}
    config |= {"n_positions": 1024, "bos_token_id": 50256, "eos_token_id": 50256, **sizes}
    (directory / "config.json").write_text(json.dumps(config))
    _write_tokenizer(directory)
    C = sizes["n_embd"]
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (50257, C), "wpe.weight": (1024, C)}
    for i in range(sizes["n_layer"]):
        shapes |= {
            f"h.{i}.ln_1.weight": (C,),
            f"h.{i}.ln_1.bias": (C,),
            f"h.{i}.attn.c_attn.weight": (C, 3 * C),
            f"h.{i}.attn.c_attn.bias": (3 * C,),
            f"h.{i}.attn.c_proj.weight": (C, C),
            f"h.{i}.attn.c_proj.bias": (C,),
            f"h.{i}.ln_2.weight": (C,),
            f"h.{i}.ln_2.bias": (C,),
            f"h.{i}.mlp.c_fc.weight": (C, 4 * C),
            f"h.{i}.mlp.c_fc.bias": (4 * C,),
            f"h.{i}.mlp.c_proj.weight": (4 * C, C),
            f"h.{i}.mlp.c_proj.bias": (C,),
        }
    shapes |= {"ln_f.weight": (C,), "ln_f.bias": (C,)}
    shards: list[dict[str, Any]] = [{}]
    size = 0
    for name, shape in shapes.items():
        tensor = torch.randn(shape) * 0.02
        if sharded and size and size + tensor.nbytes > SHARD_BYTES:
            _save(save_file, directory, shards)
            shards.append({})
            size = 0
        shards[-1][f"transformer.{name}"] = tensor
        size += tensor.nbytes
    _save(save_file, directory, shards)
    if sharded:
        table = {name: _name(i) for i, shard in enumerate(shards) for name in shard}
        text = json.dumps({"metadata": {}, "weight_map": table})
        (directory / "model.safetensors.index.json").write_text(text)
    else:
        (directory / _name(0)).rename(directory / "model.safetensors")
    return sum(path.stat().st_size for path in directory.glob("*.safetensors"))


def _save(save_file: Any, directory: Path, shards: list[dict[str, Any]]) -> None:
    """Write the last shard, and keep only the names of its tensors."""
    save_file(shards[-1], directory / _name(len(shards) - 1), metadata={"format": "pt"})
    shards[-1] = dict.fromkeys(shards[-1])


def _name(i: int) -> str:
    return f"model-{i + 1:05}.safetensors"


def _write_tokenizer(directory: Path) -> None:
    """Write the smallest byte-level vocabulary, because only weights are measured."""
    from gpt.tokenizer import BPETokenizer, byte_alphabet

    BPETokenizer({token: i for i, token in enumerate(byte_alphabet())}, []).save(directory)


def measure(kind: str, source: Path, target: Path) -> tuple[float, int]:
    """Seconds and peak bytes of one process."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", KINDS[kind], str(source), str(target)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"{kind} failed: {done.stderr}")
    peak = next(line for line in reversed(done.stderr.splitlines()) if line.startswith("peak"))
    shutil.rmtree(target)
    return seconds, int(peak.split()[1])


def _reset(source: Path) -> None:
    """Bring memory and disk into the same state before each measurement.

    A virtual machine returns memory that was free for a while to its host, and the next process
    that writes would wait for it. Nor should it wait for data that the previous one wrote.
    """
    scratch = source.parent / "scratch"
    shutil.copytree(source, scratch)
    shutil.rmtree(scratch)
    os.sync()


def compare(source: Path, runs: int) -> dict[str, Any]:
    """Medians of all kinds, which take turns. The first turn warms the file cache."""
    found: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS}
    for turn in range(runs + 1):
        for kind, results in found.items():
            _reset(source)
            result = measure(kind, source, source.parent / "out")
            if turn:
                results.append(result)
    medians: dict[str, Any] = {
        kind: {
            "seconds": round(statistics.median(seconds for seconds, _ in results), 3),
            "seconds_all": [round(seconds, 3) for seconds, _ in results],
            "peak_mb": round(statistics.median(peak for _, peak in results) / 1e6, 1),
        }
        for kind, results in found.items()
    }
    seconds = {kind: found["seconds"] for kind, found in medians.items()}
    memory = medians["convert"]["peak_mb"] / medians["transformers"]["peak_mb"]
    without_startup = seconds["convert"] - seconds["startup"]
    return {
        **medians,
        "seconds_convert_over_copy": round(seconds["convert"] / seconds["copy"], 3),
        "seconds_convert_without_startup_over_copy": round(without_startup / seconds["copy"], 3),
        "peak_convert_over_transformers": round(memory, 3),
    }


def main() -> None:
    """Measure everything and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=int, default=5, help="Runs of each kind. (default: %(default)s)"
    )
    parser.add_argument(
        "--only", nargs="*", choices=SIZES, default=list(SIZES), help="Sizes. (default: all)"
    )
    parser.add_argument(
        "--scale", type=float, default=1.0, help="Factor for n_layer. (default: %(default)s)"
    )
    parser.add_argument(
        "--dir", type=Path, help="Directory to work in. (default: the temporary directory)"
    )
    args = parser.parse_args()
    report: dict[str, Any] = {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for name in args.only:
        sizes = {**SIZES[name], "n_layer": max(1, round(SIZES[name]["n_layer"] * args.scale))}
        with tempfile.TemporaryDirectory(dir=args.dir) as directory:
            source = Path(directory) / "model"
            n_bytes = make(source, sizes, sharded=name == "large")
            report[name] = {"weights_mb": round(n_bytes / 1e6, 1), **compare(source, args.runs)}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
