"""Checkpoints that are broken or hostile: one line that names the file, and nothing written."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert import pickle_file
from convert.write import ConversionOptions, convert
from gpt.errors import UserError
from tests.conftest import make_pipe
from tests.convert.conftest import config_of, gpt2, opt, saved, untied_state, written

REPOSITORY = Path(__file__).parents[2]


def refused(source: Path, home: Path, match: str, **options: Any) -> str:
    """Converting fails with one printable-enough line and leaves nothing behind."""
    with pytest.raises(UserError, match=match) as caught:
        convert(str(source), verify=False, options=ConversionOptions(**options))
    models = home / "models"
    assert not models.exists() or not list(models.iterdir())
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound checkpoint."""
    return saved(gpt2(), tmp_path / "theirs")


def change_config(source: Path, **changes: Any) -> None:
    """Edit config.json; a value of ... takes the key out."""
    path = source / "config.json"
    values = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not ...}))


# Tensors that do not fit


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    for i, (model, name) in enumerate(
        ((gpt2(), "transformer.h.1.mlp.c_fc.bias"), (opt(), "model.decoder.layers.0.fc2.weight"))
    ):
        state = untied_state(model)
        del state[name]
        source = written(tmp_path / f"{i}", config_of(model), state)
        refused(source, tmp_path, name.removeprefix("transformer.").removeprefix("model.decoder."))


def test_an_unknown_tensor_is_named(tmp_path: Path) -> None:
    model = gpt2()
    for i, name in enumerate(("transformer.h.0.attn.rotary.inv_freq", "reward.weight", "x\x1b[2J")):
        state = untied_state(model) | {name: torch.zeros(2)}
        found = refused(
            written(tmp_path / f"{i}", config_of(model), state), tmp_path, "not a tensor"
        )
        assert repr(name) in found
        assert "\x1b" not in found


def test_layers_beyond_the_configuration_are_an_error(tmp_path: Path) -> None:
    model = gpt2(n_layer=3)
    source = written(tmp_path / "x", config_of(model, n_layer=2), untied_state(model))
    refused(source, tmp_path, r"h\.2\..* says 2 layers")


@pytest.mark.parametrize("number", ["03", "-1", "٣", "1000000000"])
def test_a_layer_that_is_no_number(number: str, tmp_path: Path) -> None:
    model = gpt2()
    state = untied_state(model) | {f"transformer.h.{number}.ln_1.bias": torch.zeros(16)}
    refused(written(tmp_path / "x", config_of(model), state), tmp_path, "not a tensor of a gpt2")


@pytest.mark.parametrize(
    ("field", "value"),
    [("vocab_size", 299), ("n_positions", 47), ("n_embd", 32), ("n_inner", 60), ("n_layer", 3)],
)
def test_shapes_that_contradict_the_configuration(
    field: str, value: int, source: Path, tmp_path: Path
) -> None:
    change_config(source, **{field: value})
    refused(source, tmp_path, "config.json asks for|lacks")


def test_the_same_parameter_under_two_names(tmp_path: Path) -> None:
    model = gpt2()
    state = untied_state(model)
    state["wte.weight"] = state["transformer.wte.weight"]
    refused(written(tmp_path / "x", config_of(model), state), tmp_path, "same parameter")


def test_a_norm_that_the_configuration_denies(tmp_path: Path) -> None:
    model = opt()
    config = config_of(model, do_layer_norm_before=False)
    refused(written(tmp_path / "a", config, untied_state(model)), tmp_path, "has no place")
    config = config_of(model, enable_bias=False)
    refused(written(tmp_path / "b", config, untied_state(model)), tmp_path, "has no place")


def test_santacoder_is_refused_as_multi_query(tmp_path: Path) -> None:
    model = gpt2()
    state = untied_state(model)
    for i in range(2):
        state[f"transformer.h.{i}.attn.c_attn.weight"] = torch.zeros(16, 16 + 2 * 4)
        state[f"transformer.h.{i}.attn.c_attn.bias"] = torch.zeros(16 + 2 * 4)
    refused(written(tmp_path / "x", config_of(model), state), tmp_path, "multi-query")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    model = gpt2()
    state = untied_state(model)
    state["transformer.h.0.mlp.c_fc.weight"] = torch.zeros(16, 64).to(dtype)
    for kind in ("bin", "safetensors"):
        source = written(tmp_path / kind, config_of(model), state, kind)
        refused(source, tmp_path, "quantised")


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_numbers_that_are_none(bad: float, dtype: torch.dtype, tmp_path: Path) -> None:
    model = gpt2().to(dtype)  # type: ignore[arg-type]
    state = untied_state(model)
    state["transformer.h.1.mlp.c_proj.weight"][3, 3] = bad
    source = written(tmp_path / "x", config_of(model), state, "safetensors")
    refused(source, tmp_path, r"h\.1\.mlp\.c_proj\.weight.*NaN or Inf")


def test_numbers_that_float16_cannot_hold(tmp_path: Path) -> None:
    model = gpt2()
    state = untied_state(model)
    state["transformer.wte.weight"][0, 0] = 1e6
    source = written(tmp_path / "x", config_of(model), state)
    refused(source, tmp_path, "too large for float16", dtype="float16")


# Names that training left


LEFT = {
    "FSDP": ("_fsdp_wrapped_module.transformer.h.0.ln_1.weight", "FSDP.*FULL_STATE_DICT"),
    "FSDP inside": ("transformer.h.0._fsdp_wrapped_module.ln_1.weight", "FSDP.*FULL_STATE_DICT"),
    "FSDP flat": ("transformer.h.0._flat_param", "FSDP"),
    "peft": ("base_model.model.transformer.h.0.ln_1.weight", "peft.*merge_and_unload"),
    "peft in DDP": ("module.base_model.model.transformer.h.0.ln_1.weight", "merge_and_unload"),
    "LoRA A": ("transformer.h.0.attn.c_attn.lora_A.default.weight", "merge the adapter"),
    "LoRA B": ("base_model.model.transformer.h.0.attn.c_attn.lora_B.weight", "merge the adapter"),
    "base layer": ("transformer.h.0.attn.c_attn.base_layer.weight", "merge the adapter"),
}


@pytest.mark.parametrize(("name", "match"), LEFT.values(), ids=LEFT)
def test_what_training_left_is_refused_with_what_to_do(
    name: str, match: str, tmp_path: Path
) -> None:
    model = gpt2()
    state = untied_state(model) | {name: torch.ones(16)}
    message = refused(written(tmp_path / "x", config_of(model), state), tmp_path, match)
    assert repr(name) in message


@pytest.mark.parametrize("make", [gpt2, opt])
@pytest.mark.parametrize("kind", ["bin", "safetensors"])
def test_the_empty_tensors_of_zero_3(make: Callable[[], Any], kind: str, tmp_path: Path) -> None:
    model = make()
    state = {name: torch.empty(0) for name in untied_state(model)}
    source = written(tmp_path / "x", config_of(model), state, kind)
    refused(source, tmp_path, r"ZeRO-3.*zero_to_fp32\.py")


# Configurations


HOSTILE = [
    {"n_positions": 10**12},
    {"n_positions": 2**31 - 1},
    {"vocab_size": 2**31 - 1, "n_embd": 2**31 - 4},
    {"vocab_size": -1},
    {"vocab_size": 0},
    {"n_layer": -1},
    {"n_layer": 10**9},
    {"n_layer": 10**400},
    {"n_head": 3},
    {"n_head": 0},
    {"n_head": "4"},
    {"n_head": 4.0},
    {"n_head": True},
    {"n_embd": None, "hidden_size": 10**10},
    {"n_embd": 16, "hidden_size": 17},
    {"n_inner": 10**10},
    {"n_inner": [1]},
    {"layer_norm_epsilon": float("nan")},
    {"layer_norm_epsilon": float("inf")},
    {"layer_norm_epsilon": -1e-5},
    {"layer_norm_epsilon": "1e-5"},
    {"layer_norm_epsilon": 10**400},
    {"activation_function": "xielu"},
    {"activation_function": "a" * 10**5},
    {"activation_function": {"gelu": 1}},
    {"scale_attn_weights": "yes"},
    {"tie_word_embeddings": 1},
    {"model_type": "btlm"},
    {"model_type": "gpt_bigcode"},
    {"model_type": "\x1b]52;c;aGk=\x07"},
    {"model_type": ["gpt2"]},
    {"quantization_config": {"quant_method": "gptq"}},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=[ascii(c)[:40] for c in HOSTILE])
def test_hostile_configurations(changes: dict[str, Any], source: Path, tmp_path: Path) -> None:
    change_config(source, **changes)
    message = refused(source, tmp_path, "config.json|model")
    assert len(message) < 600
    assert "\x1b" not in message


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "[" * 100_000, '{"a":' * 100_000, "\xff", " " * (1 << 22) + "{}"],
)
def test_configurations_that_are_none(text: str, source: Path, tmp_path: Path) -> None:
    (source / "config.json").write_bytes(text.encode("latin-1"))
    refused(source, tmp_path, "config.json")


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of addresses is Linux's")
def test_hostile_sizes_take_no_memory(source: Path, tmp_path: Path) -> None:
    """4 GB of addresses are enough to refuse what claims terabytes."""
    code = (
        "import resource, json, sys, pathlib\n"
        "from convert.write import convert\n"
        "from gpt.errors import UserError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "good = json.loads((path / 'config.json').read_text())\n"
        "for bad in ({'n_positions': 2**31 - 1}, {'vocab_size': 2**30, 'n_embd': 2**20},\n"
        "            {'n_layer': 1024}, {'n_inner': 2**31 - 1}, {'n_embd': 2**30}):\n"
        "    (path / 'config.json').write_text(json.dumps({**good, **bad}))\n"
        "    try:\n"
        "        convert(str(path), verify=False)\n"
        "        sys.exit(f'{bad} was converted')\n"
        "    except UserError as error:\n"
        "        print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(source)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 5


# Files


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("tf_model.h5", "tf_model.h5: TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("model.Q4_K_M.gguf", "GGUF"),
        ("model.onnx", "ONNX"),
        ("adapter_model.safetensors", "adapter"),
        ("adapter_model.bin", "adapter"),
        ("model.ckpt.index", "TensorFlow"),
        ("rust_model.ot", "Rust"),
        ("model-00001-of-00002.safetensors", "not the index"),
        ("consolidated.00.pth", "its files are: .*consolidated.00.pth"),
    ],
)
def test_other_kinds_of_weights_are_named(
    name: str, match: str, source: Path, tmp_path: Path
) -> None:
    (source / "model.safetensors").rename(source / name)
    refused(source, tmp_path, match)


def test_no_configuration(source: Path, tmp_path: Path) -> None:
    (source / "config.json").unlink()
    refused(source, tmp_path, "has no config.json")


def test_no_tokenizer(source: Path, tmp_path: Path) -> None:
    (source / "merges.txt").unlink()
    (source / "vocab.json").rename(source / "vocab.txt")
    refused(source, tmp_path, "has no tokenizer .*vocab.txt.*save_pretrained")


def test_a_tokenizer_of_more_tokens_than_the_network(tmp_path: Path) -> None:
    source = saved(gpt2(vocab_size=262), tmp_path / "theirs")
    refused(source, tmp_path, "has ids up to 262, but the network has only 262")


def index(source: Path, table: Any, **more: Any) -> None:
    """Put an index in the place of the single file."""
    text = json.dumps({"weight_map": table, **more})
    (source / "model.safetensors.index.json").write_text(text)


@pytest.fixture
def shard(source: Path) -> tuple[Path, dict[str, str]]:
    """The checkpoint as a single shard, and its true index."""
    (source / "model.safetensors").rename(source / "a.safetensors")
    table = dict.fromkeys(untied_state(gpt2()), "a.safetensors")
    return source, table


@pytest.mark.parametrize(
    "place",
    [
        "../a.safetensors",
        "/etc/passwd",
        "b/../a.safetensors",
        "..",
        ".",
        "",
        "a\\b",
        "a\0b",
        "a" * 300,
        "ä" * 150,
        7,
        None,
    ],
)
def test_indexes_that_lead_outside(
    place: Any, shard: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    source, table = shard
    (source.parent / "a.safetensors").write_bytes((source / "a.safetensors").read_bytes())
    index(source, {**table, "transformer.wte.weight": place})
    refused(source, tmp_path, "names .*not a file next to it")


@pytest.mark.parametrize("table", [None, [], {}, "x"])
def test_indexes_without_a_table(
    table: Any, shard: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    index(shard[0], table)
    refused(shard[0], tmp_path, "no weight_map")


def test_an_index_of_what_is_not_there(shard: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    source, table = shard
    index(source, {**table, "transformer.wte.weight": "b.safetensors"})
    refused(source, tmp_path, "b.safetensors is missing")
    index(source, {**table, "transformer.h.7.ln_1.bias": "a.safetensors"})
    refused(source, tmp_path, r"index says .*h\.7\.ln_1\.bias")


def test_a_tensor_in_two_shards(shard: tuple[Path, dict[str, str]], tmp_path: Path) -> None:
    source, table = shard
    (source / "b.safetensors").write_bytes((source / "a.safetensors").read_bytes())
    index(source, {**table, "transformer.ln_f.bias": "b.safetensors"})
    refused(source, tmp_path, "left over from another checkpoint")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.json"])
def test_links_that_lead_out(name: str, source: Path, tmp_path: Path) -> None:
    secret = tmp_path / "elsewhere"
    (source / name).rename(secret)
    (source / name).symlink_to(secret)
    refused(source, tmp_path, f"{name} is a link that leads out")


def test_a_weight_file_that_is_no_file(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    make_pipe(source / "model.safetensors")
    refused(source, tmp_path, "missing or is not a file")


@pytest.mark.parametrize("how", ["pipe", "device", "loop", "dangling", "directory"])
@pytest.mark.parametrize(
    "name",
    [
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "vocab.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    ],
)
def test_what_is_no_file_is_named(name: str, how: str, source: Path, tmp_path: Path) -> None:
    path = source / name
    path.unlink(missing_ok=True)
    if how == "pipe":
        make_pipe(path)
    elif how == "directory":
        path.mkdir()
    else:
        path.symlink_to({"device": "/dev/zero", "loop": name, "dangling": "gone"}[how])
    message = refused(source, tmp_path, name)
    assert how != "dangling" or "link to a file that is gone" in message


def test_a_place_whose_name_is_too_long(source: Path, tmp_path: Path) -> None:
    refused(source, tmp_path, "cannot be used: File name too long", out=tmp_path / ("x" * 300))


def test_a_file_larger_than_any_tokenizer(source: Path, tmp_path: Path) -> None:
    with (source / "vocab.json").open("r+") as file:
        file.truncate(1 << 40)
    refused(source, tmp_path, "vocab.json has .* bytes; at most")


# Pickles


class Payload:
    """Runs a program where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("new", [True, False])
def test_a_payload_does_nothing(new: bool, source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    state: dict[str, Any] = {**untied_state(gpt2()), "x": Payload(tmp_path / "mark")}
    file = source / "pytorch_model.bin"
    torch.save(state, file, _use_new_zipfile_serialization=new)
    message = refused(source, tmp_path, "is not loaded")
    assert "weights_only" not in message
    file.write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    refused(source, tmp_path, "pytorch_model.bin")
    assert not (tmp_path / "mark").exists()


def test_an_old_torch_reads_no_pickle(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(untied_state(gpt2()), source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()
    monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
    refused(source, tmp_path, "torch 2.9.1.*install torch 2.10")


def test_a_tensor_that_claims_more_than_its_file(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    state = untied_state(gpt2())
    state["transformer.wte.weight"] = torch.zeros(1).expand(10**12)
    torch.save(state, source / "pytorch_model.bin")
    refused(source, tmp_path, r"wte\.weight.*larger than the file")


def test_a_compressed_pickle(source: Path, tmp_path: Path) -> None:
    torch.save(untied_state(gpt2()), tmp_path / "plain.bin")
    with (
        zipfile.ZipFile(tmp_path / "plain.bin") as plain,
        zipfile.ZipFile(source / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for entry in plain.infolist():
            packed.writestr(entry.filename, plain.read(entry))
    (source / "model.safetensors").unlink()
    refused(source, tmp_path, "is compressed")


@pytest.mark.parametrize(
    "contents",
    [{"a": 1}, {1: torch.zeros(1)}, [torch.zeros(1)], torch.zeros(1), {"model": {"a": 1}}, {}],
    ids=["number", "key", "list", "tensor", "nested", "nothing"],
)
def test_pickles_that_are_no_table_of_tensors(contents: Any, source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    torch.save(contents, source / "pytorch_model.bin")
    refused(source, tmp_path, "holds")


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04", b"<!DOCTYPE html>", b"version https://git-lfs", b"\x80\x02.", b"\0" * 99],
)
def test_pickles_that_are_none(data: bytes, source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    (source / "pytorch_model.bin").write_bytes(data)
    refused(source, tmp_path, "pytorch_model.bin")


@pytest.mark.parametrize("size", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_pickle(size: float, source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    file = source / "pytorch_model.bin"
    torch.save(untied_state(gpt2()), file)
    file.write_bytes(file.read_bytes()[: int(size * file.stat().st_size)])
    refused(source, tmp_path, "pytorch_model.bin")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    """Sound files in the newer and in the older format."""
    found = {}
    for new in (True, False):
        file = tmp_path_factory.mktemp("sound") / "pytorch_model.bin"
        tensors = {"a": torch.randn(3, 2), "b": torch.randn(4).half()}
        torch.save(tensors, file, _use_new_zipfile_serialization=new)
        found[new] = file.read_bytes()
    return found


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@pytest.mark.parametrize("new", [True, False])
def test_flipped_bytes_in_a_pickle(
    new: bool, sound: dict[bool, bytes], tmp_path: Path, data: st.DataObject
) -> None:
    """Whatever a flipped byte makes of a file, it is read or refused, and never a traceback."""
    changed = bytearray(sound[new])
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(bytes(changed))
    try:
        file = pickle_file.PickleFile(path)
        for name in file.tensors:
            list(file.pieces(name))
    except UserError as error:
        assert "pytorch_model.bin" in str(error)
        assert "\n" not in str(error)
