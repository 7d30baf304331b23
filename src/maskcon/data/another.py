"""Another view of each image of a split, in its place: the same whenever it is asked for."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maskcon.data.augment import Crops, view_of
from maskcon.data.augment.view import View
from maskcon.data.images import Features, Images, InOrder
from maskcon.data.plans import Batch
from maskcon.runtime.seeds import generator


def another_view(
    images: Images, kind: str, *, crop_scale: float | None, flip: bool, seed: int
) -> InOrder:
    """Another view of each image.

    Args:
        images: of a split; vectors of several views of each have their second one.
        kind: of the view, a name that `view_of` knows.
        crop_scale: as training has it.
        flip: likewise.
        seed: of the run.
    """
    if isinstance(images, Features):
        if images.values.shape[1] > 1:
            return replace(images, values=images.values[:, 1:2])
        rows = torch.arange(len(images), device=images.values.device)
        random = generator(seed, "held", 1)
        return replace(images, values=images.view(rows, kind, random)[:, None])
    rule, view = images.crop_rule(crop_scale, flip), view_of(kind)
    random = generator(seed, "held", 2)
    crops = rule.draw(rule.area(kind), torch.arange(len(images)), random)
    return _Another(images, crops, view, view.draw(len(images), generator(seed, "held", 3)))


@dataclass(frozen=True, eq=False)
class _Another:
    """N images, each with the crop and the changes that were drawn for it."""

    images: Images
    crops: Crops
    view: View
    drawn: list[Tensor]

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: slice | Tensor) -> "_Another":
        """Some of them, in that order."""
        drawn = [of_change[rows] for of_change in self.drawn]
        return _Another(self.images.take(rows), self.crops.part(rows), self.view, drawn)

    def plain(self, *, size: int, workers: int, batch_size: int = 0) -> Iterator[Tensor]:
        """`InOrder.plain`, of these views."""
        step = batch_size or self.images.batch_size
        plan, numbers = _InParts(self.crops, len(self), step), range(-(-len(self) // step))
        for rows, (squares,) in self.images.squares(plan, numbers, size=size, workers=workers):
            part = slice(int(rows[0]), int(rows[0]) + len(rows))
            yield self.view.apply(squares, [[of_change[part] for of_change in self.drawn]])


@dataclass(frozen=True)
class _InParts:
    """Crops that are drawn already, batch by batch; processes that read pictures are sent it."""

    crops: Crops
    count: int
    batch_size: int

    def __call__(self, number: int) -> Batch:
        start = number * self.batch_size
        part = slice(start, min(start + self.batch_size, self.count))
        return Batch(torch.arange(part.start, part.stop), (self.crops.part(part),))
