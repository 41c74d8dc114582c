"""Damaged checkpoints, ours and Hugging Face's: each loads, or is refused in one sentence."""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from convert.events import Notice
from convert.write import ConversionOptions, convert
from gpt import models
from gpt.checkpoint import damaged, load, save
from gpt.errors import UserError
from gpt.text_file import is_file, read_small
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tests.convert.conftest import gpt2, opt, saved
from tests.convert.test_facts import TURNS, byte_level, template
from tests.fuzz.seconds import seconds

SEED = 20
PATIENCE = 60
"""Seconds after which a checkpoint counts as one that is never done with."""
MEMORY = 4 << 30
"""Bytes that looking at a tiny checkpoint may take."""
DEEP = "[" * 100_000
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 5, 255, 256, 300, 2**31, 2**63, 2**70, -(2**70), 10**400),
    *(0.5, -0.5, 1e308, -1e308, 1e-320, math.nan, math.inf, -math.inf),
    *("", "x", "5", "relu", "gpt2", "int8", "\ud800", "\0", "\x1b[2J", "n" * 300, "a/../b", "{%"),
    *([], [0], [-1], [256], [[]], ["x"], [[[[[[[[]]]]]]]], {}, {"a": 1}, {"content": 5}),
)

Change = Callable[[random.Random, Path], None]


class Endless(BaseException):
    """Nothing may catch it."""


@contextmanager
def bounded() -> Iterator[None]:
    """A time and a memory in which anything must be done."""
    import resource  # Windows does not have it

    def end(number: int, frame: object) -> None:
        raise Endless

    in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, end)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, hard))
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


# What happens to a file


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key of a value of JSON."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    inner = [value[key] for key in keys if isinstance(value[key], dict | list)]
    return [(value, key) for key in keys] + [place for each in inner for place in places(each)]


def other_value(rng: random.Random, value: Any) -> None:
    """Change a value of JSON somewhere."""
    for _ in range(rng.choice((1, 1, 1, 3))):
        table, key = rng.choice(places(value))
        how = rng.randrange(4)
        if how == 0:
            del table[key]
        elif how == 1 and isinstance(table, dict):
            table[rng.choice((*table, "x", ""))] = rng.choice(ODD)
        elif how == 2:
            table[key] = rng.choice(places(value))[0]
            json.dumps(value)  # raises ValueError where it is now in itself
        else:
            table[key] = rng.choice(ODD)


def json_values(rng: random.Random, path: Path) -> None:
    value = json.loads(path.read_bytes())
    other_value(rng, value)
    path.write_text(json.dumps(value))


def header_values(rng: random.Random, path: Path) -> None:
    """The table at the beginning of a safetensors file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    other_value(rng, header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[end:])


def other_bytes(rng: random.Random, path: Path) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 5, 50))):
        at = rng.randrange(len(data))
        how = rng.randrange(4)
        if how == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            del data[at : at + rng.randrange(200)]
        elif how == 2:
            data[at:at] = data[at : at + rng.randrange(50)]
        else:
            data[at : at + 3] = rng.choice(
                (b"\xef\xbb\xbf", b"\r\n", b"\0", b"NaN", b'"', b"{%", b"")
            )
    path.write_bytes(data)


def other_lines(rng: random.Random, path: Path) -> None:
    lines = path.read_bytes().split(b"\n")
    rng.shuffle(lines)
    path.write_bytes(rng.choice((b"\n", b"\r\n", b"")).join(lines[: rng.randrange(len(lines) + 1)]))


def something_else(rng: random.Random, path: Path) -> None:
    junk = (b"", b"\n", b"[]", b"{}", b"null", b"5", DEEP.encode(), b"\xff\xfe", b"1" * 5000)
    path.write_bytes(rng.choice(junk))


def no_file(rng: random.Random, path: Path) -> None:
    path.unlink()
    how = rng.randrange(6)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.mkdir()
    elif how == 2:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif how > 3:
        path.symlink_to(
            rng.choice(("/dev/zero", path.name, "gone", "../x", "n" * 300, "a/" * 2047))
        )


def of_another(rng: random.Random, path: Path) -> None:
    """Another file of the checkpoint in its place, but not the terabyte that no_file makes."""
    files = sorted(p for p in path.parent.iterdir() if is_file(p) and p.stat().st_size < 1 << 20)
    shutil.copy(rng.choice(files), path)


def another_name(rng: random.Random, path: Path) -> None:
    names = [each.name for each in path.parent.iterdir()]
    path.rename(path.with_name(rng.choice((*names, "x", "tokenizer.json", "characters.json"))))


CHANGES: list[Change] = [
    *(json_values, json_values, json_values, header_values, other_bytes, other_bytes),
    *(other_lines, something_else, no_file, of_another, another_name),
]


def damage(rng: random.Random, directory: Path) -> list[str]:
    """Change one file or a few; says what was done."""
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        files = sorted(p for p in directory.iterdir() if not p.is_symlink() and p.is_file())
        files = [path for path in files if 0 < path.stat().st_size < 1 << 20]
        if not files:
            break
        path, change = rng.choice(files), rng.choice(CHANGES)
        try:
            change(rng, path)
        except (ValueError, IndexError, KeyError, TypeError, RecursionError, OSError):
            continue  # it is not made for such a file
        done.append(f"{change.__name__} {path.name}")
    return done


# The checkpoints


def make_theirs(root: Path) -> list[Path]:
    """Checkpoints of Hugging Face, of every kind of file."""
    pairs = saved(gpt2(eos_token_id=263), root / "pairs")
    single = saved(opt(eos_token_id=[2, 5]), root / "single")
    library = saved(gpt2(), root / "library", max_shard_size="10KB")
    for name in ("vocab.json", "merges.txt"):
        (library / name).unlink()
    (library / "tokenizer.json").write_text(byte_level(template()))
    (single / "tokenizer.json").write_text(prefixed())
    (single / "model.safetensors").unlink()
    torch.save(opt().state_dict(), single / "pytorch_model.bin")
    facts: dict[str, Any] = {
        "tokenizer_config.json": {
            "add_bos_token": True,
            "bos_token": {"content": "<|endoftext|>", "lstrip": False},
            "added_tokens_decoder": {"263": {"content": "<|endoftext|>", "special": True}},
            "chat_template": [{"name": "default", "template": TURNS}],
        },
        "special_tokens_map.json": {"eos_token": "<|endoftext|>", "pad_token": {"content": "<x>"}},
        "added_tokens.json": {"<x>": 264},
    }
    for name, values in facts.items():
        (pairs / name).write_text(json.dumps(values))
    (pairs / "chat_template.jinja").write_text(TURNS)
    return [pairs, single, library]


def prefixed() -> str:
    """A tokenizer.json that only the tokenizers library can follow."""
    values = json.loads(byte_level())
    values["pre_tokenizer"]["add_prefix_space"] = True
    return Tokenizer.from_str(json.dumps(values)).to_str()


def make_ours(root: Path, theirs: list[Path]) -> list[Path]:
    """Checkpoints of ours: characters, byte pairs, the library's tokenizers, all dtypes."""
    found = []
    for i, dtype in enumerate(("float32", "int8")):
        found.append(root / f"characters{i}")
        save(found[-1], random_model(), CharTokenizer(CHARACTERS), dtype=dtype)
    for i, source in enumerate(theirs):
        found.append(root / f"converted{i}")
        convert(str(source), verify=False, options=ConversionOptions(out=found[-1]))
    return found


def sizes_as_they_are(directory: Path) -> None:
    """Make the manifest agree with the files, so that they are read."""
    path = directory / "manifest.json"
    try:
        values = json.loads(read_small(path, 1 << 20))
        for name, facts in values["files"].items():
            size = (directory / name).stat().st_size
            facts["size"] = min(size, 1 << 30)  # or all of it is read for the digest, as it should
        path.write_text(json.dumps(values))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, UserError):
        return


# What must hold


def loads(directory: Path) -> bool:
    """Whether a checkpoint of ours can be used."""
    models.available()
    try:
        damaged(directory)
        loaded = load(directory)
        ids = loaded.new_context().encode("hello")
        assert all(isinstance(loaded.tokenizer.token_bytes(i), bytes) for i in range(300))
        assert loaded.ends is not None and ids is not None
    except UserError as error:
        one_sentence(str(error))
        return False
    return True


def converts(directory: Path, out: Path) -> bool:
    """Whether one of theirs becomes one of ours, which is sound then."""

    def on_event(event: object) -> None:
        if isinstance(event, Notice):
            one_sentence(event.text)

    try:
        options = ConversionOptions(out=out / "m")
        convert(str(directory), verify=False, options=options, on_event=on_event)
    except UserError as error:
        one_sentence(str(error))
        assert not list(out.iterdir())
        return False
    load(out / "m")
    assert damaged(out / "m") == []
    shutil.rmtree(out / "m")
    return True


def one_sentence(text: str) -> None:
    assert text.strip() and len(text) < 2000 and "\n" not in text


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """Theirs and ours, sound."""
    root = tmp_path_factory.mktemp("checkpoints")
    theirs = make_theirs(root)
    return theirs, make_ours(root, theirs)


def survived(
    number: int, sound: list[Path], place: Path, use: Callable[[random.Random, Path], bool]
) -> bool:
    """Damage one of these in the way of this number, and use it."""
    rng = random.Random(f"{SEED} {number}")
    directory = place / "damaged"
    shutil.copytree(rng.choice(sound), directory)
    done = damage(rng, directory)
    try:
        with bounded():
            return use(rng, directory)
    except BaseException:
        sys.stderr.write(f"seed {SEED}, checkpoint {number}: {done}\n")
        raise
    finally:
        shutil.rmtree(directory)


linux = pytest.mark.skipif(
    sys.platform != "linux", reason="limits of memory and devices are Linux's"
)


@linux
def test_checkpoints_of_theirs(checkpoints: tuple[list[Path], list[Path]], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    end, number, good = time.monotonic() + seconds(2), 0, 0
    while time.monotonic() < end:
        good += survived(number, checkpoints[0], tmp_path, lambda _, path: converts(path, out))
        number += 1
    assert 0 < good < number


@linux
def test_checkpoints_of_ours(
    checkpoints: tuple[list[Path], list[Path]], home: Path, tmp_path: Path
) -> None:
    def use(rng: random.Random, directory: Path) -> bool:
        if rng.random() < 0.8:
            sizes_as_they_are(directory)
        return loads(directory)

    models.home().mkdir()
    end, number, good = time.monotonic() + seconds(2), 0, 0
    while time.monotonic() < end:
        good += survived(number, checkpoints[1], models.home(), use)
        number += 1
    assert 0 < good < number
