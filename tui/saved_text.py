"""The format of a saved text: a document as lines of JSON, and back.

The first line is a head with everything that a list of texts needs; then comes a line for every
token of every branch, each after the token that it follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from gpt.errors import UserError
from gpt.settings import Sampling
from gpt.step import Step
from gpt.typed_values import check, is_flag, is_list, is_text, is_whole, or_none
from tui import changes
from tui.dials import Setup
from tui.document import Document, Node
from tui.node import Remark

if TYPE_CHECKING:
    from gpt.interventions import Intervention

FORMAT_VERSION = 1
_TITLE = 80
BROKEN = (UserError, ValueError, TypeError, LookupError, OverflowError, RecursionError)
"""What reading an invalid file raises."""


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


def lines_of(
    model: str,
    nodes: list[Node],
    path: list[Node],
    system: str,
    acting: tuple[Intervention, ...],
    setup: Setup | None,
) -> Iterator[dict[str, Any]]:
    """The lines of a file; `Place.save` has the parameters."""
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


def document_of(head: dict[str, Any], lines: Iterator[dict[str, Any]]) -> Document:
    """Build the document of a file. Raises one of BROKEN if the file is invalid."""
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


def entry_of(path: Path, head: dict[str, Any]) -> Entry:
    """The entry of a file in the list. Raises one of BROKEN if its head is invalid."""
    check(head, _HEAD)
    if head["format_version"] != FORMAT_VERSION:
        raise ValueError(f"it has format version {head['format_version']}")
    saved = datetime.fromisoformat(head["saved"]).astimezone()
    if not 1971 <= saved.year <= 3000:
        raise ValueError(f"it was not saved in the year {saved.year}")
    return Entry(path, head["title"][:_TITLE], head["model"], head["n_tokens"], saved)
