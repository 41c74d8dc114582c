"""A model at a server on the screen: what it cannot answer is said, and nothing is pretended."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence

import pytest
from textual.widgets import Button, OptionList

from gpt.capabilities import Capabilities
from gpt.interpret.answers import Row, Waterfall
from gpt.interventions import Intervention
from gpt.settings import Sampling
from gpt.step import Candidate, Step
from tests.tui.fake import FakeBackend, app_with, main_screen, running
from tests.tui.test_app import complaints, until_written, write
from tests.tui.test_branching import at
from tests.tui.test_possible import offered
from tui.backend import BackendError, Completion, Done, Event, Loaded, Steps
from tui.export.page import _card
from tui.labels import model_name
from tui.node import Node
from tui.screens.models import ModelPicker
from tui.screens.server import ServerScreen
from tui.server_card import server_card
from tui.servers import Servers, read_server
from tui.widgets.inspector import describe, rows
from tui.widgets.status import Status

CAN = Capabilities(
    server="vLLM 0.32.0",
    address="http://127.0.0.1:8000",
    models=("fake", "large"),
    candidates=20,
    is_exact=False,
    seed="best effort",
    settings=("temperature", "top_p"),
    inside=False,
)


def drawn(position: int, text: str, rank: int | None = None) -> Step:
    """A token as a server tells it: two candidates, no rank beyond them, a bound."""
    best = tuple(Candidate(ord(c), c.encode(), math.log(p)) for c, p in (("x", 0.5), ("y", 0.2)))
    number = ord(text)
    return Step(
        position, number, text.encode(), text, math.log(0.1), rank, 1.5, best, entropy_is_bound=True
    )


class Served(FakeBackend):
    """A server that can break in the middle of an answer."""

    def __init__(self, reply: str = "hello", capabilities: Capabilities = CAN) -> None:
        super().__init__(reply)
        self.capabilities = capabilities
        self.breaks_after: int | None = None

    async def load(
        self, model: str, *, second: bool = False, probe: bool = False
    ) -> AsyncIterator[Event]:
        async for event in super().load(model, second=second, probe=probe):
            yield event._replace(vocab_size=0) if isinstance(event, Loaded) else event

    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        self.requests.append(request)
        first = len(request.ids) - request.new_ids
        yield Steps([drawn(first + i, c) for i, c in enumerate(request.text)], is_prompt=True)
        first += len(request.text)
        for i, character in enumerate(self.reply):
            if i == self.breaks_after:
                raise BackendError("the server at 127.0.0.1:8000 ended the connection")
            yield Steps([drawn(first + i, character)], is_prompt=False)
        yield Done("length", len(self.reply), 0.5)

    async def waterfall(
        self,
        ids: list[int],
        chosen: int,
        sampling: Sampling,
        changes: tuple[Intervention, ...] = (),
        also: Sequence[int] = (),
    ) -> Waterfall:
        self.asked.append((ids, chosen, sampling))
        rows = Row(120, b"x", (0.5, 0.7), None), Row(chosen, bytes([chosen]), (0.1, 0.1), None)
        return Waterfall(len(ids), ("model", "temperature"), rows, 1, (0.4, 0.2), (3, 3), -1)


def test_the_numbers_say_when_they_are_bounds() -> None:
    said = "\n".join(line.plain for line in describe(drawn(7, "h"), False, is_served=True))
    assert "rank below the first 2" in said
    assert "≥ 4.5 equally likely" in said and "entropy ≥ 1.50 nats" in said
    assert "drawn by the server" in said
    exact = drawn(7, "h", rank=5)._replace(entropy_is_bound=False)
    said = "\n".join(line.plain for line in describe(exact, False))
    assert "rank 5" in said and "≈ 4.5 equally likely" in said and "entropy 1.50 nats" in said
    assert "≥" not in said and "server" not in said


def test_a_token_without_a_number_says_why() -> None:
    first, later = (Step(i, 1, b"a", "a") for i in (0, 3))
    assert describe(first)[1].plain == "First token: nothing to predict it from"
    assert describe(later)[1].plain == "The server gives no probability for it"


def test_what_is_beyond_the_candidates_is_the_rest() -> None:
    shown = rows(drawn(7, "h"), vocab_size=0)
    assert [row.label for row in shown] == ["x", "y", "h", "rest"]
    assert shown[-1].own == pytest.approx(0.2) and shown[-1].is_rest
    assert rows(drawn(7, "h"), vocab_size=50)[-1].label == "47 more"


def test_an_export_says_the_same() -> None:
    card = _card(Node(drawn(7, "h"), is_prompt=False))
    assert any("rank below the first 2" in line for line in card)
    assert any("≥ 4.5 equally likely" in line for line in card)


def test_settings_that_the_server_ignores_do_not_act() -> None:
    sampling = Sampling(temperature=0.5, repetition_penalty=1.3, banned=((1,),), seed=3)
    assert CAN.ignored(sampling) == ("banned", "repetition_penalty")
    assert CAN.applied(sampling) == Sampling(temperature=0.5, seed=3)
    assert Capabilities().ignored(sampling) == ()
    assert Capabilities().applied(sampling) == sampling


async def test_layers_are_greyed_out_and_say_why() -> None:
    app = app_with(Served())
    async with running(app, size=(160, 40)) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 4)
        assert "take" in offered(screen) and "layers" not in offered(screen)
        for action in ("layers", "attention", "attribution"):
            assert screen.check_action(action, ()) is None
        for key in ("e", "a", "E"):
            app.clear_notifications()
            await pilot.press(key)
            await pilot.pause()
            assert complaints(app) == ["A server does not show its insides."]
        assert screen.check_action("paths", ()) and screen.check_action("waterfall", ())


async def test_the_line_of_facts_names_the_server() -> None:
    app = app_with(Served())
    async with running(app, size=(160, 40)) as pilot:
        screen = await write(pilot, app, "abc")
        facts = screen.query_one(Status).render().plain
        assert "vLLM server at 127.0.0.1:8000" in facts
        assert "float32" not in facts and "cpu" not in facts


def test_the_line_of_facts_leaves_out_what_the_server_does_not_say() -> None:
    status = Status()
    loaded = Loaded("tiny", "server", "", 0, 0, 0, capabilities=CAN)
    facts = list(status._facts(loaded, says_drawn=True))
    assert facts == ["tiny", "vLLM server at 127.0.0.1:8000", "context 0"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/home/me/models/tiny.Q8_0.gguf", "tiny.Q8_0.gguf"),
        ("models/tiny.GGUF", "tiny.GGUF"),
        ("C:\\models\\tiny", "tiny"),
        ("./tiny/", "tiny"),
        ("meta-llama/Llama-3.3-70B", "meta-llama/Llama-3.3-70B"),
        ("/", "/"),
        ("", ""),
        ("/a/\x1b[2J.gguf", "␛[2J.gguf"),
    ],
)
def test_a_model_is_shown_by_the_name_of_its_file(name: str, shown: str) -> None:
    assert model_name(name) == shown


@pytest.mark.parametrize("width", [60, 80, 120])
async def test_a_long_name_does_not_push_out_the_server(width: int) -> None:
    app = app_with(Served())
    async with running(app, size=(width, 24)) as pilot:
        screen = await write(pilot, app, "abc")
        status = screen.query_one(Status)
        assert status.model is not None
        status.model = status.model._replace(name="/models/" + "long-" * 30 + ".gguf")
        facts = status.render().plain
        assert len(facts) <= width and facts.endswith("vLLM server at 127.0.0.1:8000")
        status.model = status.model._replace(name="/" + "directory/" * 20 + "tiny.gguf")
        assert "tiny.gguf 1.0M · vLLM server at 127.0.0.1:8000" in status.render().plain


async def test_nothing_can_be_changed_inside_a_server() -> None:
    app = app_with(Served())
    async with running(app, size=(160, 40)) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 4)
        app.clear_notifications()
        await pilot.press("K")
        await pilot.pause()
        assert complaints(app) == ["A server does not show its insides."]


async def test_a_bound_is_explained_below_the_token() -> None:
    app = app_with(Served())
    async with running(app, size=(160, 40)) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 4)
        assert "≥ at least" in str(screen.inspector.border_subtitle)
        screen.inspector.step = drawn(7, "h")._replace(entropy_is_bound=False)
        assert "≥" not in str(screen.inspector.border_subtitle)


async def test_a_run_says_once_what_the_server_ignores_and_records_what_acted() -> None:
    app = app_with(Served(), dials={"repetition_penalty": 1.3, "top_p": 1.0, "temperature": 0.5})
    async with running(app, size=(160, 40)) as pilot:
        screen = await write(pilot, app, "abc")
        assert complaints(app) == ["The server ignores: repetition."]
        sampling = screen.document.path[-1].sampling
        assert sampling is not None
        assert (sampling.temperature, sampling.repetition_penalty) == (0.5, 1.0)
        app.clear_notifications()
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        assert not complaints(app)


async def test_the_odds_name_no_token_that_the_seed_would_pick() -> None:
    app = app_with(Served())
    async with running(app, size=(160, 40)) as pilot:
        screen = await write(pilot, app, "abc")
        await at(pilot, screen, 4)
        await pilot.press("f2")
        await pilot.pause(0.2)
        table = screen.table
        assert table.found is not None
        shown = table.render().plain
        assert "rest" in shown and "⚄" not in shown + str(table.border_subtitle)
        assert "tokens that the server does not show" in str(table.border_subtitle)
        assert "tokens left" not in shown
        table.vocab_size = 50
        table.watch_missing()
        shown, foot = table.render().plain, str(table.border_subtitle)
        assert "more" in shown and "tokens left" in shown and "rest" not in shown + foot
        assert '"more" and "tokens left": also those without a row' in foot
        # The server takes top-p, but the candidates of this one are too few to compute it.
        assert "not computed: top-p" in str(table.border_subtitle)
        assert screen.inspector.now is None


async def test_a_server_that_breaks_leaves_the_text_and_one_key_goes_on() -> None:
    backend = Served("hello")
    backend.breaks_after = 3
    app = app_with(backend)
    async with running(app, size=(160, 40)) as pilot:
        screen = await write(pilot, app, "abc")
        assert screen.document.text == "abchel"
        assert (
            complaints(app)[-1]
            == "The server at 127.0.0.1:8000 ended the connection; Ctrl+G continues the text"
        )
        backend.breaks_after, backend.reply = None, "lo"
        await pilot.press("ctrl+g")
        await until_written(pilot, screen)
        assert screen.document.text == "abchello"
        assert not complaints(app)  # the old message would deny it


async def test_the_dialog_of_a_server() -> None:
    backend = Served()
    app = app_with(backend)
    async with running(app, size=(120, 40)) as pilot:
        screen = main_screen(app)
        screen.session.model = "tiny@http://127.0.0.1:8000"
        await pilot.press("ctrl+o")
        await pilot.pause()
        dialog = app.screen
        assert isinstance(dialog, ServerScreen)
        options = dialog.query_one(OptionList)
        assert options.option_count == 2 and options.highlighted == 0
        await pilot.press("down", "enter")
        await pilot.pause()
        assert backend.loaded[-1] == ("large@http://127.0.0.1:8000", False)
        await pilot.press("ctrl+o")
        await pilot.pause()
        await pilot.press("p")
        await pilot.pause()
        assert backend.probed == 1 and backend.loaded[-1][0] == "large@http://127.0.0.1:8000"
        await pilot.press("ctrl+o")
        await pilot.pause()
        await pilot.press("m")
        await pilot.pause()
        assert isinstance(app.screen, ModelPicker)


@pytest.mark.parametrize("button", ["load", "probe", "others", "back"])
async def test_the_buttons_of_the_dialog(button: str) -> None:
    backend = Served()
    app = app_with(backend)
    async with running(app, size=(80, 24)) as pilot:
        await pilot.press("ctrl+o")
        await pilot.pause()
        dialog = app.screen
        assert isinstance(dialog, ServerScreen)
        dialog.query_one(f"#{button}", Button).press()
        await pilot.pause()
        assert app.screen is not dialog
        assert backend.probed == (button == "probe")


async def test_named_servers_are_among_the_models() -> None:
    app = app_with(FakeBackend())
    async with running(app, size=(120, 40)) as pilot:
        screen = main_screen(app)
        values = {"url": "http://127.0.0.1:9", "model": "llama"}
        screen.session.servers = Servers({"gpu": read_server("gpu", values)})
        await pilot.press("ctrl+o")
        await pilot.pause()
        picker = app.screen
        assert isinstance(picker, ModelPicker)
        picker.options.highlighted = picker._names.index("@gpu")
        await pilot.pause()
        await pilot.press("enter")
        await pilot.pause()
        assert screen.session.model == "tiny@gpu"


def test_the_card_of_a_server_says_what_it_gives() -> None:
    loaded = Loaded("tiny\x1b[2J", "server", "", 0, 0, 4096, capabilities=CAN)
    card = server_card(loaded)
    facts = dict(card.facts)
    assert "\x1b" not in card.name
    assert facts["Server"] == "vLLM 0.32.0"
    assert facts["Address"] == "http://127.0.0.1:8000 (this machine)"
    assert facts["Context"] == "4,096 tokens"
    assert facts["Candidates"].startswith("the best 20")
    assert "Path" not in facts
    every = loaded._replace(name="/models/a.gguf", capabilities=CAN._replace(candidates=None))
    assert server_card(every).name == "a.gguf"
    facts |= dict(server_card(every).facts)
    assert facts["Path"] == "/models/a.gguf"
    assert facts["Candidates"].startswith("the best few at a token")
    assert "≥" in facts["Entropy"]
    assert facts["Settings"].startswith("temperature, top-p")
    assert facts["Ignored"] == "all other settings"
    least = Capabilities("x", "http://gpu", (), 0, False, False, "none", False, "none", (), False)
    facts = dict(server_card(loaded._replace(block_size=0, capabilities=least)).facts)
    assert facts["Address"] == "http://gpu (not encrypted)"
    assert facts["Candidates"] == "none" and facts["Settings"] == "none"
    assert facts["Context"] == "unknown"
