"""The training step, end to end with its data, beside a plain one and beside the bare network."""

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.benchmark.reference import Reference
from maskcon.benchmark.sides import Side, Turn, column, compare, target
from maskcon.config import SMALL_IMAGE, resolve
from maskcon.data import from_arrays, load
from maskcon.errors import InputError
from maskcon.model.network import build_backbone
from maskcon.runtime.device import Precision, pick_device, reuse_memory
from maskcon.runtime.progress import Progress, Silent
from maskcon.train.cuda_graph import Captured
from maskcon.train.training import Training

IMAGES = 10_000  # in the set, of noise: a step does not care what it sees
CLASSES = 20
WARM_UP = 5  # steps before the first turn
HERE = __name__
SIDES = {
    "reference": "plain PyTorch, float32, Pillow views in four loader processes",
    "floor": "the bare network: forward and backward of the query, forward of the key",
    "maskcon": "maskcon train, as it comes",
    "maskcon fp32": "with --precision fp32",
    "maskcon compiled": "with --compile",
    "maskcon in parts": "with --micro-batch, a quarter of the batch",
}
LEAST = {
    "vs_reference": {"cpu": 4.2, "cuda": 8.0},
    "vs_floor": {"cpu": 0.92, "cuda": 0.88},
}
MOST_VIEWS = {"cpu": 0.05, "cuda": 0.08}


def step(
    *,
    sides: Sequence[str] = tuple(SIDES),
    backbone: str = "resnet18",
    image_size: int = 32,
    batch_size: int = 128,
    bank_size: int = 8192,
    steps: int = 0,
    repeats: int = 5,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Images per second of the MaskCon step, beside a plain one and the bare network.

    Args:
        sides: names in `SIDES`.
        backbone: of all sides; the plain one knows resnet18 alone.
        image_size: in pixels.
        batch_size: images of a step.
        bank_size: keys of the bank; of the plain side a multiple of the batch.
        steps: of a turn; 0 is 4 on a processor and 200 on a GPU.
        repeats: turns of each side.
        device: auto, cpu, cuda.
        progress: told how it goes.

    Returns:
        A record, as `maskcon.benchmark` describes it, with "views_share", the part of our step
        that makes the views, and "compile", what compiling took and after how many steps it is
        earned back (None: never).

    Raises:
        InputError: an option cannot be used.
        TrainingError: a side ended with an error.
    """
    unknown = [name for name in sides if name not in SIDES]
    if unknown or not sides:
        raise InputError(f"sides are {list(sides)}: expected some of {', '.join(SIDES)}")
    if "reference" in sides and (backbone != "resnet18" or bank_size % batch_size):
        raise InputError(
            f"the reference is of resnet18 and a bank of whole batches, not {backbone} and "
            f"{bank_size:,} rows for batches of {batch_size}: leave it out of the sides"
        )
    where = pick_device(device)
    common = {
        "image_size": image_size,
        "batch_size": batch_size,
        "device": str(where),
        "steps": steps or (200 if where.type == "cuda" else 4),
    }
    ours = {**common, "backbone": backbone, "bank_size": bank_size}
    options: dict[str, dict[str, Any]] = {
        "reference": {**common, "bank_size": bank_size},
        "floor": {**common, "backbone": backbone},
        "maskcon": ours,
        "maskcon fp32": {**ours, "precision": "fp32"},
        "maskcon compiled": {**ours, "compile": True},
        "maskcon in parts": {**ours, "micro_batch": max(batch_size // 4, 2)},
    }
    record, answers = compare(
        "step",
        [Side(name, f"{HERE}:{_maker(name)}", options[name]) for name in SIDES if name in sides],
        baselines=("reference", "floor"),
        repeats=repeats,
        unit="images/s",
        settings=ours,
        device=device,
        progress=progress or Silent(),
    )
    kind = column(device)
    targets = [
        target(f"step {name.replace('_', ' ')}", LEAST[name].get(kind or ""), record[name])
        for name in LEAST
        if name in record
    ]
    if "maskcon" in sides:
        record["views_share"] = statistics.median(
            turn["views_seconds"] / turn["seconds"] for turn in answers["maskcon"]
        )
        most = MOST_VIEWS.get(kind or "")
        targets.append(target("views, share of the step", None, record["views_share"], most=most))
    if "maskcon compiled" in sides and "maskcon" in sides:
        seconds = answers["maskcon compiled"][0]["compile_seconds"]
        record["compile"] = _earned_back(seconds, record["speeds"], batch_size)
    return {**record, "targets": targets}


def _maker(side: str) -> str:
    return {"reference": "plain", "floor": "floor"}.get(side, "ours")


def _earned_back(
    seconds: float, speeds: dict[str, float], batch_size: int
) -> dict[str, float | None]:
    """What compiling took, and after how many steps it is earned back; None is never."""
    saved = batch_size / speeds["maskcon"] - batch_size / speeds["maskcon compiled"]  # a step
    return {"seconds": seconds, "earned_back_after_steps": seconds / saved if saved > 0 else None}


def _noise(size: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (IMAGES, size, size, 3), dtype=np.uint8)
    return images, random.integers(0, CLASSES, IMAGES)


def _turn(step: Callable[[], Any], batch_size: int, steps: int, device: torch.device) -> Turn:
    """Warm up, and make a turn of some steps."""

    def wait() -> None:
        if device.type == "cuda":
            torch.cuda.synchronize()

    for _ in range(WARM_UP if device.type == "cuda" else 1):
        step()

    def turn() -> dict[str, float]:
        step()  # alone again after the others' turns
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            step()
        wait()
        return {"count": steps * batch_size, "seconds": time.perf_counter() - start}

    return turn


def plain(*, image_size: int, batch_size: int, bank_size: int, device: str, steps: int) -> Turn:
    """The side "reference"."""
    reference = Reference(
        *_noise(image_size),
        size=image_size,
        batch_size=batch_size,
        bank_size=bank_size,
        device=device,
    )
    return _turn(reference.step, batch_size, steps, torch.device(device))


def floor(*, backbone: str, image_size: int, batch_size: int, device: str, steps: int) -> Turn:
    """The side "floor": nothing but the networks, in the same precision and layout."""
    reuse_memory()
    where = torch.device(device)
    precision = Precision.pick("auto", where)
    query, _ = build_backbone(backbone, stem="small" if image_size <= SMALL_IMAGE else "large")
    query = query.to(where).to(memory_format=torch.channels_last).train()
    key = copy.deepcopy(query).requires_grad_(False)
    images = torch.randn(2, batch_size, image_size, image_size, 3, device=where)
    views = images.permute(0, 1, 4, 2, 3)  # channels last

    def networks(query_view: Tensor, key_view: Tensor) -> tuple[Tensor, ...]:
        query.zero_grad()
        with precision.autocast():
            feature = query(query_view)
            with torch.no_grad():
                z = key(key_view)
        loss = feature.float().sum()
        loss.backward()
        return loss.detach(), z

    run = Captured(networks, where, Silent()) if where.type == "cuda" else networks
    return _turn(lambda: run(*views), batch_size, steps, where)


def ours(*, device: str, steps: int, **options: Any) -> Turn:
    """The sides "maskcon"."""
    where = torch.device(device)
    fresh = tempfile.TemporaryDirectory()  # so that compiling takes what it takes the first time
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = fresh.name
    images, label = _noise(options["image_size"])
    config = resolve({**options, "device": device, "method": "maskcon"})
    found = from_arrays(images, label.tolist()).with_test(0.01, 0)
    training = Training(config, load(found, image_size=config.image_size, workers=config.readers))
    training.fill_bank()
    batch_size = training.config.batch_size
    whole = _turn(lambda: training.step(training.batch()), batch_size, steps, where)
    views = _turn(training.batch, batch_size, steps, where)

    def turn(keep: Any = fresh) -> dict[str, float]:
        about = whole()
        about["views_seconds"] = views()["seconds"]
        about["compile_seconds"] = training.compile_seconds
        training.take_losses()
        return about

    return turn
