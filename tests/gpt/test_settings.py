from __future__ import annotations

import pytest

from gpt.__main__ import main
from gpt.checkpoint import Checkpoint
from gpt.errors import UserError
from gpt.generate import Limits, blocked


@pytest.mark.parametrize("n", ["-1", "-2147483648", "2147483648"])
def test_a_number_of_tokens_is_refused_as_other_settings_are(tiny: Checkpoint, n: str) -> None:
    with pytest.raises(SystemExit) as ending:
        main(["complete", "some", "--model", "tiny", "-n", n])
    assert ending.value.code == (
        f"error: max_new_tokens is {n}; it must be a whole number from 0 to 2147483647"
    )


@pytest.mark.parametrize("n", [True, 1.0, "1", None])
def test_a_number_of_tokens_is_a_whole_number(tiny: Checkpoint, n: int) -> None:
    with pytest.raises(UserError, match=r"max_new_tokens is .* must be a whole number from 0"):
        blocked(tiny.new_context(), [1], Limits(n, slide=False))


def test_no_token_at_all_may_be_asked_for(tiny: Checkpoint) -> None:
    assert blocked(tiny.new_context(), [1], Limits(0, slide=False)) == "length"
    assert blocked(tiny.new_context(), [1], Limits(1, slide=False)) is None
