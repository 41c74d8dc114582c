from __future__ import annotations

import io
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from gpt.__main__ import main
from gpt.interpret.architecture import Architecture
from gpt.interpret.effects import Effect, Mattered, PatchGrid, Steering
from gpt.interpret.looks import (
    Heads,
    LensCell,
    LensGrid,
    LogitParts,
    Neighbours,
    Plane,
    StreamNorms,
    Work,
)
from gpt.record import Record

TEXT = "to be or"
DIRECTION = ["--towards", "to", "--away", "be", "--layer", "0"]
LOOKS: dict[str, tuple[list[str], list[type[Record]], str]] = {
    "lens": (["--last", "3", "--middle"], [LensGrid], "layer 2 after attention"),
    "lens of a layer": (
        ["--layer", "1", "--top", "3"],
        [LensCell],
        "what layer 1 expects as token 8",
    ),
    "heads": (["--mute", "1.2"], [Heads], "previous   first duplicate induction"),
    "attention": (["--layer", "2", "--head", "1", "--cut", "0:7@2"], [Work], "masked"),
    "logits": (["--token", "a", "--versus", "#3"], [LogitParts], "layer 2 MLP"),
    "mattered": (["--token", "a"], [Mattered], "7 r"),
    "mattered without a part": (["--mute", "2.mlp"], [Mattered], "7 r"),
    "knockout": (["--mute", "2", "--mean", "1.mlp", "--cut", "1"], [Effect], "mean KL"),
    "patch": (["--other", "to go or", "--versus", "a"], [PatchGrid], "embedding"),
    "steer": (DIRECTION, [Steering, Effect], "norm of what is added"),
    "neighbours": (["--minus", "a", "--top", "2"], [Neighbours], "cosine"),
    "neighbours on a plane": (["--plane"], [Plane], "of the variance"),
    "model": ([], [Architecture, StreamNorms], "parameters"),
}


def look(name: str, directory: Path, *more: str) -> None:
    arguments = [name.split()[0], str(directory), TEXT, *LOOKS[name][0], "--device", "cpu", *more]
    main(["inspect", *arguments])


@pytest.mark.parametrize("name", LOOKS)
def test_every_look_is_a_table_and_a_json_object(
    name: str, tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, records, expected = LOOKS[name]
    look(name, tiny_directory)
    shown = capsys.readouterr().out
    assert expected in shown and "\x1b" not in shown
    look(name, tiny_directory, "--json")
    lines = capsys.readouterr().out.splitlines()
    for line, record in zip(lines, records, strict=True):
        assert record.from_dict(json.loads(line)).to_dict() == json.loads(line)


HEADINGS = {
    "lens": '"to be or": what each layer expects in the place of each token, and how probable',
    "lens of a layer": 'after "to be or": what layer 1 expects as token 8, the most probable first',
    "heads": 'after "to be or": where each head looks from token 7 "r": the token with the largest',
    "attention": 'after "to be or": what head 1 of layer 2 (keys and values of head 1) calculates',
    "logits": 'after "to be or": what each part of the network adds to the logit of "a" minus that '
    'of "d", in nats, the largest first',
    "mattered": 'after "to be or": what each token does to log p of "a", in bits; +',
    "mattered without a part": 'after "to be or": what each token does to log p of ',
    "knockout": '"to be or": how far the change moves the prediction of each token, as KL(original',
    "patch": 'minus that of "a" if one activation is taken from the other text, from 0 (as in this',
    "steer": '"to be or": lengths (Euclidean norms) of the direction and of the stream',
    "neighbours": 'embedding: the tokens nearest to "to be or" minus "a", first by cosine',
    "neighbours on a plane": 'embedding: the places (x and y) of the tokens of "to be or" on two',
    "model": "weights in the order of the network: number of parameters, shape and name",
}


@pytest.mark.parametrize("name", LOOKS)
def test_a_table_begins_with_what_is_asked(
    name: str, tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look(name, tiny_directory)
    first, *rows = capsys.readouterr().out.splitlines()
    assert HEADINGS[name] in first
    changes = {"--mute", "--towards"} & set(LOOKS[name][0])
    assert bool(changes) == ("; changed: layer " in first)
    assert [line.rstrip() for line in rows] == rows


@pytest.mark.parametrize("what", ["logits", "mattered"])
def test_the_most_probable_token_is_named(
    what: str, tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["inspect", "lens", str(tiny_directory), TEXT, "--layer", "2", "--top", "1"])
    heading, best = capsys.readouterr().out.splitlines()
    assert "what output expects as token 8" in heading  # layer 2 is the last one
    main(["inspect", what, str(tiny_directory), TEXT])
    assert f'of "{best.split()[-1]}", in ' in capsys.readouterr().out.splitlines()[0]


def test_a_long_text_is_named_by_its_end(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["inspect", "logits", str(tiny_directory), "to be or not\nto be or not to"])
    assert 'after "…e or not⏎to be or not to": ' in capsys.readouterr().out


def test_a_table_of_the_last_tokens_says_so(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for last, is_said in ((3, True), (8, False)):
        main(["inspect", "lens", str(tiny_directory), "to be or", "--last", str(last)])
        said = "These are the last 3 of 8 tokens (--last)."
        assert (capsys.readouterr().out.splitlines()[-1] == said) == is_said


def test_rows_are_in_the_order_of_the_screen(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["inspect", "lens", str(tiny_directory), TEXT])
    names = [line[:9].strip() for line in capsys.readouterr().out.splitlines()[2::2]]
    assert names == ["embedding", "layer 1", "output"]
    look("patch", tiny_directory)
    names = [line[:10].strip() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert names == ["embedding", "layer 1", "layer 2"]
    look("model", tiny_directory)
    names = [line[:10].strip() for line in capsys.readouterr().out.splitlines()[-3:]]
    assert names == ["embedding", "layer 1", "layer 2"]


def test_a_change_ends_with_its_mean(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look("knockout", tiny_directory, "--json")
    known = [n for n in json.loads(capsys.readouterr().out)["divergence"] if n is not None]
    look("knockout", tiny_directory)
    shown = capsys.readouterr().out.splitlines()[-1]
    mean = sum(known) / len(known) / math.log(2)
    assert shown == f"mean KL {mean:.4f} bits a token, of {len(known)}"


def test_a_change_may_move_only_the_next_token(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["inspect", "knockout", str(tiny_directory), TEXT, "--token", "b", "--cut", "0:7"]
    main([*asked, "--json"])
    *before, after = json.loads(capsys.readouterr().out)["divergence"][1:]
    assert before == pytest.approx([0.0] * 7, abs=1e-6) and after > 1e-4
    main(asked)
    row = capsys.readouterr().out.splitlines()[-2]
    assert row.startswith(f"{after / math.log(2):9.4f}") and row.endswith("  8 (next) b")


def test_of_a_long_text_only_tokens_with_a_number_have_a_row(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look("mattered", tiny_directory, "--last", "2")
    _, _, *rows, said = capsys.readouterr().out.splitlines()
    assert [row.split()[-2:] for row in rows] == [["6", "o"], ["7", "r"]]
    assert said == "These are the last 2 of 8 tokens (--last)."


def test_a_model_is_listed_from_its_configuration(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["inspect", "model", str(tiny_directory)])
    shown = capsys.readouterr().out
    assert "29 × 16  wte.weight" in shown
    assert "The output matrix is the embedding." in shown


def test_the_text_may_come_from_a_pipe(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Pipe:
        buffer = io.BytesIO(b"to be")
        isatty = staticmethod(lambda: False)

    monkeypatch.setattr("sys.stdin", Pipe())
    main(["inspect", "knockout", str(tiny_directory), "--mute", "1", "--json"])
    assert len(json.loads(capsys.readouterr().out)["divergence"]) == 5 + 1  # the next one


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["knockout"], "knockout needs something to change"),
        (["steer", "--towards", "a"], "needs --towards and --away"),
        (["steer", "--mute", "1"], "steer needs --towards and --away"),
        (["patch", "--other", "to be or"], "patch needs --other"),
        (["logits", "--mute", "1"], "logits looks at the network as it is"),
        (["lens", "--plane", "--head", "2"], "lens without --layer does not use --head, --plane"),
        (["lens", "--layer", "1", "--last", "3"], "lens with --layer does not use --last"),
        (["lens", "--top", "3"], "lens without --layer does not use --top"),
        (["knockout", "--cut", "3:8"], "--cut: there is no token 8; the text has 0 to 7"),
        (["heads", "--layer", "1"], "heads does not use --layer"),
        (["model", "--strength", "2"], "--strength needs a direction"),
        (["logits", "--token", "to"], "'to' is 2 tokens of this model"),
        (["logits", "--token", "#99"], "there is no token 99"),
        (["logits", "--token", "#" + "9" * 5000], "this model knows 29 characters"),
        (["attention", "--layer", "3"], "there is no layer 3"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str],
    sentence: str,
    tiny_directory: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    what, *options = arguments
    with pytest.raises(SystemExit) as ended:
        main(["inspect", what, str(tiny_directory), TEXT, *options])
    assert sentence in f"{ended.value} {capsys.readouterr().err}"


@pytest.mark.parametrize(
    "arguments",
    [
        ["everything", "m", "a"],
        ["lens", "m", "a", "--mute", "head"],
        ["lens", "m", "a", "--mute", "1.2.3"],
        ["lens", "m", "a", "--cut", "1-2"],
        ["lens", "m", "a", "--cut", "²"],
        ["lens", "m", "a", "--last", "0"],
        ["lens", "m", "a", "--layer", "1", "--top", "0"],
        ["steer", "m", "a", "--strength", "nan"],
        ["lens"],
    ],
)
def test_slips_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["inspect", *arguments])
    assert ended.value.code == 2
    error: Any = capsys.readouterr().err
    assert error.startswith("error: ") and error.endswith("help: python -m gpt inspect --help\n")


def test_hostile_tokens_are_shown_safely(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpt.checkpoint import save
    from gpt.tokenizer import CharTokenizer
    from tests.conftest import random_model

    letters = "".join(map(chr, [0x1B, 0x9B, 0x202E, 10, *range(97, 122)]))
    save(tmp_path / "hostile", random_model(), CharTokenizer(letters))
    main(["inspect", "lens", str(tmp_path / "hostile"), "\x1b\u202e\n\x9ba", "--device", "cpu"])
    shown = capsys.readouterr().out
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown) and "␛" in shown


@pytest.mark.parametrize("columns", [12, 33, 40, 79])
def test_a_grid_that_is_wider_than_the_terminal_comes_in_blocks(
    tiny_directory: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
) -> None:
    arguments = ["inspect", "lens", str(tiny_directory), TEXT]
    main(arguments)
    wide = capsys.readouterr().out.splitlines()[1:]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((columns, 24)))
    main(arguments)
    blocks = "\n".join(capsys.readouterr().out.splitlines()[1:]).split("\n\n")
    found = [""] * len(wide)
    for block in blocks:
        for row, line in enumerate(block.splitlines()):
            assert len(line) <= max(columns, 22)  # a name and one column at least
            found[row] += f"{line[11:]:{columns}}"
    assert [line.split() for line in found] == [line[11:].split() for line in wide]
