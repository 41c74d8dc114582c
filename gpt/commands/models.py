"""The command `models`: list them, check the files of one, list its special tokens."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from gpt import models
from gpt.command_line import Parser
from gpt.commands.running import JSON
from gpt.errors import UserError
from gpt.sanitize import one_line

_EXAMPLES = {
    "python -m gpt models": "List all models",
    "python -m gpt models --check shakespeare": "Look for damage in the files of one",
    "python -m gpt models --special shakespeare": "List the special tokens of one",
}


def add_arguments(parser: Parser) -> None:
    """The options of the command `models`."""
    group = parser.add_argument_group("input and output")
    group.add_argument(
        "--check",
        metavar="NAME",
        help="Compare the files of this model with their SHA-256 digests. (default: list models)",
    )
    group.add_argument(
        "--special",
        metavar="NAME",
        help="List the special tokens of this model. (default: list models)",
    )
    group.add_argument("--json", action="store_true", help=JSON)
    parser.end(_EXAMPLES, places=lambda: {"models": models.home()})
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> None:
    if args.check is not None:
        _check_files(args.check, as_json=args.json)
        return
    if args.special is not None:
        _list_special(args.special, as_json=args.json)
        return
    for name, manifest in models.available().items():
        if args.json:
            print(json.dumps({"name": name, **asdict(manifest)}))
        else:
            size = sum(facts["size"] for facts in manifest.files.values())
            origin = " ".join(str(manifest.origin.get(key, "")) for key in ("kind", "model"))
            print(
                f"{one_line(name):24} {manifest.n_params / 1e6:9.1f}M parameters "
                f"{size / 1e6:9.1f} MB  {one_line(manifest.dtype):9} {one_line(origin.strip())}"
            )


def _list_special(model: str, *, as_json: bool) -> None:
    """Print id and name of the tokens that are not pieces of text."""
    from gpt import tokenizer_files

    added = tokenizer_files.load(models.find(model)).added_tokens
    if not added and not as_json:
        print(f"{one_line(model)} has no special tokens")
    for name, i in sorted(added.items(), key=lambda item: item[1]):
        print(json.dumps({"token_id": i, "name": name}) if as_json else f"{i:8} {one_line(name)}")


def _check_files(model: str, *, as_json: bool) -> None:
    """Read every byte of a model and say which files changed after they were written."""
    directory = models.find(model)
    from gpt.checkpoint import damaged

    files = models.read_manifest(directory).files
    bad = damaged(directory)
    if as_json:
        print(json.dumps({"name": model, "files": len(files), "damaged": bad}))
    elif not bad:
        print(f"{one_line(model)}: {len(files)} files are unchanged")
    if bad:
        raise UserError(
            f"{', '.join(bad)} in {directory} changed after it was written; "
            "convert or train the model again"
        )
