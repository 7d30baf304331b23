"""What a person should look at: queries that go well or badly, and classes that are confused."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from maskcon.eval.retrieval import Retrieval, negatives_before_some
from maskcon.report.album import Album

QUERIES = 8  # best, and worst
PAIRS = 10  # of confused classes, within and across coarse classes
EXAMPLES = 3  # of a pair of classes


@dataclass(frozen=True)
class Query:
    """A picture that asks for others like it.

    Attributes:
        row: of the picture.
        neighbours: rows of the nearest others, nearest first.
        place: of the nearest picture of its class; 1 is the nearest of all.
        precision: average precision at R, of the R others of its class.
    """

    row: int
    neighbours: tuple[int, ...]
    place: int
    precision: float

    def rows(self) -> tuple[int, ...]:
        """All pictures in it."""
        return (self.row, *self.neighbours)


@dataclass(frozen=True)
class Confusion:
    """Two classes that lie among each other.

    Attributes:
        first, second: the classes.
        within: whether these neighbours share a coarse class.
        there, back: share of the second among the neighbours of the first, and the reverse.
        examples: (query, neighbour) rows, the most similar first.
    """

    first: int
    second: int
    within: bool
    there: float
    back: float
    examples: tuple[tuple[int, int], ...]

    def rows(self) -> tuple[int, ...]:
        """All pictures in it."""
        return tuple(row for pair in self.examples for row in pair)


def best_and_worst(
    album: Album, near: Retrieval, precision: Tensor, count: int = QUERIES
) -> tuple[list[Query], list[Query]]:
    """Queries with the highest average precision, and with the farthest first right neighbour.

    At most one of each class, so that one class does not fill the page. Those that are alone in
    their class are neither.

    Args:
        album: the pictures.
        near: neighbours of each.
        precision: average precision at R of each, NaN for those alone in their class, and for
            those that are no queries [N].
        count: of queries, best and worst.
    """
    asked = ~precision.isnan()
    before = torch.zeros(len(album), dtype=torch.long)
    rows = asked.nonzero()[:, 0]
    if len(rows):
        before[rows] = negatives_before_some(album.features, album.label, rows)

    def query(row: int) -> Query:
        neighbours = tuple(near.ids[row].tolist())
        return Query(row, neighbours, int(before[row]) + 1, float(precision[row]))

    goodness = precision.masked_fill(~asked, -1) + 1e-6 * near.scores.mean(1)  # ties: the nearer
    badness = before.masked_fill(~asked, -1)
    best = [query(row) for row in _one_each(goodness, album.label, asked, count)]
    worst = [query(row) for row in _one_each(badness, album.label, asked & (before > 0), count)]
    return best, worst


def _one_each(value: Tensor, label: Tensor, allowed: Tensor, count: int) -> list[int]:
    """Rows of the highest values, at most one of a class."""
    chosen: dict[int, int] = {}
    for row in value.argsort(descending=True, stable=True).tolist():
        if len(chosen) == count:
            break
        if allowed[row]:
            chosen.setdefault(int(label[row]), row)
    return list(chosen.values())


def confusions(album: Album, near: Retrieval, count: int = PAIRS) -> list[Confusion]:
    """Pairs of classes by the share of their neighbours that are of the other class.

    Pairs of neighbours are counted apart where they share the coarse class and where they do
    not: the one is what training has yet to learn, the other is what it was told.

    Args:
        album: the pictures.
        near: neighbours of each.
        count: of pairs, within coarse classes and across them.

    Returns:
        The pairs, those within coarse classes first; the most confused first.
    """
    mine, theirs = album.label[:, None].expand_as(near.ids), album.label[near.ids]
    inside = album.coarse[:, None] == album.coarse[near.ids]
    return [
        pair
        for within in (True, False)
        for pair in _confused(album, near, (mine != theirs) & (inside == within), within, count)
    ]


def _confused(
    album: Album, near: Retrieval, kept: Tensor, within: bool, count: int
) -> list[Confusion]:
    """The most confused classes of those neighbours [N, k] that are kept."""
    if not kept.any():
        return []
    query = kept.nonzero()[:, 0]
    other, score = near.ids[kept], near.scores[kept]
    order = score.argsort(descending=True, stable=True)
    query, other = query[order], other[order]
    mine, theirs = album.label[query], album.label[other]
    low, high = torch.minimum(mine, theirs), torch.maximum(mine, theirs)
    asked = near.ids.shape[1] * album.label.bincount()  # neighbours of each class
    pairs, times = torch.stack([low, high], 1).unique(dim=0, return_counts=True)
    share = times / (asked[pairs[:, 0]] + asked[pairs[:, 1]])
    found = []
    for a, b in pairs[share.argsort(descending=True, stable=True)[:count]].tolist():
        edges = (low == a) & (high == b)
        there = int((edges & (mine == a)).sum()) / int(asked[a])
        back = int((edges & (mine == b)).sum()) / int(asked[b])
        examples = tuple(_apart(query[edges].tolist(), other[edges].tolist()))
        found.append(Confusion(a, b, within, there, back, examples))
    return found


def _apart(queries: list[int], others: list[int]) -> Iterator[tuple[int, int]]:
    """The first few pairs that share no picture."""
    used: set[int] = set()
    for pair in zip(queries, others, strict=True):
        if not used.intersection(pair):
            used.update(pair)
            yield pair
        if len(used) == 2 * EXAMPLES:
            return
