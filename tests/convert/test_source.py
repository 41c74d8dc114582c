"""The hub, as far as it can be tried without one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from convert.events import Notice, Progress
from convert.source import locate
from convert.write import convert
from gpt.errors import UserError
from gpt.models import read_manifest
from tests.convert.conftest import assert_same, gpt2, saved

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of huggingface_hub."""
    path = tmp_path / "cache"
    path.mkdir()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(path))
    return path


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network."""

    def info(*_: Any, **__: Any) -> None:
        raise errors.OfflineModeIsEnabled("offline mode is on\nsecond line")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)


def cached(cache: Path, name: str, source: Path) -> Path:
    """A model in the hub's cache, as a download leaves it."""
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    for i, path in enumerate(sorted(source.iterdir())):
        shutil.copy(path, root / "blobs" / f"{i}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{i}")
    return snapshot


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], list[str]]:
    """A hub that has one model: what is fetched of it."""

    def serve(source: Path) -> list[str]:
        fetched: list[str] = []

        def info(_: Any, model: str, **options: Any) -> SimpleNamespace:
            files = [
                SimpleNamespace(rfilename=path.name, size=path.stat().st_size)
                for path in source.iterdir()
            ]
            return SimpleNamespace(id=model, sha=COMMIT, siblings=files)

        def download(model: str, name: str, *, revision: str, tqdm_class: Any) -> str:
            assert revision == COMMIT
            fetched.append(name)
            size = (source / name).stat().st_size
            bar = tqdm_class(total=size, initial=0, unit="B", name="x", desc=name)
            bar.update(size // 2)
            bar.update(size - size // 2)
            return str(source / name)

        monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return fetched

    return serve


def test_only_what_is_needed_is_fetched(hub: Callable[[Path], list[str]], tmp_path: Path) -> None:
    model = gpt2()
    source = saved(model, tmp_path / "theirs", max_shard_size="10KB")
    for name in ("tf_model.h5", "pytorch_model.bin", "README.md", "optimizer.pt", "model.gguf"):
        (source / name).write_bytes(b"x" * 100)
    fetched = hub(source)
    events: list[Progress | Notice] = []
    result = convert("someone/tiny", tell=events.append)
    assert result.name == "tiny"
    assert_same(model, result.directory)
    shards = {path.name for path in source.glob("model-*.safetensors")}
    expected = {"config.json", "vocab.json", "merges.txt", "model.safetensors.index.json"} | shards
    assert set(fetched) == expected
    assert len(fetched) == len(expected)
    progress = [e for e in events if isinstance(e, Progress) and e.phase == "download"]
    assert progress[-1].done == progress[-1].total
    assert progress[-1].file_done == progress[-1].file_total
    origin = read_manifest(result.directory).origin
    assert (origin["kind"], origin["model"]) == ("hub", "someone/tiny")
    assert origin["revision"] == COMMIT


def test_other_kinds_on_the_hub_are_refused_before_a_download(
    hub: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    source = saved(gpt2(), tmp_path / "theirs")
    (source / "model.safetensors").rename(source / "tiny.gguf")
    fetched = hub(source)
    with pytest.raises(UserError, match=r"someone/tiny on the hub holds .*GGUF"):
        convert("someone/tiny")
    assert fetched == []


@pytest.mark.parametrize("place", ["../../x.safetensors", "missing.safetensors"])
def test_an_index_on_the_hub_leads_nowhere_else(
    place: str, hub: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    source = saved(gpt2(), tmp_path / "theirs", max_shard_size="10KB")
    index = source / "model.safetensors.index.json"
    table = json.loads(index.read_text())["weight_map"]
    index.write_text(json.dumps({"weight_map": {**table, "x": place}}))
    hub(source)
    with pytest.raises(UserError, match=r"no file beside it|does not have"):
        convert("someone/tiny")


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize("name", ["gpt2", "openai-community/gpt2"])
def test_offline_with_a_warm_cache(name: str, cache: Path, tmp_path: Path) -> None:
    model = gpt2()
    cached(cache, name, saved(model, tmp_path / "theirs"))
    result = convert("gpt2")
    assert result.name == "gpt2"
    assert_same(model, result.directory)
    assert read_manifest(result.directory).origin["revision"] == COMMIT


@pytest.mark.usefixtures("offline")
def test_offline_without_one(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        convert("gpt2")
    assert str(caught.value) == (
        "gpt2 is not on this machine and the hub cannot be reached (offline mode is on); "
        "connect, or name a directory that holds a copy"
    )
    source = saved(gpt2(), tmp_path / "theirs")
    (source / "model.safetensors").unlink()
    cached(cache, "gpt2", source)
    with pytest.raises(UserError, match="is not on this machine"):
        convert("gpt2")


def response() -> Any:
    """What the hub's errors carry."""
    return SimpleNamespace(headers={}, status_code=404, request=None, text="", json=dict)


@pytest.mark.parametrize(
    ("error", "match"),
    [
        (errors.RepositoryNotFoundError, "there is no nobody/nothing here or on the hub"),
        (errors.GatedRepoError, "licence"),
        (errors.RevisionNotFoundError, "has no revision 'x'"),
    ],
)
def test_what_the_hub_refuses(
    error: type[Exception], match: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def info(*_: Any, **__: Any) -> None:
        raise error("no", response=response())  # type: ignore[call-arg]

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", info)
    with pytest.raises(UserError, match=match):
        convert("nobody/nothing", revision="x")


def test_a_download_that_breaks_off(
    hub: Callable[[Path], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub(saved(gpt2(), tmp_path / "theirs"))

    def download(*_: Any, **__: Any) -> str:
        raise ConnectionError("reset by peer\n...")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UserError, match=r"failed \(reset by peer\); run it again to go on"):
        convert("someone/tiny")


def test_a_directory_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate("gpt2", None, lambda _: None).kind == "directory"
