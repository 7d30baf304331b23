"""A view: a crop, and what happens to it; the views by name."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from maskcon.data.augment.autoaugment import cifar10_policy
from maskcon.data.augment.change import Change
from maskcon.data.augment.photo import colour, perspective, simclr_colour


@dataclass(frozen=True)
class View:
    """A pipeline.

    Attributes:
        summary: one line for people.
        crop_scale: smallest share of an image's area that a crop at random keeps, unless a run
            says otherwise (torchvision's RandomResizedCrop, aspect 3/4-4/3, and a horizontal
            flip); None is the whole image, resized to a square.
        changes: what happens to the squares, in this order.
    """

    summary: str
    crop_scale: float | None = 0.2
    changes: tuple[Change, ...] = ()

    def area(self, crop_scale: float | None) -> float | None:
        """Smallest share of an image that is kept where a run says crop_scale; None is all."""
        return self.crop_scale if self.crop_scale is None else crop_scale or self.crop_scale

    def draw(self, n: int, generator: Generator | None) -> list[Tensor]:
        """What n images draw for each change."""
        return [change.draw(n, generator) for change in self.changes]

    def apply(self, images: Tensor, drawn: Sequence[list[Tensor]]) -> Tensor:
        """All changes, one after the other.

        Args:
            images: uint8 [N, 3, S, S] of one batch or of several together.
            drawn: for each batch, what `draw` gave.
        """
        for number, change in enumerate(self.changes):
            images = change.apply(images, torch.cat([one[number] for one in drawn]))
        return images


# To add one in a script: VIEWS["mine"] = View(...), before training begins.
VIEWS: dict[str, View] = {
    "plain": View("the whole image, resized to a square (the aspect is not kept)", None),
    "weak": View("crop and flip"),
    "strong": View("crop, flip and the CIFAR-10 AutoAugment policy", changes=(cifar10_policy,)),
    "perspective": View("crop, flip and perspective", changes=(perspective,)),
    "jitter": View(
        "crop, flip, perspective, colour jitter, grey and blur", changes=(perspective, colour)
    ),
    "moco": View("MoCo v2's: crop, flip, colour jitter, grey and blur", changes=(colour,)),
    "simclr": View(
        "SimCLR's: crop of 8 % or more, flip, twice moco's jitter, grey and blur; up to 64 px "
        "moco's jitter and no blur",
        0.08,
        (simclr_colour,),
    ),
}
