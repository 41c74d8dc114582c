"""python -m gpt models --check NAME: every byte of a model is compared with its manifest."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from gpt.__main__ import main
from gpt.checkpoint import damaged


def flip(path: Path, at: int) -> None:
    """Change one bit of one byte."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_a_sound_model(tiny_directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["models", "--check", "tiny"])
    assert capsys.readouterr().out == "tiny: 3 files are unchanged\n"
    main(["models", "--check", str(tiny_directory), "--json"])
    assert json.loads(capsys.readouterr().out)["damaged"] == []


def test_any_flipped_byte_is_found(tiny_directory: Path) -> None:
    generator = random.Random(0)
    for path in tiny_directory.glob("[!m]*"):
        for _ in range(5):
            at = generator.randrange(path.stat().st_size)
            flip(path, at)
            assert damaged(tiny_directory) == [path.name]
            flip(path, at)
    assert damaged(tiny_directory) == []


def test_the_command_names_the_file(
    tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(tiny_directory / "model.safetensors", -1)
    with pytest.raises(SystemExit) as ending:
        main(["models", "--check", "tiny"])
    assert str(ending.value.code).startswith(
        f"error: model.safetensors in {tiny_directory} changed"
    )
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit):
        main(["models", "--check", "tiny", "--json"])
    assert json.loads(capsys.readouterr().out)["damaged"] == ["model.safetensors"]


def test_a_missing_file_is_damaged(tiny_directory: Path) -> None:
    (tiny_directory / "characters.json").unlink()
    assert damaged(tiny_directory) == ["characters.json"]


def test_a_manifest_without_digests_is_damaged(tiny_directory: Path) -> None:
    path = tiny_directory / "manifest.json"
    values = json.loads(path.read_text())
    for facts in values["files"].values():
        del facts["sha256"]
    path.write_text(json.dumps(values))
    assert len(damaged(tiny_directory)) == 3


def test_an_unknown_model() -> None:
    with pytest.raises(SystemExit) as ending:
        main(["models", "--check", "nobody"])
    assert "there is no model 'nobody'" in str(ending.value.code)
