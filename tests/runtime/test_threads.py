"""How many threads share an operator: a function of the network's size and of nothing else."""

import pytest
import torch
from torch import nn

from maskcon import commands
from maskcon.data import from_arrays
from maskcon.runs import folder as runs
from maskcon.runtime.progress import Silent
from maskcon.runtime.threads import FEW, shared_by, threads_of, work
from tests.conftest import FAST


@pytest.fixture
def two(monkeypatch):
    """Two threads, and no word of a person's."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with shared_by(2):
        yield


def test_work_is_counted():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 5)
    )
    by_hand = [8 * 6 * 6 * (3 * 3 * 3), 5 * (8 * 36)]
    network.train()
    assert work(network, torch.rand(1, 3, 6, 6)) == sum(by_hand) / 2
    assert network.training
    assert not any(layer._forward_hooks for layer in network)
    assert network[1].num_batches_tracked == 0


@pytest.mark.usefixtures("two")
def test_size_decides(monkeypatch):
    layer = nn.Linear(1000, 1000)
    most = int(FEW / 1e6)
    assert threads_of(layer, torch.rand(most - 1, 1000)) == 1
    assert threads_of(layer, torch.rand(most, 1000)) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_of(layer, torch.rand(1, 1000)) == 2


@pytest.mark.usefixtures("two")
def test_a_run_has_them_and_gives_them_back(tmp_path):
    seen = set()

    class Looking(Silent):
        def note(self, message: str) -> None:
            if message.startswith("epoch"):
                seen.add(torch.get_num_threads())

    images = torch.randint(0, 255, (64, 16, 16, 3), dtype=torch.uint8).numpy()
    data = from_arrays(images, [0, 1] * 32, [0, 1, 2, 3] * 16)
    run = commands.train(out=tmp_path / "run", data=data, progress=Looking(), **FAST)
    assert seen == {1}
    assert torch.get_num_threads() == 2
    assert run["hardware"]["threads"] == 1
    assert runs.read(tmp_path / "run")["hardware"]["threads"] == 1
