"""The engine's requests as dataclasses, and the checks that make them from JSON.

docs/engine.md describes each field. A missing field has its default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_type_hints

from gpt.errors import UserError
from gpt.interventions import Intervention, from_dicts
from gpt.models import Role
from gpt.protocol.inside import INSIDE as INSIDE
from gpt.protocol.path import ChangedRequest as ChangedRequest
from gpt.protocol.path import PathRequest as PathRequest
from gpt.protocol.path import Request as Request
from gpt.settings import Sampling, check_setting
from gpt.tokenizer import LONGEST_TEXT


@dataclass(frozen=True, kw_only=True)
class Load(Request):
    """Load a model by name or directory, or one at a server."""

    model: str = ""
    """Empty: the model that comes with this package, or the server's only one."""
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    """Threads on the CPU; 0: what suits the model."""
    compile: str = "off"
    server: str = ""
    """Address of the server that has the model; empty: that of the engine, if it has one."""
    here: bool = False
    """Whether a second model runs on this machine although the engine has a server."""
    api_key_env: str = ""
    """Name of the environment variable that has the server's key."""
    probe: bool = False
    """Whether to measure again what the server can do."""


@dataclass(frozen=True, kw_only=True)
class Unload(Request):
    """Free the second model."""

    @property
    def role(self) -> Role:
        """The second model's, whatever the request says."""
        return "second"


@dataclass(frozen=True, kw_only=True)
class Models(Request):
    """List the models that can be loaded by name."""


@dataclass(frozen=True, kw_only=True)
class Tokenize(Request):
    """Cut a text into tokens."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Score(ChangedRequest):
    """Ask for a Step for each token of the path."""

    top: int = 10


@dataclass(frozen=True, kw_only=True)
class Compare(PathRequest):
    """Ask for the second model's Steps of the path, and the divergence between the models."""

    top: int = 10

    @property
    def role(self) -> Role:
        """The second model's, whatever the request says."""
        return "second"


@dataclass(frozen=True, kw_only=True)
class Generate(ChangedRequest):
    """Draw tokens after the path."""

    echo_from: int | None = None
    """First position of the prompt whose Steps are sent as well; None: only drawn tokens."""
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 200
    stop: tuple[str, ...] = ()
    top: int = 10
    slide: bool = False
    chat: bool = False
    """Whether `text` is a person's turn in a conversation."""
    system: str = ""
    """What the model is told before the first turn of a conversation."""
    branches: int = 1
    """Number of texts; each has the next seed."""

    def __post_init__(self) -> None:
        check_setting("branches", self.branches)


@dataclass(frozen=True, kw_only=True)
class Waterfall(ChangedRequest):
    """Ask how each sampling setting changes the distribution after the path."""

    sampling: Sampling = field(default_factory=Sampling)
    chosen: int | None = None
    top: int = 10
    also: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Paths(ChangedRequest):
    """Ask for the most probable continuations of the path."""

    width: int = 8
    depth: int = 8


@dataclass(frozen=True, kw_only=True)
class Layers(ChangedRequest):
    """Ask for each layer's prediction of the token after the path, and its attention."""

    chosen: int = 0
    top: int = 5


@dataclass(frozen=True, kw_only=True)
class Attribution(ChangedRequest):
    """Ask how much each token of the path raises the probability of a token after the path."""

    chosen: int = 0
    last: int = 64


@dataclass(frozen=True, kw_only=True)
class Options(ChangedRequest):
    """Ask how probable each of several texts is after the path."""

    options: tuple[str, ...]
    top: int = 0


REQUESTS: dict[str, type[Request]] = {
    "load": Load,
    "unload": Unload,
    "models": Models,
    "tokenize": Tokenize,
    "score": Score,
    "compare": Compare,
    "generate": Generate,
    "waterfall": Waterfall,
    "paths": Paths,
    "layers": Layers,
    "attribution": Attribution,
    "options": Options,
    **INSIDE,
}
"""For each `op`: the class of the request."""


def parse(op: str, values: Mapping[str, Any]) -> Request:
    """The request in a JSON object. A wrong field is refused by name; unknown ones are ignored."""
    request_type, found = REQUESTS[op], {}
    types = get_type_hints(request_type)
    for each in fields(request_type):
        if each.name in values:
            found[each.name] = _READERS[types[each.name]](each.name, values[each.name])
        elif each.default is MISSING and each.default_factory is MISSING:
            raise UserError(f"the request lacks {each.name}")
    return request_type(**found)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise UserError(f"{name} must be true or false")
    return value


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise UserError(f"{name} must be a whole number")
    if not 0 <= value < 2**31:
        raise UserError(f"{name} is {value}; it must be from 0 to {2**31 - 1}")
    return value


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UserError(f"{name} must be a text")
    if len(value) > LONGEST_TEXT:
        raise UserError(
            f"{name} has {len(value):,} characters; at most {LONGEST_TEXT:,} are allowed"
        )
    return value


def _ids(name: str, value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(i) is int for i in value):
        raise UserError(f"{name} must be a list of whole numbers")
    return tuple(value)


def _segments(name: str, value: Any) -> tuple[str | int, ...]:
    if not isinstance(value, list) or not all(type(part) in (str, int) for part in value):
        raise UserError(f"{name} must be a list of texts and whole numbers")
    _text(name, "".join(part for part in value if isinstance(part, str)))
    return tuple(value)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text for text in value):
        raise UserError(f"{name} must be a list of texts that are not empty")
    return tuple(value)


def _sampling(name: str, value: Any) -> Sampling:
    if not isinstance(value, dict):
        raise UserError(f"{name} must be an object with settings")
    return Sampling.from_dict(value)


def _interventions(name: str, value: Any) -> tuple[Intervention, ...]:
    return from_dicts(value)


_READERS: dict[Any, Callable[[str, Any], Any]] = {
    bool: _flag,
    int: _whole,
    int | None: _whole,
    str: _text,
    tuple[int, ...]: _ids,
    tuple[str, ...]: _texts,
    tuple[str | int, ...]: _segments,
    tuple[Intervention, ...]: _interventions,
    Sampling: _sampling,
}
"""For each type of a field: the function that checks a value and converts it."""
