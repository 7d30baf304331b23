"""A run that was killed, wherever that was, goes on to the end of an unbroken one."""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest

from maskcon import checkpoint, runs
from maskcon.data import DataSet
from tests import crash_worker
from tests.conftest import PROCESSES, begun, picture_tree
from tests.test_train import equal

EVERYDAY = 9  # ends of runs that are tried every day, of all
KILLS = 30


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, tiny: DataSet) -> Path:
    return picture_tree(tmp_path_factory.mktemp("pictures"), tiny.train)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, pictures) -> tuple[Path, int]:
    """A whole run, and how often it flushed or renamed a file."""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    calls = PROCESSES.Value("i", 0)
    whole = begun(crash_worker.train, pictures, out, -1, "killed", False, calls)
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


def dies(end: tuple[int, crash_worker.End], pictures: Path, unbroken: Path, out: Path) -> None:
    dying = begun(crash_worker.train, pictures, out, *end, False)
    dying.join()
    assert dying.exitcode == -signal.SIGKILL
    assert go_on(pictures, out) == 0
    same(out, unbroken)
    shutil.rmtree(out)


def test_some_ends(tmp_path, pictures, unbroken):
    """Killed, torn and without power, at some of the moments at which a file is to last."""
    run, calls = unbroken
    assert calls > 30
    for end in random.Random(0).sample(ends(calls), EVERYDAY):
        dies(end, pictures, run, tmp_path / "run")


@pytest.mark.heavy
def test_every_end(tmp_path, pictures, unbroken):
    """At every such moment."""
    run, calls = unbroken
    for end in ends(calls):
        dies(end, pictures, run, tmp_path / "run")


@pytest.mark.heavy
def test_thirty_kills(tmp_path, pictures):
    """One run, typed as a command, killed thirty times at random, and resumed each time."""
    settings = {**crash_worker.SETTINGS, "epochs": 40, "eval_every": 2}
    words = ["train", "--data", str(pictures)]
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", str(value)]
    log = tmp_path / "log"
    start = time.monotonic()
    whole = begun(crash_worker.command, [*words, "--out", str(tmp_path / "whole")], log)
    whole.join()
    assert whole.exitcode == 0, log.read_text()
    seconds = time.monotonic() - start
    out, chance, kills = tmp_path / "run", random.Random(1), 0
    while True:
        resume = ["--resume"] if (out / runs.RUN_FILE).exists() else []
        running = begun(crash_worker.command, [*words, "--out", str(out), *resume], log)
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
