"""A conversion from start to end: find, plan, write, verify, install."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gpt
from convert import safetensors_file
from convert.chat_template import CheckedTemplate, chat_facts, read_chat_template
from convert.destination import check_disk_space, check_output, output_directory
from convert.directory import CONFIG, open_weights, read_config
from convert.events import (
    CheckpointFound,
    ConversionProgress,
    Event,
    Notice,
    Notify,
    OnEvent,
    ignore_event,
)
from convert.families import choose_family
from convert.family import ConfigReader, Family
from convert.generation import SpecialTokens, read_special_tokens, valid_token_ids
from convert.plan import Plan, make_plan
from convert.source import SourceCheckpoint, locate
from convert.stream import converted_pieces, is_equal, quantised_pieces
from convert.vocabulary import Vocabulary, read_vocabulary
from convert.weights import Weights
from gpt import checkpoint, divergence, models
from gpt.atomic_directory import replacing
from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.weights.loud import loud_columns
from gpt.weights.quantize import DTYPES


@dataclass(frozen=True)
class ConversionOptions:
    """Choices that most conversions leave alone."""

    out: Path | None = None
    """Directory of the new checkpoint; None: one among the user's models."""
    dtype: str = "keep"
    """One of models.DTYPES, or "keep" for that of the source."""
    revision: str | None = None
    """Branch, tag or commit on the hub."""
    force: bool = False
    """Replace an existing checkpoint."""
    file: str | None = None
    """The GGUF file among those of the model, if it is to be converted."""


@dataclass(frozen=True)
class ConversionResult:
    """A finished conversion."""

    directory: Path
    """The new checkpoint."""
    name: str
    """Name of the new model."""
    verification: dict[str, Any]
    """Result of the comparison with transformers; see convert.verify.Verification."""


def convert(
    model: str,
    *,
    name: str | None = None,
    verify: bool = True,
    options: ConversionOptions = ConversionOptions(),
    on_event: OnEvent = ignore_event,
) -> ConversionResult:
    """Convert a model of the hub, a directory or a GGUF file to a checkpoint of this program.

    name: name of the new model; None: as in the source. verify: compare with transformers before
    installing. An error leaves everything as it was.
    """
    directory = output_directory(options.file or model, options.out, name)
    check_output(directory, options.force)

    def placed(event: Event) -> None:
        """The hub knows no place."""
        if isinstance(event, CheckpointFound):
            event = replace(event, directory=str(directory))
        on_event(event)

    source = locate(model, options.revision, placed, options.file)
    with source.naming_errors():
        prepared = _prepare(source, options.dtype, on_event)
    layout = checkpoint.layout(prepared.plan.config, prepared.dtype)
    size = safetensors_file.file_size(layout)
    if source.kind != "hub":
        n_bytes = _source_bytes(prepared)
        on_event(CheckpointFound(source.model, source.kind, size, str(directory), n_bytes))
    check_disk_space(directory, size)
    with replacing(directory) as draft:
        pieces = _pieces(prepared, layout, on_event)
        digest = safetensors_file.write(draft / checkpoint.WEIGHTS, layout, pieces)
        checkpoint.write_config(draft, prepared.plan.config)
        prepared.vocabulary.tokenizer.save(draft)
        if prepared.chat:
            prepared.chat.save(draft)
        verification = _verify(prepared, draft, verify, on_event)
        origin = _origin(prepared, verification)
        write_manifest = partial(
            checkpoint.write_manifest,
            draft,
            dtype=prepared.dtype,
            n_params=prepared.n_params,
            known={checkpoint.WEIGHTS: digest},
        )
        if verification["status"] == "passed":  # so the model fits into memory
            on_event(ConversionProgress("measure", "our dtypes", 0, size, 0, size))
            columns = loud_columns(checkpoint.load_network(draft))
            origin["loud_columns"] = {name: " ".join(map(str, c)) for name, c in columns.items()}
        write_manifest(origin=origin)
        if verification["status"] == "passed":
            origin["divergence"] = divergence.measure(draft)
            on_event(ConversionProgress("measure", "our dtypes", size, size, size, size))
            (draft / models.MANIFEST).unlink()  # it lists the files that it finds
            write_manifest(origin=origin)
    return ConversionResult(directory, directory.name, verification)


@dataclass(frozen=True)
class _Prepared:
    """A conversion of which everything is read and checked except the numbers."""

    source: SourceCheckpoint
    family: Family
    plan: Plan
    weights: Weights
    vocabulary: Vocabulary
    special_tokens: SpecialTokens
    chat: CheckedTemplate | None
    notices: tuple[str, ...]
    dtype: str

    @property
    def n_params(self) -> int:
        return sum(map(math.prod, self.plan.shapes.values()))


def _prepare(source: SourceCheckpoint, dtype: str, on_event: OnEvent) -> _Prepared:
    """Read and check everything except the numbers."""
    notices: list[str] = []

    def notify(text: str) -> None:
        notices.append(text)
        on_event(Notice(text))

    for notice in source.gguf.notices if source.gguf else ():
        notify(notice)
    source_config = read_config(source.directory)
    family = choose_family(source_config, source.model)
    reader = ConfigReader(source_config)
    config = _our_config(family, reader, source.directory / CONFIG)
    for notice in reader.notices:
        notify(notice)
    vocabulary = read_vocabulary(source.directory, notify)
    special_tokens = read_special_tokens(
        source.directory, source_config, family.default_token_ids, config.vocab_size, notify
    )
    config = _with_token_ids(config, vocabulary, special_tokens, notify)
    weights = source.gguf.weights if source.gguf else open_weights(source.directory)
    constants = family.constants(reader)
    plan = make_plan(
        family.sized(config), config, constants, weights.tensors, partial(is_equal, weights)
    )
    for notice in plan.notices:
        notify(notice)
    if vocabulary.ordinary_size > plan.config.vocab_size:
        raise UserError(
            f"the tokenizer in {source.directory} has ids up to {vocabulary.ordinary_size - 1}, "
            f"but the network has only {plan.config.vocab_size} tokens: get the tokenizer that "
            "belongs to these weights"
        )
    return _Prepared(
        source=source,
        family=family,
        plan=plan,
        weights=weights,
        vocabulary=vocabulary,
        special_tokens=special_tokens,
        chat=read_chat_template(
            source.directory,
            vocabulary.tokenizer_config,
            vocabulary.tokenizer,
            {"bos_token": config.bos_id, "eos_token": config.eos_id},
            notify,
        ),
        dtype=_stored_dtype(dtype, plan, weights, notify),
        notices=tuple(notices),
    )


def _pieces(
    prepared: _Prepared, layout: safetensors_file.Layout, on_event: OnEvent
) -> Iterator[Tensor]:
    """The numbers of the new checkpoint in the layout's order and dtypes."""
    is_int8 = prepared.dtype == "int8"
    dtype = torch.float32 if is_int8 else DTYPES[prepared.dtype]
    pieces = converted_pieces(prepared.plan, prepared.weights, dtype, on_event)
    return quantised_pieces(layout, pieces) if is_int8 else pieces


def _origin(prepared: _Prepared, verification: dict[str, Any]) -> dict[str, Any]:
    """The manifest's entry about the conversion."""
    source = prepared.source
    files = {info.file for info in prepared.weights.tensors.values()}
    return {
        "kind": source.kind,
        "model": one_line(source.model),
        "revision": source.revision,
        **source.facts,
        "family": prepared.family.model_type,
        "converted_by": f"gpt-tui {gpt.__version__}",
        **chat_facts(prepared.chat, prepared.special_tokens.eos, source.model),
        "files": {path.name: path.stat().st_size for path in sorted(files)},
        "notices": [one_line(notice) for notice in prepared.notices],
        "verification": verification,
    }


def _our_config(family: Family, reader: ConfigReader, path: Path) -> ModelConfig:
    try:
        return family.read_config(reader)
    except UserError as error:
        raise UserError(f"{path} cannot be used: {error}") from error


def _with_token_ids(
    config: ModelConfig, vocabulary: Vocabulary, special_tokens: SpecialTokens, notify: Notify
) -> ModelConfig:
    """The configuration with its special tokens. The manifest holds further end-of-text ids."""
    bos = valid_token_ids("the tokenizer's bos token", vocabulary.bos_id, config.vocab_size, notify)
    return replace(
        config,
        bos_id=next(iter(bos), None),
        eos_id=next(iter(special_tokens.eos), None),
        pad_id=special_tokens.pad,
    )


def _stored_dtype(requested: str, plan: Plan, weights: Weights, notify: Notify) -> str:
    """The dtype of the new checkpoint."""
    if requested != "keep":
        return requested
    names = {dtype: name for name, dtype in DTYPES.items() if dtype.is_floating_point}
    found = {weights.tensors[s.name].dtype for parts in plan.sources.values() for s in parts}
    if len(found) == 1 and (only := next(iter(found))) in names:
        return names[only]
    dtypes = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
    notify(f"the weights are {dtypes}; they are stored as float32")
    return "float32"


def _source_bytes(prepared: _Prepared) -> int:
    """Size of the files that hold the weights."""
    if gguf := prepared.source.gguf:
        return gguf.path.stat().st_size
    return sum(file.stat().st_size for file in {t.file for t in prepared.weights.tensors.values()})


def _verify(prepared: _Prepared, draft: Path, enabled: bool, on_event: OnEvent) -> dict[str, Any]:
    """The fields of a Verification that are set."""
    if not enabled:
        return {"status": "skipped", "reason": "--no-verify"}
    from convert.verify import verify

    size = (draft / checkpoint.WEIGHTS).stat().st_size
    on_event(ConversionProgress("verify", "transformers", 0, size, 0, size))
    found = verify(
        prepared.source.gguf or prepared.source.directory,
        draft,
        prepared.plan.config,
        prepared.vocabulary.tokenizer,
        prepared.dtype,
        prepared.n_params,
    )
    if found.status == "skipped":
        on_event(Notice(f"not verified: {found.reason}"))
    on_event(ConversionProgress("verify", "transformers", size, size, size, size))
    return {key: value for key, value in asdict(found).items() if value not in (None, "")}
