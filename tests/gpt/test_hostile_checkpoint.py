"""Damaged or hostile checkpoints: each is refused in one sentence, and nothing waits for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import models
from gpt.__main__ import main
from gpt.checkpoint import damaged, load, load_network
from gpt.config import ModelConfig
from gpt.errors import UserError
from tests.conftest import TINY, make_pipe

LINKS = {"device": "/dev/zero", "loop": "", "dangling": "gone", "long": "n" * 300}


def manifest_of(directory: Path, **changes: Any) -> None:
    path = directory / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | changes))


def replace_by(path: Path, how: str) -> None:
    """Replace a file by a pipe or a link."""
    path.unlink()
    if how == "fifo":
        make_pipe(path)
    else:
        path.symlink_to(LINKS[how] or path.name)


@pytest.mark.parametrize("how", ["fifo", *LINKS])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "characters.json"])
def test_a_path_that_is_not_a_file_is_named(tiny_directory: Path, name: str, how: str) -> None:
    replace_by(tiny_directory / name, how)
    manifest_of(tiny_directory, files={})
    with pytest.raises(UserError, match=name):
        load(tiny_directory)
    if name != "characters.json":
        with pytest.raises(UserError, match=name):
            load_network(tiny_directory)


@pytest.mark.parametrize("how", ["fifo", *LINKS])
def test_a_manifest_that_is_not_a_file_hides_only_its_model(tiny_directory: Path, how: str) -> None:
    replace_by(tiny_directory / "manifest.json", how)
    assert list(models.available()) == ["shakespeare"]
    with pytest.raises(UserError, match=r"manifest\.json"):
        models.read_manifest(tiny_directory)


def test_a_file_that_became_a_pipe_is_damaged(tiny_directory: Path) -> None:
    replace_by(tiny_directory / "characters.json", "fifo")
    files = json.loads((tiny_directory / "manifest.json").read_text())["files"]
    files["characters.json"]["size"] = 0
    manifest_of(tiny_directory, files=files)
    assert damaged(tiny_directory) == ["characters.json"]


def test_a_file_larger_than_any_vocabulary_is_not_read(tiny_directory: Path) -> None:
    manifest_of(tiny_directory, files={})
    os.truncate(tiny_directory / "characters.json", 1 << 40)
    with pytest.raises(UserError, match=r"characters\.json has .* bytes; at most"):
        load(tiny_directory)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


HOSTILE: dict[str, dict[str, Any]] = {
    "dtype": {"dtype": 5},
    "unknown dtype": {"dtype": "float128"},
    "n_params": {"n_params": "many"},
    "negative": {"n_params": -1},
    "huge": {"n_params": 10**400},
    "true": {"n_params": True},
    "files": {"files": []},
    "entry": {"files": {"config.json": 5}},
    "no size": {"files": {"config.json": {}}},
    "size": {"files": {"config.json": {"size": -1, "sha256": ""}}},
    "huge size": {"files": {"config.json": {"size": 10**400, "sha256": ""}}},
    "digest": {"files": {"config.json": {"size": 1, "sha256": 5}}},
    "up": {"files": {"../x": {"size": 1}}},
    "itself": {"files": {".": {"size": 1}}},
    "empty name": {"files": {"": {"size": 1}}},
    "long name": {"files": {"x" * 300: {"size": 1}}},
    "NUL": {"files": {"a\0b": {"size": 1}}},
    "origin": {"origin": "hub"},
    "deep origin": {"origin": {"kind": nested(400)}},
    "version": {"format_version": [1]},
    "huge version": {"format_version": 10**4000},
    "unknown": {"author": "x"},
}


@pytest.mark.parametrize("changes", HOSTILE.values(), ids=HOSTILE)
def test_hostile_manifests(
    changes: dict[str, Any], tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest_of(tiny_directory, **changes)
    for options in ([], ["--json"]):
        main(["models", *options])
        assert len(capsys.readouterr().out.splitlines()) == 1
    for read in (models.read_manifest, load, damaged):
        with pytest.raises(UserError, match=r"manifest\.json") as caught:
            read(tiny_directory)
        assert len(str(caught.value)) < 500


def test_a_manifest_of_any_size_is_not_read(tiny_directory: Path) -> None:
    with (tiny_directory / "manifest.json").open("r+") as file:
        file.truncate(1 << 40)
    assert list(models.available()) == ["shakespeare"]


def test_the_name_of_a_model_may_be_anything(tmp_path: Path) -> None:
    for name in ("x" * 300, "a\0b", "", "/dev/zero"):
        with pytest.raises(UserError):
            models.find(name)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
) | st.sampled_from([10**400, -(10**400), 2**31, 1e308, float("nan"), "layernorm"])


@given(st.dictionaries(st.sampled_from(list(ModelConfig(**TINY).to_dict())), _values, max_size=4))
def test_any_configuration_makes_a_network_or_one_sentence(changes: dict[str, Any]) -> None:
    try:
        ModelConfig.from_dict({**TINY, **changes})
    except UserError as error:
        assert len(str(error)) < 300


@pytest.mark.parametrize("text", ["[]", "5", '"x"', "null", "[[]]", "[" * 100_000, "1" * 5000])
def test_a_configuration_that_is_none(tiny_directory: Path, text: str) -> None:
    (tiny_directory / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json"):
        load_network(tiny_directory)


def test_a_bom_is_skipped(tiny_directory: Path) -> None:
    for name in ("config.json", "manifest.json"):
        path = tiny_directory / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    manifest_path = tiny_directory / "manifest.json"
    files = json.loads(manifest_path.read_text("utf-8-sig"))["files"]
    files["config.json"]["size"] += 3
    manifest = json.loads(manifest_path.read_text("utf-8-sig")) | {"files": files}
    manifest_path.write_text("\ufeff" + json.dumps(manifest), encoding="utf-8")
    load(tiny_directory)


def test_the_command_says_it_in_one_line(tiny_directory: Path, tmp_path: Path) -> None:
    replace_by(tiny_directory / "config.json", "fifo")
    manifest_of(tiny_directory, files={})
    done = subprocess.run(
        [sys.executable, "-m", "gpt", "complete", "a", "--model", str(tiny_directory)],
        capture_output=True,
        check=False,
        timeout=100,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
