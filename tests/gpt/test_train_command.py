"""The train command, from a text to its report, and every way to interrupt a run."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pexpect
import pytest
import torch

from gpt.__main__ import main
from gpt.checkpoint import load
from gpt.config import ModelConfig
from gpt.errors import UserError
from gpt.fast.branches import Branch, branches
from gpt.limits import Limits
from gpt.model import GPT
from gpt.settings import Sampling
from gpt.tokenizer import BPETokenizer, byte_alphabet
from gpt.training.data import Corpus
from gpt.training.display import Lines
from gpt.training.evaluate import mean_loss
from gpt.training.loop import RANGES, StepReport, TrainConfig
from gpt.training.options import field_docs
from gpt.training.presets import PRESETS
from gpt.training.report import overfitting
from gpt.training.run_files import RunFiles
from tests.conftest import CHARACTERS, context_of
from tests.terminal import needs_pty

SENTENCE = "she sells sea shells by the sea shore. "
SMALL = "--n-layer 1 --n-embd 32 --n-head 2 --n-inner 64 --block-size 32 --batch-size 4".split()
RUN = [*SMALL, *"--steps 12 --eval-every 3 --warmup 2 --lr 0.02".split()]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 30)
    return path


def rows(out: Path) -> list[dict[str, str]]:
    with RunFiles(out).metrics.open(newline="") as file:
        return list(csv.DictReader(file))


def after_step(monkeypatch: pytest.MonkeyPatch, step: int, action: Callable[[], object]) -> None:
    """Call action once that step is done."""
    show = Lines.show

    def show_and_act(self: Lines, history: list[StepReport], training: object) -> None:
        show(self, history, training)  # type: ignore[arg-type]
        if history[-1].step == step:
            action()

    monkeypatch.setattr(Lines, "show", show_and_act)


def test_a_model_that_exists_is_only_replaced_by_force(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    command = ["train", "--data", str(text), "--out", str(out), *RUN]
    main(command)
    before = (out / "model.safetensors").read_bytes()
    with pytest.raises(SystemExit, match="m is a model already; --force replaces it"):
        main([*command, "--seed", "9"])
    with pytest.raises(SystemExit, match="is a model already"):
        main([*command, "--restart"])
    assert (out / "model.safetensors").read_bytes() == before
    main([*command, "--seed", "9", "--force"])
    assert (out / "model.safetensors").read_bytes() != before


@pytest.mark.parametrize("name", PRESETS)
def test_the_network_of_every_preset_draws_one_text_and_several(name: str) -> None:
    shape = {**PRESETS[name].model, "n_layer": min(1, PRESETS[name].model["n_layer"])}
    config = ModelConfig.from_dict({**shape, "vocab_size": len(CHARACTERS)})
    torch.manual_seed(0)
    context = context_of(GPT(config).eval())
    ids = context.encode("to be")
    for n in (1, 2):
        wanted = [Branch(Sampling(seed=seed)) for seed in range(n)]
        steps = list(branches(context, ids, wanted, Limits(3)))
        assert [branch for branch, _ in steps].count(n - 1) == 3


def test_train_writes_a_model_that_the_program_opens_and_a_report(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "models" / "mine"
    main(["train", "--data", str(text), "--out", str(out), *RUN])
    shown = capsys.readouterr().out
    assert "step 12/12" in shown and "wrote" in shown
    checkpoint = load(out)
    origin = checkpoint.manifest.origin
    corpus = Corpus.from_text(text.read_text(), checkpoint.tokenizer)
    for protocol, values in origin["validation"].items():
        measured = mean_loss(checkpoint.model, corpus.validation, protocol)
        assert values["nats_per_token"] == pytest.approx(measured, abs=1e-6)
    assert origin["settings"]["lr"] == 0.02
    files = RunFiles(out)
    assert [int(row["step"]) for row in rows(out)] == list(range(1, 13))
    measured_at = [int(row["step"]) for row in rows(out) if row["validation_loss"]]
    assert measured_at == [3, 6, 9, 12]
    report = (files.directory / "report.md").read_text()
    loss = origin["validation"]["disjoint"]
    assert f"{loss['nats_per_character']:.4f}" in report
    assert f"{loss['bits_per_character']:.4f}" in report
    assert "## Overfitting" in report and "lr: 0.02" in report
    assert (files.directory / "curves.svg").read_text().startswith("<?xml")
    assert not files.state.exists()
    assert load(files.last).manifest.origin["step"] == 12
    main(["complete", "she", "--model", "mine", "-n", "3"])
    assert capsys.readouterr().out.startswith("she")


def test_a_run_stopped_by_ctrl_c_continues_with_the_same_results(
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    main(["train", "--data", str(text), "--out", str(whole), *RUN])
    with monkeypatch.context() as patch:
        after_step(patch, 7, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(SystemExit) as stopped:
            main(["train", "--data", str(text), "--out", str(cut), *RUN])
    assert stopped.value.code == 130
    shown = capsys.readouterr().out
    assert (
        f"stopped after 7 of 12 steps; continue with: python -m gpt train --resume --out {cut}"
        in shown
    )
    assert load(RunFiles(cut).last).manifest.origin["step"] == 7
    main(["train", "--resume", "--out", str(cut)])
    weights = [(out / "model.safetensors").read_bytes() for out in (whole, cut)]
    assert weights[0] == weights[1]
    for out in (whole, cut):
        assert [int(row["step"]) for row in rows(out)] == list(range(1, 13))
    assert [row["loss"] for row in rows(whole)] == [row["loss"] for row in rows(cut)]


@pytest.mark.slow
def test_a_killed_run_continues_from_its_latest_measurement(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die() -> None:
        raise ZeroDivisionError

    out = tmp_path / "m"
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        after_step(patch, 8, die)
        main(["train", "--data", str(text), "--out", str(out), *RUN])
    with RunFiles(out).metrics.open("a") as file:
        file.write("7,2.5,,0.0")  # half a row of a step that was lost
    main(["train", "--resume", "--out", str(out)])
    assert [int(row["step"]) for row in rows(out)] == list(range(1, 13))


@pytest.fixture
def interrupted(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that was stopped after seven steps."""
    out = tmp_path / "m"
    with monkeypatch.context() as patch:
        after_step(patch, 7, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit):
            main(["train", "--data", str(text), "--out", str(out), *RUN])
    return out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--resume --lr 0.5", "has lr 0.02, not 0.5"),
        ("--resume --n-layer 2", "has n_layer 1, not 2"),
        ("--resume --preset 256", "has preset 128, not 256"),
        ("--steps 5", "has an interrupted run; continue it with --resume"),
    ],
)
def test_an_interrupted_run_is_neither_changed_nor_lost(
    interrupted: Path, options: str, message: str
) -> None:
    state = RunFiles(interrupted).state.read_bytes()
    with pytest.raises(SystemExit, match=message):
        main(["train", "--out", str(interrupted), *options.split()])
    assert RunFiles(interrupted).state.read_bytes() == state


def test_an_interrupted_run_needs_its_own_text(interrupted: Path, text: Path) -> None:
    text.write_text(SENTENCE * 31)
    with pytest.raises(SystemExit, match="not the text that the run started with"):
        main(["train", "--out", str(interrupted), "--resume"])


@pytest.mark.slow
def test_a_damaged_state_is_an_error_and_can_be_discarded(interrupted: Path, text: Path) -> None:
    state = RunFiles(interrupted).state
    state.write_bytes(state.read_bytes()[:-500])
    with pytest.raises(SystemExit, match=r"state\.pt is damaged .* --restart starts again"):
        main(["train", "--out", str(interrupted), "--resume"])
    main(["train", "--data", str(text), "--out", str(interrupted), "--restart", *RUN])
    assert not state.exists()


def test_resume_needs_an_interrupted_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no interrupted run"):
        main(["train", "--resume", "--out", str(tmp_path / "m")])


@pytest.mark.slow
def test_a_full_disk_does_not_end_a_run_or_damage_the_older_state(
    text: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, save = tmp_path / "m", torch.save
    files, states = RunFiles(out), []

    def fill() -> None:
        states.append(files.state.read_bytes())
        monkeypatch.setattr(torch, "save", full)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def empty() -> None:
        states.append(files.state.read_bytes())
        monkeypatch.setattr(torch, "save", save)

    after_step(monkeypatch, 4, fill)
    after_step(monkeypatch, 7, empty)
    main(["train", "--data", str(text), "--out", str(out), *RUN])
    assert "state.pt: No space left on device; training continues" in capsys.readouterr().out
    assert states[0] == states[1]
    assert load(out)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_run_that_cannot_be_saved_at_its_end_is_an_error(text: Path, tmp_path: Path) -> None:
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from gpt.__main__ import main; main(sys.argv[1:])"
    )
    arguments = ["train", "--data", str(text), "--out", str(tmp_path / "m"), *RUN]
    done = subprocess.run(
        [sys.executable, "-c", limited, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "training continues" in done.stdout
    assert done.stderr.startswith("error: cannot write") and done.stderr.count("\n") == 1
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_it_stops_early_and_keeps_the_best(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m"
    endless = "--steps 100000 --cooldown 0 --eval-every 5 --patience 2 --warmup 0 --lr 0.02".split()
    main(["train", "--data", str(text), "--out", str(out), *SMALL, *endless])
    losses = {
        int(r["step"]): float(r["validation_loss"]) for r in rows(out) if r["validation_loss"]
    }
    best = min(losses, key=lambda step: losses[step])
    assert load(out).manifest.origin["step"] == best == max(losses) - 10
    assert "wrote" in capsys.readouterr().out


@pytest.mark.slow
def test_characters_that_occur_only_at_the_end_are_reported(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text.write_text(SENTENCE * 30 + "é")
    main(["train", "--data", str(text), "--out", str(tmp_path / "m"), *RUN])
    assert "only the validation part has 'é'" in capsys.readouterr().out


@pytest.mark.slow
def test_byte_pairs_come_from_a_directory_or_from_a_model(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vocabulary = tmp_path / "vocabulary"
    vocabulary.mkdir()
    tokens = {token: i for i, token in enumerate([*byte_alphabet(), "sh"])}
    BPETokenizer(tokens, [("s", "h")]).save(vocabulary)
    out = tmp_path / "models" / "pairs"
    main(["train", "--data", str(text), "--out", str(out), "--tokenizer", str(vocabulary), *RUN])
    values = load(out).manifest.origin["validation"]["disjoint"]
    assert values["tokens_per_character"] < 0.95
    expected = values["nats_per_token"] * values["tokens_per_character"]
    assert values["nats_per_character"] == pytest.approx(expected)
    again = ["--out", str(tmp_path / "again"), "--tokenizer", "pairs"]
    main(["train", "--data", str(text), *again, *RUN])
    weights = [(p / "model.safetensors").read_bytes() for p in (out, tmp_path / "again")]
    assert weights[0] == weights[1]
    with pytest.raises(SystemExit, match="no model 'nowhere'"):
        main(["train", "--data", str(text), *again, "--force", "--tokenizer", "nowhere", *RUN])


@pytest.mark.slow
def test_a_directory_of_texts_is_one_text(text: Path, tmp_path: Path) -> None:
    directory = tmp_path / "texts"
    (directory / "b").mkdir(parents=True)
    (directory / "a.txt").write_text(SENTENCE * 20)
    (directory / "b" / "c.txt").write_text("zebra " * 40)
    (directory / "ignored.bin").write_bytes(b"\xff")
    main(["train", "--data", str(directory), "--out", str(tmp_path / "m"), *RUN])
    assert {"z", "\n"} <= set(load(tmp_path / "m").tokenizer.characters)  # type: ignore[attr-defined]
    with pytest.raises(SystemExit, match=r"has no \*\.txt files"):
        main(["train", "--data", str(tmp_path / "m"), "--out", str(tmp_path / "n"), *RUN])


TRAIN_AND_LIST_THREADS = """
import sys
from pathlib import Path
from gpt.__main__ import main
main(sys.argv[1:])
print(*(name.read_text() for name in Path("/proc/self/task").glob("*/comm")))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun has no gloo on Windows")
def test_two_processes_do_the_same_steps_as_one(text: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    # Not Scion: it uses signs, so a rounding error can become a full step.
    adamw = "--precision float32 --optimizer adamw --lr 0.001".split()
    options = ["--data", str(text), *RUN, *adamw]
    main(["train", "--out", str(one), *options])
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    program = tmp_path / "program.py"
    program.write_text(TRAIN_AND_LIST_THREADS)
    done = subprocess.run(
        [*torchrun, str(program), "train", "--out", str(two), *options],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote") == 1
    assert "gloo" not in done.stdout, (
        "a thread that is still alive may abort the interpreter at its end"
    )
    losses = [[float(row["loss"]) for row in rows(out)] for out in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


@pytest.mark.slow
@needs_pty
def test_a_terminal_shows_bar_curves_and_a_sample_in_place(text: Path, tmp_path: Path) -> None:
    command = ["-m", "gpt", "train", "--data", str(text), "--out", str(tmp_path / "m"), *RUN]
    child = pexpect.spawn(
        sys.executable, command, dimensions=(40, 100), encoding="utf-8", timeout=60
    )
    child.expect("parameters")
    child.expect("validation [0-9.]+  best")
    child.expect("⢕⢕ training|training")
    child.expect("wrote ")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def curve(training: list[float], validation: list[float]) -> list[StepReport]:
    return [
        StepReport(i + 1, a, b, 0.1, 1.0)
        for i, (a, b) in enumerate(zip(training, validation, strict=True))
    ]


def test_the_report_distinguishes_overfitting_from_learning() -> None:
    rises = overfitting(curve([2.0, 1.0, 0.5], [2.0, 1.5, 1.8]))
    assert "lowest at step 2, 1.500, and rose" in rises and "1.300 above it" in rises
    gap = overfitting(curve([2.0, 1.0, 0.5], [2.0, 1.5, 1.4]))
    assert "had not begun to rise" in gap
    fine = overfitting(curve([2.0, 1.5], [2.0, 1.52]))
    assert "did not overfit" in fine
    falls = overfitting(curve([4.0 - 0.03 * i for i in range(100)], [1.1] * 100))
    assert "training loss is 1.090 (mean of the last 5 steps)" in falls


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\x00", r"is not UTF-8 text \(byte 0\)"),
        (b"short", "too short for blocks of 32"),
        (b"words\0" * 99, "not text: it has a NUL"),
        (None, "cannot read"),
    ],
)
def test_the_error_for_an_unusable_text_is_one_sentence(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SystemExit, match=message):
        main(["train", "--data", str(path), "--out", str(tmp_path / "m"), *SMALL])
    assert not (tmp_path / "m").exists()


def test_a_directory_that_is_not_a_checkpoint_is_refused_before_training(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 30)
    endless = ["--steps", "1000000000"]
    for place in (tmp_path, path):
        with pytest.raises(SystemExit, match="exists and is not a checkpoint"):
            main(["train", "--data", str(path), "--out", str(place), *endless, *SMALL])


@pytest.mark.parametrize(("name", "bad"), [("steps", 0), ("lr", -1.0), ("patience", -1)])
def test_settings_out_of_range_are_refused(
    name: str, bad: float, capsys: pytest.CaptureFixture[str]
) -> None:
    noun, _ = RANGES[name]
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["train", f"--{name}", str(bad)])
    assert capsys.readouterr().err.startswith(f"error: --{name} is {bad}; it must be {noun}\n")
    with pytest.raises(UserError, match=f"^{name} is {bad}; it must be {noun}$"):
        TrainConfig(**{"steps": 1, "batch_size": 1, "lr": 0.1, name: bad})  # type: ignore[arg-type]


def test_a_network_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(SENTENCE * 30)
    with pytest.raises(SystemExit, match=r"n_embd .* is not divisible by its n_head 5"):
        main(["train", "--data", str(path), *SMALL, "--n-head", "5"])


def test_the_help_of_every_option_is_a_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for name, value in (("--seed N", "1"), ("--dropout 0-1", "0.0"), ("--steps N", "1500")):
        assert re.search(rf"{name} [A-Z][^.]*\. \(default: {value}\)", shown)
    for kind in (TrainConfig, ModelConfig):
        docs = field_docs(kind)
        assert docs.keys() == {field.name for field in fields(kind)}
        assert all(text.endswith(".") for text in docs.values())
