"""The most probable tokens of a distribution."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.prediction import TOP, predict


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 3),
    size=st.integers(1, 300) | st.integers(8100, 9000),
    n_values=st.sampled_from([1, 5, 200, 10**6]),
    rising=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_the_best_tokens_are_those_of_a_full_search(
    n: int, size: int, n_values: int, rising: bool, seed: int
) -> None:
    """With few values, many tokens tie; if logits rise with the id, the best are neighbours."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randint(n_values, (n, size), generator=generator) * 1e-5
    if rising:
        logits = logits.sort(dim=-1).values
    found = predict(logits)
    expected = found.logprobs.topk(min(TOP, size), dim=-1).values
    assert torch.equal(found.top_logprobs, expected)
    assert torch.equal(found.logprobs.gather(-1, found.top_ids), expected)
    assert all(len(set(ids)) == len(ids) for ids in found.top_ids.tolist())
