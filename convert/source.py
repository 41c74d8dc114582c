"""Finds a checkpoint: in a directory, on the hub, or in the hub's cache.

Only this module imports huggingface_hub, and only when a name on the hub is requested.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from convert.directory import (
    CONFIG,
    INDEXES,
    MAX_INDEX_BYTES,
    choose_weights,
    parse_index,
    read_json,
)
from convert.events import CheckpointFound, ConversionProgress, Notice, OnEvent
from convert.hub_trouble import (
    MAX_RETRY_SECONDS,
    RETRY_STATUSES,
    HubBusyError,
    HubProblem,
    HubRequest,
    explain_problem,
    explain_refusal,
)
from convert.needed import first_missing, list_files, needed_files, why_incomplete
from gpt.errors import UserError

RETRY_DELAYS = (1.0, 4.0, 16.0)
"""Seconds before each new attempt while the hub is busy."""

# Names that the hub redirects to each other; its cache may hold either.
_ALIASES = (
    *({f"gpt2{size}", f"openai-community/gpt2{size}"} for size in ("", "-medium", "-large", "-xl")),
    {"distilgpt2", "distilbert/distilgpt2"},
)
_HUB_ID = re.compile(r"[\w][\w.-]*(?:/[\w][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

# Raised by on_event, not by the hub: the user declined, or a pipe was closed.
_CALLER_ERRORS = (UserError, BrokenPipeError)

T = TypeVar("T")


@dataclass(frozen=True)
class SourceCheckpoint:
    """A checkpoint of transformers on this machine."""

    model: str
    """The directory that the user named, or the full name on the hub."""
    kind: str
    """hub or directory."""
    directory: Path
    """Its files."""
    revision: str | None
    """The commit on the hub; None for a directory."""


def locate(model: str, revision: str | None, on_event: OnEvent) -> SourceCheckpoint:
    """Find a checkpoint; from the hub, download the files that are needed."""
    path = Path(model)
    try:
        is_directory, exists = path.is_dir(), path.exists()
    except OSError:  # not a possible file name
        is_directory = exists = False
    if is_directory:
        if revision is not None:
            raise UserError(f"{model} is a directory and has no revisions; leave --revision out")
        if missing := first_missing(path, needed_files(list_files(path))):
            raise UserError(f"{missing}; get the checkpoint again")
        return SourceCheckpoint(str(path), "directory", path, None)
    if not _HUB_ID.fullmatch(model) or exists:
        raise UserError(f"{model} is neither a directory nor a name on the hub")
    with _client() as hub:
        return _from_hub(hub, model, revision, on_event)


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


def _with_retries(call: Callable[[], T], on_event: OnEvent) -> T:
    """The result of a call, repeated after each of RETRY_DELAYS while the hub is busy.

    Raises HubBusyError if it stays busy, or asks to wait longer than MAX_RETRY_SECONDS.
    """
    for delay in RETRY_DELAYS:
        try:
            return call()
        except HubBusyError as busy:
            if (busy.seconds or 0) > MAX_RETRY_SECONDS:
                raise
            seconds = max(delay, busy.seconds or 0)
            on_event(Notice(f"{busy}; trying again in {seconds:.0f} s"))
        time.sleep(seconds)
    return call()


def _from_hub(hub: Any, model: str, revision: str | None, on_event: OnEvent) -> SourceCheckpoint:
    """Download a model, or use its complete copy in the cache if the hub does not answer."""
    request = HubRequest(model, revision, hub.constants.ENDPOINT)
    api = hub.HfApi()
    try:
        info = _with_retries(
            lambda: api.model_info(model, revision=revision, files_metadata=True, timeout=10),
            on_event,
        )
        sizes = _sizes(info)
    except _CALLER_ERRORS:
        raise
    except Exception as error:  # huggingface_hub and its HTTP library share no base class
        if sentence := explain_refusal(error, request):
            raise UserError(sentence) from error
        problem = explain_problem(error, request)
        source = _from_cache(Path(hub.constants.HF_HUB_CACHE), request, problem)
        if not hub.constants.HF_HUB_OFFLINE:
            on_event(Notice(f"{problem.reason}; the copy on this machine is used"))
        return source
    directory = _Download(hub, request, info.sha, sizes, on_event).run()
    return SourceCheckpoint(info.id, "hub", directory, info.sha)


def _sizes(info: Any) -> dict[str, int]:
    """File of a model → its bytes. Raises ValueError if the answer is not one of the hub's."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    if not (isinstance(info.id, str) and _COMMIT.fullmatch(info.sha)):
        raise ValueError("not a model")
    if not all(type(size) is int and isinstance(name, str) for name, size in sizes.items()):
        raise ValueError("not a list of files")
    return sizes


def _from_cache(cache: Path, request: HubRequest, problem: HubProblem) -> SourceCheckpoint:
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
            missing = why_incomplete(snapshot)
            if snapshot.name == commit and missing is None:
                return SourceCheckpoint(name, "hub", snapshot, commit)
            if snapshot.name == commit:
                state = f"not complete on this machine ({missing})"
            elif missing is None:
                advice = f"{problem.advice}; --revision {snapshot.name} is complete here"
    raise UserError(f"{request.model} is {state} and {problem.reason}: {advice}")


@dataclass
class _Download:
    """Downloads the files of one model at one commit into the hub's cache."""

    hub: Any
    request: HubRequest
    commit: str
    sizes: dict[str, int]
    on_event: OnEvent
    done: int = 0
    total: int = 0

    def run(self) -> Path:
        """Download and return the directory of the files."""
        model, settings = self.request.model, needed_files(self.sizes)
        try:
            chosen = choose_weights(set(self.sizes))
        except UserError as error:
            raise UserError(f"{model} on the hub has {error}") from error
        self.total = sum(self.sizes[name] for name in settings)
        weights = [chosen]
        if chosen in INDEXES:
            self.total += self.sizes[chosen]
            path = self._fetch(chosen)
            index = read_json(path.parent, chosen, MAX_INDEX_BYTES)
            weights = sorted(set(parse_index(index, chosen).values()))
        self.total += sum(self.sizes.get(name, 0) for name in weights)
        self.on_event(CheckpointFound(model, "hub", self.total))
        for name in [*settings, *weights]:
            if name not in self.sizes:
                raise UserError(
                    f"{chosen} names {name}, which {model} does not have: choose another --revision"
                )
            path = self._fetch(name)
        if CONFIG in settings:
            self._record_revision()
        return path.parent

    def _record_revision(self) -> None:
        """Have huggingface_hub record in its cache which commit the revision's name means.

        This is the last step, so that a failed download leaves the previous one in use.
        """
        with suppress(Exception):  # without the record, offline use needs --revision COMMIT
            revision = self.request.revision or "main"
            _with_retries(
                lambda: self._hub_download(CONFIG, revision, lambda _: None), self.on_event
            )

    def _fetch(self, name: str) -> Path:
        size, before = self.sizes[name], self.done

        def advance(n_bytes: float) -> None:
            self.done = max(before, min(before + size, self.done + int(n_bytes)))
            file_done = self.done - before
            self.on_event(
                ConversionProgress("download", name, file_done, size, self.done, self.total)
            )

        def begin() -> Path:
            advance(before - self.done)
            return self._hub_download(name, self.commit, advance)

        request = replace(self.request, file=name)
        try:
            path = _with_retries(begin, self.on_event)
        except _CALLER_ERRORS:
            raise
        except Exception as error:  # as in _from_hub
            refusal = explain_refusal(error, request)
            stopped = (
                f"the download of {request.model} stopped at {name}: "
                f"{explain_problem(error, request)}"
            )
            raise UserError(refusal or stopped) from error
        advance(before + size - self.done)
        return path

    def _hub_download(self, name: str, revision: str, advance: Callable[[float], None]) -> Path:
        bar = _progress_bar(self.hub.utils.tqdm, advance)
        download = self.hub.hf_hub_download
        return Path(download(self.request.model, name, revision=revision, tqdm_class=bar))


def _progress_bar(base: Any, advance: Callable[[float], None]) -> Any:
    """A class derived from huggingface_hub's progress bar that calls advance and shows nothing."""

    class Bar(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})
            advance(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            advance(n or 0)
            return super().update(n)  # type: ignore[no-any-return]

    return Bar
