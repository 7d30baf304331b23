"""Views of a batch beside views of one image after the other, on one core."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from maskcon.benchmark.reference import pillow_views
from maskcon.benchmark.sides import Side, Turn, compare
from maskcon.data.augment import VIEWS
from maskcon.data.plans import CropRule, StepPlan, sizes_of
from maskcon.data.plans import views as made_views
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import pick_device, reuse_memory
from maskcon.runtime.progress import Progress, Silent
from maskcon.train.training import TOGETHER

IMAGES = 4096
HERE = __name__


def views(
    *,
    image_size: int = 32,
    batch_size: int = 128,
    repeats: int = 5,
    device: str = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Images per second of the weak and the strong view, normalised, beside two others.

    The others are torchvision's transforms of one Pillow image, and its transforms v2 of one
    tensor. Each side has one thread of a processor; ours has the GPU where there is one.

    Args:
        image_size: in pixels.
        batch_size: images of a batch, for ours.
        repeats: turns of each side.
        device: of ours: auto, cpu, cuda.
        progress: told how it goes.

    Returns:
        A record, as `maskcon.benchmark` describes it.
    """
    settings = {"image_size": image_size, "batch_size": batch_size, "threads": 1}
    where = str(pick_device(device))
    sides = []
    for kind in ("weak", "strong"):
        mine = {"kind": kind, "image_size": image_size, "batch_size": batch_size, "device": where}
        theirs = {"kind": kind, "image_size": image_size}
        sides += [
            Side(f"{kind}: Pillow", f"{HERE}:pillow", theirs),
            Side(f"{kind}: torchvision v2", f"{HERE}:torchvision_v2", theirs),
            Side(f"{kind}: maskcon", f"{HERE}:ours", mine),
        ]
    record, _ = compare(
        "views",
        sides,
        baselines=[side.name for side in sides if not side.name.endswith("maskcon")],
        repeats=repeats,
        unit="images/s",
        settings=settings,
        device=device,
        progress=progress or Silent(),
    )
    # of the same kind only
    record["ratios"] = {
        name: {base: r for base, r in ratios.items() if base[:4] == name[:4]}
        for name, ratios in record["ratios"].items()
        if name.endswith("maskcon")
    }
    record["ranges"] = {
        name: span
        for name, span in record["ranges"].items()
        if name.split(" vs ")[0] in record["ratios"] and name[:4] == name.split(" vs ")[1][:4]
    }
    return {**record, "targets": []}


def _noise(size: int) -> Tensor:
    random = torch.Generator().manual_seed(0)
    return torch.randint(256, (IMAGES, 3, size, size), dtype=torch.uint8, generator=random)


def _one_by_one(images: list[Any], view: Callable[[Any], Tensor]) -> Turn:
    torch.set_num_threads(1)

    def turn() -> dict[str, float]:
        start = time.perf_counter()
        for image in images:
            view(image)
        return {"count": len(images), "seconds": time.perf_counter() - start}

    return turn


def pillow(*, kind: str, image_size: int) -> Turn:
    """Torchvision's transforms of Pillow images."""
    images = [v2.functional.to_pil_image(image) for image in _noise(image_size)[:1024]]
    return _one_by_one(images, pillow_views(image_size, kind))


def torchvision_v2(*, kind: str, image_size: int) -> Turn:
    """Torchvision's transforms v2 of tensors."""
    strong = [v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)] if kind == "strong" else []
    view = v2.Compose(
        [
            v2.RandomResizedCrop(image_size, (0.2, 1.0), antialias=True),
            v2.RandomHorizontalFlip(),
            *strong,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        ]
    )
    return _one_by_one(list(_noise(image_size)[:1024]), view)


def ours(*, kind: str, image_size: int, batch_size: int, device: str) -> Turn:
    """Ours, as a training step makes them."""
    assert kind in VIEWS
    reuse_memory()
    torch.set_num_threads(1)
    where = torch.device(device)
    images = _noise(image_size).to(where)
    plan = StepPlan(CropRule(0.2, True, sizes_of(images)), (kind,), batch_size, 0)
    preprocessing = Preprocessing(image_size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def turn() -> dict[str, float]:
        start, count = time.perf_counter(), 0
        stream = made_views(
            images,
            plan,
            range(plan.steps_per_epoch),
            size=image_size,
            workers=1,
            device=where,
            together=TOGETHER // batch_size if where.type == "cuda" else 1,
        )
        for rows, (view,) in stream:
            preprocessing.normalise(view)
            count += len(rows)
        if where.type == "cuda":
            torch.cuda.synchronize()
        return {"count": count, "seconds": time.perf_counter() - start}

    turn()
    return turn
