"""What is wrong if the hub does not give what was asked for, in words for people.

The client's errors are known by the names of their classes, so that it need not be loaded here.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpt.sanitize import one_line

AGAIN = (408, 429, 500, 502, 503, 504)
"""Status codes that ask to come back."""
LONGEST_PAUSE = 60.0
"""Seconds that are waited at most if the hub says when to come back."""


class Busy(Exception):  # noqa: N818
    """The hub asks to come back, in so many seconds if it says so."""

    def __init__(self, status: int, seconds: float | None) -> None:
        text = (
            "the hub gets too many requests from here"
            if status == 429
            else "the hub is out of order"
        )
        super().__init__(f"{text} ({status})")
        self.seconds = seconds


@dataclass(frozen=True)
class Question:
    """What the hub was asked for."""

    model: str
    revision: str | None
    endpoint: str
    """Address of the hub."""
    file: str | None = None
    """A file that the hub lists; None if the list was asked for."""


@dataclass(frozen=True)
class Trouble:
    """Why nothing can be had from the hub now."""

    what: str
    advice: str

    def __str__(self) -> str:
        return f"{self.what}: {self.advice}"


def refusal(error: Exception, asked: Question) -> str | None:
    """The sentence for what the hub itself denies; None if it did not get so far."""
    error = _cause(error)
    kinds, status = _kinds(error), _status(error)
    page = f"https://huggingface.co/{asked.model}"
    cases = (
        (
            "HFValidationError" in kinds,
            f"{asked.model} is neither a directory nor a name on the hub",
        ),
        (
            "DisabledRepoError" in kinds,
            f"the hub has closed {asked.model}, so it cannot be downloaded: choose another model",
        ),
        (
            "RevisionNotFoundError" in kinds,
            f"{asked.model} has no revision {asked.revision!r} on the hub",
        ),
        (
            status == 401 and "Invalid credentials in Authorization header" in str(error),
            "the hub does not accept your token: log in again with `hf auth login`",
        ),
        (
            status == 401 and bool(asked.file or "GatedRepoError" in kinds),
            f"{asked.model} may be read only by those who accepted its licence: accept it on "
            f"{page}, and then log in here with `hf auth login`",
        ),
        (
            status == 403,
            f"the hub does not let your account read {asked.model}: ask for it on {page}, or log "
            "in with another token (`hf auth login`)",
        ),
        (
            status in (401, 404) and asked.file is None,
            f"there is no {asked.model} here or on the hub (or it is private: `hf auth login`)",
        ),
        (
            status == 404,
            f"the hub lists {asked.file} for {asked.model} and does not have it: "
            "choose another --revision",
        ),
    )
    return next((sentence for holds, sentence in cases if holds), None)


def trouble(error: Exception, asked: Question) -> Trouble:
    """What keeps the hub from answering, or its files from arriving."""
    error = _cause(error)
    kinds, reason = _kinds(error), _reason(error)
    if isinstance(error, Busy):
        minutes = round((error.seconds or 0) / 60)
        later = f"in {minutes} minutes" if minutes else "later"
        return Trouble(str(error), f"run it again {later}")
    if "OfflineModeIsEnabled" in kinds:
        return Trouble(
            "the hub cannot be reached, as HF_HUB_OFFLINE is set",
            "unset it, or name a directory that holds a copy",
        )
    if _status(error) is not None:
        return Trouble(f"the hub refuses it ({reason})", "name a directory that holds a copy")
    if kinds & {"FileMetadataError", "ValueError", "KeyError", "TypeError", "AttributeError"}:
        return Trouble(
            f"what answers at {asked.endpoint} is not the hub",
            "open a web page to see whether this network wants a login, and check HF_ENDPOINT",
        )
    if asked.file is None:
        return Trouble(
            f"the hub cannot be reached ({reason})",
            "connect, or name a directory that holds a copy",
        )
    kept = "run it again; the files that are complete are kept"
    if not isinstance(error, OSError) or kinds & {"ConnectionError", "TimeoutError"}:
        return Trouble(f"the connection broke off ({reason})", kept)
    if error.errno is None:
        return Trouble(f"it came with another size than the hub says ({reason})", kept)
    return Trouble(
        f"cannot write {error.filename or 'it'} ({error.strerror})",
        "make room there, or name another place in HF_HOME",
    )


def _cause(error: Exception) -> Exception:
    """The client says of many errors only that a file was not found, because of another error."""
    while "LocalEntryNotFoundError" in _kinds(error) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error


def _kinds(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _status(error: Exception) -> int | None:
    """The hub's answer as a number, if there was one."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _reason(error: Exception) -> str:
    return one_line(str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
