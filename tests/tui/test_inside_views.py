"""The views of the inside: the numbers on the screen are those of the answers."""

from __future__ import annotations

import math
import re

import pytest

from gpt.interpret.architecture import architecture
from gpt.models import parameters
from tests.conftest import random_model
from tests.tui import fake_inside
from tests.tui.fake import token
from tests.tui.test_inside import TEXT, drawn, inside, press
from tests.tui.test_snapshots import picture
from tui.heat import MEASURES, norm_scale
from tui.inside.head_strips import KINDS, strip
from tui.inside.view import InsideView
from tui.inside.views import VIEWS
from tui.labels import fit_hints, percent


async def test_the_grid_has_each_layers_guess_and_the_ten_best_of_the_cell_under_the_cursor() -> (
    None
):
    async with inside() as (app, _, _, backend):
        shown = drawn(app)
    ids = [ord(c) for c in TEXT + "hello"]
    grid = fake_inside.lens(ids, 100, False)
    column = grid.positions.index(7)
    for row, name in enumerate(("embedding", "1", "2", "▸output")):
        guess = chr(grid.ids[row][column])
        lines = shown.splitlines()
        n = next(n for n, line in enumerate(lines) if line.startswith(f"│ {name} "))
        assert guess in lines[n].split()
        assert f"{100 * math.exp(grid.logprobs[row][column]):.1f}" in lines[n + 1].split()
    assert 'output, for "p"' in shown
    cell = fake_inside.cell(ids[:7], 3, False, 10)
    for each, logprob in zip(cell.tokens, cell.logprobs, strict=True):
        assert f"{each.bytes.decode()} {percent(math.exp(logprob))}" in shown
    assert f"P of the token {percent(0.5)}" in shown
    assert backend.asked_inside[0] == (
        "lens",
        {"ids": tuple(ids), "last": 100, "middle": False},
    )
    assert backend.asked_inside[1][1]["ids"] == tuple(ids[:7])


async def test_moving_asks_only_for_what_is_not_known() -> None:
    async with inside() as (app, screen, pilot, backend):
        backend.asked_inside.clear()
        await press(pilot, "right", "up")
        assert [op for op, _ in backend.asked_inside] == ["cell", "cell"]
        assert screen.place.index == 8 and screen.place.layer == 2
        assert 'layer 2, for "·"' in drawn(app)
        assert f"c {percent(0.9 * 3 / 4)}" in drawn(app), "the number of the grid, not of the cell"
        backend.asked_inside.clear()
        await press(pilot, "left", "down")
        assert [op for op, _ in backend.asked_inside] == ["cell"]  # layer 2 at 7; output is known


async def test_a_key_turns_through_the_numbers_and_the_text_has_them_too() -> None:
    async with inside() as (app, screen, pilot, _):
        for measure in [*MEASURES[1:], MEASURES[0]]:
            await press(pilot, "c")
            assert f"colour: {measure.title}" in drawn(app)
            assert f"{measure.title}, output" in str(screen.around.border_title)
        await press(pilot, "c", "up", "up")  # P of the token: layer 1 says less than the output
        scale = screen.around._scale
        assert scale.heat(screen.place.step) == MEASURES[1].heat(math.log(0.5 * 2 / 4))


async def test_rows_between_attention_and_mlp_come_on_request() -> None:
    async with inside("m", "up") as (app, screen, pilot, backend):
        shown = drawn(app)
        assert "1 attn" in shown and "▸3 attn" in shown
        assert screen.place.is_middle and backend.asked_inside[-1][1]["middle"]
        await press(pilot, "m")
        assert "attn" not in drawn(app) and "▸output" in drawn(app)


async def test_all_heads_are_there_with_the_numbers_of_the_chosen_one() -> None:
    async with inside("2") as (app, screen, pilot, _):
        found = fake_inside.heads([ord(c) for c in TEXT[:7]], True)
        await press(pilot, "up", "h")
        assert (screen.place.layer, screen.place.head) == (2, 2)
        shown = drawn(app)
        assert "layer 2, head 2 looks at" in shown
        weights = found.weights[1][1]
        assert f"−6 {percent(weights[0])}" in shown  # the first token is six back
        assert "first 0.200" in shown and "duplicate –" in shown
        assert strip(weights, 7) in picture(app)
        assert "Attention of layer 2, head 2" in shown
        await press(pilot, "h")
        assert screen.place.head == 1


async def test_heads_are_sorted_by_kind_and_the_kinds_are_explained() -> None:
    async with inside("2", "s") as (app, screen, pilot, _):
        assert "previous-token heads first" in drawn(app)
        assert (screen.place.layer, screen.place.head) == (1, 1)  # 0.9
        await press(pilot, "down")
        assert (screen.place.layer, screen.place.head) == (2, 1)  # 0.8
        await press(pilot, "s", "s")
        assert "No token of this text has" in drawn(app)  # no duplicates
        await press(pilot, "d")
        joined = " ".join(re.sub("[│\n ]+", " ", picture(app)).split())
        for kind in KINDS.values():
            assert kind.heads in joined and kind.score in joined
        assert "arXiv:2209.11895" in joined


def test_a_strip_loses_no_attention() -> None:
    assert strip((0.0, 0.0, 1.0), 3) == "  ▇"
    assert strip((0.25, 0.25, 0.25, 0.25), 2) == "▅▅"
    assert strip((1.0,), 8) == "▇"
    assert strip((), 8) == ""


async def test_the_work_has_the_weights_of_the_heads_to_the_digit() -> None:
    async with inside("3", "up") as (app, _, pilot, _):
        ids = [ord(c) for c in TEXT[:7]]
        found = fake_inside.work(ids, 2, 1, 8)
        shown = drawn(app)
        for row in found.rows:
            score = f"{row.score:.4f}".replace("-", "−")
            dot = f"{row.dot:.4f}".replace("-", "−")
            assert f"{dot} {score} {percent(row.weight)} 2.5000" in shown
        assert "|q| 3.2500" in shown and "scale 0.5 = 1/√4" in shown
        assert "7 tokens, weights sum to 100.0000 %" in shown
        assert "Σ weight · v, |…| 4.5000, [0.0000 0.5000 1.0000 1.5000]" in shown
        assert "added to the stream, |…| 5.2500" in shown
        await press(pilot, "s")
        lines = [line for line in picture(app).splitlines() if "2.5000  [" in line]
        assert percent(max(row.weight for row in found.rows)) in lines[0]


async def test_parts_of_a_logit_stand_to_both_sides_of_zero_and_sum_up() -> None:
    async with inside("4") as (app, screen, pilot, backend):
        assert backend.asked_inside[-1][1] == {
            "ids": tuple(ord(c) for c in TEXT[:7]),
            "chosen": ord("p"),
            "versus": 1,
        }
        shown = drawn(app)
        assert 'logit of "p" minus logit of "x", in nats' in shown
        lines = [line for line in picture(app).splitlines() if "│" in line[1:-1]]
        found = fake_inside.parts([ord("t")], ord("p"), 1)
        order = sorted(found.parts, key=lambda part: -abs(part.value))
        first = next(line for line in lines if "layer" in line)
        assert f"{order[0].value:+.4f}".replace("-", "−") in first
        for line in lines:
            left, _, right = line[1:-1].partition("│")
            assert ("█" in right) == ("+" in left), line
        total = f"{found.total:+.5f}".replace("-", "−")
        assert f"sum of 11 parts {total} · the network's own difference of logits {total}" in shown
        await press(pilot, "v")
        assert backend.asked_inside[-1][1]["versus"] is None
        assert 'logit of "p", in nats' in drawn(app)
        await press(pilot, "s")
        assert "token embedding" in next(
            line for line in picture(app).splitlines() if "│" in line[1:-1]
        )
        await press(pilot, "right")
        assert screen.place.index == 8 and backend.asked_inside[-1][1]["versus"] == 1


async def test_the_model_has_its_shapes_and_the_length_of_the_stream() -> None:
    async with inside("5", "up") as (app, screen, pilot, _):
        shown = drawn(app)
        assert "embedding 1,536 2.00" not in shown  # 1,024 for tokens, 512 for positions: below
        shape = architecture(fake_inside.CONFIG)
        assert f"{shape.n_params:,} parameters" in shown
        assert "attn.qkv 24 × 8 192" in shown
        norms = fake_inside.norms([0] * 7).norms
        for layer in (1, 3):
            assert re.search(rf"layer {layer} [\d,]+ {norms[layer][-1]:.2f}", shown)
        assert "▸ layer 2" in shown and "Length of the residual stream after layer 2" in shown
        await press(pilot, "up", "up")
        assert screen.place.layer == 0 and "wpe 64 × 8 512" in drawn(app)


@pytest.mark.parametrize("changes", [{}, {"tied": True}, {"gated": True, "positions": "rotary"}])
def test_the_model_and_its_card_count_the_same(changes: dict[str, object]) -> None:
    config = random_model(**changes).config
    groups = {"attention": "attention", "mlp": "feed-forward", "norm": "norms"}
    sums: dict[str, int] = {}
    for weight in architecture(config).weights:
        name = groups.get(weight.group, weight.group)
        sums[name] = sums.get(name, 0) + weight.size
    assert sums == {name: n for name, n in parameters(config).items() if n}


def test_norms_are_coloured_from_the_shortest_to_the_longest() -> None:
    scale = norm_scale("Length", {0: 100.0, 1: 1.0, 2: 10.0})
    heats = [scale.heat(token(i, "a")) for i in range(3)]
    assert heats[0] == max(scale.legend.values()) and heats[1] == 0 < heats[2] < heats[0]
    assert norm_scale("Length", {0: 2.0}).heat(token(0, "a")) == 0
    assert norm_scale("Length", {}).heat(token(0, "a")) == 0


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.NAME)
def test_a_key_has_the_same_name_in_the_border_and_in_the_footer(view: type[InsideView]) -> None:
    found = {
        key.strip(): binding.description
        for each in view.__mro__
        for binding in each.__dict__.get("BINDINGS", ())
        for key in binding.key.split(",")
    }
    named = 0
    for hint in view.HELP.split(" · "):
        keys, _, name = hint.partition(" ")
        while len(name.partition(" ")[0]) == 1 and " " in name:  # further keys of the same thing
            name = name.partition(" ")[2]
        description = found.get({"Space": "space"}.get(keys, keys))
        if description is not None:
            named += 1
            assert description in (name, f"next {name}")
    assert named or view.NAME == "Model"  # it has only keys that need no name


def test_hints_that_do_not_fit_are_left_out_whole() -> None:
    assert [fit_hints("a one · b two · c three", width) for width in (3, 12, 13, 22, 23)] == [
        "a one",
        "a one",
        "a one · b two",
        "a one · b two",
        "a one · b two · c three",
    ]
