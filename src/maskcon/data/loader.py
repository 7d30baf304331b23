"""Batches of pictures that are read when needed: worker processes decode, cut and resize.

What a worker returns are squares in uint8; flips apart, everything else happens to the whole
batch on the device. Each batch is a function of its number alone, so neither the number of
workers nor a resumption changes it.
"""

import math
import multiprocessing
import signal
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from maskcon.data.pictures import Pictures
from maskcon.data.plans import BatchPlan, Squares
from maskcon.errors import InputError, TrainingError
from maskcon.runtime.device import reuse_memory

AHEAD = 2  # batches that each worker has ready: the bound on memory


def batches(
    pictures: Pictures,
    sizes: Tensor,
    plan: BatchPlan,
    numbers: range,
    *,
    size: int,
    workers: int,
    exact: bool = False,
) -> Squares:
    """Rows and their views, batch by batch: int64 [N], and uint8 [N, 3, size, size] each.

    The views are good until the next batch is asked for: their memory is used again.

    Args:
        pictures: N of them.
        sizes: height and width of each, int64 [N, 2].
        plan: what batch of a number holds; called in the workers.
        numbers: of the batches.
        size: side of the squares.
        workers: processes.
        exact: decode in full size even where a smaller one would do.

    Raises:
        TrainingError: a picture that was readable is so no more, or a worker died.
    """
    if not len(numbers):
        return
    source = _Batches(pictures, sizes, plan, numbers, size, workers * AHEAD, exact)
    loader = DataLoader(
        source,
        batch_size=None,
        sampler=range(len(numbers)),
        num_workers=workers,
        prefetch_factor=AHEAD,
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # the global one's state is the training's
    )
    try:
        for place, (rows, error) in enumerate(loader):
            if error:
                raise TrainingError(f"{error}; it could be read when the run began")
            squares = source.slot(place)[:, : len(rows)]  # [views, N, size, size, 3]
            yield rows, [view.permute(0, 3, 1, 2) for view in squares]
    except (RuntimeError, ConnectionError, EOFError) as error:
        if isinstance(error, TrainingError):
            raise
        raise TrainingError(f"a process that reads pictures died: {error}{_guard()}") from error


def _guard() -> str:
    """What a script needs where processes are started anew, which run it again."""
    main = sys.modules.get("__main__")
    if multiprocessing.get_start_method() == "fork" or not getattr(main, "__file__", None):
        return ""
    return (
        ". A script that trains must begin to under: if __name__ == '__main__': (each process that "
        "reads pictures runs the script again)"
    )


def _start_worker(worker: int) -> None:
    """Leave Ctrl-C and a closed terminal to the training process, which ends the workers."""
    for name in ("SIGINT", "SIGHUP"):
        if hasattr(signal, name):  # on Windows the second is not
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    reuse_memory()


class _Batches(Dataset):
    """Fills a ring of batches in shared memory, which is allocated once.

    A worker is told to make batch n + ahead when batch n has been handed over; in a ring of
    two slots more it never writes where somebody may still read.
    """

    def __init__(
        self,
        pictures: Pictures,
        sizes: Tensor,
        plan: BatchPlan,
        numbers: range,
        size: int,
        ahead: int,
        exact: bool,
    ) -> None:
        self.pictures, self.sizes = pictures, sizes
        self.plan, self.numbers = plan, numbers
        self.size, self.exact = size, exact
        first = plan(numbers[0])  # no batch is larger
        slots = min(ahead + 2, len(numbers))
        shape = (slots, len(first.crops), len(first.rows), size, size, 3)
        try:
            self.ring = torch.empty(shape, dtype=torch.uint8).share_memory_()
        except RuntimeError as error:
            needed = math.prod(shape) / 2**20
            raise InputError(
                f"the workers need {needed:,.0f} MiB of shared memory, and there is less "
                f"({error}): take fewer --workers or a smaller --batch-size, or give a container "
                "more (docker run --shm-size)"
            ) from error

    def slot(self, place: int) -> Tensor:
        """Where the batch of a place among the numbers is written."""
        return self.ring[place % len(self.ring)]

    def __getitem__(self, place: int) -> tuple[Tensor, str]:
        batch = self.plan(self.numbers[place])
        views = self.slot(place)
        try:
            for number, row in enumerate(batch.rows.tolist()):
                boxes = [crops.boxes[number].tolist() for crops in batch.crops]
                squares = list(views[:, number])
                size = self.sizes[row].tolist()
                cut_picture(self.pictures, row, size, boxes, squares, exact=self.exact)
                for crops, square in zip(batch.crops, squares, strict=True):
                    if crops.mirrored is not None and crops.mirrored[number]:
                        square.copy_(square.flip(1))
        except InputError as error:  # raised where a person sees it
            return batch.rows, str(error)
        return batch.rows, ""


def cut_picture(
    pictures: Pictures,
    row: int,
    size: Sequence[int],
    boxes: Sequence[Sequence[int]],
    squares: Sequence[Tensor],
    *,
    exact: bool = False,
) -> None:
    """Crops of one picture, resized to fill squares.

    A JPEG is decoded at a half, quarter or eighth of its size where every crop then still has
    as many pixels a side as its square.

    Args:
        pictures: among which it is.
        row: of the picture.
        size: its full height and width.
        boxes: (top, left, height, width) of each crop, in the picture's full size.
        squares: where each crop goes, uint8 [S, S, 3], contiguous.
        exact: decode in full size.
    """
    side = squares[0].shape[0]
    smallest = min(min(box[2:]) for box in boxes)
    reduce = 1 if exact else next(r for r in (8, 4, 2, 1) if smallest >= side * r or r == 1)
    picture = pictures.decode(row, reduce)
    if list(picture.shape[:2]) != list(size):
        down, across = picture.shape[0] / size[0], picture.shape[1] / size[1]
        boxes = [_scaled(box, down, across) for box in boxes]
    for (top, left, height, width), square in zip(boxes, squares, strict=True):
        resize(picture[top : top + height, left : left + width], square)


def _scaled(box: Sequence[int], down: float, across: float) -> tuple[int, int, int, int]:
    """A box of the full picture in one of another size, to whole pixels, one at least."""
    top, left, height, width = box
    y, x = round(top * down), round(left * across)
    return (
        y,
        x,
        max(round((top + height) * down) - y, 1),
        max(round((left + width) * across) - x, 1),
    )


def resize(picture: np.ndarray, square: Tensor) -> None:
    """Resize [H, W, 3] to fill [S, S, 3]: bilinear with antialias, in integer arithmetic.

    This is what torch.nn.functional.interpolate calls for uint8; with its output given, it
    keeps channels last, which saves a transposing copy as slow as the resizing itself.
    """
    source = torch.from_numpy(picture).permute(2, 0, 1)[None]
    if 1 in picture.shape[:2]:  # whose memory tells nothing of the order of its channels
        resized = functional.interpolate(source, square.shape[:2], mode="bilinear", antialias=True)
        square.copy_(resized[0].permute(1, 2, 0))
        return
    target = square.permute(2, 0, 1)[None]
    torch.ops.aten._upsample_bilinear2d_aa.out(
        source, list(square.shape[:2]), False, None, None, out=target
    )
