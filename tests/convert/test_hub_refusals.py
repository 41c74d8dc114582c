"""What the hub refuses is one sentence of ours, right and whole, with nothing printed before it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert.source import locate
from gpt.errors import UserError
from tests.convert import hub_server
from tests.convert.conftest import gpt2, saved
from tests.convert.hub_server import PORTAL, Hub

hub, pauses = hub_server.hub, hub_server.pauses  # fixtures

WEIGHTS = "model.safetensors"
FILES = {"config.json": b"{}", "tokenizer.json": b"{}", WEIGHTS: b"0123456789" * 1000}
REPOSITORY = Path(__file__).parents[2]
API = "^/api/models"
NO_TOKEN = "Invalid credentials in Authorization header"  # noqa: S105


def refusal(
    capfd: pytest.CaptureFixture[str], model: str = "someone/tiny", revision: str | None = None
) -> str:
    """The sentence that the user gets, alone."""
    with pytest.raises(UserError) as caught:
        locate(model, revision, lambda _: None)
    assert capfd.readouterr() == ("", "")
    assert str(caught.value).isprintable()
    return str(caught.value)


LICENCE = (
    "someone/tiny is gated: accept its licence on https://huggingface.co/someone/tiny, then log in "
    "here with `hf auth login`"
)
NOT_LET_IN = (
    "your account has no access to someone/tiny: ask for access on "
    "https://huggingface.co/someone/tiny, or log in with another token (`hf auth login`)"
)
TOKEN = "the hub does not accept your token: log in again with `hf auth login`"  # noqa: S105
CLOSED = "the hub has disabled someone/tiny, so it cannot be downloaded: choose another model"
NOT_THERE = "someone/tiny is not on this machine and "
STOPPED = "the download of someone/tiny stopped at model.safetensors: "
GATED = {"X-Error-Code": "GatedRepo"}
DISABLED = {"X-Error-Message": "Access to this resource is disabled."}


@pytest.mark.parametrize(
    ("status", "headers", "sentence"),
    [
        (401, GATED, LICENCE),
        (403, GATED, NOT_LET_IN),
        (403, {}, NOT_LET_IN),
        (403, DISABLED, CLOSED),
        (401, {"X-Error-Message": NO_TOKEN}, TOKEN),
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", API), ("HEAD", WEIGHTS), ("GET", WEIGHTS)])
def test_what_is_not_for_everybody(
    method: str,
    path: str,
    status: int,
    headers: dict[str, str],
    sentence: str,
    hub: Hub,
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault(method, path, status, headers=headers)
    assert refusal(capfd) == sentence


@pytest.mark.parametrize("code", [{}, {"X-Error-Code": "RepoNotFound"}])
@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_file_that_asks_for_a_login(
    method: str, code: dict[str, str], hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault(method, WEIGHTS, 401, headers=code)
    assert refusal(capfd) == LICENCE


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_file_that_is_gone(method: str, hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault(method, WEIGHTS, 404, headers={"X-Error-Code": "EntryNotFound"}, times=1)
    hub.fault(method, WEIGHTS, 404)
    expected = "the hub lists model.safetensors for someone/tiny but does not have it: "
    for _ in range(2):
        assert refusal(capfd) == expected + "choose another --revision"


@pytest.mark.parametrize("status", [None, 401, 404])
def test_a_model_that_is_not_there(
    status: int | None, hub: Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    if status:
        hub.fault("GET", API, status)
    sentence = (
        "nobody/nothing is neither on this machine nor on the hub (if it is private, log in with "
        "`hf auth login`)"
    )
    assert refusal(capfd, "nobody/nothing") == sentence


def test_a_revision_that_is_not_there(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    expected = "someone/tiny has no revision 'v9' on the hub"
    assert refusal(capfd, revision="v9") == expected


@pytest.mark.parametrize("name", ["a--b", "a..b", "x" * 97, "someone/tiny.git", "x" * 300, "a/b/c"])
@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.usefixtures("hub")
def test_what_is_not_a_name(
    name: str, offline: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    found = refusal(capfd, name)
    assert found.startswith(f"{name} is neither a directory")
    assert found.endswith("nor a name on the hub")


BUSY = {
    429: "the hub gets too many requests from here (429): run it again later",
    500: "the hub has a server error (500): run it again later",
    503: "the hub has a server error (503): run it again later",
}


@pytest.mark.parametrize("status", BUSY)
@pytest.mark.parametrize(("method", "path"), [("GET", API), ("HEAD", WEIGHTS), ("GET", WEIGHTS)])
def test_a_hub_that_stays_out_of_order(
    method: str,
    path: str,
    status: int,
    hub: Hub,
    pauses: list[float],
    capfd: pytest.CaptureFixture[str],
) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault(method, path, status)
    start = NOT_THERE if path == API else STOPPED
    assert refusal(capfd) == start + BUSY[status]
    assert len(pauses) == 3


NO_HUB = (
    "the server at {} is not the hub: open a web page to see whether this network requires a "
    "login, and check HF_ENDPOINT"
)
SHA = "0" * 40


@pytest.mark.parametrize(
    "body",
    [
        PORTAL,
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xff\x00",
        json.dumps({"id": "x"}).encode(),
        json.dumps({"id": "x", "sha": "../..", "siblings": []}).encode(),
        json.dumps({"id": ["x"], "sha": SHA, "siblings": []}).encode(),
        json.dumps({"id": "x", "sha": SHA, "siblings": 3}).encode(),
        json.dumps({"id": "x", "sha": SHA, "siblings": [{}]}).encode(),
        json.dumps({"id": "x", "sha": SHA, "siblings": [{"rfilename": 3}]}).encode(),
        json.dumps(
            {"id": "x", "sha": SHA, "siblings": [{"rfilename": WEIGHTS, "size": "big"}]}
        ).encode(),
    ],
)
def test_what_is_not_the_hub(body: bytes, hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.fault(".", "", body=body, headers={"Content-Type": "text/html"})
    assert refusal(capfd) == NOT_THERE + NO_HUB.format(hub.url)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["x", SHA, WEIGHTS]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["rfilename", "size", "lfs", "x"]), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.fixed_dictionaries({}, optional={"id": JSON, "sha": JSON, "siblings": JSON}))
@settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_it_answers_is_a_sentence(hub: Hub, answer: dict[str, Any]) -> None:
    hub.faults.clear()
    hub.fault("GET", API, body=json.dumps(answer).encode())
    with pytest.raises(UserError):
        locate("someone/tiny", None, lambda _: None)


def test_a_portal_that_forwards(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.fault(".", API, 302, headers={"Location": "/login"})
    hub.fault(".", "^/login", body=PORTAL, headers={"Content-Type": "text/html"})
    assert refusal(capfd) == NOT_THERE + NO_HUB.format(hub.url)


@pytest.mark.parametrize("body", [PORTAL, b"{}"])
def test_a_portal_in_the_middle(body: bytes, hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault(".", WEIGHTS, body=body, headers={"Content-Type": "text/html"})
    assert refusal(capfd) == STOPPED + NO_HUB.format(hub.url)


def test_a_portal_in_the_place_of_a_file(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault("GET", WEIGHTS, body=PORTAL)
    sentence = refusal(capfd)
    assert sentence.startswith(STOPPED + "its size differs from what the hub lists")


def test_no_hub_at_all(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        sentence = refusal(capfd)
    assert sentence.startswith(NOT_THERE + "the hub cannot be reached (Connection refused")
    assert sentence.endswith("): connect to the internet, or give a directory that holds a copy")


def test_offline_mode(
    hub: Hub, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reason = "the hub cannot be reached because HF_HUB_OFFLINE is set: "
    advice = "unset it, or give a directory that holds a copy"
    assert refusal(capfd) == NOT_THERE + reason + advice
    assert hub.requests == []


@pytest.mark.usefixtures("pauses")
def test_a_download_that_breaks_off_for_good(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    """A file begins anew the next time, so only the others are promised."""
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault("GET", WEIGHTS, break_at=4500)
    sentence = refusal(capfd)
    assert sentence.startswith(STOPPED + "the connection was lost (")
    assert sentence.endswith("): run it again; complete files are kept")
    hub.faults.clear()
    hub.requests.clear()
    locate("someone/tiny", None, lambda _: None)
    assert hub.fetched() == [WEIGHTS]


def test_a_cache_that_cannot_be_written(
    hub: Hub, capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file"))
    hub.repositories["someone/tiny"] = dict(FILES)
    sentence = refusal(capfd)
    assert sentence.startswith("the download of someone/tiny stopped at config.json: cannot write ")
    assert sentence.endswith(": free some space, or set HF_HOME to another directory")


def command(hub: Hub, home: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    """The status of the real command and what it wrote on stderr."""
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hf"), **settings}
    for name in ("HF_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE"):
        environment.pop(name, None) if name not in settings else None
    done = subprocess.run(
        [sys.executable, "-m", "convert", *arguments],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_command_with_its_own_settings(hub: Hub, tmp_path: Path) -> None:
    """Downloaded once, it opens offline; an error is the only line on stderr."""
    hub.add("someone/tiny", saved(gpt2(bos_token_id=1, eos_token_id=1), tmp_path / "theirs"))
    hub.fault("GET", API, 403, headers={"X-HF-Warning": "limits; Set a HF_TOKEN"}, times=1)
    refused = command(hub, tmp_path, "someone/tiny", HF_HUB_VERBOSITY="loud")
    assert refused == (1, f"error: {NOT_LET_IN}\n")
    assert command(hub, tmp_path, "someone/tiny", "--no-verify") == (0, "")
    arguments = ("someone/tiny", "--no-verify", "--force")
    assert command(hub, tmp_path, *arguments, HF_HUB_OFFLINE="1") == (0, "")
    status, stderr = command(hub, tmp_path, *arguments, HF_ENDPOINT="http://127.0.0.1:9")
    assert status == 0
    assert "the copy on this machine is used" in stderr
    assert stderr.count("\n") == 1
