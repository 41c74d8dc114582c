"""The bytes of tokens at llama.cpp's server."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gpt.remote import fields
from gpt.remote.alphabet import may_be_special
from gpt.remote.http import Http
from gpt.remote.server import Piece

FORCED = 1000.0
"""Nats that make a token certain. The log-probabilities are those before them."""
_FLAT = 50.0
"""Temperature at which a token that has FORCED nats less than another one still has a probability
that is not 0, and none that is drawn."""
_AT_ONCE = 256
"""Tokens whose bytes one request asks for."""


def tokenize(http: Http, text: str, **flags: bool) -> list[int]:
    """Ids of a text. flags: add_special and parse_special of llama.cpp."""
    answer = fields.table(http.post("/tokenize", {"content": text, **flags}))
    return fields.ids(answer.get("tokens"))


class Pieces:
    """The pieces of a server's vocabulary, learned when they are needed."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._known: dict[int, Piece] = {}
        self._learned: set[int] = set()
        """Tokens of which an entry was seen, which may have had no bytes."""
        self._harmless = -1

    def has_news(self, ids: Iterable[int]) -> bool:
        """Whether an entry for one of these tokens was never learned."""
        return not self._learned.issuperset(ids)

    def is_text(self, token_id: int) -> bool:
        """Whether a token is known, and has bytes."""
        found = self._known.get(token_id)
        return found is not None and bool(found.bytes)

    def find(self, ids: Sequence[int]) -> dict[int, Piece]:
        """The piece of each of these tokens, also of those that are half a character.

        Only the candidates after sampling can be chosen, by a bias, and they have exact bytes.
        """
        missing = sorted({i for i in ids if i not in self._known})
        for start in range(0, len(missing), _AT_ONCE):
            self._ask(missing[start : start + _AT_ONCE])
        return {i: self._known[i] for i in ids}

    def _ask(self, ids: Sequence[int]) -> None:
        harmless = self.harmless()
        others = [[i, FORCED] for i in ids if i != harmless]
        body = {
            "prompt": [harmless],
            "n_predict": 1,
            "n_probs": len(ids) + 1,
            "post_sampling_probs": True,
            "samplers": ["temperature"],
            "temperature": _FLAT,
            "seed": 0,
            "logit_bias": [*others, [harmless, 2 * FORCED]],
        }
        answer = fields.table(self._http.post("/completion", body))
        entries = fields.items(answer.get("completion_probabilities"), "the candidates")
        for each in fields.items(fields.table(entries and entries[0]).get("top_probs"), "them"):
            self.learn(each)
        for i in ids:
            if i not in self._known:
                found = fields.table(self._http.post("/detokenize", {"tokens": [i]}))
                name = fields.text(found.get("content"), "the name of a token")
                self._known[i] = Piece(b"", name)

    def harmless(self) -> int:
        """A token that is whole characters, so that the server says all of it."""
        if self._harmless < 0:
            found = tokenize(self._http, "a", add_special=False, parse_special=False)
            if not found:
                raise fields.unexpected("the tokens of a text")
            self._harmless = found[-1]
        return self._harmless

    def learn(self, entry: Any) -> int:
        """The id of an entry of a list of candidates, whose bytes are kept."""
        values = fields.table(entry, "a candidate")
        token_id = fields.token_id(values.get("id"))
        self._learned.add(token_id)
        if token_id in self._known:
            return token_id
        if data := fields.data(values.get("bytes")):
            name = data.decode("utf-8", "replace")
            is_control = may_be_special(name) and self._is_control(token_id, name)
            self._known[token_id] = Piece(b"", name) if is_control else Piece(data)
        return token_id

    def _is_control(self, token_id: int, name: str) -> bool:
        """Whether a token is not text: only a tokenizer that reads special tokens finds it."""
        plain, special = (
            tokenize(self._http, name, add_special=False, parse_special=flag)
            for flag in (False, True)
        )
        return special == [token_id] != plain
