"""GGUF files: every architecture and type computes what transformers computes."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.gguf_file import GgufFile, View
from convert.gguf_header import TYPES, read_header
from convert.gguf_source import unpack
from convert.source import locate
from convert.write import ConversionOptions, convert
from gpt.checkpoint import load
from gpt.errors import UserError
from gpt.models import read_manifest, source_of
from tests.convert import hub_server
from tests.convert.conftest import N_ORDINARY, gpt2, llama_like, ours, theirs
from tests.convert.gguf_files import Array, byte_level, write_gguf
from tests.convert.hub_server import Hub

hub, pauses = hub_server.hub, hub_server.pauses  # fixtures
Converted = Callable[..., tuple[Path, list[str]]]

NEOX = {"num_key_value_heads": None, "head_dim": None, "hidden_size": 32}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama with all heads": ("llama", {"num_key_value_heads": None}),
    "llama head size": ("llama", {"head_dim": 6, "rms_norm_eps": 1e-3}),
    "llama biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama linear": ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {"head_dim": None}),
    "qwen2 tied": ("qwen2", {"head_dim": None, "tie_word_embeddings": True}),
    "qwen3": ("qwen3", {"head_dim": 10}),
    "neox": ("gpt_neox", NEOX),
    "neox sequential": ("gpt_neox", {**NEOX, "use_parallel_residual": False, "rotary_pct": 0.5}),
    "neox rounding": ("gpt_neox", {**NEOX, "hidden_size": 392, "rotary_pct": 94.5 / 98}),
    "neox without attention bias": ("gpt_neox", {**NEOX, "attention_bias": False}),
}
IDS = torch.randint(300, (1, 48), generator=torch.Generator().manual_seed(3))
ODD_TEXTS = (
    *(
        "",
        " ",
        "hello world",
        "  two  blanks",
        "1234 5,678 Ⅷ ½ ٣",
        "tab\tand\r\n\n line",
        "naïve e\u0301",
    ),
    *(
        "東京タワー 😀 🇩🇪",
        "I'm they'LL 'tis",
        "x=1;y+=2**10",
        "a <tag> b<tag>",
        "<|end|> </s>",
        "\x00\x7f",
    ),
)


@pytest.mark.parametrize(("kind", "changes"), VARIANTS.values(), ids=VARIANTS)
def test_variants(kind: str, changes: dict[str, Any], tmp_path: Path, converted: Converted) -> None:
    model = llama_like(kind, **changes)
    directory, notices = converted(write_gguf(tmp_path / "m.gguf", model))
    assert notices == []
    torch.testing.assert_close(ours(directory, IDS), theirs(model, IDS), atol=1e-4, rtol=0)


@pytest.mark.parametrize("tied", [True, False])
def test_gpt2(tied: bool, tmp_path: Path, converted: Converted) -> None:
    model = gpt2(tie_word_embeddings=tied, n_inner=40)
    directory, _ = converted(write_gguf(tmp_path / "m.gguf", model))
    torch.testing.assert_close(ours(directory, IDS), theirs(model, IDS), atol=1e-4, rtol=0)


@pytest.mark.parametrize("factor", [1.0, 8.0, 32.0])
def test_scaling_of_llama3(factor: float, tmp_path: Path, converted: Converted) -> None:
    """The file holds the factors alone, as llama.cpp's converter computes them."""
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    model = llama_like("llama", head_dim=64, rope_parameters=scaling)
    factors = []
    for i in range(0, 64, 2):
        length = 2 * math.pi * 500000 ** (i / 64)
        smooth = (8192 / length - 1) / (4 - 1)
        middle = 1 / ((1 - smooth) / factor + smooth)
        factors.append(1.0 if length < 8192 / 4 else factor if length > 8192 else middle)
    path = tmp_path / "m.gguf"

    def write(table: list[float]) -> None:
        data = np.array(table, np.float32)
        write_gguf(path, model, change=lambda w: w.add_tensor("rope_freqs.weight", data))

    write(factors)
    directory, _ = converted(path)
    torch.testing.assert_close(ours(directory, IDS), theirs(model, IDS), atol=1e-4, rtol=0)
    write([*factors[:-1], factors[-1] * 1.01])
    with pytest.raises(UserError, match="other factors than Llama 3"):
        converted(path)


def test_quantised_weights(tmp_path: Path, converted: Converted) -> None:
    """The network computes with exactly the numbers that the blocks stand for."""
    model = llama_like("llama", hidden_size=64, head_dim=16, intermediate_size=96)
    path = write_gguf(tmp_path / "m.gguf", model, kind=Kind.Q4_1)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                packed = gguf.quants.quantize(weight.numpy(), Kind.Q4_1)
                weight.copy_(torch.from_numpy(gguf.quants.dequantize(packed, Kind.Q4_1)))
    directory, notices = converted(path)
    assert "quantised (Q4_1); they are unpacked to float32" in notices[0]
    torch.testing.assert_close(ours(directory, IDS), theirs(model, IDS), atol=1e-4, rtol=0)
    assert read_manifest(directory).dtype == "float32"
    half, _ = converted(path, dtype="float16")
    assert read_manifest(half).dtype == "float16"


def test_verification(tmp_path: Path) -> None:
    """transformers computes the same with the tensors of the file, and a wrong one is noticed."""
    for i, model in enumerate((llama_like("qwen3", tie_word_embeddings=True), gpt2())):
        path = write_gguf(tmp_path / f"m{i}.gguf", model, kind=Kind.F16)
        result = convert(str(path), options=ConversionOptions(out=tmp_path / f"out{i}"))
        assert result.verification["status"] == "passed"
        assert result.verification["logits"] < 1e-4


# Types


def scale(block: bytes, at: int = 0) -> float:
    """A number in half precision."""
    return float(np.frombuffer(block, np.float16, 1, at)[0])


def by_hand(kind: str, block: bytes) -> list[float]:
    """The numbers of a block by the definition of its type, one after the other."""
    d = scale(block)
    if kind == "Q8_0":
        return [d * q for q in np.frombuffer(block, np.int8, 32, 2).tolist()]
    has_minimum, bits = kind.endswith("_1"), int(kind[1])
    begin = 4 if has_minimum else 2
    high = int.from_bytes(block[begin : begin + 4], "little") if bits == 5 else 0
    low = block[-16:]
    nibbles = [byte & 15 for byte in low] + [byte >> 4 for byte in low]
    values = [nibble | (high >> i & 1) << 4 for i, nibble in enumerate(nibbles)]
    offset = 0 if has_minimum else 1 << bits - 1
    return [d * (q - offset) + (scale(block, 2) if has_minimum else 0.0) for q in values]


def random_blocks(kind: str, n_rows: int, width: int) -> Array:
    """Bytes of a type, without NaN: halves are written over the places of scales."""
    numbers, n_bytes = gguf.GGML_QUANT_SIZES[Kind[kind]]
    rng = np.random.default_rng(1)
    data = rng.integers(0, 256, (n_rows * width // numbers, n_bytes), np.uint8)
    if kind in ("F32", "F16", "BF16"):
        plain = rng.standard_normal(n_rows * width).astype(np.float32)
        return gguf.quants.quantize(plain.reshape(n_rows, width), Kind[kind]).view(np.uint8)
    places = {"Q2_K": (80, 82), "Q3_K": (108,), "Q6_K": (208,), "Q4_K": (0, 2), "Q5_K": (0, 2)}
    for at in places.get(kind, (0, 2) if kind.endswith("_1") else (0,)):
        halves = rng.standard_normal(len(data)).astype(np.float16)
        data[:, at : at + 2] = halves.view(np.uint8).reshape(-1, 2)
    return data.reshape(n_rows, -1)


@pytest.mark.parametrize("kind", TYPES)
def test_types(kind: str, tmp_path: Path) -> None:
    """In one piece or several, with and without another order of rows, and transposed."""
    n_rows, width = 1100, 512  # more numbers than a piece
    data = random_blocks(kind, n_rows, width)
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "llama")
    writer.add_tensor("first", np.ones(3, np.float32))
    writer.add_tensor("x", data, raw_dtype=Kind[kind])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    order = torch.arange(n_rows).flip(0)
    views = {
        "plain": View("x"),
        "rows": View("x", lambda n: order[:n]),
        "transposed": View("x", transposed=True),
    }
    file = GgufFile(read_header(tmp_path / "m.gguf"), views)
    expected = torch.from_numpy(gguf.quants.dequantize(data, Kind[kind])).view(n_rows, width)
    assert file.tensors["transposed"].shape == (width, n_rows)
    for name, wanted in (
        ("plain", expected),
        ("rows", expected[order]),
        ("transposed", expected.T),
    ):
        assert torch.equal(file.read(name).float(), wanted)
        pieces = list(file.pieces(name))
        assert len(pieces) > 1
        assert torch.equal(torch.cat(pieces).float(), wanted.flatten())
    if kind in ("Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"):
        size = gguf.GGML_QUANT_SIZES[Kind[kind]][1]
        block = data.reshape(-1, size)[-1].tobytes()
        np.testing.assert_allclose(file.read("plain")[-1, -32:], by_hand(kind, block), rtol=1e-5)


def test_memory_stays_near_a_piece(tmp_path: Path) -> None:
    n_rows, width = 2048, 2048
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_tensor("x", random_blocks("Q4_K", n_rows, width), raw_dtype=Kind.Q4_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GgufFile(read_header(path), {"x": View("x")})
    next(file.pieces("x"))  # imports
    tracemalloc.start()
    total = sum(piece.abs().sum().item() for piece in file.pieces("x"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total > 0
    assert peak < 12e6  # as float32 the tensor is 17 MB


# Where it comes from


def test_from_a_directory_and_from_the_hub(hub: Hub, tmp_path: Path, converted: Converted) -> None:
    path = write_gguf(tmp_path / "Tiny.Q8.gguf", llama_like("llama"))
    direct, _ = converted(path)
    origin = read_manifest(direct).origin
    assert (origin["kind"], origin["model"]) == ("file", str(path))
    named, _ = converted(tmp_path, file=path.name)
    content = path.read_bytes()
    hub.repositories["someone/tiny"] = {"sub/a.gguf": content, "b.gguf": b"x", "README.md": b""}
    fetched = convert(
        "someone/tiny",
        verify=False,
        options=ConversionOptions(out=tmp_path / "hub", file="sub/a.gguf"),
    ).directory
    assert sorted(hub.fetched()) == ["sub/a.gguf"]
    assert read_manifest(fetched).origin["kind"] == "hub"
    for directory in (named, fetched):
        assert torch.equal(ours(directory), ours(direct))

    for name, file in ((path.name, None), (str(path), "x.gguf"), (str(tmp_path), "x.gguf")):
        with pytest.raises(UserError, match="neither a directory, a GGUF file, nor a name"):
            locate(name, None, lambda event: None, file)
    with pytest.raises(UserError, match=r"no c\.gguf; its GGUF files are: b\.gguf, sub/a\.gguf"):
        locate("someone/tiny", None, lambda event: None, "c.gguf")
    for name in ("../x.gguf", "/x.gguf", "a/../../x.gguf", "model.safetensors", ""):
        with pytest.raises(UserError, match="not the name of a GGUF file"):
            locate("someone/tiny", None, lambda event: None, name)


def test_the_new_model_is_named_like_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GPT_TUI_HOME", str(tmp_path / "home"))
    path = write_gguf(tmp_path / "Tiny.Q8.gguf", llama_like("llama"))
    assert convert(str(path), verify=False).name == "Tiny.Q8"
    source = read_manifest(tmp_path / "home/models/Tiny.Q8").origin["source"]
    assert source == source_of(path) and source["path"] == str(path)


# What is refused


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: w.add_expert_count(8), r"llama\.expert_count to 8"),
        (lambda w: w.add_logit_scale(0.5), r"llama\.logit_scale to 0\.5"),
        (lambda w: w.add_attn_logit_softcapping(30.0), "softcapping"),
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "'yarn'"),
        (lambda w: w.add_uint32("split.count", 3), "a part of a model that was split"),
        (lambda w: w.add_causal_attention(False), r"causal to False"),
        (
            lambda w: w.add_tensor("blk.0.attn_sinks.weight", np.ones(3, np.float32)),
            "'blk.0.attn_sinks.weight', which is not a tensor of a llama model",
        ),
        (
            lambda w: w.add_tensor("blk.9.attn_q.weight", np.ones((16, 16), np.float32)),
            "layers.9.self_attn.q_proj",
        ),
        (
            lambda w: w.add_tensor(
                "blk.0.attn_q.bias", np.zeros(36, np.uint8), raw_dtype=Kind.Q4_0
            ),
            "a vector that is quantised",
        ),
        (
            lambda w: w.add_tensor("more", np.zeros((4, 66), np.uint8), raw_dtype=Kind.IQ2_XXS),
            "'more' in .* is IQ2_XXS; convert reads F32, F16",
        ),
    ],
)
def test_other_networks(
    change: Callable[[gguf.GGUFWriter], None],
    match: str,
    tmp_path: Path,
    converted: Converted,
) -> None:
    path = write_gguf(tmp_path / "m.gguf", llama_like("llama"), change=change)
    with pytest.raises(UserError, match=match):
        converted(path)


def test_unknown_architecture(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(str(tmp_path / "m.gguf"), "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UserError, match="'mamba'; convert reads llama, qwen2, qwen3"):
        unpack(tmp_path / "m.gguf")


# Hostile files


@pytest.fixture(scope="module")
def valid(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A whole file with every part that is read."""
    path = tmp_path_factory.mktemp("valid") / "m.gguf"
    model = llama_like("llama", hidden_size=32, head_dim=8, intermediate_size=32)
    factors = np.ones(4, np.float32)

    def change(writer: gguf.GGUFWriter) -> None:
        writer.add_chat_template("{% for m in messages %}{{ m.role }}{% endfor %}")
        writer.add_tensor("rope_freqs.weight", factors)

    return write_gguf(path, model, kind=Kind.Q8_0, change=change).read_bytes()


def outcome(content: bytes, directory: Path) -> str:
    """What a conversion says; any other exception or much memory fails the test."""
    (directory / "m.gguf").write_bytes(content)
    tracemalloc.start()
    try:
        convert(
            str(directory / "m.gguf"),
            verify=False,
            options=ConversionOptions(out=directory / "out", force=True),
        )
        return "converted"
    except UserError as error:
        assert len(str(error)) < 1200
        return str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64e6


VALUES = st.one_of(
    st.sampled_from([0, 1, 2**15, 2**31 - 1, 2**32 - 1, 2**40, 2**60, 2**63, 2**64 - 1]),
    st.integers(0, 2**64 - 1),
)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_headers(data: st.DataObject, valid: bytes, tmp_path_factory: Any) -> None:
    """Numbers anywhere in the header, of any size; then the end cut off."""
    content = bytearray(valid)
    end = valid.index(b"blk.1.ffn_up.weight") + 100
    for _ in range(data.draw(st.integers(1, 4))):
        width = data.draw(st.sampled_from([1, 4, 8]))
        at = data.draw(st.one_of(st.integers(0, 700), st.integers(0, end)))
        value = data.draw(VALUES) % 256**width
        content[at : at + width] = value.to_bytes(width, "little")
    length = data.draw(st.sampled_from([len(content), len(content) // 2, end, 700, 30]))
    outcome(bytes(content[:length]), tmp_path_factory.mktemp("m"))


def test_lying_counts(valid: bytes, tmp_path: Path) -> None:
    """Each is noticed by name."""

    def changed(at: int, value: int, width: int = 8) -> str:
        content = bytearray(valid)
        content[at : at + width] = value.to_bytes(width, "little")
        return outcome(bytes(content), tmp_path)

    def after(text: bytes) -> int:
        return valid.index(text) + len(text)

    assert outcome(valid, tmp_path) == "converted"
    assert outcome(b"", tmp_path).endswith("it ends within its header; get the file again")
    assert "not a GGUF file" in changed(0, 0, 4)
    assert "version 1 of GGUF" in changed(4, 1, 4)
    assert "big-endian" in changed(4, 3 << 24, 4)
    assert "tensors; at most" in changed(8, 2**60)
    assert "metadata; at most" in changed(16, 2**60)
    assert "claims 1,152,921,504,606,846,976 bytes" in changed(24, 2**60)
    tokens = after(b"tokenizer.ggml.tokens")
    assert "an array in its header claims" in changed(tokens + 8, 2**62)
    assert "is damaged" in changed(tokens + 8, 2**20)
    assert "elements of the unknown type 9" in changed(tokens + 4, 9, 4)
    assert "unknown type 99" in changed(tokens, 99, 4)
    tensor = after(b"blk.0.ffn_up.weight")
    assert "has 1000 dimensions" in changed(tensor, 1000, 4)
    assert "reaches beyond its end" in changed(tensor + 12, 2**50)
    assert "which Q8_0 cannot have" in changed(tensor + 4, 31)
    assert "which Q8_0 cannot have" in changed(tensor + 4, 0)
    assert "of the unknown type 77" in changed(tensor + 20, 77, 4)
    assert "reaches beyond its end" in changed(tensor + 24, 2**63)
    assert "shares bytes with another" in changed(tensor + 24, 0)
    twice = valid.replace(b"blk.0.ffn_up.weight", b"blk.1.ffn_up.weight", 1)
    assert "is there twice" in outcome(twice, tmp_path)
    twice = valid.replace(b"llama.block_count", b"llama.block_coun\xff", 1)
    assert "not UTF-8" in outcome(twice, tmp_path)
    length = after(b"llama.context_length") + 4
    assert f"{tmp_path}/m.gguf/config.json cannot be used" in changed(length, 0, 4)
    assert "lacks llama.block_count" in outcome(
        valid.replace(b"llama.block_count", b"other.block_count", 1), tmp_path
    )


def test_the_reader_of_the_package_agrees(tmp_path: Path) -> None:
    """The same metadata and tensors, where the file is right."""
    path = write_gguf(tmp_path / "m.gguf", llama_like("qwen3"), kind=Kind.F16)
    header, reader = read_header(path), gguf.GGUFReader(path)
    assert set(header.tensors) == {tensor.name for tensor in reader.tensors}
    for tensor in reader.tensors:
        entry = header.tensors[tensor.name]
        assert (entry.kind, entry.offset) == (tensor.tensor_type.name, tensor.data_offset)
        assert (entry.shape, entry.nbytes) == (tuple(tensor.shape[::-1]), tensor.n_bytes)
    for key, field in reader.fields.items():
        if not key.startswith("GGUF."):
            assert header.metadata[key] == pytest.approx(field.contents()), key


# Tokenizers


def test_special_tokens(tmp_path: Path, converted: Converted) -> None:
    tokenizer = byte_level(n_tokens=300, add_bos=True)
    path = write_gguf(
        tmp_path / "m.gguf",
        llama_like("llama"),
        tokenizer,
        change=lambda w: (w.add_eot_token_id(N_ORDINARY + 1), w.add_pad_token_id(N_ORDINARY)),
    )
    directory, _ = converted(path)
    checkpoint = load(directory)
    config = checkpoint.model.config
    assert (config.bos_id, config.eos_id, config.pad_id) == (
        N_ORDINARY + 1,
        N_ORDINARY,
        N_ORDINARY,
    )
    assert read_manifest(directory).origin["also_ends"] == [N_ORDINARY + 1]
    tokenizer_ = checkpoint.tokenizer
    assert N_ORDINARY not in tokenizer_.encode("<|end|>")
    assert tokenizer_.encode("he<tag>") == [256, N_ORDINARY + 2]
    assert tokenizer_.token_bytes(N_ORDINARY + 2) == b"<tag>"
    assert tokenizer_.token_bytes(299) == b""


def test_the_chat_template_is_kept(valid: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(valid)
    gguf_ = unpack(tmp_path / "m.gguf")
    text = (gguf_.directory / "chat_template.jinja").read_text(encoding="utf-8")
    assert text == "{% for m in messages %}{{ m.role }}{% endfor %}"
    config = json.loads((gguf_.directory / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config == {"bos_token": "<|start|>", "eos_token": "<|end|>"}
    directory = gguf_.directory
    del gguf_
    assert not directory.exists()
