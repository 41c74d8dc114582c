from __future__ import annotations

from dataclasses import replace

from gpt.chat import turn
from gpt.checkpoint import Checkpoint
from gpt.tokenizer import CharTokenizer, decode
from tests.conftest import random_model

CHARACTERS = "Usert: Ain\nhobyda?"


def speaker(tiny: Checkpoint, **origin: object) -> Checkpoint:
    tokens = CharTokenizer(dict.fromkeys(CHARACTERS))
    model = random_model(eos_id=0)
    manifest = replace(tiny.manifest, origin=origin)
    return replace(tiny, model=model, tokenizer=tokens, manifest=manifest)


def test_a_model_of_turns_gets_its_own_token(tiny: Checkpoint) -> None:
    checkpoint = speaker(tiny, ends_turns=True)
    ids, stop = turn(checkpoint, [5, 0], "hi")
    assert ids == [5, 0, *checkpoint.tokenizer.encode("hi"), 0]
    assert stop == []


def test_a_base_model_is_shown_a_dialogue(tiny: Checkpoint) -> None:
    checkpoint = speaker(tiny)
    encode = checkpoint.tokenizer.encode

    def shown(before: str) -> str:
        ids, stop = turn(checkpoint, encode(before), "hi?")
        assert stop == ["\nUser:"]
        return decode(checkpoint.tokenizer, ids)

    assert shown("") == "User: hi?\nAssistant:"
    assert shown("bird") == "bird\nUser: hi?\nAssistant:"
    assert shown("bird\n") == "bird\nUser: hi?\nAssistant:"
    assert shown("bird\nUser:") == "bird\nUser: hi?\nAssistant:"
