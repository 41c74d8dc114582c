"""Who wrote a token, special tokens that a person means, and what a token adds to a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gpt.checkpoint import load, save
from gpt.generate import score
from gpt.step import Candidate, Step
from gpt.tokenizer import CharTokenizer, decode
from gpt.tokenizer_json import JsonTokenizer
from tests.conftest import random_model
from tests.gpt.chatting import CHATML, byte_level, sentence_piece
from tests.gpt.served import Served
from tests.gpt.test_chat_template import with_template

KINDS = {
    "bytes": byte_level(),
    "legacy pieces": sentence_piece(legacy=True),
    "pieces": sentence_piece(legacy=False),
}


@pytest.fixture(params=KINDS)
def talker(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A checkpoint with ChatML and a token in front of each text."""
    tokens = JsonTokenizer(KINDS[request.param].to_str())
    directory = tmp_path / "models" / "talker"
    end, begin = (tokens.added_tokens[name] for name in ("<|im_end|>", "<s>"))
    size = tokens.vocab_size
    save(directory, random_model(vocab_size=size, block_size=300, eos_id=end, bos_id=begin), tokens)
    return with_template(directory, CHATML)


def asked(directory: Path, op: str, **fields: Any) -> list[dict[str, Any]]:
    served = Served({"id": 0, "op": "load", "model": str(directory), "device": "cpu"})
    served.ask({"id": 1, "op": op, **fields})
    served.close()
    return served.of(1)


def steps_of(lines: list[dict[str, Any]], event: str) -> list[Step]:
    return [Step.from_dict(s) for line in lines if line["event"] == event for s in line["steps"]]


def test_a_special_token_that_is_meant_stands_between_letters(talker: Path) -> None:
    checkpoint = load(talker)
    tokens, begin = checkpoint.tokenizer, checkpoint.model.config.bos_id
    end = tokens.added_tokens["<|im_end|>"]
    letters = "a bird <|im_end|>"
    for segments, ids, expected in (
        ([letters, end, " who"], [], [begin, *tokens.encode(letters), end]),
        ([end, " who"], [], [begin, end]),
        ([begin, " who"], [], [begin]),
        ([letters, end, " who"], [5], [5, *tokens.encode_more(letters), end]),
    ):
        given = {"ids": ids, "segments": segments, "max_new_tokens": 0}
        lines = asked(talker, "generate", **given, echo_from=len(ids))
        found = [*ids, *(step.token_id for step in steps_of(lines, "prompt"))]
        assert found == [*expected, *tokens.encode_more(" who")]
    assert end not in tokens.encode(letters)


@pytest.mark.parametrize("wrong", [7, ["a", True], [None], [["a"]], [1.5], ["a", 10**9]])
def test_segments_of_other_kinds_are_refused(tiny_directory: Path, wrong: object) -> None:
    (line,) = asked(tiny_directory, "score", segments=wrong)
    assert line["event"] == "error"
    assert "segments must be a list" in line["message"] or "no token 1000000000" in line["message"]


def test_the_steps_of_a_turn_say_what_the_template_wrote(talker: Path) -> None:
    lines = asked(talker, "generate", text="who are you", chat=True, echo_from=0, max_new_tokens=2)
    prompt, drawn = steps_of(lines, "prompt"), steps_of(lines, "steps")
    mine = b"".join(step.bytes for step in prompt if not step.by_template)
    assert mine.decode().strip() == "who are you"
    assert prompt[0].by_template and prompt[-1].by_template
    assert drawn and not any(step.by_template for step in drawn)


def test_an_answer_that_is_continued_ends_where_a_turn_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.chat.stops_of", lambda checkpoint, template: [":"])
    tokens = CharTokenizer(dict.fromkeys("Usert: Ain\nhobyda?"))
    save(tmp_path / "a", random_model(vocab_size=tokens.vocab_size), tokens)
    ids = tokens.encode("hi")
    sampling = {"boosted": [[tokens.encode(":"), 1000.0]]}
    given = {"ids": ids, "max_new_tokens": 5, "sampling": sampling}
    *_, plain = asked(tmp_path / "a", "generate", **given)
    *_, chat = asked(tmp_path / "a", "generate", **given, chat=True)
    assert (plain["tokens"], plain["finish_reason"]) == (5, "length")
    assert (chat["tokens"], chat["finish_reason"]) == (1, "stop")


def test_the_texts_of_steps_make_the_text(talker: Path) -> None:
    """SentencePiece puts a blank before a text, which the text does not have."""
    checkpoint = load(talker)
    context = checkpoint.new_context()
    for text in ("a bird", " a bird", "é 鳥", "", "  x"):
        ids = context.encode(text)
        steps = list(score(context, ids))
        added = b"".join(step.added for step in steps).decode()
        assert added == "".join(step.text for step in steps)
        assert added == decode(checkpoint.tokenizer, ids[1:])
        assert added == text or text.startswith(" "), "a tokenizer may put only one blank"
        if text:
            more = checkpoint.tokenizer.encode_more(" who")
            later = list(score(context, [*ids, *more], start=len(ids)))
            assert b"".join(step.added for step in later) == b" who"


def test_a_step_keeps_who_wrote_it() -> None:
    step = Step(1, 2, b" a", "a", -1.0, 1, 0.5, (Candidate(2, b" a", -1.0),), by_template=True)
    assert Step.from_untrusted(step.to_dict()) == step
    assert "by_template" not in step._replace(by_template=False).to_dict()
    with pytest.raises(ValueError, match="by_template"):
        Step.from_untrusted({**step.to_dict(), "by_template": 1})
    assert step.added == b"a"
    assert step._replace(text=" a").added == b" a"
    assert Step(0, 2, b" ", "").added == b""
    assert Step(3, 2, b" \xe2", "\ufffd ").added == b" \xe2"
