"""All commands read a text the same way, whatever an editor or a system adds to it."""

from __future__ import annotations

import codecs
import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt import text_file
from gpt.__main__ import main
from gpt.errors import UserError
from gpt.training import data
from tests.conftest import make_pipe

TEXT = "one\n\ntwo ä 東\n"
AS_WRITTEN = {
    "plain": TEXT.encode(),
    "a BOM": codecs.BOM_UTF8 + TEXT.encode(),
    "CRLF": TEXT.replace("\n", "\r\n").encode(),
    "CR": TEXT.replace("\n", "\r").encode(),
    "Notepad": codecs.BOM_UTF8 + TEXT.replace("\n", "\r\n").encode(),
    "Notepad's Unicode": codecs.BOM_UTF16_LE + TEXT.replace("\n", "\r\n").encode("utf-16-le"),
    "UTF-16 the other way": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
}
NOT_TEXTS = {
    "latin-1": ("ä".encode("latin-1"), r"is not UTF-8 text \(byte 0\)"),
    "half of UTF-16": (b"\xff\xfea", r"is not UTF-8 text \(byte 0\)"),
    "NUL": (b"ab\0", r"is not text: it has a NUL \(character 2\)"),
    "UTF-32": ("a".encode("utf-32"), "is not text: it has a NUL"),
}


def piped(contents: bytes, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(contents)))
    return text_file.read_stdin()


@pytest.mark.parametrize("contents", AS_WRITTEN.values(), ids=AS_WRITTEN)
def test_every_way_of_writing_a_text_is_the_same_text(
    contents: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(contents)
    assert text_file.read(path) == TEXT
    assert data.read_text(path) == TEXT
    assert piped(contents, monkeypatch) == TEXT


@pytest.mark.parametrize(("contents", "match"), NOT_TEXTS.values(), ids=NOT_TEXTS)
def test_bytes_that_are_not_a_text_are_one_sentence(
    contents: bytes, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(contents)
    for read in (text_file.read, data.read_text):
        with pytest.raises(UserError, match=f"a.txt {match}"):
            read(path)
    with pytest.raises(UserError, match=f"stdin {match}"):
        piped(contents, monkeypatch)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_text_without_returns_or_one_sentence(contents: bytes) -> None:
    try:
        text = text_file.decode(contents, "x")
    except UserError as error:
        assert str(error).startswith("x is not ")
    else:
        assert not set(text) & {"\r", "\0"}
        assert not text.startswith("\ufeff") or contents.count(codecs.BOM_UTF8) > 1


def test_a_path_that_is_not_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(UserError, match="is a directory; name a text file in it"):
        text_file.read(tmp_path)
    for name in ("missing", "loop", "x" * 300, "a\0b"):
        with pytest.raises(UserError, match="cannot read"):
            text_file.read(tmp_path / name)
    with pytest.raises(UserError, match="is a device"):
        text_file.read(Path("/dev/zero"))


def test_a_directory_of_texts_has_only_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\r\n")
    (tmp_path / "b.txt").mkdir()
    (tmp_path / "b.txt" / "c.txt").write_bytes(codecs.BOM_UTF8 + b"two")
    make_pipe(tmp_path / "d.txt")
    assert data.read_text(tmp_path) == "one\n\ntwo"


def test_the_commands_agree_on_a_text_from_windows(
    tiny_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.txt"
    found = []
    for ending, mark in (("\n", b""), ("\r\n", codecs.BOM_UTF8)):
        path.write_bytes(mark + ending.join(["some words", "and more", ""]).encode())
        main(["score", str(path), "--model", "tiny", "--json"])
        score = json.loads(capsys.readouterr().out.splitlines()[-1])
        main(["evaluate", "tiny", "--data", str(path), "--all", "--json", "--only", "sliding"])
        found.append((score, json.loads(capsys.readouterr().out)))
    assert found[0] == found[1]


def test_small_files_are_regular_and_small(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(codecs.BOM_UTF8 + b"{}\r\n")
    assert text_file.read_small(path, 7) == "{}\r\n"
    with pytest.raises(UserError, match=r"a\.json has 7 bytes"):
        text_file.read_small(path, 6)
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"cannot read .*a\.json"):
        text_file.read_small(path, 6)
    make_pipe(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, match in (
        ("pipe", "not a regular file"),
        ("loop", "cannot read"),
        ("", "not a regular file"),
        ("x" * 300, "cannot read"),
    ):
        with pytest.raises(UserError, match=match):
            text_file.read_small(tmp_path / name, 6)
    with pytest.raises(UserError, match="not a regular file"):
        text_file.read_small(Path("/dev/zero"), 6)
