"""The command lines of the three programs: their help, and what they say to mistakes."""

from __future__ import annotations

import argparse
import io
import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from convert.__main__ import _parser as convert_parser
from gpt.__main__ import _parser as gpt_parser
from gpt.__main__ import main
from gpt.command_line import Parser, one_of
from gpt.commands.completion import SETTINGS
from gpt.config import ModelConfig
from gpt.nearest import did_you_mean, nearest
from gpt.sanitize import one_line
from gpt.settings import Sampling
from gpt.training.command import _NO_OPTIONS
from gpt.training.loop import TrainConfig
from gpt.training.presets import PRESETS
from tui.arguments import parser as tui_parser
from tui.dials import KNOBS

COMMANDS = ("complete", "chat", "score", "inspect", "bench", "models", "train", "evaluate")
GPT = "python -m gpt"


def of_command(name: str) -> Parser:
    """The parser of a command of `python -m gpt`."""
    (group,) = [a for a in gpt_parser([name])._actions if a.nargs == argparse.PARSER]
    return group.choices[name]  # type: ignore[index]


PARSERS = {
    "gpt-tui": tui_parser(),
    "python -m convert": convert_parser(),
    GPT: gpt_parser([]),
    **{f"{GPT} {name}": of_command(name) for name in COMMANDS},
}
every_parser = pytest.mark.parametrize("program", PARSERS)


def refusal(parser: Parser, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence with which a parser refuses arguments."""
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(arguments)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    sentence, advice = err.splitlines()
    assert advice == f"help: {parser.prog} --help"
    assert sentence.startswith("error: ")
    return sentence.removeprefix("error: ")


@every_parser
def test_every_option_has_a_sentence_its_default_and_a_group(program: str) -> None:
    parser = PARSERS[program]
    assert parser.prog == program
    for group in parser._action_groups:
        for action in group._group_actions:
            assert group.title not in ("options", "positional arguments"), action.dest
            assert action.help and action.help.count("(default: ") <= 1, action.dest
            assert re.fullmatch(r"[A-Z].*\.( \(default: .+\))?", action.help), action.help
            if action.nargs not in (0, argparse.PARSER):
                assert ("(default: " in action.help) != action.required, action.help
                assert action.metavar, f"{action.dest} needs a word for its value"


@every_parser
@pytest.mark.parametrize("columns", [80, 200])
def test_the_help_is_readable(
    program: str, columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("GPT_TUI_HOME", "/home/me")
    with pytest.raises(SystemExit) as ended:
        PARSERS[program].parse_args(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert shown.startswith(f"usage: {program}")
    assert "\nexamples:\n" in shown
    assert shown.isascii(), "some terminals know no other characters"
    assert max(map(len, shown.splitlines())) <= min(columns, 100)
    assert "\n\n\n" not in shown
    assert "==SUPPRESS==" not in shown
    assert not re.search(r"\(default:( [^\s)]+)?\n", shown), "a short default is on one line"


def test_the_help_says_where_everything_is(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        tui_parser().parse_args(["--help"])
    shown = capsys.readouterr().out
    for place in ("texts", "models", "settings.toml"):
        assert str(home / place) in shown


def examples() -> Iterator[list[str]]:
    """The words of every example, after what is piped into it."""
    for parser in PARSERS.values():
        for line in parser.examples:
            yield shlex.split(line.rpartition("| ")[2])


@pytest.mark.parametrize("words", [*examples()], ids=" ".join)
def test_every_example_is_understood(words: list[str]) -> None:
    program = next(name for name in ("gpt-tui", "python -m convert", GPT) if matches(words, name))
    arguments = words[len(program.split()) :]
    parser = gpt_parser(arguments) if program == GPT else PARSERS[program]
    if "--help" in arguments:
        with pytest.raises(SystemExit, match=r"^0$"):
            parser.parse_args(arguments)
    else:
        assert parser.parse_args(arguments)


def matches(words: list[str], program: str) -> bool:
    return words[: len(program.split())] == program.split()


@pytest.mark.parametrize(
    "words",
    [w for w in examples() if {"complete", "score", "models"} & {*w[3:4]} and "--help" not in w],
    ids=" ".join,
)
def test_the_examples_work(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("FILE").write_text("To be, or not to be")
    monkeypatch.setattr("gpt.text_file.read_stdin", lambda: "To be, or not to be")
    arguments = words[3:] + (["-n", "3"] if words[3] == "complete" else [])
    main(arguments)
    assert capsys.readouterr().out.strip()


def slips(option: str) -> Iterator[str]:
    """An option with a letter left out or two neighbours swapped."""
    for i in range(2, len(option)):
        yield option[:i] + option[i + 1 :]
        yield option[:i] + option[i + 1 : i + 2] + option[i] + option[i + 2 :]


@every_parser
def test_an_option_with_a_slip_is_refused_with_what_was_meant(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = PARSERS[program]
    options = [name for action in parser._actions for name in action.option_strings]
    n_refused = 0
    for option in options:
        for slip in slips(option):
            if not any(known.startswith(slip) for known in options):  # not short for an option
                expected = f"no option {slip}; did you mean {option}?"
                assert refusal(parser, [slip], capsys) == expected
                assert refusal(parser, [f"{slip}=1 2"], capsys) == expected
                n_refused += 1
    assert n_refused > 5


def test_an_option_that_is_like_no_other_is_refused_without_a_guess(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refusal(PARSERS["gpt-tui"], ["--xyzzy", "1"], capsys) == "no option --xyzzy"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_with_a_slip_is_refused_with_what_was_meant(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for slip in slips("--" + command):
        if (word := slip.removeprefix("--")) != command:
            expected = f"no command {word!r}; did you mean {command}?"
            assert refusal(PARSERS[GPT], [word, "--steps", "5"], capsys) == expected
    listed = "use complete, chat, score, inspect, bench, models, servers, train or evaluate"
    assert refusal(PARSERS[GPT], ["xyzzy"], capsys) == f"no command 'xyzzy'; {listed}"


@pytest.mark.parametrize(
    ("program", "arguments", "sentence"),
    [
        (GPT, "", "COMMAND is missing"),
        ("gpt-tui", "--seed x", "--seed is 'x'; it must be a whole number of at least 0"),
        ("gpt-tui", "--port x", "--port is 'x'; it must be a whole number from 0 to 65535"),
        ("gpt-tui", "--port 65536", "--port is 65536; it must be a whole number from 0 to 65535"),
        ("gpt-tui", "-n", "-n needs a value"),
        ("gpt-tui", "--len", "--length needs a value"),
        ("gpt-tui", "--score f --last", "--last cannot be used together with --score"),
        ("gpt-tui", "--chat=yes", "--chat takes no value"),
        ("gpt-tui", "one two", "unexpected argument 'two'; put quotes around what has spaces"),
        ("gpt-tui", "--device cdua", "mps; did you mean cuda?"),
        (f"{GPT} bench", "--device cuda:x", "mps; did you mean cuda:N?"),
        (
            f"{GPT} inspect",
            "--threads -2",
            "--threads is -2; it must be a whole number of at least 0",
        ),
        ("gpt-tui", "--dtype bflot16", "int4; did you mean bfloat16?"),
        ("python -m convert", "gpt2 --dtype kep", "keep; did you mean keep?"),
        ("python -m convert", "", "MODEL is missing"),
        ("python -m convert", "--forse", "no option --forse; did you mean --force?"),
        (f"{GPT} complete", "--temperature hot", "'hot'; it must be a number from 0 to 100"),
        (f"{GPT} bench", "gpt2", "unexpected argument 'gpt2'; name a model with --model"),
        (f"{GPT} inspect", "", "WHAT and MODEL are missing"),
        (f"{GPT} inspect", "lens", "MODEL is missing"),
        (f"{GPT} score", "", "FILE or --options is missing"),
        (f"{GPT} score", "--options", "--options needs at least one value"),
        (f"{GPT} train", "--preset lectrue", "384; did you mean lecture?"),
        (f"{GPT} train", "--optimizer adam", "adamw; did you mean adamw?"),
        (f"{GPT} train", "--bias yes", "--bias is 'yes'; it must be true or false"),
        (f"{GPT} train", "--drop 0 --re", "--re is short for several options: "),
        (f"{GPT} train", "--steps 0", "--steps is 0; it must be a whole number of at least 1"),
        (f"{GPT} train", "--weight-decay -1", "is -1; it must be a number of at least 0"),
        (f"{GPT} train", "--lr inf", "--lr is 'inf'; it must be a number above 0"),
        (f"{GPT} train", "--momentum 1.0", "a number of at least 0 and below 1"),
        (f"{GPT} train", "--seed 4294967296", "a whole number from 0 to 4294967295"),
        (f"{GPT} evaluate", "--only slidng", "sliding; did you mean sliding?"),
    ],
)
def test_a_mistake_is_one_sentence(
    program: str, arguments: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = refusal(PARSERS[program], arguments.split(), capsys)
    assert sentence in found
    assert found.endswith(sentence) or sentence.endswith(" ")


def test_what_was_not_understood_points_to_the_help_of_its_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["score", "shakespeare", "a b", "\x1b" * 99])
    shown = repr("\x1b" * 60 + "...")
    assert capsys.readouterr().err == (
        f"error: unexpected arguments 'a b', {shown}; put quotes around what has spaces; name a "
        "model with --model\nhelp: python -m gpt score --help\n"
    )


def test_a_closed_stderr_changes_no_status(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with pytest.raises(SystemExit, match=r"^2$"):
        tui_parser().parse_args(["--xyzzy"])


def small() -> Parser:
    parser = Parser(prog="small", usage="small")
    group = parser.add_argument_group("all")
    group.add_argument("word", nargs="?")
    group.add_argument("-n", "--number", type=int)
    group.add_argument("--ratio", type=float, default=1.0)
    group.add_argument("--kind", type=one_of(("red", "blue")))
    parser.end({})
    return parser


WORDS = st.text(max_size=9) | st.sampled_from(
    [
        "-n",
        "-n5",
        "--number",
        "--number=5",
        "--nu",
        "-5",
        "-.5",
        "--",
        "-",
        "--kind",
        "red",
        "--kin",
    ]
)


@given(st.lists(WORDS, max_size=4))
@example(["-1e5"])
@example(["--number", "9" * 5000])
@example(["\x1b]0;y\x07", "\x1b", "--\x1b[2J"])
def test_any_arguments_are_accepted_or_refused_in_one_sentence(arguments: list[str]) -> None:
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", printed)
        patch.setattr(sys, "stdout", io.StringIO())
        try:
            small().parse_args(arguments)
        except SystemExit as end:
            assert end.code in (0, 2)
            if end.code == 2:
                sentence, advice = printed.getvalue().split("\n")[:2]
                assert one_line(sentence) == sentence and sentence.startswith("error: ")
                assert printed.getvalue() == f"{sentence}\n{advice}\n"


def test_what_was_accepted_without_this_class_still_is() -> None:
    found = small().parse_args(["-n5", "--rat", "-.5", "a text - with --dashes"])
    assert (found.number, found.ratio, found.word) == (5, -0.5, "a text - with --dashes")
    assert small().parse_args(["--", "--not-an-option"]).word == "--not-an-option"
    assert small().parse_args(["-7"]).word == "-7"


@given(st.sets(st.text("abcdefgh", min_size=1, max_size=12)), st.text(max_size=12))
def test_the_nearest_name_is_one_of_the_names(names: set[str], name: str) -> None:
    found = nearest(name, names)
    assert found is None or found in names
    assert nearest(name, {*names, name}) is not None
    assert bool(did_you_mean(name, names)) == (found is not None)
    for known in names:
        assert nearest(known, names) == known


def test_dashes_and_capitals_make_no_difference_to_what_is_near() -> None:
    assert nearest("-Seed", ("--steps", "--seed")) == "--seed"
    assert nearest("rl", ("lr", "revision")) == "lr"
    assert nearest("revsion", ("version", "revision")) == "revision"
    assert nearest("GPT2", ("gpt2", "gpt2-xl")) == "gpt2"
    assert nearest("x" * 10**6, ("xx",)) is None


def test_complete_says_with_what_the_interface_begins() -> None:
    begins = {
        knob.name: float(knob.value) for knob in KNOBS if knob.name in SETTINGS and knob.value
    }
    changed = {n: v for n, v in begins.items() if v != getattr(Sampling(), n)}
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in changed.items())
    for command in ("complete", "chat"):
        shown = PARSERS[f"{GPT} {command}"].format_help()
        assert f"The interface and chat begin with {words}." in shown


def test_train_has_an_option_for_every_field() -> None:
    dests = {action.dest for action in PARSERS[f"{GPT} train"]._actions}
    names = {field.name for kind in (TrainConfig, ModelConfig) for field in fields(kind)}
    assert names - dests == _NO_OPTIONS


def test_train_shows_its_presets_and_its_groups() -> None:
    shown = PARSERS[f"{GPT} train"].format_help()
    for name, preset in PRESETS.items():
        assert re.search(
            rf"^  {name} .* {preset.train.steps} .*{preset.train.optimizer}$", shown, re.M
        )
    titles = re.findall(r"^(\w[\w ]+):$", shown, re.M)
    assert titles == [
        "preset",
        "data",
        "model shape",
        "parts of the model",
        "optimisation",
        "schedule",
        "evaluation",
        "output",
        "speed",
        "help",
        "examples",
        "files",
    ]


def test_convert_verifies_unless_it_is_told_not_to() -> None:
    parse = PARSERS["python -m convert"].parse_args
    assert parse(["gpt2"]).verify is parse(["gpt2", "--verify"]).verify is True
    assert parse(["gpt2", "--no-verify"]).verify is False
