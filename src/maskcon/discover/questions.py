"""Questions to a person, "are these of the same kind?", and the groups that follow from answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from torch import Tensor

from maskcon.discover.sameness import USUAL, learned
from maskcon.discover.tree import FEATURES, Grown, Tree, grow
from maskcon.errors import InputError
from maskcon.runtime.progress import Progress

Verdict = Literal["same", "different", "unsure"]
VERDICTS: tuple[Verdict, ...] = ("same", "different", "unsure")
TRUST = 3.0  # log odds that an answer is right: one of twenty is not
CAUTION = 1.0  # log odds beyond even ones that undo a merge which nobody was asked about
GRANULARITY = {"coarser": -1.5, "usual": 0.0, "finer": 1.5}  # log odds that are added
SHOWN = 6  # pictures of each side
NEVER = -30.0  # log odds of a merge that does not matter
LEAST = 3  # different pictures on the smaller side of a merge that is asked for or undone
WORTH = 1.0  # pictures that groups are expected to have wrong; a merge of fewer is not asked for
SURE = 2  # more answers that say one thing of a merge than say the other: it is not asked for again


@dataclass(frozen=True)
class Question:
    """Two lots of pictures that one merge joins.

    Attributes:
        coarse: label of the class.
        merge: of its tree.
        left, right: rows of all pictures on each side.
        shown_left, shown_right: rows of a few that stand for each side; an answer is kept as one
            about the first two, which are the most typical where nothing was answered yet.
        different: probability that the sides are different kinds.
    """

    coarse: int
    merge: int
    left: np.ndarray
    right: np.ndarray
    shown_left: np.ndarray
    shown_right: np.ndarray
    different: float


@dataclass(frozen=True)
class Answer:
    """What a person said of two pictures, which stand for the two lots that were shown.

    Attributes:
        a, b: rows.
        verdict: same, different, or unsure.
    """

    a: int
    b: int
    verdict: Verdict


class Questions:
    """Asks what changes the groups most, and learns from what is answered.

        questions = Questions.of(features, coarse)
        while (question := questions.next()) is not None:
            questions.answer(question, "same")  # or "different", "unsure"; take_back() forgets it
        group = questions.groups()

    An answer is evidence, not law: it is taken for right with odds of twenty to one, so a wrong
    one among many is outvoted. What matters much, or contradicts the rest, is asked once more of
    other pictures of the same lots, and a third time where the two answers differ.

    Attributes:
        grown: the trees of the coarse classes, in the order of their labels.
    """

    def __init__(self, grown: Sequence[Grown]):
        self.grown = tuple(grown)
        self._answers: list[Answer] = []
        self._named: list[tuple[int, bool]] = []  # merges, and whether they join two names
        count = max(int(g.rows.max()) + 1 for g in self.grown)
        self._class, self._leaf = np.full(count, -1), np.full(count, -1)
        for c, g in enumerate(self.grown):
            self._class[g.rows], self._leaf[g.rows] = c, g.leaf
        merges = [g.tree.leaves - 1 for g in self.grown]
        self._first = np.concatenate([[0], np.cumsum(merges)])  # merge of each class among all
        self._coarse = np.repeat(np.arange(len(self.grown)), merges)
        self._smaller = np.concatenate([smaller(g.tree) for g in self.grown])
        self._open = np.flatnonzero(self._smaller >= LEAST)  # merges that matter
        features = np.concatenate([g.tree.features for g in self.grown])
        self._features = features.reshape(-1, len(FEATURES))
        self._apart = np.zeros(len(self._coarse), bool)  # merges that are undone whatever they gain
        self._state: _State | None = None

    @classmethod
    def of(
        cls,
        features: Tensor,
        coarse: Tensor,
        *,
        taken: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> "Questions":
        """Questions about features [N, F] of unit length with coarse labels [N], as `grow` has it.

        Raises:
            InputError: features or labels that cannot be judged.
        """
        return cls(grow(features, coarse, taken=taken, seed=seed, progress=progress))

    @property
    def answers(self) -> tuple[Answer, ...]:
        """All that was answered, in order."""
        return tuple(self._answers)

    def answer(self, question: Question, verdict: Verdict) -> None:
        """Take an answer to a question."""
        self.tell(int(question.shown_left[0]), int(question.shown_right[0]), verdict)

    def tell(self, a: int, b: int, verdict: Verdict) -> None:
        """Take what somebody says of two pictures; of one pair the last word counts.

        Raises:
            InputError: there is no such verdict or picture, or it is one picture.
        """
        if verdict not in VERDICTS:
            raise InputError(f"the answer is {verdict!r}: expected one of {', '.join(VERDICTS)}")
        for row in (a, b):
            if not 0 <= row < len(self._class) or self._class[row] < 0:
                raise InputError(f"there is no picture {row}: there are {len(self._class):,}")
        if a == b:
            raise InputError(f"picture {a} was compared with itself: give two pictures")
        if self._class[a] != self._class[b]:
            raise InputError(f"pictures {a} and {b} are of two coarse classes: give two of one")
        self._answers.append(Answer(a, b, verdict))
        self._state = None

    def take_back(self) -> Answer:
        """Forget the last answer, and return it.

        Raises:
            InputError: there is none.
        """
        if not self._answers:
            raise InputError("there is no answer to take back")
        self._state = None
        return self._answers.pop()

    def name(self, label: np.ndarray, *, apart: bool = False) -> None:
        """Take fine labels of some pictures as answers: where a merge joins pictures of two names.

        Each side of a merge goes by the name that most of its named pictures have.

        Args:
            label: of each row, -1 where there is none, int64 [N].
            apart: they are names of whole groups, so no group may hold two of them, whatever
                the merges gain.
        """
        for g, first in zip(self.grown, self._first[:-1], strict=True):
            here = label[g.rows] >= 0
            if not here.any():
                continue
            names, code = np.unique(label[g.rows][here], return_inverse=True)
            count = np.zeros((g.tree.leaves, len(names)), np.int64)
            np.add.at(count, (g.leaf[here], code), 1)
            total = np.concatenate([count[:1] * 0, np.cumsum(count[g.tree.order], 0)])
            beneath = total[g.tree.stop] - total[g.tree.start]  # [2 n - 1, names]
            both = (beneath.sum(1)[g.tree.joined] > 0).all(1)
            most = beneath.argmax(1)[g.tree.joined]
            differ = (most[:, 0] != most[:, 1])[both]
            self._named += zip(
                (first + np.flatnonzero(both)).tolist(), differ.tolist(), strict=True
            )
            if apart:
                several = np.count_nonzero(beneath[g.tree.leaves :], axis=1) > 1
                self._apart[first : first + len(several)] |= several
        self._state = None

    def next(self) -> Question | None:
        """The question whose answer would change most; None when nothing is worth asking.

        A merge is worth the pictures on its smaller side times the probability that the groups
        as they are have it wrong. None is said where every merge is worth less than `WORTH`, and
        of the others the person has said all that counts.
        """
        return next(iter(self.worth(1)), None)

    def worth(self, count: int) -> list[Question]:
        """The questions that are worth most as things stand, as `next` has them, so many or fewer.

        For a page that cannot follow the answers; whoever can asks for the next one each time.
        """
        state = self._now()
        logit = state.logit / np.sqrt(1 + np.pi / 8 * state.deviation**2)
        wrong = 1 / (1 + np.exp(np.abs(logit)))
        value = np.where(self._smaller >= LEAST, wrong * self._smaller, 0.0)
        value[state.settled] = 0.0
        most = np.argsort(-value, kind="stable")[:count]
        return [
            self._question(int(at), float(1 / (1 + np.exp(-logit[at]))))
            for at in most[value[most] >= WORTH]
        ]

    def cut(self, shift: float = 0.0) -> list[np.ndarray]:
        """The nodes of each class's tree that are groups.

        Args:
            shift: added to the log odds of every merge: above 0 for finer groups.
        """
        apart = np.split(self._apart, self._first[1:-1])
        return [
            g.tree.nodes(undone(g.tree, p, must))
            for g, p, must in zip(self.grown, self.different(shift), apart, strict=True)
        ]

    def into(self, number: int, place: int) -> np.ndarray:
        """The nodes of the cut of one class, by its place, into so many groups.

        More where names that must be apart are in so many parts of the tree.
        """
        held = self._apart[self._first[place] : self._first[place + 1]]
        return self.grown[place].tree.into(number, held)

    def different(self, shift: float = 0.0) -> list[np.ndarray]:
        """How likely each merge of each class joins different kinds, less what caution takes."""
        state = self._now()
        logit = state.logit + shift - CAUTION * ~state.answered
        return np.split(1 / (1 + np.exp(-logit)), self._first[1:-1])

    def asked(self) -> np.ndarray:
        """Whether any merge of each class was answered or named, bool [C]."""
        found = np.zeros(len(self.grown), bool)
        found[self._coarse[self._now().answered]] = True
        return found

    def merge_of(self, answer: Answer) -> int | None:
        """The merge, numbered through all classes, of the lots that an answer is about.

        None where its pictures have one place in a tree.
        """
        c, a, b = self._class[answer.a], int(self._leaf[answer.a]), int(self._leaf[answer.b])
        return None if a == b else int(self._first[c]) + self.grown[c].tree.meeting(a, b)

    def groups(self, shift: float = 0.0) -> np.ndarray:
        """The group of each picture, numbered through all classes, int64 [N]; -1 for no picture."""
        group, count = np.full(len(self._class), -1), 0
        for g, nodes in zip(self.grown, self.cut(shift), strict=True):
            group[g.rows] = count + g.groups(nodes)
            count += len(nodes)
        return group

    def _said(self) -> dict[int, list[Verdict]]:
        """What was said of the merges at which the pictures of answers meet.

        Of one pair the last word counts.
        """
        found: dict[int, list[Verdict]] = {}
        for a in {frozenset((a.a, a.b)): a for a in self._answers}.values():
            merge = self.merge_of(a)
            if merge is not None:
                found.setdefault(merge, []).append(a.verdict)
        return found

    def _now(self) -> "_State":
        """What is believed of every merge after all answers."""
        if self._state is not None:
            return self._state
        said = self._said()
        told = [(m, v == "different") for m, words in said.items() for v in words if v != "unsure"]
        told += self._named
        at, says = np.array([m for m, _ in told], np.int64), np.array([d for _, d in told], bool)
        target = np.where(says, 0.95, 0.05)
        model = learned(USUAL, self._features[at], self._coarse[at], target, len(self.grown))
        logit = np.full(len(self._coarse), NEVER)
        deviation, answered = np.zeros(len(logit)), np.zeros(len(logit), bool)
        rows = self._features[self._open], self._coarse[self._open]
        logit[self._open], deviation[self._open] = model.logit(*rows)
        np.add.at(logit, at, np.where(says, TRUST, -TRUST))
        answered[at] = True
        times, settled = np.zeros(len(logit), np.int64), np.zeros(len(logit), bool)
        for merge, words in said.items():
            times[merge] = len(words)
            more = abs(words.count("same") - words.count("different"))
            settled[merge] = "unsure" in words or more >= SURE
        self._state = _State(logit, deviation, answered, times, settled)
        return self._state

    def _question(self, at: int, different: float) -> Question:
        c = int(self._coarse[at])
        g, merge = self.grown[c], at - int(self._first[c])
        a, b = g.tree.joined[merge].tolist()
        again = -int(self._now().times[at])  # other pictures stand for the lots then
        return Question(
            coarse=g.label,
            merge=merge,
            left=g.beneath(a),
            right=g.beneath(b),
            shown_left=np.roll(g.images[shown(g.tree, a)], again),
            shown_right=np.roll(g.images[shown(g.tree, b)], again),
            different=different,
        )


class _State(NamedTuple):
    """What is believed of every merge [M].

    Attributes:
        logit: log odds that it joins different kinds.
        deviation: of these.
        answered: somebody was asked about it, or named both sides.
        times: that somebody was asked about it.
        settled: nobody is asked again.
    """

    logit: np.ndarray
    deviation: np.ndarray
    answered: np.ndarray
    times: np.ndarray
    settled: np.ndarray


def undone(tree: Tree, different: np.ndarray, must: np.ndarray | None = None) -> np.ndarray:
    """Merges to undo so that the most pictures are expected to gain, bool [n - 1].

    Undoing a merge of different kinds gains the pictures of its smaller side; undoing one of a
    kind loses them. A node is left whole when nothing beneath it is worth the merges above.

    Args:
        tree: of the class.
        different: probability of each merge that it joins different kinds [n - 1].
        must: merges that are undone whatever they gain, bool [n - 1]; so are all above them.
    """
    n, least = tree.leaves, smaller(tree)
    held = np.zeros(n - 1, bool) if must is None else must
    gain = np.where(least >= LEAST, (2 * different - 1) * least, -np.inf)
    best = [0.0] * (2 * n - 1)  # lists: each merge needs those below, and numbers of numpy are slow
    merges = zip(tree.joined.tolist(), gain.tolist(), held.tolist(), strict=True)
    for m, ((a, b), gained, stays) in enumerate(merges):
        below = best[a] + best[b]
        best[n + m] = below if stays else max(0.0, below + gained)
    return (np.array(best[n:]) > 0) | held


def shown(tree: Tree, node: int, count: int = SHOWN) -> np.ndarray:
    """Places of the pictures that stand for a node: the most typical of its largest parts."""
    nodes = [node]
    while len(nodes) < count:
        large = max(nodes, key=lambda k: tree.once[k])
        if tree.once[large] < 2:
            break
        nodes.remove(large)
        nodes += tree.joined[large - tree.leaves].tolist()
    nodes.sort(key=lambda k: -tree.once[k])
    places = [int(tree.typical[k]) for k in (node, *nodes)]
    return np.array(list(dict.fromkeys(places))[:count], np.int64)


def smaller(tree: Tree) -> np.ndarray:
    """Different pictures on the smaller side of each merge [n - 1]."""
    a, b = tree.joined.T
    return np.minimum(tree.once[a], tree.once[b])
