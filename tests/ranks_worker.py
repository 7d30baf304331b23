"""What each of several processes does in tests/test_ranks.py: it must be a module of its own."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskcon import model, ranks
from maskcon.config import resolve
from maskcon.data import DataSet, glyphs
from maskcon.methods import METHODS
from maskcon.ranks import Ranks
from maskcon.train import Training

STEPS = 3
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in METHODS},
    "mixup": {"method": "maskcon", "mixup": 0.5, "ce_weight": 0.3},
    "micro-batch": {"method": "coins", "micro_batch": 3},
    "micro-batch of both views": {"method": "wcl", "micro_batch": 3},
}


class Plain(nn.Module):
    """A network without batch norm."""

    num_features = 16

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.Tanh(), nn.Conv2d(16, 16, 3), nn.Tanh()
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images).mean((2, 3))


def start(rank: int, size: int, port: int, work: Callable[[Ranks, Path], Any], out: Path) -> None:
    """Join the others, work, and leave what the first found in a file."""
    found = os.environ
    found.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    found.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    model.NARROW["plain"] = Plain
    for name in ("wcl", "wcl_crops"):  # whose projectors have batch norm
        METHODS[name] = replace(METHODS[name], deep=False)
    with ranks.joined() as us:
        result = work(us, out)
        if us.leads:
            torch.save(result, out / f"{size}.pt")


def data() -> DataSet:
    return glyphs.make(train=96, test=41)


def training(us: Ranks, **settings: Any) -> Training:
    known = {name: method.hyper_parameters for name, method in METHODS.items()}
    given = {
        "backbone": "plain",
        "image_size": 12,
        "epochs": 2,
        "batch_size": 16,
        "bank_size": 40,
        "warmup_epochs": 0.0,
        "lr": 0.05,
        "precision": "fp32",
    }
    return Training(resolve({**given, **settings}, hyper_parameters=known), data(), ranks=us)


def steps(us: Ranks, out: Path) -> dict[str, Any]:
    """Losses, the gradient of the first step, and all that there is after some more."""
    found = {}
    for name, settings in SETTINGS.items():
        one = training(us, **settings)
        one.fill_bank()
        gradient = None
        for _ in range(STEPS):
            one.step(one.batch())
            if gradient is None:
                gradient = [p.grad.clone() for p in one.encoder.parameters() if p.grad is not None]
        found[name] = {
            "losses": one.take_losses().values,
            "gradient": gradient,
            "recall": one.recall(data().test),
            "features": one.features(data().test.images),
            "state": one.state_dict(),
        }
        one.close()
    return found
