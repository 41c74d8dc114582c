"""Command lines that explain themselves: help in groups, examples, errors that say what was meant.

`Parser` is an argparse parser. Its options belong to titled groups, and `end` adds the last one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from gpt.nearest import did_you_mean
from gpt.sanitize import one_line

_WIDEST = 100
"""Most columns of help; longer lines are hard to read."""
_NAMES = 28
"""Columns for the names of options, to the left of their sentences."""
_SHOWN = 60
"""Most characters of a wrong value that an error repeats."""
_KEPT = "\0"
"""Stands for a space at which no line ends."""
_NUMBERS: dict[type[int] | type[float], str] = {int: "a whole number", float: "a number"}
_Number = TypeVar("_Number", int, float)
_ARGUMENT = r"argument (.+?): "
_SENTENCES = {
    _ARGUMENT + "expected one argument": r"\1 needs a value",
    _ARGUMENT + "expected at least one argument": r"\1 needs at least one value",
    _ARGUMENT + "not allowed with argument (.+)": r"\1 cannot be used together with \2",
    _ARGUMENT + "ignored explicit argument .*": r"\1 takes no value",
    _ARGUMENT + "(is .*)": r"\1 \2",
    _ARGUMENT + "(.*)": r"\1: \2",
    "the following arguments are required: (.*), (.*)": r"\1 and \2 are missing",
    "the following arguments are required: (.*)": r"\1 is missing",
    r"one of the arguments (\S+) (\S+) is required": r"\1 or \2 is missing",
    "one of the arguments (.*) is required": r"one of these is missing: \1",
    r"ambiguous option: (\S+) could match (.*)": r"\1 is short for several options: \2",
}
"""argparse's messages as sentences. A message that is not here is shown as it is."""


class Parser(argparse.ArgumentParser):
    """A parser for a program or for one of its commands.

    An unknown option or command is refused before anything else, with the nearest one. An error is
    one sentence, a line that says how to get help, and exit status 2.
    """

    def __init__(self, **options: Any) -> None:
        # argparse itself makes the parsers of commands, with options that its version knows.
        super().__init__(**{"add_help": False, "formatter_class": _formatter, **options})
        for kind, noun in _NUMBERS.items():
            self.register("type", kind, number(kind, noun))
        self.examples: Mapping[str, str] = {}
        """Command → what it does."""
        self.places: Callable[[], Mapping[str, Path]] = dict
        """Returns what is on the disk → where."""
        self._arguments: list[str] = []
        """What was typed."""

    def end(
        self,
        examples: Mapping[str, str],
        *,
        version: str = "",
        places: Callable[[], Mapping[str, Path]] = dict,
    ) -> None:
        """Add the last group of options and what stands below all options.

        Args:
            examples: command → what it does, as a phrase.
            version: what --version prints; empty: there is no such option.
            places: returns what is on the disk → where; called only if help is shown.
        """
        group = self.add_argument_group("help")
        group.add_argument("-h", "--help", action="help", help="Show this help.")
        if version:
            group.add_argument(
                "--version", action="version", version=version, help="Show the version."
            )
        self.examples, self.places = examples, places

    def format_help(self) -> str:
        """The whole help, with examples and places at its end."""
        parts = [super().format_help()]
        if self.examples:
            lines = (f"  {what}:\n    {how}\n" for how, what in self.examples.items())
            parts.append("examples:\n" + "".join(lines))
        if places := self.places():
            width = max(map(len, places))
            lines = (f"  {what:{width}}  {one_line(str(path))}\n" for what, path in places.items())
            parts.append(
                "files:\n" + "".join(lines) + "  GPT_TUI_HOME=DIR in the environment moves them.\n"
            )
        return "\n".join(parts)

    def parse_known_args(
        self, args: Iterable[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse, after unknown names were refused. What is left over is refused as well."""
        self._arguments = arguments = list(sys.argv[1:] if args is None else args)
        options = {name for action in self._actions for name in action.option_strings}
        places = {each.dest: each.metavar for each in self._actions if not each.option_strings}
        commands = self._commands()
        for argument in arguments:
            name = argument.partition("=")[0]
            if argument == "--":
                break
            if _is_option(name):
                if not _is_known(name, options):
                    if place := places.get(name.removeprefix("--")):
                        self.error(f"{place} is given without {name}")
                    self.error(f"no option {name}{did_you_mean(name, options)}")
            elif commands:
                if argument not in commands:
                    near = did_you_mean(argument, commands)
                    self.error(f"no command {argument!r}{near or '; use ' + listed(commands)}")
                break  # the rest is for the command
        found, left_over = super().parse_known_args(arguments, namespace)
        if left_over:
            self.error(self._unexpected(left_over))
        return found, left_over

    def _unexpected(self, arguments: list[str]) -> str:
        """The sentence for arguments that nothing is made of, with what was probably meant."""
        noun = "unexpected argument" + "s" * (len(arguments) > 1)
        hints = []
        if not all(action.option_strings for action in self._actions):
            hints.append("put quotes around what has spaces")
        if "--model" in self._option_string_actions:
            hints.append("name a model with --model")
        return "; ".join((f"{noun} {', '.join(map(_quoted, arguments))}", *hints))

    def _as_typed(self, message: str) -> str:
        """The message with the name that was typed of each option that has several."""
        for action in self._actions:
            if len(names := action.option_strings) > 1:
                given = self._arguments
                typed = [name for name in names if any(_names(each, name) for each in given)]
                message = message.replace("/".join(names), (typed or names)[-1])
        return message

    def _commands(self) -> Iterable[str]:
        """Names of the commands; empty if there are none."""
        found = (action.choices for action in self._actions if action.nargs == argparse.PARSER)
        return next(found, None) or ()

    def error(self, message: str) -> NoReturn:
        """Print one sentence, and how to get help; exit with status 2."""
        message = self._as_typed(message)
        for pattern, sentence in _SENTENCES.items():
            if found := re.fullmatch(pattern, message, re.DOTALL):
                message = found.expand(sentence)
                break
        if sys.stderr:
            sys.stderr.write(f"error: {one_line(message)}\nhelp: {self.prog} --help\n")
        sys.exit(2)


def one_of(names: Iterable[str]) -> Callable[[str], str]:
    """A type of argparse that accepts only these names; the error for others says the nearest."""
    known = tuple(names)

    def choose(text: str) -> str:
        if text not in known:
            raise wrong(text, f"one of {', '.join(known)}{did_you_mean(text, known)}")
        return text

    return choose


def is_given(args: argparse.Namespace, name: str) -> bool:
    """Whether an option has another value than the one it has if it is left out."""
    return bool(getattr(args, name) != args.default_of(name))


def add_choice(
    group: argparse._ArgumentGroup,
    option: str,
    names: Sequence[str],
    text: str,
    *,
    metavar: str = "NAME",
) -> None:
    """Add an option that takes one of some names, the first one by default.

    text: what is chosen, for its help.
    """
    group.add_argument(
        option,
        type=one_of(names),
        default=names[0],
        metavar=metavar,
        help=f"{text}: {listed(names)}. (default: %(default)s)",
    )


def wrong(text: str, noun: str) -> argparse.ArgumentTypeError:
    """The error for a value that should be something else. A number is shown as it was typed."""
    is_number = re.fullmatch(r"[-+]?[\d.]{1,30}(e[-+]?\d{1,5})?", text, re.ASCII)
    shown = text if is_number else _quoted(text)
    return argparse.ArgumentTypeError(f"is {shown}; it must be {noun}")


def _quoted(text: str) -> str:
    """What was typed, in quotes, cut if it is long."""
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """A type of argparse for a whole number from low to high."""
    return number(int, f"a whole number from {low} to {high}", lambda value: low <= value <= high)


def number(
    kind: type[_Number], noun: str, is_right: Callable[[_Number], bool] = lambda _: True
) -> Callable[[str], _Number]:
    """A type of argparse for numbers, with an error for a person.

    noun: what the number must be. is_right: whether it is.
    """

    def read(text: str) -> _Number:
        with suppress(ValueError):
            if is_right(value := kind(text)):
                return value
        raise wrong(text, noun)

    return read


def listed(names: Iterable[str]) -> str:
    """At least one name, as in a sentence: a, b or c."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def _is_option(name: str) -> bool:
    """Whether argparse takes an argument for an option: it has a dash and is not a number."""
    if len(name) < 2 or name[0] != "-" or " " in name:
        return False
    try:
        float(name)
    except ValueError:
        return True
    return False


def _names(argument: str, option: str) -> bool:
    """Whether an argument gives an option by this name, or by a short form of it."""
    if option.startswith("--"):
        name = argument.partition("=")[0]
        return len(name) > 2 and option.startswith(name)
    return argument.startswith(option)


def _is_known(name: str, options: Iterable[str]) -> bool:
    """Whether a name is an option, or short for one, or a short option with its value."""
    if not name.startswith("--"):
        return name[:2] in options
    return any(option.startswith(name) for option in options)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Leaves tables in descriptions as they are, and does not break a line inside a default."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        """The lines of an option's help. Without this method, argparse breaks them anywhere."""
        from textwrap import wrap

        sentence, bracket, default = " ".join(text.split()).partition("(default: ")
        whole = bracket + default
        if len(whole) <= width:
            whole = whole.replace(" ", _KEPT)
        lines = wrap(sentence + whole, width, break_on_hyphens=False)
        return [line.replace(_KEPT, " ") for line in lines]


def _formatter(*, prog: str) -> argparse.HelpFormatter:
    """A formatter as wide as the terminal, but not wider than a person reads well."""
    from shutil import get_terminal_size

    width = min(get_terminal_size().columns, _WIDEST) - 2
    return _Formatter(prog, max_help_position=_NAMES, width=width)
