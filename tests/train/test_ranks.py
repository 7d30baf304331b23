"""Several processes are one: the same views, losses, gradients, bank and recall."""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maskcon.runs import folder as runs
from maskcon.vectors import file as embeddings
from tests import command_worker
from tests.conftest import begun, picture_tree
from tests.train import ranks_worker


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def together(work: Any, size: int, out: Path) -> Any:
    """Let some real processes work together over gloo; what the first of them found."""
    port = free_port()
    every = [begun(ranks_worker.start, rank, size, port, work, out) for rank in range(size)]
    for process in every:
        process.join(600)
    assert [process.exitcode for process in every] == [0] * size
    return torch.load(out / f"{size}.pt", weights_only=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory, tiny) -> Any:
    """What some processes found, by their number; worked out when it is asked for."""
    out = tmp_path_factory.mktemp("ranks")
    for split, images in (("train", tiny.train), ("test", tiny.test)):
        picture_tree(out / "photos" / split, images, side=70)
    names = {1: list(ranks_worker.SETTINGS), 2: EQUAL, 3: list(ranks_worker.SETTINGS)}
    return functools.cache(
        lambda size: together(functools.partial(ranks_worker.steps, names[size]), size, out)
    )


# Two have parts of one size; what differs between methods shows where parts do.
EQUAL = ["maskcon", "photos"]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *(pytest.param(name, 2, marks=pytest.mark.heavy) for name in EQUAL),
        *((name, 3) for name in ranks_worker.SETTINGS),
    ],
)
def test_ranks_are_one(name, size, found):
    """A batch of 16 for three is 6, 5 and 5; a test split of 41 for two is 21 and 20."""
    alone, many = found(1)[name], found(size)[name]

    def near(a: Any, b: Any) -> None:
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)

    near(many["losses"], alone["losses"])
    near(many["gradient"], alone["gradient"])
    near(many["state"]["encoder"], alone["state"]["encoder"])
    assert many["recall"] == alone["recall"]
    assert many["state"]["data"] == alone["state"]["data"]
    near(many["features"], alone["features"])
    for part in ("key", "bank"):
        assert (part in many["state"]) == (part in alone["state"])
        if part in alone["state"]:
            near(many["state"][part], alone["state"][part])


@pytest.mark.heavy
def test_ranks_reproduce_a_row(tmp_path):
    """The first alone has the runs, and adds each to the ledger once."""
    first, other = together(ranks_worker.reproduced, 2, tmp_path)
    assert len(first) == 2
    assert other == []
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 2
    assert len([*(tmp_path / "runs").iterdir()]) == 2


@pytest.mark.parametrize("size", [pytest.param(3, marks=pytest.mark.heavy), 2])
def test_ranks_stop_together(size, tmp_path):
    """Where validation images end a run, they end it for all, as they do for one alone."""
    alone = together(ranks_worker.stopping, 1, tmp_path)
    many = together(ranks_worker.stopping, size, tmp_path)
    assert alone["did"][0][1] is not None
    assert many["did"] == alone["did"] * size
    torch.testing.assert_close(many["encoder"], alone["encoder"], atol=1e-5, rtol=1e-4)


# --- commands, by processes that torchrun would start ---------------------------------------------

WORDS = [
    *("--backbone", "resnet10w16", "--image-size", "8", "--batch-size", "16", "--bank-size", "40"),
    *("--test-share", "0.4", "--epochs", "60", "--eval-every", "20", "--precision", "fp32"),
]


def started(size: int, *words: str, log: Path) -> list[Any]:
    """Several processes that have torch already, and type a command."""
    port = free_port()
    return [begun(ranks_worker.typed, rank, size, port, [*words], log) for rank in range(size)]


def by(size: int, *words: str, log: Path) -> tuple[list[int], str]:
    """A command of several processes: their ends and words."""
    log.unlink(missing_ok=True)
    every = started(size, *words, log=log)
    for process in every:
        process.join(600)
    return [process.exitcode for process in every], log.read_text()


def torchrun(size: int, *words: str, restarts: int = 0) -> subprocess.Popen:
    """Start `torchrun -m maskcon ...`."""
    run = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={size}"]
    return subprocess.Popen(
        [*run, f"--max-restarts={restarts}", "-m", "maskcon", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def said(process: subprocess.Popen) -> str:
    return process.communicate(timeout=600)[0]


def two_checkpoints(out: Path) -> None:
    """Wait for them."""
    deadline = time.monotonic() + 120
    while not (out / "previous.ckpt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def kill(out: Path, rank: int) -> None:
    """Kill the process of a rank of a run."""
    for place in Path("/proc").glob("[0-9]*"):
        try:
            words = (place / "cmdline").read_bytes().split(b"\0")
            there = (place / "environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or another's
            continue
        if str(out).encode() in words and f"RANK={rank}".encode() in there:
            os.kill(int(place.name), signal.SIGKILL)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, tiny) -> Path:
    return picture_tree(tmp_path_factory.mktemp("few"), tiny.train)


@pytest.mark.heavy
def test_a_rank_that_dies_is_started_again(tmp_path, pictures):
    """The run goes on from its last checkpoint, to the bits of an unbroken one."""
    words = ["train", "--data", str(pictures), *WORDS, "--out"]
    codes, text = by(2, *words, str(tmp_path / "whole"), log=tmp_path / "log")
    assert codes == [0, 0], text
    out = tmp_path / "parts"
    parts = torchrun(2, *words, str(out), restarts=1)
    two_checkpoints(out)
    kill(out, 1)
    text = said(parts)
    assert parts.returncode == 0, text
    assert "resumed after step" in text
    for name in ("metrics.jsonl", "encoder.safetensors"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert runs.read(out)["results"] == runs.read(tmp_path / "whole")["results"]
    assert runs.read(out)["hardware"]["ranks"] == 2


@pytest.mark.heavy
def test_seeds_of_several_processes(tmp_path, pictures):
    """Each seed is a run of all processes; a second command finds them finished."""
    out = tmp_path / "seeds"
    words = ["train", "--data", str(pictures), "--out", str(out), *WORDS, "--epochs", "1"]
    for more in ([], ["--resume"]):
        codes, text = by(2, *words, "--seeds", "0,1", *more, log=tmp_path / "log")
        assert codes == [0, 0], text
        assert text.count(" ± ") > 0
    assert text.count("is finished") == 2
    assert [runs.read(out / f"seed-{seed}")["hardware"]["ranks"] for seed in (0, 1)] == [2, 2]


@pytest.mark.heavy
def test_a_rank_that_dies_ends_all(tmp_path, pictures):
    out, log = tmp_path / "run", tmp_path / "log"
    first, other = started(2, "train", "--data", str(pictures), "--out", str(out), *WORDS, log=log)
    two_checkpoints(out)
    start = time.monotonic()
    other.kill()
    first.join(600)
    assert time.monotonic() - start < 60
    assert first.exitcode not in (0, None)
    text = log.read_text()
    assert "error: rank 0 of 2 has stopped, most likely because another one did" in text


@pytest.mark.heavy
def test_an_error_of_the_first_rank_is_told_once(tmp_path, pictures):
    words = ["train", "--data", str(pictures), "--out", str(pictures), *WORDS]
    codes, text = by(2, *words, log=tmp_path / "log")
    assert codes == [2, 1], text
    assert text.count("exists: give another --out, --resume to go on, or --overwrite") == 1


@pytest.mark.heavy
def test_preemption_and_another_number_of_ranks(tmp_path, pictures):
    """SIGTERM to torchrun: a checkpoint of the step at hand; three processes go on, then one."""
    out, log = tmp_path / "run", tmp_path / "log"
    words = ["train", "--data", str(pictures), "--out", str(out), *WORDS]
    interrupted = "stopped by SIGTERM; a checkpoint is written; go on with --resume"
    run = torchrun(2, *words)
    two_checkpoints(out)
    run.send_signal(signal.SIGTERM)
    assert interrupted in said(run)
    assert runs.read(out)["status"] == "interrupted"
    three = started(3, *words, "--resume", log=log)
    (out / "previous.ckpt").unlink()
    two_checkpoints(out)  # of these processes
    for process in three:
        process.terminate()
    for process in three:
        process.join(180)
    assert interrupted in log.read_text()
    assert runs.read(out)["status"] == "interrupted"
    last = begun(command_worker.command, ["train", "--out", str(out), "--resume"], tmp_path, log)
    last.join(180)
    assert last.exitcode == 0, log.read_text()
    run_file = runs.read(out)
    assert [again["hardware"]["ranks"] for again in run_file["resumed"]] == [3, 1]
    assert run_file["status"] == "finished"


@pytest.mark.heavy
def test_embedding_and_evaluation_are_shared(tmp_path, pictures):
    """By three, of 96 pictures: each once, in the same order, with the same figures."""
    out, log = tmp_path / "run", tmp_path / "log"
    words = ["train", "--data", str(pictures), "--out", str(out), *WORDS, "--epochs", "1"]
    begun(command_worker.command, words, tmp_path, log).join(180)
    broken = pictures.parent / "with a broken one"
    shutil.copytree(pictures, broken)
    (broken / "c0" / "a.png").write_text("no picture")
    for many in (False, True):
        file = str(tmp_path / f"{many}.npz")
        embed = ["embed", str(out), str(broken), "-o", file, "--skip-unreadable"]
        judge = ["eval", str(out), "--json", str(tmp_path / f"{many}.json")]
        for command in ([*embed, "--batch-size", "10"], judge):
            if many:
                _, text = by(3, *command, log=log)
                assert text.count("96 vectors of 128") == (command is not judge), text
            else:
                begun(command_worker.command, command, tmp_path, log).join(180)
    one, three = (embeddings.read(tmp_path / f"{many}.npz") for many in (False, True))
    assert (one.paths == three.paths).all()
    assert len(one) == 96
    np.testing.assert_allclose(one.vectors, three.vectors, atol=1e-6)
    results = [json.loads((tmp_path / f"{many}.json").read_text()) for many in (False, True)]
    assert results[0] == results[1]
