"""What answers and names say of pairs of pictures, for training, and whether it is learned."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.questions import Answer, Questions
from maskcon.eval.recall import strangers_within
from maskcon.methods import Lots
from maskcon.methods.targets import DIFFERENT, OPEN, SAME

HELD = 0.25  # share of the answers, and of the named pictures, that others are judged by
FEWEST = 4  # of them that say anything of an encoder


@dataclass(frozen=True)
class Said:
    """What people said of N pictures.

    Attributes:
        answers: on pairs of pictures.
        named: name of each picture, `UNKNOWN` where it has none, int64 [N].
    """

    answers: Sequence[Answer]
    named: np.ndarray


@dataclass(frozen=True)
class Lesson:
    """What people said, and the trees that they said it of.

    Attributes:
        features: of the pictures [N, F], unit length.
        coarse: their coarse labels [N].
        said: of them.
        seed: of all that is drawn.
    """

    features: Tensor
    coarse: Tensor
    said: Said
    seed: int = 0

    @cached_property
    def questions(self) -> Questions:
        """What follows from answers and names."""
        questions = Questions.of(self.features, self.coarse, seed=self.seed)
        questions.name(self.said.named)
        for a in self.said.answers:
            questions.tell(a.a, a.b, a.verdict)
        return questions

    def apart(self) -> tuple[Said, Said]:
        """Three quarters to teach, and a quarter to judge by.

        Answers about one merge stay together, whichever pictures stood for its sides.
        """
        random = np.random.default_rng([self.seed, 23])
        merges = [self.questions.merge_of(a) for a in self.said.answers]
        every = list(dict.fromkeys(merges))
        held = {every[i] for i in random.permutation(len(every))[: round(HELD * len(every))]}
        left_out, named = np.zeros(len(self.coarse), bool), self.said.named
        rows = random.permutation(np.flatnonzero(named != UNKNOWN))
        left_out[rows[: round(HELD * len(rows))]] = True

        def part(out: bool) -> Said:
            pairs = zip(self.said.answers, merges, strict=True)
            answers = [a for a, merge in pairs if (merge in held) == out]
            return Said(answers, np.where(left_out == out, named, UNKNOWN))

        return part(False), part(True)

    def lots(self) -> tuple[np.ndarray, Lots]:
        """Pictures in lots, and of any two whether they are known to be of one kind.

        In a coarse class of which somebody said something, the groups that follow are kinds: one
        group is one kind, two are two. Two named pictures are of one kind where they have one
        name, whatever group they are in. Of other classes nothing is known.

        Returns:
            the lot of each picture, int64 [N], and the lots.
        """
        coarse, asked = self.coarse.numpy(), self.questions.asked()
        heard = asked[np.unique(coarse, return_inverse=True)[1]]
        group = np.where(heard, self.questions.groups(), UNKNOWN)
        keys, lot = np.unique(
            np.stack([coarse, group, self.said.named], 1), axis=0, return_inverse=True
        )
        label, group, name = torch.from_numpy(keys).T
        relation = torch.where(group[:, None] == group, SAME, DIFFERENT)
        relation = relation.where(group != UNKNOWN, OPEN)
        named = (name != UNKNOWN) & (name[:, None] != UNKNOWN)
        relation = relation.where(~named, torch.where(name[:, None] == name, SAME, DIFFERENT))
        relation = relation.where(label[:, None] == label, DIFFERENT)
        return lot.ravel(), Lots(label, relation.to(torch.uint8))

    def agreement(self, left_out: Said, said: Said) -> dict[str, float]:
        """How well this lesson agrees with what was left out of it.

        Args:
            left_out: of all that people said.
            said: all of it.

        Returns:
            shares in [0, 1] of what enough was said of. "answers": that the groups agree with;
            "names": of the named pictures, those whose nearest named picture of their coarse
            class has their name.
        """
        found, group = {}, self.questions.groups()
        clear = [a for a in left_out.answers if a.verdict != "unsure"]
        if len(clear) >= FEWEST:
            right = [(group[a.a] == group[a.b]) == (a.verdict == "same") for a in clear]
            found["answers"] = float(np.mean(right))
        rows = np.flatnonzero(said.named != UNKNOWN)
        asked = left_out.named[rows] != UNKNOWN
        if asked.sum() >= FEWEST:
            before = strangers_within(
                self.features[rows], torch.from_numpy(said.named[rows]), self.coarse[rows]
            )
            found["names"] = float((before.numpy()[asked] < 1).mean())
        return found
