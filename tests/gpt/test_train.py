from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.model import GPT
from gpt.tokenizer import CharTokenizer
from gpt.training import data
from gpt.training.data import Corpus, batch, download_corpus, read_text
from gpt.training.evaluate import mean_loss
from gpt.training.loop import TrainConfig, Training, rate
from gpt.training.optimizer import balls, orthogonal, signs, start_on_the_balls, unit_rows
from gpt.training.presets import PRESETS

SENTENCE = "she sells sea shells by the sea shore. "


def network(text: str, **changes: object) -> tuple[GPT, Corpus]:
    torch.manual_seed(0)
    tokenizer = CharTokenizer.from_corpus(text)
    shape = PRESETS["128"].model | {
        "n_layer": 2,
        "n_embd": 32,
        "n_head": 2,
        "n_inner": 64,
        "block_size": 32,
    }
    model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, **shape | changes))
    return model, Corpus.from_text(text, tokenizer)


@pytest.mark.parametrize(("optimizer", "lr"), [("scion", 0.03), ("muon", 0.01), ("adamw", 0.01)])
def test_a_small_model_memorizes_a_sentence(optimizer: str, lr: float) -> None:
    model, corpus = network(SENTENCE * 30)
    settings = TrainConfig(steps=60, batch_size=8, lr=lr, warmup=5, optimizer=optimizer)  # type: ignore[arg-type]
    progress = list(Training(model, corpus, settings).run())
    assert progress[0].loss > 2
    assert progress[-1].validation_loss is not None
    assert progress[-1].validation_loss < 0.5
    assert [p.step for p in progress] == list(range(1, 61))


@pytest.mark.parametrize(
    ("optimizer", "lr", "changes"),
    [
        ("scion", 0.03, {"n_kv_head": 1, "head_dim": 12, "rotary_dim": 4}),
        ("adamw", 0.01, {"n_kv_head": 1, "qk_norm": True, "qkv_bias": True, "parallel": True}),
    ],
)
def test_networks_with_shared_heads_are_trained(
    optimizer: str, lr: float, changes: dict[str, object]
) -> None:
    model, corpus = network(SENTENCE * 30, **changes)
    settings = TrainConfig(steps=60, batch_size=8, lr=lr, warmup=5, optimizer=optimizer)  # type: ignore[arg-type]
    training = Training(model, corpus, settings)
    start = [weight.detach().clone() for weight in model.parameters()]
    progress = list(training.run())
    assert progress[-1].validation_loss is not None
    assert progress[-1].validation_loss < 0.5
    assert not any(map(torch.equal, start, model.parameters()))


def test_training_repeats_from_its_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        model, corpus = network(SENTENCE * 30)
        settings = TrainConfig(steps=3, batch_size=4, lr=0.03, seed=seed)
        list(Training(model, corpus, settings).run())
        return model.wte.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@settings(max_examples=30)
@given(st.integers(60, 400), st.integers(4, 20), st.integers(1, 5), st.integers(0, 3))
def test_an_epoch_sees_every_window_once(n: int, block: int, size: int, seed: int) -> None:
    ids = torch.arange(n)
    per_epoch = (n - 1) // block - 1
    options = {"batch_size": size, "block_size": block, "seed": seed}
    steps = -(-per_epoch // size)
    windows = torch.cat([batch(ids, step, **options) for step in range(steps)])[:per_epoch]
    assert (windows[:, 1:] - windows[:, :-1] == 1).all()
    starts = windows[:, 0].sort().values
    assert (starts[1:] - starts[:-1] == block).all()
    again = batch(ids, 0, **options)
    assert torch.equal(again, windows[:size]) or len(again) > len(windows)


@pytest.mark.parametrize("shape", [(32, 32), (64, 32), (32, 64), (3, 16, 16)])
def test_orthogonal_directions_have_singular_values_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    direction = orthogonal(torch.randn(shape))
    scale = (shape[-2] / shape[-1]) ** 0.5
    values = torch.linalg.svdvals(direction.float()) / scale
    assert values.min() > 0.5 and values.max() < 1.4


def test_the_other_directions_and_the_start() -> None:
    m = torch.randn(5, 8)
    torch.testing.assert_close(unit_rows(m).square().mean(-1), torch.ones(5))
    assert signs(m).abs().unique().tolist() == [1 / 8]
    model, _ = network(SENTENCE)
    start_on_the_balls(model)
    assert len(balls(model)) == len(list(model.parameters()))
    q, k, v = model.h[0].attn.qkv.weight.chunk(3)
    for block in (q, k, v):
        torch.testing.assert_close(block @ block.T, 9 * torch.eye(32), atol=1e-4, rtol=0)


def test_scion_refuses_networks_with_vectors() -> None:
    model, corpus = network(SENTENCE * 30, bias=True)
    with pytest.raises(UserError, match="use adamw"):
        Training(model, corpus, TrainConfig(steps=1, batch_size=1, lr=0.1))


def test_the_error_for_a_loss_that_is_not_finite_has_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, corpus = network(SENTENCE * 30)
    original, calls = model.forward, []

    def forward(ids: torch.Tensor) -> torch.Tensor:
        calls.append(ids)
        return original(ids) * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(UserError, match="at step 3"):
        list(Training(model, corpus, TrainConfig(steps=5, batch_size=1, lr=0.01)).run())


def test_a_model_with_attention_beats_the_best_table_of_pairs() -> None:
    """The next character depends on several characters before it, and a bigram sees only one."""
    random = torch.Generator().manual_seed(0)
    words = ["abcab", "acbac", "bbcca", "cabba"]
    text = " ".join(words[i] for i in torch.randint(4, (900,), generator=random).tolist())
    losses = {}
    for name, changes in {"bigram": {"n_layer": 0}, "gpt": {}}.items():
        model, corpus = network(text, **changes)
        settings = TrainConfig(steps=120, batch_size=8, lr=0.03, warmup=5)
        *_, last = Training(model, corpus, settings).run()
        losses[name] = last.validation_loss or 9.0
    ids = torch.tensor(CharTokenizer.from_corpus(text).encode(text))
    pairs = torch.zeros(4, 4).index_put((ids[:-1], ids[1:]), torch.ones(()), accumulate=True)
    given = pairs / pairs.sum(1, keepdim=True)
    entropy = -(pairs * given.clamp_min(1e-9).log()).sum().item() / pairs.sum().item()
    assert losses["bigram"] == pytest.approx(entropy, abs=0.05)
    assert losses["gpt"] < entropy - 0.3


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "scion"},
        {"optimizer": "muon", "average": 0.9},
        {"optimizer": "adamw", "clip": 1.0},
    ],
)
def test_a_run_that_was_interrupted_ends_with_the_same_weights(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    settings = TrainConfig(
        steps=10, batch_size=4, lr=0.01, warmup=2, eval_every=3, precision="float32", **changes
    )

    def new_training() -> Training:
        return Training(*network(SENTENCE * 30, dropout=0.1), settings)

    whole, first, second = new_training(), new_training(), new_training()
    expected = [p.loss for p in whole.run()]
    steps = first.run()
    losses = [next(steps).loss for _ in range(5)]
    torch.save(first.state(), tmp_path / "state.pt")
    second.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    losses += [p.loss for p in second.run()]
    assert losses == expected
    assert (second.best_loss, second.best_step) == (whole.best_loss, whole.best_step)
    for a, b in zip(whole.learned.parameters(), second.learned.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_average_of_the_weights_is_measured() -> None:
    model, corpus = network(SENTENCE * 30)
    settings = TrainConfig(steps=3, batch_size=4, lr=0.01, average=0.5, precision="float32")
    training = Training(model, corpus, settings)
    seen, expected = [], None
    for _ in training.run():
        seen.append(model.wte.weight.detach().clone())
        expected = seen[-1] if expected is None else 0.5 * expected + 0.5 * seen[-1]
    assert expected is not None
    torch.testing.assert_close(training.learned.wte.weight.detach(), expected)
    assert training.best_loss == pytest.approx(mean_loss(training.learned, corpus.validation))


def test_clipping_shortens_a_gradient_before_the_step() -> None:
    """Checks the state of AdamW, because its steps do not depend on the size of the gradient."""
    model, corpus = network(SENTENCE * 30)
    settings = TrainConfig(steps=1, batch_size=4, lr=0.01, optimizer="adamw", clip=1e-3)
    training = Training(model, corpus, settings)
    list(training.run())
    averages = [state["exp_avg"] for state in training.optimizers[0].state.values()]
    length = torch.cat([average.flatten() for average in averages]).norm() / (1 - 0.9)
    assert length.item() == pytest.approx(1e-3, rel=1e-2)


def test_a_compiled_run_steps_through_what_torch_compiled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The compiler itself is not tested: that is PyTorch's task."""
    calls = []

    def compiled(model: GPT) -> Any:
        return lambda ids: (calls.append(ids.shape), model(ids))[1]

    monkeypatch.setattr(torch, "compile", compiled)
    settings = TrainConfig(steps=3, batch_size=4, lr=0.01, precision="float32")
    runs = [Training(*network(SENTENCE * 30), settings, compiled=c).run() for c in (False, True)]
    plain, fast = ([p.loss for p in run] for run in runs)
    assert plain == fast
    assert calls == [(4, 32)] * 3


def test_patience_ends_a_run_that_does_not_improve() -> None:
    model, corpus = network(SENTENCE * 30)
    settings = TrainConfig(steps=100, batch_size=2, lr=1e-9, warmup=0, eval_every=2, patience=3)
    training = Training(model, corpus, settings)
    training.best_loss = 0.0  # no loss will be lower
    for _ in training.run():
        if training.out_of_patience:
            break
    assert training.step == 6


def test_the_learning_rate_rises_stays_and_falls() -> None:
    settings = TrainConfig(steps=100, batch_size=1, lr=1.0, warmup=10, cooldown=0.2)
    rates = [rate(step, settings) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * i for i in range(1, 11)])
    assert set(rates[9:80]) == {1.0}
    assert rates[80:] == pytest.approx([0.05 * i for i in range(20, 0, -1)])
    constant = TrainConfig(steps=100, batch_size=1, lr=1.0, warmup=0, cooldown=0.0)
    assert {rate(step, constant) for step in range(100)} == {1.0}


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": 0},
        {"lr": 0.0},
        {"lr": float("nan")},
        {"momentum": 1.0},
        {"average": -0.1},
        {"cooldown": 1.5},
        {"optimizer": "sgd"},
        {"precision": "int8"},
        {"seed": -1},
        {"clip": -1.0},
    ],
)
def test_the_error_for_a_setting_out_of_range_names_it(bad: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(bad))):
        TrainConfig(**{"steps": 1, "batch_size": 1, "lr": 1.0, **bad})


def test_the_corpus_is_downloaded_once_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    urls: list[str] = []
    said: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        urls.append(url)
        return io.BytesIO(b"First Citizen:")

    monkeypatch.setattr(urllib.request, "urlopen", answer)
    with pytest.raises(UserError, match=r"sha256 .*--data FILE"):
        download_corpus(tmp_path, said.append)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(data, "CORPUS_SHA256", hashlib.sha256(b"First Citizen:").hexdigest())
    path = download_corpus(tmp_path, said.append)
    assert read_text(path) == "First Citizen:"
    assert download_corpus(tmp_path, said.append) == path
    assert len(urls) == len(said) == 2


def test_without_a_network_the_error_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def fail(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", fail)
    with pytest.raises(UserError, match=r"no route to host.*--data FILE"):
        download_corpus(tmp_path, said.append)


def test_presets_have_the_documented_numbers_of_parameters() -> None:
    sizes = {}
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            model = GPT(ModelConfig(vocab_size=65, **preset.model))
        sizes[name] = round(sum(weight.numel() for weight in model.parameters()) / 1e6, 2)
        assert json.dumps(preset.model)
        replace(preset.train, steps=1)
    assert sizes == {
        "bigram": 0.02,
        "lecture": 10.8,
        "speedrun": 0.2,
        "128": 0.87,
        "192": 2.68,
        "256": 4.85,
        "384": 10.67,
    }
