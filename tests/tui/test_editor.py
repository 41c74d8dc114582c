"""A person's own editor: whatever it is set to and does is the new text or one sentence."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpt.errors import UserError
from tui.editor import edit


@pytest.fixture(autouse=True)
def no_editor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.delenv("EDITOR", raising=False)


def editor_of(directory: Path, code: str) -> str:
    """A program of Python as an editor; `path` is the file that it gets."""
    script = directory / "editor.py"
    script.write_text(
        f"import os, pathlib, sys\npath = pathlib.Path(sys.argv[-1])\n{code}\n", encoding="utf-8"
    )
    return shlex.join([sys.executable, str(script)])


@pytest.mark.parametrize("name", ["VISUAL", "EDITOR"])
@pytest.mark.parametrize(
    "value", ["'", '"nano', "nano \\", "", " ", "''", "/", "x" * 300, "no/such"]
)
def test_an_editor_that_cannot_be_started_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        edit("text")
    assert "EDITOR" in str(caught.value) or value.strip() in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "code",
    [
        "sys.exit(3)",
        "os.kill(os.getpid(), 9)",
        "path.write_bytes(b'\\xff')",
        "path.unlink()",
        "path.unlink(); path.mkdir()",
        "path.unlink(); os.mkfifo(path)",
        "path.unlink(); path.symlink_to('/dev/zero')",
        "path.touch(); os.truncate(path, 2**40)",
    ],
)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files there")
def test_an_editor_that_leaves_no_text_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str
) -> None:
    monkeypatch.setenv("EDITOR", editor_of(tmp_path, code))
    with pytest.raises(UserError, match="the editor "):
        edit("text")


def test_a_text_that_is_no_utf8_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDITOR", editor_of(tmp_path, "sys.exit(0)"))
    with pytest.raises(UserError, match="the editor "):
        edit("\ud800")


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_what_is_not_changed_comes_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str
) -> None:
    monkeypatch.setenv("EDITOR", editor_of(tmp_path, "open(path, 'ab').write(b'\\n')"))
    written = text.removeprefix("\ufeff") + "\n"
    assert edit(text) == written.replace("\r\n", "\n").removesuffix("\n")
