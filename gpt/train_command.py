"""`python -m gpt train`: arguments, the progress bar and the finished checkpoint."""

from __future__ import annotations

import argparse
import hashlib
import sys
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from gpt import data, device, models
from gpt.checkpoint import save
from gpt.config import ModelConfig
from gpt.draft import check_place
from gpt.evaluate import mean_loss
from gpt.model import GPT
from gpt.tokenizer import CharTokenizer
from gpt.train import PRESETS, TrainConfig, train

_GIVEN_BY_THE_TEXT = {"vocab_size", "bos_id", "eos_id", "pad_id"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options: a few of its own and one for every field of a configuration."""
    parser.add_argument("--preset", choices=PRESETS, default="128", help="default: %(default)s")
    parser.add_argument("--data", type=Path, metavar="FILE", help="default: tiny Shakespeare")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="default: a model named after PRESET"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    for title, kind in (("training", TrainConfig), ("network", ModelConfig)):
        group = parser.add_argument_group(f"{title} (defaults: the preset's)")
        hints = get_type_hints(kind)
        for field in fields(kind):
            if field.name not in _GIVEN_BY_THE_TEXT:
                option = "--" + field.name.replace("_", "-")
                group.add_argument(option, type=_parser_of(hints[field.name]), metavar="…")


def _parser_of(kind: Any) -> Any:
    if kind is bool:
        return _boolean
    if kind in (float, int):
        return kind
    return int if kind == int | None else str


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def run(args: argparse.Namespace) -> None:
    """Train, showing progress, and write the checkpoint. Ctrl-C ends early and still writes."""
    given = {name: value for name, value in vars(args).items() if value is not None}
    preset = PRESETS[args.preset]
    settings = replace(preset.train, **_only(TrainConfig, given))
    console = Console(stderr=True)
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    path = args.data or data.download_corpus(models.home().parent, say)
    text = data.read_text(path)
    tokenizer = CharTokenizer.from_corpus(text)
    corpus = data.Corpus.from_text(text, tokenizer)
    network = preset.model | _only(ModelConfig, given)
    config = ModelConfig.from_dict({"vocab_size": tokenizer.vocab_size} | network)
    corpus.require(config.block_size)
    where, _ = device.choose(args.device)
    torch.manual_seed(settings.seed)
    model = GPT(config).to(where)
    out = args.out or models.home() / f"shakespeare-{args.preset}"
    check_place(out)  # better now than after an hour

    n_params = sum(weight.numel() for weight in model.parameters())
    say(f"{n_params:,} parameters, {len(corpus.train):,} characters, on {where}")
    steps = 0
    columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, disable=not sys.stderr.isatty()) as bar:
            task = bar.add_task("", total=settings.steps)
            for progress in train(model, corpus, settings):
                steps = progress.step
                speed = f"{progress.tokens_per_second:,.0f} characters/s"
                line = f"step {steps} loss {progress.loss:.3f} {speed}"
                if progress.validation_loss is not None:
                    say(f"{line} validation {progress.validation_loss:.4f}")
                bar.update(task, completed=steps, description=line)
    except KeyboardInterrupt:
        say(f"stopped after {steps} of {settings.steps} steps")
    with torch.no_grad():  # what is measured is what is written
        for weight in model.parameters():
            weight.copy_(weight.bfloat16())
    loss = mean_loss(model, corpus.validation)
    origin = {
        "kind": "trained with python -m gpt train",
        "preset": args.preset,
        "settings": asdict(settings),
        "steps_done": steps,
        "text": path.name,
        "text_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "validation_loss": loss,
        "validation_loss_is": "nats per character over the text's last 10 %, disjoint windows",
        "torch": torch.__version__,
    }
    save(out, model, tokenizer, dtype="bfloat16", origin=origin)
    say(f"validation loss {loss:.4f} nats per character, wrote {out}")


def _only(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}
