"""The training step, end to end with its data, beside a plain one and beside the bare network."""

import copy
import os
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.benchmark.sides import Comparison, Side, Turn, column, noise, target, timed
from maskcon.config import SMALL_IMAGE, resolve
from maskcon.data import from_arrays, load
from maskcon.errors import InputError
from maskcon.model.backbones import build_backbone
from maskcon.runtime.device import Precision, check_memory, pick_device, reuse_memory
from maskcon.runtime.progress import Progress, Silent
from maskcon.train.cuda_graph import Captured
from maskcon.train.state import Training

IMAGES = 10_000  # in the set, of noise
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
    _check(sides, backbone, batch_size, bank_size)
    where = pick_device(device)
    needed = 4 * bank_size * resolve({}).projection + 3 * image_size**2 * (IMAGES + batch_size)
    what = f"a bank of {bank_size:,} keys, beside {batch_size:,} images of {image_size:,} px,"
    check_memory(needed, what, where)
    common = {
        "image_size": image_size,
        "batch_size": batch_size,
        "device": str(where),
        "steps": steps or (200 if where.type == "cuda" else 4),
    }
    record, answers = Comparison(
        name="step",
        sides=[side for side in _sides(common, backbone, bank_size) if side.name in sides],
        baselines=("reference", "floor"),
        settings={**common, "backbone": backbone, "bank_size": bank_size},
        repeats=repeats,
        device=device,
        progress=progress or Silent(),
    ).run()
    if "maskcon" in sides:
        record["views_share"] = statistics.median(
            turn["views_seconds"] / turn["seconds"] for turn in answers["maskcon"]
        )
    if {"maskcon", "maskcon compiled"} <= {*sides}:
        seconds = answers["maskcon compiled"][0]["compile_seconds"]
        record["compile"] = _earned_back(seconds, record["speeds"], batch_size)
    return {**record, "targets": _targets(record, column(device) or "")}


def _targets(record: Mapping[str, Any], kind: str) -> list[dict[str, Any]]:
    lines = [
        target(f"step {name.replace('_', ' ')}", least.get(kind), record[name])
        for name, least in LEAST.items()
        if name in record
    ]
    if "views_share" in record:
        share, most = record["views_share"], MOST_VIEWS.get(kind)
        lines.append(target("views, share of the step", None, share, most=most))
    return lines


def _sides(common: Mapping[str, Any], backbone: str, bank_size: int) -> list[Side]:
    """The sides, in the order of `SIDES`."""
    ours = {**common, "backbone": backbone, "bank_size": bank_size}
    return [
        Side("reference", f"{HERE}:plain", {**common, "bank_size": bank_size}),
        Side("floor", f"{HERE}:floor", {**common, "backbone": backbone}),
        Side("maskcon", f"{HERE}:ours", ours),
        Side("maskcon fp32", f"{HERE}:ours", {**ours, "precision": "fp32"}),
        Side("maskcon compiled", f"{HERE}:ours", {**ours, "compile": True}),
        Side(
            "maskcon in parts",
            f"{HERE}:ours",
            {**ours, "micro_batch": max(common["batch_size"] // 4, 2)},
        ),
    ]


def _check(sides: Sequence[str], backbone: str, batch_size: int, bank_size: int) -> None:
    unknown = [name for name in sides if name not in SIDES]
    if unknown or not sides:
        raise InputError(f"sides are {list(sides)}: expected some of {', '.join(SIDES)}")
    if min(batch_size, bank_size) < 1:
        raise InputError(f"batches of {batch_size}, a bank of {bank_size}: expected 1 or more")
    if "reference" in sides and (backbone != "resnet18" or bank_size % batch_size):
        raise InputError(
            f"the reference is of resnet18 and a bank of whole batches, not {backbone} and "
            f"{bank_size:,} rows for batches of {batch_size}: leave it out of the sides"
        )


def _earned_back(
    seconds: float, speeds: dict[str, float], batch_size: int
) -> dict[str, float | None]:
    """What compiling took, and after how many steps it is earned back; None is never."""
    saved = batch_size / speeds["maskcon"] - batch_size / speeds["maskcon compiled"]  # a step
    return {"seconds": seconds, "earned_back_after_steps": seconds / saved if saved > 0 else None}


def _set(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images [N, H, W, 3] and labels, neither of which means anything."""
    label = np.random.default_rng(0).integers(0, CLASSES, IMAGES)
    return noise(IMAGES, size).permute(0, 2, 3, 1).contiguous().numpy(), label


def _turn(step: Callable[[], Any], batch_size: int, steps: int, device: str) -> Turn:
    """Warm up, and make a turn of some steps."""
    for _ in range(WARM_UP if torch.device(device).type == "cuda" else 1):
        step()
    run = timed(lambda: [step() for _ in range(steps)] and None, steps * batch_size, device)

    def turn() -> dict[str, float]:
        step()  # alone again after the others' turns
        return run()

    return turn


def plain(*, image_size: int, batch_size: int, bank_size: int, device: str, steps: int) -> Turn:
    """The side "reference"."""
    from maskcon.benchmark.reference import Reference  # torchvision, which the others do not need

    reference = Reference(
        *_set(image_size),
        size=image_size,
        batch_size=batch_size,
        bank_size=bank_size,
        device=device,
    )
    return _turn(reference.step, batch_size, steps, device)


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
    return _turn(lambda: run(*views), batch_size, steps, device)


def ours(*, device: str, steps: int, **options: Any) -> Turn:
    """The sides "maskcon"."""
    fresh = tempfile.TemporaryDirectory()  # so that compiling takes what it takes the first time
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = fresh.name
    images, label = _set(options["image_size"])
    config = resolve({**options, "device": device, "method": "maskcon"})
    found = from_arrays(images, label.tolist()).with_test(0.01, 0)
    training = Training(config, load(found, image_size=config.image_size, workers=config.readers))
    training.fill_bank()
    batch_size = training.config.batch_size
    whole = _turn(lambda: training.step(training.batch()), batch_size, steps, device)
    views = _turn(training.batch, batch_size, steps, device)

    def turn(keep: Any = fresh) -> dict[str, float]:
        about = whole()
        about["views_seconds"] = views()["seconds"]
        about["compile_seconds"] = training.compile_seconds
        training.take_losses()
        return about

    return turn
