"""Batches of pictures that are read when needed: worker processes decode, cut and resize.

What a worker returns are squares in uint8; flips apart, everything else happens to the whole
batch on the device. Each batch is a function of its number alone, so neither the number of
workers nor a resumption changes it.
"""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from maskcon.augment import Crops
from maskcon.data.pictures import Pictures
from maskcon.data.table import Photos
from maskcon.errors import InputError, TrainingError

AHEAD = 2  # batches that each worker has ready: the bound on memory


@dataclass(frozen=True)
class Batch:
    """Rows of a set and how to cut them, once for each view.

    Attributes:
        rows: int64 [N].
        crops: one for each view, N boxes each.
    """

    rows: Tensor
    crops: tuple[Crops, ...]


def batches(
    photos: Photos,
    plan: Callable[[int], Batch],
    numbers: range,
    *,
    size: int,
    workers: int,
    exact: bool = False,
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Rows and their views, batch by batch: int64 [N], and uint8 [N, 3, size, size] each.

    Args:
        photos: the pictures.
        plan: what batch of a number holds; called in the workers.
        numbers: of the batches.
        size: side of the squares.
        workers: processes.
        exact: decode in full size even where a smaller one would do.

    Raises:
        TrainingError: a picture that was readable is so no more, or a worker died.
    """
    loader = DataLoader(
        _Batches(photos.pictures, plan, size, exact),
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=AHEAD,
        worker_init_fn=_ignore_signals,
    )
    try:
        for batch in loader:
            if isinstance(batch, str):
                raise TrainingError(f"{batch}; it could be read when the run began")
            yield batch
    except RuntimeError as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"a process that reads pictures died: {error}") from error


def _ignore_signals(worker: int) -> None:
    """Leave Ctrl-C and a cluster's SIGTERM to the training process, which ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class _Batches(Dataset):
    def __init__(
        self, pictures: Pictures, plan: Callable[[int], Batch], size: int, exact: bool
    ) -> None:
        self.pictures, self.plan, self.size, self.exact = pictures, plan, size, exact

    def __getitem__(self, number: int) -> tuple[Tensor, list[Tensor]] | str:
        batch = self.plan(number)
        shape = (len(batch.rows), self.size, self.size, 3)
        views = [torch.empty(shape, dtype=torch.uint8) for _ in batch.crops]
        try:
            for place, row in enumerate(batch.rows.tolist()):
                boxes = [tuple(crops.boxes[place].tolist()) for crops in batch.crops]
                cut = cut_picture(self.pictures, row, boxes, self.size, exact=self.exact)
                for view, crops, square in zip(views, batch.crops, cut, strict=True):
                    mirror = crops.mirrored is not None and bool(crops.mirrored[place])
                    view[place] = square.flip(1) if mirror else square
        except InputError as error:  # raised where a person sees it
            return str(error)
        return batch.rows, [view.permute(0, 3, 1, 2) for view in views]  # channels last


def cut_picture(
    pictures: Pictures,
    row: int,
    boxes: list[tuple[int, int, int, int]],
    size: int,
    *,
    exact: bool = False,
) -> list[Tensor]:
    """Crops of one picture as squares: uint8 [size, size, 3] each.

    A JPEG is decoded at a half, quarter or eighth of its size where every crop then still has
    `size` pixels or more a side.

    Args:
        pictures: among which it is.
        row: of the picture.
        boxes: (top, left, height, width) in its full size.
        size: side of the squares.
        exact: decode in full size.
    """
    smallest = min(min(box[2:]) for box in boxes)
    reduce = 1 if exact else next(r for r in (8, 4, 2, 1) if smallest >= size * r or r == 1)
    picture = pictures.decode(row, reduce)
    if reduce > 1:
        height, width = pictures.size(row)
        boxes = [_scaled(box, picture.shape[0] / height, picture.shape[1] / width) for box in boxes]
    return [_resized(picture[top : top + h, left : left + w], size) for top, left, h, w in boxes]


def _scaled(box: tuple[int, ...], down: float, across: float) -> tuple[int, int, int, int]:
    """A box of the full picture in one of another size, to whole pixels, one at least."""
    top, left, height, width = box
    y, x = round(top * down), round(left * across)
    return (
        y,
        x,
        max(round((top + height) * down) - y, 1),
        max(round((left + width) * across) - x, 1),
    )


def _resized(picture: np.ndarray, size: int) -> Tensor:
    """[H, W, 3] to [size, size, 3], bilinear with antialias, by torch's integer arithmetic."""
    pixels = torch.from_numpy(picture)
    if pixels.shape[:2] == (size, size):
        return pixels
    images = pixels.permute(2, 0, 1)[None]  # channels last, for which torch has a fast path
    resized = functional.interpolate(images, (size, size), mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0)
