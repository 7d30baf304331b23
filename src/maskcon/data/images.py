"""The images of a split: in memory, on the disk, or vectors in their place.

Whoever trains or evaluates asks `Images`, and need not know which of the three they are.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Protocol

import torch
from torch import Generator, Tensor

from maskcon.data.augment import Crops, cut, view_of
from maskcon.data.augment.crop import whole
from maskcon.data.image_file import content_hash
from maskcon.data.loader import batches, cut_picture
from maskcon.data.pictures import Pictures
from maskcon.data.plans import Batch, BatchPlan, CropRule, Plan, RowsInOrder, Squares
from maskcon.errors import InputError
from maskcon.runtime.device import sent, where_exact
from maskcon.runtime.distributed import ALONE, Ranks

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LARGE = 224  # pixels; the side of views of images that have none of their own
RAW = 32  # pixels; the side to which large pictures are made small, to be compared as they are
BATCH, LARGE_BATCH = 500, 100  # images of an evaluation's batch; each worker has several
TOGETHER = 1024  # images whose views are made in one go, on a GPU


class InOrder(Protocol):
    """N images as an encoder sees them, one view of each, in their order."""

    def __len__(self) -> int: ...

    def take(self, rows: slice | Tensor) -> "InOrder":
        """Some of them, in that order."""
        ...

    def plain(self, *, size: int, workers: int, batch_size: int = 0) -> Iterator[Tensor]:
        """All in their order, resized to squares: uint8 [n, 3, size, size] at a time.

        Of vectors the first view of each, float32 [n, F]. Each is good until the next is asked
        for. `batch_size` is the attribute unless given.
        """
        ...


class Images(InOrder, Protocol):
    """N images of a split.

    Attributes:
        has_pictures: whether there is something to look at; else they are vectors.
        side: in pixels, of views where nobody says how large.
        batch_size: how many an evaluation takes at once.
        sizes: height and width of each, int64 [N, 2]; 1 and 1 of vectors.
        digest: tells them from others.
        normalisation: mean and std of each channel, for levels in 0..1.
    """

    @property
    def has_pictures(self) -> bool: ...  # noqa: D102
    @property
    def side(self) -> int: ...  # noqa: D102
    @property
    def batch_size(self) -> int: ...  # noqa: D102
    @property
    def sizes(self) -> Tensor: ...  # noqa: D102
    @property
    def digest(self) -> str: ...  # noqa: D102
    @property
    def normalisation(self) -> Normalisation: ...  # noqa: D102

    def content(self) -> Iterator[bytes | memoryview]:
        """What tells them from others, for a hash; `digest` alone where it is short."""
        ...

    def digests(self, rows: Tensor | None = None) -> Sequence[bytes]:
        """What tells the pixels of each [N]: `Pictures.digest`, with `limit_told` behind it.

        Args:
            rows: of some of them, int64 [n], as they are now; else as they were first read.

        Raises:
            InputError: they are vectors.
        """
        ...

    def take(self, rows: slice | Tensor) -> "Images":
        """Some of them, in that order."""
        ...

    def to(self, device: torch.device) -> "Images":
        """The same on a device; what is on the disk stays there."""
        ...

    def crop_rule(self, crop_scale: float | None = 1.0, flip: bool = False) -> CropRule:
        """How views of them are cut."""
        ...

    def views(
        self,
        plan: Plan,
        numbers: range,
        *,
        size: int,
        workers: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> Squares:
        """Rows and their finished views, batch by batch; of whole batches.

        Args:
            plan: what each batch holds.
            numbers: of the batches.
            size: side of the views in pixels.
            workers: processes that read pictures, where they are not in memory.
            device: where the views are wanted; images in memory lie there.
            ranks: who share each batch; only the rows of this process are made. The random
                numbers are those of the whole batch, so that each view is what a single
                process would make.

        Yields:
            int64 [N] and a list of uint8 [N, 3, size, size], one for each view, on the device;
            of vectors float32 [N, F]. Good until the next are asked for.
        """
        ...

    def squares(
        self, plan: BatchPlan, numbers: range, *, size: int, workers: int, exact: bool = False
    ) -> Squares:
        """Rows and their crops, batch by batch, nothing changed but their size.

        Args:
            plan: what each batch holds.
            numbers: of the batches.
            size: side of the squares in pixels.
            workers: processes that read pictures, where they are not in memory.
            exact: decode pictures in full size even where a smaller one would do.

        Yields:
            int64 [N], and a list of uint8 [N, 3, size, size], one for each view.

        Raises:
            InputError: they are vectors.
        """
        ...

    def probe(self, count: int, size: int) -> Tensor:
        """The first as squares, read here and now: uint8 [n, 3, size, size]; or vectors [n, F]."""
        ...

    def raw(self, workers: int) -> Tensor:
        """All without any learning: uint8 [N, 3, S, S], or vectors as given, float32 [N, F]."""
        ...

    def picture(self, row: int, size: int) -> Tensor:
        """One to look at: uint8 [3, H, W]; a square of `size` where it is not in memory.

        Raises:
            InputError: it is a vector.
        """
        ...

    def described(self, size: int) -> str:
        """What a network sees of each, in words for people, with views of a size."""
        ...


class _Shown(Protocol):
    """What images that can be looked at have in common."""

    has_pictures: ClassVar[bool] = True

    def crop_rule(self: Images, crop_scale: float | None = 1.0, flip: bool = False) -> CropRule:
        """How views of them are cut."""
        return CropRule(crop_scale, flip, self.sizes)

    def plain(self: Images, *, size: int, workers: int, batch_size: int = 0) -> Iterator[Tensor]:
        """`Images.plain`."""
        step = batch_size or self.batch_size
        plan, numbers = RowsInOrder(self.crop_rule(), step), range(-(-len(self) // step))
        for _, (view,) in self.squares(plan, numbers, size=size, workers=workers, exact=True):
            yield view  # good until the next is asked for

    def together(self, batch_size: int) -> int:
        """Batches whose views are changed in one go."""
        ...

    def squares(
        self, plan: BatchPlan, numbers: range, *, size: int, workers: int, exact: bool = False
    ) -> Squares:
        """`Images.squares`."""
        ...

    def views(
        self,
        plan: Plan,
        numbers: range,
        *,
        size: int,
        workers: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> Squares:
        """`Images.views`: squares of several batches together, changed as each batch draws it.

        Each batch draws its own random numbers, so how many are taken together changes nothing
        but the speed.
        """
        part, together = ranks.part(plan.batch_size), self.together(plan.batch_size)
        groups = list(_groups(plan, numbers, together))
        joined = _Together(plan, groups, part)
        made = self.squares(joined, range(len(groups)), size=size, workers=workers)
        for group, (rows, cuts) in zip(groups, made, strict=True):
            count = len(rows) // len(group)
            drawn = [_draws(plan, number, part) for number in group]  # [batch][view]
            rows = sent(rows, device)
            changed = []
            kinds = plan.kinds(group[0])
            for place, (kind, squares) in enumerate(zip(kinds, cuts, strict=True)):
                there = sent(squares, device)
                changed.append(view_of(kind).apply(there, [one[place] for one in drawn]))
            for start in range(0, len(rows), count):
                batch = slice(start, start + count)
                yield rows[batch], [view[batch] for view in changed]

    def described(self, size: int) -> str:
        """What a network sees of each."""
        return f"views of {size} px"


@dataclass(frozen=True, eq=False)
class InMemory(_Shown):
    """Images of one size.

    Attributes:
        pixels: uint8 [N, 3, H, W], on any device.
    """

    pixels: Tensor
    batch_size = BATCH

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def side(self) -> int:
        """Their own."""
        return self.pixels.shape[2]

    @property
    def sizes(self) -> Tensor:
        """Height and width of each, int64 [N, 2]."""
        return torch.tensor(self.pixels.shape[2:]).expand(len(self), 2)

    @property
    def digest(self) -> str:
        """Tells their pixels from others."""
        digest = hashlib.blake2b(digest_size=16)
        for part in self.content():
            digest.update(part)
        return digest.hexdigest()

    @cached_property
    def normalisation(self) -> Normalisation:
        """Mean and std of each channel over all pixels, for levels in 0..1."""
        total, squares, count = torch.zeros(3).double(), torch.zeros(3).double(), 0
        for pixels in self.pixels.split(1024):
            levels = pixels.double()
            total += levels.sum((0, 2, 3))
            squares += levels.square().sum((0, 2, 3))
            count += levels[:, 0].numel()
        mean = total / count
        std = (squares / count - mean.square()).clamp(min=1e-6).sqrt()
        return tuple((mean / 255).tolist()), tuple((std / 255).tolist())

    def content(self) -> Iterator[bytes | memoryview]:
        """Shape and pixels."""
        yield str(tuple(self.pixels.shape)).encode()
        yield self.pixels.cpu().contiguous().numpy().data

    def digests(self, rows: Tensor | None = None) -> list[bytes]:
        """Of their pixels."""
        pixels = (self.pixels if rows is None else self.pixels[rows]).cpu()
        return [content_hash(one.permute(1, 2, 0).numpy()) for one in pixels]

    def take(self, rows: slice | Tensor) -> "InMemory":
        """Some of them, in that order."""
        return InMemory(self.pixels[rows])

    def to(self, device: torch.device) -> "InMemory":
        """The same on a device."""
        return InMemory(self.pixels.to(device))

    def together(self, batch_size: int) -> int:
        """So many batches as a GPU changes in the time that it takes to start it."""
        return max(1, TOGETHER // batch_size) if self.pixels.device.type == "cuda" else 1

    def squares(
        self, plan: BatchPlan, numbers: range, *, size: int, workers: int, exact: bool = False
    ) -> Squares:
        """`Images.squares`, where the pixels are."""
        for number in numbers:
            batch = plan(number)
            taken = self.pixels[batch.rows.to(self.pixels.device)]
            yield batch.rows, [cut(taken, crops, size) for crops in batch.crops]

    def probe(self, count: int, size: int) -> Tensor:
        """The first as squares: uint8 [n, 3, size, size]."""
        first = self.take(slice(count))
        return cut(first.pixels, whole(first.sizes), size)

    def raw(self, workers: int) -> Tensor:
        """The pixels."""
        return self.pixels

    def picture(self, row: int, size: int) -> Tensor:
        """One of them, uint8 [3, H, W]."""
        return self.pixels[row]


@dataclass(frozen=True, eq=False)
class OnDisk(_Shown):
    """Pictures that stay where they are, and were all read once.

    Attributes:
        pictures: N of them.
        sizes: height and width of each, int64 [N, 2].
        each: the digest of each of them [N].
        digest: tells the contents of all from others.
    """

    pictures: Pictures
    sizes: Tensor
    each: tuple[bytes, ...]
    digest: str
    side = LARGE
    batch_size = LARGE_BATCH
    normalisation = IMAGENET_STATISTICS  # what pretrained networks were trained with

    def __len__(self) -> int:
        return len(self.pictures)

    def content(self) -> Iterator[bytes | memoryview]:
        """The digest."""
        yield self.digest.encode()

    def digests(self, rows: Tensor | None = None) -> Sequence[bytes]:
        """Of their files."""
        limit, each = self.pictures.limit_told(), self.each
        if rows is not None:
            each = tuple(self.pictures.digest(row) for row in rows.tolist())
        return [one + limit for one in each]

    def take(self, rows: slice | Tensor) -> "OnDisk":
        """Some of them, in that order; the digest stays that of all."""
        numbers = torch.arange(len(self))[rows].numpy()
        each = tuple(self.each[number] for number in numbers)
        return OnDisk(self.pictures.take(numbers), self.sizes[rows], each, self.digest)

    def to(self, device: torch.device) -> "OnDisk":
        """The same: it is views alone that go to a device."""
        return self

    def together(self, batch_size: int) -> int:
        """One: workers have the next ones ready."""
        return 1

    def squares(
        self, plan: BatchPlan, numbers: range, *, size: int, workers: int, exact: bool = False
    ) -> Squares:
        """`Images.squares`, cut by worker processes."""
        return batches(
            self.pictures, self.sizes, plan, numbers, size=size, workers=workers, exact=exact
        )

    def probe(self, count: int, size: int) -> Tensor:
        """The first as squares: uint8 [n, 3, size, size]."""
        return torch.stack([self.picture(row, size) for row in range(min(count, len(self)))])

    def raw(self, workers: int) -> Tensor:
        """All as small squares: uint8 [N, 3, 32, 32]."""
        plain = self.plain(size=RAW, workers=workers, batch_size=BATCH)
        return torch.cat([squares.clone() for squares in plain])

    def picture(self, row: int, size: int, *, exact: bool = False) -> Tensor:
        """One of them, whole, as a square: uint8 [3, size, size].

        `exact` is as `squares` has it; then it is what `plain` has.
        """
        height, width = self.sizes[row].tolist()
        square = torch.empty(size, size, 3, dtype=torch.uint8)
        box = (0, 0, height, width)
        cut_picture(self.pictures, row, (height, width), [box], [square], exact=exact)
        return square.permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class FeatureAugmentation:
    """What happens to a vector in a strong view, besides the choice among its image's views.

    Attributes:
        noise: length of normal noise along each of the directions.
        dropout: share of the dimensions that are set to their mean, in [0, 1).
        directions: float32 [K, F].
        mean: of each dimension, float32 [F].
    """

    noise: float
    dropout: float
    directions: Tensor
    mean: Tensor

    def __call__(self, vectors: Tensor, random: Generator) -> Tensor:
        """Disturbed vectors [n, F]; random numbers are drawn on the processor."""
        device = vectors.device
        if self.noise:
            noise = torch.randn(len(vectors), len(self.directions), generator=random)
            vectors = torch.addmm(vectors, noise.to(device), self.directions, alpha=self.noise)
        if self.dropout:
            kept = torch.rand(vectors.shape, generator=random) >= self.dropout
            vectors = torch.where(kept.to(device), vectors, self.mean)
        return vectors


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of views of N images: what a frozen encoder says of them.

    Attributes:
        values: float32 or float16 [N, V, F]; the first view of each is the whole image, and
            what evaluations look at.
        normalisation: mean and std of each channel, for levels in 0..1, of the pictures
            that they were made of; empty where others made them.
        parts: widths of what a vector is made of; of one piece where they are not given.
        augmentation: what strong views undergo.
    """

    values: Tensor
    normalisation: Normalisation = ((), ())
    parts: tuple[int, ...] = ()
    augmentation: FeatureAugmentation | None = field(default=None, repr=False)
    has_pictures = False
    side = LARGE
    batch_size = BATCH

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """F, of a vector."""
        return self.values.shape[2]

    @property
    def sizes(self) -> Tensor:
        """There are no pixels to cut: 1 and 1, int64 [N, 2]."""
        return torch.ones(1, 2, dtype=torch.long).expand(len(self), 2)

    @property
    def digest(self) -> str:
        """Tells these vectors from others."""
        digest = hashlib.blake2b(str(tuple(self.values.shape)).encode(), digest_size=16)
        digest.update(self.values.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and std of each dimension over the first views, float32 [F] both."""
        total = where_exact(self.values.new_zeros(self.width)).double()
        squares = total.clone()
        for part in self.values[:, 0].split(8192):
            exact = where_exact(part).double()
            total += exact.sum(0)
            squares += exact.square().sum(0)
        mean = total / len(self)
        std = (squares / len(self) - mean.square()).clamp(min=0).sqrt()
        device = self.values.device
        return mean.float().to(device), std.float().to(device)

    def content(self) -> Iterator[bytes | memoryview]:
        """The digest."""
        yield self.digest.encode()

    def digests(self, rows: Tensor | None = None) -> Sequence[bytes]:
        """There are no pictures."""
        raise _no_pictures()

    def take(self, rows: slice | Tensor) -> "Features":
        """Some of them, in that order."""
        return replace(self, values=self.values[rows])

    def to(self, device: torch.device) -> "Features":
        """The same on a device."""
        return replace(self, values=self.values.to(device))

    def first(self, rows: slice | Tensor) -> Tensor:
        """The first view of some images: float32 [n, F]."""
        return self.values[rows, 0].float()

    def view(self, rows: Tensor, kind: str, random: Generator) -> Tensor:
        """A view of some images: float32 [n, F].

        Args:
            rows: int64 [n], where the vectors are.
            kind: "plain" is the first view of each; "weak" one of its views at random; any
                other that, augmented.
            random: on the processor.
        """
        if kind == "plain":
            return self.first(rows)
        which = torch.randint(self.values.shape[1], (len(rows),), generator=random)
        chosen = self.values[rows, which.to(self.values.device)].float()
        if kind == "weak" or self.augmentation is None:
            return chosen
        return self.augmentation(chosen, random)

    def crop_rule(self, crop_scale: float | None = 1.0, flip: bool = False) -> CropRule:
        """Nothing is cut, and no random number drawn."""
        return CropRule(crop_scale, flip, self.sizes, cuts=False)

    def views(
        self,
        plan: Plan,
        numbers: range,
        *,
        size: int,
        workers: int,
        device: torch.device,
        ranks: Ranks = ALONE,
    ) -> Squares:
        """`Images.views`."""
        part = ranks.part(plan.batch_size)
        for number in numbers:
            rows, random = plan(number).rows.to(device), plan.changes(number)
            made = [self.view(rows, kind, random) for kind in plan.kinds(number)]
            yield rows[part], [view[part] for view in made]

    def squares(
        self, plan: BatchPlan, numbers: range, *, size: int, workers: int, exact: bool = False
    ) -> Squares:
        """There are none."""
        raise _no_pictures()

    def plain(self, *, size: int, workers: int, batch_size: int = 0) -> Iterator[Tensor]:
        """The first view of each, float32 [n, F] at a time."""
        step = batch_size or self.batch_size
        return (self.first(slice(start, start + step)) for start in range(0, len(self), step))

    def probe(self, count: int, size: int) -> Tensor:
        """The first vectors, float32 [n, F]."""
        return self.first(slice(count))

    def raw(self, workers: int) -> Tensor:
        """The first view of each, float32 [N, F]."""
        return self.first(slice(None))

    def picture(self, row: int, size: int) -> Tensor:
        """There is none."""
        raise _no_pictures()

    def described(self, size: int) -> str:
        """What a network sees of each."""
        _, views, width = self.values.shape
        return f"{views} vector{'s' * (views > 1)} of {width} each"


def of_tensor(values: Tensor) -> InMemory | Features:
    """Images uint8 [N, 3, H, W], or vectors of one view each, float [N, F]."""
    return InMemory(values) if values.ndim == 4 else Features(values[:, None])


def _no_pictures() -> InputError:
    return InputError("of vectors there is nothing to look at: give the pictures themselves")


def _groups(plan: Plan, numbers: range, together: int) -> Iterator[range]:
    """Batches whose views are made in one go: one after the other, and of the same kinds."""
    for start in range(0, len(numbers), together):
        group = numbers[start : start + together]
        if len({plan.kinds(number) for number in group}) == 1:
            yield group
        else:  # views change at an epoch among them
            yield from (group[place : place + 1] for place in range(len(group)))


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


def _draws(plan: Plan, number: int, part: slice) -> list[list[Tensor]]:
    """What some images of a batch draw for each of its views."""
    random = plan.changes(number)
    drawn = [view_of(kind).draw(plan.batch_size, random) for kind in plan.kinds(number)]
    return [[x[part] for x in of_view] for of_view in drawn]
