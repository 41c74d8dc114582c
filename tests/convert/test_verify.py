"""The comparison with transformers that stands between a conversion and its installation."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from convert.write import ConversionOptions, convert
from gpt.errors import UserError
from gpt.models import read_manifest
from tests.convert.conftest import config_of, gpt2, opt, saved, untied_state, written

verify = importlib.import_module("convert.verify")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound checkpoint."""
    return saved(gpt2(), tmp_path / "theirs")


def test_it_is_on_by_default_and_written_down(source: Path) -> None:
    result = convert(str(source))
    assert result.verification["status"] == "passed"
    assert result.verification["logits"] <= verify.TOLERANCE
    assert result.verification["n_tokens"] == 48  # the block size
    origin = read_manifest(result.directory).origin
    assert origin["verification"] == result.verification
    assert origin["kind"] == "directory"
    assert origin["files"] == {"model.safetensors": (source / "model.safetensors").stat().st_size}


def test_skipping_it_is_written_down(source: Path) -> None:
    directory = convert(str(source), verify=False).directory
    expected = {"status": "skipped", "reason": "--no-verify"}
    assert read_manifest(directory).origin["verification"] == expected


def test_a_model_that_differs_is_not_installed(
    source: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a converter would that mistakes a place: here one number of the draft is changed."""
    load_network = verify.load_network

    def damaged(directory: Path) -> Any:
        file = directory / "model.safetensors"
        tensors = {k: v.clone() for k, v in load_file(file).items()}
        tensors["h.1.mlp.fc.bias"][0] += 0.3
        save_file(tensors, file)
        return load_network(directory)

    monkeypatch.setattr(verify, "load_network", damaged)
    with pytest.raises(UserError, match=r"logits by up to .*nothing was installed"):
        convert(str(source))
    assert list((home / "models").iterdir()) == []


def test_differences_that_are_no_numbers_fail(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def empty(*_: Any) -> tuple[torch.Tensor, str]:
        return torch.full((48, 300), torch.nan), "5"

    monkeypatch.setattr(verify, "_reference", empty)
    with pytest.raises(UserError, match="nan"):
        convert(str(source))


def test_too_little_memory_skips_it_with_a_notice(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify, "available_memory", lambda: 1000)
    events: list[Any] = []
    found = convert(str(source), on_event=events.append).verification
    assert found["status"] == "skipped"
    assert "GB are free" in found["reason"]
    assert any("not verified" in getattr(event, "text", "") for event in events)


def test_unknown_memory_skips_nothing(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "available_memory", lambda: None)
    assert convert(str(source)).verification["status"] == "passed"


def test_memory_is_a_number_of_bytes() -> None:
    found = verify.available_memory()
    assert found is None or 1e6 < found < 1e15


def test_names_that_transformers_does_not_know_skip_it(tmp_path: Path) -> None:
    """It would invent the weights, so there is nothing to compare with."""
    model = gpt2()
    state = {f"module.{name}": tensor for name, tensor in untied_state(model).items()}
    source = written(tmp_path / "theirs", config_of(model), state, "safetensors")
    found = convert(str(source)).verification
    assert found["status"] == "skipped"
    assert "would use random numbers for it" in found["reason"]


def test_what_transformers_cannot_load_skips_it(tmp_path: Path) -> None:
    source = written(tmp_path / "theirs", config_of(gpt2()), untied_state(gpt2()))
    values = json.loads((source / "config.json").read_text())
    del values["model_type"]
    del values["architectures"]
    (source / "config.json").write_text(json.dumps(values))
    found = convert(str(source)).verification
    assert found["status"] == "skipped"
    assert "transformers cannot load it" in found["reason"]


def test_a_contradicting_head_is_verified(tmp_path: Path) -> None:
    model = gpt2(tie_word_embeddings=False)
    state = untied_state(model) | {"lm_head.weight": model.lm_head.weight.detach()}
    config = config_of(model, tie_word_embeddings=True)
    source = written(tmp_path / "theirs", config, state, "safetensors")
    assert convert(str(source)).verification["status"] in ("passed", "skipped")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int8"])
@pytest.mark.parametrize(
    "model", [gpt2(), opt(do_layer_norm_before=False, word_embed_proj_dim=8)], ids=["gpt2", "opt"]
)
def test_rounding_on_request_is_no_difference(model: Any, dtype: str, tmp_path: Path) -> None:
    source = saved(model, tmp_path / "theirs")
    assert (
        convert(str(source), options=ConversionOptions(dtype=dtype)).verification["logits"] < 1e-4
    )
