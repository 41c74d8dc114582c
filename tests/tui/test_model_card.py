"""The card of a model, and the dialog that shows it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import OptionList, Static

from gpt import models, tokenizer
from gpt.checkpoint import save
from gpt.config import ModelConfig
from gpt.model import GPT
from gpt.models import Manifest
from gpt.sanitize import one_line
from gpt.tokenizer import CharTokenizer
from tests.conftest import CHARACTERS, random_model
from tui.model_card import Card, card, short_count, short_size
from tui.screens.models import ModelPicker

PARTS = {
    "wte": "embedding",
    "proj_in": "embedding",
    "wpe": "positions",
    "attn": "attention",
    "mlp": "feed-forward",
    "ln_1": "norms",
    "ln_2": "norms",
    "ln_f": "norms",
    "lm_head": "output",
    "proj_out": "output",
}
"""Part of a parameter's name → part of the network."""
configs = st.builds(
    ModelConfig,
    vocab_size=st.integers(1, 50),
    block_size=st.integers(1, 20),
    n_layer=st.integers(0, 3),
    n_head=st.just(2),
    n_embd=st.sampled_from([4, 8, 12]),
    n_kv_head=st.sampled_from([None, 1, 2]),
    head_dim=st.sampled_from([None, 2, 6]),
    qk_norm=st.booleans(),
    qkv_bias=st.none() | st.booleans(),
    norm=st.sampled_from(["layernorm", "rmsnorm"]),
    norm_gain=st.booleans(),
    final_norm=st.booleans(),
    gated=st.booleans(),
    n_inner=st.none() | st.integers(1, 9),
    bias=st.booleans(),
    positions=st.sampled_from(["learned", "rotary"]),
    embd_dim=st.none() | st.integers(1, 9),
    tied=st.booleans(),
)


@given(configs)
def test_the_parameters_of_each_part_are_those_of_the_network(config: ModelConfig) -> None:
    with torch.device("meta"):
        network = GPT(config)
    expected = dict.fromkeys(dict.fromkeys(PARTS.values()), 0)
    for name, weight in network.named_parameters():
        part = next(PARTS[piece] for piece in name.split(".") if piece in PARTS)
        expected[part] += weight.numel()
    assert models.parameters(config) == expected


def test_the_files_of_tokenizers_are_those_that_are_read() -> None:
    files = tokenizer.CHARACTERS_FILE, tokenizer.VOCAB_FILE, tokenizer.JSON_FILE
    assert tuple(models.TOKENIZERS) == files


def facts(shown: Card) -> dict[str, str]:
    return dict(shown.facts)


def test_the_card_of_the_embedded_model() -> None:
    manifest = models.available()["shakespeare"]
    found = card("shakespeare", manifest)
    told = facts(found)
    assert told["Network"] == "6 layers × 6 heads × 384 wide"
    assert told["Context"] == "256 tokens"
    assert told["Vocabulary"] == "65 characters"
    assert told["Parameters"] == "10.7 M"
    assert told["On disk"] == "21.3 MB, bfloat16"
    assert told["Training"] == "2,000 steps on tinyshakespeare.txt"
    assert told["Loss"].startswith("1.372 nats per character (1.98 bits)")
    assert "MIT" in told["Licence"] and "Verified" not in told
    assert sum(n for _, n in found.parts) == manifest.n_params
    assert "norms" not in dict(found.parts)  # it has none with parameters


def test_the_card_names_the_heads_that_are_shared(home: Path) -> None:
    save(home / "models" / "grouped", random_model(n_kv_head=1), CharTokenizer(CHARACTERS))
    told = facts(card("grouped", models.available()["grouped"]))
    assert told["Network"] == "2 layers × 2 heads, 1 key/value × 16 wide"
    assert told["KV cache"].startswith("64 bytes a token")  # 2 layers of a key and a value of 8


def installed(home: Path, name: str, origin: dict[str, Any]) -> Manifest:
    save(home / "models" / name, random_model(), CharTokenizer(CHARACTERS), origin=origin)
    return models.available()[name]


def test_the_card_of_a_converted_model(home: Path) -> None:
    verification = {"status": "passed", "logits": 2.1e-5, "transformers": "4.57"}
    origin = {
        "kind": "hub",
        "model": "openai/tiny",
        "revision": "0123456789abcdef",
        "chat_template": True,
        "license": "mit",
        "verification": verification,
        "notices": [f"notice {i}" for i in range(5)],
    }
    told = facts(card("tiny", installed(home, "tiny", origin)))
    assert told["Source"] == "hub: openai/tiny, revision 0123456789ab"
    assert told["Licence"] == "mit"
    assert told["Verified"] == "same as transformers 4.57: logits differ by at most 2e-05"
    assert told["Chat"] == "has its own template"
    assert told["Note"] == "2 more in the manifest" and "Loss" not in told
    origin["verification"] = {"status": "skipped", "reason": "--no-verify"}
    told = facts(card("tiny", installed(home, "tiny", origin)))
    assert told["Verified"] == "no (skipped: --no-verify)"


def test_a_damaged_configuration_is_named(home: Path) -> None:
    manifest = installed(home, "bad", {})
    (home / "models" / "bad" / "config.json").write_text('{"n_layer": "\\u001b[31m"}')
    found = card("bad", manifest)
    assert "config.json" in facts(found)["Problem"] and not found.parts


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=5), inside),
    max_leaves=5,
)
FIELDS = (
    "kind model revision license step settings data validation verification notices ends_turns"
    " chat_template"
).split()


@given(st.dictionaries(st.sampled_from(FIELDS), anything), st.integers(0, 2**63 - 1))
def test_any_manifest_gives_a_card_of_plain_lines(origin: dict[str, Any], n_params: int) -> None:
    files = {"vocab.json": {"size": n_params}}
    found = card("shakespeare", Manifest("int8", n_params, files, origin))
    for label, value in found.facts:
        assert label and one_line(value) == value and len(value) <= 200


@given(st.integers(0, 2**80))
def test_numbers_are_short(n: int) -> None:
    assert len(short_count(n)) <= 9
    assert short_size(n)


def test_the_dialog_neither_loads_torch_nor_reads_weights(tiny_directory: Path) -> None:
    (tiny_directory / "model.safetensors").write_bytes(b"")  # reading it would fail
    program = (
        "import sys; from gpt import models; from tui.screens.models import ModelPicker;"
        "from tui.model_card import card; ModelPicker('x');"
        "print([card(n, m).parts != () for n, m in models.available().items()]);"
        "print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[True, True]", "False"]


class Asking(App[None]):
    """Opens the dialog alone."""

    def __init__(self, current: str, others: Sequence[str]) -> None:
        super().__init__()
        self.picker = ModelPicker(current, others=others)
        self.answers: list[str | None] = []

    def on_mount(self) -> None:
        self.push_screen(self.picker, self.answers.append)

    @property
    def shown(self) -> str:
        """What the card says, without its wrapping."""
        facts = self.picker.query_one("#facts", Static)
        lines = [facts.render_line(y).text for y in range(facts.size.height)]
        return " ".join(" ".join(lines).split())


@asynccontextmanager
async def asking(
    size: tuple[int, int] = (100, 40), current: str = "shakespeare", others: Sequence[str] = ()
) -> AsyncIterator[tuple[Asking, Pilot[None]]]:
    app = Asking(current, others)
    async with app.run_test(size=size) as pilot:
        while not app.picker.is_current or not app.picker.is_shown:
            await pilot.pause()
        await pilot.pause()
        yield app, pilot


async def test_a_model_from_another_place_is_in_the_list_and_none_twice(
    tiny_directory: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tiny_directory, elsewhere)
    others = (str(elsewhere), str(tiny_directory), "nowhere", "m@http://127.0.0.1:9")
    async with asking(current=str(elsewhere), others=others) as (app, pilot):
        assert app.picker._names[:3] == ["shakespeare", "tiny", str(elsewhere)]
        assert "▸ elsewhere" in app.picker._line(str(elsewhere))
        await pilot.press("enter")
        assert await answered(app, pilot) == str(elsewhere)


async def answered(app: Asking, pilot: Pilot[None]) -> str | None:
    while not app.answers:
        await pilot.pause()
    return app.answers[0]


SIZES = [(60, 20), (80, 24), (120, 40), (200, 60)]


@pytest.mark.usefixtures("tiny_directory")
@pytest.mark.parametrize("size", SIZES)
async def test_the_card_follows_the_list_and_enter_loads(size: tuple[int, int]) -> None:
    async with asking(size) as (app, pilot):
        assert "65 characters" in app.shown
        for widget in ("#list", "#card", "#load", "#back"):
            region = app.picker.query_one(widget).region
            frame = app.picker.query_one("#models").content_region
            assert region.area and frame.contains_region(region), widget
        await pilot.press("down")
        await pilot.pause()
        assert "2 layers × 2 heads × 16 wide" in app.shown and "29 characters" in app.shown
        await pilot.press("enter")
        assert await answered(app, pilot) == "tiny"


@pytest.mark.usefixtures("tiny_directory")
async def test_the_whole_card_can_be_read_by_keys_in_a_small_terminal() -> None:
    async with asking((60, 20)) as (app, pilot):
        card_view = app.picker.query_one("#card")
        assert card_view.max_scroll_y > 0
        await pilot.press("tab", "end")
        await pilot.pause()
        assert card_view.scroll_y == card_view.max_scroll_y
        await pilot.press("enter")  # acts from here as well
        assert await answered(app, pilot) == "shakespeare"


async def test_escape_leaves() -> None:
    async with asking() as (app, pilot):
        await pilot.press("escape")
        assert await answered(app, pilot) is None


@pytest.mark.usefixtures("tiny_directory")
async def test_a_click_shows_a_card_and_a_second_one_loads() -> None:
    async with asking() as (app, pilot):
        options = app.picker.query_one(OptionList)
        await pilot.click(options, offset=(5, 1))
        await pilot.pause()
        assert not app.answers and "29 characters" in app.shown
        await pilot.click(options, offset=(5, 1))
        assert await answered(app, pilot) == "tiny"


@pytest.mark.parametrize(("button", "answer"), [("#load", "shakespeare"), ("#back", None)])
async def test_the_buttons_answer(button: str, answer: str | None) -> None:
    async with asking() as (app, pilot):
        await pilot.click(button)
        assert await answered(app, pilot) == answer


@pytest.mark.skipif(os.name == "nt", reason="Windows refuses such a name")
async def test_a_hostile_manifest_is_shown_harmlessly(home: Path) -> None:
    name = "\x1b[31m[b]evil"
    installed(home, name, {"kind": "[blink]\x1b]0;x\x07", "model": "ш" * 900})
    path = home / "models" / name / "manifest.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "n_params": 2**63 - 1}))
    async with asking((80, 24), name) as (app, pilot):
        shown = app.shown
        assert "\x1b" not in app.export_screenshot() and "\x1b" not in shown
        assert "␛[31m[b]evil" in shown and "[blink]␛]0;x␇" in shown
        await pilot.press("enter")
        assert await answered(app, pilot) == name
