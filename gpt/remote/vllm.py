"""A model at vLLM's server: /v1/completions with its fields for ids, /tokenize and /detokenize."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from gpt.errors import UserError
from gpt.progress import Watcher
from gpt.remote import fields, openai_body
from gpt.remote.http import Http
from gpt.remote.server import Message, ModelFacts, Piece, Reading, Top, best_first, rank_in
from gpt.remote.token_strings import TokenStrings
from gpt.settings import Sampling

_ROUTE = "/v1/completions"
_PREFIX = "token_id:"


class Vllm:
    """A model at vLLM's server."""

    sends = openai_body.SENDS
    reads_names = True
    order: tuple[str, ...] | None = ("temperature", "min_p", "top_k", "top_p")

    def __init__(self, http: Http, model: ModelFacts) -> None:
        self.model = model
        self._http = http
        self._strings = TokenStrings(
            self._tokenize, self._detokenize, self._is_special, lambda: self.model.vocab_size
        )

    def tokenize(self, text: str, *, is_start: bool) -> list[int]:
        """Ids of a text. The server reads the name of a special token as that token."""
        return [i for i, _ in self._tokenize(text, is_start=is_start)]

    def _tokenize(self, text: str, *, is_start: bool = False) -> list[tuple[int, str]]:
        body = {
            "model": self.model.name,
            "prompt": text,
            "add_special_tokens": is_start,
            "return_token_strs": True,
        }
        return self._tokens(fields.table(self._http.post("/tokenize", body)))

    def _tokens(self, answer: Mapping[str, Any]) -> list[tuple[int, str]]:
        ids = fields.ids(answer.get("tokens"))
        strings = fields.items(answer.get("token_strs"), "the strings of tokens")
        found = openai_body.pairs(ids, strings or [""] * len(ids), "the strings of tokens")
        return [(i, fields.text(string, "the string of a token")) for i, string in found]

    def _detokenize(self, ids: Sequence[int]) -> str:
        answer = self._http.post("/detokenize", {"model": self.model.name, "tokens": list(ids)})
        return fields.text(fields.table(answer).get("prompt"), "the text of tokens")

    def _is_special(self, token_id: int) -> bool:
        """Whether a token is left out of a text: it is drawn, and the text looked at."""
        body = {
            "model": self.model.name,
            "prompt": [token_id],
            "max_tokens": 1,
            "temperature": 0,
            "allowed_token_ids": [token_id],
            "skip_special_tokens": True,
        }
        (choice,) = openai_body.choices(self._http.post(_ROUTE, body))[:1] or [{}]
        return not choice.get("text")

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        """The piece of each of these tokens."""
        return self._strings.pieces(ids)

    def _body(self, prompt: Any, n: int, top: int) -> dict[str, Any]:
        return {
            "model": self.model.name,
            "prompt": prompt,
            "max_tokens": n,
            "logprobs": top,
            "return_token_ids": True,
            "return_tokens_as_token_ids": True,
        }

    def draw(
        self, ids: Sequence[int], sampling: Sampling, n: int, top: int, watcher: Watcher
    ) -> Generator[Reading, None, None]:
        """At most n tokens after ids."""
        body = self._body(list(ids), n, top) | openai_body.settings(sampling, len(ids))
        with closing(self._http.stream(_ROUTE, {**body, "stream": True}, watcher)) as events:
            for values in events:
                for choice in openai_body.choices(values)[:1]:
                    finish = openai_body.finish_of(choice)
                    readings = self._readings(choice, top)
                    for reading in readings[:-1]:
                        yield reading
                    for reading in readings[-1:]:
                        yield reading._replace(finish=finish)
                    if finish:
                        if not readings:
                            yield Reading(-1, finish=finish)
                        return
        raise UserError(f"the server at {self._http.address.place} broke off its answer")

    def _readings(self, choice: Mapping[str, Any], top: int) -> list[Reading]:
        """The tokens of an event."""
        values = choice.get("logprobs")
        if values is None:
            return [Reading(i) for i in fields.ids(choice.get("token_ids"))]
        table = fields.table(values, "the log-probabilities")
        tokens = [_id_of(key) for key in fields.items(table.get("tokens"), "the tokens")]
        logprobs = fields.items(table.get("token_logprobs"), "the log-probabilities")
        tops = fields.items(table.get("top_logprobs"), "the candidates") or [None] * len(tokens)
        rows = openai_body.pairs(tokens, logprobs, "the log-probabilities")
        return [
            self._reading(token_id, logprob, candidates, top)
            for (token_id, logprob), candidates in openai_body.pairs(rows, tops, "the candidates")
        ]

    def _reading(self, token_id: int, logprob: Any, candidates: Any, top: int) -> Reading:
        found = _top(candidates, top)
        own = fields.logprob(logprob) if logprob is not None else None
        return Reading(token_id, own, rank_in(found, token_id), found)

    def read(self, ids: Sequence[int], start: int, top: int, watcher: Watcher) -> Iterator[Reading]:
        """The tokens ids[start:], in one request; the server needs room for one more token."""
        if start >= len(ids):
            return
        is_full = 0 < self.model.block_size <= len(ids)
        body = self._body(list(ids[:-1] if is_full else ids), 1, 0)
        body |= {"prompt_logprobs": top, "temperature": 0}
        (choice,) = openai_body.choices(self._http.post(_ROUTE, body, watcher))[:1] or [{}]
        rows = fields.items(choice.get("prompt_logprobs"), "the prompt's log-probabilities")
        if len(rows) != len(body["prompt"]):
            raise fields.unexpected("the prompt's log-probabilities")
        for position in range(start, len(rows)):
            yield _prompt_reading(ids[position], rows[position], top)
        if is_full:
            yield self._forced(ids, top, watcher)

    def _forced(self, ids: Sequence[int], top: int, watcher: Watcher) -> Reading:
        """The last token of ids, drawn because no other one is allowed."""
        body = self._body(list(ids[:-1]), 1, top)
        body |= {"allowed_token_ids": [ids[-1]], "temperature": 0}
        found = openai_body.choices(self._http.post(_ROUTE, body, watcher))
        readings = [reading for choice in found[:1] for reading in self._readings(choice, top)]
        if len(readings) != 1 or readings[0].token_id != ids[-1]:
            raise fields.unexpected("the last token's log-probability")
        return readings[0]

    def following(self, texts: Sequence[Sequence[int]], top: int, watcher: Watcher) -> list[Top]:
        """The distribution after each text, in one request."""
        body = self._body([list(text) for text in texts], 1, top) | {"temperature": 0}
        found = openai_body.choices(self._http.post(_ROUTE, body, watcher))
        tops = [reading.top for choice in found for reading in self._readings(choice, top)[:1]]
        if len(tops) != len(texts):
            raise fields.unexpected("the candidates")
        return tops

    def apply_template(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation, as the model's template writes it."""
        body = {"model": self.model.name, "messages": [dict(message) for message in messages]}
        return [i for i, _ in self._tokens(fields.table(self._http.post("/tokenize", body)))]

    def whole_size(self) -> int:
        """Number of tokens in the vocabulary, if the server names all of them; else 0."""
        try:
            body = self._body([0], 1, -1) | {"temperature": 0}
            choice = openai_body.choices(self._http.post(_ROUTE, body))[0]
            values = fields.table(choice.get("logprobs"), "the log-probabilities")
            return len(_pairs_of(fields.items(values.get("top_logprobs"), "the candidates")[0]))
        except (UserError, IndexError):
            return 0


def _id_of(key: Any) -> int:
    """The id in "token_id:318"."""
    digits = key.removeprefix(_PREFIX) if isinstance(key, str) else ""
    if not digits.isdecimal() or len(digits) > 10 or digits == key:
        raise fields.unexpected("a token without its id")
    return fields.token_id(int(digits))


def _pairs_of(candidates: Any) -> list[tuple[int, float]]:
    found = fields.table(candidates, "the candidates")
    return [(_id_of(key), float(value)) for key, value in found.items() if fields.is_logprob(value)]


def _top(candidates: Any, top: int) -> Top:
    return () if candidates is None else best_first(_pairs_of(candidates), top)


def _prompt_reading(token_id: int, row: Any, top: int) -> Reading:
    """A token of the prompt from {"318": {"logprob": …, "rank": …}, …}."""
    found: dict[int, tuple[float, int | None]] = {}
    for key, values in fields.table(row, "the prompt's log-probabilities").items():
        entry = fields.table(values, "a log-probability")
        rank = fields.small_size(entry.get("rank")) or None
        if fields.is_logprob(entry.get("logprob")):
            found[_id_of(_PREFIX + key)] = float(entry["logprob"]), rank
    if token_id not in found:
        raise fields.unexpected("the prompt's log-probabilities")
    candidates = best_first([(i, logprob) for i, (logprob, _) in found.items()], top)
    logprob, rank = found[token_id]
    return Reading(token_id, logprob, rank or rank_in(candidates, token_id), candidates)
