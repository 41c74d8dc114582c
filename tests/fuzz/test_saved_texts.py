"""Damaged saved texts: each is shown and exported or set aside, and all others stay."""

from __future__ import annotations

import json
import math
import os
import random
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gpt import models
from gpt.errors import UserError
from gpt.sanitize import one_line
from gpt.settings import Sampling
from gpt.step import Candidate, Step
from tests.fuzz.seconds import seconds
from tui import store
from tui.dials import Setup
from tui.document import Document
from tui.export.formats import FORMATS, write
from tui.export.parts import Export, every
from tui.heat import FORKS, SCALES, STEPS
from tui.measure import by_line
from tui.node import Remark
from tui.outline import rows as branch_rows
from tui.store import Place
from tui.widgets.inspector import describe, rows

SEED = 20
DEEP = "[" * 100_000
LONG = "9" * 5_000
ODD: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 3, 255, 256, 2**31, 2**63, 2**70, -(2**70), 10**400),
    *(0.5, -0.5, 1e308, -1e308, 1e-320, math.nan, math.inf, -math.inf),
    *("", "x", "-1.5", "length", "\ud800", "\0", "\x1b[2J", "n" * 300, "a/" * 3_000),
    *("0001-01-01T00:00:00+00:00", "9999-12-31T23:59:59-14:00", "2001-01-01T00:00:00", "2001"),
    *([], [0], [-1], [256], [[]], ["x"], [[[[[[[[]]]]]]]], {}, {"a": 1}),
)


def step(position: int, data: bytes, logprob: float | None) -> Step:
    text = data.decode("utf-8", "replace")
    if logprob is None:
        return Step(position, data[0], data, text)
    candidates = (Candidate(data[0], data, logprob, -0.1), Candidate(300, b"\xff", -2.0, None))
    return Step(position, data[0], data, text, logprob, 1, 1.5, candidates, -0.1)


def save() -> Path:
    """A text with three branches, a mark, settings and half of a character."""
    document, place = Document(), Place()
    document.append([step(0, b"a", None), step(1, b" b", -1.0)], is_prompt=True)
    document.append([step(2, b"\xc3", -0.5), step(3, b"\xa9\n", -9.0)], is_prompt=False)
    document.cut(2)
    drawn = Sampling(temperature=0.5, banned=((1, 2),), boosted=(((3,), 1.0),))
    document.append([step(2, b"|", -3.0), step(3, b"`", -0.1)], is_prompt=False, sampling=drawn)
    document.cut(1)
    document.append([step(1, b"c", -0.2), step(2, b"d", -0.3)], is_prompt=False, sampling=drawn)
    document.path[1].is_marked = True
    document.set_remark(document.path[1], Remark(is_starred=True, name="[b]", note="a\n\x1b"))
    setup = Setup({"temperature": "0.5", "banned": "#1"}, ("top_k", "temperature"), True, False, 2)
    place.save("shakespeare", list(document.nodes()), list(document.path), setup=setup)
    place.release()
    assert place.path
    return place.path


def values_of(value: Any) -> list[tuple[Any, Any]]:
    """Every container and key of a value of JSON."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += values_of(value[key])
    return found


def other_values(rng: random.Random, data: bytes) -> bytes:
    lines = [json.loads(line) for line in data.splitlines()]
    for _ in range(rng.choice((1, 1, 1, 3))):
        places = values_of(rng.choice(lines))
        if not places:
            break
        container, key = rng.choice(places)
        action = rng.random()
        if action < 0.1:
            del container[key]
        elif action < 0.2:
            another, its = rng.choice(values_of(lines))
            container[key] = json.loads(json.dumps(another[its]))
        else:
            container[key] = rng.choice(ODD)
    return "\n".join(map(json.dumps, lines)).encode()


def other_lines(rng: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    index = rng.randrange(len(lines))
    action = rng.randrange(5)
    if action == 0:
        del lines[index]
    elif action == 1:
        lines.insert(index, rng.choice(lines))
    elif action == 2:
        rng.shuffle(lines)
    elif action == 3:
        lines[index] = lines[index][: rng.randrange(len(lines[index]))]
    else:
        lines[index] = rng.choice((DEEP, LONG, '{"a":' * 50_000, "\n", "null", "\ufeff")).encode()
    return b"".join(lines)


def other_bytes(rng: random.Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 5, 50))):
        index = rng.randrange(len(found))
        digits = [i for i, byte in enumerate(found) if byte in b"0123456789"]
        if digits and rng.random() < 0.5:
            index = rng.choice(digits)
            found[index] = rng.choice(b"0123456789-.eE")
        elif rng.random() < 0.5:
            found[index] = rng.randrange(256)
        else:
            found[index : index + rng.randrange(4)] = rng.choice((LONG, "NaN", "", "e9")).encode()
    return bytes(found)


def shown(document: Document, directory: Path) -> None:
    """All that the program makes of a text."""
    for node in document.nodes():
        assert describe(node.step) and rows(node.step, 50_000) is not None
        assert all(abs(scale.heat(node.step)) < STEPS for scale in SCALES)
        assert all(is_fork(node.step) in (True, False) for is_fork in FORKS.values())
    assert all(line.perplexity is None or line.perplexity >= 0 for line in by_line([]))
    assert sum(line.n_tokens for line in by_line(node.step for node in document.path)) >= 0
    assert all(row.text.isprintable() and row.nodes for row in branch_rows(document))
    for suffix in FORMATS:
        path = directory / f"export{suffix}"
        write(path, Export(every(document), "x", datetime.now(UTC)))
        path.unlink()


def is_kept(path: Path, other: Path, directory: Path) -> bool:
    """Whether a damaged text was shown, and not set aside; asserts that one of both is whole."""
    entries = store.entries()
    assert other in [entry.path for entry in entries]
    assert all(
        one_line(f"{each.title} {each.model}") and each.saved.astimezone() for each in entries
    )
    try:
        document, entry = store.load(path)
    except UserError as error:
        assert not os.path.lexists(path)
        (aside,) = path.parent.glob("*.broken")
        assert aside.name in str(error)
        aside.rmdir() if aside.is_dir() and not aside.is_symlink() else aside.unlink()
        return False
    shown(document, directory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        Place(path).save(entry.model, list(document.nodes()), list(document.path))
    assert store.load(path)[0].text == document.text
    try:
        models.find(entry.model)
    except UserError as error:
        assert str(error)
    path.unlink()
    return True


def test_damaged_texts_are_shown_or_set_aside(tmp_path: Path) -> None:
    rng = random.Random(SEED)
    path, other = save(), save()
    good, end = path.read_bytes(), time.monotonic() + seconds(2)
    kinds: list[Callable[[random.Random, bytes], bytes]] = [other_values, other_lines, other_bytes]
    n, kept = 0, 0
    while time.monotonic() < end:
        data = good
        for kind in rng.sample(kinds, rng.choice((1, 1, 1, 2))):
            try:
                data = kind(rng, data)
            except (ValueError, IndexError, RecursionError):
                continue  # another damage came before, and there is nothing left to damage so
        path.write_bytes(data)
        try:
            kept += is_kept(path, other, tmp_path)
        except BaseException:
            sys.stderr.write(f"seed {SEED}, text {n}: {data[:5_000]!r}\n")
            raise
        n += 1
    assert 0 < kept < n


@pytest.mark.parametrize("name", ["x", "x" * 249, "é" * 124])
@pytest.mark.parametrize(
    "put",
    [
        lambda path: path.mkdir(),
        lambda path: os.mkfifo(path),
        lambda path: path.symlink_to("/dev/zero"),
        lambda path: path.touch(),
        lambda path: (path.touch(), os.truncate(path, store.LARGEST + 1)),
    ],
    ids=["directory", "fifo", "device", "empty", "huge"],
)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no such files there")
def test_what_is_no_text_is_set_aside(
    tmp_path: Path, put: Callable[[Path], object], name: str
) -> None:
    other = save()
    path = other.with_name(f"{name}.jsonl")
    put(path)
    assert not is_kept(path, other, tmp_path)
