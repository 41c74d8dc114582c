"""`python -m gpt evaluate`: how well a model predicts a text."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, TaskID

from gpt import checkpoint, device, models
from gpt.command_line import Parser, listed, one_of
from gpt.errors import UserError
from gpt.model import GPT
from gpt.sanitize import one_line
from gpt.training import data
from gpt.training.data import Corpus
from gpt.training.evaluate import PROTOCOLS, WINDOW, Loss, Protocol, mean_loss

EXAMPLES = {
    "python -m gpt evaluate": "Measure the model that comes with the program",
    "python -m gpt evaluate gpt2 --data FILE --all --only sliding": "Measure GPT-2 on a whole text",
}
"""Command → what it does."""


def add_arguments(parser: Parser) -> None:
    """The command's options."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "model",
        nargs="?",
        default=models.EMBEDDED,
        metavar="MODEL",
        help="Name or directory of the model. (default: %(default)s)",
    )
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="Text file, or directory of *.txt files. (default: tiny Shakespeare, which is "
        "downloaded)",
    )
    group.add_argument(
        "--all",
        action="store_true",
        help="Measure on the whole text. (default: on its last 10 %%)",
    )
    group = parser.add_argument_group(
        "protocol", "\n".join(f"{name:9} {text}" for name, text in PROTOCOLS.items())
    )
    group.add_argument(
        "--only",
        nargs="+",
        type=one_of(PROTOCOLS),
        metavar="NAME",
        default=list(PROTOCOLS),
        help="Protocols to measure by. (default: all)",
    )
    group = parser.add_argument_group("speed")
    group.add_argument(
        "--device",
        default="auto",
        metavar="DEVICE",
        help="Device: auto, cpu, cuda, cuda:N or mps. (default: %(default)s)",
    )
    dtypes = ("auto", *models.MEMORY_DTYPES)
    group.add_argument(
        "--dtype",
        default="float32",
        type=one_of(dtypes),
        metavar="DTYPE",
        help=f"Dtype of the weights in memory: {listed(dtypes)}. (default: %(default)s)",
    )
    group = parser.add_argument_group("output")
    group.add_argument(
        "--json", action="store_true", help="Print one JSON object. (default: print a table)"
    )
    parser.end(EXAMPLES)


def run(args: argparse.Namespace) -> None:
    """Measure the losses and print them."""
    directory = models.find(args.model)
    say = Console(stderr=True).print
    path = args.data or data.download_corpus(models.home().parent, say)
    text = data.read_text(path)
    manifest = models.read_manifest(directory)
    chosen = device.choose(args.device, args.dtype, manifest.n_params, manifest.divergence)
    loaded = checkpoint.load(directory, *chosen)
    device.use_threads(loaded.manifest.n_params, WINDOW)
    corpus = Corpus.from_text(
        text, loaded.tokenizer, validation=1.0 if args.all else data.VALIDATION_SHARE
    )
    losses = measure(loaded.model, corpus, args.only)
    if args.json:
        values = {name: loss.to_dict() for name, loss in losses.items()}
        part = "all" if args.all else "validation"
        about = {"model": args.model, "data": path.name, "part": part}
        print(json.dumps({**about, "tokens": len(corpus.validation), "loss": values}))
        return
    which = "all" if args.all else f"the last {data.VALIDATION_SHARE:.0%}"
    print(f"{len(corpus.validation):,} tokens, {which} of {one_line(path.name)}")
    print(f"{'':9} nats/token  nats/character  bits/character  bits/byte")
    for name, loss in losses.items():
        print(
            f"{name:9} {loss.nats_per_token:10.4f}  {loss.nats_per_character:14.4f}  "
            f"{loss.bits_per_character:14.4f}  {loss.bits_per_byte:9.4f}  {PROTOCOLS[name]}"
        )


def measure(
    model: GPT, corpus: Corpus, protocols: Sequence[Protocol] = tuple(PROTOCOLS)
) -> dict[Protocol, Loss]:
    """A network's losses on the validation part of a corpus, by protocol.

    Shows a progress bar on stderr if that is a terminal.
    """
    ids, text = corpus.validation, corpus.validation_text
    if len(ids) < 2:
        raise UserError("the text is too short to measure a loss; it needs at least two tokens")
    window = min(WINDOW, model.config.block_size)
    found = {}
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        for protocol in protocols:
            task = bars.add_task(protocol, total=1.0)
            nats = mean_loss(model, ids, protocol, window=window, done=_showing(bars, task))
            found[protocol] = Loss(nats, len(ids) / len(text), len(text) / len(text.encode()))
    return found


def _showing(bars: Progress, task: TaskID) -> Callable[[float], None]:
    return lambda share: bars.update(task, completed=share)
