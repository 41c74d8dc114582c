"""A model at any server that speaks OpenAI's completions: LM Studio, Ollama and others.

Such a server names no ids, so each token's text gets a number of its own here, and a prompt is one
token. The numbers hold as long as this process.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from gpt.errors import UserError
from gpt.progress import Watcher
from gpt.remote import fields, openai_body
from gpt.remote.http import Http
from gpt.remote.server import Message, ModelFacts, Piece, Reading, Top, best_first, rank_in
from gpt.settings import Sampling

_ROUTE = "/v1/completions"
_SENT = (
    "temperature",
    "top_p",
    "presence_penalty",
    "frequency_penalty",
    "seed",
)
"""The settings that OpenAI's interface has for every model."""


class OpenAi:
    """A model at a server that names tokens by their text."""

    sends = frozenset(_SENT) - {"seed"}
    reads_names = False
    order: tuple[str, ...] | None = None

    def __init__(self, http: Http, model: ModelFacts) -> None:
        self.model = model
        self._http = http
        self._ids: dict[str, int] = {}
        self._texts: list[str] = []

    def _id(self, text: str) -> int:
        if text not in self._ids:
            self._ids[text] = len(self._texts)
            self._texts.append(text)
        return self._ids[text]

    def _text(self, ids: Sequence[int]) -> str:
        if any(i >= len(self._texts) for i in ids):
            raise UserError(
                "this server names no token ids, so that a text of an earlier session cannot be "
                "continued; start from its text"
            )
        return "".join(self._texts[i] for i in ids)

    def tokenize(self, text: str, *, is_start: bool) -> list[int]:
        """The whole text as one token."""
        return [self._id(text)] if text else []

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        """The text of each of these tokens."""
        return {i: Piece(self._text([i]).encode("utf-8", "replace")) for i in ids}

    def draw(
        self, ids: Sequence[int], sampling: Sampling, n: int, top: int, watcher: Watcher
    ) -> Generator[Reading, None, None]:
        """At most n tokens after ids."""
        values = openai_body.settings(sampling, len(ids))
        body = self._body(ids, n, top) | {name: values[name] for name in _SENT} | {"stream": True}
        with closing(self._http.stream(_ROUTE, body, watcher)) as events:
            for event in events:
                for choice in openai_body.choices(event)[:1]:
                    yield from self._readings(choice, top)
                    if finish := openai_body.finish_of(choice):
                        yield Reading(-1, finish=finish)
                        return
        raise UserError(f"the server at {self._http.address.place} broke off its answer")

    def _body(self, ids: Sequence[int], n: int, top: int) -> dict[str, Any]:
        body = {"model": self.model.name, "prompt": self._text(ids), "max_tokens": n}
        return body | ({"logprobs": top} if top else {})

    def _readings(self, choice: Mapping[str, Any], top: int) -> list[Reading]:
        """The tokens of an event, in the shape of completions or of chats; text without numbers
        is one token."""
        values = choice.get("logprobs")
        table = values if isinstance(values, dict) else {}
        if table.get("content"):
            return [self._of_chat(entry, top) for entry in fields.items(table["content"], "tokens")]
        texts = fields.items(table.get("tokens"), "the tokens")
        if not texts:
            text = fields.text(choice.get("text"), "the text")
            return [Reading(self._id(text))] if text else []
        logprobs = fields.items(table.get("token_logprobs"), "the log-probabilities")
        tops = fields.items(table.get("top_logprobs"), "the candidates") or [{}] * len(texts)
        rows = openai_body.pairs(texts, logprobs, "the log-probabilities")
        return [
            self._reading(text, logprob, list((candidates or {}).items()), top)
            for (text, logprob), candidates in openai_body.pairs(rows, tops, "the candidates")
            if isinstance(candidates, dict | None)
        ]

    def _of_chat(self, entry: Any, top: int) -> Reading:
        values = fields.table(entry, "a token")
        others = [
            (each.get("token"), each.get("logprob"))
            for each in fields.items(values.get("top_logprobs"), "the candidates")
            if isinstance(each, dict)
        ]
        return self._reading(values.get("token"), values.get("logprob"), others, top)

    def _reading(
        self, text: Any, logprob: Any, candidates: Sequence[tuple[Any, Any]], top: int
    ) -> Reading:
        token_id = self._id(fields.text(text, "the text of a token"))
        pairs = [
            (self._id(name), float(value))
            for name, value in candidates
            if isinstance(name, str) and fields.is_logprob(value)
        ]
        found = best_first(pairs, top)
        own = fields.logprob(logprob) if logprob is not None else None
        return Reading(token_id, own, rank_in(found, token_id), found)

    def read(self, ids: Sequence[int], start: int, top: int, watcher: Watcher) -> Iterator[Reading]:
        """The tokens ids[start:] without numbers: a prompt is not cut as the model cuts it."""
        for token_id in ids[start:]:
            yield Reading(token_id)

    def following(self, texts: Sequence[Sequence[int]], top: int, watcher: Watcher) -> list[Top]:
        """The distribution after each text."""
        bodies = [self._body(ids, 1, top) | {"temperature": 0} for ids in texts]
        found = []
        for values in self._http.post_all(_ROUTE, bodies, watcher):
            readings = [
                r for choice in openai_body.choices(values) for r in self._readings(choice, top)
            ]
            found.append(readings[0].top if readings else ())
        return found

    def apply_template(self, messages: Sequence[Message]) -> list[int]:
        """Refused: such a server hides its template."""
        raise UserError(
            "this server does not show the ids of a chat; turn chat off, or use vLLM or llama.cpp"
        )
