"""Downloads the files of a model from the hub into its cache, and tries again if it is busy."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
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
    HubBusyError,
    HubRequest,
    explain_problem,
    explain_refusal,
)
from convert.needed import needed_files
from gpt.errors import UserError

RETRY_DELAYS = (1.0, 4.0, 16.0)
"""Seconds before each new attempt while the hub is busy."""

# Raised by on_event, not by the hub: the user declined, or a pipe was closed.
CALLER_ERRORS = (UserError, BrokenPipeError)

T = TypeVar("T")


def with_retries(call: Callable[[], T], on_event: OnEvent) -> T:
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


@dataclass
class Download:
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
            self._record_revision(CONFIG)
        return path.parent

    def run_file(self, name: str) -> Path:
        """Download one file and return the directory of the model's files."""
        if name not in self.sizes:
            found = sorted(each for each in self.sizes if each.lower().endswith(".gguf"))
            raise UserError(
                f"{self.request.model} on the hub has no {name}; its GGUF files are: "
                f"{', '.join(found[:20]) or 'none'}"
            )
        self.total = self.sizes[name]
        self.on_event(CheckpointFound(self.request.model, "hub", self.total))
        path = self._fetch(name)
        self._record_revision(name)
        return path.parents[name.count("/")]

    def _record_revision(self, name: str) -> None:
        """Have huggingface_hub record in its cache which commit the revision's name means.

        This is the last step, so that a failed download leaves the previous one in use.
        """
        with suppress(Exception):  # without the record, offline use needs --revision COMMIT
            revision = self.request.revision or "main"
            with_retries(lambda: self._hub_download(name, revision, lambda _: None), self.on_event)

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
            path = with_retries(begin, self.on_event)
        except CALLER_ERRORS:
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
