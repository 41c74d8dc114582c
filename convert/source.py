"""Where a checkpoint comes from: a directory, or the hub with its cache.

The only place that knows huggingface_hub, and only once a hub id is asked for.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert import directory as checkpoint_directory
from convert.directory import CONFIG, INDEXES, TOKENIZER_FILES
from convert.events import Found, Progress, Tell
from gpt.errors import UserError

# Names that the hub forwards, and under which its cache may have them.
_OTHER_NAMES = {
    **{
        f"gpt2{size}": (f"openai-community/gpt2{size}",)
        for size in ("", "-medium", "-large", "-xl")
    },
    "distilgpt2": ("distilbert/distilgpt2",),
}
_HUB_ID = re.compile(r"[\w][\w.-]*(?:/[\w][\w.-]*)?", re.ASCII)


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

    Raises UserError where there is none, and where the network is needed and is not there.
    """
    path = Path(model)
    if path.is_dir():
        if revision is not None:
            raise UserError(f"{model} is a directory and has no revisions; leave --revision out")
        return Source(str(path), "directory", path, None)
    if not _HUB_ID.fullmatch(model) or path.exists():
        raise UserError(f"{model} is neither a directory nor a name on the hub")
    return _from_hub(model, revision, tell)


def _from_hub(model: str, revision: str | None, tell: Tell) -> Source:
    """The hub's files, or what its cache has of them where there is no network."""
    import huggingface_hub
    from huggingface_hub import errors

    api = huggingface_hub.HfApi()
    try:
        info = api.model_info(model, revision=revision, files_metadata=True, timeout=10)
    except errors.GatedRepoError as error:
        raise UserError(
            f"{model} asks for its licence to be accepted on https://huggingface.co/{model} and "
            "then for `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{model} has no revision {revision!r} on the hub") from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"there is no {model} here or on the hub (or it is private: `hf auth login`)"
        ) from error
    except Exception as error:  # offline has many names, and the cache may answer all of them
        return _from_cache(model, revision, error)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    download = _Download(model, info.sha or revision or "main", sizes, tell)
    try:
        return Source(info.id, "hub", download.run(), info.sha)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"the download of {model} failed ({_reason(error)}); run it again to go on"
        ) from error


def _from_cache(model: str, revision: str | None, error: Exception) -> Source:
    """What an earlier download left, complete. Raises UserError saying what to do if nothing."""
    import huggingface_hub

    for name in (model, *_OTHER_NAMES.get(model, ())):
        found = huggingface_hub.try_to_load_from_cache(name, CONFIG, revision=revision)
        if isinstance(found, str):
            directory = Path(found).parent
            with suppress(UserError):
                checkpoint_directory.choose_weights({path.name for path in directory.iterdir()})
                return Source(name, "hub", directory, directory.name)
    raise UserError(
        f"{model} is not on this machine and the hub cannot be reached ({_reason(error)}); "
        "connect, or name a directory that holds a copy"
    ) from error


def _reason(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]


@dataclass
class _Download:
    """The files of one model at one commit, into the hub's cache."""

    model: str
    revision: str
    sizes: dict[str, int]
    tell: Tell
    done: int = 0
    total: int = 0

    def run(self) -> Path:
        """The directory of the files."""
        names = [name for name in (CONFIG, *TOKENIZER_FILES) if name in self.sizes]
        try:
            chosen = checkpoint_directory.choose_weights(set(self.sizes))
        except UserError as error:
            raise UserError(f"{self.model} on the hub holds {error}") from error
        self.total = sum(self.sizes[name] for name in names)
        if chosen in INDEXES:
            self.total += self.sizes[chosen]
            index = self._fetch(chosen)
            table = checkpoint_directory.shards(_json(index), chosen)
            weights = sorted(set(table.values()))
        else:
            weights = [chosen]
        self.total += sum(self.sizes.get(name, 0) for name in weights)
        self.tell(Found(self.model, "hub", self.total))
        for name in [*names, *weights]:
            if name not in self.sizes:
                raise UserError(f"{chosen} names {name}, which {self.model} does not have")
            path = self._fetch(name)
        return path.parent

    def _fetch(self, name: str) -> Path:
        import huggingface_hub

        size = self.sizes[name]
        before = self.done

        def advance(n_bytes: float) -> None:
            self.done = min(before + size, self.done + int(n_bytes))
            self.tell(Progress("download", name, self.done - before, size, self.done, self.total))

        advance(0)
        path = huggingface_hub.hf_hub_download(
            self.model, name, revision=self.revision, tqdm_class=_bar(advance)
        )
        advance(before + size - self.done)
        return Path(path)


def _bar(advance: Any) -> Any:
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


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
