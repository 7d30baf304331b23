"""The numbers of a page."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from maskcon.eval.diagnostics import diagnostics
from maskcon.eval.precision import query_precisions
from maskcon.eval.recall import hits, recall_at, recall_by_coarse
from maskcon.report.album import Album
from maskcon.runtime.progress import Progress
from maskcon.runtime.seeds import generator

MANY = 10_000  # pictures that all ask in what grows with the square of their number
ASKING = 5_000  # of more, drawn: a share of 50 % of them is within 1.4 % of that of all, mostly


@dataclass(frozen=True)
class Figures:
    """What the features of an album are worth.

    Attributes:
        recall: {"recall@1": share, ..., "recall@1/within_coarse": share, ...}.
        pixels: the same of raw pixels.
        frozen: the same of the network alone, where only a head on it was trained.
        by_coarse: {coarse label: {"recall@1": share, "recall@1/within_coarse": share}}.
        diagnostics: as `maskcon.eval.diagnostics` returns them, with "map@r" and "r_precision".
        hit: whether the nearest picture of each has its class, bool [N].
        precision: average precision at R of each; NaN where it is alone in its class or was not
            asked for it [N].
        asked: pictures that were, each compared with all; drawn where there are more of them.
    """

    recall: dict[str, float]
    pixels: dict[str, float]
    by_coarse: dict[int, dict[str, float]]
    diagnostics: dict[str, float]
    hit: Tensor
    precision: Tensor
    asked: int
    frozen: Mapping[str, float] | None = None

    @property
    def without_learning(self) -> dict[str, Mapping[str, float]]:
        """Recall that learning must beat, the hardest to beat first, by what it is of."""
        alone = {} if self.frozen is None else {"frozen network alone": self.frozen}
        return {**alone, "raw pixels": self.pixels}

    def as_dict(self) -> dict[str, Any]:
        """What a program wants to know: the means."""
        alone = {} if self.frozen is None else {"frozen": dict(self.frozen)}
        return {**self.recall, "pixels": self.pixels, **alone, "diagnostics": self.diagnostics}


def figures(
    album: Album, pixels: Tensor, frozen: Mapping[str, float] | None, progress: Progress
) -> Figures:
    """Recall among all and within coarse classes, beside that without learning; diagnostics.

    Recall of the features is that of all pictures. Of more than 10,000 pictures 5,000 are drawn for
    the recall of raw pixels, precision, coarse accuracy and uniformity.

    Args:
        album: the pictures. Without fine labels, all is about coarse ones.
        pixels: of the pictures, uint8 [N, 3, S, S].
        frozen: recall of the network alone, where only a head on it was trained.
        progress: told what is computed.
    """
    progress.update("recall of the features")
    found = hits(album.features, album.label, album.own_coarse)
    rows = None
    if len(album) > MANY:
        drawn = torch.randperm(len(album), generator=generator(album.seed, "map", 1))
        rows = drawn[:ASKING].sort().values
    progress.update("recall of raw pixels")
    levels = normalize(pixels.flatten(1).float().div_(255).sub_(0.5), dim=1)
    plain = hits(levels, album.label, album.own_coarse, rows=rows)
    del levels
    progress.update("precision and diagnostics")
    average, precision = query_precisions(album.features, album.label, rows)
    worth = diagnostics(album.features, album.coarse, album.fine, rows=rows)
    known = ~average.isnan()
    if known.any():
        worth["map@r"] = average[known].mean().item()
        worth["r_precision"] = precision[known].mean().item()
    return Figures(
        recall=recall_at(found),
        pixels=recall_at(plain),
        by_coarse=recall_by_coarse(found, album.coarse),
        diagnostics=worth,
        hit=found["recall@1"],
        precision=average,
        asked=len(album) if rows is None else len(rows),
        frozen=frozen,
    )
