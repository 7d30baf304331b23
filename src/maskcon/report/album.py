"""The judged pictures of a run: what every part of its page looks at."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from maskcon.data.images import Images

_PLACED = re.compile(r"((?:row|image) \d+ of )(.*)", re.DOTALL)  # what rows of files are called


@dataclass(frozen=True)
class Album:
    """Test pictures with what is known of them.

    Attributes:
        images: the pictures.
        features: float32 [N, F], unit length.
        coarse: coarse label of each [N].
        fine: fine label of each [N]; None where nobody labelled them.
        names: of the pictures, for people [N].
        coarse_names, fine_names: of the classes.
        workers: that read pictures.
        seed: of what is drawn.
    """

    images: Images
    features: Tensor
    coarse: Tensor
    fine: Tensor | None
    names: Sequence[str]
    coarse_names: Sequence[str]
    fine_names: Sequence[str]
    workers: int = 1
    seed: int = 0

    def __len__(self) -> int:
        return len(self.features)

    @property
    def label(self) -> Tensor:
        """What neighbours are judged by: fine labels, or coarse ones where there are no others."""
        return self.coarse if self.fine is None else self.fine

    @property
    def own_coarse(self) -> Tensor | None:
        """The coarse labels where there are finer ones inside of them; else None."""
        return None if self.fine is None or len(self.coarse_names) == 1 else self.coarse

    @property
    def class_names(self) -> list[str]:
        """Of the classes of `label`; in a tree, "coarse/fine" is called "fine"."""
        if self.fine is None:
            return list(self.coarse_names)
        short = [name.rpartition("/")[2] or name for name in self.fine_names]
        return [
            s if short.count(s) == 1 else n for s, n in zip(short, self.fine_names, strict=True)
        ]

    @property
    def ratio(self) -> Tensor:
        """Width over height of each picture, float32 [N]."""
        return self.images.sizes[:, 1] / self.images.sizes[:, 0]

    def pixels(self) -> Tensor:
        """The pictures as uint8 [N, 3, S, S]; those that are not in memory as squares of 32 px."""
        return self.images.raw(self.workers)

    def verdict(self, query: int, neighbour: int) -> str:
        """What a neighbour is to a query: "right", "near" (coarse class alone) or "wrong"."""
        if self.label[query] == self.label[neighbour]:
            return "right"
        return "near" if self.coarse[query] == self.coarse[neighbour] else "wrong"


def short_names(names: Sequence[str]) -> list[str]:
    """Names of pictures without the folder that all of them lie in.

    A page is shown to others, who need not know where its maker's files are.
    """
    split = [("", name) if (m := _PLACED.fullmatch(name)) is None else m.groups() for name in names]
    folders = {os.path.dirname(path) for _, path in split}  # noqa: PTH120 - no path, perhaps
    try:
        common = os.path.commonpath(folders) if folders else ""
    except ValueError:  # some absolute, some not
        return list(names)
    skip = len(common.rstrip("/")) + 1 if common else 0
    return [lead + path[skip:] for lead, path in split]
