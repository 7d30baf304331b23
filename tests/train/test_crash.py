"""A run that was killed, wherever that was, goes on to the end of an unbroken one."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskcon import commands
from maskcon.data import DataSet
from maskcon.errors import InputError
from maskcon.runs import checkpoint
from maskcon.runs import folder as runs
from tests import command_worker
from tests.conftest import PROCESSES, Told, begun, picture_tree
from tests.train import crash_worker
from tests.train.test_train import equal

EVERYDAY = 6  # ends of runs that are tried every day, of all
KILLS = 30


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, tiny: DataSet) -> Path:
    return picture_tree(tmp_path_factory.mktemp("pictures"), tiny.train)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, pictures) -> tuple[Path, int]:
    """A whole run, and how often it flushed or renamed a file.

    Beside it, in `left`, is what each kind of end would have left at each of these moments.
    """
    out = tmp_path_factory.mktemp("unbroken") / "run"
    calls = PROCESSES.Value("i", 0)
    left = out.parent / "left"
    whole = begun(crash_worker.train, pictures, out, -1, "killed", False, calls, left)
    whole.join()
    assert whole.exitcode == 0
    return out, calls.value


def same(run: Path, unbroken: Path) -> None:
    """The same weights, bank, optimizer, metrics and results, to the bit."""
    for name in ("metrics.jsonl", "encoder.safetensors", "encoder.json", "split.csv"):
        assert (run / name).read_bytes() == (unbroken / name).read_bytes(), name
    states = [checkpoint.load_checkpoint(x / "last.ckpt")["training"] for x in (run, unbroken)]
    assert equal(*states)
    records = [runs.read(folder) for folder in (run, unbroken)]
    assert records[0]["results"] == records[1]["results"]
    assert records[0]["status"] == "finished"


def go_on(pictures: Path, out: Path, last: int = -1) -> int:
    """Resume a run, or start it where there is none yet; the exit status."""
    resume = (out / runs.RUN_FILE).exists()
    again = begun(crash_worker.train, pictures, out, last, "killed", resume)
    again.join()
    return again.exitcode


def ends(calls: int) -> list[tuple[int, crash_worker.End]]:
    return [(n, end) for n in range(calls) for end in ("killed", "torn", "power cut")]


def test_some_ends(tmp_path, pictures, unbroken):
    """Killed, torn and without power, at some of the moments at which a file is to last."""
    (run, calls), out = unbroken, tmp_path / "run"
    assert calls > 30
    for end in random.Random(0).sample(ends(calls), EVERYDAY):
        dying = begun(crash_worker.train, pictures, out, *end, False)
        dying.join()
        assert dying.exitcode == -signal.SIGKILL
        assert go_on(pictures, out) == 0
        same(out, run)
        shutil.rmtree(out)


@pytest.mark.heavy
def test_every_end(tmp_path, pictures, unbroken):
    """At every such moment: a run goes on from all that any end leaves."""
    run, calls = unbroken
    every = sorted((run.parent / "left").iterdir())
    assert calls < len(every) < len(ends(calls))  # many ends leave the same
    for left in every:
        out = left.rename(tmp_path / "run")
        assert go_on(pictures, out) == 0, left.name
        same(out, run)
        shutil.rmtree(out)


@pytest.mark.heavy
def test_thirty_kills(tmp_path, pictures):
    """One run, typed as a command, killed thirty times at random, and resumed each time."""
    settings = {**crash_worker.SETTINGS, "epochs": 20, "eval_every": 2}
    words = ["train", "--data", str(pictures)]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    log = tmp_path / "log"
    start = time.monotonic()
    whole = begun(command_worker.command, [*words, "--out", str(tmp_path / "whole")], tmp_path, log)
    whole.join()
    assert whole.exitcode == 0, log.read_text()
    seconds = time.monotonic() - start
    out, chance, kills = tmp_path / "run", random.Random(1), 0
    while True:
        resume = ["--resume"] if (out / runs.RUN_FILE).exists() else []
        running = begun(command_worker.command, [*words, "--out", str(out), *resume], tmp_path, log)
        running.join(chance.uniform(0, seconds / 4) if kills < KILLS else None)
        if running.exitcode is not None:
            assert running.exitcode == 0, log.read_text()
            if kills >= KILLS:
                break
            shutil.rmtree(out)  # it was quicker than the kills
            continue
        running.kill()
        running.join()
        kills += 1
    same(out, tmp_path / "whole")


def test_one_process_in_a_folder(tmp_path, pictures):
    """A second is refused with the first's number; what a killed one leaves is no obstacle."""
    out = tmp_path / "run"
    words = ["train", "--data", str(pictures), "--out", str(out), "--epochs", "10000"]
    for name, value in crash_worker.SETTINGS.items():
        words += [] if name == "epochs" else [f"--{name.replace('_', '-')}", str(value)]
    first = begun(command_worker.command, words, tmp_path, tmp_path / "log")
    while not (out / "previous.ckpt").exists():
        assert first.exitcode is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    for more in ({"resume": True}, {"overwrite": True}):
        with pytest.raises(InputError, match=rf"{out} is in use by process {first.pid} on "):
            commands.train(out=out, **more)
    assert json.loads((out / "metrics.jsonl").read_text().splitlines()[0])["step"] == 2
    first.kill()
    first.join()
    with pytest.raises(InputError, match="cannot go on with other options: lr is"):
        commands.train(out=out, resume=True, lr=5.0)  # it has the folder
    assert not (out / runs.LOCK).exists()


def test_a_clock_that_goes_back(tmp_path, pictures, unbroken, monkeypatch, one_thread):
    out = tmp_path / "run"
    shutil.copytree(unbroken[0], out)
    (out / "last.ckpt").unlink()
    later = time.time() + 1e6
    for path in out.iterdir():
        os.utime(path, (later, later))
    clock = itertools.count(1e9, -1000.0)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monkeypatch.setattr(crash_worker.training.card, "write", lambda *args: None)
    commands.train(out=out, resume=True)
    same(out, unbroken[0])


def test_where_nothing_can_be_written(pictures):
    with pytest.raises(InputError, match="the folder /proc/maskcon cannot be written"):
        commands.train(out="/proc/maskcon", data=pictures, **crash_worker.SETTINGS)


@pytest.mark.heavy
def test_a_disk_that_is_full_and_one_that_is_read_only(tmp_path, pictures, unbroken):
    """Real ones, mounted for the test; after each the run goes on to the end of an unbroken one."""
    mount = ["unshare", "-m", "sh", "-ec"]
    if subprocess.run([*mount, f"mount -t tmpfs none {tmp_path}"], check=False).returncode:
        pytest.skip("nothing can be mounted here: this needs root")
    words = [f"--{name.replace('_', '-')} {x}" for name, x in crash_worker.SETTINGS.items()]
    train = f"{sys.executable} -m maskcon train --data {pictures} {' '.join(words)} --out disk/run"
    size = sum(path.stat().st_size for path in unbroken[0].iterdir())
    script = f"""
        cd {tmp_path}; mkdir disk; mount -t tmpfs -o size={size // 2} none disk
        {train} && exit 9 || echo "status $?"
        mount -o remount,ro,size={4 * size + 2**22} disk
        {train} --resume && exit 9 || echo "status $?"
        mount -o remount,rw disk
        {train} --resume
        cp -r disk/run kept
    """
    done = subprocess.run([*mount, script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "status 1" in done.stdout
    assert "No space left on device" in done.stderr
    assert "Make room, then go on with --resume" in done.stderr
    assert "status 2" in done.stdout
    assert "cannot be written: [Errno 30] Read-only file system" in done.stderr
    same(tmp_path / "kept", unbroken[0])


@pytest.mark.heavy
def test_a_worker_that_dies(tmp_path, tiny):
    """It is named, and the run can go on from its checkpoint."""
    photos, out, log = tmp_path / "photos", tmp_path / "run", tmp_path / "log"
    picture_tree(photos, tiny.train, side=80)
    words = ["train", "--data", str(photos), "--out", str(out), "--workers", "2"]
    for name, value in {**crash_worker.SETTINGS, "image_size": 70, "epochs": 10000}.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    run = begun(command_worker.command, words, tmp_path, log)
    while not (out / "previous.ckpt").exists():
        assert run.exitcode is None, log.read_text()
        time.sleep(0.05)
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children")
    while not (workers := children.read_text().split()):  # between evaluation and training
        time.sleep(0.01)
    os.kill(int(workers[0]), signal.SIGKILL)
    run.join(60)
    assert run.exitcode == 1
    assert "a process that reads pictures died" in log.read_text()
    assert "Mend that, then go on with --resume" in log.read_text()
    assert checkpoint.newest_checkpoint(out, Told())["training"]["steps"] > 0
