"""A model at llama.cpp's server (llama-server): its own routes, which have ids everywhere."""

from __future__ import annotations

import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from gpt.errors import UserError
from gpt.progress import Watcher
from gpt.remote import fields
from gpt.remote.http import Http
from gpt.remote.llamacpp_pieces import FORCED, Pieces, tokenize
from gpt.remote.server import Message, ModelFacts, Piece, Reading, Top, candidates, rank_in
from gpt.settings import ORDER, Sampling
from gpt.step import FinishReason

SETTINGS = {
    "temperature": "temperature",
    "dynatemp_range": "dynatemp_range",
    "dynatemp_exponent": "dynatemp_exponent",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repetition_penalty": "repeat_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "dry_multiplier": "dry_multiplier",
    "dry_base": "dry_base",
    "dry_allowed_length": "dry_allowed_length",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
}
"""Our setting → llama.cpp's. The server's own defaults are not neutral, so all are sent."""
_SAMPLERS = {
    "repetition_penalty": "penalties",
    "presence_penalty": "penalties",
    "frequency_penalty": "penalties",
    "dry_multiplier": "dry",
    "temperature": "temperature",
    "top_n_sigma": "top_n_sigma",
    "top_k": "top_k",
    "typical_p": "typ_p",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc",
}
"""Our stage → llama.cpp's sampler, which runs in the order in which they are named."""
SENDS = frozenset(
    (*SETTINGS, *_SAMPLERS, "penalty_window", "dry_window", "order", "banned", "boosted")
)
_LONG = 1 << 17
"""A window that counts as the whole text, if the context length is not known."""


class LlamaCpp:
    """A model at llama.cpp's server."""

    sends = SENDS
    reads_names = False
    order: tuple[str, ...] | None = ()

    def __init__(self, http: Http, model: ModelFacts, *, slots: int = 1) -> None:
        """slots: requests that the server answers at the same time."""
        self.model = model
        self._http = http
        self._slots = slots
        self._pieces = Pieces(http)

    def tokenize(self, text: str, *, is_start: bool) -> list[int]:
        """Ids of a text. The name of a special token in it is ordinary characters."""
        return tokenize(self._http, text, add_special=is_start, parse_special=False)

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        """The piece of each of these tokens."""
        return self._pieces.find(ids)

    def draw(
        self, ids: Sequence[int], sampling: Sampling, n: int, top: int, watcher: Watcher
    ) -> Generator[Reading, None, None]:
        """At most n tokens after ids.

        The server sends the tokens of a character together and names only the last one. The other
        ids come from the same request without a stream, with the same seed; the text goes on from
        there with a stream of its own.
        """
        path, end = list(ids), len(ids) + n
        while len(path) < end:
            start = len(path)
            body = self._body(path, sampling, end - start, top)
            merged = yield from self._stream(body, path, end, watcher)
            if not merged:
                return
            known = path[start:]
            path[start:] = self._replay(body, merged, known, watcher)
            yield from self.read(path, start + len(known), top, watcher)

    def _stream(
        self, body: dict[str, Any], path: list[int], end: int, watcher: Watcher
    ) -> Generator[Reading, None, int]:
        """The tokens of one stream; path grows by each.

        Returns the number of tokens that were drawn, if some of them were not sent; else 0.
        """
        start, held = len(path), None
        with closing(self._http.stream("/completion", {**body, "stream": True}, watcher)) as events:
            for values in events:
                event = fields.table(values)
                is_end = event.get("stop") is True
                if held:  # it may end the text
                    is_eos = is_end and event.get("stop_type") == "eos"
                    yield held._replace(finish="eos") if is_eos else held
                    held = None
                count = fields.small_size(event.get("tokens_predicted"))
                if count > len(path) - start + (not is_end):
                    return count
                if is_end:
                    yield Reading(-1, finish=_finish(event, is_all=len(path) >= end))
                    return 0
                for reading in self._readings(event, body["n_probs"]):
                    path.append(reading.token_id)
                    if self._pieces.is_text(reading.token_id):
                        yield reading
                    else:
                        held = reading
        raise UserError(f"the server at {self._http.address.place} broke off its answer")

    def _replay(
        self, body: dict[str, Any], n: int, known: Sequence[int], watcher: Watcher
    ) -> list[int]:
        """All ids of a request that was streamed, from the beginning of the request on."""
        again = {**body, "n_predict": n, "n_probs": 0, "return_tokens": True}
        answer = fields.table(self._http.post("/completion", again, watcher))
        found = fields.ids(answer.get("tokens"))
        if found[: len(known)] != list(known) or len(found) <= len(known):
            raise UserError(
                "the server sent the tokens of a character as one and drew others when it was "
                "asked again; continue from here with another seed"
            )
        return found

    def _readings(self, event: Mapping[str, Any], top: int) -> Iterator[Reading]:
        """The tokens of an event."""
        entries = event.get("completion_probabilities")
        if entries is None:
            for token_id in fields.ids(event.get("tokens")):
                yield Reading(token_id)
            return
        for entry in fields.items(entries, "the tokens of an event"):
            token_id = self._pieces.learn(entry)
            found = self._top(entry, top)
            yield Reading(token_id, self._logprob(entry), rank_in(found, token_id), found)

    def _logprob(self, entry: Any) -> float | None:
        value = fields.table(entry).get("logprob")
        return fields.logprob(value) if value is not None else None

    def _top(self, entry: Any, top: int) -> Top:
        found = fields.items(fields.table(entry).get("top_logprobs"), "the candidates")
        try:
            ids, logprobs = [e["id"] for e in found], [e["logprob"] for e in found]
        except (TypeError, KeyError) as error:
            raise fields.unexpected("a candidate") from error
        best = candidates(ids, logprobs, top)
        if self._pieces.has_news(ids):
            for each in found:
                self._pieces.learn(each)
        return best

    def _body(self, path: Sequence[int], sampling: Sampling, n: int, top: int) -> dict[str, Any]:
        """The fields of a request."""
        values = {theirs: getattr(sampling, ours) for ours, theirs in SETTINGS.items()}
        whole = self.model.block_size or _LONG
        order = (_SAMPLERS[name] for name in sampling.order or ORDER if name in _SAMPLERS)
        bias: list[list[Any]] = [[token_id, False] for (token_id,) in sampling.banned]
        bias += [[token_id, nats] for (token_id,), nats in sampling.boosted]
        return {
            "prompt": list(path),
            "n_predict": n,
            "n_probs": top,
            "return_tokens": True,
            "samplers": list(dict.fromkeys(order)),
            "repeat_last_n": sampling.penalty_window or whole,
            "dry_penalty_last_n": sampling.dry_window or whole,
            "top_n_sigma": sampling.top_n_sigma or -1,
            "seed": zlib.crc32(f"{sampling.seed} {len(path)}".encode()) % (2**32 - 1),
            "logit_bias": bias,
            **values,
        }

    def read(self, ids: Sequence[int], start: int, top: int, watcher: Watcher) -> Iterator[Reading]:
        """The tokens ids[start:], a request each: each token is forced, which does not change its
        log-probability."""
        positions = range(start, len(ids))
        bodies = [self._forcing(ids[:position], ids[position], top) for position in positions]
        answers = self._http.post_all("/completion", bodies, watcher, at_once=self._slots)
        for position, values in zip(positions, answers, strict=True):
            forced = self._forced(values, ids[position], top)
            yield forced or self._search(ids[:position], ids[position], top, watcher)

    def _forced(self, values: Any, token_id: int, top: int) -> Reading | None:
        """The reading of a token that was forced; None if the server does not name it."""
        entries = fields.table(values).get("completion_probabilities")
        entry = next(iter(fields.items(entries, "the candidates")), None)
        if entry is None or fields.table(entry).get("id") != token_id:
            return None
        found = self._top(entry, top)
        return Reading(token_id, self._logprob(entry), rank_in(found, token_id), found)

    def _search(self, ids: Sequence[int], token_id: int, top: int, watcher: Watcher) -> Reading:
        """One token that cannot be forced, such as half a character: looked for among more and
        more candidates."""
        most = self.model.vocab_size or 1 << 17
        for n in (max(top, 64), 1024, most):
            found = self.following([ids], n, watcher)[0]
            if token_id in dict(found):
                break
        logprob = dict(found).get(token_id)
        return Reading(token_id, logprob, rank_in(found, token_id), found[:top])

    def _forcing(self, ids: Sequence[int], token_id: int, top: int) -> dict[str, Any]:
        """A request that draws a certain token."""
        return {
            "prompt": list(ids),
            "n_predict": 1,
            "n_probs": max(top, 1),
            "samplers": ["temperature"],
            "temperature": 0,
            "logit_bias": [[token_id, FORCED]],
        }

    def following(self, texts: Sequence[Sequence[int]], top: int, watcher: Watcher) -> list[Top]:
        """The distribution after each text."""
        harmless = self._pieces.harmless()
        bodies = [self._forcing(ids, harmless, top) for ids in texts]
        found = []
        for values in self._http.post_all("/completion", bodies, watcher, at_once=self._slots):
            entries = fields.items(
                fields.table(values).get("completion_probabilities"), "the candidates"
            )
            if not entries:
                raise fields.unexpected("no candidates")
            found.append(self._top(entries[0], top))
        return found

    def apply_template(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a conversation, as the server's template writes it."""
        body = {"messages": [dict(message) for message in messages]}
        answer = fields.table(self._http.post("/apply-template", body))
        prompt = fields.text(answer.get("prompt"), "the text of a chat")
        return tokenize(self._http, prompt, add_special=True, parse_special=True)


def _finish(event: Mapping[str, Any], *, is_all: bool) -> FinishReason:
    """Why the server ended a text."""
    if event.get("stop_type") == "eos":
        return "eos"
    return "length" if is_all else "context full"
