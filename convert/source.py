"""Where a checkpoint comes from: a directory, or the hub with its cache.

The only place that knows huggingface_hub, and only once a hub id is asked for.
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

from convert import directory as checkpoint_directory
from convert.directory import CONFIG, INDEXES
from convert.events import Found, Notice, Progress, Tell
from convert.hub_trouble import AGAIN, LONGEST_PAUSE, Busy, Question, Trouble, refusal, trouble
from convert.needed import LARGEST_INDEX, gone, lacking, names, wanted
from gpt.errors import UserError

PAUSES = (1.0, 4.0, 16.0)
"""Seconds before a request that the hub was too busy to answer is made again."""

# Names that the hub forwards, and under which its cache may have them.
_SAME_MODEL = (
    *({f"gpt2{size}", f"openai-community/gpt2{size}"} for size in ("", "-medium", "-large", "-xl")),
    {"distilgpt2", "distilbert/distilgpt2"},
)
_HUB_ID = re.compile(r"[\w][\w.-]*(?:/[\w][\w.-]*)?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")

# What comes from whoever is told how far it is: a refusal, a pipe that was closed.
_NOT_THE_HUBS = (UserError, BrokenPipeError)

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A checkpoint on this machine."""

    model: str
    """What the user called it, or the hub's full name of it."""
    kind: str
    """hub or directory."""
    directory: Path
    """Where its files are."""
    revision: str | None
    """The hub's commit."""


def locate(model: str, revision: str | None, tell: Tell) -> Source:
    """Find a checkpoint, downloading what is needed of it.

    Raises UserError if there is none, and if the network is needed and is not there.
    """
    path = Path(model)
    try:
        is_directory, exists = path.is_dir(), path.exists()
    except OSError:  # not a name that a file can have
        is_directory = exists = False
    if is_directory:
        if revision is not None:
            raise UserError(f"{model} is a directory and has no revisions; leave --revision out")
        if lack := gone(path, wanted(names(path))):
            raise UserError(f"{lack}; get the checkpoint again")
        return Source(str(path), "directory", path, None)
    if not _HUB_ID.fullmatch(model) or exists:
        raise UserError(f"{model} is neither a directory nor a name on the hub")
    with _client() as hub:
        return _from_hub(hub, model, revision, tell)


@contextmanager
def _client() -> Iterator[Any]:
    """huggingface_hub, which prints nothing meanwhile and leaves all waiting to us."""
    quiet = logging.root.manager.disable
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
        logging.disable(quiet)


def _check_busy(response: Any) -> None:
    """Raises Busy if an answer asks to come back; the client would wait without a word."""
    if response.status_code in AGAIN:
        seconds = re.fullmatch("[0-9]{1,6}", response.headers.get("Retry-After", ""))
        raise Busy(response.status_code, float(seconds[0]) if seconds else None)


def _patiently(call: Callable[[], T], tell: Tell) -> T:
    """The result of a call, made again after a pause as long as the hub is busy.

    Raises Busy if it stays so, or names a longer time than LONGEST_PAUSE.
    """
    for pause in PAUSES:
        try:
            return call()
        except Busy as busy:
            if (busy.seconds or 0) > LONGEST_PAUSE:
                raise
            seconds = max(pause, busy.seconds or 0)
            tell(Notice(f"{busy}; trying again in {seconds:.0f} s"))
        time.sleep(seconds)
    return call()


def _from_hub(hub: Any, model: str, revision: str | None, tell: Tell) -> Source:
    """The hub's files, or what its cache has of them if the hub does not answer."""
    asked = Question(model, revision, hub.constants.ENDPOINT)
    api = hub.HfApi()
    try:
        info = _patiently(
            lambda: api.model_info(model, revision=revision, files_metadata=True, timeout=10), tell
        )
        sizes = _sizes(info)
    except _NOT_THE_HUBS:
        raise
    except Exception as error:  # the client's and its network library's have no common class
        if sentence := refusal(error, asked):
            raise UserError(sentence) from error
        why = trouble(error, asked)
        source = _from_cache(Path(hub.constants.HF_HUB_CACHE), asked, why)
        if not hub.constants.HF_HUB_OFFLINE:
            tell(Notice(f"{why.what}; the copy on this machine is used"))
        return source
    return Source(info.id, "hub", _Download(hub, asked, info.sha, sizes, tell).run(), info.sha)


def _sizes(info: Any) -> dict[str, int]:
    """The files of a model and how large they are. Raises ValueError if it is not the hub's."""
    sizes = {file.rfilename: file.size or 0 for file in info.siblings}
    if not (isinstance(info.id, str) and _COMMIT.fullmatch(info.sha)):
        raise ValueError("not a model")
    if not all(type(size) is int and isinstance(name, str) for name, size in sizes.items()):
        raise ValueError("not a list of files")
    return sizes


def _from_cache(cache: Path, asked: Question, why: Trouble) -> Source:
    """What an earlier download left, complete. Raises UserError saying what to do if nothing."""
    state, advice = "not on this machine", why.advice
    same = next((group for group in _SAME_MODEL if asked.model in group), set())
    for name in (asked.model, *sorted(same - {asked.model})):
        place = cache / f"models--{name.replace('/', '--')}"
        commit = asked.revision or "main"
        with suppress(OSError, ValueError):
            commit = (place / "refs" / commit).read_text().strip()
        for snapshot in sorted((place / "snapshots").glob("*"), key=lambda p: p.name != commit):
            lack = lacking(snapshot)
            if snapshot.name == commit and lack is None:
                return Source(name, "hub", snapshot, commit)
            if snapshot.name == commit:
                state = f"not complete on this machine ({lack})"
            elif lack is None:
                advice = f"{why.advice}; --revision {snapshot.name} is complete here"
    raise UserError(f"{asked.model} is {state} and {why.what}: {advice}")


@dataclass
class _Download:
    """The files of one model at one commit, into the hub's cache."""

    hub: Any
    asked: Question
    commit: str
    sizes: dict[str, int]
    tell: Tell
    done: int = 0
    total: int = 0

    def run(self) -> Path:
        """The directory of the files."""
        model, facts = self.asked.model, wanted(self.sizes)
        try:
            chosen = checkpoint_directory.choose_weights(set(self.sizes))
        except UserError as error:
            raise UserError(f"{model} on the hub holds {error}") from error
        self.total = sum(self.sizes[name] for name in facts)
        weights = [chosen]
        if chosen in INDEXES:
            self.total += self.sizes[chosen]
            place = self._fetch(chosen)
            index = checkpoint_directory.read_json(place.parent, chosen, LARGEST_INDEX)
            weights = sorted(set(checkpoint_directory.shards(index, chosen).values()))
        self.total += sum(self.sizes.get(name, 0) for name in weights)
        self.tell(Found(model, "hub", self.total))
        for name in [*facts, *weights]:
            if name not in self.sizes:
                raise UserError(f"{chosen} names {name}, which {model} does not have")
            path = self._fetch(name)
        if CONFIG in facts:
            self._remember()
        return path.parent

    def _remember(self) -> None:
        """Let the client note in its cache which commit the revision's name means.

        Only now, so that a download that breaks off leaves the previous one in use.
        """
        with suppress(Exception):  # the files are here; without the note, offline needs a commit
            revision = self.asked.revision or "main"
            _patiently(lambda: self._from_client(CONFIG, revision, lambda _: None), self.tell)

    def _fetch(self, name: str) -> Path:
        size, before = self.sizes[name], self.done

        def advance(n_bytes: float) -> None:
            self.done = max(before, min(before + size, self.done + int(n_bytes)))
            self.tell(Progress("download", name, self.done - before, size, self.done, self.total))

        def begin() -> Path:
            advance(before - self.done)
            return self._from_client(name, self.commit, advance)

        asked = replace(self.asked, file=name)
        try:
            path = _patiently(begin, self.tell)
        except _NOT_THE_HUBS:
            raise
        except Exception as error:  # as of the list
            sentence = refusal(error, asked)
            stopped = f"the download of {asked.model} stopped at {name}: {trouble(error, asked)}"
            raise UserError(sentence or stopped) from error
        advance(before + size - self.done)
        return path

    def _from_client(self, name: str, revision: str, advance: Callable[[float], None]) -> Path:
        download = self.hub.hf_hub_download
        bar = _bar(advance)
        return Path(download(self.asked.model, name, revision=revision, tqdm_class=bar))


def _bar(advance: Callable[[float], None]) -> Any:
    """A tqdm that shows nothing and passes on what it is told."""
    from tqdm.auto import tqdm

    class Bar(tqdm):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            kwargs.pop("name", None)
            super().__init__(*args, **{**kwargs, "disable": True})
            advance(kwargs.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            advance(n or 0)
            return super().update(n)  # type: ignore[no-any-return]

    return Bar
