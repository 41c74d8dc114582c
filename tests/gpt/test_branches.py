"""Several branches at once: each is the text that it is alone, and ends alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gpt import checkpoint, models
from gpt.cache import KVCache
from gpt.context import Context, Continuations
from gpt.draw import race
from gpt.errors import UserError
from gpt.fast.branches import TOGETHER, Branch, branches
from gpt.generate import Limits, generate
from gpt.interpret.intervene import intervened
from gpt.interventions import Edge, Intervention, Knockout, Steer
from gpt.progress import Watcher
from gpt.settings import Sampling
from gpt.step import Step
from tests.conftest import context_of, random_model
from tests.gpt.test_quantize import VARIANTS

ROUNDING = 1e-4
"""Largest difference of log-probabilities in float32; they are at most some tens of nats."""
SETTINGS: dict[str, dict[str, Any]] = {
    "as the model": {},
    "greedy": {"temperature": 0},
    "top-k": {"temperature": 0.7, "top_k": 5},
    "top-p": {"top_p": 0.8, "min_p": 0.02},
    "penalties": {"repetition_penalty": 1.4, "presence_penalty": 0.3, "frequency_penalty": 0.2},
    "dry": {"dry_multiplier": 0.8, "dry_allowed_length": 1},
    "mirostat": {"mirostat_tau": 2.5, "mirostat_eta": 0.3},
    "xtc": {"xtc_probability": 0.5, "typical_p": 0.9},
    "dynamic temperature": {"dynatemp_range": 0.5, "top_n_sigma": 1.5},
    "words": {"banned": [[3], [4, 5]], "boosted": [[[6], 1.5], [[7, 8], 3.0]]},
}


def alone(
    context: Context, ids: list[int], wanted: list[Branch], limits: Limits
) -> list[list[Step]]:
    """Each branch by `generate`, in a context of its own."""
    found = []
    for branch in wanted:
        fresh = Context(context.model, context.tokenizer, context.ends)
        found.append(list(generate(fresh, ids, branch.sampling, limits, watcher=branch.watcher)))
    return found


def at_once(
    context: Context, ids: list[int], wanted: list[Branch], limits: Limits
) -> list[list[Step]]:
    found: list[list[Step]] = [[] for _ in wanted]
    for number, step in branches(context, ids, wanted, limits):
        found[number].append(step)
    return found


def assert_same(found: list[Step], expected: list[Step], rounding: float = ROUNDING) -> None:
    """The same tokens and ends; the same numbers, except for rounding."""
    assert [step.token_id for step in found] == [step.token_id for step in expected]
    for mine, theirs in zip(found, expected, strict=True):
        numbers: dict[str, Any] = dict.fromkeys(
            ("logprob", "entropy", "sampling_logprob", "mirostat_mu"), 0.0
        )
        assert mine._replace(**numbers, candidates=()) == theirs._replace(**numbers, candidates=())
        for name in numbers:
            assert getattr(mine, name) == pytest.approx(getattr(theirs, name), abs=rounding)
        by_id = {each.token_id: each for each in theirs.candidates}
        for each in mine.candidates:  # candidates that tie may be in any order
            if each.token_id in by_id:
                assert each.logprob == pytest.approx(by_id[each.token_id].logprob, abs=rounding)
        assert len(mine.candidates) == len(theirs.candidates)


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_branch_is_the_text_that_it_is_alone(setting: str) -> None:
    context = context_of(random_model())
    wanted = [Branch(Sampling(seed=seed, **SETTINGS[setting])) for seed in range(9)]
    limits = Limits(25)
    found = at_once(context, [1, 2, 4], wanted, limits)
    for mine, theirs in zip(found, alone(context, [1, 2, 4], wanted, limits), strict=True):
        assert_same(mine, theirs)
    n_texts = len({tuple(step.token_id for step in text) for text in found})
    assert (n_texts == 1) == (setting == "greedy")


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_network_can_draw_branches(variant: str) -> None:
    context = context_of(random_model(**VARIANTS[variant]))
    wanted = [Branch(Sampling(seed=seed)) for seed in range(4)]
    found = at_once(context, [1, 2], wanted, Limits(20))
    for mine, theirs in zip(found, alone(context, [1, 2], wanted, Limits(20)), strict=True):
        assert_same(mine, theirs)


@given(st.data())
@settings(max_examples=15)
def test_every_branch_ends_where_it_would_end_alone(data: st.DataObject) -> None:
    context = context_of(random_model())
    ids = data.draw(st.lists(st.integers(0, 28), min_size=1, max_size=32))
    seeds = data.draw(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=6))
    context.ends = frozenset(data.draw(st.lists(st.integers(0, 28), max_size=3)))
    stops = data.draw(st.lists(st.text("abcdef", min_size=1, max_size=2), max_size=3))
    limits = Limits(data.draw(st.integers(0, 50)), stops, data.draw(st.booleans()))
    wanted = [Branch(Sampling(seed=seed, temperature=0.9)) for seed in seeds]
    found = at_once(context, ids, wanted, limits)
    for mine, theirs in zip(found, alone(context, ids, wanted, limits), strict=True):
        assert_same(mine, theirs)


def test_a_window_slides_for_all_branches_at_the_same_time() -> None:
    context = context_of(random_model())
    wanted = [Branch(Sampling(seed=seed)) for seed in range(5)]
    limits = Limits(120, slide=True)
    ids = [i % 29 for i in range(30)]
    found = at_once(context, ids, wanted, limits)
    assert [len(text) for text in found] == [120] * 5, "longer than the block of 32 tokens"
    for mine, theirs in zip(found, alone(context, ids, wanted, limits), strict=True):
        assert_same(mine, theirs)


@pytest.mark.parametrize(("dtype", "rounding"), [("float16", 0.02), ("bfloat16", 0.3)])
def test_branches_of_16_bits_part_only_by_their_rounding(dtype: str, rounding: float) -> None:
    """Activations of one position are rounded to 16 bits, and those of several in another way."""
    context = checkpoint.load(models.find(models.EMBEDDED), "cpu", dtype).new_context()
    ids = context.encode("ROMEO:\n")
    wanted = [Branch(Sampling(seed=seed, temperature=0.8)) for seed in range(4)]
    found = at_once(context, ids, wanted, Limits(25))
    for mine, theirs in zip(found, alone(context, ids, wanted, Limits(25)), strict=True):
        both = list(zip(mine, theirs, strict=True))
        parted = next((i for i, (a, b) in enumerate(both) if a.token_id != b.token_id), 25)
        assert parted > 1
        for a, b in both[:parted]:
            assert a.logprob == pytest.approx(b.logprob, abs=rounding)
        for a, b in both[parted : parted + 1]:  # the last distribution that is of the same text
            assert a.entropy == pytest.approx(b.entropy, abs=rounding)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_the_shipped_model_draws_the_same_texts_with_many_seeds(dtype: str) -> None:
    context = checkpoint.load(models.find(models.EMBEDDED), "cpu", dtype).new_context()
    ids = context.encode("To be, or not")
    wanted = [Branch(Sampling(seed=seed)) for seed in range(TOGETHER + 3)]
    limits = Limits(10)
    found = at_once(context, ids, wanted, limits)
    for mine, theirs in zip(found, alone(context, ids, wanted, limits), strict=True):
        assert_same(mine, theirs, rounding=ROUNDING if dtype == "float32" else 2e-3)


class Slow:
    """Machine code that is as fast as a test says, and computes what the network does."""

    def __init__(self, context: Context) -> None:
        self._model = context.model
        self.n_calls = 0

    def hidden(self, token_id: int, cache: KVCache) -> Tensor:
        self.n_calls += 1
        return self._model.hidden(torch.tensor([[token_id]]), cache)[0, 0]

    def race(self, *arguments: Tensor) -> tuple[Tensor, Tensor]:
        return race(*arguments)

    def rows(self, *arguments: Tensor | KVCache) -> None:
        return None

    def prediction(self, *hidden: Tensor) -> None:
        return None


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_machine_code_for_single_texts_is_used_where_it_is_faster(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of(random_model())
    context.step = code = Slow(context)
    taken: list[float] = []

    def least(call: Callable[[], object], threads: int) -> float:
        call()
        taken.append(3 * factor if not taken else 1.0)  # three together, then one alone
        return taken[-1]

    monkeypatch.setattr("gpt.fast.branches.least_seconds", least)
    wanted = [Branch(Sampling(seed=seed)) for seed in range(3)]
    expected = alone(context, [1, 2], wanted, Limits(9))
    for _ in range(2):
        code.n_calls = 0
        found = at_once(context, [1, 2], wanted, Limits(9))
        for mine, theirs in zip(found, expected, strict=True):
            assert_same(mine, theirs)
    assert len(taken) == 2, "it is measured once"
    assert (code.n_calls > 9) == (factor > 1)


@pytest.mark.parametrize(
    ("at_once_at_most", "expected"),
    [(9, [0, 1, 2] * 4), (2, [0, 1] * 4 + [2] * 4), (1, [0] * 4 + [1] * 4 + [2] * 4)],
)
def test_branches_that_are_not_one_batch_grow_in_turn_while_their_caches_have_room(
    at_once_at_most: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gpt.fast.branches._is_faster_together", lambda context, n: False)
    context = context_of(random_model())
    room = at_once_at_most * context.cache.bytes_for(3 + 4)
    monkeypatch.setattr("gpt.fast.branches.CACHES", room)
    wanted = [Branch(Sampling(seed=seed)) for seed in range(3)]
    drawn = list(branches(context, [1, 2, 3], wanted, Limits(4)))
    assert [number for number, _ in drawn] == expected
    for number, text in enumerate(alone(context, [1, 2, 3], wanted, Limits(4))):
        assert_same([step for i, step in drawn if i == number], text)


def test_a_copied_context_reads_on_by_itself() -> None:
    context = context_of(random_model())
    before = context.read([1, 2, 3])[:]
    other = context.copy()
    more = other.read([1, 2, 3, 4])[:]
    assert context.ids == [1, 2, 3] and context.cache.length == 3
    assert all(a is b for a, b in zip(other.read([1, 2, 3]), before, strict=True)), "not read anew"
    expected = Context(context.model, context.tokenizer).read([1, 2, 3, 4])
    torch.testing.assert_close(torch.stack(more), torch.stack(expected))
    ours = context.read([1, 2, 3, 7])[-1]
    torch.testing.assert_close(
        ours, Context(context.model, context.tokenizer).read([1, 2, 3, 7])[-1]
    )


def test_the_memory_of_a_cache_is_known_beforehand() -> None:
    context = context_of(random_model())
    context.read([*range(29), 1, 2, 3])
    memory = context.cache.memory(32)
    assert context.cache.bytes_for(32) == memory.numel() * memory.itemsize
    assert context.cache.bytes_for(10**9) == context.cache.bytes_for(32)


CHANGES: dict[str, tuple[Intervention, ...]] = {
    "head": (Knockout(part="head", layer=1, head=2),),
    "mlp": (Knockout(part="mlp", layer=2),),
    "edge": (Edge(source=1),),
    "edge of a head": (Edge(source=0, target=2, layer=1, head=2), Edge(source=2, layer=2, head=1)),
    "edge to a drawn token": (Edge(source=1, target=5), Edge(source=4, target=6)),
    "direction": (Steer(layer=1, towards=("ab",), away=("cd",), strength=2.0),),
}


@pytest.mark.parametrize("variant", ["ours", "llama"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_network_draws_branches(change: str, variant: str) -> None:
    context = context_of(random_model(**VARIANTS[variant]))
    wanted = [Branch(Sampling(seed=seed)) for seed in range(4)]
    ids, limits = [1, 2, 4], Limits(12)
    plain = at_once(context, ids, wanted, limits)
    with intervened(context, CHANGES[change], ids) as changed:
        found = at_once(changed, ids, wanted, limits)
        for mine, theirs in zip(found, alone(changed, ids, wanted, limits), strict=True):
            assert_same(mine, theirs)
    assert [s.logprob for s in found[0]] != [s.logprob for s in plain[0]]


def test_a_cancelled_branch_ends_and_the_others_do_not() -> None:
    context = context_of(random_model())
    drawn = [0] * 3

    def watcher(number: int, longest: int) -> Watcher:
        return Watcher(lambda: drawn[number] >= longest)

    wanted = [Branch(Sampling(seed=i), watcher(i, n)) for i, n in enumerate((99, 4, 99))]
    found: list[list[Step]] = [[] for _ in wanted]
    for number, step in branches(context, [1, 2], wanted, Limits(20)):
        found[number].append(step)
        drawn[number] += 1
    reasons = [(len(text), text[-1].finish_reason) for text in found]
    assert reasons == [(20, "length"), (5, "cancelled"), (20, "length")]
    free = [Branch(branch.sampling) for branch in wanted]
    for mine, theirs in zip(found, alone(context, [1, 2], free, Limits(20)), strict=True):
        assert [step.token_id for step in mine] == [s.token_id for s in theirs][: len(mine)]


def test_nothing_is_drawn_if_all_are_cancelled_while_the_prompt_is_read() -> None:
    context = context_of(random_model())
    wanted = [Branch(Sampling(seed=i), Watcher(lambda: True)) for i in range(3)]
    assert not list(branches(context, [1, 2, 3], wanted, Limits(9)))


def test_what_cannot_be_drawn_is_as_alone() -> None:
    context = context_of(random_model())
    wanted = [Branch(Sampling(seed=i)) for i in range(3)]
    full = [1] * 32
    assert not list(branches(context, full, wanted, Limits(9)))
    with pytest.raises(UserError, match="the prompt is empty"):
        list(branches(context, [], wanted, Limits(9)))
    everything = Sampling(banned=tuple((i,) for i in range(29)))
    with pytest.raises(UserError, match="banned"):
        list(branches(context, [1], [Branch(everything)] * 2, Limits(9)))


def test_the_context_can_read_something_else_between_two_tokens() -> None:
    context = context_of(random_model())
    wanted = [Branch(Sampling(seed=i)) for i in range(3)]
    expected = alone(context, [1, 2, 3], wanted, Limits(9))
    found: list[list[Step]] = [[] for _ in wanted]
    for number, step in branches(context, [1, 2, 3], wanted, Limits(9)):
        found[number].append(step)
        context.read([7, 8, 9, 10])
    for mine, theirs in zip(found, expected, strict=True):
        assert_same(mine, theirs)


@given(st.data())
@settings(max_examples=30)
def test_a_tree_of_continuations_has_the_states_of_each_text(data: st.DataObject) -> None:
    variant = data.draw(st.sampled_from(list(VARIANTS)))
    model = random_model(**VARIANTS[variant])
    context = context_of(model)
    texts = [data.draw(st.lists(st.integers(0, 28), max_size=4))]
    context.read(texts[0])
    tree = Continuations(context, len(texts[0]))
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=4))
        some = st.lists(st.integers(0, 28), min_size=1, max_size=3)
        ids = [data.draw(some) for _ in rows]
        states = tree.read(rows, ids)
        texts = [texts[row] + more for row, more in zip(rows, ids, strict=True)]
        for text, more, found in zip(texts, ids, states, strict=True):
            expected = model.hidden(torch.tensor([text]))[0, -len(more) :]
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_text_is_in_memory_once_for_all_its_continuations() -> None:
    context = context_of(random_model(block_size=1024))
    context.read([1] * 1000)
    tree = Continuations(context, 1000)
    tree.read([0] * 20, [[i] for i in range(20)])
    memory = tree._cache.memory(1020)
    assert memory.shape[:4] == (2, 2, 1, 2) and memory.shape[4] == 1020


def test_keys_and_values_are_rounded_as_in_a_single_text() -> None:
    context = checkpoint.load(models.find(models.EMBEDDED), "cpu", "int8").new_context()
    context.read([1, 2, 3])
    tree = Continuations(context, 3)
    tree.read([0, 0], [[4], [5]])
    memory = tree._cache.memory(5)
    assert memory.dtype == torch.float32
    assert torch.equal(memory, memory.half().float())
