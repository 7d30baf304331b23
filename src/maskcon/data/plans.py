"""Squares of a split's images, from memory or from pictures on the disk, batch by batch.

Which images make up a batch and how they are cut is a plan: a function of the batch's number,
which a loader's worker can call as well as the training process.
"""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from maskcon.data.augment import VIEWS, Crops, cut, draw_crops
from maskcon.data.augment.crop import whole
from maskcon.data.features import FeatureAugmentation, Features
from maskcon.data.loader import Batch, batches, cut_picture
from maskcon.data.pictures import choose
from maskcon.data.table import Photos
from maskcon.errors import InputError
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.seeds import generator

Squares = Generator[tuple[Tensor, list[Tensor]], None, None]  # rows, and views of them


class Plan(Protocol):
    """What the batches of a run hold."""

    kinds: tuple[str, ...]  # of the views, names in `VIEWS`
    batch_size: int  # images of a whole batch

    def __call__(self, number: int) -> Batch:
        """The rows of a batch and how they are cut."""
        ...

    def changes(self, number: int) -> torch.Generator:
        """What the changes of its views are drawn from, one view after the other."""
        ...


@dataclass(frozen=True)
class CropRule:
    """How the views of a run are cut: a view's kind, and what is common to all of them."""

    crop_scale: float
    flip: bool
    sizes: Tensor  # height and width of each image, int64 [N, 2]
    cuts: bool = True  # vectors cannot be cut

    def draw(self, kind: str, rows: Tensor, random: torch.Generator) -> Crops:
        """Crops of some rows for a view."""
        if not self.cuts:
            return whole(self.sizes[rows])
        return draw_crops(
            kind, self.sizes[rows], crop_scale=self.crop_scale, flip=self.flip, generator=random
        )


class StepPlan:
    """What each training step sees: the order from (seed, epoch), the crops from (seed, step).

    Args:
        rule: how views are cut.
        kinds: the views, names in `VIEWS`.
        batch_size: images of a step; what is left of an epoch is dropped.
        seed: of the run.
    """

    def __init__(self, rule: CropRule, kinds: tuple[str, ...], batch_size: int, seed: int):
        self.rule, self.kinds, self.batch_size, self.seed = rule, kinds, batch_size, seed
        self.steps_per_epoch = len(rule.sizes) // batch_size
        self._epoch, self._order = -1, torch.empty(0)

    def __call__(self, number: int) -> Batch:
        """The batch of a step."""
        epoch, position = divmod(number, self.steps_per_epoch)
        if epoch != self._epoch:
            random = generator(self.seed, "order", epoch)
            self._epoch, self._order = epoch, torch.randperm(len(self.rule.sizes), generator=random)
        rows = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        random = generator(self.seed, "crops", number)
        return Batch(rows, tuple(self.rule.draw(kind, rows, random) for kind in self.kinds))

    def changes(self, number: int) -> torch.Generator:
        """Of the views of a step."""
        return generator(self.seed, "views", number)


class PrefillPlan:
    """The batches whose keys fill the bank before the first step, images drawn at random.

    Whole batches only, so that batch norm never sees a rest of one image: the last batch takes
    in as many rows of the one before as it needs.

    Args:
        rule: how views are cut.
        kind: the key's view.
        count: keys wanted.
        batch_size: images of a batch.
        seed: of the run.
    """

    def __init__(self, rule: CropRule, kind: str, count: int, batch_size: int, seed: int):
        random = generator(seed, "prefill")
        self.order = torch.randperm(len(rule.sizes), generator=random)[: max(count, batch_size)]
        last = len(self.order) - batch_size
        self.starts = [*range(0, last, batch_size), last]
        self.kinds: tuple[str, ...] = (kind,)
        self.rule, self.batch_size, self.seed = rule, batch_size, seed

    def __call__(self, number: int) -> Batch:
        """The batch of a number."""
        rows = self.order[self.starts[number] : self.starts[number] + self.batch_size]
        random = generator(self.seed, "prefill", 1 + 2 * number)
        return Batch(rows, (self.rule.draw(self.kinds[0], rows, random),))

    def changes(self, number: int) -> torch.Generator:
        """Of the view of a batch."""
        return generator(self.seed, "prefill", 2 + 2 * number)


class RowsInOrder:
    """All rows in their order, in one view.

    Args:
        rule: how views are cut.
        kind: of the view; "plain" is the whole image.
        batch_size: images of a batch; the last may have fewer.
        seed: of the crops, and
        stream: which of many crops of an image.
    """

    def __init__(self, rule: CropRule, kind: str, batch_size: int, seed: int = 0, stream: int = 0):
        self.rule, self.batch_size, self.seed, self.stream = rule, batch_size, seed, stream
        self.kinds: tuple[str, ...] = (kind,)

    def __call__(self, number: int) -> Batch:
        """The batch of a number."""
        start = number * self.batch_size
        rows = torch.arange(start, min(start + self.batch_size, len(self.rule.sizes)))
        random = generator(self.seed, "cached", (self.stream << 32) + number)
        return Batch(rows, (self.rule.draw(self.kinds[0], rows, random),))

    def changes(self, number: int) -> torch.Generator:
        """Of the view of a batch; nothing is drawn from it."""
        return generator(self.seed, "cached", (self.stream << 32) + number)


def sizes_of(images: Tensor | Photos | Features) -> Tensor:
    """Height and width of each image, int64 [N, 2]; 1 and 1 of vectors."""
    if isinstance(images, Features):
        return torch.ones(1, 2, dtype=torch.long).expand(len(images), 2)
    if isinstance(images, Photos):
        return images.sizes
    return torch.tensor(images.shape[2:]).expand(len(images), 2)


@dataclass(frozen=True)
class _Together:
    """Several batches of a plan as one, or some rows of each."""

    plan: Plan
    groups: list[range]  # the numbers of the batches
    part: slice  # of the rows of a batch

    def __call__(self, number: int) -> Batch:
        parts = [self.plan(one) for one in self.groups[number]]
        crops = zip(*(one.crops for one in parts), strict=True)
        return Batch(
            torch.cat([one.rows[self.part] for one in parts]),
            tuple(Crops.of([one.part(self.part) for one in view]) for view in crops),
        )


def views(
    images: Tensor | Photos | Features,
    plan: Plan,
    numbers: range,
    *,
    size: int,
    workers: int,
    device: torch.device,
    together: int = 1,
    augmentation: FeatureAugmentation | None = None,
    ranks: Ranks = ALONE,
) -> Squares:
    """Rows and their finished views, batch by batch; of whole batches.

    Args:
        images: of a split; those in memory lie on the device.
        plan: what each batch holds.
        numbers: of the batches.
        size: side of the views in pixels.
        workers: processes that read pictures, where they are not in memory.
        device: where the views are wanted.
        together: batches whose views are made in one go, of images in memory. Each draws its
            own random numbers all the same, so this changes nothing but the speed: a GPU does
            an operation to a thousand images in the time that it takes to start it.
        augmentation: what strong views of vectors undergo.
        ranks: who share each batch; only the rows of this process are made. The random numbers
            are those of the whole batch, so that each view is what a single process would make.

    Yields:
        int64 [N] and a list of uint8 [N, 3, size, size], one for each view, on the device;
        of vectors float32 [N, F]. Good until the next are asked for.
    """
    part = ranks.part(plan.batch_size)
    if isinstance(images, Features):
        for number in numbers:
            rows, random = plan(number).rows.to(device), plan.changes(number)
            made = [images.view(rows, kind, augmentation, random) for kind in plan.kinds]
            yield rows[part], [view[part] for view in made]
        return
    groups = [numbers[start : start + together] for start in range(0, len(numbers), together)]
    joined = squares(
        images, _Together(plan, groups, part), range(len(groups)), size=size, workers=workers
    )
    for group, (rows, cuts) in zip(groups, joined, strict=True):
        count = len(rows) // len(group)
        drawn = [_draws(plan, number, part) for number in group]  # [batch][view]
        rows = rows.to(device, non_blocking=True)
        changed = []
        for place, (kind, squares_of_all) in enumerate(zip(plan.kinds, cuts, strict=True)):
            there = squares_of_all.to(device, non_blocking=True)
            changed.append(VIEWS[kind].apply(there, [one[place] for one in drawn]))
        for start in range(0, len(rows), count):
            batch = slice(start, start + count)
            yield rows[batch], [view[batch] for view in changed]


def _draws(plan: Plan, number: int, part: slice) -> list[list[Tensor]]:
    """What some images of a batch draw for each of its views."""
    random = plan.changes(number)
    drawn = [VIEWS[kind].draw(plan.batch_size, random) for kind in plan.kinds]
    return [[x[part] for x in of_view] for of_view in drawn]


def squares(
    images: Tensor | Photos | Features,
    plan: Callable[[int], Batch],
    numbers: range,
    *,
    size: int,
    workers: int,
    exact: bool = False,
) -> Squares:
    """Rows and their views, batch by batch; of pictures, not of vectors.

    Args:
        images: of a split; those in memory may lie on a device.
        plan: what each batch holds.
        numbers: of the batches.
        size: side of the squares in pixels.
        workers: processes that read pictures, where they are not in memory.
        exact: decode pictures in full size even where a smaller one would do.

    Yields:
        int64 [N], and a list of uint8 [N, 3, size, size], one for each view.
    """
    if isinstance(images, Photos):
        yield from batches(images, plan, numbers, size=size, workers=workers, exact=exact)
        return
    assert isinstance(images, Tensor)
    for number in numbers:
        batch = plan(number)
        taken = images[batch.rows.to(images.device)]
        yield batch.rows, [cut(taken, crops, size) for crops in batch.crops]


def some(images: Tensor | Photos | Features, rows: slice | Tensor) -> Tensor | Photos | Features:
    """A part of a split's images."""
    if isinstance(images, Tensor):
        return images[rows]
    if isinstance(images, Features):
        return replace(images, values=images.values[rows])
    chosen = choose(images.pictures, torch.arange(len(images))[rows].numpy())
    return Photos(chosen, images.sizes[rows], images.digest)


def plain_squares(
    images: Tensor | Photos | Features, *, size: int, workers: int, batch_size: int
) -> Iterator[Tensor]:
    """All images in their order, resized to squares: uint8 [N, 3, size, size] at a time.

    Of vectors the first view of each, float32 [N, F]. Each is good until the next is asked for.
    """
    if isinstance(images, Tensor) and images.ndim == 2:
        images = Features(images[:, None])
    if isinstance(images, Features):
        for start in range(0, len(images), batch_size):
            yield images.first(slice(start, start + batch_size))
        return
    plan = RowsInOrder(CropRule(1.0, False, sizes_of(images)), "plain", batch_size)
    numbers = range(-(-len(images) // batch_size))
    for _, (view,) in squares(images, plan, numbers, size=size, workers=workers, exact=True):
        yield view  # good until the next is asked for


def first_squares(images: Tensor | Photos | Features, count: int, size: int) -> Tensor:
    """The first images as squares, read here and now: uint8 [N, 3, size, size]; or vectors."""
    count = min(count, len(images))
    if isinstance(images, Features):
        return images.first(slice(count))
    if isinstance(images, Tensor):
        taken = images[:count]
        return cut(taken, whole(sizes_of(taken)), size)
    return torch.stack([picture(images, row, size) for row in range(count)])


def picture(images: Tensor | Photos | Features, row: int, size: int) -> Tensor:
    """One image for people to look at: uint8 [3, H, W]; a square of `size`, if not in memory.

    Raises:
        InputError: it is a vector.
    """
    if isinstance(images, Features):
        raise InputError("of vectors there is nothing to look at: give the pictures themselves")
    if isinstance(images, Tensor):
        return images[row]
    height, width = images.sizes[row].tolist()
    square = torch.empty(size, size, 3, dtype=torch.uint8)
    cut_picture(images.pictures, row, (height, width), [(0, 0, height, width)], [square])
    return square.permute(2, 0, 1)
