"""Views of a batch beside views of one image after the other, on one core."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maskcon.benchmark.sides import Comparison, Side, Turn, noise, timed
from maskcon.data.augment import VIEWS
from maskcon.data.images import InMemory
from maskcon.data.plans import StepPlan
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import pick_device, reuse_memory
from maskcon.runtime.progress import Progress, Silent

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
    where = str(pick_device(device))
    common = {"image_size": image_size}
    mine = {**common, "batch_size": batch_size, "device": where}
    record, _ = Comparison(
        name="views",
        sides=[
            Side(f"{kind}: {name}", f"{HERE}:{make}", {"kind": kind, **options})
            for kind in ("weak", "strong")
            for name, make, options in (
                ("Pillow", "pillow", common),
                ("torchvision v2", "torchvision_v2", common),
                ("maskcon", "ours", mine),
            )
        ],
        baselines=("Pillow", "torchvision v2"),
        settings={**common, "batch_size": batch_size, "threads": 1},
        repeats=repeats,
        device=device,
        progress=progress or Silent(),
    ).run()
    return record


def _one_by_one(images: list[Any], view: Callable[[Any], Tensor]) -> Turn:
    torch.set_num_threads(1)
    return timed(lambda: [view(image) for image in images], len(images))


def pillow(*, kind: str, image_size: int) -> Turn:
    """Torchvision's transforms of Pillow images."""
    from torchvision.transforms import v2

    from maskcon.benchmark.reference import pillow_views

    images = [v2.functional.to_pil_image(image) for image in noise(1024, image_size)]
    return _one_by_one(images, pillow_views(image_size, kind))


def torchvision_v2(*, kind: str, image_size: int) -> Turn:
    """Torchvision's transforms v2 of tensors."""
    from torchvision.transforms import v2

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
    return _one_by_one(list(noise(1024, image_size)), view)


def ours(*, kind: str, image_size: int, batch_size: int, device: str) -> Turn:
    """Ours, as a training step makes them."""
    assert kind in VIEWS
    reuse_memory()
    torch.set_num_threads(1)
    where = torch.device(device)
    images = InMemory(noise(IMAGES, image_size).to(where))
    plan = StepPlan(images.crop_rule(0.2, True), (kind,), batch_size, 0)
    preprocessing = Preprocessing(image_size, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))

    def pass_over() -> int:
        steps = range(plan.steps_per_epoch)
        stream = images.views(plan, steps, size=image_size, workers=1, device=where)
        count = 0
        for rows, (view,) in stream:
            preprocessing.normalise(view)
            count += len(rows)
        return count

    turn = timed(pass_over, device=device)
    turn()
    return turn
