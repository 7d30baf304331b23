"""Views of a whole uint8 batch, on its device, with random draws of each image's own.

`views` is the way in; `VIEWS` names the pipelines. A view is a crop, resized to a square and
perhaps mirrored, and then what `View.change` does with the squares: pictures that do not fit
into memory are cropped where they are decoded, and changed as a batch like all others. The
random numbers are drawn on the generator's device (the processor, in training), so that one
seed gives the same views on every device.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from maskcon.data.augment.autoaugment import cifar10_policy
from maskcon.data.augment.change import Change
from maskcon.data.augment.crop import Crops, random_crops, resample, whole
from maskcon.data.augment.photo import colour, perspective
from maskcon.errors import InputError

__all__ = ["VIEWS", "Crops", "View", "draw_crops", "views"]


@dataclass(frozen=True)
class View:
    """A pipeline.

    Attributes:
        summary: one line for people.
        crops: a crop at random (torchvision's RandomResizedCrop, aspect 3/4-4/3, and a
            horizontal flip); else the whole image, resized to a square.
        changes: what happens to the squares, in this order.
    """

    summary: str
    crops: bool = True
    changes: tuple[Change, ...] = ()

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


VIEWS: dict[str, View] = {
    "plain": View("the whole image, resized to a square (the aspect is not kept)", crops=False),
    "weak": View("crop and flip"),
    "strong": View("crop, flip and the CIFAR-10 AutoAugment policy", changes=(cifar10_policy,)),
    "perspective": View("crop, flip and perspective", changes=(perspective,)),
    "jitter": View(
        "crop, flip, perspective, colour jitter, grey and blur", changes=(perspective, colour)
    ),
}


def draw_crops(
    kind: str, sizes: Tensor, *, crop_scale: float, flip: bool, generator: Generator | None
) -> Crops:
    """The crops of a view.

    Args:
        kind: a name in `VIEWS`.
        sizes: height and width of each image, int64 [N, 2].
        crop_scale: smallest share of an image's area that a crop keeps, in (0, 1].
        flip: mirror every other view left to right.
        generator: source of the random numbers; None is torch's global one.
    """
    if not VIEWS[kind].crops:
        return whole(sizes)
    return random_crops(sizes, area=crop_scale, flip=flip, generator=generator)


def views(
    images: Tensor,
    kind: str,
    *,
    size: int = 32,
    crop_scale: float = 0.2,
    flip: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    """One view of each image.

    Args:
        images: uint8 [N, 3, H, W], on any device.
        kind: a name in `VIEWS`: "plain", "weak", "strong", "perspective" or "jitter".
        size: side of the square views, in pixels.
        crop_scale: smallest share of an image's area that a crop keeps, in (0, 1].
        flip: mirror every other view left to right.
        generator: source of the random numbers; None is torch's global one.

    Returns:
        float32 [N, 3, size, size] in 0..1, before normalisation, on the images' device.

    Raises:
        InputError: the images are no uint8 batch, or there is no such kind.
    """
    if kind not in VIEWS:
        raise InputError(f"there is no view {kind!r}: choose one of {', '.join(VIEWS)}")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"images are {images.dtype} {list(images.shape)}: expected uint8 [N, 3, H, W]"
        )
    if not 0 < crop_scale <= 1:
        raise InputError(f"crop_scale is {crop_scale}: expected a share above 0, up to 1")
    sizes = torch.tensor(images.shape[2:]).expand(len(images), 2)
    crops = draw_crops(kind, sizes, crop_scale=crop_scale, flip=flip, generator=generator)
    squares = cut(images, crops, size)
    view = VIEWS[kind]
    return view.apply(squares, [view.draw(len(squares), generator)]).float().div_(255)


def cut(images: Tensor, crops: Crops, size: int) -> Tensor:
    """Crops of images uint8 [N, 3, H, W] as squares uint8 [N, 3, size, size]."""
    if crops.whole and images.shape[2:] == (size, size):
        return images
    return resample(images, crops.boxes, size, crops.mirrored)
