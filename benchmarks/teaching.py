"""What 80 answers teach a head on a frozen network, beside the same head without them.

python benchmarks/teaching.py DATA [--seeds 3] [--wrong 0.05] [--control] [--image-size 160]

Answers are those of the fine labels of DATA, about train images alone; test images judge. A quarter
of the answers is left out to see what `train --answers` would do: keep what they teach, or not.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.commands._teach import features_of, of_train
from maskcon.commands._train import read_sets
from maskcon.commands.sources import resolved
from maskcon.discover import Answer, Questions
from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.teaching import Lesson, Said
from maskcon.eval.cluster import agreement
from maskcon.eval.recall import WITHIN, hits, recall_at
from maskcon.runtime.distributed import ALONE
from maskcon.runtime.progress import Silent


class Trial:
    """A set with vectors of a frozen network in place of pictures, and a head without answers.

    Args:
        data: as `maskcon train --data` takes it.
        seed: of the run.
        options: of the run, beside the recipe.
    """

    def __init__(self, data: str, seed: int, options: dict[str, Any]):
        config = resolved({"data": data, "seed": seed, **options}, "frozen")
        self.config, sets = read_sets(config, data, True, None, ALONE, Silent(), None)
        self.seen, held = sets.seen, sets.held
        self.splits = [self.seen.train, *([] if held is None else [held]), self.seen.test]
        self.coarse = torch.cat([split.coarse for split in self.splits])
        self.fine = torch.cat([split.fine for split in self.splits]).numpy()
        self.tests = np.arange(len(self.fine)) >= len(self.fine) - len(self.seen.test)
        self.before = self.head(None)

    def head(self, lesson: Lesson | None) -> Tensor:
        """Features of all images by a head that was taught."""
        lots = None if lesson is None else of_train(lesson, len(self.seen.train))
        return features_of(self.config, self.seen, self.splits, ALONE, lots)

    def answers(self, count: int, wrong: float) -> list[Answer]:
        """What somebody answers who knows the fine labels, asked about train images."""
        rows, seed = np.flatnonzero(~self.tests), self.config.seed
        questions = Questions.of(self.before[rows], self.coarse[rows], seed=seed)
        random, fine = np.random.default_rng(seed), self.fine[rows]
        for _ in range(count):
            question = questions.next()
            if question is None:
                break
            kinds = [np.bincount(fine[side]).argmax() for side in (question.left, question.right)]
            same = (kinds[0] == kinds[1]) != (random.random() < wrong)
            questions.answer(question, "same" if same else "different")
        return [Answer(int(rows[a.a]), int(rows[a.b]), a.verdict) for a in questions.answers]

    def judged(self, features: Tensor, answers: list[Answer]) -> dict[str, float]:
        """Recall on test images, and what groups are worth there after the answers."""
        tests = torch.from_numpy(self.tests)
        fine = torch.from_numpy(self.fine)[tests]
        found = recall_at(hits(features[tests], fine, self.coarse[tests], (1,)))
        said = Said(answers, np.full(len(self.fine), UNKNOWN))
        lesson = Lesson(features, self.coarse, said, self.config.seed)
        group = torch.from_numpy(lesson.questions.groups())
        return {
            "recall@1": found["recall@1"],
            "within": found["recall@1" + WITHIN],
            **{key: agreement(group[tests], fine)[key] for key in ("accuracy", "ari")},
        }


def ways(trial: Trial, wrong: float, control: bool) -> Iterator[tuple[str, dict[str, float]]]:
    """What each way is worth; and whether `train --answers` would keep what was taught."""
    answers, nobody = trial.answers(80, wrong), np.full(len(trial.fine), UNKNOWN)
    lesson = Lesson(trial.before, trial.coarse, Said(answers, nobody), trial.config.seed)
    yield "without answers", trial.judged(trial.before, answers)
    yield "taught", trial.judged(trial.head(lesson), answers)
    teach, left_out = lesson.apart()
    few = replace(lesson, said=teach)
    after = replace(few, features=trial.head(few))
    shares = [part.agreement(left_out, lesson.said) for part in (few, after)]
    yield "agreement before", shares[0]
    yield "agreement after", shares[1]
    if control:
        group = replace(lesson, said=Said([], nobody)).questions.groups()
        for name, kinds in (("groups of no answers", group), ("fine labels", trial.fine)):
            told = Said([], np.where(trial.tests, UNKNOWN, kinds))
            taught = trial.head(replace(lesson, said=told))
            yield f"taught by {name}", trial.judged(taught, answers)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--wrong", type=float, default=0.0)
    parser.add_argument("--control", action="store_true")
    parser.add_argument("--image-size", type=int, default=160)
    parser.add_argument("--backend", default="torch")
    given = parser.parse_args()
    options: dict[str, Any] = {
        "backbone": "efficientnet-lite0",
        "init": "imagenet",
        "batch_size": 0,
    }
    options |= {"image_size": given.image_size, "backend": given.backend}
    for seed in range(given.seeds):
        trial = Trial(given.data, seed, options)
        for way, found in ways(trial, given.wrong, given.control):
            shares = ", ".join(f"{name} {100 * share:.2f}" for name, share in found.items())
            print(f"seed {seed}, {way}: {shares}", flush=True)


if __name__ == "__main__":
    main()
