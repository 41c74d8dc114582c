"""The loss of a model on a text: windows, units and the evaluate command."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gpt.__main__ import main
from gpt.training.evaluate import PROTOCOLS, Protocol, _windows, mean_loss
from tests.conftest import CHARACTERS, random_model


def test_mean_loss_is_over_all_tokens_but_the_first() -> None:
    model = random_model()
    ids = torch.randint(29, (77,))
    logprobs = [
        model(ids[None, i - i % 32 if i % 32 else i - 32 : i]).log_softmax(-1)[0, -1, ids[i]]
        for i in range(1, 77)
    ]
    expected = -torch.stack(logprobs).mean().item()
    assert mean_loss(model, ids) == pytest.approx(expected, abs=1e-4)


@given(st.integers(2, 900), st.integers(1, 300), st.sampled_from(["disjoint", "sliding"]))
def test_each_token_but_the_first_counts_once(n: int, block: int, protocol: Protocol) -> None:
    windows = _windows(protocol, n, min(block, n - 1))
    counted = [
        i for w in windows for i in range(w.start + w.length - w.counted, w.start + w.length)
    ]
    assert counted == list(range(n - 1))
    assert all(w.start >= 0 and w.start + w.length < n for w in windows)


def test_random_windows_are_the_same_each_time_and_cover_the_text() -> None:
    windows = _windows("random", 20_000, 32)
    assert windows == _windows("random", 20_000, 32)
    assert len(windows) == 200 * 64
    starts = [w.start for w in windows]
    assert min(starts) < 50 and max(starts) > 20_000 - 32 - 50
    # A short text has fewer places than that: each of them once.
    assert [w.start for w in _windows("random", 500, 32)] == list(range(500 - 32))
    assert [w.start for w in _windows("random", 2, 1)] == [0]


def test_sliding_windows_give_each_prediction_as_much_context_as_fits() -> None:
    """Compared with cross-entropies that are computed one prediction at a time."""
    model = random_model(block_size=100)
    ids = torch.randint(29, (263,), generator=torch.Generator().manual_seed(1))
    nats = []
    for i in range(1, len(ids)):
        start = 0 if i <= 100 else min(-(-(i - 100) // 64) * 64, len(ids) - 1 - 100)
        logits = model(ids[None, start:i])[0, -1]
        nats.append(-logits.log_softmax(-1)[ids[i]].item())
    expected = sum(nats) / len(nats)
    assert mean_loss(model, ids, "sliding") == pytest.approx(expected, abs=1e-5)


def test_a_measurement_reports_its_progress_and_leaves_the_model_in_its_mode() -> None:
    shares: list[float] = []
    model = random_model(dropout=0.5).train()
    first = mean_loss(model, torch.arange(29).repeat(50), done=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1
    assert model.training
    assert first == mean_loss(model.eval(), torch.arange(29).repeat(50))


def test_evaluate_prints_the_published_numbers_in_every_unit(
    tiny_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text((CHARACTERS * 40)[:1000])
    main(["evaluate", "tiny", "--data", str(text), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert set(found["loss"]) == set(PROTOCOLS)
    tokens = torch.tensor([CHARACTERS.index(c) for c in text.read_text()[900:]])
    loss = found["loss"]["disjoint"]
    assert loss["nats_per_token"] == pytest.approx(mean_loss(random_model(), tokens), abs=1e-5)
    assert loss["bits_per_byte"] == pytest.approx(loss["nats_per_token"] / math.log(2))
    main(["evaluate", "tiny", "--data", str(text), "--only", "disjoint", "--all"])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 3 and shown[2].startswith("disjoint ")
    assert shown[0] == "1,000 tokens, all of text.txt"
    main(["evaluate", "tiny", "--data", str(text), "--only", "disjoint"])
    assert capsys.readouterr().out.startswith("100 tokens, the last 10% of text.txt\n")


def test_bits_per_byte_count_bytes_and_not_characters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gpt.checkpoint import save
    from gpt.tokenizer import CharTokenizer

    save(tmp_path / "models" / "accents", random_model(vocab_size=2), CharTokenizer("eé"))
    text = tmp_path / "text.txt"
    text.write_text("eéé" * 100, encoding="utf-8")
    main(["evaluate", "accents", "--data", str(text), "--all", "--json", "--only", "disjoint"])
    loss = json.loads(capsys.readouterr().out)["loss"]["disjoint"]
    assert loss["bits_per_byte"] == pytest.approx(loss["bits_per_character"] * 3 / 5)
    assert loss["tokens_per_character"] == 1


def test_a_text_without_a_token_to_predict_is_refused(tiny_directory: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a")
    with pytest.raises(SystemExit, match="at least two tokens"):
        main(["evaluate", "tiny", "--data", str(text), "--all"])
