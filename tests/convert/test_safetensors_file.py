"""safetensors files: ours against the library's, and every malformed one refused in one line."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from convert import safetensors_file
from convert.safetensors_file import SafetensorsFile
from gpt.checkpoint import sha256
from gpt.errors import UserError
from gpt.weights.read import PIECE

SHARED = [HealthCheck.function_scoped_fixture]  # one directory will do for all examples
DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def entry(shape: list[Any], begin: Any, end: Any, dtype: Any = "F32") -> dict[str, Any]:
    """A tensor in a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def assert_the_library_reads(path: Path) -> None:
    """What we accept, the safetensors library must accept too."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except SafetensorError as error:
        pytest.fail(f"only the library refuses it: {error}")


def build(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file of any header, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_we_write_the_library_reads(dtype: torch.dtype, tmp_path: Path) -> None:
    tensors = {
        "a": torch.randn(3, 5).to(dtype),
        "b": torch.randn(7).to(dtype),
        "empty": torch.zeros(0, 4, dtype=dtype),
        "transposed": torch.randn(4, 2).t().to(dtype),
    }
    path = tmp_path / "x.safetensors"
    layout = {name: (dtype, tuple(t.shape)) for name, t in tensors.items()}
    digest = safetensors_file.write(path, layout, tensors.values())
    found = load_file(path)
    assert list(found) == sorted(tensors)
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert digest == sha256(path)
    assert path.stat().st_size == safetensors_file.file_size(layout)
    mine = SafetensorsFile(path)
    assert all(torch.equal(mine.read(name), tensor) for name, tensor in tensors.items())


def test_what_the_library_writes_we_read(tmp_path: Path) -> None:
    kinds = [torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool, *DTYPES]
    tensors = {str(kind): torch.ones(2, 3).to(kind) for kind in kinds}
    tensors["scalar"] = torch.tensor(2.5)
    save_file(tensors, tmp_path / "x", metadata={"format": "pt"})
    mine = SafetensorsFile(tmp_path / "x")
    for name, tensor in tensors.items():
        assert torch.equal(mine.read(name), tensor)
        assert mine.tensors[name].shape == tuple(tensor.shape)


def test_a_large_tensor_comes_in_pieces(tmp_path: Path) -> None:
    tensor = torch.randn(3, PIECE // 2 + 7)
    save_file({"a": tensor, "b": torch.ones(5)}, tmp_path / "x")
    mine = SafetensorsFile(tmp_path / "x")
    assert [piece.numel() for piece in mine.pieces("a")] == [PIECE, PIECE // 2 + 21]
    assert torch.equal(torch.cat([piece.clone() for piece in mine.pieces("a")]), tensor.view(-1))
    assert torch.equal(mine.read("a"), tensor)


def test_a_tensor_that_was_not_announced_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="were written, not"):
        safetensors_file.write(tmp_path / "x", {"a": (torch.float32, (2,))}, [torch.zeros(3)])


MALFORMED: dict[str, tuple[Any, bytes]] = {
    "overlap": ({"a": entry([2], 0, 8), "b": entry([2], 4, 12)}, bytes(12)),
    "hole": ({"a": entry([1], 0, 4), "b": entry([1], 8, 12)}, bytes(12)),
    "late beginning": ({"a": entry([1], 4, 8)}, bytes(8)),
    "truncated": ({"a": entry([2], 0, 8)}, bytes(7)),
    "trailing": ({"a": entry([2], 0, 8)}, bytes(9)),
    "overflow": ({"a": entry([2**32, 2**32], 0, 0)}, b""),
    "huge": ({"a": entry([2**61], 0, 2**63)}, b""),
    "too large for its bytes": ({"a": entry([3], 0, 8)}, bytes(8)),
    "nothing of much": ({"a": entry([0, 2**61, 2**61], 0, 0)}, b""),
    "backwards": ({"a": entry([0], 8, 0)}, bytes(8)),
    "negative size": ({"a": entry([-1, -2], 0, 8)}, bytes(8)),
    "minus zero": (json.dumps({"a": entry([1], 0, 4)}).replace("[0,", "[-0,").encode(), bytes(4)),
    "text as size": ({"a": entry(["2"], 0, 8)}, bytes(8)),
    "truth as size": ({"a": entry([True, 2], 0, 8)}, bytes(8)),
    "fraction": ({"a": entry([2.0], 0, 8)}, bytes(8)),
    "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)),
    "three offsets": ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 2, 4]}}, bytes(4)),
    "list as entry": ({"a": [1, 2]}, b""),
    "text as entry": ({"a": "x"}, b""),
    "unknown dtype": ({"a": entry([1], 0, 4, "F4")}, bytes(4)),
    "list as dtype": ({"a": entry([1], 0, 4, ["F32"])}, bytes(4)),
    "duplicates": (b'{"a":%s,"a":%s}' % ((json.dumps(entry([1], 0, 4)).encode(),) * 2), bytes(4)),
    "no table": ([1], b""),
    "no JSON": (b"{", b""),
    "deep": (b"[" * 100_000, b""),
    "many dimensions": ({"a": entry([1] * 100_000, 0, 4)}, bytes(4)),
    "no UTF-8": (b'{"\xff":1}', b""),
    "UTF-16": (json.dumps({"a": entry([1], 0, 4)}).encode("utf-16"), bytes(4)),
    "byte order mark": (json.dumps({"a": entry([1], 0, 4)}).encode("utf-8-sig"), bytes(4)),
    "blank before": (b" " + json.dumps({"a": entry([1], 0, 4)}).encode(), bytes(4)),
    "lone surrogate": ({"\ud800": entry([1], 0, 4)}, bytes(4)),
    "not a number": ({"a": {**entry([1], 0, 4), "more": float("nan")}}, bytes(4)),
    "metadata as number": ({"__metadata__": 5, "a": entry([1], 0, 4)}, bytes(4)),
    "metadata of numbers": ({"__metadata__": {"a": 5}, "b": entry([1], 0, 4)}, bytes(4)),
    "long name": ({"a" * 100_000: entry([1], 0, 5)}, bytes(5)),
    "escape in a name": ({"\x1b[2J\u202e": entry([1], 0, 5)}, bytes(5)),
}


@pytest.mark.parametrize(("header", "data"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_files(header: Any, data: bytes, tmp_path: Path) -> None:
    path = build(tmp_path / "x.safetensors", header, data)
    with pytest.raises(
        UserError, match=r"x\.safetensors is not a valid safetensors file: "
    ) as caught:
        SafetensorsFile(path)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 8,
        struct.pack("<Q", 100_000_001) + b" " * 50,
        struct.pack("<Q", 60) + b" " * 50,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 548105171\n",
        b"<!DOCTYPE html>\n<html><body>Not Found</body></html>",
    ],
    ids=["empty", "short", "length", "long header", "longer than it is", "LFS pointer", "HTML"],
)
def test_files_of_something_else(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"model\.safetensors is not a valid safetensors file"):
        SafetensorsFile(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A sound file."""
    path = tmp_path_factory.mktemp("sound") / "x"
    save_file({"a": torch.randn(3, 2), "b": torch.randn(4)}, path)
    return path.read_bytes()


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_flipped_bytes(sound: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Whatever a flipped byte makes of a file, it is read or refused, and never a traceback."""
    changed = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(sound) - 1))
        changed[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, 3))
    path = tmp_path / "x"
    path.write_bytes(bytes(changed[: len(changed) - cut]))
    try:
        file = SafetensorsFile(path)
        for name in file.tensors:
            file.read(name)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert_the_library_reads(path)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    header=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["a", "dtype", "shape", "data_offsets", "__metadata__"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_header(header: Any, tmp_path: Path) -> None:
    path = build(tmp_path / "x", header)
    try:
        SafetensorsFile(path)
    except UserError as error:
        assert "x is not a valid safetensors file" in str(error)
    else:
        assert_the_library_reads(path)


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x"
    save_file({"a": torch.randn(100)}, path)
    file = SafetensorsFile(path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UserError, match="shorter"):
        file.read("a")
    path.unlink()
    with pytest.raises(UserError, match="cannot read"):
        file.read("a")
