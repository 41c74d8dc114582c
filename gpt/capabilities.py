"""What whoever runs a model can answer: our own engine everything, a server what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from gpt.settings import Sampling

WholePrompt = Literal["one request", "a request a token", "none"]
Seed = Literal["strict", "best effort", "none"]


class Capabilities(NamedTuple):
    """What can be asked of a model. The defaults are those of our own engine."""

    server: str = ""
    """Kind and version of the server, for a person; empty for our own engine."""
    address: str = ""
    """The server's address, without a key."""
    models: tuple[str, ...] = ()
    """Names of the models that the server offers."""
    candidates: int | None = None
    """Most candidates at a position; None: the whole vocabulary."""
    is_exact: bool = True
    """Whether a whole distribution can be had: entropy and ranks are exact, not bounds."""
    is_raw: bool = True
    """Whether log-probabilities are the model's own, before the sampling settings."""
    prompt: WholePrompt = "one request"
    """How the log-probabilities of an existing text are read."""
    has_ids: bool = True
    """Whether tokens are known by their ids."""
    seed: Seed = "strict"
    """Whether a random seed repeats a text."""
    settings: tuple[str, ...] | None = None
    """Sampling settings that change the server's choice; None: all of ours."""
    inside: bool = True
    """Whether layers, attention and interventions can be asked for."""
    chat: bool = True
    """Whether the model's own chat template can be used."""

    def ignored(self, sampling: Sampling) -> tuple[str, ...]:
        """Names of the settings that are not neutral and that the server ignores."""
        if self.settings is None:
            return ()
        return tuple(sorted(sampling.active - set(self.settings)))

    def applied(self, sampling: Sampling) -> Sampling:
        """The settings that act: those that the server ignores are neutral."""
        neutral = Sampling()
        return replace(
            sampling, **{name: getattr(neutral, name) for name in self.ignored(sampling)}
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return self._asdict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Capabilities:
        """The reverse of to_dict, for values from our own engine, which are not checked."""
        known = {name: values[name] for name in cls._fields if name in values}
        for name in ("models", "settings"):
            if known.get(name) is not None:
                known[name] = tuple(known[name])
        return cls(**known)
