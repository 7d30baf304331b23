"""Pictures that hardly differ, by their grey thumbnails."""

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import interpolate

SIDE = 16  # of a thumbnail, in pixels
# Mean difference of thumbnails, in levels of 255, below which pictures are near duplicates. Of
# CIFAR-100's test images 26 are; each was looked at and is one. Above 6, other pictures mix in.
NEAR = 6.0
FLAT = 2.0  # standard deviation of a thumbnail, in levels, below which it tells nothing
AREAS = 16  # of a thumbnail, squares of 4 x 4 pixels
CANDIDATES = 9  # of each picture that are compared with it whole, and itself among them
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

    For each query the nearest alone, by mean difference; flat ones are left out. The means of 4 x 4
    areas differ by no more than the thumbnails do, so that a tree of them (`cKDTree`) leaves few
    to compare.

    Args:
        queries: [N, 256].
        others: [M, 256].
        same: they are of the same pictures, row by row, and none is compared with itself.
    """
    asked, kept = (
        usable(x).nonzero()[:, 0].numpy() if len(x) else np.empty(0, np.int64)
        for x in (queries, others)
    )
    if len(kept) < 1 + same:
        return
    known = others.numpy()
    tree = cKDTree(_areas(known[kept]))
    numbers = np.append(
        kept, -1
    )  # a place that the tree leaves empty has the number behind its last
    count = np.arange(1, min(CANDIDATES, len(kept)) + 1)
    for start in range(0, len(asked), _CHUNK):
        rows = asked[start : start + _CHUNK]
        x = queries[rows].numpy()
        areas = _areas(x)
        bound, place = tree.query(areas, count, p=1, distance_upper_bound=AREAS * NEAR)
        other = numbers[place]
        off = np.abs(known[other] - x[:, None]).mean(2)
        off[(other < 0) | (same & (other == rows[:, None]))] = np.inf
        best = off.argmin(1)
        least, nearest = (np.take_along_axis(v, best[:, None], 1)[:, 0] for v in (off, other))
        more = (bound[:, -1] < AREAS * np.minimum(least, NEAR)).nonzero()[0]
        for i in more:  # others that the tree did not name may be nearer yet
            all_ = kept[tree.query_ball_point(areas[i], AREAS * min(least[i], NEAR), p=1)]
            all_ = all_[all_ != rows[i]] if same else all_
            far = np.abs(known[all_] - x[i]).mean(1)
            if len(far) and far.min() < least[i]:
                least[i], nearest[i] = far.min(), all_[far.argmin()]
        close = least < NEAR
        yield from zip(rows[close].tolist(), nearest[close].tolist(), strict=True)


def _areas(thumbnails: np.ndarray) -> np.ndarray:
    """Means of 4 x 4 pixels of thumbnails [N, 256]: [N, 16]."""
    return thumbnails.reshape(-1, 4, SIDE // 4, 4, SIDE // 4).mean((2, 4)).reshape(-1, AREAS)
