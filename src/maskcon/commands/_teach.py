"""What people said of the pictures of a run: whether it teaches the head, and how."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.config import Config
from maskcon.data import DataSet, Found, Split
from maskcon.discover import answers as replies
from maskcon.discover import known as labels
from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.teaching import Lesson, Said
from maskcon.methods import Lots
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.progress import Progress, Silent
from maskcon.train.frozen import rows_apart
from maskcon.train.loop import fit_silently
from maskcon.train.state import Training

Taught = tuple[Lots, Tensor]  # and the lot of each train image [N]


def taught(
    config: Config,
    found: Found,
    loaded: DataSet,
    seen: DataSet,
    held: Split | None,
    ranks: Ranks,
    progress: Progress,
) -> tuple[Taught | None, dict[str, Any]]:
    """What answers and names teach the head; None without them, or where those left out disagree.

    Two heads are trained to compare, without and with three quarters of what was said. What was
    said is about groups that the first one finds, of all pictures of the set.

    Args:
        config: of the run.
        found: its set, split, with the pictures' names.
        loaded: the same, read.
        seen: with vectors in place of pictures, without those that are held.
        held: train images that the head is judged on later.
        ranks: who share a batch.
        progress: told what was said, and what came of it.

    Returns:
        what teaches, and for run.json {"taught": {"kept": whether, "answers": how many, "named":
        how many pictures, "agreement": of those left out, before and after}}.
    """
    if config.answers is None and config.known is None:
        return None, {}
    splits = [seen.train, *([] if held is None else [held]), seen.test]
    splits += [] if seen.validation is None else [seen.validation]
    called = _names(config, found, loaded)
    coarse = torch.cat([split.coarse for split in splits])
    said = _said(config, called, coarse, progress)
    progress.update("a head without answers, to compare")
    count = len(seen.train)
    lesson = Lesson(features_of(config, seen, splits, ranks), coarse, said, config.seed)
    teach, left_out = lesson.apart()
    before = replace(lesson, said=teach)
    progress.update("a head that is taught, to compare")
    taught = features_of(config, seen, splits, ranks, of_train(before, count))
    after = replace(before, features=taught)
    shares = [part.agreement(left_out, said) for part in (before, after)]
    agreement = {name: (share, shares[1][name]) for name, share in shares[0].items()}
    kept = bool(agreement) and all(now >= then for then, now in agreement.values())
    for line in _verdict(agreement, kept):
        progress.note(line)
    facts = {"kept": kept, "answers": len(said.answers), "agreement": agreement}
    facts["named"] = int((said.named != UNKNOWN).sum())
    return of_train(lesson, count) if kept else None, {"taught": facts}


WORDS = {
    "answers": "answers that were left out, and that groups agree with",
    "names": "named pictures that were left out, and whose nearest named picture has their name",
}


def _verdict(agreement: Mapping[str, tuple[float, float]], kept: bool) -> list[str]:
    """What came of it, for people."""
    lines = []
    for name, (before, after) in agreement.items():
        lines.append(f"{WORDS[name]}: {before:.1%} before, {after:.1%} taught")
    if not agreement:
        why = "too few answers and names were left out to see whether the others teach well"
    elif not kept:
        why = "what was left out does not agree with what was taught"
    else:
        return [*lines, "the head is taught by all answers and names"]
    return [*lines, f"{why}: the head learns without them"]


def _names(config: Config, found: Found, loaded: DataSet) -> list[str]:
    """What the pictures are called that could be read, those that train first."""
    left_out = {name for name, _ in loaded.skipped}

    def readable(part: str) -> list[str]:
        pictures = found.parts[part].pictures
        every = (pictures.name(row) for row in range(len(pictures)))
        return [name for name in every if name not in left_out]

    train = readable("train")
    rows = rows_apart(len(train), config.batch_size, config.seed)
    if rows is not None:
        train = [train[int(row)] for row in torch.cat([rows[1], rows[0]])]
    others = [name for name in ("test", "validation") if name in found.parts]
    return train + [name for part in others for name in readable(part)]


def _said(config: Config, called: Sequence[str], coarse: Tensor, progress: Progress) -> Said:
    """The answers and names of the pictures."""
    answers, named = list[replies.Answer](), np.full(len(called), UNKNOWN)
    unmatched = 0
    if config.answers is not None:
        answers, missing = replies.read(Path(config.answers), called, coarse.tolist())
        unmatched += len(missing)
    if config.known is not None:
        known = labels.read(Path(config.known), called)
        named, unmatched = known.label.numpy(), unmatched + len(known.unmatched)
    count = int((named != UNKNOWN).sum())
    progress.note(f"{len(answers):,} answers, and {count:,} pictures with a name")
    if unmatched:
        progress.note(f"{unmatched:,} pictures of the answers and names are none of the data")
    return Said(answers, named)


def features_of(
    config: Config,
    seen: DataSet,
    splits: Sequence[Split],
    ranks: Ranks,
    lots: Taught | None = None,
) -> Tensor:
    """Features of all splits by a head that is trained for them."""
    training = Training(config, seen, Silent(), ranks, lots=lots)
    fit_silently(training)
    return torch.cat([training.features(split.images).cpu() for split in splits])


def of_train(lesson: Lesson, count: int) -> Taught:
    """The lots, and those of the train images."""
    lot, lots = lesson.lots()
    return lots, torch.from_numpy(lot[:count])
