"""`python -m gpt train`: arguments, and a run from its text to its report."""

from __future__ import annotations

import argparse
import math
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch
from rich.console import Console

from gpt import checkpoint, device, models
from gpt.atomic_directory import check_place
from gpt.config import ModelConfig
from gpt.context import Context
from gpt.errors import UserError
from gpt.generate import Limits, generate
from gpt.model import GPT
from gpt.settings import Sampling
from gpt.tokenizer import decode
from gpt.training.display import Display, Lines, Screen
from gpt.training.evaluate_command import measure
from gpt.training.loop import TrainConfig, Training
from gpt.training.parallel import Group, started_group
from gpt.training.presets import PRESETS
from gpt.training.recipe import Material, Recipe, prepare
from gpt.training.report import draw_curves, write_report
from gpt.training.run_files import RunFiles

_GIVEN_BY_THE_TEXT = {"vocab_size", "bos_id", "eos_id", "pad_id"}
_DTYPE = "bfloat16"
"""How a trained model is stored."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options: a few of its own and one for every field of a configuration."""
    parser.add_argument("--preset", choices=PRESETS, help="default: 128")
    parser.add_argument(
        "--data",
        type=_absolute,
        metavar="PATH",
        help="a text, or a directory of *.txt; default: tiny Shakespeare",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: a model named after PRESET"
    )
    parser.add_argument(
        "--tokenizer", metavar="NAME", help="of a model, or in a directory; default: characters"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    begin.add_argument("--restart", action="store_true", help="throw an interrupted run away")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, help="torch.compile; default: on a GPU"
    )
    parser.add_argument(
        "--sample-every", type=int, metavar="N", help="steps, 0: never; default: --eval-every"
    )
    for title, kind in (("training", TrainConfig), ("network", ModelConfig)):
        group = parser.add_argument_group(f"{title} (defaults: the preset's)")
        hints = get_type_hints(kind)
        for field in fields(kind):
            if field.name not in _GIVEN_BY_THE_TEXT:
                option = "--" + field.name.replace("_", "-")
                group.add_argument(option, **_type(hints[field.name]))


def _absolute(text: str) -> str:
    """A run may be taken up again from another directory."""
    return str(Path(text).absolute())


def _type(kind: Any) -> dict[str, Any]:
    """How argparse reads a field of this type."""
    if get_origin(kind) is Literal:
        return {"choices": get_args(kind)}
    if kind is bool:
        return {"type": _boolean, "metavar": "true|false"}
    if kind is float:
        return {"type": float, "metavar": "X"}
    return {"type": int, "metavar": "N"}  # None is what it is without the option


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def run(args: argparse.Namespace) -> None:
    """Train, showing progress, and write the checkpoint and a report.

    Ctrl-C ends after the step in hand, saves, and says how to go on.
    """
    with started_group(device.choose(args.device)[0]) as (group, where):
        try:
            _train(args, group, where)
        except UserError:
            if group.rank == 0:
                raise
            sys.exit(1)  # process 0 says what is wrong


def _train(args: argparse.Namespace, group: Group, where: str) -> None:
    given = {name: value for name, value in vars(args).items() if value is not None}
    out = args.out or models.home() / f"shakespeare-{args.preset or '128'}"
    check_place(out)  # better now than after an hour
    files = RunFiles(out)
    if files.state.exists() and not (args.resume or args.restart):
        raise UserError(
            f"{files.directory} holds an interrupted run; --resume goes on with it, --restart "
            "throws it away"
        )
    console = Console()
    lines = Lines() if group.rank == 0 else Display()
    saved: dict[str, Any] = {}
    if args.resume:
        facts, saved = files.load()
        recipe = Recipe.from_dict(facts["recipe"])
        recipe.check_same(given)
    else:
        recipe = Recipe.from_options(given)
    material = prepare(recipe, lines.say)
    if args.resume and material.sha256 != facts["text_sha256"]:
        raise UserError(f"{material.path} is not the text that the run was begun with")
    if material.unseen:
        names = ", ".join(map(repr, material.unseen[:5]))
        lines.say(f"note: only the validation part has {names}, which nothing can teach the model")
    model = GPT(material.config).to(where)
    n_params = sum(weight.numel() for weight in model.parameters())
    device.use_threads(n_params, recipe.settings.batch_size * material.config.block_size)
    compiled = where != "cpu" if args.compile is None else args.compile
    training = Training(model, material.corpus, recipe.settings, group=group, compiled=compiled)
    if args.resume:
        training.load_state(saved)
    elif group.rank == 0:
        files.begin()
    recipe = replace(recipe, data=str(material.path), settings=training.settings)
    lines.say(
        f"{n_params:,} parameters, {len(material.corpus.train):,} tokens to learn from, "
        f"{training.settings.precision} on "
        f"{where}" + (f" in {group.size} processes" if group.size > 1 else "")
    )
    display: Display = lines
    if group.rank == 0 and console.is_terminal:
        display = Screen(console, training.settings.steps)
    every = training.settings.eval_every if args.sample_every is None else args.sample_every
    loop = _Loop(files, training, recipe, material, display, every)
    ended = loop.run(group)
    if group.rank == 0:
        loop.report(lines) if ended else loop.say_how_to_resume(lines)


class _Loop:
    """The steps of a run, with all that is written and shown meanwhile."""

    def __init__(
        self,
        files: RunFiles,
        training: Training,
        recipe: Recipe,
        material: Material,
        display: Display,
        sample_every: int,
    ) -> None:
        self._files, self._training, self._recipe = files, training, recipe
        self._material, self._display, self._sample_every = material, display, sample_every
        self._unsaved: UserError | None = None

    def run(self, group: Group) -> bool:
        """Whether it came to its end, rather than being stopped."""
        training = self._training
        with _asked_to_stop() as asked, self._display:
            for progress in training.run():
                self._files.history.append(progress)
                if group.rank == 0:
                    self._display.show(self._files.history, training)
                    if progress.validation_loss is not None:
                        self._save()
                    if self._sample_every and progress.step % self._sample_every == 0:
                        self._display.sample(self._sample(training.learned, 240))
                if training.impatient:
                    return True
                if group.any(bool(asked)):
                    break
        return training.step == training.settings.steps

    def _save(self) -> None:
        """A full disk must not end a run: it says so and tries again the next time."""
        training = self._training
        try:
            if training.best_step == training.step:
                self._write(self._files.out, training.learned)
            facts = {"recipe": self._recipe.to_dict(), "text_sha256": self._material.sha256}
            self._files.save(training, facts)
            self._unsaved = None
        except UserError as error:
            self._unsaved = error
            training.best_loss = math.inf  # the best of what could be written is what counts
            self._display.say(f"warning: {error}; training goes on")

    def _write(self, directory: Path, model: GPT, **more: object) -> None:
        training = self._training
        origin = {
            "kind": "trained with python -m gpt train",
            **self._recipe.to_dict(),
            "data": self._material.path.name,
            "text_sha256": self._material.sha256,
            "step": training.step,
            "torch": torch.__version__,
            **more,
        }
        checkpoint.save(directory, model, self._material.tokenizer, dtype=_DTYPE, origin=origin)

    def _sample(self, model: GPT, n_tokens: int) -> str:
        """What a network writes behind the text's first token."""
        tokens = self._material.tokenizer
        was_training = model.training
        model.eval()
        begin = self._material.corpus.train[:1].tolist()
        sampling = Sampling(temperature=0.8, seed=1)
        limits = Limits(n_tokens, slide=True)
        steps = generate(Context(model, tokens), begin, sampling, limits, top=0)
        ids = [step.token_id for step in steps]
        model.train(was_training)
        return decode(tokens, begin + ids)

    def say_how_to_resume(self, display: Display) -> None:
        """Save where it was stopped. Raises UserError where that fails."""
        training, files = self._training, self._files
        self._save()
        if self._unsaved:
            raise self._unsaved
        self._write(files.last, training.learned)
        out = shlex.quote(str(files.out))
        display.say(
            f"stopped after {training.step} of {training.settings.steps} steps; go on with: "
            f"python -m gpt train --resume --out {out}"
        )
        display.say(f"as it is now, it opens with: gpt-tui {shlex.quote(str(files.last))}")

    def report(self, display: Display) -> None:
        """Measure the best checkpoint and write everything down. Raises UserError."""
        training, files = self._training, self._files
        self._write(files.last, training.learned)
        if self._unsaved:
            raise self._unsaved
        best = checkpoint.load(files.out, str(training.model.wte.weight.device))
        display.say("measuring …")
        losses = measure(best.model, self._material.corpus)
        values = {name: loss.to_dict() for name, loss in losses.items()}
        self._write(files.out, best.model, step=training.best_step, validation=values)
        sample = self._sample(best.model, 500)
        write_report(
            files.directory / "report.md",
            title=files.out.name,
            history=files.history,
            losses=losses,
            best_step=training.best_step,
            settings={**asdict(training.settings), **training.model.config.to_dict()},
            sample=sample,
        )
        draw_curves(files.directory / "curves.svg", files.history)
        files.finish()
        for name, loss in losses.items():
            display.say(
                f"validation loss, {name:8} {loss.nats_per_character:.4f} nats or "
                f"{loss.bits_per_character:.4f} bits per character"
            )
        display.say(f"wrote {files.out} (step {training.best_step}) and {files.directory}")


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """A list that is no longer empty once Ctrl-C or a signal to end came.

    A second Ctrl-C interrupts at once.
    """
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number in asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
