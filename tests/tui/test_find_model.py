"""A file or a directory as the model: converted once, and again after a change."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt import models
from gpt.errors import UserError
from gpt.models import Manifest
from tui.find_model import find_or_convert


class Converter:
    """Writes what a conversion writes, and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.status = 0

    def run(self, command: list[str], **_: Any) -> SimpleNamespace:
        *options, dashes, model = command[command.index("--ask") + 1 :]
        assert dashes == "--"
        self.asked.append(options)
        if not self.status:
            source = {"source": models.source_of(Path(model))} if Path(model).exists() else {}
            name = options[1] if options else Path(model).name
            install(name, {"model": model, **source})
        return SimpleNamespace(returncode=self.status)


def install(name: str, origin: dict[str, Any]) -> None:
    directory = models.home() / name
    directory.mkdir(parents=True, exist_ok=True)
    values = asdict(Manifest("float32", 5, {}, origin))
    (directory / models.MANIFEST).write_text(json.dumps(values))


@pytest.fixture
def converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Converter:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made = Converter()
    monkeypatch.setattr("tui.find_model.subprocess.run", made.run)
    return made


def test_a_file_is_converted_once_until_it_changes(converter: Converter, tmp_path: Path) -> None:
    file = tmp_path / "a.Q8.gguf"
    file.write_bytes(b"GGUF one")
    assert find_or_convert(str(file)) == "a.Q8"
    assert find_or_convert("a.Q8.gguf") == find_or_convert("./a.Q8.gguf") == "a.Q8"
    assert converter.asked == [["--name", "a.Q8"]]
    file.write_bytes(b"GGUF two, longer")
    assert find_or_convert(str(file)) == "a.Q8"
    assert converter.asked[1:] == [["--name", "a.Q8", "--force"]]
    os.utime(file, ns=(1, 1))  # another file of the same size, and older
    assert find_or_convert(str(file)) == "a.Q8"
    assert len(converter.asked) == 3
    assert find_or_convert("a.Q8") == "a.Q8", "by its name"


def test_another_file_of_that_name_gets_a_number(converter: Converter, tmp_path: Path) -> None:
    names = []
    for place in ("one", "two", "one", "two"):
        directory = tmp_path / place
        directory.mkdir(exist_ok=True)
        file = directory / "m.gguf"
        if not file.exists():
            file.write_bytes(place.encode())
        names.append(find_or_convert(str(file)))
    assert names == ["m", "m-2", "m", "m-2"]
    install("shakespeare-fine", {"model": "elsewhere"})
    (tmp_path / "shakespeare.gguf").write_bytes(b"x")
    assert find_or_convert("shakespeare.gguf") == "shakespeare-2", "not the one that ships"


def test_a_directory_is_converted_again_after_a_change(
    converter: Converter, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "model.safetensors").write_bytes(b"1")
    assert find_or_convert("theirs") == find_or_convert(str(theirs)) == "theirs"
    assert len(converter.asked) == 1
    (theirs / "config.json").write_text("{}")
    assert find_or_convert("theirs") == "theirs" and len(converter.asked) == 1, "a model's name"
    assert find_or_convert("./theirs") == "theirs"
    assert converter.asked[1] == ["--name", "theirs", "--force"]


def test_a_name_on_the_hub_is_converted_as_before(converter: Converter) -> None:
    assert find_or_convert("someone/tiny") == "tiny"
    assert find_or_convert("someone/tiny") == "tiny"
    assert converter.asked == [[]]


def test_a_conversion_that_fails_ends_the_program(converter: Converter, tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"no")
    converter.status = 3
    with pytest.raises(SystemExit) as ended:
        find_or_convert("a.gguf")
    assert ended.value.code == 3


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        models.source_of(tmp_path / "nowhere")
