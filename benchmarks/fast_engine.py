"""An engine without a model that writes at a given speed, for benchmarks.calm.

It speaks the protocol of docs/engine.md. The environment variable FAST_ENGINE_RATE sets the tokens
per second.
"""

from __future__ import annotations

import itertools
import json
import os
import queue
import sys
import threading
import time
from typing import Any

WORDS = ("the", " king", " and", " of", "\n", " thou", " art", " é", "ing", ", ")
CANDIDATES = [
    {
        "token_id": i,
        "bytes": list(word.encode()),
        "text": word,
        "logprob": -1.0 - i / 3,
        "sampling_logprob": -1.0 - i / 3,
    }
    for i, word in enumerate(WORDS)
]


def step(position: int, *, drawn: bool) -> dict[str, Any]:
    """A token like a model's, with ten candidates and varying numbers."""
    choice = position * 7 % len(WORDS)
    shown = CANDIDATES[choice]
    return {
        "position": position,
        "token_id": choice,
        "bytes": shown["bytes"],
        "text": shown["text"],
        "logprob": -0.1 - position % 50 / 7,
        "rank": 1 + position % 9,
        "entropy": 1.0 + position % 13 / 5,
        "candidates": CANDIDATES,
        "sampling_logprob": -0.2 if drawn else None,
        "finish_reason": None,
    }


def main() -> None:
    """Answer load, score (one token per word of the text), generate and tokenize."""
    rate = float(os.environ.get("FAST_ENGINE_RATE", "2000"))

    def send(number: Any, event: str, **fields: Any) -> None:
        print(json.dumps({"id": number, "event": event, **fields}), flush=True)

    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    cancelled: set[Any] = set()

    def read() -> None:
        for line in sys.stdin:
            request = json.loads(line)
            if request["op"] == "cancel":
                cancelled.add(request["id"])
            else:
                requests.put(request)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        request = requests.get()
        number = request.get("id")
        match request["op"]:
            case "load":
                config = {"vocab_size": 1000, "block_size": 10**9}
                facts = {"name": "fast", "device": "cpu", "dtype": "float32"}
                send(number, "loaded", manifest={"n_params": 0}, config=config, **facts)
            case "tokenize":
                send(number, "tokens", ids=[1], bytes=[[120]])
            case "score":
                n = len(request["text"].split())
                for start in range(0, n, 64):
                    end = min(start + 64, n)
                    steps = [step(i, drawn=False) for i in range(start, end)]
                    send(number, "steps", steps=steps)
                send(number, "done", finish_reason=None, tokens=n, seconds=1.0)
            case "generate":
                n, begun, sent = request["max_new_tokens"], time.perf_counter(), 0
                first = len(request["ids"]) + 1
                send(number, "prompt", steps=[step(first - 1, drawn=False)])
                for _ in itertools.count():
                    due = min(n, int((time.perf_counter() - begun) * rate))
                    for start in range(sent, due, 64):
                        end = min(start + 64, due)
                        steps = [step(first + i, drawn=True) for i in range(start, end)]
                        send(number, "steps", steps=steps)
                    sent = due
                    if sent == n or number in cancelled:
                        break
                    time.sleep(0.016)
                reason = "cancelled" if number in cancelled else "length"
                seconds = time.perf_counter() - begun
                send(number, "done", finish_reason=reason, tokens=sent, seconds=seconds)
            case _:
                send(number, "error", message="this engine has no model")


if __name__ == "__main__":
    main()
