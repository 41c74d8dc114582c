"""The options that say on what a model runs, for every program that runs one."""

from __future__ import annotations

import argparse
import re

from gpt import models
from gpt.command_line import add_choice, listed, wrong
from gpt.nearest import did_you_mean

_DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")


def add_device(group: argparse._ArgumentGroup, threads: str = "what suits the model") -> None:
    """Add --device, --dtype and --threads. threads: how many there are without the option."""
    group.add_argument(
        "--device",
        type=_device,
        default="auto",
        metavar="DEVICE",
        help=f"Device: {listed(_DEVICES)}. (default: %(default)s)",
    )
    dtypes = ("auto", *models.MEMORY_DTYPES)
    add_choice(group, "--dtype", dtypes, "Dtype of the weights in memory", metavar="DTYPE")
    group.add_argument(
        "--threads",
        type=count,
        default=0,
        metavar="N",
        help=f"Number of threads on the CPU. (default: {threads})",
    )


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        raise wrong(text, listed(_DEVICES) + did_you_mean(text, _DEVICES))
    return text


def count(text: str) -> int:
    """A whole number of at least 0, as an option's type."""
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise wrong(text, "a whole number of at least 0")
    return int(text)
