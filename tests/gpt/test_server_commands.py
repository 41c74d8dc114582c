"""The commands for pipes in front of a real llama.cpp server."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gpt.__main__ import main
from gpt.capabilities import Capabilities
from gpt.commands.server_model import ServerModel
from gpt.commands.servers import _numbers
from gpt.errors import UserError
from gpt.limits import Limits
from gpt.settings import Sampling
from tests.gpt.endless_gguf import endless_gguf
from tests.gpt.llama_server import LlamaServer

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    directory = tmp_path_factory.mktemp("served")
    server = LlamaServer(endless_gguf(directory / "tiny.gguf"), context=256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
        yield server.url
    server.kill()


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(list(arguments))
    return capsys.readouterr().out


def test_a_text_is_the_tokens_of_its_json(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    common = ("complete", "hello", "-n", "9", "--seed", "3", "--server", url)
    text = said(capsys, *common)
    steps = [
        json.loads(line) for line in said(capsys, *common, "--json", "--top", "2").splitlines()
    ]
    data = b"hello" + b"".join(bytes(step["bytes"]) for step in steps)
    assert text == data.decode("utf-8", "replace") + "\n"
    assert len(steps) == 9 and steps[-1]["finish_reason"] == "length"
    assert all(step["logprob"] < 0 and len(step["candidates"]) == 2 for step in steps)


def test_a_full_context_is_said(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["complete", "hello", "-n", "999", "--temperature", "0", "--server", url])
    assert capsys.readouterr().err == "context full: 256 of 256 tokens\n"


def test_a_text_is_scored(url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("hello world")
    lines = said(capsys, "score", str(path), "--json", "--server", url).splitlines()
    *steps, totals = map(json.loads, lines)
    nats = -math.fsum(step["logprob"] for step in steps[1:])
    assert totals["totals"]["nats"] == pytest.approx(nats)
    assert totals["totals"]["tokens"] == len(steps) - 1 and steps[0]["logprob"] is None


def test_options_are_compared(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("score", "--prompt", "hello", "--options", "a", "b", "--json", "--server", url)
    found = [json.loads(line) for line in said(capsys, *options).splitlines()]
    assert [each["option"] for each in found] == ["a", "b"]
    assert all(each["totals"]["nats"] > 0 for each in found)


def test_a_chat(url: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    stdin = SimpleNamespace(isatty=lambda: False, buffer=iter([b"hi\n", b"you\n", b""]))
    stdin.buffer = SimpleNamespace(readline=lambda n, lines=stdin.buffer: next(lines))
    monkeypatch.setattr(sys, "stdin", stdin)
    turns = said(capsys, "chat", "tiny", "-n", "3", "--json", "--server", url).splitlines()
    assert [json.loads(turn)["text"] for turn in turns] == ["hi", "you"]
    assert all(len(json.loads(turn)["tokens"]) == 3 for turn in turns)
    assert {json.loads(turn)["finish_reason"] for turn in turns} == {"length"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--special", "--server", "URL"), "--special is for models of this machine"),
        (("--slide", "--server", "URL"), "cannot slide"),
        (("--mute", "1", "--server", "URL"), "nothing can be changed inside a model at a server"),
        (("--model", "other", "--server", "URL"), "no model 'other'"),
        (("--server", "http://192.168.0.1"), "use --allow-http"),
        (("--server", "http://me:secret@127.0.0.1"), "use --api-key-env NAME"),
        (("--server", "URL", "--api-key-env", "sk-secret"), "and not the key itself"),
        (("--api-key-env", "PATH"), "give its address with --server"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    url: str, arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [url if each == "URL" else each for each in arguments]
    with pytest.raises(SystemExit) as error:
        main(["complete", "hello", *given])
    said = f"{error.value} {capsys.readouterr().err}"
    assert sentence in said
    assert "secret" not in said


def test_torch_is_not_loaded(url: str) -> None:
    code = (
        "import sys; from gpt.__main__ import main; main(sys.argv[1:]); "
        "print(*{'torch', 'numpy'} & sys.modules.keys())"
    )
    command = [sys.executable, "-c", code, "complete", "hello", "-n", "1", "--server", url]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout.endswith(b"\n\n") and not done.stderr


def test_ignored_settings_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    can = Capabilities(settings=("temperature",))
    session: Any = SimpleNamespace(
        capabilities=can,
        model=SimpleNamespace(vocab_size=0, block_size=0),
        generate=lambda *_, top: top,
    )
    model = ServerModel(session)
    model.generate([1], Sampling(temperature=0.5, top_k=3), Limits(), top=2)
    assert capsys.readouterr().err == "note: the server ignores: --top-k\n"
    model.generate([1], Sampling(temperature=0.5), Limits(), top=2)
    assert not capsys.readouterr().err
    model.branches([1], Sampling(banned=((1,),), boosted=(((2,), 1.0),)), Limits(), 3, top=2)
    assert capsys.readouterr().err == "note: the server ignores: --ban, --boost\n"


def test_settings_have_the_names_of_the_screen() -> None:
    can = Capabilities(settings=("dynatemp_range", "dry_multiplier", "temperature"))
    assert dict(_numbers(can))["settings"] == "dynamic ±, DRY, temperature"
    assert dict(_numbers(Capabilities()))["settings"] == "all"


def test_a_server_without_numbers_of_a_text_scores_none() -> None:
    session: Any = SimpleNamespace(
        capabilities=Capabilities(prompt="none"), model=SimpleNamespace(vocab_size=0, block_size=0)
    )
    with pytest.raises(UserError, match="did not write"):
        ServerModel(session).score([1, 2], top=1)
