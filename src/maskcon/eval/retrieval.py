"""Nearest neighbours: one record of them that search and pictures read, and Recall@K."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maskcon.errors import InputError
from maskcon.runtime.distributed import ALONE, Ranks

ELEMENTS = 2**25  # of the largest matrix of similarities in memory: 128 MiB
TILE = {"cpu": 512, "cuda": 8192}  # rows and columns of a tile: what the caches hold
BLOCK = 32  # columns of which the largest is looked at first
LANES = 128  # masks whose sum fits into a byte; a tile of more than 1024 is a multiple of 1024


@dataclass(frozen=True)
class Retrieval:
    """The k nearest gallery rows of each query, nearest first.

    Attributes:
        ids: gallery row of each neighbour, int64 [N, k].
        scores: cosine similarity of each neighbour [N, k].
    """

    ids: Tensor
    scores: Tensor


@torch.no_grad()
def nearest_others(features: Tensor, k: int, rows: Tensor | None = None) -> Retrieval:
    """The k nearest other rows of each row, by cosine similarity; exact.

    The row itself is left out by its index, so that a duplicate image counts as a neighbour.

    Args:
        features: [N, F] of unit length.
        k: neighbours, fewer than N.
        rows: that ask [M]; by default all.
    """
    if k >= len(features):
        raise InputError(f"{k} neighbours of each of {len(features)} images: there are too few")
    asked = torch.arange(len(features)) if rows is None else rows
    ids, scores = [], []
    for part in asked.to(features.device).split(max(1, ELEMENTS // len(features))):
        similarity = features[part] @ features.T  # [chunk, N]
        similarity.scatter_(1, part[:, None], -torch.inf)
        values, places = _largest(similarity, k)
        ids.append(places)
        scores.append(values)
    return Retrieval(torch.cat(ids), torch.cat(scores))


def _largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of [M, N], and their places, as `topk`, several times as fast.

    They lie in the k blocks of columns whose largest are the largest, or behind the last block.
    """
    count = x.shape[1] // BLOCK
    if count < 2 * k:
        values, places = x.topk(k)
        return values, places
    end = count * BLOCK
    blocks = x[:, :end].unflatten(1, (count, BLOCK))  # [M, N / 32, 32]
    best = blocks.amax(2).topk(k).indices  # [M, k]
    inner = torch.arange(BLOCK, device=x.device)
    columns = (best[:, :, None] * BLOCK + inner).flatten(1)
    rest = torch.arange(end, x.shape[1], device=x.device).expand(len(x), -1)
    columns = torch.cat([columns, rest], 1)
    values, places = x.gather(1, columns).topk(k)
    return values, columns.gather(1, places)


@torch.no_grad()
def negatives_before_some(
    features: Tensor, label: Tensor, rows: Tensor, among: Tensor | None = None
) -> Tensor:
    """`negatives_before` of some rows, each compared with all: as long as there are few of them.

    Args:
        features: [N, F] of unit length.
        label: class of each row [N].
        rows: that ask [M].
        among: a group of each row [N]; candidates are those of the own group.

    Returns:
        int64 [M]; N where no other candidate has the class.
    """
    found = []
    for part in rows.split(max(1, ELEMENTS // len(features))):
        similarity = features[part] @ features.T  # [chunk, N]
        similarity.scatter_(1, part[:, None], -torch.inf)
        if among is not None:
            similarity.masked_fill_(among[part][:, None] != among, -torch.inf)
        same = label[part][:, None] == label
        own = similarity.masked_fill(~same, -torch.inf).amax(1)
        before = (similarity.masked_fill_(same, -torch.inf) >= own[:, None]).sum(1)
        found.append(before.masked_fill(own.isneginf(), len(features)))
    return torch.cat(found)


@torch.no_grad()
def negatives_before(features: Tensor, label: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """For each row, how many rows of other classes are as near as the nearest of its own.

    A row is a hit of Recall@K where this is below K. Counting needs no list of neighbours, so
    each similarity is looked at once, as one of a symmetric pair, in tiles that stay in the
    cache; all K follow from one pass. A tie counts as a stranger before: where all features
    are equal, no image is found. Exact, in float32.

    Args:
        features: [N, F] of unit length.
        label: class of each row [N].
        ranks: that have the same features, and share the tiles.

    Returns:
        int64 [N]; N where no other row has the class.

    Raises:
        InputError: a feature is not finite.
    """
    n = len(features)
    if not features.isfinite().all():
        raise InputError("some features are not finite: the encoder that made them has diverged")
    tiles = _Tiles(features, label.to(features.device), ranks)
    nearest = tiles.nearest()
    alone = nearest.view(-1)[:n].isneginf()
    found = tiles.strangers(nearest).view(-1)[:n].masked_fill(alone, n)
    return torch.empty_like(found).scatter_(0, tiles.order, found)


class _Tiles:
    """Rows sorted by class, in T tiles of S rows, and the similarities of all pairs of tiles.

    Rows of one class meet only in tiles near the diagonal. Places behind the last row are NaN,
    which is near to nothing.

    Args:
        features: [N, F].
        label: class of each row [N].
        ranks: that share the pairs.
    """

    def __init__(self, features: Tensor, label: Tensor, ranks: Ranks):
        n, width = features.shape
        unit = LANES if n <= 8 * LANES else 8 * LANES
        side = min(TILE[features.device.type], -(-n // unit) * unit)
        count = -(-n // side)
        self.ranks, self.order = ranks, label.argsort(stable=True)
        x = features.new_full((count * side, width), torch.nan)
        y = label.new_full((count * side,), -1)
        x[:n], y[:n] = features[self.order], label[self.order]
        self.x, self.y = x.view(count, side, width), y.view(count, side)
        self.first = self.y[:, 0].tolist()  # class of a tile's first row, and of its last
        self.last = [*self.y[:-1, -1].tolist(), int(y[n - 1])]

    def pairs(self, related_only: bool) -> Iterator[tuple[int, int, Tensor, Tensor | None]]:
        """This rank's pairs on and above the diagonal.

        Yields:
            the tiles a and b, their similarity [S, S], good until the next, and where the classes
            are the same [S, S]; None where they are nowhere, in a pair that is not related.
        """
        count, side, _ = self.x.shape
        similarity = self.x.new_empty(side, side)
        for a in range(count):
            for b in range(a, count):
                related = self.first[b] <= self.last[a]
                own = (a + b) % self.ranks.size == self.ranks.rank
                if own and (related or not related_only):
                    torch.mm(self.x[a], self.x[b].T, out=similarity)
                    same = self.y[a][:, None] == self.y[b] if related else None
                    yield a, b, similarity, same

    def nearest(self) -> Tensor:
        """Similarity of each row to the nearest other of its class [T, S]; -inf if it has none."""
        nearest = self.x.new_full(self.y.shape, -torch.inf)
        for a, b, similarity, same in self.pairs(related_only=True):
            assert same is not None
            own = similarity.masked_fill(~same, -torch.inf)
            if a == b:
                own.fill_diagonal_(-torch.inf)
            torch.maximum(nearest[a], own.amax(1), out=nearest[a])
            torch.maximum(nearest[b], own.amax(0), out=nearest[b])
        return self.ranks.all_reduce_max(nearest)

    def strangers(self, nearest: Tensor) -> Tensor:
        """How many rows of other classes are at least as similar to each, int64 [T, S]."""
        before = torch.zeros_like(self.y, dtype=torch.long)
        near = torch.empty(2 * [self.y.shape[1]], dtype=torch.bool, device=self.y.device)
        for a, b, similarity, same in self.pairs(related_only=False):
            torch.ge(similarity, nearest[a][:, None], out=near)
            if same is not None:
                near.masked_fill_(same, False)
            before[a] += _count(near)
            if a != b:
                torch.ge(similarity, nearest[b], out=near)
                if same is not None:
                    near.masked_fill_(same, False)
                before[b] += _count(near, down=True)
        return self.ranks.all_reduce(before)


def _count(mask: Tensor, down: bool = False) -> Tensor:
    """True values in each row (or column) of a square mask, its side a multiple of 128.

    Eight bytes at a time: a 64-bit sum of up to 255 masks is eight sums of bytes.
    """
    side = len(mask)
    words = mask.view(torch.int64)  # [side, side / 8]
    if down:
        sums = words.view(side // LANES, LANES, side // 8).sum(1)  # [side / 128, side / 8]
        return sums.view(torch.uint8).view(-1, side).sum(0)
    sums = words.view(side, -1, min(side // 8, LANES)).sum(2)  # [side, side / 1024 or 1]
    return sums.view(torch.uint8).view(side, -1).sum(1)


def recall(before: Tensor, ks: Sequence[int] = (1, 2, 5, 10)) -> dict[str, float]:
    """Recall@K: share of queries with a neighbour of their own class among the K nearest.

    Args:
        before: of each query, as `negatives_before` returns it [N].
        ks: the K.

    Returns:
        {"recall@1": share in [0, 1], ...}
    """
    return {f"recall@{k}": (before < k).double().mean().item() for k in ks}
