"""python -m convert: options, one-line errors, progress lines, names."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from convert.__main__ import _bars, main
from convert.events import CheckpointFound
from gpt import checkpoint, models
from gpt.errors import UserError
from tests.convert.conftest import gpt2, saved

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound checkpoint."""
    return saved(gpt2(), tmp_path / "theirs")


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The error of a command that fails with status 1."""
    with pytest.raises(SystemExit) as ending:
        main(list(arguments))
    message = str(ending.value.code)
    assert message.startswith("error: ")
    assert message.isprintable()
    assert capsys.readouterr().out == ""
    return message


def test_it_says_what_it_did(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(source)])
    out = capsys.readouterr().out
    assert f"theirs is ready in {models.home() / 'theirs'}" in out
    assert "verified against transformers" in out
    assert "logits differ by at most" in out
    assert "log-probabilities by" in out


def test_what_it_made_has_a_name(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(source), "--name", "mine", "--no-verify", "--dtype", "float16"])
    assert "not verified (--no-verify)" in capsys.readouterr().out
    assert models.find("mine") == models.home() / "mine"
    assert models.available()["mine"].dtype == "float16"


def test_out_is_a_directory_of_the_users(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    main([str(source), "--out", str(out), "--no-verify"])
    assert models.find(str(out)) == out


def test_progress_as_lines(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(source), "--json", "--no-verify"])
    events: list[dict[str, Any]] = [
        json.loads(line) for line in capsys.readouterr().out.splitlines()
    ]
    assert [event["event"] for event in events[:2]] == ["notice", "found"]
    progress = [event for event in events if event["event"] == "progress"]
    assert progress[-1]["done"] == progress[-1]["total"] > 0
    assert progress[-1]["file_done"] == progress[-1]["file_total"]
    assert {event["file"] for event in progress} == {"model.safetensors"}
    done = [event["done"] for event in progress]
    assert done == sorted(done)
    assert events[-1]["event"] == "done"
    assert events[-1]["name"] == "theirs"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            CheckpointFound("m.gguf", "file", 538_100_000, "/my/m", 98_000_000),
            "Convert m.gguf (98.0 MB)? The model takes 538.1 MB in /my/m. [Y/n] ",
        ),
        (
            CheckpointFound("a/m", "hub", 98_000_000, "/my/m"),
            "Download and convert a/m (98.0 MB)? The model goes into /my/m. [Y/n] ",
        ),
    ],
)
def test_the_question_says_what_is_read_and_written_and_where(
    found: CheckpointFound,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    with _bars(ask=True) as on_event, pytest.raises(UserError, match="nothing was converted"):
        on_event(found)
    assert capsys.readouterr().err == expected


def test_what_is_found_has_the_size_of_both_files(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(source), "--json", "--no-verify", "--dtype", "float16"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = next(event for event in events if event["event"] == "found")
    made = models.home() / "theirs"
    assert found["directory"] == str(made)
    assert found["source_bytes"] == (source / "model.safetensors").stat().st_size
    assert found["n_bytes"] == (made / checkpoint.WEIGHTS).stat().st_size < found["source_bytes"]


def test_each_phase_after_the_writing_begins_and_ends(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([str(source), "--json"])
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    after = [
        (event["phase"], event["done"] == event["total"])
        for event in events
        if event["event"] == "progress" and event["phase"] not in ("download", "convert")
    ]
    assert after == [("verify", False), ("verify", True), ("measure", False), ("measure", True)]


def test_an_error_as_a_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (source / "config.json").unlink()
    with pytest.raises(SystemExit):
        main([str(source), "--json"])
    event = json.loads(capsys.readouterr().out)
    assert event["event"] == "error"
    assert "config.json" in event["text"]


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".x", "a/b", models.EMBEDDED, "a\\b", "a\x1b", "x" * 300]
)
def test_names_that_are_none(name: str, source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name" in failing(capsys, str(source), "--name", name)


@pytest.mark.parametrize("model", ["/nowhere/at all", "a/b/c", "https://x.y/z", "~nobody/x", "a b"])
def test_models_that_are_none(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nor a name on the hub" in failing(capsys, model)


def test_options_that_contradict(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "leave --name out" in failing(capsys, str(source), "--name", "a", "--out", "b")
    assert "no revisions" in failing(capsys, str(source), "--revision", "main")


def test_escape_codes_are_shown_harmlessly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(gpt2(), tmp_path / "a\x1b]52;c;aGk=\x07\u202eb")
    (source / "config.json").unlink()
    message = failing(capsys, str(source), "--name", "x")
    assert "␛]52;c;aGk=␇<U+202E>b" in message


def test_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    source = saved(gpt2(), tmp_path / "x")
    odd = source.rename(tmp_path / os.fsdecode(b"caf\xe9"))
    main([str(odd), "--name", "mine", "--no-verify"])
    assert models.available()["mine"].origin["model"].endswith("caf<U+DCE9>")


def test_a_checkpoint_of_ours(tiny_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = failing(capsys, str(tiny_directory), "--name", "again")
    assert "is already a checkpoint of this program" in message


def test_an_error_of_the_real_command_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "convert", str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert (
        done.stderr
        == f"error: {tmp_path} has no config.json, so it is not a transformers checkpoint\n"
    )


def test_help_loads_no_torch() -> None:
    code = (
        "import sys, convert.__main__ as m\n"
        "try:\n    m.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)


def test_a_model_that_is_called_like_a_path_is_not_found() -> None:
    with pytest.raises(UserError):
        models.find(".theirs.abcd1234.draft")


@pytest.mark.parametrize(
    ("template", "name", "expected"),
    [
        ("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", "theirs", False),
        ("{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}", "DialoGPT", False),
        (None, "my-DialoGPT-small", True),
        (None, "theirs", False),
    ],
)
def test_a_model_of_turns_is_known_by_its_name(
    source: Path, tmp_path: Path, template: str | None, name: str, expected: bool
) -> None:
    if template is not None:
        text = json.dumps({"chat_template": template})
        (source / "tokenizer_config.json").write_text(text)
    renamed = source.rename(tmp_path / name)
    main([str(renamed), "--no-verify"])
    origin = models.available()[name].origin
    assert origin["ends_turns"] is expected
    assert origin["chat_template"] is (template is not None)
