"""The vectors of a frozen backbone in place of images, for a head that trains on them."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from maskcon.data import DataSet, Features, Images, Split
from maskcon.data.plans import CropsOf
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.runtime.progress import Progress
from maskcon.vectors.encode import Loaded
from maskcon.vectors.once import Maker, of_images
from maskcon.vectors.store import Store

BATCH = 256
LARGEST = torch.finfo(torch.float16).max


@dataclass(frozen=True)
class Frozen:
    """A backbone that does not learn, and how it is used.

    Attributes:
        backbone: images to vectors; in evaluation mode, on its device.
        name: of the backbone.
        parts: widths of what its vectors are made of.
        preprocessing: of its input.
        precision: the precision that it computes in.
        views: of each train image; the first is the whole image, the others are crops.
        crop_scale, flip: of the crops.
        seed: of the crops.
    """

    backbone: nn.Module
    name: str
    parts: tuple[int, ...]
    preprocessing: Preprocessing
    precision: Precision
    views: int
    crop_scale: float | None
    flip: bool
    seed: int

    @property
    def width(self) -> int:
        """F, of its vectors."""
        return sum(self.parts)

    def data_set(
        self, data: DataSet, store: Store | None, workers: int, progress: Progress
    ) -> DataSet:
        """The set with vectors in place of images: those that a store knows, and new ones."""
        parts = {}
        for name, split, views in (
            ("train", data.train, self.views),
            ("test", data.test, 1),
            ("validation", data.validation, 1),
        ):
            if split is None:
                continue
            values = self._values(split.images, views, store, workers, progress, name)
            normal = (self.preprocessing.mean, self.preprocessing.std)
            features = Features(values, normal, self.parts)
            parts[name] = Split(features, split.coarse, split.fine)
        validation = parts.get("validation")
        return replace(data, train=parts["train"], test=parts["test"], validation=validation)

    def _values(
        self,
        images: Images,
        views: int,
        store: Store | None,
        workers: int,
        progress: Progress,
        name: str,
    ) -> Tensor:
        """Vectors of a split: float16 [N, V, F]."""
        values = torch.empty(len(images), views, self.width, dtype=torch.float16)
        by = Maker(self.backbone, self.name, self.width, self.preprocessing, self.precision, store)
        crops = _Crops(images, self, workers)
        for view in range(views):
            where = f"{name} view {view + 1} of {views}" if views > 1 else name
            if view:
                made = by.made(
                    partial(crops.digests, view),
                    partial(crops.batches, view),
                    count=len(images),
                    doing=f"vectors, {where}",
                    progress=progress,
                )
            else:
                made = of_images(
                    by,
                    images,
                    workers=workers,
                    batch_size=BATCH,
                    doing=f"vectors, {where}",
                    progress=progress,
                )
            for part in made:
                # beyond float16's range nothing is a sensible vector, infinities least
                values[part.rows, view] = part.features.clamp(-LARGEST, LARGEST).half().cpu()
        progress.note(f"vectors of {name} images: {len(images):,} x {views} x {self.width}")
        return values


@dataclass(frozen=True)
class _Crops:
    """Crops of images, each drawn from what its picture is, wherever it stands in the set."""

    images: Images
    frozen: Frozen
    workers: int

    def digests(self, view: int, rows: Tensor | None = None) -> Sequence[bytes]:
        """What tells a crop: its picture, and how it is cut; of some rows as they are now."""
        rule = self.frozen
        cut = repr((view, rule.crop_scale, rule.flip, rule.seed)).encode()
        return [
            hashlib.blake2b(picture + cut, digest_size=16).digest()
            for picture in self.images.digests(rows)
        ]

    def batches(self, view: int, rows: np.ndarray) -> Iterator[Loaded]:
        """The crops of some rows."""
        rule = self.images.crop_rule(self.frozen.crop_scale, self.frozen.flip)
        plan = CropsOf(rule, "weak", rows, self.digests(view), BATCH)
        size, numbers = self.frozen.preprocessing.image_size, range(-(-len(rows) // BATCH))
        first = 0
        for _, (squares,) in self.images.squares(plan, numbers, size=size, workers=self.workers):
            yield Loaded(torch.arange(first, first + len(squares)), squares)
            first += len(squares)
