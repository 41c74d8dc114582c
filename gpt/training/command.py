"""`python -m gpt train`: its options, and a run from a text to a checkpoint and a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from gpt import device, models
from gpt.atomic_directory import check_place
from gpt.command_line import Parser, one_of, whole_number
from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.model import GPT
from gpt.training.display import Display, Lines, Screen
from gpt.training.loop import RANGES, TrainConfig, Training
from gpt.training.options import Ranges, add_field_options
from gpt.training.parallel import Group, started_group
from gpt.training.presets import PRESETS
from gpt.training.recipe import DEFAULT_PRESET, PreparedData, Recipe, prepare_data
from gpt.training.run import Run
from gpt.training.run_files import RunFiles
from gpt.typed_values import LARGEST

_INTERRUPTED = 130
"""Exit status of a run that was asked to stop, as shells have it for Ctrl+C."""

EXAMPLES = {
    "python -m gpt train": f"Train preset {DEFAULT_PRESET} on tiny Shakespeare",
    "python -m gpt train --data FILE --out my-model --n-layer 6 --dropout 0.1": (
        "Train on your own text, with a deeper network"
    ),
    "python -m gpt train --resume --out my-model": "Continue after Ctrl+C",
}
"""Command → what it does."""
_NO_OPTIONS = {"vocab_size", "bos_id", "eos_id", "pad_id"} | {
    field.name for field in fields(ModelConfig) if field.name.startswith("rope_")
} - {"rope_theta"}
"""Fields of ModelConfig that are not options: what the tokenizer says, and how a context was
extended after training."""
_SIZES = (
    "n_layer",
    "n_embd",
    "n_head",
    "n_kv_head",
    "head_dim",
    "n_inner",
    "embd_dim",
    "block_size",
)
_DROPOUT = ("dropout", "attn_dropout")
_PARTS = tuple(
    field.name
    for field in fields(ModelConfig)
    if field.name not in {*_SIZES, *_DROPOUT, *_NO_OPTIONS}
)
_GROUPS: dict[str, dict[type, tuple[str, ...]]] = {
    "model shape": {ModelConfig: _SIZES},
    "parts of the model": {ModelConfig: _PARTS},
    "optimisation": {
        TrainConfig: (
            "optimizer",
            "lr",
            "batch_size",
            "momentum",
            "weight_decay",
            "clip",
            "average",
            "seed",
        ),
        ModelConfig: _DROPOUT,
    },
    "schedule": {TrainConfig: ("steps", "warmup", "cooldown", "patience")},
    "evaluation": {TrainConfig: ("eval_every",)},
    "output": {},
    "speed": {TrainConfig: ("precision",)},
}
"""Title of a group → fields that are options in it, by their class."""


def add_arguments(parser: Parser) -> None:
    """Add the command's own options and one for every field of a configuration."""
    parser.description = (
        "Train a model on a text. Ctrl+C saves the run, and --resume continues it.\n"
        f"The defaults below are those of preset {DEFAULT_PRESET}; other presets have others."
    )
    _add_preset_and_data(parser)
    preset = PRESETS[DEFAULT_PRESET]
    network = ModelConfig(vocab_size=1, **preset.model)
    defaults: tuple[tuple[object, Ranges], ...] = ((preset.train, RANGES), (network, {}))
    groups = {}
    for title, chosen in _GROUPS.items():
        groups[title] = parser.add_argument_group(title)
        for of_class, ranges in defaults:
            names = chosen.get(type(of_class), ())
            add_field_options(groups[title], of_class, names, ranges)
    groups["evaluation"].add_argument(
        "--sample-every",
        type=whole_number(0, LARGEST),
        metavar="N",
        help="Steps between samples of text; 0 shows none. (default: as --eval-every)",
    )
    _add_output(groups["output"])
    _add_speed(groups["speed"])
    parser.end(EXAMPLES, places=lambda: {"models": models.home()})


def _add_preset_and_data(parser: Parser) -> None:
    """The options that say what a run starts from."""
    group = parser.add_argument_group("preset", _preset_table())
    group.add_argument(
        "--preset",
        type=one_of(PRESETS),
        metavar="NAME",
        help=f"Network and settings to start from. (default: {DEFAULT_PRESET})",
    )
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=_absolute,
        metavar="PATH",
        help="Text file, or directory of *.txt files. (default: tiny Shakespeare, which is "
        "downloaded)",
    )
    group.add_argument(
        "--tokenizer",
        metavar="NAME",
        help="Use the tokenizer of a model or a directory. (default: one token per character)",
    )


def _preset_table() -> str:
    """A line for each preset."""
    lines = [
        f"{'':8} {'blocks':>6} {'width':>6} {'context':>8} {'steps':>6} {'batch':>6}  optimizer"
    ]
    for name, preset in PRESETS.items():
        shape, train = preset.model, preset.train
        lines.append(
            f"{name:8} {shape['n_layer']:6} {shape['n_embd']:6} {shape['block_size']:8} "
            f"{train.steps:6} {train.batch_size:6}  {train.optimizer}"
        )
    return "\n".join(lines)


def _add_output(group: argparse._ArgumentGroup) -> None:
    """The options that say where the model goes."""
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="Directory for the checkpoint. (default: shakespeare-PRESET among your models)",
    )
    existing = group.add_mutually_exclusive_group()
    existing.add_argument("--resume", action="store_true", help="Continue an interrupted run.")
    existing.add_argument("--restart", action="store_true", help="Discard an interrupted run.")
    group.add_argument("--force", action="store_true", help="Replace a model that exists.")


def _add_speed(group: argparse._ArgumentGroup) -> None:
    """The options that change how fast a run is."""
    group.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="Device: auto, cpu, cuda or cuda:N. (default: %(default)s)",
    )
    group.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="Use torch.compile. (default: only on a GPU)",
    )


def _absolute(text: str) -> str:
    """A path that stays right if the run continues from another directory."""
    return str(Path(text).absolute())


def run(args: argparse.Namespace) -> None:
    """Train and show the progress; write the checkpoint and a report.

    Ctrl+C stops the run after the current step, saves it and says how to continue.
    """
    with started_group(device.choose(args.device)[0]) as (group, device_name):
        try:
            _train(args, group, device_name)
        except UserError:
            if group.rank == 0:
                raise
            sys.exit(1)  # process 0 prints the error


def _train(args: argparse.Namespace, group: Group, device_name: str) -> None:
    options = {name: value for name, value in vars(args).items() if value is not None}
    out = args.out or models.home() / f"shakespeare-{args.preset or DEFAULT_PRESET}"
    check_place(out)  # before an hour of training, not after it
    files = RunFiles(out)
    if files.state.exists() and not (args.resume or args.restart):
        raise UserError(
            f"{files.directory} has an interrupted run; continue it with --resume or discard it "
            "with --restart"
        )
    if not (files.state.exists() or args.resume or args.force) and (out / models.MANIFEST).exists():
        raise UserError(f"{out} is a model already; --force replaces it, --out names another place")
    lines = Lines() if group.rank == 0 else Display()
    facts, state = files.load() if args.resume else ({}, {})
    recipe = _recipe(options, facts)
    data = prepare_data(recipe, lines.say)
    if args.resume and data.sha256 != facts["text_sha256"]:
        raise UserError(f"{data.path} is not the text that the run started with")
    if data.unseen:
        names = ", ".join(map(repr, data.unseen[:5]))
        lines.say(f"note: only the validation part has {names}, so the model cannot learn them")
    training = _training(args, recipe, data, group, device_name)
    if args.resume:
        training.load_state(state)
    elif group.rank == 0:
        files.begin()
    recipe = replace(recipe, data=str(data.path), settings=training.settings)
    processes = f" in {group.size} processes" if group.size > 1 else ""
    n_params = sum(weight.numel() for weight in training.model.parameters())
    lines.say(
        f"{n_params:,} parameters, {len(data.corpus.train):,} tokens to train on, "
        f"{training.settings.precision} on {device_name}{processes}"
    )
    display: Display = lines
    console = Console()
    if group.rank == 0 and console.is_terminal:
        display = Screen(console, training.settings.steps)
    every = training.settings.eval_every if args.sample_every is None else args.sample_every
    run = Run(files, training, recipe, data, display, every)
    is_complete = run.train(group)
    if group.rank == 0:
        run.finish(lines) if is_complete else run.stop(lines)
    if not is_complete:  # `train … && evaluate …` must not go on
        sys.exit(_INTERRUPTED)


def _recipe(options: Mapping[str, Any], facts: Mapping[str, Any]) -> Recipe:
    """The recipe of the options, or of the interrupted run that the facts describe."""
    if not facts:
        return Recipe.from_options(options)
    recipe = Recipe.from_dict(facts["recipe"])
    recipe.check_same(options)
    return recipe


def _training(
    args: argparse.Namespace, recipe: Recipe, data: PreparedData, group: Group, device_name: str
) -> Training:
    """A training from its first step, with the number of threads that suits it."""
    model = GPT(data.config).to(device_name)
    n_params = sum(weight.numel() for weight in model.parameters())
    device.use_threads(n_params, recipe.settings.batch_size * data.config.block_size)
    compiled = device_name != "cpu" if args.compile is None else args.compile
    return Training(model, data.corpus, recipe.settings, group=group, compiled=compiled)
