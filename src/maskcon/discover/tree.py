"""A coarse class as a tree: which pictures join first, how strongly, and how each merge looks.

Leaves are pictures. Near duplicates join first, at height 0, and count once from then on; the
rest is Ward's linkage. Merge m joins the nodes `joined[m]`; node n + m is what it makes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from maskcon.eval.estimate import reduced
from maskcon.eval.graph import neighbour_graph
from maskcon.eval.retrieval import nearest_others
from maskcon.eval.rows import by_class, check_rows
from maskcon.runtime.progress import Progress, Silent

WIDTH = 64  # principal components that the tree looks at
NEAR = 0.15  # distance of near duplicates, as a share of the mean distance from the class's middle
BURST, SECONDS = 0.5, 5.0  # the same of pictures that were taken within so many seconds
NEIGHBOURS = 10  # of each picture, whose crossings of a merge are counted
LOT, APART = 5, -2.0  # pictures of a lot that lies apart, and the crossing below which it does
LARGEST = 5_000  # pictures that make the tree; more are placed beside their nearest among these
FEATURES = (
    "size",
    "distance",
    "separation",
    "crossing",
    "tightness",
    "height",
    "spread",
    "once",
    "lots",
)


@dataclass(frozen=True)
class Tree:
    """The tree of n pictures.

    Attributes:
        merges: as `scipy.cluster.hierarchy` has them, float64 [n - 1, 4]: the two nodes, the
            height, and the pictures beneath.
        order: pictures from left to right, int64 [n]; those beneath a node are neighbours here.
        start, stop: of the pictures beneath each node in `order`, int64 [2 n - 1].
        once: different pictures beneath each node, near duplicates counted once, [2 n - 1].
        features: of each merge, float64 [n - 1, 9], named by `FEATURES`.
        typical: place of the picture nearest to the middle of each node, int64 [2 n - 1].
    """

    merges: np.ndarray
    order: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    once: np.ndarray
    features: np.ndarray
    typical: np.ndarray

    @property
    def leaves(self) -> int:
        """n, of pictures."""
        return len(self.order)

    @property
    def joined(self) -> np.ndarray:
        """The two nodes of each merge, int64 [n - 1, 2]."""
        return self.merges[:, :2].astype(np.int64)

    def beneath(self, node: int) -> np.ndarray:
        """Places of the pictures beneath a node."""
        return self.order[self.start[node] : self.stop[node]]

    def meeting(self, a: int, b: int) -> int:
        """The merge at which two pictures meet."""
        return int(self._meetings.of(np.array([a]), np.array([b]))[0])

    @cached_property
    def _meetings(self) -> "_Meetings":
        return _Meetings(self.merges, self.start, self.stop)

    def into(self, number: int, must: np.ndarray) -> np.ndarray:
        """The nodes of the cut into so many groups: the highest merges are undone.

        Those that must be undone, bool [n - 1], are, and all above them; that may be more groups.
        """
        n, undone = self.leaves, must.copy()
        for m, sides in enumerate(self.joined):
            undone[m] |= undone[sides[sides >= n] - n].any()
        rest = np.flatnonzero(~undone)
        wanted = n - number  # merges that would be left
        undone[rest[max(wanted, 0) :]] = True
        return self.nodes(undone)

    def nodes(self, undone: np.ndarray) -> np.ndarray:
        """The nodes that are left when merges, bool [n - 1], are undone from the top."""
        n, found, stack = self.leaves, [], [2 * self.leaves - 2]
        while stack:
            node = stack.pop()
            if node >= n and undone[node - n]:
                stack += self.joined[node - n].tolist()
            else:
                found.append(node)
        return np.array(found, np.int64)


@dataclass(frozen=True)
class Grown:
    """A coarse class and its tree.

    Attributes:
        label: of the coarse class.
        rows: of its images, int64 [n].
        leaf: place in the tree of each image, int64 [n]: its own, or that of an image of the
            tree that it is near, where the class has more than `LARGEST` or it came later.
        tree: of the class.
        images: row of each leaf of the tree.
    """

    label: int
    rows: np.ndarray
    leaf: np.ndarray
    tree: Tree
    images: np.ndarray

    def beneath(self, node: int) -> np.ndarray:
        """Rows of the images beneath a node."""
        return self.rows[np.isin(self.leaf, self.tree.beneath(node))]

    def groups(self, nodes: np.ndarray) -> np.ndarray:
        """The group of each image, int64 [n] in 0..len(nodes) - 1, when the nodes are groups."""
        of_leaf = np.empty(self.tree.leaves, np.int64)
        for group, node in enumerate(nodes):
            of_leaf[self.tree.beneath(int(node))] = group
        return of_leaf[self.leaf]

    def near_duplicates(self, x: np.ndarray) -> list[np.ndarray]:
        """Sets of images that hardly differ, by their rows, each ascending.

        Those that the tree joins first; and of images that it has no leaf for, those that are as
        near to one at their place in it, where near duplicates of one image are.

        Args:
            x: vectors of all rows.
        """
        own = x[self.rows]
        of_node = [*np.searchsorted(self.rows, self.images)]  # an image beneath each
        pairs = [np.empty((0, 2), np.int64)]
        for merge in self.tree.joined[self.tree.merges[:, 2] == 0]:
            pair = [of_node[node] for node in merge]
            of_node.append(pair[0])
            pairs.append(np.array([pair]))
        order = np.argsort(self.leaf, kind="stable")
        ends, near = np.flatnonzero(np.diff(self.leaf[order])) + 1, NEAR * _radius(own)
        for here in np.split(order, ends) if len(order) > self.tree.leaves else ():
            if len(here) > 1:
                rows, first, same = _distinct(own[here])
                a, b = _near(rows, near)
                pairs.append(np.stack([here, here[first[same]]], 1))
                pairs.append(np.stack([here[first[a]], here[first[b]]], 1))
        a, b = np.concatenate(pairs).T
        graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(own), len(own)))
        lot = connected_components(graph, directed=False)[1]
        sets = np.split(np.argsort(lot, kind="stable"), np.cumsum(np.bincount(lot))[:-1])
        return [self.rows[one] for one in sets if len(one) > 1]


def _distinct(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows without those that are there already [m, F]; where each is first; which each row is."""
    rows, first, same = np.unique(x, axis=0, return_index=True, return_inverse=True)
    return rows, first, same.ravel()


def _near(rows: np.ndarray, near: float) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows less apart than that, of each row with its nearest few."""
    if len(rows) < 2:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    found = nearest_others(torch.from_numpy(rows), min(NEIGHBOURS, len(rows) - 1))
    a, b = np.repeat(np.arange(len(rows)), found.ids.shape[1]), found.ids.numpy().ravel()
    close = np.linalg.norm(rows[a] - rows[b], axis=1) < near
    return a[close], b[close]


def _radius(x: np.ndarray) -> float:
    """The mean distance of rows from their middle."""
    return float(np.linalg.norm(x - x.mean(0, dtype=np.float64), axis=1).mean())


def grow(
    features: Tensor,
    coarse: Tensor,
    *,
    taken: np.ndarray | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[Grown]:
    """The tree of each coarse class, in the order of their labels.

    Args:
        features: [N, F] of unit length.
        coarse: coarse label of each image [N].
        taken: when each was taken, in seconds, NaN where nobody knows [N].
        seed: of the sample that is taken of more than `LARGEST` images.
        progress: told how far it is.

    Raises:
        InputError: features or labels that cannot be judged.
    """
    check_rows(features, coarse, name="embedded", least=1)
    say = (progress or Silent()).update
    x = features.detach().cpu().float().numpy()
    classes = [members.numpy() for members in by_class(coarse.cpu())]
    scale, grown = between_classes(x, classes), []
    when = np.full(len(x), np.nan) if taken is None else taken
    for i, rows in enumerate(classes, 1):
        say(f"trees of coarse classes: {i} of {len(classes)}, {len(rows):,} images")
        grown.append(grow_one(x, int(coarse[int(rows[0])]), rows, scale, when, seed))
    return grown


def grow_one(
    x: np.ndarray, label: int, rows: np.ndarray, scale: float, taken: np.ndarray, seed: int = 0
) -> Grown:
    """The tree of one coarse class.

    Args:
        x: float32 [N, F] of unit length, of all images.
        label: of the class.
        rows: of its images, int64 [n].
        scale: as `tree_of` takes it.
        taken: when each of all images was taken, as `grow` takes it [N].
        seed: likewise.
    """
    leaf, chosen = np.arange(len(rows)), np.arange(len(rows))
    if len(rows) > LARGEST:
        random = np.random.default_rng(seed)
        chosen = np.sort(random.choice(len(rows), LARGEST, replace=False))
        for part in np.array_split(leaf, -(-len(rows) // 1000)):
            leaf[part] = (x[rows[part]] @ x[rows[chosen]].T).argmax(1)
        leaf[chosen] = np.arange(LARGEST)
    tree = tree_of(x[rows[chosen]], scale, taken[rows[chosen]])
    return Grown(label, rows, leaf, tree, rows[chosen])


def between_classes(x: np.ndarray, classes: Sequence[np.ndarray]) -> float:
    """The yardstick of distances: the median class's distance to the class nearest to it.

    Coarse labels say that these are different kinds. For one class alone it is the mean distance
    of its rows to their mean.
    """
    means = np.stack([x[rows].mean(0, dtype=np.float64) for rows in classes])
    if len(means) < 2:
        return max(float(np.linalg.norm(x - means[0], axis=1).mean()), 1e-6)
    distance = np.linalg.norm(means[:, None] - means, axis=2)
    np.fill_diagonal(distance, np.inf)
    return max(float(np.median(distance.min(1))), 1e-6)


def tree_of(x: np.ndarray, scale: float = 1.0, taken: np.ndarray | None = None) -> Tree:
    """The tree of a coarse class of no more than `LARGEST` pictures.

    Args:
        x: float32 [n, F] of unit length, n of one or more.
        scale: the distance between coarse classes that are near, which distances are told by.
        taken: when each picture was taken, as `near_duplicates` has it.
    """
    n = len(x)
    z = reduced(x, min(WIDTH, n)) if n > 1 else np.zeros((1, 1))
    copy = near_duplicates(x, taken)
    merges = _merges(z, copy)
    order = leaves_list(merges) if n > 1 else np.zeros(1, np.int64)
    start, stop = _spans(merges, order)
    first = np.zeros(n, bool)
    first[np.unique(copy, return_index=True)[1]] = True
    once = np.concatenate([[0], np.cumsum(first[order])])
    counted = np.maximum(once[stop] - once[start], 1)
    middle = _Middles(x, order, start, stop)
    meetings = _Meetings(merges, start, stop)
    features = _features(x, z, merges, meetings, counted, middle, scale, stop - start)
    return Tree(merges, order.astype(np.int64), start, stop, counted, features, middle.nearest())


def near_duplicates(x: np.ndarray, taken: np.ndarray | None = None) -> np.ndarray:
    """The lot of near duplicates of each row, int64 [n]; most rows are a lot of their own.

    Rows are joined when they are much nearer than rows of the class are to its middle; those of
    pictures that were taken within seconds of each other, a burst, already when they are nearer.

    Args:
        x: float32 [n, F] of unit length.
        taken: when each picture was taken, in seconds, NaN where nobody knows [n].
    """
    rows, _, same = _distinct(x)
    radius = _radius(x)
    joined = [_near(rows, NEAR * radius)]
    if taken is not None:
        first, second = together(taken)
        close = np.linalg.norm(x[first] - x[second], axis=1) < BURST * radius
        joined.append((same[first[close]], same[second[close]]))
    a, b = (np.concatenate(side) for side in zip(*joined, strict=True))
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(rows), len(rows)))
    return connected_components(graph, directed=False)[1].astype(np.int64)[same]


def together(taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of pictures that were taken within `SECONDS`; of each the next ten at most.

    Args:
        taken: when, in seconds, NaN where nobody knows [n].
    """
    order = np.argsort(taken, kind="stable")[: np.count_nonzero(~np.isnan(taken))]
    pairs = [np.empty((2, 0), np.int64)]
    for ahead in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
        pair = np.stack([order[:-ahead], order[ahead:]])
        pairs.append(pair[:, taken[pair[1]] - taken[pair[0]] <= SECONDS])
    first, second = np.concatenate(pairs, 1)
    return first, second


def _merges(z: np.ndarray, copy: np.ndarray) -> np.ndarray:
    """Near duplicates first, then Ward's linkage of their means [n - 1, 4]."""
    n, lots = len(z), copy.max(initial=0) + 1
    merges = np.zeros((n - 1, 4))
    node, size = np.full(lots, -1), np.bincount(copy, minlength=lots)
    done, count = 0, np.ones(2 * n - 1)
    for row, lot in enumerate(copy):
        if node[lot] < 0:
            node[lot] = row
            continue
        count[n + done] = count[node[lot]] + 1
        merges[done] = row, node[lot], 0, count[n + done]
        node[lot] = n + done
        done += 1
    if lots > 1:
        means = np.zeros((lots, z.shape[1]))
        np.add.at(means, copy, z)
        rest = linkage(means / size[:, None], "ward")
        made = np.concatenate([node, n + done + np.arange(lots - 1)])
        for a, b, height, _ in rest:
            pair = sorted((made[int(a)], made[int(b)]))
            count[n + done] = count[pair].sum()
            merges[done] = *pair, height, count[n + done]
            done += 1
    return merges


def _spans(merges: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the pictures beneath each node lie in the order."""
    n = len(order)
    start, stop = np.empty(2 * n - 1, np.int64), np.empty(2 * n - 1, np.int64)
    start[order] = np.arange(n)
    stop[:n] = start[:n] + 1
    for m, (a, b) in enumerate(merges[:, :2].astype(np.int64)):
        start[n + m], stop[n + m] = min(start[a], start[b]), max(stop[a], stop[b])
    return start, stop


class _Meetings:
    """Finds the highest merge between two places in the order: merges rise towards the root."""

    def __init__(self, merges: np.ndarray, start: np.ndarray, stop: np.ndarray):
        n = len(merges) + 1
        gap = np.empty(n - 1, np.int64)  # the merge across each gap of the order
        for m, (left, right) in enumerate(merges[:, :2].astype(np.int64)):
            gap[min(stop[left], stop[right]) - 1] = m
        self._start, self._table = start, [gap]  # of the highest among 1, 2, 4, ... gaps
        while 2 ** len(self._table) <= n - 1:
            step, last = 2 ** (len(self._table) - 1), self._table[-1]
            self._table.append(np.maximum(last[:-step], last[step:]))

    def of(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The merge at which pictures a and b, all different, meet: int64 [len(a)]."""
        low = np.minimum(self._start[a], self._start[b])
        high = np.maximum(self._start[a], self._start[b])
        level = np.frexp(high - low)[1] - 1
        found = np.empty(len(low), np.int64)
        for k, values in enumerate(self._table):
            at = level == k
            found[at] = np.maximum(values[low[at]], values[high[at] - 2**k])
        return found


class _Middles:
    """Means of the rows beneath each node, from sums along the order."""

    def __init__(self, x: np.ndarray, order: np.ndarray, start: np.ndarray, stop: np.ndarray):
        self._x = x[order].astype(np.float64)
        self._order, self._start, self._stop = order, start, stop
        self._sums = np.concatenate([np.zeros((1, x.shape[1])), np.cumsum(self._x, 0)])

    def of(self, nodes: np.ndarray) -> np.ndarray:
        """[len(nodes), F]."""
        start, stop = self._start[nodes], self._stop[nodes]
        return (self._sums[stop] - self._sums[start]) / (stop - start)[:, None]

    def spread(self, nodes: np.ndarray) -> np.ndarray:
        """Mean squared distance of unit rows to their mean [len(nodes)]."""
        return np.maximum(1 - (self.of(nodes) ** 2).sum(1), 0)

    def nearest(self) -> np.ndarray:
        """The row beneath each node that is nearest to its mean."""
        found = np.empty(len(self._start), np.int64)
        for node, (start, stop) in enumerate(zip(self._start, self._stop, strict=True)):
            sums = self._sums[stop] - self._sums[start]
            found[node] = self._order[start + int((self._x[start:stop] @ sums).argmax())]
        return found


def _features(
    x: np.ndarray,
    z: np.ndarray,
    merges: np.ndarray,
    meetings: _Meetings,
    once: np.ndarray,
    middle: _Middles,
    scale: float,
    count: np.ndarray,
) -> np.ndarray:
    """What the model looks at, of each merge; all without a unit, so that classes compare."""
    n = len(x)
    if n < 2:
        return np.empty((0, len(FEATURES)))
    a, b = merges[:, :2].astype(np.int64).T
    here = n + np.arange(n - 1)
    least = np.minimum(once[a], once[b])
    distance = np.linalg.norm(middle.of(a) - middle.of(b), axis=1)
    inside = (once[a] * middle.spread(a) + once[b] * middle.spread(b)) / (once[a] + once[b])
    free = np.maximum(once[a] + once[b] - 2, 1) / (once[a] + once[b])
    inside = np.sqrt(inside / free) + 1e-3
    whole = np.sqrt(middle.spread(np.array([2 * n - 2]))[0]) + 1e-3
    side = np.sqrt(np.maximum(middle.spread(a), middle.spread(b))) + 1e-3
    crossing = _crossing(z, merges, meetings, once)
    apart = np.count_nonzero((least >= LOT) & (crossing < APART))
    columns = {
        "size": np.log(least),
        "distance": np.log(distance / scale + 1e-3),
        "separation": np.log(distance / inside + 1e-3),
        "crossing": crossing,
        "tightness": np.log(inside / whole),
        "height": np.log(merges[:, 2] / max(merges[-1, 2], 1e-9) + 1e-3),
        "spread": np.log(side / scale),
        "once": np.log(once[here] / count[here]),
        "lots": np.full(n - 1, np.log(apart + 1)),
    }
    return np.stack([columns[name] for name in FEATURES], 1)


def _crossing(
    z: np.ndarray, merges: np.ndarray, meetings: _Meetings, once: np.ndarray
) -> np.ndarray:
    """How many neighbours lie across each merge, beside what chance would put there (logarithm)."""
    n = len(z)
    graph = coo_array(neighbour_graph(z, NEIGHBOURS))
    upper = graph.row < graph.col
    at = meetings.of(graph.row[upper], graph.col[upper])
    across = np.bincount(at, graph.data[upper], minlength=n - 1)
    total = np.zeros(2 * n - 1)
    a, b = merges[:, :2].astype(np.int64).T
    for m in range(n - 1):
        total[n + m] = total[a[m]] + total[b[m]] + across[m]
    share = 2 * once[a] * once[b] / (once[a] + once[b]) ** 2
    return np.log((across + 1) / (total[n:] * share + 1))
