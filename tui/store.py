"""Texts on the disk: saved while they grow, and listed by their first words.

A file is JSON lines: a head with everything a list needs, then a line for every token of every
branch, each after the token that it follows.
"""

from __future__ import annotations

import json
import os
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from gpt import models
from gpt.errors import UserError
from gpt.settings import Sampling
from gpt.step import Step
from gpt.typed_values import check, is_flag, is_list, is_text, is_whole, or_none
from tui import changes
from tui.atomic import write
from tui.dials import Setup
from tui.document import Document, Node
from tui.node import Remark

if TYPE_CHECKING:
    from gpt.interventions import Intervention

try:
    import fcntl
except ImportError:  # Windows: if two programs open one text, the later save wins
    fcntl = None  # type: ignore[assignment]

FORMAT_VERSION = 1
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_SUFFIX, _DELETED = ".jsonl", ".deleted"
_TITLE = 80
LARGEST = 2**30
"""Most bytes of a file that are read."""
_LONGEST_HEAD = 2**26
_UNKNOWN = datetime.fromtimestamp(0, UTC)
_BROKEN = (UserError, ValueError, TypeError, LookupError, OverflowError, RecursionError)


def _is_model(value: object) -> bool:
    """A name or a path that is short enough for the file system."""
    if not isinstance(value, str):
        return False
    name = value.encode("utf-8", "replace")
    return len(name) <= 2048 and max(map(len, name.split(b"/"))) <= 255


_HEAD = {
    "title": is_text,
    "model": _is_model,
    "n_tokens": is_whole,
    "saved": is_text,
    "path": is_list,
    "settings": is_list,
    "system": or_none(is_text),
}
_NODE = {
    "behind": or_none(is_whole),
    "is_prompt": is_flag,
    "is_marked": is_flag,
    "last": is_whole,
    "setting": or_none(is_whole),
}
"""A line may also have a remark, which checks itself."""


class Entry(NamedTuple):
    """A saved text in the list."""

    path: Path
    title: str
    """First words of the text, or why it cannot be read."""
    model: str
    n_tokens: int
    """Tokens of the branch that was on the screen."""
    saved: datetime


def home() -> Path:
    """The directory of texts, next to the models."""
    return models.home().parent / "texts"


class Place:
    """The file of one document, locked against other programs while it is open."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock: IO[bytes] | None = None
        self._saving = threading.Lock()
        self.seconds = 0.0
        """Duration of the previous save."""

    @property
    def path(self) -> Path | None:
        """The file; None until the first save."""
        return self._path

    def claim(self) -> bool:
        """Lock the file; False if another program has the text open."""
        if self._path is None or fcntl is None:
            return True
        # If the directory cannot be written, saving reports it.
        with suppress(OSError):
            # O_NONBLOCK: a named pipe in its place cannot block.
            flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK
            lock = os.fdopen(os.open(self._path.with_suffix(".lock"), flags, 0o666), "rb")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.close()
                if isinstance(error, BlockingIOError):
                    self._path = None  # changes are saved as another text
                    return False
                raise
            self._lock = lock
        return True

    def save(
        self,
        model: str,
        nodes: list[Node],
        path: list[Node],
        system: str = "",
        acting: tuple[Intervention, ...] = (),
        setup: Setup | None = None,
    ) -> None:
        """Write all tokens; the file is replaced in one step.

        system: the system prompt. acting: what is changed inside the network now. setup: how the
        reader leaves it.
        """
        if not nodes and self._path is None:
            return
        try:
            with self._saving:  # no save in a thread may overwrite the last one
                home().mkdir(parents=True, exist_ok=True)
                if self._path is None:
                    name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S-%f")
                    self._path = home() / f"{name}{_SUFFIX}"
                    self.claim()
                began = time.perf_counter()
                lines = _lines(model, nodes, path, system, acting, setup)
                write(self._path, (_ENCODER.encode(line) + "\n" for line in lines))
                self.seconds = time.perf_counter() - began
        except OSError as error:
            raise UserError(f"cannot save the text in {home()}: {error.strerror}") from error

    def release(self) -> None:
        """Unlock the file."""
        if self._lock and self._path:
            with suppress(OSError):
                self._path.with_suffix(".lock").unlink()
            self._lock.close()
            self._lock = None


def _lines(
    model: str,
    nodes: list[Node],
    path: list[Node],
    system: str,
    acting: tuple[Intervention, ...],
    setup: Setup | None,
) -> Iterator[dict[str, Any]]:
    number = {node: i for i, node in enumerate(nodes)}
    settings = list(dict.fromkeys(node.sampling for node in nodes if node.sampling))
    setting = {sampling: i for i, sampling in enumerate(settings)}
    inside = changes.Table([acting, *(node.changes for node in nodes)])
    parts = (b" " if node.step.by_template else node.step.added for node in path[: 4 * _TITLE])
    text = b"".join(parts).decode("utf-8", "replace")
    yield {
        "format_version": FORMAT_VERSION,
        "title": " ".join(text.split())[:_TITLE],
        "model": model,
        "n_tokens": len(path),
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "path": [number[node] for node in path],
        "settings": [sampling.to_dict() for sampling in settings],
        **({"system": system} if system else {}),
        **({"setup": setup.to_dict()} if setup else {}),
        **inside.to_head(acting),
    }
    parent: dict[Node, int] = {}
    for i, node in enumerate(nodes):
        parent |= dict.fromkeys(node.children, i)
        remark = node.remark  # once: this runs in a thread
        yield {
            "behind": parent.get(node),
            "is_prompt": node.is_prompt,
            "is_marked": node.is_marked,
            "last": node.last,
            "setting": None if node.sampling is None else setting[node.sampling],
            **({"remark": remark.to_dict()} if remark else {}),
            **inside.to_line(node.changes),
            "step": node.step.to_dict(),
        }


def load(path: Path) -> tuple[Document, Entry]:
    """Load a saved text. A broken file is renamed, and UserError names it."""
    try:
        with _open(path) as file:
            head = json.loads(file.readline(_LONGEST_HEAD))
            entry = _entry(path, head)
            return _document(head, map(json.loads, file)), entry
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except _BROKEN as error:
        aside = _set_aside(path)
        what = f"was set aside as {aside.name}" if aside else "cannot be set aside"
        raise UserError(f"{path} is broken and {what}: {error}") from error


def _open(path: Path) -> IO[str]:
    """Open a text. Raises ValueError if it is not a regular file or too large."""
    facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise ValueError("it is not a regular file")
    if facts.st_size > LARGEST:
        raise ValueError(f"{facts.st_size} bytes are too many")
    return path.open(encoding="utf-8")


def _set_aside(path: Path) -> Path | None:
    """Rename a broken file to a free name; None if that fails."""
    stem = os.fsdecode(os.fsencode(path.stem)[:200])  # leaves room for the suffix
    names = (f"{stem}{n}.broken" for n in ("", *(f"-{n}" for n in range(2, 1000))))
    free = (path.with_name(name) for name in names if not os.path.lexists(path.with_name(name)))
    try:
        return path.rename(next(free))
    except (OSError, StopIteration):
        return None


def _document(head: dict[str, Any], lines: Iterator[dict[str, Any]]) -> Document:
    """Build the document of a file. Raises one of _BROKEN if the file is invalid."""
    document = Document()
    document.system = head.get("system") or ""
    document.setup = Setup.from_untrusted(head.get("setup"))
    inside = changes.from_lists(head.get("changes"))
    document.changes = changes.of_line(head, inside)
    nodes: list[Node] = []
    settings = [Sampling.from_dict(values) for values in head["settings"]]
    for line in lines:
        check(line, _NODE)
        behind, setting = line["behind"], line["setting"]
        node = Node(
            Step.from_untrusted(line.get("step")),
            line["is_prompt"],
            last=line["last"],
            is_marked=line["is_marked"],
            sampling=None if setting is None else settings[setting],
            remark=Remark.from_untrusted(line.get("remark")),
            changes=changes.of_line(line, inside),
        )
        (document.roots if behind is None else nodes[behind].children).append(node)
        nodes.append(node)
    siblings = document.roots
    for i in head["path"]:
        if not is_whole(i) or nodes[i] not in siblings:
            raise ValueError("its path leads out of its tree")
        document.path.append(nodes[i])
        siblings = nodes[i].children
    if not all(node.last <= max(0, len(node.children) - 1) for node in nodes):
        raise ValueError("a branch is missing")
    return document


def delete(path: Path) -> Path:
    """Take a text out of the list; returns its file, which can be renamed back.

    Raises UserError if another program has the text open, or if its directory cannot be written.
    """
    place = Place(path)
    if not place.claim():
        raise UserError("another program has this text open")
    try:
        return path.rename(path.with_suffix(_DELETED))
    except OSError as error:
        raise UserError(f"cannot delete {path}: {error.strerror}") from error
    finally:
        place.release()


def has_texts() -> bool:
    """Whether a text was saved, without reading any."""
    with suppress(OSError):
        return any(home().glob(f"*{_SUFFIX}"))
    return False


def entries() -> list[Entry]:
    """All texts, newest first, then the unreadable files; `load` renames those."""
    found = [entry for path in home().glob(f"*{_SUFFIX}") if (entry := _listed(path))]
    return sorted(found, key=lambda entry: entry.saved, reverse=True)


def _listed(path: Path) -> Entry | None:
    """The entry of a file; None if the file is gone."""
    try:
        with _open(path) as file:
            return _entry(path, json.loads(file.readline(_LONGEST_HEAD)))
    except FileNotFoundError:
        return None
    except (OSError, *_BROKEN) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        return Entry(path, f"unreadable: {path.name}: {reason}", "", 0, _UNKNOWN)


def _entry(path: Path, head: dict[str, Any]) -> Entry:
    check(head, _HEAD)
    if head["format_version"] != FORMAT_VERSION:
        raise ValueError(f"it has format version {head['format_version']}")
    saved = datetime.fromisoformat(head["saved"]).astimezone()
    if not 1971 <= saved.year <= 3000:
        raise ValueError(f"it was not saved in the year {saved.year}")
    return Entry(path, head["title"][:_TITLE], head["model"], head["n_tokens"], saved)
