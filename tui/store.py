"""Texts on the disk: saved as they grow, found again by their beginnings.

A file is JSON lines: a head with everything a list needs, then a line for every token of every
branch, each behind the token that it follows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from gpt import models
from gpt.errors import UserError
from gpt.settings import Sampling
from gpt.step import Step
from tui.atomic import write
from tui.document import Document, Node

try:
    import fcntl
except ImportError:  # Windows: two programs on one text both save, and the last one wins
    fcntl = None  # type: ignore[assignment]

FORMAT_VERSION = 1
_ENCODER = json.JSONEncoder(separators=(",", ":"))
_SUFFIX = ".jsonl"
_TITLE = 80
_BROKEN = (
    UserError,  # settings that make no sense
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    RecursionError,
)


@dataclass(frozen=True)
class Entry:
    """A text in the list."""

    path: Path
    title: str
    """How it begins."""
    model: str
    n_tokens: int
    """Of the branch that was on the screen."""
    saved: datetime


def home() -> Path:
    """The directory of texts, beside the models."""
    return models.home().parent / "texts"


class Place:
    """Where one document is saved; nobody else writes there while this one lives."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lock: IO[str] | None = None
        self._saving = threading.Lock()
        self.seconds = 0.0
        """That the last save took."""

    @property
    def path(self) -> Path | None:
        """The file; None until the first save."""
        return self._path

    def claim(self) -> bool:
        """Whether it is ours: another program that has the text open keeps it."""
        if self._path is None or fcntl is None:
            return True
        lock = self._path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            self._path = None  # what is changed here is saved as another text
            return False
        self._lock = lock
        return True

    def save(self, model: str, nodes: list[Node], path: list[Node]) -> None:
        """Write all tokens; the file is the old one or the new one and nothing between.

        Raises UserError where the disk does not allow it.
        """
        if not nodes and self._path is None:
            return
        try:
            with self._saving:  # the last save of all may not be overtaken by one in a thread
                home().mkdir(parents=True, exist_ok=True)
                if self._path is None:
                    name = datetime.now(UTC).strftime("%Y-%m-%d-%H%M%S-%f")
                    self._path = home() / f"{name}{_SUFFIX}"
                    self.claim()
                lines = _lines(model, nodes, path)
                write(
                    self._path, (json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
                )
        except OSError as error:
            raise UserError(f"cannot save the text in {home()}: {error.strerror}") from error

    def release(self) -> None:
        """Let others have it."""
        if self._lock and self._path:
            with suppress(OSError):
                self._path.with_suffix(".lock").unlink()
            self._lock.close()
            self._lock = None


def _lines(model: str, nodes: list[Node], path: list[Node]) -> Iterator[dict[str, Any]]:
    number = {node: i for i, node in enumerate(nodes)}
    settings = list(dict.fromkeys(node.sampling for node in nodes if node.sampling))
    setting = {sampling: i for i, sampling in enumerate(settings)}
    text = b"".join(node.step.bytes for node in path[: 4 * _TITLE]).decode("utf-8", "replace")
    yield {
        "format_version": FORMAT_VERSION,
        "title": " ".join(text.split())[:_TITLE],
        "model": model,
        "n_tokens": len(path),
        "saved": datetime.now(UTC).isoformat(timespec="seconds"),
        "path": [number[node] for node in path],
        "settings": [sampling.to_dict() for sampling in settings],
    }
    parent: dict[Node, int] = {}
    for i, node in enumerate(nodes):
        parent |= dict.fromkeys(node.children, i)
        yield {
            "behind": parent.get(node),
            "is_prompt": node.is_prompt,
            "is_marked": node.is_marked,
            "last": node.last,
            "setting": None if node.sampling is None else setting[node.sampling],
            "step": node.step.to_dict(),
        }


def load(path: Path) -> tuple[Document, Entry]:
    """A text that was saved. Where it is broken it is set aside; raises UserError naming it."""
    try:
        with path.open(encoding="utf-8") as file:
            head = json.loads(file.readline())
            entry = _entry(path, head)
            document = Document()
            nodes: list[Node] = []
            settings = [Sampling.from_dict(values) for values in head["settings"]]
            for line in map(json.loads, file):
                node = Node(
                    Step.from_dict(line["step"]),
                    bool(line["is_prompt"]),
                    last=int(line["last"]),
                    is_marked=bool(line["is_marked"]),
                    sampling=None if line["setting"] is None else settings[line["setting"]],
                )
                behind = line["behind"]
                (document.roots if behind is None else nodes[behind].children).append(node)
                nodes.append(node)
            document.path += [nodes[i] for i in head["path"]]
            _check(document)
        return document, entry
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except _BROKEN as error:
        aside = path.with_suffix(".broken")
        with suppress(OSError):
            path.replace(aside)
        raise UserError(f"{path} is broken and was set aside as {aside.name}: {error}") from error


def _check(document: Document) -> None:
    """Raises ValueError where the path does not lead through the tree or a step is no step."""
    siblings = document.roots
    for node in document.path:
        if node not in siblings:
            raise ValueError("its path leads out of its tree")
        siblings = node.children
    for node in document.nodes():
        step = node.step
        if not 0 <= node.last <= max(0, len(node.children) - 1):
            raise ValueError("a branch is not there")
        if not isinstance(step.token_id, int) or not isinstance(step.text, str):
            raise ValueError("a token is none")


def entries() -> list[Entry]:
    """All texts, the newest first. What cannot be read is left out."""
    found = []
    for path in home().glob(f"*{_SUFFIX}"):
        with (
            suppress(OSError, ValueError, TypeError, KeyError),
            path.open(encoding="utf-8") as file,
        ):
            found.append(_entry(path, json.loads(file.readline())))
    return sorted(found, key=lambda entry: entry.saved, reverse=True)


def _entry(path: Path, head: dict[str, Any]) -> Entry:
    if head["format_version"] != FORMAT_VERSION:
        raise ValueError(f"it has format version {head['format_version']}")
    saved = datetime.fromisoformat(head["saved"])
    return Entry(path, str(head["title"]), str(head["model"]), int(head["n_tokens"]), saved)
