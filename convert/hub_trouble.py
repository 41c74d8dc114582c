"""Why the hub did not deliver what was requested, in sentences for the user.

Errors of huggingface_hub are recognised by the names of their classes, so that this module does not
import it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gpt.sanitize import one_line

RETRY_STATUSES = (408, 429, 500, 502, 503, 504)
"""HTTP status codes after which a request is sent again."""
MAX_RETRY_SECONDS = 60.0
"""If the hub asks to wait longer, the request is not sent again."""


class HubBusyError(Exception):
    """The hub asks to try again later. seconds: the delay it asks for, if any."""

    def __init__(self, status: int, seconds: float | None) -> None:
        text = (
            "the hub gets too many requests from here"
            if status == 429
            else "the hub has a server error"
        )
        super().__init__(f"{text} ({status})")
        self.seconds = seconds


@dataclass(frozen=True)
class HubRequest:
    """What was requested from the hub."""

    model: str
    revision: str | None
    endpoint: str
    """URL of the hub."""
    file: str | None = None
    """A file that the hub lists; None for the request of the list."""


@dataclass(frozen=True)
class HubProblem:
    """Why the hub cannot be used now, and what the user can do."""

    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.reason}: {self.advice}"


def explain_refusal(error: Exception, request: HubRequest) -> str | None:
    """The sentence for a request that the hub itself refused; None for any other error."""
    error = _cause(error)
    classes, status = _class_names(error), _status(error)
    page = f"https://huggingface.co/{request.model}"
    cases = (
        (
            "HFValidationError" in classes,
            f"{request.model} is neither a directory nor a name on the hub",
        ),
        (
            "DisabledRepoError" in classes,
            f"the hub has disabled {request.model}, so it cannot be downloaded: choose another "
            "model",
        ),
        (
            "RevisionNotFoundError" in classes,
            f"{request.model} has no revision {request.revision!r} on the hub",
        ),
        (
            status == 401 and "Invalid credentials in Authorization header" in str(error),
            "the hub does not accept your token: log in again with `hf auth login`",
        ),
        (
            status == 401 and bool(request.file or "GatedRepoError" in classes),
            f"{request.model} is gated: accept its licence on {page}, then log in here with "
            "`hf auth login`",
        ),
        (
            status == 403,
            f"your account has no access to {request.model}: ask for access on {page}, or log in "
            "with another token (`hf auth login`)",
        ),
        (
            status in (401, 404) and request.file is None,
            f"{request.model} is neither on this machine nor on the hub (if it is private, log in "
            "with `hf auth login`)",
        ),
        (
            status == 404,
            f"the hub lists {request.file} for {request.model} but does not have it: "
            "choose another --revision",
        ),
    )
    return next((sentence for applies, sentence in cases if applies), None)


def explain_problem(error: Exception, request: HubRequest) -> HubProblem:
    """Why the hub did not answer or a file did not arrive."""
    error = _cause(error)
    classes, reason = _class_names(error), _reason(error)
    if isinstance(error, HubBusyError):
        minutes = round((error.seconds or 0) / 60)
        later = f"in {minutes} minutes" if minutes else "later"
        return HubProblem(str(error), f"run it again {later}")
    if "OfflineModeIsEnabled" in classes:
        return HubProblem(
            "the hub cannot be reached because HF_HUB_OFFLINE is set",
            "unset it, or give a directory that holds a copy",
        )
    if _status(error) is not None:
        return HubProblem(
            f"the hub refuses the request ({reason})", "give a directory that holds a copy"
        )
    if classes & {"FileMetadataError", "ValueError", "KeyError", "TypeError", "AttributeError"}:
        return HubProblem(
            f"the server at {request.endpoint} is not the hub",
            "open a web page to see whether this network requires a login, and check HF_ENDPOINT",
        )
    if request.file is None:
        return HubProblem(
            f"the hub cannot be reached ({reason})",
            "connect to the internet, or give a directory that holds a copy",
        )
    retry = "run it again; complete files are kept"
    if not isinstance(error, OSError) or classes & {"ConnectionError", "TimeoutError"}:
        return HubProblem(f"the connection was lost ({reason})", retry)
    if error.errno is None:
        return HubProblem(f"its size differs from what the hub lists ({reason})", retry)
    return HubProblem(
        f"cannot write {error.filename or 'it'} ({error.strerror})",
        "free some space, or set HF_HOME to another directory",
    )


def _cause(error: Exception) -> Exception:
    """The error that huggingface_hub hides in a LocalEntryNotFoundError."""
    while "LocalEntryNotFoundError" in _class_names(error) and isinstance(
        error.__cause__, Exception
    ):
        error = error.__cause__
    return error


def _class_names(error: Exception) -> set[str]:
    return {each.__name__ for each in type(error).__mro__}


def _status(error: Exception) -> int | None:
    """The HTTP status code of the hub's answer; None if there was no answer."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    return status if isinstance(status, int) else None


def _reason(error: Exception) -> str:
    """The first line of an error, without its number."""
    line = re.sub(r"^\[Errno -?\d+\] ", "", str(error).strip()).partition("\n")[0]
    return one_line(line or type(error).__name__)[:200]
