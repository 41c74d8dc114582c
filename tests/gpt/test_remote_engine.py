"""The engine's lines, answered by a server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from gpt.models import EMBEDDED
from tests.gpt.fake_server import Answer, Fake, events, serving
from tests.gpt.vllm_double import END, SIZE, Double, encode, logprobs_after

KEY = "sk-of-these-tests"
Line = dict[str, Any]


class Client:
    """An engine's process and its lines."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gpt.engine", *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._read()["event"] == "hello"

    def _read(self) -> Line:
        assert self._process.stdout
        line: Line = json.loads(self._process.stdout.readline())
        return line

    def send(self, op: str, **fields: Any) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"op": op, "id": op, **fields}).encode() + b"\n")
        self._process.stdin.flush()

    def ask(self, op: str, **fields: Any) -> tuple[Line, list[Line]]:
        """The last line of an answer, and the Steps before it."""
        self.send(op, **fields)
        steps: list[Line] = []
        while (line := self._read())["event"] in ("status", "steps", "prompt"):
            steps += line.get("steps", [])
        return line, steps

    def close(self) -> None:
        """End it; it has written no error."""
        _, errors = self._process.communicate(timeout=60)
        assert errors == b""


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Double().routes()) as found:
        yield found


@pytest.fixture
def client(
    fake: Fake, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Client]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("TEST_KEY", KEY)
    client = Client("--server", fake.url, "--api-key-env", "TEST_KEY")
    yield client
    client.close()


def test_loaded(client: Client, fake: Fake) -> None:
    loaded, _ = client.ask("load")
    assert loaded["name"] == "toy" and loaded["device"] == "server"
    assert loaded["config"] == {"vocab_size": SIZE, "block_size": 64}
    assert loaded["manifest"]["n_params"] == 0
    assert loaded["capabilities"]["server"] == "vLLM 0.32.0"
    assert loaded["capabilities"]["inside"] is False
    assert fake.requests[0][2]["Authorization"] == f"Bearer {KEY}"
    assert client.ask("models")[0]["models"].keys() == {"toy"}


def test_every_operation(client: Client) -> None:
    client.ask("load", model="toy")
    ids = encode("hello")
    assert client.ask("tokenize", text="hello")[0]["ids"] == ids
    done, steps = client.ask("score", text="hello world", top=1)
    assert done["finish_reason"] is None and [s["token_id"] for s in steps] == encode("hello world")
    done, steps = client.ask(
        "generate", ids=ids, text=" w", echo_from=1, max_new_tokens=3, top=2, sampling={"seed": 3}
    )
    assert (done["finish_reason"], done["tokens"], done["device"]) == ("length", 3, "server")
    assert len(steps) == len(encode("hello w")) - 1 + 3
    expected = logprobs_after([s["token_id"] for s in [{"token_id": ids[0]}, *steps[:-1]]])
    assert steps[-1]["logprob"] == expected[steps[-1]["token_id"]]
    assert steps[-1]["sampling_logprob"] == steps[-1]["logprob"]
    assert len(client.ask("paths", ids=ids, width=2, depth=2)[0]["paths"]) == 2
    options, _ = client.ask("options", ids=ids, options=[" w", "aa"])
    assert [len(one) for one in options["options"]] == [1, 1]
    found, _ = client.ask("waterfall", ids=ids, sampling={"top_k": 2, "repetition_penalty": 2})
    assert (found["stages"], found["left_out"]) == (["model", "top_k"], ["repetition_penalty"])
    assert found["left"] == [SIZE, 2] and found["drawn"] == -1
    for op in ("layers", "attribution"):
        assert client.ask(op, ids=ids)[0]["message"] == "a server does not show its insides"


def test_branches_come_one_after_another(client: Client) -> None:
    client.ask("load", model="toy")
    sampling = {"seed": 2**63 - 1}
    client.send("generate", text="hello", max_new_tokens=4, branches=3, sampling=sampling)
    lines = [client._read()]
    while lines[-1]["event"] in ("status", "steps", "prompt"):
        lines.append(client._read())
    assert lines[-1]["event"] == "done", lines[-1]
    found: list[list[Line]] = [[], [], []]
    for line in lines[:-1]:
        if line["event"] == "steps":
            found[line["branch"]] += line["steps"]
    assert [len(steps) for steps in found] == [4, 4, 4]
    assert (lines[-1]["finish_reason"], lines[-1]["tokens"]) == ("length", 12)
    for seed, steps in zip((2**63 - 1, 0, 1), found, strict=True):
        _, alone = client.ask("generate", text="hello", max_new_tokens=4, sampling={"seed": seed})
        assert steps == alone


def test_chat_marks_what_the_template_wrote(client: Client) -> None:
    client.ask("load")
    done, steps = client.ask(
        "generate", text="hello", chat=True, echo_from=0, max_new_tokens=1, sampling={"seed": 1}
    )
    assert done["tokens"] == 1
    own = [s["token_id"] for s in steps[:-1] if not s.get("by_template")]
    assert own == encode("hello")
    assert steps[-2]["text"] == ":"


@pytest.mark.slow
def test_two_models(client: Client, fake: Fake) -> None:
    ids = encode("hello")
    client.ask("load")
    loaded, _ = client.ask("load", second=True, server=fake.url)
    assert loaded["name"] == "toy"
    compared, steps = client.ask("compare", ids=ids)
    assert compared == {"id": "compare", "event": "compared", "divergence": None}
    assert [s["token_id"] for s in steps] == ids
    assert client.ask("unload")[0]["event"] == "unloaded"
    assert "no model" in client.ask("tokenize", text="a", second=True)[0]["message"]


@pytest.mark.slow
def test_a_second_model_at_a_server(
    fake: Fake, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one is here; its ids mean other tokens there, so that the text is sent."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    client = Client()
    assert client.ask("load", model=EMBEDDED)[0]["capabilities"]["inside"] is True
    ids = client.ask("tokenize", text="hello world")[0]["ids"]
    client.ask("load", second=True, server=fake.url)
    compared, steps = client.ask("compare", ids=ids)
    assert compared["divergence"] is None
    assert [s["token_id"] for s in steps] == encode("hello world")
    banned = {"banned": [client.ask("tokenize", text="w")[0]["ids"]]}
    client.ask("generate", ids=ids, second=True, sampling=banned, max_new_tokens=1)
    streamed = [body for _, body, _ in fake.requests if body and body.get("stream")]
    assert streamed[-1]["logit_bias"] == {str(encode("w")[0]): -100.0}
    assert client.ask("tokenize", text="hello world")[0]["ids"] == ids
    assert client.ask("unload")[0]["event"] == "unloaded"
    client.close()


def test_a_second_model_here_while_the_first_is_at_a_server(client: Client) -> None:
    """Its ids mean other tokens, so that it reads the text of the first one's."""
    client.ask("load")
    ids = client.ask("tokenize", text="hello world")[0]["ids"]
    assert ids == encode("hello world")
    error = client.ask("load", model=EMBEDDED, here=True)[0]
    assert "only a second model" in error["message"]
    assert client.ask("load", model=EMBEDDED, second=True, here=True)[0]["event"] == "loaded"
    compared, steps = client.ask("compare", ids=ids)
    assert compared["divergence"] is None
    assert "".join(step["text"] for step in steps) == "hello world"
    (word,) = encode("e")
    banned = {"temperature": 0, "banned": [[word]]}
    greedy = {"temperature": 0}
    _, drawn = client.ask("generate", ids=ids, second=True, sampling=greedy, max_new_tokens=30)
    assert any("e" in step["text"] for step in drawn)
    _, drawn = client.ask("generate", ids=ids, second=True, sampling=banned, max_new_tokens=30)
    assert len(drawn) == 30 and all("e" not in step["text"] for step in drawn)
    beyond = client.ask("compare", ids=[10**6])[0]
    assert "there is no token 1000000" in beyond["message"]
    assert client.ask("generate", ids=ids, max_new_tokens=1)[0]["device"] == "server"
    assert client.ask("unload")[0]["event"] == "unloaded"
    assert "second model" in client.ask("compare", ids=ids)[0]["message"]


def test_cancelled(client: Client, fake: Fake) -> None:
    client.ask("load")
    client.ask("tokenize", text="a")  # asks for common tokens, once

    class Endless(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            logprobs = {
                "tokens": ["token_id:70"],
                "token_logprobs": [-1.0],
                "top_logprobs": [{"token_id:70": -1.0}],
            }
            choice = {"index": 0, "logprobs": logprobs, "finish_reason": None}
            while True:
                yield b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()

    fake.routes["/v1/completions"] = Answer(Endless(), kind="text/event-stream")
    fake.routes["/v1/models"] = Answer({"data": []})
    client.send("generate", ids=encode("a"), max_new_tokens=10**6)
    client.send("cancel", id="generate")
    client.send("score", ids=[])
    lines: list[Line] = []
    while not lines or lines[-1]["id"] != "score":
        lines.append(client._read())
    done = [line for line in lines if line["id"] == "generate"][-1]
    assert done["event"] == "done"
    # Without a known context the server would go on; with one, 63 tokens fit.
    assert done["finish_reason"] in ("cancelled", "context full")


def test_errors_leave_the_engine_running(client: Client, fake: Fake) -> None:
    client.ask("load")
    client.ask("tokenize", text="a")  # asks for common tokens, once
    ids, complete = encode("hello"), fake.routes["/v1/completions"]
    error = {"error": {"message": f"out of memory {KEY}", "code": 500}}
    fake.routes["/v1/completions"] = events(error)
    line, _ = client.ask("generate", ids=ids)
    assert line["event"] == "error"
    assert "failed: out of memory" in line["message"] and KEY not in line["message"]
    fake.routes["/v1/completions"] = complete
    assert client.ask("generate", ids=ids, max_new_tokens=1)[0]["event"] == "done"
    assert "cannot slide" in client.ask("generate", ids=ids, slide=True)[0]["message"]
    assert "no token 999" in client.ask("score", ids=[999])[0]["message"]
    assert "1 to 64" in client.ask("paths", ids=ids, width=99)[0]["message"]
    assert "has no model 'x'" in client.ask("load", model="x")[0]["message"]
    assert client.ask("score", ids=ids)[0]["event"] == "done"  # the old one stays


def test_a_pipe_needs_no_torch(fake: Fake, tmp_path_factory: pytest.TempPathFactory) -> None:
    """`python -m gpt.engine --server` imports nothing that is slow."""
    code = (
        "import sys; sys.argv = ['engine', '--server', " + repr(fake.url) + "]\n"
        "from gpt import engine; engine.main()\n"
        "slow = {'torch', 'numpy', 'transformers', 'tokenizers', 'tiktoken', 'jinja2'}\n"
        "sys.exit(str(slow & set(sys.modules)) if slow & set(sys.modules) else 0)"
    )
    lines = [
        {"op": "load", "id": 1},
        {"op": "generate", "id": 2, "ids": encode("hello"), "max_new_tokens": 2},
        {"op": "waterfall", "id": 3, "ids": encode("hello"), "sampling": {"temperature": 0.5}},
        {"op": "generate", "id": 4, "ids": [END], "max_new_tokens": 1},
    ]
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))},
    )
    assert child.stdin and child.stdout
    child.stdin.write("".join(json.dumps(line) + "\n" for line in lines))
    child.stdin.flush()
    found = [json.loads(child.stdout.readline())]
    while (found[-1]["id"], found[-1]["event"]) != (4, "done"):
        assert found[-1]["event"] != "error"
        found.append(json.loads(child.stdout.readline()))
    child.stdin.close()
    assert child.wait(60) == 0
