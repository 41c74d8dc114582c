"""A double of vLLM: a toy model behind answers that have the shapes and habits of vLLM 0.32.

What was seen in real answers: text-keyed lists collide, so ids are asked for; the chosen token is
always among the candidates; several tokens may share an event; half a character has no text; an
unknown field is ignored; a request for too many candidates is refused.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from gpt.tokenizer import byte_alphabet
from tests.gpt.fake_server import EVENTS, Answer, Route, events

MERGES = ("he", "ll", "hell", "Ġw", "or", "Ġwor", "aa", "ðŁ")
STRINGS = [*byte_alphabet(), *MERGES, "<|end|>"]
"""The vocabulary as its files write it."""
SIZE, END = len(STRINGS), len(STRINGS) - 1
_ALPHABET = byte_alphabet()
_IDS = {string: i for i, string in enumerate(STRINGS)}
_LONGEST = max(map(len, MERGES))


def encode(text: str) -> list[int]:
    """Ids of a text, the longest token first; the special token's name is that token."""
    letters = {number: letter for letter, number in _ALPHABET.items()}
    ids: list[int] = []
    for n, part in enumerate(text.split("<|end|>")):
        ids += [END] * (n > 0)
        rest, start = "".join(letters[byte] for byte in part.encode()), 0
        while start < len(rest):
            lengths = range(_LONGEST, 0, -1)
            token = next(t for n in lengths if (t := rest[start : start + n]) in _IDS)
            ids.append(_IDS[token])
            start += len(token)
    return ids


def bytes_of(token_id: int) -> bytes:
    """The bytes of a token."""
    return b"" if token_id == END else bytes(_ALPHABET[c] for c in STRINGS[token_id])


def decode(ids: Sequence[int]) -> str:
    """The text of ids with half characters lost, as /detokenize gives it."""
    parts = [b"<|end|>" if i == END else bytes_of(i) for i in ids]
    return b"".join(parts).decode("utf-8", "replace")


def logprobs_after(ids: Sequence[int]) -> list[float]:
    """The toy model's distribution: it depends on the last two tokens."""
    return list(_logprobs_after(tuple(ids[-2:])))


@lru_cache(maxsize=4096)
def _logprobs_after(last: tuple[int, ...]) -> tuple[float, ...]:
    rng = random.Random(f"{last}")
    logits = [rng.gauss(0, 2) for _ in STRINGS]
    logits[END] = -20.0
    total = math.log(math.fsum(map(math.exp, logits)))
    return tuple(logit - total for logit in logits)


@dataclass
class Double:
    """A server and the flags that it was started with."""

    most: int = SIZE
    """--max-logprobs."""
    block_size: int = 64
    processed: bool = False
    """--logprobs-mode processed_logprobs."""

    def routes(self) -> dict[str, Route]:
        """Its paths."""
        model = {"id": "toy", "owned_by": "vllm", "max_model_len": self.block_size}
        return {
            "/v1/models": Answer({"object": "list", "data": [model]}),
            "/version": Answer({"version": "0.32.0"}),
            "/tokenize": self._tokenize,
            "/detokenize": lambda body: Answer({"prompt": decode(body["tokens"])}),
            "/v1/completions": self._complete,
        }

    def _tokenize(self, body: Any) -> Answer:
        text = body.get("prompt")
        if text is None:
            turns = "".join(f"{m['role']}: {m['content']}<|end|>" for m in body["messages"])
            text = turns + "assistant:"
        ids = encode(text)
        strings = [STRINGS[i] for i in ids] if body.get("return_token_strs") else None
        return Answer(
            {"count": len(ids), "max_model_len": 64, "tokens": ids, "token_strs": strings}
        )

    def _complete(self, body: Any) -> Answer:
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        wanted = max(body.get("logprobs") or 0, body.get("prompt_logprobs") or 0)
        if wanted > self.most:
            return _error(400, f"Requested sample logprobs of {wanted}, max allowed: {self.most}")
        if (body.get("logprobs") or 0) < 0 and self.most < SIZE:
            return _error(400, "Requested sample logprobs of all tokens")
        for ids in prompts:
            if len(ids) >= self.block_size:
                return _error(400, f"This model's maximum context length is {self.block_size}")
            if bad := [i for i in ids if not 0 <= i < SIZE]:
                return _error(400, f"Token id {bad[0]} is out of vocabulary")
        if body.get("temperature", 1) > 2:
            return _error(400, "temperature must be in [0, 2]")
        if body.get("stream"):
            return self._stream(body, prompts[0])
        return Answer({"choices": [self._choice(body, n, ids) for n, ids in enumerate(prompts)]})

    def _choice(self, body: Any, index: int, ids: list[int]) -> dict[str, Any]:
        drawn, reason = self._draw(body, ids)
        choice = {"index": index, "finish_reason": reason, "stop_reason": None}
        choice |= {"text": _text(body, drawn), "token_ids": drawn}
        choice["logprobs"] = self._logprobs(body, ids, drawn)
        if (top := body.get("prompt_logprobs")) is not None:
            rows: list[Any] = [None]
            for n in range(1, len(ids)):
                rows.append(_prompt_row(logprobs_after(ids[:n]), ids[n], top))
            choice["prompt_logprobs"] = rows
        return choice

    def _stream(self, body: Any, ids: list[int]) -> Answer:
        drawn, reason = self._draw(body, ids)
        parts: list[Any] = []
        for start in range(0, len(drawn), 2):  # two tokens share an event
            some = drawn[start : start + 2]
            is_last = start + 2 >= len(drawn)
            logprobs = self._logprobs(body, [*ids, *drawn[:start]], some)
            parts.append(
                {
                    "choices": [
                        {
                            "index": 0,
                            "text": _text(body, some),
                            "logprobs": logprobs,
                            "token_ids": some,
                            "finish_reason": reason if is_last else None,
                        }
                    ]
                }
            )
        return events(*parts, {"choices": [], "usage": {}}) if parts else Answer(b"", kind=EVENTS)

    def _draw(self, body: Any, ids: list[int]) -> tuple[list[int], str]:
        rng, drawn = random.Random(body.get("seed")), list[int]()
        n = min(body["max_tokens"], self.block_size - len(ids))
        while len(drawn) < n:
            weights = _processed(body, [*ids, *drawn], drawn)
            drawn.append(rng.choices(range(SIZE), weights)[0])
            if drawn[-1] == END:
                return drawn, "stop"
        return drawn, "length"

    def _logprobs(self, body: Any, ids: list[int], drawn: list[int]) -> Any:
        top = body.get("logprobs")
        if top is None:
            return None
        rows, tokens, values = [], [], []
        for n, token_id in enumerate(drawn):
            found = logprobs_after([*ids, *drawn[:n]])
            if self.processed:
                weights = _processed(body, [*ids, *drawn[:n]], drawn[:n])
                found = [math.log(w) if w > 0 else -9999.0 for w in weights]
            best = sorted(range(SIZE), key=lambda i: -found[i])[: top if top >= 0 else SIZE]
            rows.append({f"token_id:{i}": found[i] for i in [token_id, *best]})
            tokens.append(f"token_id:{token_id}")
            values.append(found[token_id])
        return {"tokens": tokens, "token_logprobs": values, "top_logprobs": rows, "text_offset": []}


def _text(body: Any, ids: list[int]) -> str:
    skips = body.get("skip_special_tokens", True)
    return decode([i for i in ids if not (skips and i == END)]).replace("\ufffd", "")


def _error(status: int, message: str) -> Answer:
    return Answer({"error": {"message": message, "type": "BadRequestError"}}, status)


def _prompt_row(found: list[float], token_id: int, top: int) -> dict[str, Any]:
    best = sorted(range(SIZE), key=lambda i: -found[i])
    return {
        str(i): {"logprob": found[i], "rank": best.index(i) + 1, "decoded_token": decode([i])}
        for i in [token_id, *best[:top]]
    }


def _processed(body: Any, ids: list[int], drawn: list[int]) -> list[float]:
    """The probabilities after the settings of a request."""
    logits = logprobs_after(ids)
    for token_id in set(ids):
        penalty = body.get("repetition_penalty", 1.0)
        logits[token_id] *= penalty if logits[token_id] < 0 else 1 / penalty
    for token_id in set(drawn):
        logits[token_id] -= body.get("presence_penalty", 0.0)
        logits[token_id] -= body.get("frequency_penalty", 0.0) * drawn.count(token_id)
    for key, nats in (body.get("logit_bias") or {}).items():
        logits[int(key)] += nats
    if allowed := body.get("allowed_token_ids"):
        logits = [v if i in allowed else -1e9 for i, v in enumerate(logits)]
    temperature = body.get("temperature", 1.0)
    best = max(logits)
    if temperature == 0:
        return [float(i == logits.index(best)) for i in range(SIZE)]
    weights = [math.exp((v - best) / temperature) for v in logits]
    total = math.fsum(weights)
    order = sorted(range(SIZE), key=lambda i: -weights[i])
    kept, mass = set[int](), 0.0
    for rank, i in enumerate(order):
        is_out = 0 < body.get("top_k", 0) <= rank or mass >= body.get("top_p", 1.0)
        if is_out or weights[i] < body.get("min_p", 0.0) * weights[order[0]]:
            break
        kept.add(i)
        mass += weights[i] / total
    left = math.fsum(weights[i] for i in kept)
    return [w / left if i in kept else 0.0 for i, w in enumerate(weights)]
