"""What is taken from the hub and its cache, with a server that imitates the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import constants

from convert.events import ConversionProgress, Event, Notice
from convert.source import SourceCheckpoint, locate
from convert.write import convert
from gpt.errors import UserError
from gpt.models import read_manifest
from tests.convert import hub_server
from tests.convert.conftest import assert_same, gpt2, saved
from tests.convert.hub_server import PORTAL, Hub

hub, pauses = hub_server.hub, hub_server.pauses  # fixtures

FILES = {"config.json": b"{}", "tokenizer.json": b"{ }", "model.safetensors": b"0123456789" * 1000}
WEIGHTS = "model.safetensors"


def found(
    model: str = "someone/tiny", revision: str | None = None
) -> tuple[SourceCheckpoint, list[Event]]:
    """A checkpoint that was located, and what was told meanwhile."""
    events: list[Event] = []
    return locate(model, revision, events.append), events


def notices(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


def names(directory: Path) -> set[str]:
    """The files of a directory and of those below it."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix() for path in files}


def test_only_what_is_needed_is_fetched(hub: Hub, tmp_path: Path) -> None:
    model = gpt2()
    source = saved(model, tmp_path / "theirs", max_shard_size="10KB")
    for name in ("tf_model.h5", "pytorch_model.bin", "README.md", "optimizer.pt", "model.gguf"):
        (source / name).write_bytes(b"x" * 100)
    hub.add("someone/tiny", source)
    events: list[Event] = []
    result = convert("someone/tiny", on_event=events.append)
    assert result.name == "tiny"
    assert_same(model, result.directory)
    shards = {path.name for path in source.glob("model-*.safetensors")}
    expected = {"config.json", "generation_config.json", "vocab.json", "merges.txt"}
    expected |= {"model.safetensors.index.json"} | shards
    assert sorted(hub.fetched()) == sorted(expected)
    progress = [e for e in events if isinstance(e, ConversionProgress) and e.phase == "download"]
    assert progress[-1].done == progress[-1].total
    assert progress[-1].file_done == progress[-1].file_total
    origin = read_manifest(result.directory).origin
    assert (origin["kind"], origin["model"]) == ("hub", "someone/tiny")
    assert origin["revision"] == hub.commit("someone/tiny")


def test_every_file_that_changes_a_text_is_fetched(hub: Hub) -> None:
    facts = {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "additional_chat_templates/tools.jinja",
        WEIGHTS,
    }
    others = {"vocab.json", "merges.txt", "README.md", "other/chat_template.jinja"}
    hub.repositories["someone/tiny"] = {n: n.encode() for n in facts | others}
    source, _ = found()
    assert names(source.directory) == facts
    assert sorted(hub.fetched()) == sorted(facts)


def test_what_is_there_is_not_fetched_again(hub: Hub) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    found()
    hub.requests.clear()
    found()
    assert hub.fetched() == []


def test_other_kinds_on_the_hub_are_refused_before_a_download(hub: Hub) -> None:
    hub.repositories["someone/tiny"] = {"config.json": b"{}", "tiny.gguf": b"x"}
    with pytest.raises(UserError, match=r"someone/tiny on the hub has .*GGUF"):
        found()
    assert hub.fetched() == []


@pytest.mark.parametrize("place", ["../../x.safetensors", "missing.safetensors"])
def test_an_index_on_the_hub_leads_nowhere_else(place: str, hub: Hub) -> None:
    index = json.dumps({"weight_map": {"x": place}}).encode()
    files = {"config.json": b"{}", "model.safetensors.index.json": index}
    hub.repositories["someone/tiny"] = files
    with pytest.raises(UserError, match=r"not a file next to it|does not have"):
        found()


def unreachable(kind: str, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No hub from now on."""
    if kind == "offline mode":
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    elif kind == "dead":
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    elif kind == "portal":
        hub.fault(".", "", body=PORTAL, headers={"Content-Type": "text/html"})
    else:
        hub.fault(".", "", int(kind))


KINDS = ["offline mode", "dead", "portal", "429", "503"]


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("first", "then"),
    [("gpt2", "gpt2"), ("gpt2", "openai-community/gpt2"), ("openai-community/gpt2", "gpt2")],
)
def test_what_was_downloaded_opens_without_the_hub(
    kind: str, first: str, then: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["openai-community/gpt2"] = dict(FILES)
    hub.other_names["gpt2"] = "openai-community/gpt2"
    online, _ = found(first)
    unreachable(kind, hub, monkeypatch)
    source, events = found(then)
    assert source.directory == online.directory
    assert source.revision == hub.commit("openai-community/gpt2")
    told = [text for text in notices(events) if "the copy on this machine is used" in text]
    assert len(told) == (kind != "offline mode")


def test_a_whole_conversion_offline(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = gpt2()
    hub.add("someone/tiny", saved(model, tmp_path / "theirs", max_shard_size="10KB"))
    found()
    unreachable("offline mode", hub, monkeypatch)
    result = convert("someone/tiny")
    assert_same(model, result.directory)
    assert read_manifest(result.directory).origin["revision"] == hub.commit("someone/tiny")


def test_a_revision_opens_offline_by_each_of_its_names(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    commit = hub.commit("someone/tiny")
    online, _ = found(revision=commit)
    unreachable("offline mode", hub, monkeypatch)
    assert found(revision=commit)[0].directory == online.directory
    with pytest.raises(UserError, match=f"--revision {commit} is complete here"):
        found()


@pytest.mark.usefixtures("pauses")
def test_a_download_that_failed_leaves_the_previous_one_in_use(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    online, _ = found()
    hub.repositories["someone/tiny"][WEIGHTS] = b"new"
    hub.fault("GET", WEIGHTS, 500)
    with pytest.raises(UserError, match="download"):
        found()
    unreachable("offline mode", hub, monkeypatch)
    assert found()[0].directory == online.directory


def test_a_download_of_another_program_that_is_not_complete(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    hub.repositories["someone/tiny"] = dict(FILES)
    commit = hub.commit("someone/tiny")
    found()
    hub.repositories["someone/tiny"]["config.json"] = b"{} "
    huggingface_hub.hf_hub_download("someone/tiny", "config.json")
    unreachable("offline mode", hub, monkeypatch)
    with pytest.raises(UserError, match=f"not complete.*--revision {commit} is complete here"):
        found()
    assert found(revision=commit)[0].revision == commit


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", WEIGHTS])
def test_a_link_to_a_blob_that_is_gone_is_named(
    name: str, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["someone/tiny"] = {**FILES, "other.bin": b""}
    online, _ = found()
    path = online.directory / name
    path.resolve().unlink()
    (online.directory / "other.bin").symlink_to("nowhere")
    gone = f"{path} is a link to a file that is gone"
    with monkeypatch.context() as offline:
        unreachable("offline mode", hub, offline)
        with pytest.raises(UserError) as caught:
            found()
    assert gone in str(caught.value)
    again, _ = found()  # the hub has it
    assert (again.directory / name).read_bytes() == FILES[name]


@pytest.mark.parametrize("name", ["config.json", "chat_template.jinja"])
def test_a_link_of_a_directory_that_leads_nowhere_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(UserError, match=f"{name} is a link to a file that is gone"):
        found(str(tmp_path))


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_goes_on(
    ranges: bool, hub: Hub, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 1000)
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.ranges = ranges
    hub.fault("GET", WEIGHTS, break_at=4500, times=1)
    source, events = found()
    assert (source.directory / WEIGHTS).read_bytes() == FILES[WEIGHTS]
    asked = [r.range for r in hub.requests if r.method == "GET" and WEIGHTS in r.path]
    assert asked[0] is None
    assert asked[1:] == ["bytes=4000-"]
    progress = [e for e in events if isinstance(e, ConversionProgress)]
    assert max(e.done for e in progress) == progress[-1].done == progress[-1].total
    assert pauses


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("method", "path"), [("GET", "^/api/models"), ("HEAD", "config"), ("GET", WEIGHTS)]
)
def test_a_hub_that_is_busy_is_asked_again(
    method: str, path: str, status: int, hub: Hub, pauses: list[float]
) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault(method, path, status, times=2)
    source, events = found()
    assert names(source.directory) == set(FILES)
    assert len(pauses) == 2
    assert 0 < pauses[0] < pauses[1]
    assert len(notices(events)) == 2
    assert str(status) in notices(events)[0]
    assert "trying again in" in notices(events)[0]


def test_the_hub_says_when_to_come_back(hub: Hub, pauses: list[float]) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault("GET", "^/api/models", 429, headers={"Retry-After": "7"}, times=1)
    hub.fault("GET", WEIGHTS, 503, headers={"Retry-After": "Fri, 31 Dec"}, times=1)
    found()
    assert pauses[0] == 7
    assert len(pauses) == 2


def test_a_long_pause_is_left_to_the_user(hub: Hub, pauses: list[float]) -> None:
    hub.repositories["someone/tiny"] = dict(FILES)
    hub.fault("GET", "^/api/models", 429, headers={"Retry-After": "3600"})
    with pytest.raises(UserError, match="in 60 minutes"):
        found()
    assert pauses == []


@pytest.mark.parametrize("error", [UserError("nothing was converted"), BrokenPipeError()])
def test_whoever_is_told_may_end_it(error: Exception, hub: Hub) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, ConversionProgress):
            raise error

    hub.repositories["someone/tiny"] = dict(FILES)
    with pytest.raises(type(error)) as caught:
        locate("someone/tiny", None, on_event)
    assert caught.value is error


def test_a_directory_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert found("gpt2")[0].kind == "directory"
