"""Several processes are one: the same views, losses, gradients, bank and recall."""

import multiprocessing
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from tests import ranks_worker


def together(work: Any, size: int, out: Path) -> Any:
    """Let some real processes work together over gloo; what the first of them found."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.ranks_worker"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    every = [
        context.Process(target=ranks_worker.start, args=(rank, size, port, work, out))
        for rank in range(size)
    ]
    for process in every:
        process.start()
    for process in every:
        process.join(120)
    assert [process.exitcode for process in every] == [0] * size
    return torch.load(out / f"{size}.pt", weights_only=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[int, Any]:
    out = tmp_path_factory.mktemp("ranks")
    return {size: together(ranks_worker.steps, size, out) for size in (1, 2, 3)}


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("name", list(ranks_worker.SETTINGS))
def test_ranks_are_one(name, size, found):
    """A batch of 16 for three is 6, 5 and 5; a test split of 41 for two is 21 and 20."""
    alone, many = found[1][name], found[size][name]

    def near(a: Any, b: Any) -> None:
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)

    near(many["losses"], alone["losses"])
    near(many["gradient"], alone["gradient"])
    near(many["state"]["encoder"], alone["state"]["encoder"])
    assert many["recall"] == alone["recall"]
    near(many["features"], alone["features"])
    for part in ("key", "bank"):
        assert (part in many["state"]) == (part in alone["state"])
        if part in alone["state"]:
            near(many["state"][part], alone["state"][part])
