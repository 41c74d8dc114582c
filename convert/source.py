"""Finds a checkpoint: in a directory, on the hub, or in the hub's cache.

Only this module imports huggingface_hub, and only when a name on the hub is requested.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convert.download import CALLER_ERRORS, Download, with_retries
from convert.events import Notice, OnEvent
from convert.gguf_source import UnpackedGguf, is_gguf, unpack
from convert.hub_trouble import (
    RETRY_STATUSES,
    HubBusyError,
    HubProblem,
    HubRequest,
    explain_problem,
    explain_refusal,
)
from convert.needed import first_missing, list_files, needed_files, why_incomplete
from gpt import models
from gpt.errors import UserError

# Names that the hub redirects to each other; its cache may hold either.
_ALIASES = (
    *({f"gpt2{size}", f"openai-community/gpt2{size}"} for size in ("", "-medium", "-large", "-xl")),
    {"distilgpt2", "distilbert/distilgpt2"},
)
_HUB_ID = re.compile(r"[\w][\w.-]*(?:/[\w][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_GGUF_NAME = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*\.gguf", re.IGNORECASE)


@dataclass(frozen=True)
class SourceCheckpoint:
    """A checkpoint of transformers on this machine."""

    model: str
    """The directory or GGUF file that the user named, or the full name on the hub."""
    kind: str
    """hub, directory or file."""
    directory: Path
    """Its files."""
    revision: str | None
    """The commit on the hub; None for a directory or a file."""
    gguf: UnpackedGguf | None = None
    """The GGUF file with its weights, if they are in one."""

    @property
    def facts(self) -> dict[str, Any]:
        """What tells whether a file or a directory has changed later."""
        if self.kind == "hub":
            return {}
        path = self.directory if self.gguf is None else self.gguf.path
        return {"source": models.source_of(path)}

    @contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Errors name the GGUF file, not the directory in which its metadata are for a while."""
        try:
            yield
        except UserError as error:
            if self.gguf is None:
                raise
            text = str(error).replace(str(self.gguf.directory), str(self.gguf.path))
            raise UserError(text) from error


def locate(
    model: str, revision: str | None, on_event: OnEvent, file: str | None = None
) -> SourceCheckpoint:
    """Find a checkpoint; from the hub, download the files that are needed.

    file: the GGUF file among those of the model, if it is to be converted.
    """
    if file is not None and not _GGUF_NAME.fullmatch(file):
        raise UserError(f"{file[:100]!r} is not the name of a GGUF file in a model")
    path = Path(model)
    try:
        is_directory, exists = path.is_dir(), path.exists()
    except OSError:  # not a possible file name
        is_directory = exists = False
    if exists and revision is not None:
        kind = "directory" if is_directory else "file"
        raise UserError(f"{model} is a {kind} and has no revisions; leave --revision out")
    if exists and file is not None:
        path, is_directory = path / file, False
    if is_gguf(path):
        return _unpacked(SourceCheckpoint(str(path), "file", path.parent, None), path.name)
    if is_directory:
        if missing := first_missing(path, needed_files(list_files(path))):
            raise UserError(f"{missing}; get the checkpoint again")
        return SourceCheckpoint(str(path), "directory", path, None)
    if not _HUB_ID.fullmatch(model) or exists or path.suffix.lower() == ".gguf":
        raise UserError(f"{path} is neither a directory, a GGUF file, nor a name on the hub")
    with _client() as hub:
        source = _from_hub(hub, model, revision, on_event, file)
    return source if file is None else _unpacked(source, file)


def _unpacked(source: SourceCheckpoint, file: str) -> SourceCheckpoint:
    """The checkpoint in a GGUF file of a directory."""
    gguf = unpack(source.directory / file)
    return replace(source, directory=gguf.directory, gguf=gguf)


@contextmanager
def _client() -> Iterator[Any]:
    """huggingface_hub, kept from printing and from waiting for a busy hub."""
    logging_level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import huggingface_hub

            hooks = huggingface_hub.get_session().event_hooks["response"]
            hooks.append(_check_busy)
            try:
                yield huggingface_hub
            finally:
                hooks.remove(_check_busy)
    finally:
        logging.disable(logging_level)


def _check_busy(response: Any) -> None:
    """Raise HubBusyError for an answer on which huggingface_hub would wait silently."""
    if response.status_code in RETRY_STATUSES:
        seconds = re.fullmatch("[0-9]{1,6}", response.headers.get("Retry-After", ""))
        raise HubBusyError(response.status_code, float(seconds[0]) if seconds else None)


def _from_hub(
    hub: Any, model: str, revision: str | None, on_event: OnEvent, file: str | None
) -> SourceCheckpoint:
    """Download a model, or use its complete copy in the cache if the hub does not answer."""
    request = HubRequest(model, revision, hub.constants.ENDPOINT)
    api = hub.HfApi()
    try:
        info = with_retries(
            lambda: api.model_info(model, revision=revision, files_metadata=True, timeout=10),
            on_event,
        )
        sizes = _sizes(info)
    except CALLER_ERRORS:
        raise
    except Exception as error:  # huggingface_hub and its HTTP library share no base class
        if sentence := explain_refusal(error, request):
            raise UserError(sentence) from error
        problem = explain_problem(error, request)
        source = _from_cache(Path(hub.constants.HF_HUB_CACHE), request, problem, file)
        if not hub.constants.HF_HUB_OFFLINE:
            on_event(Notice(f"{problem.reason}; the copy on this machine is used"))
        return source
    download = Download(hub, request, info.sha, sizes, on_event)
    directory = download.run() if file is None else download.run_file(file)
    return SourceCheckpoint(info.id, "hub", directory, info.sha)


def _sizes(info: Any) -> dict[str, int]:
    """File of a model → its bytes. Raises ValueError if the answer is not one of the hub's."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    if not (isinstance(info.id, str) and _COMMIT.fullmatch(info.sha)):
        raise ValueError("not a model")
    if not all(type(size) is int and isinstance(name, str) for name, size in sizes.items()):
        raise ValueError("not a list of files")
    return sizes


def _from_cache(
    cache: Path, request: HubRequest, problem: HubProblem, file: str | None
) -> SourceCheckpoint:
    """The complete copy of an earlier download; otherwise an error that says what to do."""
    state, advice = "not on this machine", problem.advice
    aliases = next((group for group in _ALIASES if request.model in group), set())
    for name in (request.model, *sorted(aliases - {request.model})):
        repository = cache / f"models--{name.replace('/', '--')}"
        commit = request.revision or "main"
        with suppress(OSError, ValueError):
            commit = (repository / "refs" / commit).read_text().strip()
        snapshots = (repository / "snapshots").glob("*")
        for snapshot in sorted(snapshots, key=lambda path: path.name != commit):
            missing = first_missing(snapshot, [file]) if file else why_incomplete(snapshot)
            if snapshot.name == commit and missing is None:
                return SourceCheckpoint(name, "hub", snapshot, commit)
            if snapshot.name == commit:
                state = f"not complete on this machine ({missing})"
            elif missing is None:
                advice = f"{problem.advice}; --revision {snapshot.name} is complete here"
    raise UserError(f"{request.model} is {state} and {problem.reason}: {advice}")
