"""SmolLM2-135M-Instruct in Q4_1, with its real weights. `make real` fetches them and runs this."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import pytest
import torch

from convert.write import ConversionOptions, ConversionResult, convert
from gpt.checkpoint import Checkpoint, load, load_network
from gpt.generate import Limits, generate
from gpt.models import read_manifest
from gpt.settings import Sampling
from tests.real.weights import smollm2

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

PROMPT = "The three largest cities of Japan are Tokyo, which had 13,960,000 people in 2021,"
LLAMA_CPP_IDS = json.loads(
    Path(__file__).with_name("llama_cpp_ids.json").read_text(encoding="utf-8")
)
"""Odd texts and their ids by llama.cpp's own tokenizer (its server's /tokenize, without special
tokens)."""
KL = {"float16": 1e-5, "bfloat16": 4e-3, "int8": 2e-2}
"""Dtype → bound of the mean divergence from float32, in nats a token; some five times what was
measured."""


@pytest.fixture(scope="module")
def path() -> Path:
    """The GGUF file."""
    if not smollm2().exists():
        pytest.skip("the weights are not there; `make real` fetches them")
    return smollm2()


@pytest.fixture(scope="module")
def result(path: Path, tmp_path_factory: pytest.TempPathFactory) -> ConversionResult:
    """The converted and verified model."""
    out = tmp_path_factory.mktemp("real") / "smollm2"
    return convert(str(path), options=ConversionOptions(out=out))


@pytest.fixture(scope="module")
def ours(result: ConversionResult) -> Checkpoint:
    return load(result.directory)


@pytest.fixture(scope="module")
def theirs(path: Path) -> LlamaForCausalLM:
    """transformers' network with the weights as the `gguf` package reads and unpacks them."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
        tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            tensor = tensors.pop(str(names.get_name(name, try_suffixes=(".weight",))))
            data = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            if found := re.search(r"\.([qk])_proj\.", name):
                n_head = 9 if found[1] == "q" else 3
                data = data.reshape(n_head, 32, 2, 576).swapaxes(1, 2).reshape(data.shape)
            weight.copy_(torch.from_numpy(data.copy()))
    assert not tensors
    return model.eval()


def test_the_conversion(result: ConversionResult) -> None:
    assert result.verification["status"] == "passed"
    assert result.verification["logits"] < 1e-3
    manifest = read_manifest(result.directory)
    assert manifest.n_params == 134515008
    assert (result.directory / "chat_template.jinja").read_text(encoding="utf-8").count("im_end")


def test_few_bits_cost_what_the_documents_say(result: ConversionResult) -> None:
    manifest = json.loads((result.directory / "manifest.json").read_text())
    cost = manifest["origin"]["divergence"]
    assert cost["float16"] < 1e-5 and cost["bfloat16"] < 1e-3
    assert cost["int8"] < 2e-3 and cost["int4"] < 0.15


def test_the_network(ours: Checkpoint) -> None:
    config = ours.model.config
    assert (config.n_layer, config.n_embd, config.n_head, config.n_kv) == (30, 576, 9, 3)
    assert (config.block_size, config.rope_theta, config.tied) == (8192, 100000.0, True)
    assert (config.bos_id, config.eos_id, config.pad_id) == (None, 2, 2)


def test_tokens_are_llama_cpps(ours: Checkpoint) -> None:
    for text, ids in LLAMA_CPP_IDS:
        assert ours.tokenizer.encode(text) == ids, text


def test_logits(ours: Checkpoint, theirs: LlamaForCausalLM) -> None:
    ids = torch.tensor([ours.tokenizer.encode(PROMPT) + list(range(0, 49152, 1024))])
    with torch.inference_mode():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours.model(ids), expected, atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def text(ours: Checkpoint) -> list[int]:
    """The prompt and 40 greedy tokens, with our cache."""
    prompt = ours.tokenizer.encode(PROMPT)
    steps = generate(ours.new_context(), prompt, Sampling(temperature=0), Limits(40))
    return prompt + [step.token_id for step in steps]


def test_greedy_text(text: list[int], theirs: LlamaForCausalLM) -> None:
    with torch.inference_mode():
        whole = theirs.generate(
            torch.tensor([text[:-40]]), max_new_tokens=40, do_sample=False, eos_token_id=None
        )
    assert text == whole[0].tolist()


@pytest.mark.parametrize("dtype", KL)
def test_divergence(
    dtype: str, text: list[int], ours: Checkpoint, result: ConversionResult
) -> None:
    """What a smaller dtype costs on the model's own text."""
    ids = torch.tensor([text])
    with torch.inference_mode():
        exact = ours.model(ids).log_softmax(-1)
        rounded = load_network(result.directory, dtype=dtype)(ids).log_softmax(-1)
    divergence = (exact.exp() * (exact - rounded)).sum(-1).mean().item()
    print(f"mean KL of {dtype}: {divergence:.1e}")
    assert 0 < divergence < KL[dtype]
