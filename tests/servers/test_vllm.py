"""Models at a real vLLM: the same numbers as our own engine. `make servers` runs these."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from convert.write import ConversionOptions, convert
from gpt.checkpoint import load
from gpt.context import Context
from gpt.generate import generate, score
from gpt.interpret.explain import likely_paths
from gpt.limits import Limits
from gpt.progress import Watcher
from gpt.remote.connect import connect
from gpt.remote.session import Session
from gpt.settings import Sampling
from gpt.step import Step
from tests.convert.conftest import tiny_vocab, write_vocab
from tests.servers.vllm_environment import is_made
from tests.servers.vllm_server import VllmServer

pytestmark = [
    pytest.mark.servers,
    pytest.mark.skipif(not is_made(), reason="`make servers` makes vLLM's environment"),
]

CLOSE = 1e-5
GREEDY = Sampling(temperature=0)
TEXT = "hello world, naïve 東京 🦥!"
SIZE = len(tiny_vocab())


class Running(NamedTuple):
    """A model at vLLM, and the same weights in our engine."""

    session: Session
    ours: Context


def _gpt2() -> Any:
    import transformers

    sizes: dict[str, Any] = {"vocab_size": SIZE, "n_positions": 256, "n_embd": 64, "n_layer": 2}
    end: dict[str, Any] = {"bos_token_id": SIZE - 1, "eos_token_id": SIZE - 1}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, n_head=2, **end))
    with torch.no_grad():
        model.transformer.wte.weight.mul_(6)
    return model


def _opt() -> Any:
    import transformers

    sizes: dict[str, Any] = {
        "vocab_size": SIZE,
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "num_hidden_layers": 2,
        "ffn_dim": 256,
        "num_attention_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": 1,
    }
    end: dict[str, Any] = {"bos_token_id": SIZE - 1, "eos_token_id": SIZE - 1}
    model = transformers.OPTForCausalLM(transformers.OPTConfig(**sizes, **end))
    with torch.no_grad():
        model.model.decoder.embed_tokens.weight.mul_(6)
    return model


def _write(model: Any, directory: Path) -> None:
    """The files of a model and its tokenizer, as a hub has them."""
    import transformers

    model.eval().save_pretrained(directory)
    write_vocab(directory)
    transformers.AutoTokenizer.from_pretrained(directory).save_pretrained(directory)


@pytest.fixture(scope="module", params=["gpt2", "opt"])
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    torch.manual_seed(0)
    source = tmp_path_factory.mktemp("model") / request.param
    _write({"gpt2": _gpt2, "opt": _opt}[request.param](), source)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPT_TUI_HOME", str(tmp_path_factory.mktemp("home")))
        options = ConversionOptions(force=True)
        done = convert(str(source), name="t", verify=False, options=options, on_event=_silent)
        ours = load(done.directory).new_context()
    log = tmp_path_factory.mktemp("log") / "vllm.log"
    server = VllmServer(source, "--max-logprobs", "-1", log=log)
    try:
        session = connect(server.url, probe=True)
        yield Running(session, ours)
        session.close()
    finally:
        server.stop()


def _silent(event: object) -> None:
    pass


def _compare(theirs: list[Step], ours: list[Step]) -> float:
    """The largest difference of a log-probability."""
    worst = 0.0
    for a, b in itertools.zip_longest(theirs, ours):
        assert (a.position, a.token_id, a.bytes, a.text) == (
            b.position,
            b.token_id,
            b.bytes,
            b.text,
        )
        if b.logprob is None:
            continue
        worst = max(worst, abs(a.logprob - b.logprob))
        assert a.entropy == pytest.approx(b.entropy, abs=10 * CLOSE)
        mine = {c.token_id: c.logprob for c in b.candidates}
        for candidate in a.candidates:
            if candidate.token_id in mine:
                worst = max(worst, abs(candidate.logprob - mine[candidate.token_id]))
    assert worst < CLOSE
    return worst


def test_what_it_can_do(running: Running) -> None:
    can = running.session.capabilities
    assert can.server.startswith("vLLM ") and can.models == ("tiny",)
    assert can.candidates is None and can.is_exact and can.is_raw
    assert (can.prompt, can.seed, can.chat) == ("one request", "best effort", False)
    expected = {"temperature", "top_k", "top_p", "min_p", "repetition_penalty"}
    assert expected | {"banned", "boosted"} <= set(can.settings or ())
    assert running.session.model.block_size == 128
    print(can, running.session.model)


def test_scores(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    session, ours = running
    ids = (session.encode(TEXT) * 9)[:128]
    worst = _compare(list(session.score(ids, top=5)), list(score(ours, ids, top=5)))
    with capsys.disabled():
        print(f"\nlargest difference of a log-probability: {worst:.1e}")


def test_greedy_text(running: Running) -> None:
    session, ours = running
    for prompt in (TEXT, "a", "🦥"):
        ids = session.encode(prompt)
        theirs = list(session.generate(ids, GREEDY, Limits(40), top=4))
        _compare(theirs, list(generate(ours, ids, GREEDY, Limits(40), top=4)))


def test_drawn_text(running: Running) -> None:
    """Half characters too; vLLM allows temperatures up to 2."""
    session, ours = running
    ids, hot = session.encode("hello"), Sampling(temperature=2, seed=3, banned=((SIZE - 1,),))
    steps = list(session.generate(ids, hot, Limits(60), top=3))
    assert len(steps) == 60
    path = [*ids, *(step.token_id for step in steps)]
    for step, mine in zip(steps, score(ours, path, start=len(ids), top=3), strict=True):
        assert step.logprob == pytest.approx(mine.logprob, abs=CLOSE)
        assert step.bytes in (mine.bytes, "\ufffd".encode())
    again = [s.token_id for s in session.generate(ids, hot, Limits(60), top=3)]
    assert again == [step.token_id for step in steps]


def test_typed_names_of_special_tokens_are_text(running: Running) -> None:
    session, ours = running
    for text in ("a<|endoftext|>b", "<|endoftext|>", "x <|endoftext|><|endoftext|>."):
        assert session.encode(text) == ours.encode(text)
        assert session.decode(session.encode(text)) == text


def test_words_of_several_tokens(running: Running) -> None:
    session, ours = running
    ids = session.encode("hello")
    plain = [step.token_id for step in session.generate(ids, GREEDY, Limits(20))]
    word = tuple(session.encode("wall"))
    for sampling in (
        Sampling(temperature=0, banned=((plain[3], plain[4]), tuple(plain[7:10]))),
        Sampling(temperature=0, boosted=((word, 40.0),)),
    ):
        theirs = list(session.generate(ids, sampling, Limits(20), top=3))
        _compare(theirs, list(generate(ours, ids, sampling, Limits(20), top=3)))
        assert [step.token_id for step in theirs] != plain


def test_paths(running: Running) -> None:
    session, ours = running
    ids = session.encode("hello")
    theirs = session.paths(ids, width=4, depth=3)
    mine = likely_paths(ours, ids, width=4, depth=3)
    for a, b in zip(theirs, mine, strict=True):
        assert math.fsum(a.logprobs) == pytest.approx(math.fsum(b.logprobs), abs=CLOSE)


def test_the_end_and_full(running: Running) -> None:
    session, _ = running
    forced = Sampling(temperature=0, boosted=(((SIZE - 1,), 100.0),))
    steps = list(session.generate(session.encode("a"), forced, Limits(5)))
    assert [(s.name, s.finish_reason) for s in steps] == [("<|endoftext|>", "eos")]
    ids = (session.encode(TEXT) * 9)[:125]
    steps = list(session.generate(ids, GREEDY, Limits(50)))
    assert (len(steps), steps[-1].finish_reason) == (3, "context full")


def test_cancelled(running: Running) -> None:
    session, _ = running
    seen: list[Step] = []
    watcher = Watcher(lambda: len(seen) > 3)
    drawing = session.generate(session.encode("a"), GREEDY, Limits(120), watcher=watcher)
    for step in drawing:
        seen.append(step)
    assert len(seen) < 120 and drawing.finish_reason == "cancelled"


def test_processed_numbers_are_recognised(tmp_path_factory: pytest.TempPathFactory) -> None:
    torch.manual_seed(0)
    source = tmp_path_factory.mktemp("model") / "gpt2"
    _write(_gpt2(), source)
    log = tmp_path_factory.mktemp("log") / "vllm.log"
    server = VllmServer(source, "--logprobs-mode", "processed_logprobs", log=log)
    try:
        session = connect(server.url, probe=True)
        assert not session.capabilities.is_raw
        assert session.capabilities.candidates == 20
        session.close()
    finally:
        server.stop()
