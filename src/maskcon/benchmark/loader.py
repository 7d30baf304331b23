"""Views of large pictures: from JPEG files, from a pack, and as torchvision loads them."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskcon import commands
from maskcon.benchmark.sides import Comparison, Side, Turn, timed
from maskcon.config import Config
from maskcon.data import Found, find, load
from maskcon.data.images import IMAGENET_STATISTICS
from maskcon.data.plans import StepPlan
from maskcon.errors import InputError
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import reuse_memory
from maskcon.runtime.progress import Progress, Silent

BATCH = 64
SIZE = 224  # pixels, of a view
AREA = (0.2, 1.0)  # of a crop
PACK_PASSES = 8  # over a pack in a turn, since one is over too soon to time
HERE = __name__


def loader(
    *,
    data: str | Path | None = None,
    images: int = 1024,
    width: int = 700,
    height: int = 480,
    workers: int = 0,
    repeats: int = 5,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Images per second of views of large pictures, beside torchvision's loader.

    Each side makes normalised float batches of 64 views of 224 px (crop of a fifth to the whole
    of the area, flip) with the same number of worker processes. The other one is torchvision's
    ImageFolder with RandomResizedCrop, RandomHorizontalFlip, ToTensor and Normalize in torch's
    DataLoader. The clock starts when the first batch is there.

    Args:
        data: a folder tree of pictures; without one, JPEGs are cut from the two photographs
            that scikit-learn ships, of about the size of those of Stanford Cars.
        images: how many of those.
        width: of those, in pixels.
        height: of those.
        workers: processes of each side; 0 is one for each core.
        repeats: passes of each side.
        progress: told how it goes.

    Returns:
        A record, as `maskcon.benchmark` describes it.
    """
    progress = progress or Silent()
    readers = Config(workers=workers).readers
    if images < 2 * BATCH:
        raise InputError(f"{images} images: expected {2 * BATCH} or more")
    with tempfile.TemporaryDirectory(prefix="maskcon-") as scratch:
        root = Path(scratch) / "set" if data is None else Path(data)
        if data is None:
            progress.update(f"making {images:,} JPEGs of {width} x {height} px")
            photographs(root, images, width, height)
        pack = Path(scratch) / "set.pack"
        commands.pack(root, pack, progress=progress, workers=workers)
        files = {"root": str(root), "workers": readers}
        packed = {"root": str(pack), "workers": readers, "passes": PACK_PASSES}
        made = {} if data else {"images": images, "width": width, "height": height}
        common = {"workers": readers, "batch_size": BATCH, "image_size": SIZE}
        record, _ = Comparison(
            name="loader",
            sides=[
                Side("torchvision", f"{HERE}:plain", files),
                Side("maskcon", f"{HERE}:ours", {**files, "passes": 1}),
                Side("maskcon, pack", f"{HERE}:ours", packed),
            ],
            baselines=("torchvision",),
            settings={"data": "a folder" if data else None, **made, **common},
            repeats=repeats,
            device="cpu",
            progress=progress,
        ).run()
    return record


def photographs(root: Path, count: int, width: int, height: int) -> None:
    """JPEGs cut at random from two photographs, in two classes; not magnified if they fit."""
    from sklearn.datasets import load_sample_images

    sources = [Image.fromarray(image) for image in load_sample_images().images]
    random = np.random.default_rng(0)
    for row in range(count):
        source = sources[row % 2]
        most = min(source.width, source.height * width / height)
        w = random.uniform(min(width, most), most)
        h = w * height / width
        left, top = random.uniform(0, source.width - w), random.uniform(0, source.height - h)
        image = source.resize(
            (width, height), Image.Resampling.BICUBIC, box=(left, top, left + w, top + h)
        )
        place = root / ("temple", "flower")[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        image.save(place / f"{row:05d}.jpg", quality=90)


def plain(*, root: str, workers: int) -> Turn:
    """Torchvision's ImageFolder in torch's DataLoader."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIZE, AREA),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(*IMAGENET_STATISTICS),
        ]
    )
    folder = datasets.ImageFolder(root, pipeline)

    def batches() -> Iterator[Tensor]:
        loaded = DataLoader(folder, BATCH, shuffle=True, drop_last=True, num_workers=workers)
        return (batch for batch, _ in loaded)

    return _turn(batches)


def ours(*, root: str, workers: int, passes: int) -> Turn:
    """A folder or a pack, as training reads it."""
    found = find(root)
    if len(found.parts) > 1:
        raise InputError(f"{found.name} is split: give the folder of one split, class/image.jpg")
    (part,) = found.parts.values()
    if len(part) < 2 * BATCH:
        raise InputError(f"{found.name} has {len(part)} pictures: expected {2 * BATCH} or more")
    both = Found(found.name, {"train": part, "test": part}, found.coarse_names, found.fine_names)
    split = load(both, image_size=SIZE, workers=workers).train
    preprocessing = Preprocessing(SIZE, *IMAGENET_STATISTICS)
    plan = StepPlan(split.images.crop_rule(AREA[0], True), ("weak",), BATCH, 0)

    def batches() -> Iterator[Tensor]:
        numbers = range(passes * plan.steps_per_epoch)
        for _, (view,) in split.images.squares(plan, numbers, size=SIZE, workers=workers):
            yield preprocessing.normalise(view)

    return _turn(batches)


def _turn(make: Callable[[], Iterator[Tensor]]) -> Turn:
    reuse_memory()  # the other side gains as well
    torch.set_num_threads(1)  # the cores are the workers'

    def turn() -> dict[str, float]:
        batches = make()
        next(batches)
        return timed(lambda: sum(len(batch) for batch in batches))()

    return turn
