"""The groups of every coarse class: how many, who is in them, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from maskcon.discover.kmeans import UNKNOWN, confidence, grouped
from maskcon.discover.number import FEWEST, HOW, Number
from maskcon.discover.questions import GRANULARITY, Answer, Questions
from maskcon.discover.spectral import spectral, unit
from maskcon.discover.tree import Grown, Tree
from maskcon.errors import InputError
from maskcon.eval.retrieval import nearest_others
from maskcon.eval.rows import check_rows
from maskcon.runtime.progress import Progress

NEAREST = 10  # of an image's group, that say how typical it is
FOLDS = 5  # in which known images are left out
SMALL_GROUP = 8  # images; a group of fewer has no outliers


@dataclass(frozen=True)
class Division:
    """One coarse class and its groups, the largest first.

    Attributes:
        label: of the coarse class.
        rows: of its images, int64 [n].
        number: of groups, k; it may be less than `found` says where images are equal.
        found: how that number was found.
        group: of each image, int64 [n] in 0..k - 1.
        confidence: in (0, 1] of each [n], as `maskcon.discover.kmeans.confidence` has it.
        rank: 1 for the most typical image of each group, 2 for the next [n].
        outlier: images that are far from all others of their group, bool [n].
        names: known label of each group, `UNKNOWN` where there is none [k].
        grown: the tree of the class.
        strength: how likely each merge of the tree joins different kinds [n - 1].
        tested, right: known images that were left out, and those of them that came into the
            group of their name.
    """

    label: int
    rows: np.ndarray
    number: int
    found: Number
    group: np.ndarray
    confidence: np.ndarray
    rank: np.ndarray
    outlier: np.ndarray
    names: tuple[int, ...]
    grown: Grown
    strength: np.ndarray
    tested: int = 0
    right: int = 0

    def members(self, group: int) -> np.ndarray:
        """Places in `rows` of a group's images, the most typical first."""
        inside = np.flatnonzero(self.group == group)
        return inside[np.argsort(self.rank[inside])]


def discover(
    features: Tensor,
    coarse: Tensor,
    *,
    taken: np.ndarray | None = None,
    numbers: Mapping[int, int] | None = None,
    known: Tensor | None = None,
    named: np.ndarray | None = None,
    answers: Sequence[Answer] = (),
    granularity: Mapping[int, int | str] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Division, ...]:
    """Divide each coarse class into groups.

    A class is cut out of its tree where `Questions` says that kinds differ. With a number that is
    given, or with known labels, groups are k-means of the rows that `spectral` makes.

    Args:
        features: [N, F] of unit length.
        coarse: coarse label of each image [N].
        taken: when each was taken, in seconds, NaN where nobody knows [N]: bursts count once.
        numbers: of groups, by coarse label, in place of an estimate.
        known: fine label of each image where it is known, `UNKNOWN` (-1) elsewhere [N]. A group
            is made for each that occurs in a coarse class, so there are at least as many.
        named: the name beside each image that somebody named a group by, `UNKNOWN` elsewhere,
            int64 [N], a number that `known` has being the same name. Names are answers, and no
            group holds two of them.
        answers: of a person, on pairs of images.
        granularity: by coarse label, "finer" or "coarser", or the number of the tree's groups.
        seed: of all that is drawn.
        progress: told how far it is.

    Returns:
        one division for each coarse label that occurs, in their order.

    Raises:
        InputError: features or labels that cannot be judged, or fewer than one group asked for.
    """
    check_rows(features, coarse, known, name="embedded", least=1)
    _check_numbers(numbers, granularity)
    questions = Questions.of(features, coarse, taken=taken, seed=seed, progress=progress)
    if known is not None:
        questions.name(known.cpu().numpy())
    if named is not None:
        questions.name(named, apart=True)
    for a in answers:
        questions.tell(a.a, a.b, a.verdict)
    return divided(
        features,
        questions,
        numbers=numbers,
        known=known,
        named=named,
        granularity=granularity,
        seed=seed,
    )


def divided(
    features: Tensor,
    questions: Questions,
    *,
    numbers: Mapping[int, int] | None = None,
    known: Tensor | None = None,
    named: np.ndarray | None = None,
    granularity: Mapping[int, int | str] | None = None,
    seed: int = 0,
) -> tuple[Division, ...]:
    """The groups of `discover`, of trees that are there already.

    Args:
        features: [N, F] of unit length, of which the trees were grown.
        questions: about the trees, which were told known labels, names and answers.
        numbers: as `discover` takes them; likewise all that follow.
        known: labels.
        named: names.
        granularity: of some classes.
        seed: of k-means.

    Raises:
        InputError: fewer than one group asked for.
    """
    _check_numbers(numbers, granularity)
    numbers, granularity, grown = numbers or {}, granularity or {}, questions.grown
    nobody = np.full(len(features), UNKNOWN)
    labels = nobody if known is None else known.cpu().numpy()
    names = nobody if named is None else named
    cuts = {name: questions.cut(GRANULARITY[name]) for name in ("coarser", "finer")}
    chosen = nodes_of(questions, granularity)
    strength, asked = questions.different(), questions.asked()
    x = features.detach().cpu().float().numpy()
    divisions = []
    for c, (g, nodes) in enumerate(zip(grown, chosen, strict=True)):
        whole = _whole(g, asked[c])
        low, high = (len(nodes) if whole else len(cuts[w][c]) for w in ("coarser", "finer"))
        how: HOW = "answered" if asked[c] else "too few images" if whole else "estimated"
        number = Number(
            len(nodes),
            min(low, len(nodes)),
            max(high, len(nodes)),
            _weakest(g.tree, nodes, strength[c]),
            "given" if isinstance(granularity.get(g.label), int) else how,
        )
        told = labels[g.rows]
        if g.label in numbers or (told != UNKNOWN).any():
            seeds = np.where(told == UNKNOWN, names[g.rows], told)
            number = _asked_for(x[g.rows], number, numbers.get(g.label), seeds)
            divisions.append(_clustered(g, x[g.rows], number, told, seeds, seed, strength[c]))
        else:
            divisions.append(_cut(g, x[g.rows], number, nodes, strength[c]))
    return tuple(divisions)


def nodes_of(questions: Questions, granularity: Mapping[int, int | str]) -> list[np.ndarray]:
    """The nodes of each class's tree that are groups, after all that was said.

    Args:
        questions: about the trees, and what was answered and named.
        granularity: by coarse label, a word of `GRANULARITY` or the number of the tree's groups.
    """
    words = {"usual", *(word for word in granularity.values() if isinstance(word, str))}
    cuts = {word: questions.cut(GRANULARITY[word]) for word in words}
    asked, found = questions.asked(), []
    for c, g in enumerate(questions.grown):
        wanted = granularity.get(g.label, "usual")
        if isinstance(wanted, int):
            found.append(questions.into(wanted, c))
        elif _whole(g, asked[c]):
            found.append(np.array([2 * g.tree.leaves - 2]))
        else:
            found.append(cuts[wanted][c])
    return found


def _check_numbers(
    numbers: Mapping[int, int] | None, granularity: Mapping[int, int | str] | None
) -> None:
    """Raise `InputError` where fewer than one group is asked for."""
    for number in (*(numbers or {}).values(), *(granularity or {}).values()):
        if isinstance(number, int) and number < 1:
            raise InputError(f"{number} groups were asked for; give one or more")


def _whole(grown: Grown, asked: bool) -> bool:
    """Whether a class is too small to be divided by what nobody has said."""
    return grown.tree.leaves < FEWEST and not asked  # what comes later cuts no class


def _asked_for(x: np.ndarray, found: Number, given: int | None, seeds: np.ndarray) -> Number:
    """The number that was given, or no fewer than there are names."""
    different, names = len(np.unique(x, axis=0)), len(np.unique(seeds[seeds != UNKNOWN]))
    if given is not None:
        number = min(given, different)
        found = Number(number, number, number, None, "given")
    names = min(names, different)
    if names > found.number:
        return Number(names, min(found.low, names), max(found.high, names), None, "known")
    return found


def _weakest(tree: Tree, nodes: np.ndarray, different: np.ndarray) -> float | None:
    """The lowest probability among the merges above the nodes; None where there is none."""
    above = np.zeros(tree.leaves - 1, bool)
    groups = set(nodes.tolist())
    stack = [2 * tree.leaves - 2]
    while stack:
        node = stack.pop()
        if node not in groups:
            above[node - tree.leaves] = True
            stack += tree.joined[node - tree.leaves].tolist()
    return float(different[above].min()) if above.any() else None


def _cut(
    grown: Grown, x: np.ndarray, number: Number, nodes: np.ndarray, strength: np.ndarray
) -> Division:
    """One coarse class, its groups being nodes of its tree."""
    found = grown.groups(nodes)
    z = unit(x - x.mean(0))
    sums = np.zeros((len(nodes), z.shape[1]))
    np.add.at(sums, found, z)
    sure = confidence(z @ unit(sums).T, found)
    order = np.argsort(-np.bincount(found, minlength=len(nodes)), kind="stable")
    return _division(grown, x, number, np.argsort(order)[found], sure, strength)


def _clustered(
    grown: Grown,
    x: np.ndarray,
    number: Number,
    told: np.ndarray,
    seeds: np.ndarray,
    seed: int,
    strength: np.ndarray,
) -> Division:
    """One coarse class in so many groups, some of which have seeds: images of a known name."""
    k = number.number
    z = spectral(x, k, seed=seed)
    names = np.unique(seeds[seeds != UNKNOWN])
    known = np.where(seeds == UNKNOWN, UNKNOWN, np.searchsorted(names, seeds))
    found = grouped(z, k, known=known, seed=seed)
    sizes = np.bincount(found.group, minlength=k)
    order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
    place = np.full(k, UNKNOWN)
    place[order] = np.arange(len(order))
    right, tested = left_out(z, k, known, told != UNKNOWN, seed)
    made = _division(grown, x, number, place[found.group], found.confidence, strength)
    labels = np.isin(names, told)
    called = tuple(int(names[g]) if g < len(names) and labels[g] else UNKNOWN for g in order)
    return replace(made, names=called, tested=tested, right=right)


def _division(
    grown: Grown,
    x: np.ndarray,
    number: Number,
    group: np.ndarray,
    confidence: np.ndarray,
    strength: np.ndarray,
) -> Division:
    rank, outlier = typical(x, group)
    k = int(group.max()) + 1
    return Division(
        label=grown.label,
        rows=grown.rows,
        number=k,
        found=number,
        group=group,
        confidence=confidence,
        rank=rank,
        outlier=outlier,
        names=(UNKNOWN,) * k,
        grown=grown,
        strength=strength,
    )


def typical(x: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rank of each row in its group, the most typical first, and whether it is an outlier.

    A row is as typical as its ten nearest in the group are near, by mean cosine similarity; an
    outlier lies below the lower quartile of its group by 1.5 times the distance of the quartiles
    (Tukey).

    Args:
        x: float32 [N, F] of unit length.
        group: of each row, int64 [N] in 0..k - 1.

    Returns:
        rank int64 [N] from 1, outlier bool [N]; a group of fewer than 8 has no outliers.
    """
    rank, outlier = np.ones(len(x), np.int64), np.zeros(len(x), bool)
    for g in range(group.max(initial=UNKNOWN) + 1):
        members = np.flatnonzero(group == g)
        if len(members) < 2:
            continue
        found = nearest_others(torch.from_numpy(x[members]), min(NEAREST, len(members) - 1))
        near = found.scores.double().mean(1).numpy()
        rank[members[np.argsort(-near, kind="stable")]] = np.arange(1, len(members) + 1)
        if len(members) >= SMALL_GROUP:
            low, high = np.quantile(near, [0.25, 0.75])
            outlier[members] = near < low - 1.5 * (high - low) - 1e-6  # the roundings of equal rows
    return rank, outlier


def left_out(
    z: np.ndarray, number: int, known: np.ndarray, tested: np.ndarray, seed: int
) -> tuple[int, int]:
    """How many known rows come into the group of their name when their own name is not told.

    Of each name's rows a fifth at a time is left out and grouped anew with all others. A name
    that is known once only cannot be left out.

    Args:
        z: rows as `grouped` takes them [N, D].
        number: of groups.
        known: group of each row, `UNKNOWN` elsewhere [N].
        tested: known rows that are left out, bool [N]; the others are told all the time.
        seed: of the folds and the groups.

    Returns:
        (right, tested).
    """
    random = np.random.default_rng(seed)
    fold = np.full(len(known), UNKNOWN)
    for name in range(known.max(initial=UNKNOWN) + 1):
        rows = random.permutation(np.flatnonzero((known == name) & tested))
        if len(rows) > 1:
            fold[rows] = np.arange(len(rows)) % min(FOLDS, len(rows))
    right = 0
    for f in range(fold.max(initial=UNKNOWN) + 1):
        hidden = fold == f
        told = np.where(hidden, UNKNOWN, known)
        found = grouped(z, number, known=told, seed=seed)
        right += int((found.group[hidden] == known[hidden]).sum())
    return right, int((fold != UNKNOWN).sum())
