"""Connects to a server: which kind it is, its models, and what it can do."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import platformdirs

from gpt.capabilities import Capabilities, Seed
from gpt.errors import UserError
from gpt.nearest import did_you_mean
from gpt.remote import fields, trouble
from gpt.remote import probe as probe_module
from gpt.remote.http import Http
from gpt.remote.llamacpp import LlamaCpp
from gpt.remote.openai import OpenAi
from gpt.remote.server import ModelFacts, Server
from gpt.remote.session import Session
from gpt.remote.sglang import SgLang
from gpt.remote.vllm import Vllm
from gpt.server_address import Address, read_address

_DAY = 24 * 60 * 60
"""Seconds for which measured capabilities are kept."""
_FORMAT = 1
"""Version of the kept file."""
_LARGEST = 1 << 20
_MOST_MODELS = 1000

Tell = Callable[[str], object]


class _Found(NamedTuple):
    """A server as it was found."""

    kind: str
    version: str
    models: list[ModelFacts]
    slots: int = 1


def connect(
    url: str,
    api_key_env: str = "",
    *,
    model: str = "",
    probe: bool = False,
    tell: Tell = lambda message: None,
) -> Session:
    """A session with a model at a server.

    Args:
        url: address of the server.
        api_key_env: name of the environment variable that has its key; empty: it needs none.
        model: the server's name for the model; empty: its only one.
        probe: measure again what is kept for a day.
        tell: receives a few words that say what takes time.
    """
    http = Http(read_address(url), api_key_env)
    try:
        return _connected(http, model, probe, tell)
    except BaseException:
        http.close()
        raise


def _connected(http: Http, model: str, again: bool, tell: Tell) -> Session:
    tell(f"asking the server at {http.address.place}")
    found = identify(http)
    facts = _choose(found.models, model, http.address)
    server, known = _make(found, http, facts)
    path = cache_file(http.address, facts.name, found)
    kept = None if again else _kept(path)
    if kept is None:
        tell(f"measuring what {found.kind} at {http.address.place} can do")
        if isinstance(server, Vllm) and not facts.vocab_size:
            server.model = facts._replace(vocab_size=server.whole_size())
        kept = probe_module.measure(server, known), server.model.vocab_size
        _keep(path, *kept)
    capabilities, vocab_size = kept
    server.model = server.model._replace(vocab_size=server.model.vocab_size or vocab_size)
    capabilities = capabilities._replace(
        server=known.server, address=known.address, models=known.models
    )
    return Session(http, server, capabilities)


def identify(http: Http) -> _Found:
    """Which kind of server answers, and its models."""
    answer = fields.table(http.get("/v1/models"), "the list of models")
    models = model_facts(answer)[:_MOST_MODELS]
    entries = fields.items(answer.get("data"), "the list of models")
    owner = fields.table(entries[0], "a model").get("owned_by") if entries else None
    for kind, (owned_by, path, is_kind, version) in _KINDS.items():
        if owned_by == owner or (owner not in _OWNERS and is_kind(_get(http, path))):
            values = _get(http, path)
            context = fields.table(values.get("default_generation_settings") or {}).get("n_ctx")
            if block_size := fields.small_size(context):
                models = [each._replace(block_size=block_size) for each in models]
            slots = max(1, fields.small_size(values.get("total_slots")))
            return _Found(kind, _short(values.get(version)), models, min(slots, 16))
    return _Found("OpenAI completions", "", models)


def model_facts(answer: Any) -> list[ModelFacts]:
    """The models in an answer of /v1/models: `meta` is llama.cpp's, `max_model_len` the others'."""
    models = []
    for entry in fields.items(fields.table(answer).get("data"), "the list of models"):
        values = fields.table(entry, "a model")
        meta = values.get("meta")
        sizes = meta if isinstance(meta, dict) else {}
        models.append(
            ModelFacts(
                fields.text(values.get("id"), "the name of a model"),
                fields.small_size(sizes.get("n_vocab")),
                fields.small_size(sizes.get("n_ctx") or values.get("max_model_len")),
                fields.size(sizes.get("n_params")),
            )
        )
    return models


_KINDS: dict[str, tuple[str, str, Callable[[dict[str, Any]], bool], str]] = {
    "vLLM": ("vllm", "/version", lambda values: "version" in values, "version"),
    "SGLang": ("sglang", "/get_server_info", lambda values: "tp_size" in values, "version"),
    "llama.cpp": ("llamacpp", "/props", lambda values: "total_slots" in values, "build_info"),
}
"""Kind → `owned_by` of its models, a path that only it has, how its answer is recognised, and the
field that has the version."""
_OWNERS = [owned_by for owned_by, *_ in _KINDS.values()]


def _get(http: Http, path: str) -> dict[str, Any]:
    """An object at a path; empty if there is none."""
    with suppress(UserError):
        values = http.get(path)
        if isinstance(values, dict):
            return values
    return {}


def _short(value: Any) -> str:
    return trouble.shortened(value)[:60] if isinstance(value, str) else ""


def _choose(models: list[ModelFacts], name: str, address: Address) -> ModelFacts:
    """The model of a name, or the only one."""
    names = [model.name for model in models]
    shown = ", ".join(map(trouble.shortened, names[:10])) or "none"
    if not name and len(models) == 1:
        return models[0]
    if not name:
        raise UserError(
            f"the server at {address.place} has {len(models)} models; name one of: {shown}"
        )
    if name not in names:
        near = did_you_mean(name, names)
        raise UserError(
            f"the server at {address.place} has no model {trouble.shortened(name)!r}{near}; "
            f"it has: {shown}"
        )
    return models[names.index(name)]


def _make(found: _Found, http: Http, facts: ModelFacts) -> tuple[Server, Capabilities]:
    """The server, and what is known of its kind."""
    known = Capabilities(
        server=f"{found.kind} {found.version}".strip(),
        address=http.address.url,
        models=tuple(trouble.shortened(model.name) for model in found.models),
        inside=False,
        seed="best effort",  # requests of others change how its sums are computed
    )
    if found.kind == "vLLM":
        return Vllm(http, facts), known
    if found.kind == "SGLang":
        return SgLang(http, facts), known
    if found.kind == "llama.cpp":
        server = LlamaCpp(http, facts, slots=found.slots)
        seed: Seed = "strict" if found.slots == 1 else "best effort"
        return server, known._replace(prompt="a request a token", seed=seed)
    return OpenAi(http, facts), known._replace(prompt="none", has_ids=False)


def cache_file(address: Address, model: str, found: _Found) -> Path:
    """The file that keeps what was measured: its name shows neither address nor model."""
    name = json.dumps([_FORMAT, address.url, model, found.kind, found.version])
    digest = hashlib.sha256(name.encode()).hexdigest()[:32]
    return platformdirs.user_cache_path("gpt-tui") / "servers" / f"{digest}.json"


def _kept(path: Path) -> tuple[Capabilities, int] | None:
    """Capabilities and vocabulary size that were measured within a day."""
    try:
        if not 0 <= time.time() - path.stat().st_mtime < _DAY or path.stat().st_size > _LARGEST:
            return None
        values = json.loads(path.read_text("utf-8"))
        capabilities = Capabilities.from_dict(values["capabilities"])
        return capabilities, fields.small_size(values["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _keep(path: Path, capabilities: Capabilities, vocab_size: int) -> None:
    """Keep what was measured; if that cannot be written, it is measured again next time."""
    values = {"capabilities": capabilities.to_dict(), "vocab_size": vocab_size}
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values), encoding="utf-8")
