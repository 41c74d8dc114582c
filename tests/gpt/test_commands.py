"""The commands of `python -m gpt`: output, errors, pipes and signals."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch

from gpt.__main__ import main
from gpt.checkpoint import Checkpoint
from gpt.commands.completion import SETTINGS, before_stop
from gpt.device import choose
from gpt.errors import UserError
from gpt.generate import Limits, generate, score
from gpt.interpret.intervene import intervened
from gpt.interventions import Edge, Intervention, Knockout, Steer, from_dicts
from gpt.settings import Sampling
from gpt.step import Step
from tests.terminal import needs_pty


def gpt(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "gpt", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def test_complete_prints_prompt_and_text(
    capsys: pytest.CaptureFixture[str], tiny: Checkpoint
) -> None:
    options = ("--model", "tiny", "-n", "9", "--temperature", "0.8", "--seed", "1")
    shown = run(capsys, "complete", "to be", *options)
    sampling = Sampling(temperature=0.8, seed=1)
    steps = generate(tiny.new_context(), tiny.new_context().encode("to be"), sampling, Limits(9))
    assert shown == "to be" + "".join(step.text for step in steps) + "\n"
    lines = run(capsys, "complete", "to be", *options, "--json", "--top", "3").splitlines()
    assert [json.loads(line)["text"] for line in lines] == list(shown[5:-1])
    assert len(json.loads(lines[0])["candidates"]) == 3


def test_complete_draws_several_branches(
    capsys: pytest.CaptureFixture[str], tiny_directory: Path
) -> None:
    options = ("--model", "tiny", "-n", "9", "--stop", "a", "--mute", "2.mlp")
    seeds = (2**63 - 2, 2**63 - 1, 0)
    alone = [run(capsys, "complete", "to be", *options, "--seed", str(seed)) for seed in seeds]
    several = (*options, "--seed", str(seeds[0]), "--branches", "3")
    heads = (f"--- branch {i}, seed {seed}\n" for i, seed in enumerate(seeds, 1))
    shown = run(capsys, "complete", "to be", *several)
    assert shown == "".join(head + text for head, text in zip(heads, alone, strict=True))
    assert len(set(alone)) == 3
    lines = [
        json.loads(line)
        for line in run(capsys, "complete", "to be", *several, "--json").splitlines()
    ]
    for number, seed in enumerate(seeds):
        own = [each for each in lines if each["branch"] == number]
        single = run(capsys, "complete", "to be", *options, "--seed", str(seed), "--json")
        expected = [json.loads(line) for line in single.splitlines()]
        assert [each["token_id"] for each in own] == [each["token_id"] for each in expected]
        assert own[-1]["finish_reason"] == expected[-1]["finish_reason"]
        assert all("branch" not in each for each in expected)
    order = [each["branch"] for each in lines]
    assert order == sorted(order)


def test_complete_bans_and_boosts_words(
    capsys: pytest.CaptureFixture[str], tiny_directory: Path
) -> None:
    options = ["--model", "tiny", "-n", "24", "--seed", "1"]
    plain = run(capsys, "complete", "to be", *options)
    word = plain.strip()[-3:-1]
    shown = run(capsys, "complete", "to be", *options, "--ban", word, "--ban", "#0")
    assert word not in shown and "a" not in shown
    shown = run(capsys, "complete", "to be", *options, "--boost", "ef:99")
    assert set(shown[5:].strip()) == {"e", "f"}


EDGE = Edge(source=1, target=4, layer=2)
STEER = Steer(layer=0, towards=("to",), away=("be",), strength=3.0)
CHANGES = (
    ("--mute 2.mlp", [Knockout(part="mlp", layer=2)]),
    ("--mean 1.2 --cut 1:4@2", [Knockout(part="head", layer=1, head=2, by="mean"), EDGE]),
    ("--towards to --away be --layer 0 --strength 3", [STEER]),
)


@pytest.mark.parametrize(("words", "changes"), CHANGES)
def test_complete_draws_from_a_changed_network(
    words: str, changes: list[Intervention], capsys: pytest.CaptureFixture[str], tiny: Checkpoint
) -> None:
    options = ("to be", "--model", "tiny", "-n", "9", "--seed", "1")
    context = tiny.new_context()
    ids = context.encode("to be")
    with intervened(context, changes, ids) as changed:
        expected = [*generate(changed, ids, Sampling(seed=1), Limits(9), top=2)]
    lines = run(capsys, "complete", *options, *words.split(), "--json", "--top", "2").splitlines()
    found = list(map(json.loads, lines))
    assert [line["text"] for line in found] == [step.text for step in expected]
    for line, step in zip(found, expected, strict=True):
        assert line["logprob"] == pytest.approx(step.logprob, abs=1e-4)
        assert list(from_dicts(line["interventions"])) == changes
    shown = run(capsys, "complete", *options, *words.split())
    assert shown == "to be" + "".join(step.text for step in expected) + "\n"
    plain = run(capsys, "complete", *options, "--json", "--top", "2").splitlines()
    assert "interventions" not in json.loads(plain[0])
    assert json.loads(plain[0])["logprob"] != pytest.approx(found[0]["logprob"], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--mute 9", "there is no layer 9; this model has 1 to 2"),
        ("--mute 1.x", "--mute is '1.x'; it must be a part"),
        ("--towards to", "a direction needs --towards and --away"),
        ("--away to", "a direction needs --towards and --away"),
        ("--towards é --away be", "characters, but not 'é' (U+00E9)"),
        ("--ban #29", "--ban: there is no token 29"),
        ("--boost é:2", "--boost: this model knows 29 characters, but not 'é'"),
        ("--cut 1 --slide -n 99", "at most 32 tokens"),
    ],
)
def test_what_cannot_be_changed_is_refused_before_anything_is_printed(
    words: str, sentence: str, capsys: pytest.CaptureFixture[str], tiny_directory: Path
) -> None:
    with pytest.raises(SystemExit) as refused:
        main(["complete", "to be", "--model", "tiny", *words.split()])
    printed = capsys.readouterr()
    assert printed.out == ""
    assert sentence in f"{refused.value} {printed.err}"


def test_complete_reads_stdin_and_stops_at_a_text(tiny_directory: Path) -> None:
    done = gpt("complete", "--model", "tiny", "-n", "20", "--stop", " ", stdin=b"to be")
    assert done.returncode == 0
    assert done.stdout.startswith(b"to be")
    assert b" " not in done.stdout[5:]


@pytest.mark.parametrize(
    ("texts", "stops", "expected"),
    [
        (["ab", "cd"], [], "abcd"),
        (["ab", "cd"], ["bc"], "a"),
        (["a", "b", "a", "b", "c"], ["abc"], "ab"),
        (["a", "b"], ["abc"], "ab"),
        (["xy"], ["y", "x"], ""),
    ],
)
def test_the_stop_text_and_its_beginnings_are_held_back(
    texts: list[str], stops: list[str], expected: str
) -> None:
    assert "".join(before_stop(texts, stops)) == expected


def test_score_prints_totals_that_are_the_sum_of_its_lines(
    capsys: pytest.CaptureFixture[str], tiny: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat. " * 4)
    lines = run(capsys, "score", str(path), "--model", "tiny", "--json").splitlines()
    *steps, totals = map(json.loads, lines)
    nats = -sum(step["logprob"] for step in steps[1:])
    assert totals["totals"]["nats"] == pytest.approx(nats)
    assert totals["totals"]["bits_per_byte"] == pytest.approx(nats / math.log(2) / 95)
    assert totals["totals"]["perplexity"] == pytest.approx(math.exp(nats / 95))
    expected = score(tiny.new_context(), tiny.new_context().encode(path.read_text()))
    assert [step["token_id"] for step in steps] == [step.token_id for step in expected]
    table = run(capsys, "score", str(path), "--model", "tiny").splitlines()
    assert table[0].split() == ["probability", "token"]
    assert table[1].split() == ["—", "'t'"]
    for line, step in zip(table[2:-1], steps[1:], strict=True):
        share, sign, name = line.split(maxsplit=2)
        assert float(share) == pytest.approx(100 * math.exp(step["logprob"]), rel=1e-3)
        assert sign == "%" and name == repr(step["text"])
        assert line.index(" %") == table[0].index("  token") - 2
    assert f"{nats:.3f} nats over 95 tokens" in table[-1]


def test_models_lists_all_models(capsys: pytest.CaptureFixture[str], tiny_directory: Path) -> None:
    assert "tiny" in run(capsys, "models")
    found = [json.loads(line) for line in run(capsys, "models", "--json").splitlines()]
    assert "tiny" in {model["name"] for model in found}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["complete", "a", "--model", "nope"], "there is no model 'nope'; installed: "),
        (["complete", "a", "--model", "Tniy"], "no model 'Tniy' (did you mean tiny?); installed: "),
        (["complete", "é", "--model", "tiny"], "characters, but not 'é' (U+00E9)"),
        (["complete", "", "--model", "tiny"], "the prompt is empty"),
        (["complete", "a" * 33, "--model", "tiny"], "has 33 tokens and this model reads 32"),
        (["complete", "a", "--model", "tiny", "--device", "cuda"], "no usable CUDA device"),
        (["score", "no-such-file", "--model", "tiny"], "cannot read no-such-file"),
        (["complete", "a", "--model", "x\x1b]0;y\x07"], "'x\\x1b]0;y\\x07'"),
    ],
)
@pytest.mark.usefixtures("tiny_directory")
def test_errors_are_one_line_and_status_1(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert message in str(ended.value.code)
    assert str(ended.value.code).count("\n") == 0
    assert str(ended.value.code).isprintable()


BOOST = "a word, a colon and a number from -1000 to 1000, like king:2"
COUNT = "a whole number from 0 to 2147483647"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("complete --top-p 3.0", "--top-p is 3.0; it must be a number from 0 to 1"),
        ("complete --temperature -1", "--temperature is -1; it must be a number from 0 to 100"),
        ("complete --temperature nan", "--temperature is 'nan'; it must be a number from 0 to 100"),
        ("complete --top-k 1.5", f"--top-k is 1.5; it must be {COUNT}"),
        ("complete --penalty-w -1", f"--penalty-window is -1; it must be {COUNT}"),
        ("complete -n -4", f"-n is -4; it must be {COUNT}"),
        ("complete -n-4", f"-n is -4; it must be {COUNT}"),
        ("complete --max-new-tokens=-4", f"--max-new-tokens is -4; it must be {COUNT}"),
        ("complete --max-new 2147483648", f"--max-new-tokens is 2147483648; it must be {COUNT}"),
        ("chat -n -4", f"-n is -4; it must be {COUNT}"),
        ("complete --branches 65", "--branches is 65; it must be a whole number from 1 to 64"),
        ("complete --boost king", f"--boost is 'king'; it must be {BOOST}"),
        ("complete --boost king:1e308", f"--boost is 'king:1e308'; it must be {BOOST}"),
        ("complete --boost king:nan", f"--boost is 'king:nan'; it must be {BOOST}"),
        ("complete --stop=", "--stop is ''; it must be a text of at least one character"),
        ("complete --top -1", f"--top is -1; it must be {COUNT}"),
        ("chat --top -1", f"--top is -1; it must be {COUNT}"),
        ("score - --top -1", f"--top is -1; it must be {COUNT}"),
        (
            "complete --strength nan",
            "--strength is 'nan'; it must be a number from -1e+06 to 1e+06",
        ),
    ],
)
def test_a_wrong_value_is_refused_as_one_of_the_wrong_type_is(
    arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(arguments.split())
    command = arguments.split()[0]
    said = f"error: {sentence}\nhelp: python -m gpt {command} --help\n"
    assert capsys.readouterr() == ("", said)


@pytest.mark.parametrize("order", ["", "seed", "top-k,top-k", "top-k;min-p"])
def test_a_wrong_order_is_refused_with_the_settings_that_have_one(
    order: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["complete", "a", "--order", order])
    said = capsys.readouterr().err
    assert said.startswith(f"error: --order is {order!r}; it must be different settings out of: ")
    assert "top-k, typical-p" in said


@pytest.mark.parametrize(("device", "message"), [("abacus", "mps"), ("cdua", "did you mean cuda")])
def test_a_device_that_does_not_exist_is_refused(device: str, message: str) -> None:
    with pytest.raises(UserError, match=f"there is no device '{device}'; use auto.*{message}"):
        choose(device)


def test_binary_input_is_refused(tiny_directory: Path) -> None:
    done = gpt("score", "-", "--model", "tiny", stdin=b"\xff\xfd")
    assert done.returncode == 1
    assert done.stderr == b"error: stdin is not UTF-8 text (byte 0); save it as UTF-8\n"
    done = gpt("score", "-", "--model", "tiny", stdin=b"a")
    assert done.returncode == 1
    assert b"at least two tokens" in done.stderr


@pytest.mark.skipif(os.name != "posix", reason="Windows has no SIGINT to send")
def test_a_closed_pipe_and_ctrl_c_end_quietly(tiny_directory: Path) -> None:
    import signal

    endless = ["--model", "tiny", "-n", "1000000000", "--slide", "--json"]
    for end in ("close", "interrupt"):
        process = subprocess.Popen(
            [sys.executable, "-m", "gpt", "complete", "a", *endless],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell's background job ignores Ctrl+C, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert process.stdout and process.stderr
        process.stdout.readline()
        if end == "close":
            process.stdout.close()
        else:
            process.send_signal(signal.SIGINT)
            process.stdout.read()
        assert process.wait(20) == (141 if end == "close" else 130)
        assert process.stderr.read() == b""


@needs_pty
def test_without_a_prompt_a_terminal_says_what_is_waited_for(tiny_directory: Path) -> None:
    import pexpect

    command = ["-m", "gpt", "complete", "--model", "tiny", "-n", "2"]
    child = pexpect.spawn(sys.executable, command, timeout=60)
    child.expect_exact("reading a text from the keyboard; Ctrl+D on an empty line ends it\r\n")
    child.sendline("to be")
    child.sendeof()
    child.expect(pexpect.EOF)
    assert b"error" not in child.before and b"to be" in child.before
    assert gpt("complete", "--model", "tiny", "-n", "2", stdin=b"to be").stderr == b""


@needs_pty
def test_a_terminal_never_gets_an_escape_sequence(tiny_directory: Path) -> None:
    import pexpect

    from gpt.checkpoint import save
    from gpt.tokenizer import CharTokenizer
    from tests.conftest import CHARACTERS, random_model

    hostile = CHARACTERS[:-3] + "\x1b\x9b\u202e"
    save(tiny_directory, random_model(), CharTokenizer(hostile))
    command = ["-m", "gpt", "complete", "a", "--model", "tiny", "-n", "30", "--temperature", "3"]
    child = pexpect.spawn(sys.executable, command, env={**os.environ, "TERM": "xterm"}, timeout=60)
    child.expect(pexpect.EOF)
    shown = child.before.decode()
    assert not {"\x1b", "\x9b", "\u202e"} & set(shown)
    assert {"␛", "<U+009B>", "<U+202E>"} & {
        shown[i : i + n] for i in range(len(shown)) for n in (1, 8)
    }


def test_there_is_an_option_for_every_number_of_sampling() -> None:
    others = ("banned", "boosted", "order", "mirostat_mu")
    assert SETTINGS.keys() == {f.name for f in fields(Sampling) if f.name not in others}


def test_the_rarer_settings_and_their_order_are_options(
    capsys: pytest.CaptureFixture[str], tiny: Checkpoint
) -> None:
    options = ["--temperature", "3", "--min-p", "0.6", "--order", "min-p, temperature"]
    options += ["--dry-multiplier", "0.8", "--mirostat-tau", "2", "--model", "tiny", "-n", "20"]
    lines = run(capsys, "complete", "to be", *options, "--json").splitlines()
    sampling = Sampling(
        temperature=3.0,
        min_p=0.6,
        order=("min_p", "temperature"),
        dry_multiplier=0.8,
        mirostat_tau=2.0,
    )
    context = tiny.new_context()
    steps = list(generate(context, context.encode("to be"), sampling, Limits(20)))
    assert [Step.from_dict(json.loads(line)) for line in lines] == steps
    assert steps[0].mirostat_mu == 4


def test_help_needs_no_torch() -> None:
    code = "import sys, gpt.__main__, gpt.engine, gpt.models; assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_named_continuations_have_the_probabilities_of_the_model(
    tiny: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["be", "b\n", "z"]
    main(["score", "--model", "tiny", "--prompt", "to ", "--options", *options, "--json"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["option"] for each in found] == options
    for each in found:
        ids = tiny.new_context().encode("to " + each["option"])
        logprobs = tiny.model(torch.tensor([ids])).log_softmax(-1)[0]
        nats = [-logprobs[i - 1, ids[i]].item() for i in range(3, len(ids))]
        assert [-token["logprob"] for token in each["tokens"]] == pytest.approx(nats, abs=1e-5)
        assert each["totals"]["nats"] == pytest.approx(sum(nats), abs=1e-5)
        assert each["totals"]["bytes"] == len(each["option"])
    main(["score", "--model", "tiny", "--prompt", "to ", "--options", *options])
    shown = capsys.readouterr().out
    best = min(found, key=lambda each: each["totals"]["nats"])["option"]
    assert f"most probable: {best!r}" in shown
    assert shown.splitlines()[0].split() == ["probability", "token"]
    for each in found:
        assert f"{100 * math.exp(-each['totals']['nats']):#.4g} %  the whole: " in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--options", "a"], "needs --prompt with the text"),
        (["--prompt", "a", "-"], "--prompt needs --options"),
        (["--prompt", "a", "--options", ""], "an option is empty"),
    ],
)
def test_wrong_options_are_one_sentence(
    tiny: Checkpoint, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["score", "--model", "tiny", *arguments])
    sentence, advice = capsys.readouterr().err.splitlines()
    assert message in sentence and advice == "help: python -m gpt score --help"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--layer 3", "--layer needs a direction"),
        ("--strength 5 --over mean", "--strength and --over need a direction"),
    ],
)
def test_an_option_that_would_change_nothing_is_refused(
    options: str, message: str, tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["complete", "to be", "--model", "tiny", *options.split()])
    out, err = capsys.readouterr()
    assert not out and message in err


def test_a_text_without_a_context_is_refused_before_anything_is_printed(
    tiny_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text").write_text("a")
    with pytest.raises(SystemExit, match="score at least two tokens"):
        main(["score", "--model", "tiny", str(tmp_path / "text")])
    assert capsys.readouterr().out == ""


def test_a_file_that_is_no_checkpoint_can_be_converted(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(SystemExit, match=r"convert it first: python -m convert .*model\.gguf"):
        main(["complete", "a", "--model", str(tmp_path / "model.gguf")])


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("command", ["complete a -n 500 --slide", "score text", "models"])
@pytest.mark.parametrize("json_option", ["", " --json"])
def test_a_full_disk_is_one_sentence(
    command: str, json_option: str, tiny_directory: Path, tmp_path: Path
) -> None:
    (tmp_path / "text").write_text("to be " * 100)
    model = "" if command == "models" else " --model tiny"
    # A file that may have only one block behaves like a full disk.
    line = f'ulimit -f 1; exec "$0" -m gpt {command}{json_option}{model}'
    (tmp_path / "out").write_bytes(b"x" * 1000)
    with (tmp_path / "out").open("ab") as out:
        done = subprocess.run(
            ["/bin/sh", "-c", line, sys.executable],
            stdout=out,
            stderr=subprocess.PIPE,
            cwd=tmp_path,
            timeout=60,
            check=False,
        )
    assert done.stderr == b"error: cannot write stdout: File too large\n"
    assert done.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("complete --model tiny <&-", b"error: the prompt is empty"),
        ("score - --model tiny <&-", b"error: the text has no token"),
        ("complete a --model tiny >&-", b"error: stdout is closed"),
        ("models --json >&-", b"error: stdout is closed"),
        ("complete a --model nope 2>&-", b""),
    ],
)
def test_closed_pipes_are_one_sentence(line: str, message: bytes, tiny_directory: Path) -> None:
    command = ["/bin/sh", "-c", f'exec "$0" -m gpt {line}', sys.executable]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count(b"\n") == bool(message)
