"""Requests that others are made of: about a model, about a path, about a changed network."""

from __future__ import annotations

from dataclasses import dataclass

from gpt.interventions import Intervention
from gpt.models import Role


@dataclass(frozen=True, kw_only=True)
class Request:
    """Fields that every request may have."""

    second: bool = False
    """Whether the second model answers, and not the first."""

    @property
    def role(self) -> Role:
        """Which of the two models answers."""
        return "second" if self.second else "first"


@dataclass(frozen=True, kw_only=True)
class PathRequest(Request):
    """A request about a path: `ids` of the first model, followed by the tokens of `text`, then by
    those of `segments`."""

    ids: tuple[int, ...] = ()
    text: str = ""
    segments: tuple[str | int, ...] = ()
    """Texts, and ids between them: special tokens that a person means."""


@dataclass(frozen=True, kw_only=True)
class ChangedRequest(PathRequest):
    """A request about a path that a changed network may answer."""

    interventions: tuple[Intervention, ...] = ()
    """What is changed inside the network."""
