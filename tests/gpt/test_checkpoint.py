from __future__ import annotations

import json
import os
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gpt import models
from gpt.atomic_directory import replacing
from gpt.checkpoint import damaged, load, load_network, save
from gpt.errors import UserError
from gpt.interpret.matrix import row_blocks
from gpt.tokenizer import CharTokenizer
from gpt.weights import read
from gpt.weights.quantize import DTYPES
from tests.conftest import CHARACTERS, random_model
from tests.gpt.test_quantize import VARIANTS


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tied": False, "positions": "rotary", "gated": True, "norm": "rmsnorm", "bias": False},
        {"embd_dim": 8, "norm_first": False, "final_norm": False},
        {"n_layer": 0, "positions": "rotary"},
        VARIANTS["llama"],
        VARIANTS["qwen"],
        VARIANTS["neox"],
    ],
)
def test_saved_and_loaded_is_the_same(tmp_path: Path, changes: dict[str, object]) -> None:
    model = random_model(**changes)
    save(tmp_path / "m", model, CharTokenizer(CHARACTERS), origin={"kind": "test"})
    again = load(tmp_path / "m")
    assert again.model.config == model.config
    assert again.name == "m"
    assert again.manifest.origin == {"kind": "test"}
    ids = torch.randint(29, (1, 9))
    assert torch.equal(again.model(ids), model(ids))
    assert damaged(tmp_path / "m") == []


@pytest.mark.parametrize("dtype", models.DTYPES)
def test_weights_are_stored_and_loaded_in_every_dtype(tmp_path: Path, dtype: str) -> None:
    save(tmp_path / "m", random_model(), CharTokenizer(CHARACTERS), dtype=dtype)
    assert load(tmp_path / "m", dtype="stored").model.wte.weight.dtype == DTYPES[dtype]
    assert load(tmp_path / "m", dtype="float32").model.wte.weight.dtype == torch.float32
    n_params = sum(weight.numel() for weight in random_model().parameters())
    assert models.read_manifest(tmp_path / "m").n_params == n_params


@pytest.mark.parametrize("stored", models.DTYPES)
@pytest.mark.parametrize("asked", models.MEMORY_DTYPES)
def test_any_dtype_is_read_as_any_other(
    tmp_path: Path, stored: str, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(read, "PIECE", 100)  # several pieces a matrix
    model = random_model(tied=False)
    save(tmp_path / "m", model, CharTokenizer(CHARACTERS), dtype=stored)
    again: Any = load(tmp_path / "m", dtype=asked).model
    found, exact = torch.cat(list(row_blocks(again.h[1].mlp.fc))), model.h[1].mlp.fc.weight
    assert again.h[1].mlp.fc.weight.dtype == (torch.uint8 if asked == "int4" else DTYPES[asked])
    steps = 15 if asked == "int4" else 127
    torch.testing.assert_close(found, exact, atol=1.2 / steps, rtol=1 / steps)
    assert again.h[1].ln_1.weight.dtype == torch.float32
    for name, exact in model.named_parameters():
        if exact.dim() == 1:
            torch.testing.assert_close(again.get_parameter(name), exact, atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_int8_files_are_not_rounded_again(tmp_path: Path, packed: bool) -> None:
    save(tmp_path / "m", random_model(), CharTokenizer(CHARACTERS), dtype="int8")
    exact, found = (
        load(tmp_path / "m", dtype=dtype, packed=packed).model for dtype in ("float32", "int8")
    )
    for name in ("wte", "h.1.mlp.proj"):
        numbers = torch.cat(list(row_blocks(found.get_submodule(name))))
        assert torch.equal(numbers, exact.get_parameter(f"{name}.weight"))


def test_the_manifest_names_the_loud_columns(tmp_path: Path) -> None:
    columns = {"h.0.mlp.fc": "x -1 999 15 7 7 3", "wte": 5, "h.1.mlp.fc": ["3"]}
    model = random_model()
    model.h[0].mlp.fc.weight[2, 15] = 5e4
    save(tmp_path / "m", model, CharTokenizer(CHARACTERS), origin={"loud_columns": columns})
    found: Any = load(tmp_path / "m", dtype="int8").model
    n = len(found.wte.columns)
    assert found.h[0].mlp.fc.columns[:, 0].tolist() == [15, 7]
    assert found.wte.columns[:, 0].tolist() == list(range(n))
    numbers = torch.cat(list(row_blocks(found.h[0].mlp.fc)))
    torch.testing.assert_close(numbers, model.h[0].mlp.fc.weight, atol=1e-2, rtol=1e-2)


def test_numbers_that_float16_cannot_store_are_an_error(tmp_path: Path) -> None:
    model = random_model()
    model.h[0].mlp.fc.weight[3, 4] = 1e6
    save(tmp_path / "m", model, CharTokenizer(CHARACTERS))
    with pytest.raises(UserError, match="float16 cannot"):
        load(tmp_path / "m", dtype="float16")
    load(tmp_path / "m", dtype="bfloat16")


def test_a_tied_matrix_is_stored_once(tiny_directory: Path) -> None:
    manifest = models.read_manifest(tiny_directory)
    assert manifest.n_params == sum(weight.numel() for weight in random_model().parameters())


@pytest.mark.skipif(
    not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="needs Linux's large pages"
)
@pytest.mark.parametrize("dtype", models.DTYPES)
def test_weights_lie_side_by_side_in_large_pages(tmp_path: Path, dtype: str) -> None:
    save(tmp_path / "m", random_model(n_embd=512, n_head=8), CharTokenizer(CHARACTERS))
    loaded = load(tmp_path / "m", dtype=dtype)
    areas = re.findall(
        r"^([0-9a-f]+)-([0-9a-f]+) .*?^VmFlags:(.*?)$",
        Path("/proc/self/smaps").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    large = [(int(begin, 16), int(end, 16)) for begin, end, flags in areas if " hg" in flags]
    addresses = [weight.data_ptr() for weight in loaded.model.parameters()]
    assert all(address % 64 == 0 for address in addresses)
    # A neighbour with the same properties may be part of the area.
    assert any(begin <= min(addresses) <= max(addresses) < end for begin, end in large)


def test_weights_that_shrink_while_they_are_read_are_an_error(tiny_directory: Path) -> None:
    header = read.read_header(tiny_directory / "model.safetensors")
    size = (tiny_directory / "model.safetensors").stat().st_size
    os.truncate(tiny_directory / "model.safetensors", size - 1)
    with pytest.raises(OSError, match="ends early"):
        read.read_weights(tiny_directory / "model.safetensors", header, random_model())


def test_the_old_weights_stay_readable_while_they_are_replaced(tiny_directory: Path) -> None:
    loaded = load(tiny_directory)
    before = loaded.model.wte.weight.clone()
    save(tiny_directory, random_model(n_embd=32), CharTokenizer(CHARACTERS))
    assert torch.equal(loaded.model.wte.weight, before)
    assert load(tiny_directory).model.config.n_embd == 32


def test_a_failed_write_leaves_the_old_one_and_nothing_else(tiny_directory: Path) -> None:
    before = sorted(tiny_directory.parent.rglob("*"))
    with pytest.raises(KeyboardInterrupt), replacing(tiny_directory) as draft:
        (draft / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt
    with pytest.raises(UserError, match="No space left"), replacing(tiny_directory):
        raise OSError(28, "No space left on device")
    assert sorted(tiny_directory.parent.rglob("*")) == before
    load(tiny_directory)


def test_a_directory_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    with pytest.raises(UserError, match="is not a checkpoint"):
        save(tmp_path / "photos", random_model(), CharTokenizer(CHARACTERS))
    assert (tmp_path / "photos" / "cat.jpg").read_bytes() == b"cat"


def test_files_have_the_mode_of_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        save(tmp_path / "m", random_model(), CharTokenizer(CHARACTERS))
    finally:
        os.umask(old)
    for path in (tmp_path / "m").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path


def edit(directory: Path, name: str, **changes: object) -> None:
    path = directory / name
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    manifest = json.loads((directory / "manifest.json").read_text())
    if name in manifest["files"]:
        manifest["files"][name]["size"] = path.stat().st_size
        (directory / "manifest.json").write_text(json.dumps(manifest))


def test_one_flipped_byte_is_found(tiny_directory: Path) -> None:
    path = tiny_directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert damaged(tiny_directory) == ["model.safetensors"]


def test_a_truncated_file_is_refused(tiny_directory: Path) -> None:
    path = tiny_directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"model\.safetensors is missing or does not have"):
        load(tiny_directory)


def test_weights_that_do_not_fit_the_configuration_are_refused(tiny_directory: Path) -> None:
    edit(tiny_directory, "config.json", block_size=31)
    with pytest.raises(UserError, match=r"wpe\.weight is \(32, 16\) in the file and \(31, 16\)"):
        load(tiny_directory)
    edit(tiny_directory, "config.json", block_size=32, n_layer=3)
    with pytest.raises(UserError, match=r"h\.2\.\S+ is missing in the file"):
        load(tiny_directory)


def test_a_hostile_configuration_is_refused_before_anything_is_allocated(
    tiny_directory: Path,
) -> None:
    edit(tiny_directory, "config.json", block_size=2_000_000_000)
    with pytest.raises(UserError, match=r"wpe\.weight"):
        load(tiny_directory)
    edit(tiny_directory, "config.json", block_size=10**12)
    with pytest.raises(UserError, match=r"config\.json: the model's block_size"):
        load(tiny_directory)


@pytest.mark.parametrize("junk", [b"", b"nonsense" * 100, b"\xff" * 8 + b"{}"])
def test_a_file_that_is_not_weights_is_one_sentence(tiny_directory: Path, junk: bytes) -> None:
    (tiny_directory / "model.safetensors").write_bytes(junk)
    manifest = json.loads((tiny_directory / "manifest.json").read_text())
    manifest["files"]["model.safetensors"]["size"] = len(junk)
    edit(tiny_directory, "manifest.json", files=manifest["files"])
    with pytest.raises(UserError, match=r"model\.safetensors is not a valid safetensors file"):
        load(tiny_directory)


def test_weights_in_a_dtype_that_we_never_write_are_refused(tiny_directory: Path) -> None:
    path = tiny_directory / "model.safetensors"
    tensors = {name: tensor.double() for name, tensor in load_file(path).items()}
    save_file(tensors, path)
    with pytest.raises(UserError, match="as float64, which our checkpoints never use"):
        load_network(tiny_directory)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000, '{"format_version": 2}'])
def test_a_manifest_that_cannot_be_believed_is_one_sentence(
    tiny_directory: Path, text: str
) -> None:
    (tiny_directory / "manifest.json").write_text(text)
    with pytest.raises(UserError, match="manifest"):
        load(tiny_directory)


def test_models_of_the_working_directory_are_listed(
    tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("mine", "tiny", "notes"):
        (tmp_path / name).mkdir()
    shutil.copytree(tiny_directory, tmp_path / "mine", dirs_exist_ok=True)
    shutil.copytree(tiny_directory, tmp_path / "tiny", dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    assert list(models.available()) == ["shakespeare", "tiny", "mine"]
    assert models.find("mine") == Path("mine")
    assert models.find("tiny") == tiny_directory  # the user's own models come first


def test_models_are_found_by_name_and_by_path(tiny_directory: Path, tmp_path: Path) -> None:
    assert models.find("tiny") == tiny_directory
    assert models.find(str(tiny_directory)) == tiny_directory
    assert "tiny" in models.available()
    (models.home() / ".draft").mkdir()
    (models.home() / "notes").mkdir()
    assert not {".draft", "notes"} & set(models.available())
    with pytest.raises(UserError, match=r"no model 'nope'; installed: .*tiny; `python -m convert"):
        models.find("nope")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    with pytest.raises(UserError, match=r"is not a checkpoint of .*: it has no manifest\.json$"):
        models.find(str(theirs))
    (theirs / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"is not a checkpoint of .*; convert it first: python -m"):
        models.find(str(theirs))
    shutil.copytree(tiny_directory, tmp_path / "m.run" / "last")
    with pytest.raises(UserError, match=r"its latest weights are .*m\.run.last$"):
        models.find(str(tmp_path / "m.run"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gpt2", "; installed: shakespeare, tiny; `python -m convert gpt2` downloads it"),
        ("gtp2", " (did you mean gpt2?); installed: shakespeare, tiny; `python -m convert gpt2` "),
        ("SmolLM2-135M", "; `python -m convert HuggingFaceTB/SmolLM2-135M` downloads it"),
        ("nobody", "; `python -m convert NAME` downloads one from the Hugging Face hub, such as "),
        ("tinny", " (did you mean tiny?); installed: shakespeare, tiny"),
    ],
)
@pytest.mark.usefixtures("tiny_directory")
def test_an_unknown_model_is_refused_with_how_to_get_it(name: str, sentence: str) -> None:
    with pytest.raises(models.NoSuchModelError) as refused:
        models.find(name)
    said = str(refused.value)
    assert sentence in said
    assert ("python -m convert" in said) == ("convert" in sentence)
    assert said.startswith(refused.value.missing)
    assert refused.value.missing.startswith(f"there is no model {name!r}")
    assert refused.value.missing.endswith("; installed: shakespeare, tiny")


def test_the_default_home_is_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GPT_TUI_HOME")
    assert models.home().parts[-2:] == ("gpt-tui", "models")
