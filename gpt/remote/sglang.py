"""A model at SGLang's server: its own route /generate, /tokenize and /detokenize."""

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
from gpt.step import FinishReason

_ROUTE = "/generate"


class SgLang:
    """A model at SGLang's server."""

    sends = openai_body.SENDS
    reads_names = True
    order: tuple[str, ...] | None = None

    def __init__(self, http: Http, model: ModelFacts) -> None:
        self.model = model
        self._http = http
        self._strings = TokenStrings(
            lambda text: [(i, "") for i in self.tokenize(text, is_start=False)],
            self._detokenize,
            lambda token_id: not self._detokenize([token_id], skip=True),
        )

    def tokenize(self, text: str, *, is_start: bool) -> list[int]:
        """Ids of a text. The server reads the name of a special token as that token."""
        body = {"model": self.model.name, "prompt": text, "add_special_tokens": is_start}
        return fields.ids(fields.table(self._http.post("/tokenize", body)).get("tokens"))

    def _detokenize(self, ids: Sequence[int], *, skip: bool = False) -> str:
        """The text of tokens. skip: without special tokens."""
        body = {"model": self.model.name, "tokens": list(ids), "skip_special_tokens": skip}
        answer = fields.table(self._http.post("/detokenize", body))
        return fields.text(answer.get("text"), "the text of tokens")

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        """The piece of each of these tokens."""
        return self._strings.pieces(ids)

    def _body(self, ids: Any, n: int, top: int) -> dict[str, Any]:
        return {
            "input_ids": ids,
            "return_logprob": True,
            "top_logprobs_num": top,
            "logprob_start_len": -1,
            "sampling_params": {"max_new_tokens": n, "temperature": 0},
        }

    def draw(
        self, ids: Sequence[int], sampling: Sampling, n: int, top: int, watcher: Watcher
    ) -> Generator[Reading, None, None]:
        """At most n tokens after ids."""
        body = self._body(list(ids), n, top) | {"stream": True}
        values = openai_body.settings(sampling, len(ids))
        values["sampling_seed"] = values.pop("seed")
        body["sampling_params"] |= values
        count = 0
        with closing(self._http.stream(_ROUTE, body, watcher)) as events:
            for event in events:
                meta = fields.table(fields.table(event).get("meta_info"), "meta_info")
                readings = _new(_readings(meta, "output", top), meta, count)
                count += len(readings)
                finish = _finish(meta)
                yield from readings[:-1]
                for reading in readings[-1:]:
                    yield reading._replace(finish=finish)
                if finish:
                    if not readings:
                        yield Reading(-1, finish=finish)
                    return
        raise UserError(f"the server at {self._http.address.place} broke off its answer")

    def read(self, ids: Sequence[int], start: int, top: int, watcher: Watcher) -> Iterator[Reading]:
        """The tokens ids[start:], in one request."""
        if start >= len(ids):
            return
        body = self._body(list(ids), 1, top) | {"logprob_start_len": 0}
        answer = fields.table(self._http.post(_ROUTE, body, watcher))
        meta = fields.table(answer.get("meta_info"), "meta_info")
        found = _readings(meta, "input", top)
        if [reading.token_id for reading in found] != list(ids):
            raise fields.unexpected("the prompt's log-probabilities")
        yield from found[start:]

    def following(self, texts: Sequence[Sequence[int]], top: int, watcher: Watcher) -> list[Top]:
        """The distribution after each text, in one request."""
        body = self._body([list(text) for text in texts], 1, top)
        answers = fields.items(self._http.post(_ROUTE, body, watcher), "its answers")
        metas = [fields.table(fields.table(a).get("meta_info"), "meta_info") for a in answers]
        tops = [reading.top for meta in metas for reading in _readings(meta, "output", top)[:1]]
        if len(tops) != len(texts):
            raise fields.unexpected("the candidates")
        return tops

    def apply_template(self, messages: Sequence[Message]) -> list[int]:
        """Refused: SGLang hides the ids of a chat."""
        raise UserError(
            "this server does not show the ids of a chat; turn chat off, or use vLLM or llama.cpp"
        )


def _new(readings: list[Reading], meta: Mapping[str, Any], count: int) -> list[Reading]:
    """Those of an event's tokens that no event before had: some servers repeat all of them."""
    total = fields.small_size(meta.get("completion_tokens"))
    return readings[count:] if len(readings) >= total else readings


def _readings(meta: Mapping[str, Any], side: str, top: int) -> list[Reading]:
    """The tokens in meta_info. side: input or output."""
    rows = fields.items(meta.get(f"{side}_token_logprobs"), "the log-probabilities")
    tops = fields.items(meta.get(f"{side}_top_logprobs"), "the candidates") or [None] * len(rows)
    found = []
    for row, candidates in openai_body.pairs(rows, tops, "the candidates"):
        pairs = [_pair(each) for each in fields.items(candidates, "the candidates")]
        best = best_first([(i, v) for i, v in pairs if fields.is_logprob(v)], top)
        token_id, logprob = _pair(row)
        own = fields.logprob(logprob) if logprob is not None else None
        found.append(Reading(token_id, own, rank_in(best, token_id), best))
    return found


def _pair(row: Any) -> tuple[int, Any]:
    """The id and the log-probability of [log-probability, id, text]."""
    values = fields.items(row, "a log-probability")
    if len(values) < 2:
        raise fields.unexpected("a log-probability")
    return fields.token_id(values[1]), values[0]


def _finish(meta: Mapping[str, Any]) -> FinishReason | None:
    """Why the text ended; None if it goes on."""
    reason = meta.get("finish_reason")
    if reason is None:
        return None
    kind = reason.get("type") if isinstance(reason, dict) else reason
    if kind == "abort":
        raise UserError("the server gave up this request; try it again")
    return "eos" if kind == "stop" else "length"
