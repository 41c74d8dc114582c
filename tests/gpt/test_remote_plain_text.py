"""A special token's name that a person types stays text, whatever a server's tokenizer makes of it.

The reference is the same tokenizer without special tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from gpt.capabilities import Capabilities
from gpt.errors import UserError
from gpt.remote.alphabet import bytes_of
from gpt.remote.connect import connect
from gpt.remote.http import Http
from gpt.remote.plain_text import encode
from gpt.remote.server import ModelFacts, Piece
from gpt.remote.session import Session
from gpt.server_address import read_address
from tests.gpt.fake_server import Fake, serving
from tests.gpt.vllm_double import END, STRINGS, Double

NAMES = ["<|end|>", "<s>", "</s>", "[INST]", "<｜fin▁de▁texte｜>", "<|im_start|>"]
CORPUS = ["hello <|im_end|> hello </b> the [INS] end|> s> of the tale, <|en the end|>"] * 50


def _in(kind: str, text: str) -> str:
    """A text that these tokenizers can write: "▁" is a character only where "Ġ" is the blank."""
    return text if kind == "byte level" else text.replace("▁", "_")


@lru_cache
def _tokenizers(kind: str) -> tuple[Tokenizer, Tokenizer]:
    """A tokenizer without and with special tokens."""
    plain = Tokenizer(models.BPE())
    if kind == "byte level":
        plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        plain.decoder = decoders.ByteLevel()
    elif kind == "a blank in front":
        blanks = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        plain.normalizer = normalizers.Sequence(blanks)
    first = pre_tokenizers.ByteLevel.alphabet()
    letters = first if kind == "byte level" else [*map(chr, range(32, 127)), *"▁｜é\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=letters, special_tokens=[], show_progress=False
    )
    plain.train_from_iterator(CORPUS, trainer)
    special = Tokenizer.from_str(plain.to_str())
    special.add_special_tokens([_in(kind, name) for name in NAMES])
    return plain, special


class Reads:
    """A server that reads names, with one of these tokenizers."""

    reads_names = True
    model = ModelFacts("toy")

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.plain, self._special = _tokenizers(kind)

    def tokenize(self, text: str, *, is_start: bool) -> list[int]:
        return list(self._special.encode(text, add_special_tokens=False).ids)

    def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
        found = {}
        for i in ids:
            string = self._special.id_to_token(i) or ""
            data = bytes_of(string, byte_level=self._kind == "byte level")
            is_name = string in [_in(self._kind, name) for name in NAMES]
            found[i] = Piece(b"", string) if is_name else Piece(data)
        return found


_TEXTS = st.lists(
    st.sampled_from(
        [*NAMES, *NAMES, "hello", " the", "end", "<", "|", ">", "[", "s", " ", "\n", "é"]
    )
).map("".join)


@pytest.mark.parametrize("kind", ["byte level", "no rule where words end", "a blank in front"])
@settings(max_examples=300)
@given(text=_TEXTS)
def test_the_ids_are_those_without_special_tokens(kind: str, text: str) -> None:
    server: Any = Reads(kind)
    session = Session(Http(read_address("http://127.0.0.1:9")), server, Capabilities())
    text = _in(kind, text)
    assert session.encode(text) == server.plain.encode(text).ids
    assert session.decode(session.encode_more(text), whole=False) == text


def test_a_name_that_cannot_be_cut_is_refused() -> None:
    class One(Reads):
        def tokenize(self, text: str, *, is_start: bool = True) -> list[int]:
            return [0] if text else []

        def pieces(self, ids: Sequence[int]) -> dict[int, Piece]:
            return {0: Piece(b"", "<\x1b>")}

    server: Any = One("byte level")
    with pytest.raises(UserError, match=r"reads <.+> as a special token.*leave it out") as error:
        encode(server, "a<\x1b>", server.tokenize, server.tokenize)
    assert "\x1b" not in str(error.value)


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving(Double().routes()) as found:
        yield found


@pytest.fixture
def session(
    fake: Fake, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr("gpt.remote.token_strings._characters", lambda: "")  # all take seconds
    session = connect(fake.url)
    yield session
    session.close()


def test_typed_text_at_vllm(session: Session) -> None:
    text = "hell<|end|>o<|e<|end|>nd|>"
    for ids in (session.encode(text), session.encode_more(text)):
        assert END not in ids and session.decode(ids) == text
        assert "".join(STRINGS[i] for i in ids) == text
    assert "".join(step.text for step in session.score(session.encode(text), top=1)) == text


def test_a_text_without_names_is_one_request(session: Session, fake: Fake) -> None:
    session.pieces(session.encode("hello <b> "))
    fake.requests.clear()
    session.encode("hello <b> hello")
    assert len(fake.requests) == 1


def test_turns_at_vllm(session: Session) -> None:
    first = session.turn([], "a<|end|>b")
    own = [i for position, i in enumerate(first.ids) if position not in first.template]
    assert session.decode(own) == "a<|end|>b" and END not in own
    assert session.decode(first.ids) == "user: a<|end|>bassistant:"
    assert first.ids.count(END) == 1  # the template's
    later = session.turn([*first.ids, END], "<|end|>")
    assert later.ids.count(END) == 3
    assert session.decode(later.ids).endswith("user: <|end|>assistant:")
    told = session.turn([], "hello", "be brief")
    assert session.decode(told.ids).startswith("system: be brief")
    with pytest.raises(UserError, match="system prompt has the name of a special token"):
        session.turn([], "hello", "be <|end|>brief")
