"""Which images make up a batch, and how they are cut.

A plan is a function of the batch's number, which a loader's worker can call as well as the
training process.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from maskcon.data.augment import Crops, draw_crops, view_of
from maskcon.data.augment.crop import whole
from maskcon.data.augment.stages import stage_at, stages
from maskcon.runtime.seeds import generator


@dataclass(frozen=True)
class Batch:
    """Rows of a set and how to cut them, once for each view.

    Attributes:
        rows: int64 [N].
        crops: one for each view, N boxes each.
    """

    rows: Tensor
    crops: tuple[Crops, ...]


BatchPlan = Callable[[int], Batch]
Squares = Generator[tuple[Tensor, list[Tensor]], None, None]  # rows, and views of them


class Plan(Protocol):
    """What the batches of a run hold."""

    batch_size: int  # images of a whole batch

    def __call__(self, number: int) -> Batch:
        """The rows of a batch and how they are cut."""
        ...

    def kinds(self, number: int) -> tuple[str, ...]:
        """What its views are, names that `view_of` knows."""
        ...

    def changes(self, number: int) -> torch.Generator:
        """What the changes of its views are drawn from, one view after the other."""
        ...


@dataclass(frozen=True)
class CropRule:
    """How the views of a run are cut: what is common to all of them.

    Attributes:
        crop_scale: smallest share of an image's area that a crop keeps; None is each view's own.
        flip: mirror every other view left to right.
        sizes: height and width of each image, int64 [N, 2].
        cuts: whether there is anything to cut; vectors have no pixels.
    """

    crop_scale: float | None
    flip: bool
    sizes: Tensor
    cuts: bool = True

    def area(self, kind: str) -> float | None:
        """Smallest share of an image that a view shows; None is all of it.

        Asked where a plan is made, since processes that read pictures need not know a view that
        a script has added.
        """
        return view_of(kind).area(self.crop_scale) if self.cuts else None

    def draw(self, area: float | None, rows: Tensor, random: torch.Generator) -> Crops:
        """Crops of some rows for a view."""
        if not self.cuts:
            return whole(self.sizes[rows])
        return draw_crops(area, self.sizes[rows], flip=self.flip, generator=random)


class StepPlan:
    """What each training step sees: the order from (seed, epoch), the crops from (seed, step).

    Args:
        rule: how views are cut.
        kinds: the views; each a name, or several in turn, as `stages` reads them.
        batch_size: images of a step; what is left of an epoch is dropped.
        seed: of the run.
    """

    def __init__(self, rule: CropRule, kinds: tuple[str, ...], batch_size: int, seed: int):
        self.rule, self.batch_size, self.seed = rule, batch_size, seed
        self._stages = tuple(stages("view", kind) for kind in kinds)
        self._areas = {s.kind: rule.area(s.kind) for of_view in self._stages for s in of_view}
        self.steps_per_epoch = len(rule.sizes) // batch_size
        self._epoch, self._order = -1, torch.empty(0)

    def __call__(self, number: int) -> Batch:
        """The batch of a step."""
        epoch, position = divmod(number, self.steps_per_epoch)
        if epoch != self._epoch:
            random = generator(self.seed, "order", epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.rule.sizes), generator=random)
        rows = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        random, areas = generator(self.seed, "crops", number), self._areas
        drawn = (self.rule.draw(areas[kind], rows, random) for kind in self.kinds(number))
        return Batch(rows, tuple(drawn))

    def kinds(self, number: int) -> tuple[str, ...]:
        """Of the epoch of a step."""
        epoch = number // self.steps_per_epoch
        return tuple(stage_at(of_view, epoch).kind for of_view in self._stages)

    def changes(self, number: int) -> torch.Generator:
        """Of the views of a step."""
        return generator(self.seed, "views", number)


class PrefillPlan:
    """The batches whose keys fill the bank before the first step, images drawn at random.

    Whole batches only, so that batch norm never sees a rest of one image: the last batch takes
    in as many rows of the one before as it needs.

    Args:
        rule: how views are cut.
        kind: the key's view; of several in turn the first.
        count: keys wanted.
        batch_size: images of a batch.
        seed: of the run.
    """

    def __init__(self, rule: CropRule, kind: str, count: int, batch_size: int, seed: int):
        random = generator(seed, "prefill")
        self.order = torch.randperm(len(rule.sizes), generator=random)[: max(count, batch_size)]
        last = len(self.order) - batch_size
        self.starts = [*range(0, last, batch_size), last]
        self._kind = stage_at(stages("view", kind), 0).kind
        self._area = rule.area(self._kind)
        self.rule, self.batch_size, self.seed = rule, batch_size, seed

    def kinds(self, number: int) -> tuple[str, ...]:
        """The one view."""
        return (self._kind,)

    def __call__(self, number: int) -> Batch:
        """The batch of a number."""
        rows = self.order[self.starts[number] : self.starts[number] + self.batch_size]
        random = generator(self.seed, "prefill", 1 + 2 * number)
        return Batch(rows, (self.rule.draw(self._area, rows, random),))

    def changes(self, number: int) -> torch.Generator:
        """Of the view of a batch."""
        return generator(self.seed, "prefill", 2 + 2 * number)


class RowsInOrder:
    """All rows in their order, whole.

    Args:
        rule: how they are cut, where there is anything to cut.
        batch_size: images of a batch; the last may have fewer.
    """

    def __init__(self, rule: CropRule, batch_size: int):
        self.rule, self.batch_size = rule, batch_size

    def __call__(self, number: int) -> Batch:
        """The batch of a number."""
        start = number * self.batch_size
        rows = torch.arange(start, min(start + self.batch_size, len(self.rule.sizes)))
        return Batch(rows, (whole(self.rule.sizes[rows]),))


class CropsOf:
    """A crop of each of some rows, which depends on nothing but a digest of its own.

    Args:
        rule: how views are cut.
        kind: of the view.
        rows: of the images, int64 [n].
        digests: what the crop of each image is drawn from [N].
        batch_size: images of a batch; the last may have fewer.
    """

    def __init__(
        self,
        rule: CropRule,
        kind: str,
        rows: np.ndarray,
        digests: Sequence[bytes],
        batch_size: int,
    ):
        self.rule, self.rows, self.batch_size = rule, torch.from_numpy(rows), batch_size
        self._digests, self._area = digests, rule.area(kind)

    def __call__(self, number: int) -> Batch:
        """The batch of a number."""
        rows = self.rows[number * self.batch_size : (number + 1) * self.batch_size]
        drawn = [self._drawn(row) for row in rows]
        return Batch(rows, (Crops.of(drawn),))

    def _drawn(self, row: Tensor) -> Crops:
        digest = self._digests[int(row)]
        random = generator(0, "cached", int.from_bytes(digest[:8], "little"))
        return self.rule.draw(self._area, row[None], random)
