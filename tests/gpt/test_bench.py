"""The results of `python -m gpt bench`, apart from the speed itself."""

from __future__ import annotations

import json

import pytest
import torch

from gpt.__main__ import main
from gpt.checkpoint import Checkpoint
from gpt.commands import bench
from tests.conftest import random_model
from tests.gpt.test_quantize import stored


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "_BYTES_READ", {"cpu": 1 << 12})
    monkeypatch.setattr(bench, "_ROUNDS", 2)


def test_a_step_reads_every_weight_but_rows_of_tables() -> None:
    model = random_model()
    weights = sum(weight.numel() for weight in model.parameters())
    assert bench.bytes_per_token(model) == 4 * (weights - 32 * 16)  # not the positions
    untied = random_model(tied=False, positions="rotary")
    weights = sum(weight.numel() for weight in untied.parameters())
    assert bench.bytes_per_token(untied) == 4 * (weights - 29 * 16)
    matrices = (
        sum(weight.numel() for name, weight in model.named_parameters() if weight.ndim == 2)
        - 32 * 16
    )
    assert bench.bytes_per_token(model) - bench.bytes_per_token(stored(model, "float16")) == (
        2 * matrices
    )


def test_a_text_that_ends_does_not_end_the_measurement(tiny: Checkpoint) -> None:
    drawn = []
    object.__setattr__(tiny.model.config, "eos_id", 5)
    tiny.model.wte.weight.zero_()
    # The network always draws the token that ends a text.
    tiny.model.wte.weight[5] = tiny.model.get_parameter("ln_f.bias")
    for _ in bench._draw(tiny.new_context(), [1, 2], 9):
        drawn.append(1)
    assert len(drawn) == 9


def test_the_table_and_the_object_say_the_same(
    tiny: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    main(["bench", "--model", "tiny", "--threads", "1", "--dtype", "int8", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["dtype"], found["threads"]) == ("tiny", "int8", 1)
    assert not found["compiled"]
    # The prompt is a third of the block size; the rest is drawn.
    assert (found["n_prompt"], found["n_drawn"], found["n_long_prompt"]) == (10, 22, 32)
    limit = found["bandwidth_bytes_per_second"] / found["bytes_per_token"]
    assert found["limit_tokens_per_second"] == pytest.approx(limit)
    assert found["share_of_limit"] == pytest.approx(found["decode_tokens_per_second"] / limit)
    assert all(found[name] > 0 for name in found if name.endswith(("_second", "_seconds")))
    main(["bench", "--model", "tiny", "--threads", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["model", "tiny,", "0.0M", "weights"]
    assert lines[1].split(maxsplit=2)[2] == "cpu, float32, 1 threads, eager"
    assert lines[-1].endswith("% of the limit")
    torch.set_num_threads(threads)


def test_a_wrong_number_of_threads_is_an_error(tiny: Checkpoint) -> None:
    with pytest.raises(SystemExit, match="--threads is 9999; it must be from 1 to 1024"):
        main(["bench", "--model", "tiny", "--threads", "9999"])
