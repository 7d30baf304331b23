"""Groups inside coarse classes, beside what scikit-learn makes of them, on many kinds of sets.

python benchmarks/discovery.py table [--vectors NAME=FILE.npz ...]    # groups, no answers
python benchmarks/discovery.py answers [--vectors NAME=FILE.npz ...]  # accuracy over answers
python benchmarks/discovery.py prior [--vectors NAME=FILE.npz ...]    # what is usual, fitted anew

Without vectors: scikit-learn's digits with made coarse classes, and made sets. A file of vectors
is what `maskcon embed` writes of pictures whose fine labels are known; they only judge and answer.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score

from maskcon.discover import Questions, discover
from maskcon.discover.judging import numbered_through
from maskcon.discover.questions import LEAST, smaller
from maskcon.discover.tree import grow
from maskcon.eval.cluster import agreement


class Set(NamedTuple):
    """Vectors of unit length float32 [N, F], coarse and fine labels int64 [N]."""

    name: str
    x: np.ndarray
    coarse: np.ndarray
    fine: np.ndarray


class Made(NamedTuple):
    """How a made set is drawn. Spreads are deviations, beside 1 between coarse classes.

    Attributes:
        classes: coarse classes.
        kinds: fewest and most kinds in a class; a share `single` of the classes has one.
        pictures: fewest and most pictures of a kind.
        kind, visit, picture: spreads of kinds, of the visits to a kind, of pictures in a visit.
        visits: most visits to a kind.
        burst: share of pictures that come in bursts of three to eight near duplicates.
        backgrounds: that all kinds of a class share; each picture has one of them.
        single: share of coarse classes of one kind.
    """

    classes: int
    kinds: tuple[int, int]
    pictures: tuple[int, int]
    kind: float = 0.6
    visit: float = 0.0
    picture: float = 0.45
    visits: int = 1
    burst: float = 0.0
    backgrounds: int = 0
    single: float = 0.0


MADE = {
    "made, few kinds": Made(8, (2, 8), (40, 150), picture=0.6),
    "made, many small kinds": Made(8, (20, 40), (10, 30), picture=0.6),
    "made, 1 to 50 kinds": Made(8, (1, 50), (5, 500)),
    "made, visits": Made(24, (2, 8), (20, 80), visit=0.6, visits=5, single=0.6),
    "made, visits and bursts": Made(
        24, (2, 8), (20, 80), visit=0.6, visits=6, burst=0.4, single=0.6
    ),
    "made, backgrounds": Made(12, (1, 10), (20, 80), backgrounds=4, single=0.3),
}
WIDTH = 64
SCALE = (1 + np.arange(WIDTH)) ** -0.5
SCALE /= np.linalg.norm(SCALE)
LARGEST = 1500  # pictures of a made coarse class
MERGES = 5000  # that the prior is as sure as, beside a deviation of one for each slope


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length one."""
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def between(random: np.random.Generator, ends: tuple[int, int]) -> int:
    """A whole number, as likely small as large on a scale of logarithms."""
    return round(float(np.exp(random.uniform(*np.log(ends)))))


def drawn(random: np.random.Generator, spread: float, rows: int = 1) -> np.ndarray:
    """Gaussian rows whose length is about the spread, of falling variances [rows, WIDTH]."""
    return spread * random.normal(size=(rows, WIDTH)) * SCALE


def made(name: str, seed: int) -> Set:
    """A made set."""
    m, random = MADE[name], np.random.default_rng([seed, 17])
    x, coarse, fine, kinds = [], [], [], 0
    for c in range(m.classes):
        middle = drawn(random, 1.0)
        backgrounds = drawn(random, 0.4, max(1, m.backgrounds))
        count = 1 if random.random() < m.single else between(random, m.kinds)
        room, apart = LARGEST, np.exp(0.3 * random.normal())
        for _ in range(count):
            n = max(2, min(between(random, m.pictures), room))
            room = max(2, room - n)
            kind = middle + apart * drawn(random, m.kind)
            visits = kind + drawn(random, m.visit, random.integers(1, m.visits + 1))
            tight = np.exp(0.3 * random.normal(size=len(visits)))
            visit = random.integers(len(visits), size=n)
            rows = visits[visit] + tight[visit, None] * drawn(random, m.picture, n)
            if m.backgrounds:
                rows += backgrounds[random.integers(m.backgrounds, size=n)]
            _burst(rows, m.burst, random)
            x.append(rows)
            coarse += [c] * n
            fine += [kinds] * n
            kinds += 1
    order = random.permutation(len(coarse))
    rows = unit(np.concatenate(x))[order].astype(np.float32)
    return Set(name, rows, np.array(coarse)[order], np.array(fine)[order])


def _burst(rows: np.ndarray, share: float, random: np.random.Generator) -> None:
    """Make a share of the rows near duplicates of the one before, in place."""
    row = 0
    while row < len(rows):
        length = random.integers(3, 9) if random.random() < share / 3 else 1
        last = min(row + length, len(rows))
        rows[row:last] = rows[row] + drawn(random, 0.03, last - row)
        row = last


def digits(seed: int) -> Set:
    """scikit-learn's digits in four coarse classes of one to four, by their pixels."""
    data = load_digits()
    groups = np.random.default_rng(seed).permutation(10)
    coarse_of = np.empty(10, np.int64)
    coarse_of[groups] = np.repeat(np.arange(4), (4, 3, 2, 1))
    x = unit(data.data - data.data.mean(0)).astype(np.float32)
    return Set("digits", x, coarse_of[data.target], data.target)


def from_file(name: str, path: Path) -> Set:
    """Vectors that `maskcon embed` wrote, with their labels."""
    with np.load(path, allow_pickle=False) as data:
        x = unit(data["vector"].astype(np.float64)).astype(np.float32)
        coarse, fine = data["coarse"].astype(str), data["fine"].astype(str)
        if "split" in data and (data["split"] == "test").any() and name.endswith("test"):
            test = data["split"] == "test"
            x, coarse, fine = x[test], coarse[test], fine[test]
    both = np.char.add(np.char.add(coarse, "/"), fine)
    labels = [np.unique(names, return_inverse=True)[1] for names in (coarse, both)]
    return Set(name, x, *labels)


class Sets(NamedTuple):
    """The sets that are asked for: all that are made, or `only` some of them, and files."""

    vectors: dict[str, Path]
    only: list[str]

    def of(self, seed: int) -> Iterator[Set]:
        """Those of one seed."""
        make = {
            "digits": digits,
            **{name: partial(made, name) for name in MADE},
            **{name: partial(_of_any_seed, name, path) for name, path in self.vectors.items()},
        }
        for name in self.only or make:
            yield make[name](seed)


def _of_any_seed(name: str, path: Path, seed: int) -> Set:
    return from_file(name, path)


# ------------------------------------------------------------------ what is beside it

Rows = Callable[[np.ndarray, int, int], np.ndarray]  # (x of a class, its kinds, seed) -> group


def whole(x: np.ndarray, kinds: int, seed: int) -> np.ndarray:
    """One group."""
    return np.zeros(len(x), np.int64)


def kmeans(x: np.ndarray, kinds: int, seed: int) -> np.ndarray:
    """k-means with the true number."""
    return KMeans(min(kinds, len(x)), n_init=3, random_state=seed).fit_predict(x)


def hdbscan(x: np.ndarray, kinds: int, seed: int) -> np.ndarray:
    """HDBSCAN; what belongs to no group is one of its own."""
    if len(x) < 10:
        return whole(x, kinds, seed)
    found = HDBSCAN(min_cluster_size=5, copy=True).fit_predict(x)
    return np.where(found < 0, found.max() + 1, found)


def silhouette(x: np.ndarray, kinds: int, seed: int) -> np.ndarray:
    """k-means with the number of the best silhouette, if that is above 0.25."""
    best, group = 0.25, whole(x, kinds, seed)
    for k in (2, 3, 4, 5, 6, 8, 10, 13, 16, 20, 25, 30, 40):
        if k >= len(x) // 2:
            break
        found = KMeans(k, n_init=1, random_state=seed).fit_predict(x)
        score = silhouette_score(x, found, sample_size=min(len(x), 1000), random_state=seed)
        if score > best:
            best, group = score, found
    return group


def linked(x: np.ndarray, kinds: int, seed: int) -> np.ndarray:
    """Average linkage, cut at one distance for all."""
    if len(x) < 2:
        return whole(x, kinds, seed)
    return fcluster(linkage(x, "average", "cosine"), 0.35, "distance")


BESIDE: dict[str, Rows] = {
    "every coarse class left whole": whole,
    "k-means, true numbers": kmeans,
    "HDBSCAN per class": hdbscan,
    "k-means, best silhouette above 0.25": silhouette,
    "average linkage, one distance for all": linked,
}


def by_class(data: Set, rows: Rows, seed: int) -> np.ndarray:
    """Groups of all classes, numbered through [N]."""
    group, first = np.empty(len(data.x), np.int64), 0
    for c in np.unique(data.coarse):
        inside = np.flatnonzero(data.coarse == c)
        found = np.unique(
            rows(data.x[inside], len(np.unique(data.fine[inside])), seed), return_inverse=True
        )[1]
        group[inside] = first + found
        first += found.max() + 1
    return group


def judged(data: Set, group: np.ndarray) -> dict[str, float]:
    """Accuracy, ARI, NMI, number of groups, and how far the number of a class is off."""
    result = agreement(torch.from_numpy(group), torch.from_numpy(data.fine))
    off, groups = [], 0
    for c in np.unique(data.coarse):
        inside = data.coarse == c
        found = len(np.unique(group[inside]))
        off.append(abs(found - len(np.unique(data.fine[inside]))))
        groups += found
    return result | {"groups": float(groups), "off": float(np.mean(off))}


def ours(data: Set, seed: int, true: bool) -> np.ndarray:
    """The groups of `maskcon discover`."""
    numbers = None
    if true:
        numbers = {
            int(c): len(np.unique(data.fine[data.coarse == c])) for c in np.unique(data.coarse)
        }
    found = discover(
        torch.from_numpy(data.x), torch.from_numpy(data.coarse), numbers=numbers, seed=seed
    )
    return numbered_through(found, len(data.x)).numpy()


def rows_of(data: Set, seed: int) -> dict[str, np.ndarray]:
    """The groups of every way."""
    return {
        "maskcon discover, number estimated": ours(data, seed, False),
        "maskcon discover, true numbers": ours(data, seed, True),
    } | {name: by_class(data, rows, seed) for name, rows in BESIDE.items()}


def true_group(shown: np.ndarray, fine: np.ndarray) -> int:
    """The fine class that most of the pictures have."""
    return int(np.bincount(fine[shown]).argmax())


def curve(data: Set, counts: list[int], seed: int, wrong: float) -> list[dict[str, float]]:
    """What groups are worth after so many answers, a share of them wrong.

    The person says "same" where most pictures of both sides are of one fine class.
    """
    random = np.random.default_rng(seed)
    questions = Questions.of(torch.from_numpy(data.x), torch.from_numpy(data.coarse), seed=seed)
    found: list[dict[str, float]] = []
    for given in range(max(counts) + 1):
        if given in counts:
            found.append(judged(data, questions.groups()))
        question = questions.next()
        if question is None:
            break
        same = true_group(question.left, data.fine) == true_group(question.right, data.fine)
        if random.random() < wrong:
            same = not same
        questions.answer(question, "same" if same else "different")
    return found + found[-1:] * (len(counts) - len(found))


COUNTS = [0, 5, 10, 20, 40, 80, 120, 200]
KEYS = ("accuracy", "ari", "nmi", "groups", "off")


def table(sets: Sets, seeds: int) -> Iterator[str]:
    """Lines of a Markdown table: every way on every set, means over seeds."""
    yield "| set | way | number | accuracy | ARI | NMI | off by |\n|---|---|---|---|---|---|---|"
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for seed in range(seeds):
        for data in sets.of(seed):
            for way, group in rows_of(data, seed).items():
                found.setdefault((data.name, way), []).append(judged(data, group))
    for (name, way), results in found.items():
        mean = {key: float(np.mean([r[key] for r in results])) for key in KEYS}
        shares = " | ".join(f"{100 * mean[key]:.1f}" for key in KEYS[:3])
        yield f"| {name} | {way} | {mean['groups']:.0f} | {shares} | {mean['off']:.1f} |"


def curves(sets: Sets, seeds: int) -> Iterator[str]:
    """Lines of a Markdown table: accuracy / ARI over answers, means over seeds."""
    yield (
        "| set | wrong | "
        + " | ".join(map(str, COUNTS))
        + " |\n|---|---"
        + "|---" * len(COUNTS)
        + "|"
    )
    found: dict[tuple[str, float], list[list[dict[str, float]]]] = {}
    for seed in range(seeds):
        for data in sets.of(seed):
            for wrong in (0.0, 0.05):
                results = curve(data, COUNTS, seed, wrong)
                found.setdefault((data.name, wrong), []).append(results)
    for (name, wrong), results in found.items():
        cells = [
            " / ".join(f"{100 * np.mean([r[i][key] for r in results]):.1f}" for key in KEYS[:2])
            for i in range(len(COUNTS))
        ]
        yield f"| {name} | {wrong:.0%} | " + " | ".join(cells) + " |"


def with_some_kinds(data: Set, seed: int, most: int = 5) -> Set:
    """A set with one to `most` of the kinds of each coarse class, so that their number varies."""
    random = np.random.default_rng(seed)
    kept = np.zeros(len(data.x), bool)
    for c in np.unique(data.coarse):
        kinds = np.unique(data.fine[data.coarse == c])
        kept |= np.isin(data.fine, random.permutation(kinds)[: random.integers(1, most + 1)])
    return Set(data.name, data.x[kept], data.coarse[kept], data.fine[kept])


def merges(data: Set) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of all merges that matter [M, D], whether they join different kinds [M], and the
    pictures of their smaller sides [M].
    """
    found = []
    for grown in grow(torch.from_numpy(data.x), torch.from_numpy(data.coarse)):
        tree = grown.tree
        count = np.zeros((tree.leaves + 1, data.fine.max() + 1), np.int64)
        for place, row in enumerate(grown.images[tree.order], 1):
            count[place, data.fine[row]] = 1
        total = count.cumsum(0)
        kind = (total[tree.stop] - total[tree.start]).argmax(1)[tree.joined]
        less = smaller(tree)
        matter = less >= LEAST
        found.append((tree.features[matter], (kind[:, 0] != kind[:, 1])[matter], less[matter]))
    features, different, less = (np.concatenate(part) for part in zip(*found, strict=True))
    return features, different, less


def prior(sets: Sets, seeds: int) -> Iterator[str]:
    """`maskcon.discover.sameness.USUAL`: a logistic regression on the merges of all sets.

    Each set counts alike, and each of its merges as its smaller side has pictures, which is what a
    wrong cut there costs. Sets of files are taken with one to five kinds of each coarse class.
    """
    rows = []
    for seed in range(seeds):
        for data in sets.of(seed):
            taken = with_some_kinds(data, seed) if data.name in sets.vectors else data
            features, different, less = merges(taken)
            rows.append((features, different, less / less.sum()))
    x, y, weight = (np.concatenate(part) for part in zip(*rows, strict=True))
    mean = np.average(x, axis=0, weights=weight)
    std = np.sqrt(np.average((x - mean) ** 2, axis=0, weights=weight))
    model = LogisticRegression(max_iter=1000)
    model.fit((x - mean) / std, y, sample_weight=MERGES * weight / weight.sum())
    for name, values in (("mean", mean), ("std", std), ("slope", model.coef_[0])):
        yield f"    {name}=np.array(({', '.join(f'{value:.3f}' for value in values)})),"
    yield f"    intercept={model.intercept_[0]:.3f},"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=["table", "answers", "prior"])
    parser.add_argument("--vectors", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="of a set")
    parser.add_argument("--seeds", type=int)
    given = parser.parse_args()
    vectors = {name: Path(path) for name, _, path in (v.partition("=") for v in given.vectors)}
    seeds = given.seeds or {"table": 3, "answers": 5, "prior": 3}[given.what]
    make = {"table": table, "answers": curves, "prior": prior}[given.what]
    for line in make(Sets(vectors, given.only), seeds):
        print(line, flush=True)


if __name__ == "__main__":
    main()
