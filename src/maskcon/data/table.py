"""The table that every reader returns."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from numbers import Integral
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from maskcon.errors import InputError


@dataclass(frozen=True)
class Split:
    """Images with their labels, in memory.

    Attributes:
        images: uint8 [N, 3, H, W].
        coarse: int64 [N], indices into the data set's coarse names.
        fine: int64 [N], indices into its fine names; None where nobody labelled them.
    """

    images: Tensor
    coarse: Tensor
    fine: Tensor | None

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class DataSet:
    """A train and a test split, and the names of the classes."""

    name: str
    train: Split
    test: Split
    coarse_names: tuple[str, ...]
    fine_names: tuple[str, ...]

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("test", self.test)):
            if not len(split):
                raise InputError(f"{self.name} has no {part} images")
            for level, label, names in (
                ("coarse", split.coarse, self.coarse_names),
                ("fine", split.fine, self.fine_names),
            ):
                if label is None:
                    continue
                if len(label) != len(split):
                    raise InputError(
                        f"{self.name}: {len(split)} {part} images have {len(label)} {level} labels"
                    )
                wrong = ((label < 0) | (label >= len(names))).nonzero()
                if len(wrong):
                    row = int(wrong[0])
                    raise InputError(
                        f"{self.name}: {level} label {int(label[row])} of {part} image {row} is "
                        f"outside 0..{len(names) - 1}; there are {len(names)} {level} names"
                    )

    def normalisation(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel over the train images, for levels in 0..1."""
        total, squares, pixels = torch.zeros(3).double(), torch.zeros(3).double(), 0
        for images in self.train.images.split(1024):
            levels = images.double()
            total += levels.sum((0, 2, 3))
            squares += levels.square().sum((0, 2, 3))
            pixels += levels[:, 0].numel()
        mean = total / pixels
        deviation = (squares / pixels - mean.square()).clamp(min=1e-6).sqrt()
        return tuple((mean / 255).tolist()), tuple((deviation / 255).tolist())


def whole_numbers(values: Sequence, name: str) -> Tensor:
    """Labels as int64 [N].

    Raises:
        InputError: one is not a whole number; the message names the row.
    """
    for row, value in enumerate(values):
        if not isinstance(value, Integral):
            raise InputError(f"{name}: label {value!r} of row {row} is no whole number")
    return torch.tensor(list(values), dtype=torch.long)


def decode(content: bytes | Path, name: str, size: int | None = None) -> np.ndarray:
    """An image file as RGB, uint8 [H, W, 3]; [size, size, 3] where a size is given.

    Raises:
        InputError: the file is missing, truncated or no image; the message names it.
    """
    try:
        with Image.open(BytesIO(content) if isinstance(content, bytes) else content) as file:
            image = file.convert("RGB")
            if size is not None and image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{name} cannot be read as an image: {error}") from error


def decode_all(
    items: Sequence[tuple[bytes | Path, str]], *, size: int | None, workers: int
) -> Tensor:
    """Decode (content, name) pairs with threads: uint8 [N, 3, H, W], in order.

    Raises:
        InputError: one cannot be read, or they differ in size and no size is given.
    """
    if not items:
        return torch.empty(0, 3, size or 1, size or 1, dtype=torch.uint8)
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        pictures = list(_ordered(pool, lambda item: decode(item[0], item[1], size), items))
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1:
        a, b = sorted(shapes)[:2]
        raise InputError(
            f"images are of different sizes, {a[1]}x{a[0]} and {b[1]}x{b[0]} among them: "
            "expected one size for all"
        )
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous()


def _ordered(pool: ThreadPoolExecutor, work: Callable, items: Iterable) -> Iterable[np.ndarray]:
    """pool.map that forgets the rest as soon as one item fails."""
    try:
        yield from pool.map(work, items)
    except BaseException:
        pool.shutdown(cancel_futures=True)
        raise
