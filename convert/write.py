"""A conversion from end to end: find, plan, write, verify, install."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gpt
from convert import directory as their_directory
from convert import gpt2, opt, safetensors_file
from convert.events import Notice, Progress, Tell, silent
from convert.family import Family, Values, unchanged
from convert.plan import Plan, make_plan
from convert.source import Source, locate
from convert.vocabulary import Vocabulary, read_vocabulary
from convert.weights import Weights
from gpt import checkpoint, models
from gpt.config import ModelConfig
from gpt.draft import replacing
from gpt.errors import UserError

FAMILIES: dict[str, Family] = {family.model_type: family for family in (gpt2.FAMILY, opt.FAMILY)}
_ROOM = 1 << 24
"""Bytes on the disk for everything but the weights."""


@dataclass(frozen=True)
class Result:
    """A finished conversion."""

    directory: Path
    """Where the checkpoint is."""
    name: str
    """What the program calls it."""
    verification: dict[str, Any]
    """How it was compared with transformers."""


def convert(
    model: str,
    *,
    out: Path | None = None,
    name: str | None = None,
    dtype: str = "keep",
    revision: str | None = None,
    verify: bool = True,
    force: bool = False,
    tell: Tell = silent,
) -> Result:
    """Make a checkpoint of ours out of a hub id or a directory.

    out: the checkpoint's directory; without it, `name` (or the model's own) among the user's
    models. dtype: float32, float16, bfloat16 or keep. force: replace a checkpoint that is there.
    Raises UserError and leaves everything as it was where anything is not as it should be.
    """
    directory = target(model, out, name)
    _check_place(directory, force)
    source = locate(model, revision, tell)
    values = their_directory.read_config(source.directory)
    family = choose_family(values, source)
    reader = Values(values)
    config = _read_config(family, reader, source)
    vocabulary = read_vocabulary(source.directory)
    config = _with_token_ids(family, reader, config, vocabulary, tell)
    weights = their_directory.open_weights(source.directory)
    plan = make_plan(family, config, family.fills(reader), weights.tensors, partial(_same, weights))
    for notice in plan.notices:
        tell(Notice(notice))
    if vocabulary.ordinary_size > plan.config.vocab_size:
        raise UserError(
            f"the tokenizer in {source.directory} makes ids up to {vocabulary.ordinary_size - 1}, "
            f"but the network has {plan.config.vocab_size} tokens"
        )
    stored = _stored_dtype(dtype, plan, weights, tell)
    _check_room(directory, safetensors_file.file_size(plan.shapes, checkpoint.DTYPES[stored]))
    with replacing(directory) as draft:
        pieces = _pieces(plan, weights, checkpoint.DTYPES[stored], tell)
        digest = safetensors_file.write(
            draft / checkpoint.WEIGHTS, plan.shapes, checkpoint.DTYPES[stored], pieces
        )
        checkpoint.write_config(draft, plan.config)
        vocabulary.tokenizer.save(draft)
        n_params = sum(torch.Size(shape).numel() for shape in plan.shapes.values())
        verification = _verify(source, draft, plan, vocabulary, stored, n_params, verify, tell)
        checkpoint.write_manifest(
            draft,
            dtype=stored,
            n_params=n_params,
            origin={
                "kind": source.kind,
                "model": source.model,
                "revision": source.revision,
                "family": family.model_type,
                "converted_by": f"gpt-tui {gpt.__version__}",
                "files": _sizes(weights),
                "notices": list(plan.notices),
                "verification": verification,
            },
            known={checkpoint.WEIGHTS: digest},
        )
    return Result(directory, directory.name, verification)


def target(model: str, out: Path | None, name: str | None) -> Path:
    """Where a conversion goes. Raises UserError where that is no name for a model."""
    if out is not None:
        if name is not None:
            raise UserError("--out already names the checkpoint; leave --name out")
        return out.absolute()
    if name is None:
        name = Path(model).absolute().name
    if name in ("", models.EMBEDDED) or name.startswith(".") or Path(name).name != name:
        raise UserError(f"a model cannot be called {name!r}; choose another --name")
    if not name.isprintable() or len(name.encode()) > 200 or "\\" in name:
        raise UserError(f"the name {name[:50]!r} is no name for a directory; choose another --name")
    return models.home() / name


def choose_family(values: dict[str, Any], source: Source) -> Family:
    """The family of a configuration. Raises UserError naming those that there are."""
    kind = values.get("model_type")
    if kind is None and "n_embd" in values and "n_layer" in values:
        kind = "gpt2"  # as configurations of 2019 are, which do not say so
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UserError(
            f"{source.model} is a {str(kind)[:50]!r} model; convert knows {', '.join(FAMILIES)}"
        )
    return FAMILIES[kind]


def _read_config(family: Family, reader: Values, source: Source) -> ModelConfig:
    try:
        return family.read_config(reader)
    except UserError as error:
        path = source.directory / their_directory.CONFIG
        raise UserError(f"{path} cannot be used: {error}") from error


def _check_place(directory: Path, force: bool) -> None:
    if (directory / models.MANIFEST).is_file():
        if not force:
            raise UserError(f"{directory} is there already; --force replaces it")
    elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} exists and is no checkpoint; choose another place")


def _with_token_ids(
    family: Family, reader: Values, config: ModelConfig, vocabulary: Vocabulary, tell: Tell
) -> ModelConfig:
    """The special tokens. An id that the network does not have is ignored, with a notice."""

    def read(key: str) -> int | None:
        found = reader.token_id(key, family.token_ids.get(key))
        if found is None or 0 <= found < config.vocab_size:
            return found
        tell(Notice(f"{key} {found} is outside the vocabulary of {config.vocab_size}; ignored"))
        return None

    front = family.bos if vocabulary.bos is None else vocabulary.bos
    bos = read("bos_token_id") if front is True else None
    if type(front) is int and front < config.vocab_size:
        bos = front
    return replace(config, bos_id=bos, eos_id=read("eos_token_id"), pad_id=read("pad_token_id"))


def _same(weights: Weights, a: str, b: str) -> bool:
    if weights.tensors[a].shape != weights.tensors[b].shape:
        return False
    pairs = zip(weights.pieces(a), weights.pieces(b), strict=True)
    return all(torch.equal(x.double(), y.double()) for x, y in pairs)


def _stored_dtype(wanted: str, plan: Plan, weights: Weights, tell: Tell) -> str:
    """The one dtype of the checkpoint."""
    if wanted != "keep":
        return wanted
    names = {dtype: name for name, dtype in checkpoint.DTYPES.items()}
    found = {weights.tensors[s.name].dtype for parts in plan.sources.values() for s in parts}
    if len(found) == 1 and (only := next(iter(found))) in names:
        return names[only]
    kinds = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
    tell(Notice(f"the weights are {kinds}; they are stored as float32"))
    return "float32"


def _check_room(directory: Path, size: int) -> None:
    parent = next(path for path in directory.parents if path.exists())
    free = shutil.disk_usage(parent).free
    if free < size + _ROOM:
        raise UserError(
            f"{directory} needs {(size + _ROOM) / 1e9:.2f} GB and {parent} has {free / 1e9:.2f} GB "
            "left; make room or choose another place with --out"
        )


def _pieces(plan: Plan, weights: Weights, dtype: torch.dtype, tell: Tell) -> Iterator[Tensor]:
    """The numbers of our parameters in the plan's order.

    What needs no transform passes through in pieces; of the rest, a tensor at a time is in
    memory. The parts of a joined matrix are its rows, so they simply follow each other.
    """
    sources = [source for parts in plan.sources.values() for source in parts]
    progress = _Progress(weights, [source.name for source in sources], tell)
    for name, parts in plan.sources.items():
        if not parts:
            yield torch.full(plan.shapes[name], plan.fills[name], dtype=dtype)
        for source in parts:
            info = weights.tensors[source.name]
            if source.place.transform is unchanged:
                for piece in weights.pieces(source.name):
                    yield _checked(piece, dtype, source.name, info.file)
                    progress.add(info.file, piece.nbytes)
            else:
                tensor = source.place.transform(weights.read(source.name))
                yield _checked(tensor, dtype, source.name, info.file)
                progress.add(info.file, info.nbytes)


class _Progress:
    """Bytes that were read, per file and in total."""

    def __init__(self, weights: Weights, names: list[str], tell: Tell) -> None:
        self._tell = tell
        self._totals: Counter[Path] = Counter()
        self._done: Counter[Path] = Counter()
        for name in names:
            info = weights.tensors[name]
            self._totals[info.file] += info.nbytes

    def add(self, file: Path, n_bytes: int) -> None:
        """So many bytes of a file are done."""
        self._done[file] += n_bytes
        of_file, total = self._totals[file], self._totals.total()
        done = self._done.total()
        self._tell(Progress("convert", file.name, self._done[file], of_file, done, total))


def _checked(tensor: Tensor, dtype: torch.dtype, name: str, file: Path) -> Tensor:
    """In another dtype. Raises UserError where a number is not finite, before or after."""
    if not _is_finite(tensor):
        raise UserError(f"{name!r} in {file} holds NaN or Inf, so the model is broken")
    if tensor.dtype == dtype:
        return tensor
    tensor = tensor.to(dtype)
    if not _is_finite(tensor):
        raise UserError(
            f"{name!r} in {file} holds numbers that {str(dtype).removeprefix('torch.')} cannot; "
            "choose --dtype bfloat16 or float32"
        )
    return tensor


def _is_finite(tensor: Tensor) -> bool:
    """One pass, and no copy: a NaN is both the least and the greatest."""
    return not tensor.numel() or bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def _verify(
    source: Source,
    draft: Path,
    plan: Plan,
    vocabulary: Vocabulary,
    dtype: str,
    n_params: int,
    wanted: bool,
    tell: Tell,
) -> dict[str, Any]:
    if not wanted:
        return {"status": "skipped", "reason": "--no-verify"}
    from convert.verify import verify

    tell(Progress("verify", "", 0, 1, 0, 1))
    found = verify(source.directory, draft, plan.config, vocabulary.tokenizer, dtype, n_params)
    if found.status == "skipped":
        tell(Notice(f"not verified: {found.reason}"))
    tell(Progress("verify", "", 1, 1, 1, 1))
    return {key: value for key, value in asdict(found).items() if value not in (None, "")}


def _sizes(weights: Weights) -> dict[str, int]:
    """The files that the weights came from, and their bytes."""
    files = {info.file for info in weights.tensors.values()}
    return {path.name: path.stat().st_size for path in sorted(files)}
