"""Pictures that hardly differ, by their grey thumbnails."""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

SIDE = 16  # of a thumbnail, in pixels
# Mean difference of thumbnails, in levels of 255, below which pictures are near duplicates. Of
# CIFAR-100's test images 26 are; each was looked at and is one. Above 6, other pictures mix in.
NEAR = 6.0
FLAT = 2.0  # standard deviation of a thumbnail, in levels, below which it tells nothing
_CHUNK = 2048  # pictures compared at a time


def thumbnail_of(picture: np.ndarray) -> Tensor:
    """The grey thumbnail [256] of a picture uint8 [H, W, 3], in levels, means of areas."""
    grey = Image.fromarray(picture).convert("L")
    small = grey.resize((SIDE, SIDE), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small, np.float32).ravel())


def thumbnails(pixels: Tensor) -> Tensor:
    """The same of pictures of one size, uint8 [N, 3, S, S]: [N, 256]."""
    weight = torch.tensor([0.299, 0.587, 0.114])[None, :, None, None]  # as Pillow's "L"
    small = [
        interpolate((part.float() * weight).sum(1, keepdim=True), SIDE, mode="area")
        for part in pixels.split(_CHUNK)
    ]
    return torch.cat(small).flatten(1)


def usable(thumbnails: Tensor) -> Tensor:
    """Which thumbnails [N, 256] tell pictures apart, bool [N]; a flat one is like many."""
    return thumbnails.std(1) > FLAT


def pairs(queries: Tensor, others: Tensor, *, same: bool = False) -> Iterator[tuple[int, int]]:
    """(query, other) where a thumbnail hardly differs from the nearest one of others.

    For each query the nearest alone, by Euclidean distance; flat ones are left out.

    Args:
        queries: [N, 256].
        others: [M, 256].
        same: they are of the same pictures, row by row, and none is compared with itself.
    """
    asked, kept = (
        usable(x).nonzero()[:, 0] if len(x) else torch.empty(0, dtype=torch.long)
        for x in (queries, others)
    )
    if len(kept) < 1 + same:
        return
    for rows in asked.split(_CHUNK):
        least = torch.full((len(rows),), torch.inf)
        nearest = torch.zeros(len(rows), dtype=torch.long)
        for part in kept.split(8 * _CHUNK):
            distance = torch.cdist(queries[rows], others[part])
            if same:
                distance.masked_fill_(rows[:, None] == part, torch.inf)
            distance, place = distance.min(1)
            nearest = torch.where(distance < least, part[place], nearest)
            least = least.minimum(distance)
        close = (queries[rows] - others[nearest]).abs().mean(1) < NEAR
        yield from zip(rows[close].tolist(), nearest[close].tolist(), strict=True)
