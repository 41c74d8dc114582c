"""A conversion from end to end: find, plan, write, verify, install."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import gpt
from convert import directory as their_directory
from convert import gpt2, opt, safetensors_file, stream
from convert.chat_template import ends_turns
from convert.events import Found, Notice, Progress, Tell, silent
from convert.family import Family, Values
from convert.generation import Generation, Note, read_generation, token_ids
from convert.plan import Plan, make_plan
from convert.source import Source, locate
from convert.vocabulary import Vocabulary, read_vocabulary
from convert.weights import Weights
from gpt import checkpoint, models
from gpt.config import ModelConfig
from gpt.draft import replacing
from gpt.errors import UserError
from gpt.quantize import DTYPES
from gpt.sanitize import one_line

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
    models. dtype: one of models.DTYPES, or keep. force: replace a checkpoint that is there.
    Raises UserError and leaves everything as it was where anything is not as it should be.
    """
    directory = target(model, out, name)
    _check_place(directory, force)
    job = _prepare(locate(model, revision, tell), dtype, tell)
    layout = checkpoint.layout(job.plan.config, job.dtype)
    size = safetensors_file.file_size(layout)
    if job.source.kind == "directory":
        tell(Found(model, "directory", size))
    _check_room(directory, size)
    with replacing(directory) as draft:
        if job.dtype == "int8":
            pieces = stream.pieces(job.plan, job.weights, torch.float32, tell)
            pieces = stream.quantised(layout, pieces)
        else:
            pieces = stream.pieces(job.plan, job.weights, DTYPES[job.dtype], tell)
        digest = safetensors_file.write(draft / checkpoint.WEIGHTS, layout, pieces)
        checkpoint.write_config(draft, job.plan.config)
        job.vocabulary.tokenizer.save(draft)
        verification = _verify(job, draft, verify, tell)
        checkpoint.write_manifest(
            draft,
            dtype=job.dtype,
            n_params=job.n_params,
            origin=_origin(job, verification),
            known={checkpoint.WEIGHTS: digest},
        )
    return Result(directory, directory.name, verification)


@dataclass(frozen=True)
class _Job:
    """A conversion of which everything was checked but the numbers."""

    source: Source
    family: Family
    plan: Plan
    weights: Weights
    vocabulary: Vocabulary
    generation: Generation
    ends_turns: bool
    notices: tuple[str, ...]
    dtype: str

    @property
    def n_params(self) -> int:
        return sum(map(math.prod, self.plan.shapes.values()))


def _prepare(source: Source, dtype: str, tell: Tell) -> _Job:
    """Read everything but the tensors."""
    notices: list[str] = []

    def note(text: str) -> None:
        notices.append(text)
        tell(Notice(text))

    values = their_directory.read_config(source.directory)
    family = choose_family(values, source)
    reader = Values(values)
    config = _read_config(family, reader, source)
    vocabulary = read_vocabulary(source.directory, note)
    generation = read_generation(
        source.directory, values, family.token_ids, config.vocab_size, note
    )
    config = _with_token_ids(config, vocabulary, generation, note)
    weights = their_directory.open_weights(source.directory)
    plan = make_plan(
        family, config, family.fills(reader), weights.tensors, partial(stream.same, weights)
    )
    for notice in plan.notices:
        note(notice)
    if vocabulary.ordinary_size > plan.config.vocab_size:
        raise UserError(
            f"the tokenizer in {source.directory} makes ids up to {vocabulary.ordinary_size - 1}, "
            f"but the network has {plan.config.vocab_size} tokens"
        )
    turns = ends_turns(source.directory, vocabulary.config, note)
    stored = _stored_dtype(dtype, plan, weights, note)
    return _Job(
        source, family, plan, weights, vocabulary, generation, turns, tuple(notices), stored
    )


def _origin(job: _Job, verification: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says of a conversion."""
    files = {info.file for info in job.weights.tensors.values()}
    return {
        "kind": job.source.kind,
        "model": one_line(job.source.model),
        "revision": job.source.revision,
        "family": job.family.model_type,
        "converted_by": f"gpt-tui {gpt.__version__}",
        # Fine-tunes from before there were chat templates say it by their name alone.
        "ends_turns": job.ends_turns or "dialogpt" in job.source.model.lower(),
        "also_ends": list(job.generation.eos[1:]),
        "files": {path.name: path.stat().st_size for path in sorted(files)},
        "notices": [one_line(notice) for notice in job.notices],
        "verification": verification,
    }


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
    try:
        if (directory / models.MANIFEST).is_file():
            if not force:
                raise UserError(f"{directory} is there already; --force replaces it")
        elif directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise UserError(f"{directory} exists and is no checkpoint; choose another place")
    except OSError as error:  # a name that is too long, a directory that nobody may read
        raise UserError(f"{directory} cannot be used: {error.strerror}") from error


def _with_token_ids(
    config: ModelConfig, vocabulary: Vocabulary, generation: Generation, note: Note
) -> ModelConfig:
    """The special tokens; a text that ends with others too says so in the manifest."""
    first = token_ids("the tokenizer's bos token", vocabulary.bos, config.vocab_size, note)
    bos, eos = next(iter(first), None), next(iter(generation.eos), None)
    return replace(config, bos_id=bos, eos_id=eos, pad_id=generation.pad)


def _stored_dtype(wanted: str, plan: Plan, weights: Weights, note: Note) -> str:
    """The one dtype of the checkpoint."""
    if wanted != "keep":
        return wanted
    names = {dtype: name for name, dtype in DTYPES.items() if dtype.is_floating_point}
    found = {weights.tensors[s.name].dtype for parts in plan.sources.values() for s in parts}
    if len(found) == 1 and (only := next(iter(found))) in names:
        return names[only]
    kinds = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
    note(f"the weights are {kinds}; they are stored as float32")
    return "float32"


def _check_room(directory: Path, size: int) -> None:
    parent = next(path for path in directory.parents if path.exists())
    free = shutil.disk_usage(parent).free
    if free < size + _ROOM:
        raise UserError(
            f"{directory} needs {(size + _ROOM) / 1e9:.2f} GB and {parent} has {free / 1e9:.2f} GB "
            "left; make room or choose another place with --out"
        )


def _verify(job: _Job, draft: Path, wanted: bool, tell: Tell) -> dict[str, Any]:
    if not wanted:
        return {"status": "skipped", "reason": "--no-verify"}
    from convert.verify import verify

    size = (draft / checkpoint.WEIGHTS).stat().st_size
    tell(Progress("verify", "transformers", 0, size, 0, size))
    found = verify(
        job.source.directory,
        draft,
        job.plan.config,
        job.vocabulary.tokenizer,
        job.dtype,
        job.n_params,
    )
    if found.status == "skipped":
        tell(Notice(f"not verified: {found.reason}"))
    tell(Progress("verify", "transformers", size, size, size, size))
    return {key: value for key, value in asdict(found).items() if value not in (None, "")}
