"""Servers: how a person names them, what may be sent to them, and what the screen shows of them."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpt.errors import UserError
from gpt.server_address import check_key_variable, is_this_machine, read_address
from tui import preferences
from tui.arguments import parser
from tui.backend import BackendError
from tui.local_backend import LocalBackend
from tui.preferences import Preferences
from tui.server_start import model_at_start
from tui.servers import Server, Servers, at_same_server, read_server, with_model

HERE, AWAY = "http://127.0.0.1:8000", "http://gpu-box:8000"
SECRET = "sk-9f3a7c"  # noqa: S105


def server(url: str = HERE, model: str = "", api_key_env: str = "") -> Server:
    return Server(read_address(url), model, api_key_env)


def arguments(*words: str) -> argparse.Namespace:
    return parser().parse_args(words)


class Typed(io.StringIO):
    """Somebody at a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.mark.parametrize(
    ("url", "read"),
    [
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        ("https://Example.org/models/v1/", "https://example.org/models"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_is_read(url: str, read: str) -> None:
    assert read_address(url).url == read
    assert read_address(read).url == read


@pytest.mark.parametrize(
    "url",
    [
        "",
        "gpu-box:8000",
        "ftp://gpu-box",
        "http://",
        "http://gpu-box:99999",
        "http://gpu-box:eight",
        "http://gpu box",
        "http://gpu-box/\n",
        "http://[::1",
        f"http://me:{SECRET}@gpu-box:8000",
        f"http://{SECRET}@gpu-box",
        f"https://gpu-box/?key={SECRET}",
        f"https://gpu-box/#{SECRET}",
        "http://" + "a" * 3000,
    ],
)
def test_a_bad_address_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(UserError) as error:
        read_address(url)
    assert SECRET not in str(error.value)


@given(st.text(max_size=40))
def test_any_text_is_an_address_or_a_sentence(text: str) -> None:
    for url in (text, f"http://{text}"):
        try:
            address = read_address(url)
        except UserError:
            continue
        assert read_address(address.url) == address
        assert "@" not in address.url.partition("/")[0]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.9.10", "::1"])
def test_loopback_is_this_machine(host: str) -> None:
    assert is_this_machine(host)


@pytest.mark.parametrize(
    "host", ["192.168.0.1", "127.0.0.1.evil.org", "localhost.evil.org", "10.0.0.1"]
)
def test_others_are_not(host: str) -> None:
    assert not is_this_machine(host)


def test_a_key_is_not_taken_for_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOD", SECRET)
    check_key_variable("GOOD")
    for name in (SECRET, "MISSING9f3a7c", ""):
        with pytest.raises(UserError) as error:
            check_key_variable(name)
        assert "9f3a7c" not in str(error.value)


def test_a_name_means_a_server_or_a_model_of_this_machine() -> None:
    gpu = server("https://gpu-box", "llama", "KEY")
    servers = Servers({"gpu": gpu})
    assert servers.find("@gpu") == gpu
    assert servers.find("other@gpu") == gpu._replace(model="other")
    assert servers.find(f"a/b@c@{HERE}") == server(model="a/b@c")
    # A key belongs to an address, however it is written.
    assert servers.find("other@https://gpu-box/v1") == gpu._replace(model="other")
    assert servers.find("other@https://gpu-box.evil.org") == server(
        "https://gpu-box.evil.org", "other"
    )
    for name in ("gpt2", "dir/me@work/model", "x@nobody", "@"):
        assert servers.find(name) is None
    with pytest.raises(UserError, match="did you mean gpu"):
        servers.find("@gqu")
    with pytest.raises(UserError, match="no servers"):
        Servers().find("@gpu")
    assert at_same_server("a@gpu", "b") == "b@gpu"
    assert at_same_server(f"@{HERE}", "b") == f"b@{HERE}"
    assert with_model("@gpu", "b") == "b@gpu" and with_model("a@gpu", "b") == "a@gpu"
    assert with_model("gpt2", "b") == "gpt2"


def test_a_file_may_only_name_servers_that_the_person_has_named() -> None:
    servers = Servers({"gpu": server("https://gpu-box")}, chosen=server())
    for name in ("@gpu", "x@gpu", "x@https://gpu-box", f"x@{HERE}"):
        assert servers.knows(name)
    for name in ("@nobody", "x@https://evil.org", "shakespeare"):
        assert not servers.knows(name)


def test_plain_http_is_for_this_machine() -> None:
    for url in (HERE, "http://[::1]:1", "http://localhost", "https://gpu-box"):
        Servers().check(server(url))
    with pytest.raises(UserError, match="not encrypted"):
        Servers().check(server(AWAY))
    Servers(plain_http=frozenset(["gpu-box"])).check(server(AWAY))


FILE = """
plain_http = ["gpu-box"]
[servers.gpu]
url = "http://gpu-box:8000/v1"
model = "llama"
api_key_env = "GPU_KEY"
[servers.here]
url = "http://127.0.0.1:8080"
[servers."bad name"]
url = "http://127.0.0.1:8080"
[servers.lacks]
model = "x"
[servers.numbers]
url = 7
[servers.key]
url = "https://gpu-box"
api_key = "sk-9f3a7c"
[servers.user]
url = "https://me:sk-9f3a7c@gpu-box"
"""


def test_servers_of_the_settings(home: Path) -> None:
    (home / "settings.toml").write_text(FILE)
    chosen, problems = preferences.load()
    assert chosen.servers == {
        "gpu": server("http://gpu-box:8000", "llama", "GPU_KEY"),
        "here": server("http://127.0.0.1:8080"),
    }
    assert chosen.plain_http == ("gpu-box",)
    assert len(problems) == 5 and all("servers." in problem for problem in problems)
    assert SECRET not in " ".join(problems)
    assert "api_key_env names" in next(p for p in problems if "servers.key" in p)


@pytest.mark.parametrize(
    "text", ["servers = 1", "servers = []", "plain_http = 1", "plain_http = [1]", "[servers]\nx=1"]
)
def test_servers_that_are_none(home: Path, text: str) -> None:
    (home / "settings.toml").write_text(text)
    chosen, problems = preferences.load()
    assert chosen == Preferences() and len(problems) == 1


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(st.text(max_size=9), json)
def test_any_value_is_a_server_or_a_sentence(name: str, value: object) -> None:
    try:
        assert isinstance(read_server(name, value), Server)
    except UserError as error:
        assert str(error)


def test_the_model_at_the_start(nobody: None) -> None:
    gpu = server("https://gpu-box", "llama")
    chosen = Preferences(servers={"gpu": gpu})

    def found(*words: str, of_text: str = "") -> tuple[str, Server | None]:
        name, servers = model_at_start(arguments(*words), chosen, of_text)
        return name, servers.find(name)

    assert found() == ("shakespeare", None)
    assert found("gpt2") == ("gpt2", None)
    assert found("@gpu") == ("@gpu", gpu)
    assert found("--server", HERE + "/v1") == (f"@{HERE}", server())
    assert found("llama", "--server", HERE) == (f"llama@{HERE}", server(model="llama"))
    assert found(of_text="gpt2") == ("gpt2", None)
    assert found(of_text="x@gpu") == ("x@gpu", gpu._replace(model="x"))
    assert found("--server", HERE, of_text="gpt2") == (f"@{HERE}", server())
    with pytest.raises(UserError, match="does not name"):
        found(of_text="x@https://evil.org")
    with pytest.raises(UserError, match="for a server"):
        found("gpt2", "--api-key-env", "PATH")


def test_a_key_is_for_the_server_of_the_command_line(
    nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    chosen = Preferences(servers={"gpu": server("https://gpu-box", "llama")})
    for words in (("@gpu",), ("--server", "https://gpu-box")):
        name, servers = model_at_start(arguments(*words, "--api-key-env", "MY_KEY"), chosen, "")
        assert SECRET not in repr((name, servers))
        found = servers.find("x@https://gpu-box")
        assert found == server("https://gpu-box", "x", "MY_KEY")
        other = servers.find("x@https://evil.org")
        assert other is not None and not other.api_key_env


def test_a_server_of_settings_gets_the_key_of_the_command_line(
    nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", SECRET)
    chosen = Preferences(servers={"gpu": server("https://gpu-box", "llama")})
    name, servers = model_at_start(arguments("@gpu", "--api-key-env", "MY_KEY"), chosen, "")
    assert servers.find(name) == server("https://gpu-box", "llama", "MY_KEY")


def test_without_a_terminal_plain_http_must_be_allowed(nobody: None) -> None:
    with pytest.raises(UserError, match="--allow-http"):
        model_at_start(arguments("--server", AWAY), Preferences(), "")
    name, servers = model_at_start(arguments("--server", AWAY, "--allow-http"), Preferences(), "")
    found = servers.find(name)
    assert found is not None
    servers.check(found)
    assert preferences.load()[0].plain_http == ()


@pytest.mark.parametrize("typed", ["\n", "n\n", "", "yesterday\n"])
def test_anything_but_yes_is_no(typed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(typed))
    with pytest.raises(UserError, match="not encrypted"):
        model_at_start(arguments("--server", AWAY), Preferences(), "")
    assert preferences.load()[0].plain_http == ()


def test_yes_is_asked_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "settings.toml").write_text(
        'theme = "nord"  # mine\n[servers.gpu]\nurl = "https://x"\n'
    )
    monkeypatch.setattr(sys, "stdin", Typed("y\n"))
    model_at_start(arguments("--server", AWAY), preferences.load()[0], "")
    assert "gpu-box:8000 is another machine" in capsys.readouterr().err
    chosen, problems = preferences.load()
    assert chosen.plain_http == ("gpu-box",) and not problems
    assert chosen.theme == "nord" and chosen.servers
    assert "# mine" in (home / "settings.toml").read_text()
    monkeypatch.setattr(sys, "stdin", Typed(""))
    model_at_start(arguments("--server", AWAY), chosen, "")
    assert not capsys.readouterr().err


def test_which_models_an_engine_with_a_server_can_load() -> None:
    backend = LocalBackend(servers=Servers({"gpu": server("https://gpu-box")}))
    backend._server = server()
    assert backend.can_load(f"x@{HERE}")
    assert (
        not backend.can_load("@gpu") and not backend.can_load("x") and not backend.can_load("@no")
    )
    for model, reason in (
        ("@no", "no server"),
        (f"x@{AWAY}", "not"),
    ):
        with pytest.raises(BackendError, match=reason):
            backend.load(model, second=True)
