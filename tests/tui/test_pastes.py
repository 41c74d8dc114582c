"""Escape characters inside a paste, wherever the terminal's bytes are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tui.terminal import Pastes

KEYS = st.text("ab\x1b[A~20", max_size=6)
PASTE = st.text("ab\n\x1b[201;~", max_size=12).filter(lambda text: "\x1b[201~" not in text)


@given(st.lists(st.tuples(KEYS, PASTE), max_size=4), KEYS, st.data())
def test_only_what_is_pasted_loses_them(
    parts: list[tuple[str, str]], last: str, data: st.DataObject
) -> None:
    parts = [(keys.replace("\x1b[200~", ""), paste) for keys, paste in parts]
    whole = "".join(f"{keys}\x1b[200~{paste}\x1b[201~" for keys, paste in parts) + last
    expected = "".join(
        f"{keys}\x1b[200~{paste.replace(chr(27), '')}\x1b[201~" for keys, paste in parts
    )
    pastes, found, at = Pastes(), "", 0
    while at < len(whole):
        length = data.draw(st.integers(1, 9))
        found += pastes.clean(whole[at : at + length])
        at += length
    assert found == expected + last


def test_a_lone_escape_does_not_wait() -> None:
    pastes = Pastes()
    assert pastes.clean("\x1b") == "\x1b"
    assert pastes.clean("[200~a\x1b[2") == "[200~a"
    assert pastes.clean("01~b") == "\x1b[201~b"
