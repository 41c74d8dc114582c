"""Requests to a server that does everything wrong: each ends in one sentence."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt.errors import UserError
from gpt.progress import Watcher
from gpt.remote import fields
from gpt.remote import http as http_module
from gpt.remote.http import Http
from gpt.remote.loop import RequestCancelledError
from gpt.remote.sse import Events
from gpt.remote.trouble import said, words
from gpt.server_address import read_address
from tests.gpt.fake_server import EVENTS, Answer, Fake, events, serving

KEY = "sk-of-these-tests"


@pytest.fixture
def fake() -> Iterator[Fake]:
    with serving({}) as found:
        yield found


@pytest.fixture
def http(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> Iterator[Http]:
    monkeypatch.setenv("TEST_KEY", KEY)
    http = Http(read_address(fake.url), "TEST_KEY")
    yield http
    http.close()


# Bodies of errors of vLLM, llama.cpp, SGLang, proxies; the words that a person sees.
ERRORS: list[tuple[int, Any, str]] = [
    (400, {"error": {"message": "too long", "type": "BadRequestError", "code": 400}}, "too long"),
    (401, {"error": "Unauthorized"}, "wants a key: Unauthorized; check the key"),
    (403, {"error": {"message": "Invalid API Key"}}, "wants a key: Invalid API Key"),
    (404, {"detail": "Not Found"}, "Not Found"),
    (422, {"detail": [{"msg": "field required", "loc": ["body"]}]}, "field required"),
    (400, {"object": "error", "message": "no such model"}, "no such model"),
    (500, {"error": {"message": f"the key {KEY} is\x1b[31m bad\nreally"}}, "the key … is␛[31m bad"),
    (502, b"<html><body>Bad Gateway</body></html>", "HTTP status 502 Bad Gateway"),
    (599, b"\xff\xfe", "HTTP status 599"),
    (400, {"error": {"message": {"error": {"message": {"error": 5}}}}}, "HTTP status 400"),
    (400, b"[" * 100_000, "HTTP status 400"),
    (503, {"error": {"code": 503, "message": "Loading model"}}, "Loading model"),
]


@pytest.mark.parametrize(("status", "body", "expected"), ERRORS)
def test_errors(fake: Fake, http: Http, status: int, body: Any, expected: str) -> None:
    fake.routes = {"/x": Answer(body, status)}
    for ask in (lambda: http.post("/x", {}), lambda: list(http.stream("/x", {}))):
        with pytest.raises(UserError) as error:
            ask()
        text = str(error.value)
        assert expected in text and KEY not in text and "\x1b" not in text and "\n" not in text
        assert len(text) < 700


def test_an_error_in_the_stream_counts_and_not_what_follows(fake: Fake, http: Http) -> None:
    """vLLM's last words when it is ended: an error, then [DONE] and a clean end."""
    error = {"error": {"message": "EngineCore encountered an issue", "code": 500}}
    fake.routes = {"/x": events({"a": 1}, error)}
    found: list[Any] = []
    with pytest.raises(UserError, match="failed: EngineCore encountered an issue"):
        found.extend(http.stream("/x", {}))
    fake.routes = {"/x": Answer([b'data: {"error": "over"}\n\n'], kind=EVENTS)}
    with pytest.raises(UserError, match="failed: over"):
        list(http.stream("/x", {}))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer([b'data: {"a": 1}\n\n'], kind=EVENTS, breaks=True), "in the middle of its answer"),
        (Answer(b"<html>", kind="text/html"), "no stream of events"),
        (Answer(b"", kind=EVENTS), "no stream of events"),
        (Answer([b"data: {nonsense\n\n"], kind=EVENTS), "not JSON"),
        (Answer([b"data: NaN, \n\n"], kind=EVENTS), "not JSON"),
        (Answer([b"data: " + b"[" * 99_999 + b"\n\n"], kind=EVENTS), "not JSON"),
    ],
)
def test_broken_streams(fake: Fake, http: Http, answer: Answer, expected: str) -> None:
    fake.routes = {"/x": answer}
    with pytest.raises(UserError, match=expected):
        list(http.stream("/x", {}))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Answer(b"{", breaks=True), "in the middle of its answer"),
        (Answer(b"{"), "not JSON"),
        (Answer(b'"\xff"'), "not JSON"),
        (Answer(b"1" * 5000), "not JSON"),
        (Answer({"error": {"message": "no"}}), "failed: no"),
        (Answer(b"\x1f\x8b\x08", headers={"content-encoding": "gzip"}), "not JSON"),
    ],
)
def test_broken_answers(fake: Fake, http: Http, answer: Answer, expected: str) -> None:
    fake.routes = {"/x": answer}
    with pytest.raises(UserError, match=expected):
        http.post("/x", {})


@pytest.mark.parametrize(
    "data",
    [
        b"[NaN, Infinity, -Infinity, 1e999]",
        b'{"a": 1, "a": 2}',
        b'"\\ud83d"',
        b'"\xed\xa0\xbd"',
        b"\xef\xbb\xbf[1]",
        "[1]".encode("utf-16"),
        b"[-0, -0.0, 5e-324, 1e-999, 9007199254740993.0, 0.1, -17.123456954956055]",
        b"[9223372036854775807, 18446744073709551615, -9223372036854775808]",
        b"[1" + b"0" * 400 + b"]",
        b"[" * 900 + b"]" * 900,
    ],
)
def test_json_is_what_the_standard_library_takes_it_for(
    fake: Fake, http: Http, data: bytes
) -> None:
    fake.routes = {"/x": Answer(data), "/y": Answer([b"data:", data, b"\n\n"], kind=EVENTS)}
    expected = json.loads(data)
    assert repr(http.post("/x", {})) == repr(expected)
    if b"\n" not in data:
        assert repr(list(http.stream("/y", {}))) == repr([expected])


@given(st.floats(allow_nan=False) | st.integers(-(2**63), 2**64 - 1) | st.text())
def test_values_are_exact(value: Any) -> None:
    for ascii_only in (True, False):
        data = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        assert repr(http_module._parsed(data)) == repr(json.loads(data))


@pytest.mark.parametrize("number", [b"18446744073709551616", b"-9223372036854775809"])
def test_a_number_past_64_bits_is_neither_an_id_nor_a_size(
    fake: Fake, http: Http, number: bytes
) -> None:
    fake.routes = {"/x": Answer(number)}
    value = http.post("/x", {})
    assert fields.size(value) == fields.small_size(value) == 0
    for check in (fields.token_id, lambda value: fields.ids([value])):
        with pytest.raises(UserError, match="a token id"):
            check(value)


def test_an_answer_that_is_no_stream_is_one_event(fake: Fake, http: Http) -> None:
    fake.routes = {"/x": Answer(b'{"a":\n 1}')}
    assert list(http.stream("/x", {})) == [{"a": 1}]


def test_a_stream_of_another_type_is_read(fake: Fake, http: Http) -> None:
    fake.routes = {"/x": Answer([b'data: {"a": 1}\r', b"\n\r\n"], kind="text/plain")}
    assert list(http.stream("/x", {})) == [{"a": 1}]


def test_sizes_are_bounded(fake: Fake, http: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpt.remote.http.LARGEST", 10_000)
    fake.routes = {
        "/x": Answer([b"x" * 5000] * 9),
        "/y": Answer([b"data: x", *[b"x" * 5000] * 9], kind=EVENTS),
        "/z": Answer([b"data: xxxxxxxx\n" * 2000], kind=EVENTS),
    }
    with pytest.raises(UserError, match="more than 10,000 bytes"):
        http.post("/x", {})
    for path in ("/y", "/z"):
        with pytest.raises(UserError, match="an event of more than 10,000 bytes"):
            list(http.stream(path, {}))


@pytest.mark.parametrize("location", ["https://evil.example/x", "http://127.0.0.1:1/x", "nowhere"])
def test_redirects_are_not_followed(fake: Fake, http: Http, location: str) -> None:
    fake.routes = {"/x": Answer(b"", 307, headers={"location": location})}
    with pytest.raises(UserError, match="sends its visitors to") as error:
        http.post("/x", {})
    assert ("evil.example" in str(error.value)) == ("evil" in location)
    assert len(fake.requests) == 1


def test_the_key_goes_into_its_header_alone(fake: Fake, http: Http) -> None:
    fake.routes = {"/x": Answer({})}
    http.post("/x", {"a": 1})
    _, body, headers = fake.requests[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"a": 1}
    assert KEY not in repr(http.address)


def test_a_dead_connection_is_opened_again_once() -> None:
    """A server may close an idle connection just when a request is on its way."""
    accepted = []
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
    # For each connection, the answers to its requests; it is closed at the request after these.
    answers: list[list[bytes]] = [[], [answer], []]

    def serve(listener: socket.socket) -> None:
        for n, those in enumerate(answers):
            connection, _ = listener.accept()
            with connection:
                accepted.append(n)
                for reply in [*those, b""]:
                    data = b""
                    while not data.endswith(b"\r\n\r\n{}"):
                        data += connection.recv(65536)
                    connection.sendall(reply)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        http = Http(read_address(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        assert http.post("/x", {}) == {}
        with pytest.raises(UserError, match="ended the connection without an answer"):
            http.post("/x", {})
        http.close()
        thread.join()
    assert accepted == [0, 1, 2]


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    http = Http(read_address(f"http://127.0.0.1:{port}"))
    with pytest.raises(UserError, match=f"cannot reach the server at 127.0.0.1:{port}"):
        http.get("/v1/models")
    http.close()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_cancelled_before_anything_came(sent: bytes) -> None:
    """A server that only listens: cancelling closes the connection at once."""
    closed = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(sent)
            while connection.recv(65536):
                pass
            closed.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        http = Http(read_address(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        until = time.monotonic() + 0.2
        with pytest.raises(RequestCancelledError):
            list(http.stream("/x", {}, Watcher(lambda: time.monotonic() > until)))
        assert closed.wait(30)
        http.close()


def test_a_closed_stream_ends_an_endless_one(fake: Fake, http: Http) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b'data: {"a": 1}\n\n'

    class Endless(list[bytes]):
        def __iter__(self) -> Iterator[bytes]:
            return endless()

    fake.routes = {"/x": Answer(Endless(), kind=EVENTS), "/y": Answer({})}
    stream = http.stream("/x", {})
    assert [next(stream) for _ in range(3)] == [{"a": 1}] * 3
    stream.close()
    assert http.post("/y", {}) == {}


def test_a_stream_that_is_closed_before_its_end_leaves_no_connection() -> None:
    """The end of the answer may be on its way when the caller has read enough."""
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked"
    sent = head + b"\r\n\r\n" + b"9\r\ndata: 1\n\n\r\n" * 2 + b"0\r\n\r\n"

    def serve(listener: socket.socket) -> None:  # one connection after another
        for _ in range(20):
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(30)
                while data := connection.recv(65536):
                    if data.endswith(b"{}"):
                        connection.sendall(sent)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        http = Http(read_address(f"http://127.0.0.1:{listener.getsockname()[1]}"))
        for _ in range(20):
            until = time.monotonic() + 20
            stream = http.stream("/x", {}, Watcher(lambda: time.monotonic() > until))  # noqa: B023
            assert [next(stream), next(stream)] == [1, 1]
            stream.close()
        http.close()


@settings(max_examples=200)
@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.data(),
)
def test_events_in_any_pieces(texts: list[str], end: str, data: st.DataObject) -> None:
    """U+2028 and others that Python takes for line ends stay in the text."""
    raw = "".join(f"data: {json.dumps(t, ensure_ascii=False)}{end}{end}" for t in texts).encode()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=8).map(sorted))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    reader = Events(1 << 20)
    found = [event for part in parts for event in reader.feed(part)]
    found += reader.end()
    assert [json.loads(event) for event in found] == texts


def test_events_that_are_not_data_are_left_out() -> None:
    reader = Events(1000)
    text = b": ping\nevent: x\nid: 3\ndata: a\ndata:b\nretry: 5\n\ndata: [DONE]\n\ndata: c"
    assert [*reader.feed(text), *reader.end()] == [b"a\nb", b"c"]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(),
        lambda v: (
            st.lists(v)
            | st.dictionaries(st.sampled_from(["error", "message", "detail", "msg", "x"]), v)
        ),
    )
)
def test_any_error_is_a_text(values: Any) -> None:
    for text in (said(values), words(json.dumps(values).encode())):
        assert len(text) <= 400 and "\n" not in text and "\x1b" not in text
