from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import urllib.error
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import data
from gpt.__main__ import main
from gpt.checkpoint import load
from gpt.config import ModelConfig
from gpt.data import Corpus, batch, download_corpus, read_text
from gpt.errors import UserError
from gpt.evaluate import mean_loss
from gpt.model import GPT
from gpt.optimizer import balls, orthogonal, signs, start_on_the_balls, unit_rows
from gpt.tokenizer import CharTokenizer
from gpt.train import PRESETS, TrainConfig, train
from tests.conftest import random_model

SENTENCE = "she sells sea shells by the sea shore. "
SMALL = "--n-layer 1 --n-embd 32 --n-head 2 --n-inner 64 --block-size 32 --batch-size 4".split()


def network(text: str, **changes: object) -> tuple[GPT, Corpus]:
    tokenizer = CharTokenizer.from_corpus(text)
    shape = PRESETS["128"].model | {
        "n_layer": 2,
        "n_embd": 32,
        "n_head": 2,
        "n_inner": 64,
        "block_size": 32,
    }
    model = GPT(ModelConfig(vocab_size=tokenizer.vocab_size, **shape | changes))  # type: ignore[arg-type]
    return model, Corpus.from_text(text, tokenizer)


@pytest.mark.parametrize(("optimizer", "lr"), [("scion", 0.03), ("adamw", 0.01)])
def test_a_small_model_learns_a_sentence_by_heart(optimizer: str, lr: float) -> None:
    model, corpus = network(SENTENCE * 30)
    settings = TrainConfig(steps=60, batch_size=8, lr=lr, warmup=5, optimizer=optimizer)  # type: ignore[arg-type]
    progress = list(train(model, corpus, settings))
    assert progress[0].loss > 2
    assert progress[-1].validation_loss is not None
    assert progress[-1].validation_loss < 0.5
    assert [p.step for p in progress] == list(range(1, 61))


def test_training_repeats_from_its_seed() -> None:
    def weights(seed: int) -> torch.Tensor:
        model, corpus = network(SENTENCE * 30)
        settings = TrainConfig(steps=3, batch_size=4, lr=0.03, seed=seed)
        list(train(model, corpus, settings))
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


def test_mean_loss_is_the_models_over_all_tokens_but_the_first() -> None:
    model = random_model()
    ids = torch.randint(29, (77,))
    logprobs = [
        model(ids[None, i - i % 32 if i % 32 else i - 32 : i]).log_softmax(-1)[0, -1, ids[i]]
        for i in range(1, 77)
    ]
    expected = -torch.stack(logprobs).mean().item()
    assert mean_loss(model, ids) == pytest.approx(expected, abs=1e-4)


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
        list(train(model, corpus, TrainConfig(steps=1, batch_size=1, lr=0.1)))


def test_a_loss_that_is_no_number_names_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    model, corpus = network(SENTENCE * 30)
    original, calls = model.forward, []

    def forward(ids: torch.Tensor) -> torch.Tensor:
        calls.append(ids)
        return original(ids) * (float("nan") if len(calls) == 3 else 1)

    monkeypatch.setattr(model, "forward", forward)
    with pytest.raises(UserError, match="at step 3"):
        list(train(model, corpus, TrainConfig(steps=5, batch_size=1, lr=0.01)))


def test_train_writes_a_model_that_the_program_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text(SENTENCE * 30)
    arguments = ["--data", str(text), "--steps", "3", "--out", str(tmp_path / "models" / "mine")]
    main(["train", *arguments, *SMALL])
    shown = capsys.readouterr().err
    assert "validation" in shown
    checkpoint = load(tmp_path / "models" / "mine")
    origin = checkpoint.manifest.origin
    assert origin["steps_done"] == 3
    corpus = Corpus.from_text(text.read_text(), checkpoint.tokenizer)
    measured = mean_loss(checkpoint.model, corpus.validation)
    assert origin["validation_loss"] == pytest.approx(measured, abs=1e-6)
    main(["complete", "she", "--model", "mine", "-n", "3"])
    assert capsys.readouterr().out.startswith("she")


def test_ctrl_c_writes_what_was_learned(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(SENTENCE * 30)
    command = [sys.executable, "-m", "gpt", "train", "--data", str(text), *SMALL]
    options = ["--steps", "1000000", "--eval-every", "1", "--out", str(tmp_path / "m")]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE)
    assert process.stderr
    while b"validation" not in process.stderr.readline():
        pass
    os.kill(process.pid, signal.SIGINT)
    assert b"wrote" in process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert 0 < load(tmp_path / "m").manifest.origin["steps_done"] < 1_000_000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", r"is no UTF-8 text \(byte 0\)"),
        (b"short", "too short for blocks of 32"),
        (None, "cannot read"),
    ],
)
def test_a_text_that_cannot_be_learned_is_one_sentence(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        main(["train", "--data", str(path), "--out", str(tmp_path / "m"), *SMALL])
    assert not (tmp_path / "m").exists()


def test_a_place_that_is_taken_is_refused_before_anything_is_learned(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 30)
    endless = ["--steps", "1000000000"]
    for place in (tmp_path, path):
        with pytest.raises(SystemExit, match="exists and is no checkpoint"):
            main(["train", "--data", str(path), "--out", str(place), *endless, *SMALL])


@pytest.mark.parametrize("bad", ["--steps 0", "--lr -1", "--batch-size 0", "--n-head 5"])
def test_settings_that_make_no_sense_are_refused(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 30)
    with pytest.raises(SystemExit, match="error: "):
        main(["train", "--data", str(path), *SMALL, *bad.split()])


def test_the_corpus_is_fetched_once_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    asked: list[str] = []
    said: list[str] = []

    def answer(url: str, timeout: float) -> io.BytesIO:
        asked.append(url)
        return io.BytesIO(b"First Citizen:")

    monkeypatch.setattr(data.urllib.request, "urlopen", answer)
    with pytest.raises(UserError, match=r"sha256 .*--data FILE"):
        download_corpus(tmp_path, said.append)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(data, "CORPUS_SHA256", hashlib.sha256(b"First Citizen:").hexdigest())
    path = download_corpus(tmp_path, said.append)
    assert read_text(path) == "First Citizen:"
    assert download_corpus(tmp_path, said.append) == path
    assert len(asked) == len(said) == 2


def test_without_a_network_it_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def fail(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(data.urllib.request, "urlopen", fail)
    with pytest.raises(UserError, match=r"no route to host.*--data FILE"):
        download_corpus(tmp_path, said.append)


def test_presets_make_networks_of_the_sizes_they_are_known_by() -> None:
    sizes = {}
    for name, preset in PRESETS.items():
        with torch.device("meta"):
            model = GPT(ModelConfig(vocab_size=65, **preset.model))
        sizes[name] = round(sum(weight.numel() for weight in model.parameters()) / 1e6, 2)
        assert json.dumps(preset.model)
        replace(preset.train, steps=1)
    assert sizes == {"128": 0.87, "192": 2.68, "256": 4.85, "384": 10.67}
