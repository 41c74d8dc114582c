"""The engine as another process sees it: lines in, lines out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint import Checkpoint, load, save
from gpt.context import Context
from gpt.generate import Limits, generate, score
from gpt.settings import Sampling
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model

ENDLESS = {"op": "generate", "text": "a", "max_new_tokens": 10**9, "slide": True}


class Client:
    """A child process and its lines."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gpt.engine"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def send(self, line: dict[str, Any] | bytes) -> None:
        assert self.process.stdin
        data = line if isinstance(line, bytes) else json.dumps(line).encode()
        self.process.stdin.write(data + b"\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        assert self.process.stdout
        line: dict[str, Any] = json.loads(self.process.stdout.readline())
        return line

    def until(self, *events: str) -> list[dict[str, Any]]:
        lines = [self.read()]
        while lines[-1]["event"] not in events:
            assert lines[-1]["event"] != "error", lines[-1]
            lines.append(self.read())
        return lines


@pytest.fixture(scope="module")
def process() -> Iterator[Client]:
    client = Client()
    hello = client.read()
    assert hello["event"] == "hello"
    yield client
    assert client.process.stdin
    client.process.stdin.close()
    assert client.process.wait(20) == 0
    assert client.process.stderr
    assert client.process.stderr.read() == b""


@pytest.fixture
def client(process: Client, tiny_directory: Path) -> Client:
    process.send({"id": 0, "op": "load", "model": str(tiny_directory)})
    loaded = process.until("loaded", "error")[-1]
    assert (loaded["event"], loaded["device"], loaded["dtype"]) == ("loaded", "cpu", "float32")
    assert loaded["config"]["block_size"] == 32
    return process


def test_generate_streams_the_same_steps_as_the_library(client: Client, tiny: Checkpoint) -> None:
    sampling = Sampling(seed=4, temperature=0.9)
    request = {"text": "to be", "max_new_tokens": 12, "sampling": sampling.to_dict()}
    client.send({"id": 1, "op": "generate", "echo_from": 0, **request})
    lines = client.until("done", "error")
    prompt = [step for line in lines if line["event"] == "prompt" for step in line["steps"]]
    assert "".join(step["text"] for step in prompt) == "to be"
    drawn = [step for line in lines if line["event"] == "steps" for step in line["steps"]]
    ids = tiny.new_context().encode("to be")
    expected = generate(tiny.new_context(), ids, sampling, Limits(12))
    assert [step["token_id"] for step in drawn] == [step.token_id for step in expected]
    assert lines[-1]["finish_reason"] == "length"
    assert lines[-1]["tokens"] == 12
    assert {line["id"] for line in lines} == {1}


def test_ids_then_text(client: Client, tiny: Checkpoint) -> None:
    ids = tiny.new_context().encode("to ")
    client.send({"id": "x", "op": "score", "ids": ids, "text": "be", "top": 2})
    lines = client.until("done", "error")
    steps = [step for line in lines if line["event"] == "steps" for step in line["steps"]]
    assert "".join(step["text"] for step in steps) == "to be"
    assert [len(step["candidates"]) for step in steps] == [0, 2, 2, 2, 2]
    client.send({"id": 2, "op": "tokenize", "text": "be"})
    assert client.read()["bytes"] == [[98], [101]]


def test_a_turn_of_a_conversation(client: Client, tiny_directory: Path) -> None:
    letters = CharTokenizer(dict.fromkeys("Usert: Ain\nhobyda?cfgjklmpqv"))
    save(tiny_directory, random_model(block_size=256), letters)
    client.send({"id": 0, "op": "load", "model": str(tiny_directory)})
    client.until("loaded")
    request = {"id": 1, "op": "generate", "text": "hi?", "chat": True, "echo_from": 0}
    client.send({**request, "max_new_tokens": 3})
    lines = client.until("done", "error")
    prompt = [step for line in lines if line["event"] == "prompt" for step in line["steps"]]
    assert "".join(step["text"] for step in prompt) == "User: hi?\nAssistant:"
    assert lines[-1]["finish_reason"] == "length"


def test_cancel_ends_a_run_at_once_and_one_that_has_not_begun(client: Client) -> None:
    client.send({"id": 1, **ENDLESS})
    client.send({"id": 2, **ENDLESS})
    assert client.read()["event"] == "steps"
    client.send({"op": "cancel", "id": 2})
    client.send({"op": "cancel", "id": 1})
    for number in (1, 2):
        done = client.until("done")[-1]
        assert (done["id"], done["finish_reason"]) == (number, "cancelled")
    client.send({"id": 3, "op": "generate", "text": "a", "max_new_tokens": 2})
    assert client.until("done")[-1]["finish_reason"] == "length"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"op": "explode"}',
        b'{"op": []}',
        b'{"op": "models", "id": []}',
        b"[" * 100_000,
        b"\xff\xfe",
        b'{"op": "generate", "text": 5}',
        b'{"op": "generate", "text": ""}',
        b'{"op": "generate", "text": "a", "max_new_tokens": true}',
        b'{"op": "generate", "text": "a", "max_new_tokens": -1}',
        b'{"op": "generate", "text": "a", "sampling": {"temperature": "hot"}}',
        b'{"op": "generate", "text": "a", "sampling": {"heat": 1}}',
        b'{"op": "generate", "text": "a", "stop": [""]}',
        b'{"op": "generate", "ids": [1.5]}',
        b'{"op": "generate", "ids": [99999999999999999999]}',
        b'{"op": "score", "text": "\\u00df"}',
        b'{"op": "score", "text": "\\ud800"}',
        b'{"op": "tokenize"}',
        b'{"op": "generate", "text": "a", "sampling": {"banned": 5}}',
        b'{"op": "generate", "text": "a", "sampling": {"boosted": 5}}',
        b'{"op": "generate", "text": "a", "sampling": {"boosted": [[1, 1e308]]}}',
        b'{"op": "generate", "text": "a", "sampling": {"boosted": [[1, %s]]}}' % (b"9" * 400),
        b'{"op": "generate", "text": "a", "sampling": {"temperature": %s}}' % (b"9" * 400),
        b'{"op": "generate", "text": "a", "sampling": {"seed": %s}}' % (b"9" * 5000),
        b'{"op": "load", "model": "no such model"}',
        b'{"op": "load", "device": "cuda:99"}',
        b'{"op": "load", "dtype": "float7"}',
        b'{"op": "load", "dtype": "stored"}',
    ],
)
def test_a_bad_line_gets_an_error_line_and_the_engine_goes_on(client: Client, line: bytes) -> None:
    client.send(line)
    error = client.until("error", "done", "loaded")[-1]
    assert error["event"] == "error"
    assert "\n" not in error["message"]
    assert "engine failed" not in error["message"]
    client.send({"id": 9, "op": "tokenize", "text": "a"})
    assert client.read()["event"] == "tokens"


def test_models_are_listed(client: Client) -> None:
    client.send({"id": 1, "op": "models"})
    assert isinstance(client.read()["models"], dict)


def test_without_a_model_it_says_so_and_stray_prints_do_not_reach_the_lines() -> None:
    client = Client()
    client.send({"op": "score", "text": "a"})
    lines = client.until("error")
    assert [line["event"] for line in lines] == ["hello", "error"]
    assert "no model is loaded" in lines[1]["message"]
    assert client.process.communicate(timeout=60) == (b"", b"")


def test_the_end_of_the_input_ends_a_running_request(tiny_directory: Path) -> None:
    client = Client()
    client.send({"id": 0, "op": "load", "model": str(tiny_directory)})
    client.until("loaded")
    for number in (1, 2):
        client.send({"id": number, **ENDLESS})
    client.until("steps")
    out, err = client.process.communicate(timeout=60)
    ends = [line for line in map(json.loads, out.splitlines()) if line["event"] != "steps"]
    found = [(line["id"], line["event"], line["finish_reason"]) for line in ends]
    assert found == [(1, "done", "cancelled"), (2, "done", "cancelled")]
    assert (client.process.returncode, err) == (0, b"")


def test_a_reader_that_goes_away_ends_the_engine_quietly(tiny_directory: Path) -> None:
    client = Client()
    client.send({"id": 0, "op": "load", "model": str(tiny_directory)})
    client.until("loaded")
    assert client.process.stdout and client.process.stderr
    client.process.stdout.close()
    client.send({"id": 1, **ENDLESS})
    assert client.process.wait(60) == 1
    assert client.process.stderr.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="of a shell")
@pytest.mark.parametrize(
    ("redirection", "status", "out", "err"),
    [
        ("<&-", 0, b"hello", b""),
        ("</dev/null >&-", 1, b"", b"error: the engine answers on stdout, which is closed\n"),
        ("</dev/null 2>&-", 0, b"hello", b""),
    ],
)
def test_pipes_that_are_closed(redirection: str, status: int, out: bytes, err: bytes) -> None:
    command = f'exec "$0" -m gpt.engine {redirection}'
    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable], capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, out in done.stdout, done.stderr) == (status, True, err)


def test_a_waterfall_is_the_librarys(client: Client, tiny: Checkpoint) -> None:
    from gpt.interpret.explain import waterfall

    ids, sampling = tiny.new_context().encode("to be"), Sampling(temperature=0.5, top_p=0.8, seed=2)
    request = {"ids": ids, "chosen": 4, "sampling": sampling.to_dict(), "top": 3}
    client.send({"id": 1, "op": "waterfall", **request})
    line = client.read()
    expected = waterfall(tiny.new_context(), ids, sampling, chosen=4, top=3).to_dict()
    assert line["stages"] == ["model", "temperature", "top_p"]
    for name in ("position", "n_rest", "left", "drawn"):
        assert line[name] == json.loads(json.dumps(expected[name]))
    assert line["rest"] == pytest.approx(expected["rest"], abs=1e-5)
    for found, row in zip(line["rows"], expected["rows"], strict=True):
        assert (found["token_id"], found["removed_by"]) == (row["token_id"], row["removed_by"])
        assert found["probabilities"] == pytest.approx(row["probabilities"], abs=1e-5)
    client.send({"id": 2, "op": "waterfall", "text": "", "sampling": {}})
    assert "no context" in client.read()["message"]


def test_branches_are_the_librarys_and_say_which_they_are(client: Client, tiny: Checkpoint) -> None:
    sampling = Sampling(seed=2**63 - 2, temperature=0.9)
    request = {"text": "to be", "max_new_tokens": 9, "sampling": sampling.to_dict()}
    client.send({"id": 1, "op": "generate", "echo_from": 0, "branches": 3, **request})
    *lines, done = client.until("done")
    assert [line["event"] for line in lines].count("prompt") >= 1
    found: list[list[Any]] = [[], [], []]
    for line in lines:
        if line["event"] == "steps":
            found[line["branch"]] += line["steps"]
    assert (done["finish_reason"], done["tokens"]) == ("length", 27)
    for number, seed in enumerate((2**63 - 2, 2**63 - 1, 0)):
        assert sampling.branch(number).seed == seed
        context = tiny.new_context()
        ids = context.encode("to be")
        expected = list(generate(context, ids, sampling.branch(number), Limits(9)))
        assert [step["token_id"] for step in found[number]] == [s.token_id for s in expected]
        assert [step["finish_reason"] for step in found[number]] == [None] * 8 + ["length"]


def test_one_branch_can_be_cancelled(client: Client) -> None:
    client.send({"id": 1, **ENDLESS, "branches": 3})
    while client.read()["event"] != "steps":
        pass
    client.send({"id": 1, "op": "cancel", "branch": "all"})  # no branch has this name
    client.send({"id": 1, "op": "cancel", "branch": 7})
    client.send({"id": 1, "op": "cancel", "branch": 1})
    lines = [client.read()]
    while lines[-1]["branch"] != 1 or lines[-1]["steps"][-1]["finish_reason"] != "cancelled":
        lines.append(client.read())
    more = [client.read() for _ in range(10)]
    assert {line["branch"] for line in more} == {0, 2}
    client.send({"id": 1, "op": "cancel", "branch": 0})
    client.send({"id": 1, "op": "cancel", "branch": 2})
    *_, done = client.until("done")
    assert done["finish_reason"] == "cancelled"


def test_branches_that_end_for_different_reasons_have_no_common_one(client: Client) -> None:
    request = {"text": "to be", "max_new_tokens": 30, "sampling": {"seed": 1}, "slide": True}
    client.send({"id": 1, "op": "generate", "branches": 8, "stop": ["a"], **request})
    *lines, done = client.until("done")
    steps = [step for line in lines if line["event"] == "steps" for step in line["steps"]]
    reasons = {step["finish_reason"] for step in steps} - {None}
    assert reasons == {"length", "stop"}, "or the seed must be another one"
    assert done["finish_reason"] is None


@pytest.mark.parametrize("branches", [0, 65])
def test_a_wrong_number_of_branches_is_refused(client: Client, branches: int) -> None:
    client.send({"id": 1, "op": "generate", "text": "a", "branches": branches})
    assert client.read() == {
        "id": 1,
        "event": "error",
        "message": f"branches is {branches}; it must be a whole number from 1 to 64",
    }


def test_likely_paths_are_the_librarys(client: Client, tiny: Checkpoint) -> None:
    from gpt.interpret.explain import likely_paths

    client.send({"id": "p", "op": "paths", "text": "to be", "width": 3, "depth": 4})
    found = client.read()["paths"]
    expected = likely_paths(
        tiny.new_context(), tiny.new_context().encode("to be"), width=3, depth=4
    )
    assert [path["ids"] for path in found] == [list(path.ids) for path in expected]
    client.send({"id": 2, "op": "paths", "text": "a", "width": 65})
    assert "from 1 to 64" in client.read()["message"]


def test_a_second_model_reads_beside_the_first(
    client: Client, tiny: Checkpoint, tmp_path: Path
) -> None:
    from gpt.interpret.compare import divergence

    client.send({"id": 1, "op": "compare", "text": "to be"})
    assert "no second model" in client.read()["message"]
    other = random_model(n_layer=1)
    save(tmp_path / "other", other, CharTokenizer(CHARACTERS))
    loaded = load(tmp_path / "other")
    client.send({"id": 2, "op": "load", "model": str(tmp_path / "other"), "second": True})
    assert client.until("loaded")[-1]["name"] == "other"
    ids = tiny.new_context().encode("to be or")
    client.send({"id": 3, "op": "compare", "ids": ids})
    lines = client.until("compared")
    steps = [step for line in lines[:-1] for step in line["steps"]]
    expected = list(score(loaded.new_context(), ids))
    assert [step["rank"] for step in steps] == [step.rank for step in expected]
    own = divergence(tiny.new_context(), loaded.new_context(), ids)
    assert lines[-1]["divergence"] == pytest.approx(own, abs=1e-5)
    # The dice of the first model are the second one's.
    request = {"op": "generate", "ids": ids, "max_new_tokens": 4, "sampling": {"seed": 3}}
    client.send({"id": 4, "second": True, **request})
    drawn = [step for line in client.until("done")[:-1] for step in line["steps"]]
    again = generate(Context(other, loaded.tokenizer), ids, Sampling(seed=3), Limits(4))
    assert [step["token_id"] for step in drawn] == [step.token_id for step in again]
    client.send({"id": 5, "op": "unload"})
    assert client.read()["event"] == "unloaded"
    client.send({"id": 6, "op": "compare", "text": "to be"})
    assert "no second model" in client.read()["message"]
    client.send({"id": 7, "op": "tokenize", "text": "a"})
    assert client.read()["event"] == "tokens"


def test_models_of_other_vocabularies_read_the_same_text(client: Client, tmp_path: Path) -> None:
    letters = CharTokenizer(CHARACTERS[::-1])
    save(tmp_path / "other", random_model(bos_id=3), letters)
    client.send({"id": 2, "op": "load", "model": str(tmp_path / "other"), "second": True})
    client.until("loaded")
    client.send({"id": 3, "op": "compare", "text": "to be"})
    lines = client.until("compared")
    assert lines[-1]["divergence"] is None
    steps = [step for line in lines[:-1] for step in line["steps"]]
    assert [step["token_id"] for step in steps] == [3, *letters.encode("to be")]
    # A path is named in the first model's ids, whoever goes on from it.
    request = {"op": "generate", "ids": CharTokenizer(CHARACTERS).encode("to be")}
    client.send({"id": 4, "second": True, "echo_from": 0, "max_new_tokens": 1, **request})
    lines = [line for line in client.until("done") if line["event"] == "prompt"]
    again = [step["token_id"] for line in lines for step in line["steps"]]
    assert again == [step["token_id"] for step in steps]
    client.send({"id": 4, "second": True, "op": "generate", "ids": [99]})
    assert "there is no token 99" in client.read()["message"]
    client.send({"id": 5, "op": "unload"})
    client.read()


def test_options_are_scored_behind_the_same_prompt(client: Client, tiny: Checkpoint) -> None:
    client.send({"id": 1, "op": "options", "text": "to be", "options": [" or", " not"]})
    found = client.read()["options"]
    for option, steps in zip((" or", " not"), found, strict=True):
        ids = tiny.new_context().encode("to be" + option)
        expected = list(score(tiny.new_context(), ids, start=5))
        assert [step["text"] for step in steps] == list(option)
        logprobs = [step["logprob"] for step in steps]
        assert logprobs == pytest.approx([step.logprob for step in expected], abs=1e-5)
    client.send({"id": 2, "op": "options", "text": "to be", "options": [""]})
    assert "options must be a list of texts" in client.read()["message"]


def test_every_layer_is_the_librarys(client: Client, tiny: Checkpoint) -> None:
    from gpt.interpret.lens import attribution, layers

    ids = tiny.new_context().encode("to be")
    client.send({"id": 1, "op": "layers", "ids": ids, "chosen": 4, "top": 2})
    found = client.read()["layers"]
    for line, layer in zip(found, layers(tiny.new_context(), ids, 4, top=2), strict=True):
        assert (line["name"], line["ids"]) == (layer.name, list(layer.ids))
        assert line["chosen_logprob"] == pytest.approx(layer.chosen_logprob, abs=1e-5)
        assert [len(head) for head in line["attention"]] == [5] * len(layer.attention)
    client.send({"id": 1, "op": "layers", "ids": ids, "chosen": 99})
    assert "there is no token 99" in client.read()["message"]
    client.send({"id": "nats", "op": "attribution", "ids": ids, "chosen": 4, "last": 3})
    nats = client.read()["nats"]
    assert nats[:2] == [None, None]
    expected = attribution(tiny.new_context(), ids, 4, last=3)
    assert nats[2:] == pytest.approx(expected[2:], abs=1e-4)
