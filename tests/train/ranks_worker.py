"""What each of several processes does in test_ranks.py: it must be a module of its own."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maskcon import commands
from maskcon.commands.sources import resolved
from maskcon.data import DATA_SETS, DataSet, Features, InMemory, NamedSet, find, from_arrays, load
from maskcon.data.sets import glyphs
from maskcon.methods import METHODS
from maskcon.model import own
from maskcon.runs.recorder import FolderRecorder
from maskcon.runtime import distributed as ranks
from maskcon.runtime.distributed import Ranks
from maskcon.train.loop import fit
from maskcon.train.state import Training
from tests.command_worker import command

STEPS = 3
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"method": name} for name in METHODS},
    "mixup": {"method": "maskcon", "mixup": 0.5, "ce_weight": 0.3},
    "micro-batch": {"method": "coins", "micro_batch": 3},
    "micro-batch of both views": {"method": "wcl", "micro_batch": 3},
    "micro-batch of heads that not all parts use": {
        **{"method": "wcl", "micro_batch": 3, "ce_weight": 0.3},
    },
    "micro-batch of mixtures": {
        **{"method": "maskcon", "micro_batch": 3, "mixup": 0.5, "ce_weight": 0.3},
    },
    "vectors": {
        "method": "maskcon",
        "features": "vectors.npz",
        "components": 20,
        "head_hidden": 32,
    },
    "pictures that fit into memory": {"method": "grafit", "query_view": "weak"},
    "photos": {"method": "maskcon", "query_view": "jitter", "key_view": "weak", "workers": 1},
}
READ = {"pictures that fit into memory": 12, "photos": 70}  # px: from 65 on they stay on the disk


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


def _as(rank: int, size: int, port: int) -> None:
    """What torchrun tells the processes that it starts."""
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))


def start(rank: int, size: int, port: int, work: Callable[[Ranks, Path], Any], out: Path) -> None:
    """Join the others, work, and leave what the first found in a file."""
    _as(rank, size, port)
    torch.set_num_threads(1)
    # On processors the statistics of batch norms are those of a part of the batch.
    own.OWN["plain"] = Plain  # type: ignore[assignment]
    nn.BatchNorm1d = nn.LayerNorm  # type: ignore[assignment,misc] # of heads on vectors
    for name in ("wcl", "wcl_crops"):
        METHODS[name] = replace(METHODS[name], projection_layers=2)
    with ranks.process_group() as us:
        result = work(us, out)
        if us.is_main:
            torch.save(result, out / f"{size}.pt")


def typed(rank: int, size: int, port: int, words: list[str], log: Path) -> None:
    """Type a command as one of several processes."""
    _as(rank, size, port)
    command(words, log.parent, log)


def data(kind: str, out: Path, us: Ranks) -> DataSet:
    """Pictures in memory; vectors; or pictures that are read when they are needed."""
    made = glyphs.make(train=96, test=41)
    if kind == "vectors":
        train, test = (
            replace(
                split,
                images=Features(split.images.pixels[:, :, ::4, ::4].flatten(1)[:, None] / 255),
            )
            for split in (made.train, made.test)
        )
        return replace(made, train=train, test=test)
    if kind in READ:
        return load(find(str(out / "photos")), image_size=READ[kind], workers=1, ranks=us)
    return made


def training(us: Ranks, data: DataSet, **settings: Any) -> Training:
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
    return Training(resolved({**given, **settings}, None), data, ranks=us)


def stopping(us: Ranks, out: Path) -> dict[str, Any]:
    """A run that validation images end early: what each process did."""
    made = glyphs.make(train=96, test=41)
    rows = torch.arange(96)
    whole = made.train
    made = replace(made, train=whole.take(rows[:64]), validation=whole.take(rows[64:]))
    one = training(us, made, epochs=12, eval_every=1, stop_after=2, lr=0.2)
    kept = out / f"stopping{us.size}"
    kept.mkdir(exist_ok=True)
    outcome = fit(one, made, FolderRecorder(kept))
    did = (one.steps, outcome["stopped"], one.best.results, one.last)
    return {"did": us.all_gather_object(did), "encoder": one.encoder.state_dict()}


def reproduced(us: Ranks, out: Path) -> Any:
    """Two seeds of a published row: how many runs each process has, and their results."""
    made = glyphs.make(train=96, test=41)
    (pixels, *labels), test = (
        (split.images.pixels, split.coarse.tolist(), split.fine.tolist())
        for split in (made.train, made.test)
        if isinstance(split.images, InMemory) and split.fine is not None
    )
    found = from_arrays(pixels, *labels, test=test)
    few = NamedSet("few", make=lambda: replace(found, name="cifar100"))
    DATA_SETS["cifar100"] = replace(few, recipe="cifar100_paper")
    options = {"backbone": "plain", "epochs": 1, "warmup_epochs": 0.0, "batch_size": 16}
    options |= {"bank_size": 40, "init": "scratch", "precision": "fp32"}
    done = commands.reproduce(
        *("cifar100", "selfcon"),
        seeds=(0, 1),
        out=out / "runs",
        ledger=out / "ledger.jsonl",
        **options,
    )["runs"]
    return us.all_gather_object([run["results"]["recall@1"] for run in done])


def steps(names: list[str], us: Ranks, out: Path) -> dict[str, Any]:
    """Losses, the gradient of the first step, and all that there is after some more."""
    found = {}
    for name in names:
        settings, made = SETTINGS[name], data(name, out, us)
        one = training(us, made, **settings)
        one.fill_bank()
        gradient = None
        for _ in range(STEPS):
            one.step(one.batch())
            if gradient is None:
                gradient = [p.grad.clone() for p in one.encoder.parameters() if p.grad is not None]
        found[name] = {
            "losses": one.take_losses().values,
            "gradient": gradient,
            "features": (features := one.features(made.test.images)),
            "recall": one.recall_of(features, made.test),
            "state": one.state_dict(),
        }
        one.close()
    return found
