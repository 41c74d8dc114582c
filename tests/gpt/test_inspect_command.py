from __future__ import annotations

import io
import json
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
    "lens": (["--last", "3", "--middle"], [LensGrid], "layer 2 attention"),
    "lens of a layer": (["--layer", "1", "--top", "3"], [LensCell], "layer 1 predicts for token 8"),
    "heads": (["--mute", "1.2"], [Heads], "previous   first duplicate induction"),
    "attention": (["--layer", "2", "--head", "1", "--cut", "0:7@2"], [Work], "masked"),
    "logits": (["--token", "a", "--versus", "#3"], [LogitParts], "the sum of all parts"),
    "mattered": (["--token", "a"], [Mattered], "7 r"),
    "knockout": (["--mute", "2", "--mean", "1.mlp", "--cut", "1"], [Effect], "KL (nats)"),
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

    monkeypatch.setattr("sys.stdin", Pipe())
    main(["inspect", "knockout", str(tiny_directory), "--mute", "1", "--json"])
    assert len(json.loads(capsys.readouterr().out)["divergence"]) == 5


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["knockout"], "knockout needs something to change"),
        (["steer", "--towards", "a"], "needs --towards and --away"),
        (["steer", "--mute", "1"], "steer needs --towards and --away"),
        (["patch", "--other", "to be or"], "patch needs --other"),
        (["logits", "--mute", "1"], "logits looks at the network as it is"),
        (["logits", "--token", "to"], "'to' is 2 tokens of this model"),
        (["logits", "--token", "#99"], "there is no token 99"),
        (["logits", "--token", "#" + "9" * 5000], "this model knows 29 characters"),
        (["attention", "--layer", "3"], "there is no layer 3"),
        (["lens", "--last", "0"], "--last and --top must be at least 1"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    arguments: list[str], sentence: str, tiny_directory: Path
) -> None:
    what, *options = arguments
    with pytest.raises(SystemExit) as ended:
        main(["inspect", what, str(tiny_directory), TEXT, *options])
    assert sentence in str(ended.value)


@pytest.mark.parametrize(
    "arguments",
    [
        ["everything", "m", "a"],
        ["lens", "m", "a", "--mute", "head"],
        ["lens", "m", "a", "--mute", "1.2.3"],
        ["lens", "m", "a", "--cut", "1-2"],
        ["lens", "m", "a", "--cut", "²"],
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
