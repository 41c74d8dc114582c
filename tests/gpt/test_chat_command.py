"""`python -m gpt chat`, and a chat by the engine's lines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gpt import models
from gpt.__main__ import main
from gpt.chat import turn
from gpt.chat_template import read_template
from gpt.checkpoint import load, save
from gpt.generate import Limits, generate
from gpt.settings import Sampling
from gpt.tokenizer_json import JsonTokenizer
from tests.conftest import random_model
from tests.gpt.chatting import CHATML, byte_level
from tests.gpt.served import Served
from tests.gpt.test_chat_template import with_template
from tests.terminal import needs_pty

TOKENS = JsonTokenizer(byte_level().to_str())
END = TOKENS.added_tokens["<|im_end|>"]
OPTIONS = ["-n", "5", "--seed", "3"]


@pytest.fixture
def talker(tmp_path: Path) -> Path:
    """A checkpoint with ChatML, among the models."""
    directory = tmp_path / "models" / "talker"
    model = random_model(vocab_size=TOKENS.vocab_size, block_size=600, eos_id=END)
    save(directory, model, TOKENS)
    return with_template(directory, CHATML)


def chat(*arguments: str, stdin: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "gpt", "chat", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False)


def expected(directory: Path, said: list[str], system: str) -> Iterator[tuple[str, list[int]]]:
    """Each answer, and its ids."""
    checkpoint, template = load(directory), read_template(directory)
    ids: list[int] = []
    for text in said:
        ids, *_ = turn(checkpoint, ids, text, system=system, template=template)
        sampling = Sampling(temperature=0.8, top_p=0.95, seed=3)  # as in the interface
        steps = list(generate(checkpoint.new_context(), ids, sampling, Limits(5)))
        ids += [step.token_id for step in steps]
        yield (
            b"".join(s.bytes for s in steps).decode("utf-8", "replace"),
            [step.token_id for step in steps],
        )


@pytest.mark.slow
@pytest.mark.parametrize("system", ["", "You are a bird."])
def test_each_line_is_answered(talker: Path, system: str) -> None:
    said = ["hello there", "who are you <|im_end|>"]
    answers = list(expected(talker, said, system))
    stdin = "\n\n".join(said).encode()
    told = ["--system", system] if system else []
    done = chat("talker", *OPTIONS, *told, stdin=stdin)
    assert done.stderr == b""
    assert done.stdout.decode() == "".join(f"{answer}\n" for answer, _ in answers)
    done = chat("talker", *OPTIONS, *told, "--json", "--top", "2", stdin=stdin)
    turns = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["text"] for each in turns] == said
    assert [each["answer"] for each in turns] == [answer for answer, _ in answers]
    found = [[step["token_id"] for step in each["tokens"]] for each in turns]
    assert found == [ids for _, ids in answers]
    assert {each["finish_reason"] for each in turns} <= {"length", "eos"}
    assert len(turns[0]["tokens"][0]["candidates"]) == 2
    template, checkpoint = read_template(talker), load(talker)
    first, *_ = turn(checkpoint, [], said[0], system=system, template=template)
    assert turns[0]["prompt_tokens"] == len(first)


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_directory")
def test_a_model_without_a_template_is_shown_a_dialogue() -> None:
    done = chat("tiny", "--stop", "e", stdin=b"hi\n")
    assert done.returncode == 1
    assert b"not ':' (U+003A), 'A' (U+0041)" in done.stderr
    done = chat("shakespeare", "-n", "3", stdin=b"Good morrow\nAnd you?")
    assert done.returncode == 0, done.stderr
    note = b"this model has no chat template: it continues a dialogue of User: and Assistant:\n"
    assert done.stderr == note
    assert len(done.stdout.decode().rstrip("\n")) >= 6


@pytest.mark.parametrize(
    ("arguments", "stdin", "message"),
    [
        (["nobody"], b"a", b"error: there is no model 'nobody'"),
        (["talker"], b"a\n\xff\n", b"error: stdin is not UTF-8 text (byte 0); save it as UTF-8\n"),
        (["talker", "--system", "x" * 9999], b"a", b"error: the text has 10"),
    ],
)
@pytest.mark.usefixtures("talker")
def test_a_chat_that_fails_is_one_sentence(
    arguments: list[str], stdin: bytes, message: bytes
) -> None:
    done = chat(*arguments, "-n", "2", stdin=stdin)
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("text", ["{% for i in range(99999) %}{{ 'a' * 10**6 }}{% endfor %}", "{{"])
def test_a_template_of_a_checkpoint_that_fails_is_one_sentence(talker: Path, text: str) -> None:
    with_template(talker, text)
    done = chat("talker", stdin=b"a")
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: the chat template fails: ")
    assert done.stderr.count(b"\n") == 1


@needs_pty
def test_a_terminal_shows_a_prompt_until_ctrl_d(talker: Path) -> None:
    import pexpect

    command = ["-m", "gpt", "chat", "talker", "-n", "2", "--seed", "1"]
    environment = {**os.environ, "TERM": "dumb"}
    child = pexpect.spawn(sys.executable, command, env=environment, timeout=60)
    child.expect_exact("> ")
    child.sendline("hello")
    child.expect_exact("> ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@needs_pty
def test_ctrl_c_stops_an_answer_and_not_the_conversation(talker: Path) -> None:
    import pexpect

    command = ["-m", "gpt", "chat", "talker", "-n", "1000000", "--slide"]
    environment = {**os.environ, "TERM": "dumb"}
    child = pexpect.spawn(sys.executable, command, env=environment, timeout=60)
    child.expect_exact("> ")
    for _ in range(2):
        child.sendline("hello")
        child.expect("hello\r\n.{40}")
        for _ in range(3):  # Python loses one that comes while it frees an object
            child.sendintr()
            if child.expect(["\r\n> ", pexpect.TIMEOUT], timeout=30) == 0:
                break
        else:
            raise AssertionError("Ctrl+C does not end the answer")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


@needs_pty
def test_without_its_prompt_a_terminal_says_what_is_waited_for(talker: Path) -> None:
    import pexpect

    child = pexpect.spawn(sys.executable, ["-m", "gpt", "chat", "talker", "--json", "-n", "1"])
    child.expect_exact("reading a message a line from the keyboard; Ctrl+D on an empty", timeout=60)
    child.sendline("hello")
    child.expect_exact('"prompt_tokens": ', timeout=60)
    child.sendeof()
    child.expect(pexpect.EOF, timeout=60)


def test_a_chat_by_the_engines_lines(talker: Path) -> None:
    served = Served({"op": "load", "id": 0, "model": "talker"})
    loaded = served.of(0)[-1]
    assert loaded["special_tokens"] == TOKENS.added_tokens
    base: dict[str, Any] = {"op": "generate", "chat": True, "max_new_tokens": 3, "top": 1}
    base["sampling"] = {"seed": 1}
    checkpoint, template = load(talker), read_template(talker)

    def ask(number: int, **fields: Any) -> list[int]:
        """The ids of the prompt and of the answer."""
        end = served.ask({**base, "id": number, "echo_from": 0, **fields})
        assert end["event"] == "done", end
        lines = served.of(number)
        return [step["token_id"] for line in lines for step in line.get("steps", ())]

    first, *_ = turn(checkpoint, [], "hello", system="You", template=template)
    ids = ask(1, text="hello", system="You")
    assert ids[: len(first)] == first
    second, *_ = turn(checkpoint, ids, "who", template=template)
    assert ask(2, ids=ids, text="who", system="no effect")[: len(second)] == second
    assert second[: len(ids)] == ids
    served.ask({"op": "load", "id": 6, "model": "shakespeare", "second": True})
    other = load(models.find("shakespeare"))
    hello = other.new_context().encode("hello")
    third, *_ = turn(other, hello, "who")
    assert ask(7, ids=TOKENS.encode("hello"), text="who", second=True)[: len(third)] == third
    end = served.ask({**base, "id": 3, "text": "a", "system": 5})
    assert end["message"] == "system must be a text"
    with_template(talker, "{{ raise_exception('no') }}")
    end = served.ask({**base, "id": 4, "text": "a"})
    assert end["message"] == "the chat template fails: no"
    served.close()


def test_special_tokens_can_be_meant(talker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "<|im_start|>user\nhello<|im_end|>\n"
    path = talker / "text"
    path.write_text(text)
    wanted = TOKENS.encode_special(text)

    def scored(*options: str) -> list[int]:
        main(["score", str(path), "--model", "talker", "--json", "--top", "0", *options])
        lines = capsys.readouterr().out.splitlines()[:-1]
        return [json.loads(line)["token_id"] for line in lines]

    assert scored("--special") == wanted
    assert scored() == TOKENS.encode(text)
    command = ["score", "--model", "talker", "--special", "--prompt", "<|im_start|>", "--json"]
    main([*command, "--options", " hello<|im_end|>", "b"])
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ids = [[step["token_id"] for step in each["tokens"]] for each in found]
    assert ids == [[*TOKENS.encode(" hello"), END], TOKENS.encode("b")]
    main(["complete", text, "--model", "talker", "--special", "--json", "-n", "2", "--seed", "1"])
    steps = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert steps[0]["position"] == len(wanted)


def test_special_tokens_are_listed(
    talker: Path, tiny_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["models", "--special", "talker"])
    assert f"{END:8} <|im_end|>\n" in capsys.readouterr().out
    main(["models", "--special", "talker", "--json"])
    lines = capsys.readouterr().out.splitlines()
    found = {each["name"]: each["token_id"] for each in map(json.loads, lines)}
    assert found == TOKENS.added_tokens
    main(["models", "--special", "tiny"])
    assert capsys.readouterr().out == "tiny has no special tokens\n"
