"""However a conversion ends, a model is there as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from convert.write import ConversionOptions, convert
from gpt import atomic_directory, models
from gpt.checkpoint import damaged, load
from gpt.errors import UserError
from tests.convert.conftest import GPT2, IDS, gpt2, saved
from tests.convert.interrupt import POINTS

REPOSITORY = Path(__file__).parents[2]
STATUS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A sound checkpoint."""
    return saved(gpt2(), tmp_path / "theirs")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has neither fork nor these signals")
def test_signals(tmp_path: Path) -> None:
    """What a conversion over an older one leaves, at every point and by every signal."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.convert.interrupt", str(saved(gpt2(), tmp_path / "theirs"))],
        cwd=REPOSITORY,
        env={**os.environ, "GPT_TUI_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    sound = {"hidden": [], "listed": ["tiny"], "damaged": []}
    wrong = []
    for ending in found:
        after, is_killed = ending["after"], ending["signal"] == "SIGKILL"
        expected = sound
        if is_killed:  # what it was writing is hidden until the next conversion
            expected = {**sound, "hidden": after["hidden"]}
            if ending["point"] == "between the renames":
                expected = {**expected, "listed": [], "damaged": after["damaged"]}
        if (after, ending["status"], ending["next"]) != (expected, STATUS[ending["signal"]], sound):
            wrong.append(ending)
    assert not wrong
    assert {(e["point"], e["signal"]) for e in found} == set(product(POINTS, STATUS))


def test_a_new_conversion_that_is_killed_leaves_no_model(home: Path) -> None:
    """A draft is hidden, whatever is in it."""
    (home / "models" / ".tiny.abcd1234.draft").mkdir(parents=True)
    (home / "models" / ".tiny.abcd1234.draft" / "manifest.json").write_text("{}")
    assert "tiny" not in models.available()
    with pytest.raises(UserError, match="there is no model"):
        models.find("tiny")


def test_a_draft_in_use_is_not_swept(home: Path, source: Path) -> None:
    with atomic_directory.replacing(home / "models" / "other") as other:
        (other / "x").write_text("half")
        convert(str(source), verify=False)
        assert (other / "x").read_text() == "half"
        (other / models.MANIFEST).write_text("{}")
    assert (home / "models" / "other" / "x").exists()


def test_what_is_not_ours_is_not_swept(home: Path, source: Path) -> None:
    kept = [home / "models" / name for name in (".git", ".x.draft", ".theirs", "a.abcd1234.draft")]
    for path in kept:
        path.mkdir(parents=True)
    convert(str(source), verify=False)
    assert all(path.is_dir() for path in kept)


def test_an_old_model_comes_back(home: Path, source: Path) -> None:
    """A process was killed between moving the old model aside and installing the new one."""
    directory = convert(str(source), verify=False).directory
    directory.rename(directory.with_name(".theirs.abcd1234.old"))
    atomic_directory.sweep(directory.parent)
    assert damaged(directory) == []
    assert [path.name for path in directory.parent.iterdir()] == ["theirs"]


def test_two_conversions_at_once(home: Path, source: Path) -> None:
    command = [sys.executable, "-m", "convert", str(source), "--force", "--no-verify", "--json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait() for process in running] == [0, 0]
    directory = home / "models" / "theirs"
    assert damaged(directory) == []
    assert [path.name for path in directory.parent.iterdir()] == ["theirs"]


def test_swaps_that_cross(home: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another conversion installs its result between our two renames."""
    directory = convert(str(source), verify=False).directory
    rename, n_calls = Path.rename, 0

    def crossed(self: Path, place: Path) -> Path:
        nonlocal n_calls
        moved = rename(self, place)
        n_calls += 1
        if n_calls == 1:
            shutil.copytree(place, directory)
        return moved

    monkeypatch.setattr(Path, "rename", crossed)
    convert(str(source), verify=False, options=ConversionOptions(force=True, dtype="float16"))
    assert models.read_manifest(directory).dtype == "float16"
    assert damaged(directory) == []
    assert [path.name for path in directory.parent.iterdir()] == ["theirs"]


def test_converting_over_a_model_in_use(source: Path) -> None:
    directory = convert(str(source), verify=False).directory
    model = load(directory).model
    before = model(IDS)
    other = saved(gpt2(n_layer=1), source.parent / "new" / "theirs")
    convert(str(other), verify=False, options=ConversionOptions(force=True))
    torch.testing.assert_close(model(IDS), before, rtol=0, atol=0)
    assert load(directory).model.config.n_layer == 1


def test_a_model_is_not_replaced_without_force(source: Path) -> None:
    directory = convert(str(source), verify=False).directory
    time = directory.stat().st_mtime_ns
    with pytest.raises(UserError, match="already exists; --force"):
        convert(str(source), verify=False)
    assert directory.stat().st_mtime_ns == time


def test_what_is_no_checkpoint_is_never_replaced(source: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for out in (precious, tmp_path / "file"):
        with pytest.raises(UserError, match="exists and is not a checkpoint"):
            convert(str(source), verify=False, options=ConversionOptions(out=out, force=True))
    assert (precious / "thesis.txt").read_text() == "years of work"
    with (
        pytest.raises(UserError, match="exists and is not a checkpoint"),
        atomic_directory.replacing(precious),
    ):
        pass
    assert [path.name for path in precious.iterdir()] == ["thesis.txt"]


def test_a_full_disk_is_noticed_first(
    source: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(home)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 24))
    with pytest.raises(UserError, match="free some space"):
        convert(str(source), verify=False)
    assert not (home / "models").exists()


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Windows has no limits of a process")
@pytest.mark.parametrize("limit", [1000, 20_000])
def test_a_disk_that_fills_up(limit: int, tmp_path: Path, source: Path) -> None:
    """The old checkpoint stays and no temporary file does."""
    import resource

    directory = convert(str(source), verify=False).directory
    before = (directory / "manifest.json").read_bytes()
    done = subprocess.run(
        [sys.executable, "-m", "convert", str(source), "--force", "--no-verify"],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    expected = f"error: cannot write {directory}: [Errno 27] File too large"
    assert done.stderr.splitlines()[-1] == expected
    assert (directory / "manifest.json").read_bytes() == before
    assert damaged(directory) == []
    assert [path.name for path in directory.parent.iterdir()] == ["theirs"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes of files")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes_are_those_of_the_umask(umask: int, source: Path) -> None:
    old = os.umask(umask)
    try:
        directory = convert(str(source), verify=False).directory
    finally:
        os.umask(old)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o777 & ~umask
    assert {stat.S_IMODE(p.stat().st_mode) for p in directory.iterdir()} == {0o666 & ~umask}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is Linux's to tell")
def test_memory_stays_near_the_largest_tensor(tmp_path: Path) -> None:
    """A model of 40 equal layers in shards takes no more than one of 2 layers, and a little."""
    peaks = []
    for n_layer in (2, 40):
        sizes = {**GPT2, "n_embd": 128, "n_layer": n_layer}
        source = saved(gpt2(**sizes), tmp_path / f"{n_layer}", max_shard_size="5MB")
        code = (
            "import sys\n"
            "from convert.write import convert\n"
            "convert(sys.argv[1], verify=False)\n"
            "lines = open('/proc/self/status').read().splitlines()\n"
            "print(*(line.split()[1] for line in lines if line.startswith('VmHWM')))\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(source)],
            cwd=REPOSITORY,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout) * 1024)
    whole = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    assert whole > 30e6
    assert peaks[1] - peaks[0] < whole / 3
