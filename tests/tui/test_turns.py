"""Turns of a conversation on the screen: system prompt, special tokens, answer again, edits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime

import pytest
from textual.widgets import Input, OptionList

from gpt.interpret.answers import Layer
from gpt.sanitize import sanitize
from gpt.settings import Sampling
from gpt.step import Candidate, Step
from tests.tui.fake import LOADED, FakeBackend, app_with, main_screen, running, token
from tests.tui.test_app import complaints, said, until_written, write
from tests.tui.test_branching import at
from tests.tui.test_session import SETTINGS, all_of, session_of
from tui import special_tokens, store
from tui.backend import BackendError, Completion, Done, Event, Steps
from tui.document import Document, Node
from tui.export.page import to_html
from tui.export.parts import Export, shown
from tui.export.picture import to_svg
from tui.export.plain import to_json, to_markdown, to_text
from tui.news import PromptReturned
from tui.screens.filtered import MOST
from tui.screens.special_tokens import SpecialTokenPicker
from tui.special_tokens import CLOSE, OPEN, inserted, segments
from tui.turns import answer_start, message_at
from tui.widgets.dial import Dial, Tick
from tui.widgets.inspector import YOURS, Inspector, describe
from tui.widgets.layer_picture import Found
from tui.widgets.layer_rows import _guess
from tui.widgets.prompt import Prompt
from tui.widgets.told import Told

SPECIAL = {"<|im_start|>": 1000, "<|im_end|>": 1001}


class Talker(FakeBackend):
    """A model of a chat whose template puts [ and ] around a message, and ( before an answer."""

    async def load(
        self, model: str, *, second: bool = False, probe: bool = False
    ) -> AsyncIterator[Event]:
        self.loaded.append((model, second))
        yield LOADED._replace(name=model, special_tokens=SPECIAL)

    async def complete(self, request: Completion) -> AsyncIterator[Event]:
        if not (request.chat and request.text):
            async for event in super().complete(request):
                yield event
            return
        self.requests.append(request)
        await self.go_on.wait()
        before = f"{{{request.system}}}" if request.system and not request.ids else ""
        text = f"{before}[{request.text}]("
        steps = []
        for i, letter in enumerate(text, len(request.ids)):
            step = token(i, letter, drawn=False)
            steps.append(step._replace(by_template=letter in "{}[]("))
        yield Steps(steps, is_prompt=True)
        first = len(request.ids) + len(text)
        yield Steps([token(first + i, c) for i, c in enumerate(self.reply)], False)
        yield Done("length", len(self.reply), 0.5)


def conversation(*parts: tuple[str, str]) -> Document:
    """A text of these parts: the author's first letter, and a token for each letter."""
    document = Document()
    for author, text in parts:
        position = len(document.path)
        steps = [
            token(position + i, letter)._replace(by_template=author == "t")
            for i, letter in enumerate(text)
        ]
        document.append(
            steps, is_prompt=author != "m", sampling=Sampling() if author == "m" else None
        )
    return document


# Which tokens belong to what.


def test_a_message_is_found_from_each_of_its_tokens() -> None:
    path = conversation(
        *(("t", "<"), ("p", "sys"), ("t", "[")),
        *(("p", "hi"), ("t", "]("), ("m", "yes"), ("p", "!"), ("m", "no")),
        *(("t", ")["), ("p", "and"), ("t", "]("), ("m", "ok")),
    ).path
    text = "".join(node.step.text for node in path)
    assert text == "<sys[hi](yes!no)[and](ok"
    found = {}
    for i in range(len(path)):
        if message := message_at(path, i):
            found[i] = message.start, text[message.tokens.start : message.tokens.stop]
    first, second = text.index("hi"), text.index("and")
    assert found == {
        **dict.fromkeys(range(first, first + 2), (0, "hi")),
        **dict.fromkeys(range(second, second + 3), (text.index(")["), "and")),
    }, "neither the system prompt nor a candidate that was chosen in an answer"


@pytest.mark.parametrize(
    ("parts", "start"),
    [
        ([("p", "ab"), ("m", "cd"), ("p", "e"), ("m", "fg")], 5),
        ([("t", "["), ("p", "a"), ("t", "]("), ("m", "cd"), ("p", "e"), ("m", "fg")], 4),
        ([("t", "["), ("p", "a"), ("t", "]("), ("p", "x"), ("m", "fg")], 4),
        ([("t", "["), ("p", "a"), ("t", "]("), ("m", "x"), ("t", ")["), ("p", "b")], 4),
        ([("p", "ab")], None),
        ([], None),
    ],
)
def test_the_last_answer_begins_after_the_template(
    parts: list[tuple[str, str]], start: int | None
) -> None:
    assert answer_start(conversation(*parts).path) == start


# Special tokens.


def test_letters_never_become_a_special_token() -> None:
    name = "<|im_end|>"
    assert segments(f"a{name}b", SPECIAL) == (f"a{name}b",)
    assert segments(f"a{inserted(name)}b", SPECIAL) == ("a", 1001, "b")
    assert segments(inserted(name) + inserted("<|im_start|>"), SPECIAL) == (1001, 1000)
    assert segments(f"a{inserted('<|no|>')}b", SPECIAL) == ("a<|no|>b",), "of another model"
    for broken in (
        f"{OPEN}{name}",
        f"{name}{CLOSE}",
        f"{OPEN}{OPEN}{name}",
        f"{CLOSE}{name}{OPEN}",
    ):
        assert segments(broken, SPECIAL) == (name,)
    assert special_tokens.without_marks(inserted(name)) == name
    assert segments("", SPECIAL) == ()


async def test_a_special_token_is_chosen_from_a_list_and_sent_as_what_it_is() -> None:
    backend = Talker("x")
    app = app_with(backend, chat=True)
    async with running(app) as pilot:
        screen = main_screen(app)
        prompt = screen.query_one(Prompt)
        await pilot.press(*"a<", "ctrl+s")
        assert isinstance(app.screen, SpecialTokenPicker)
        assert app.screen.query_one(OptionList).option_count == 2
        await pilot.press(*"end", "enter")
        await pilot.pause()
        assert main_screen(app) is screen
        assert prompt.text == f"a<{inserted('<|im_end|>')}"
        line = prompt.get_line(0)
        assert line.plain == "a<‹<|im_end|>›" and line.spans
        await pilot.press(*"b")
        title = str(prompt.border_title)
        assert "4 tokens" in title or "<|im_end|>" in title
        await pilot.press("enter")
        await until_written(pilot, screen)
        request = backend.requests[0]
        assert request.segments == ("a<", 1001, "b") and request.text == ""
        assert prompt.text == ""
        assert not complaints(app)


async def test_a_long_list_is_found_by_typing() -> None:
    app, chosen = app_with(FakeBackend()), list[str | None]()
    async with running(app) as pilot:
        tokens = {f"<|reserved_{n}|>": 1000 + n for n in range(MOST + 9)}
        app.push_screen(SpecialTokenPicker(tokens), chosen.append)
        await pilot.pause()
        picker = app.screen
        assert isinstance(picker, SpecialTokenPicker)
        assert picker.options.option_count == MOST
        assert str(picker.options.border_subtitle).startswith("the first 500 of 509")
        for typed, count in (("RESERVED _7", 11), ("1508", 1), ("10", 15)):
            picker.query_one(Input).value = typed
            await pilot.pause()
            assert picker.options.option_count == count, typed
        await pilot.press("down", "down", "up", "enter")
        await pilot.pause()
    assert chosen == ["<|reserved_100|>"]


async def test_a_special_token_says_before_enter_what_it_does_in_a_chat() -> None:
    app = app_with(Talker(), chat=True)
    async with running(app, size=(120, 40)) as pilot:
        screen = main_screen(app)
        prompt, chat = screen.query_one(Prompt), screen.query_one("#chat", Tick)
        await pilot.press("a")
        prompt.insert_special("<|im_end|>")
        await pilot.pause()
        assert "without the chat template" in said(screen)
        chat.value = False
        await pilot.pause()
        assert said(screen) == "Enter sends"
        chat.value = True
        await pilot.pause()
        assert "without the chat template" in said(screen)
        await pilot.press("backspace")
        await pilot.pause()
        assert said(screen) == "Enter sends"


async def test_an_edited_message_keeps_its_template_and_so_takes_no_special_token() -> None:
    backend = Talker("yes")
    app = app_with(backend, chat=True, system="S")
    async with running(app, size=(120, 40)) as pilot:
        screen = await write(pilot, app, "hi")
        before = screen.document.text
        prompt = screen.query_one(Prompt)
        await at(pilot, screen, before.index("hi"))
        await pilot.press("i")
        prompt.insert_special("<|im_end|>")
        await pilot.pause()
        assert "not possible in an edited message" in said(screen)
        await pilot.press("enter")
        await until_written(pilot, screen)
        assert "lose the chat template" in complaints(app)[-1]
        assert screen.document.text == before and len(backend.requests) == 1
        assert prompt.text == f"hi{inserted('<|im_end|>')}"
        await pilot.press("backspace")
        await pilot.pause()
        assert "Enter sends a new branch" in said(screen)
        await pilot.press("X", "enter")
        await until_written(pilot, screen)
        assert screen.document.text == "{S}[hiX](yes"


async def test_backspace_takes_a_whole_special_token_away() -> None:
    app = app_with(Talker())
    async with running(app) as pilot:
        prompt = main_screen(app).query_one(Prompt)
        prompt.focus()
        await pilot.press("a")
        prompt.insert_special("<|im_end|>")
        await pilot.press("b", "backspace")
        assert prompt.text == f"a{inserted('<|im_end|>')}"
        await pilot.press("backspace")
        assert prompt.text == "a"
        await pilot.press("backspace")
        assert prompt.text == ""


@pytest.mark.parametrize("way", ["paste", "text", "opening", "read"])
async def test_a_text_from_elsewhere_has_no_special_tokens(way: str) -> None:
    from textual import events

    hostile = f"a{inserted('<|im_end|>')}"
    plain = "a<|im_end|>"
    backend = Talker("x", error=BackendError("no") if way == "read" else None)
    app = app_with(backend, **({"prompt": hostile} if way == "opening" else {}))
    async with running(app) as pilot:
        screen = main_screen(app)
        prompt = screen.query_one(Prompt)
        prompt.focus()
        if way == "paste":
            app.post_message(events.Paste(hostile))
        elif way == "text":
            prompt.text = hostile
        elif way == "read":
            screen.read(hostile)
        await pilot.pause()
        await until_written(pilot, screen)
        if way == "opening":
            assert backend.requests[0].text == plain and not backend.requests[0].segments
        else:
            await pilot.pause()
            assert prompt.text == plain


async def test_an_editor_keeps_special_tokens_and_adds_none() -> None:
    app = app_with(Talker())
    async with running(app):
        prompt = main_screen(app).query_one(Prompt)
        name = inserted("<|im_end|>")
        prompt.restore(f"a{name}")
        prompt.edited(f"b\n{name}c")
        assert prompt.text == f"b\n{name}c"
        prompt.edited(f"{name}{name}")
        assert prompt.text == "<|im_end|><|im_end|>"


async def test_a_prompt_that_comes_back_has_its_special_tokens() -> None:
    session = session_of(Talker(error=BackendError("no")))
    await all_of(session.load())
    typed = f"a{inserted('<|im_end|>')}"
    found = await all_of(session.run(SETTINGS, typed))
    assert PromptReturned(typed) in found


async def test_a_model_without_special_tokens_says_so() -> None:
    app = app_with(FakeBackend())
    async with running(app) as pilot:
        screen = main_screen(app)
        await pilot.press("ctrl+s")
        assert app.screen is screen
        assert "no special tokens" in str([n.message for n in app._notifications])


# The system prompt.


async def test_a_system_prompt_is_told_to_the_next_conversation_and_saved() -> None:
    backend = Talker("x")
    app = app_with(backend)
    async with running(app, size=(120, 40)) as pilot:
        screen = main_screen(app)
        field, chat = screen.query_one(Told), screen.query_one("#chat", Tick)
        assert not chat.value
        field.focus()
        await pilot.press(*"Be")
        assert chat.value, "it belongs to a chat"
        screen.query_one(Prompt).focus()
        await write(pilot, app, "hi")
        assert backend.requests[0].system == screen.document.system == "Be"
        assert screen.document.text == "{Be}[hi](x"
        field.focus()
        await pilot.press(*"e")
        assert "new text" in said(screen)
        screen.query_one(Prompt).focus()
        await write(pilot, app, "b")
        assert backend.requests[1].system == "Be"
        await screen.workers.wait_for_complete()
        screen.action_new_text()
        await write(pilot, app, "c")
        assert backend.requests[2].system == "e", "the field was selected"
        for _ in range(500):
            if len(store.entries()) == 2:
                break
            await pilot.pause(0.01)
        entries = {e.title: e.path for e in store.entries()}
        first = next(path for title, path in entries.items() if title == "Be hi x b x")
        assert store.load(first)[0].system == "Be"
        screen.open_text(first)
        await pilot.pause()
        assert field.value == "Be"


async def test_the_lines_of_a_system_prompt_stay_until_it_is_edited() -> None:
    backend = Talker("x")
    app = app_with(backend, chat=True, system="a\nb\x1b")
    async with running(app, size=(120, 40)) as pilot:
        screen = main_screen(app)
        field = screen.query_one(Told)
        assert field.value == "a b" and field.told == "a\nb\x1b"
        await write(pilot, app, "hi")
        assert backend.requests[0].system == "a\nb\x1b"
        field.value = "c"
        assert field.told == "c"


# Answer again, and edit.


async def test_the_last_answer_is_drawn_again_from_anywhere() -> None:
    backend = Talker("yes")
    app = app_with(backend, chat=True)
    async with running(app, size=(120, 40)) as pilot:
        screen = await write(pilot, app, "hi")
        await write(pilot, app, "so")
        assert screen.document.text == "[hi](yes[so](yes"
        backend.reply = "no"
        await at(pilot, screen, 1)
        await pilot.press("R")
        await until_written(pilot, screen)
        assert screen.document.text == "[hi](yes[so](no"
        assert screen.document.branches(13) == 2
        assert backend.requests[2].ids == screen.document.ids[:13]
        seeds = {request.sampling.seed for request in backend.requests}
        assert len(seeds) == 3
        screen.query_one("#seed", Dial).value = "7"
        await at(pilot, screen, 1)
        for reply in ("a", "b"):
            backend.reply = reply
            screen.query_one("#text").focus()
            await pilot.press("R")
            await until_written(pilot, screen)
        assert [request.sampling.seed for request in backend.requests[3:]] == [9, 10]


async def test_nothing_to_answer_again() -> None:
    app = app_with(FakeBackend(""))
    async with running(app) as pilot:
        screen = await write(pilot, app, "ab")
        await at(pilot, screen, 0)
        await pilot.press("R")
        assert "written nothing" in complaints(app)[-1]


async def test_a_message_is_edited_in_the_prompt_and_answered_anew() -> None:
    backend = Talker("yes")
    app = app_with(backend, chat=True, system="S")
    async with running(app, size=(120, 40)) as pilot:
        screen = await write(pilot, app, "hi")
        await write(pilot, app, "so")
        before = screen.document.text
        assert before == "{S}[hi](yes[so](yes"
        prompt = screen.query_one(Prompt)
        prompt.text = "draft"
        await at(pilot, screen, before.index("so") + 1)
        await pilot.press("i")
        assert prompt.text == "so" and "Esc keeps" in said(screen)
        await pilot.press("escape")
        assert prompt.text == "draft" and screen.document.text == before
        await at(pilot, screen, before.index("so"))
        await pilot.press("i", "backspace", "backspace", *"no?", "enter")
        await until_written(pilot, screen)
        assert screen.document.text == "{S}[hi](yes[no?](yes"
        assert prompt.text == "draft"
        request = backend.requests[-1]
        assert request.chat and request.text == "no?" and len(request.ids) == before.index("[so")
        # The first message: the template writes the whole beginning again.
        screen.query_one(Told).value = "other"
        screen.query_one("#chat", Tick).value = False
        await at(pilot, screen, before.index("hi"))
        await pilot.press("i", "X", "enter")
        await until_written(pilot, screen)
        request = backend.requests[-1]
        assert (request.ids, request.text, request.system) == ([], "hiX", "S")
        assert request.chat, "it is a message also if the switch is off"
        assert screen.document.text == "{S}[hiX](yes"
        assert screen.document.branch_count == 3


async def test_a_word_of_an_answer_is_replaced_by_letters_and_no_message() -> None:
    backend = Talker("yes")
    app = app_with(backend, chat=True)
    async with running(app, size=(120, 40)) as pilot:
        screen = await write(pilot, app, "hi")
        await at(pilot, screen, 6)
        await pilot.press("i", *"xy", "enter")
        await until_written(pilot, screen)
        request = backend.requests[-1]
        assert (request.text, request.segments) == ("", ("xy",))
        assert screen.document.text == "[hi](yxyyes"


# What is shown.


def export(document: Document) -> Export:
    return Export(shown(document), "fake", datetime(2026, 1, 2))


def test_each_token_has_its_author_in_exports() -> None:
    document = conversation(("t", "["), ("p", "hi"), ("t", "]"), ("m", "yes"))
    end = replace(document.path[-1]).step._replace(bytes=b"", text="", name="<|im_end|>")
    document.append([end], is_prompt=False)
    made = export(document)
    trace = json.loads(to_json(made))
    authors = ["template", "person", "person", "template", "model", "model", "model", "model"]
    assert [each["author"] for each in trace["tokens"]] == authors
    assert "Chat template: `[`" in to_markdown(made) and "## Prompt\n\n```\nhi\n" in to_markdown(
        made
    )
    assert "yes<|im_end|>" in to_markdown(made)
    page = to_html(made)
    assert page.count(' c" tabindex') == 2 and page.count(' p" tabindex') == 2
    assert "written by the chat template" in page and "&lt;|im_end|&gt;</b>" in page
    assert to_text(made) == trace["text"] == "[hi]yes"
    assert "im_end" in to_svg(made)
    assert "grey:" not in to_html(export(conversation(("p", "hi"), ("m", "yes"))))


def test_the_panel_says_that_the_template_wrote_a_token() -> None:
    first = Step(0, 1, b"", "", name="<s>", by_template=True)
    assert any("by the chat template" in str(line) for line in describe(first))
    later = token(3, "[", drawn=False)._replace(by_template=True)
    assert any("by the chat template" in str(line) for line in describe(later, width=48)[:3])
    assert not any("template" in str(line) for line in describe(token(3, "[", drawn=False)))


async def test_the_panel_tells_the_system_prompt_from_a_message() -> None:
    app = app_with(Talker("yes"), chat=True, system="S")
    async with running(app, size=(120, 40)) as pilot:
        screen = await write(pilot, app, "hi")
        await write(pilot, app, "so")
        assert screen.document.text == "{S}[hi](yes[so](yes"
        for index, author in ((1, "system prompt"), (4, YOURS), (12, YOURS)):
            await at(pilot, screen, index)
            assert author in str(screen.query_one(Inspector).render())


async def test_the_system_prompt_of_a_conversation_is_not_replaced_in_silence() -> None:
    app = app_with(Talker("yes"), chat=True, system="S")
    async with running(app, size=(120, 40)) as pilot:
        screen = await write(pilot, app, "hi")
        await at(pilot, screen, 1)
        await pilot.press("i")
        assert complaints(app) == ["A conversation keeps its system prompt; Ctrl+N begins another."]
        await at(pilot, screen, 4)
        await pilot.press("i")
        assert screen.prompt.text == "hi" and screen.document.text == "{S}[hi](yes"


async def test_template_tokens_are_quieter_on_the_screen() -> None:
    app = app_with(Talker("yes"), chat=True)
    async with running(app, size=(120, 40)) as pilot:
        screen = await write(pilot, app, "hi")
        palette = screen.view._palette
        by = {a: palette.style(0, a) for a in ("person", "template", "model")}
        assert len({style.color for style in by.values()}) == 3
        assert by["person"].italic and not by["template"].italic
        await at(pilot, screen, 0)
        assert "by the chat template" in str(screen.query_one(Inspector).render())


def test_a_text_without_its_first_blank_is_exported_as_it_was_typed() -> None:
    """SentencePiece puts a blank before a text."""
    document = Document()
    document.append(
        [Step(0, 1, b"", "", name="<s>"), Step(1, 2, b" a", "a"), Step(2, 3, b" b", " b")],
        is_prompt=True,
    )
    assert document.text == "a b"
    made = export(document)
    assert to_text(made) == "a b" and json.loads(to_json(made))["text"] == "a b"
    assert "```\n<s>a b\n```" in to_markdown(made)
    assert sanitize(">a</b>") in to_html(made)


def test_who_wrote_a_token_and_the_system_prompt_are_saved() -> None:
    document = conversation(("t", "["), ("p", "hi"), ("m", "yes"))
    document.system = "Be\nnice."
    place = store.Place()
    place.save("fake", list(document.nodes()), list(document.path), document.system)
    assert place.path
    again, _ = store.load(place.path)
    assert [node.author for node in again.path] == [node.author for node in document.path]
    assert again.system == "Be\nnice."
    place.release()


def test_the_field_of_an_input_is_no_place_for_marks() -> None:
    assert not (OPEN + CLOSE).isprintable()
    assert issubclass(Told, Input), "it drops what is not printable"


def test_a_layer_that_guesses_a_special_token_says_its_name() -> None:
    end = Step(1, 9, b"", "", -0.1, 1, 0.5, (Candidate(9, b"", -0.1, name="<|im_end|>"),))
    nodes = [Node(token(0, "a"), is_prompt=True), Node(end, is_prompt=False)]
    layers = [Layer("layer 1", (9,), (b"",), (-0.1,), -0.1, 1, ())] * 2
    found = Found(nodes, layers, 1, 0, None)  # type: ignore[arg-type]
    assert _guess(found, layers[0]) == "<|im_end|>"
