"""Views of a whole uint8 batch, on its device, with random draws of each image's own.

`views` is the way in; `VIEWS` names the pipelines. The random numbers are drawn on the
generator's device (the processor, in training), so that one seed gives the same views on
every device.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from maskcon.augment.autoaugment import cifar10_policy
from maskcon.augment.crop import random_boxes, resample, whole_boxes
from maskcon.errors import InputError


@dataclass(frozen=True)
class Crop:
    """How the random views crop.

    Attributes:
        size: side of the square views, in pixels.
        area: smallest share of an image's area that a crop keeps, in (0, 1].
        flip: mirror every other view left to right.
    """

    size: int = 32
    area: float = 0.2
    flip: bool = True


def plain(images: Tensor, crop: Crop, generator: Generator | None) -> Tensor:
    """The whole image, resized to a square (the aspect is not kept). No random numbers."""
    if images.shape[2:] == (crop.size, crop.size):
        return images
    return resample(images, whole_boxes(images), crop.size)


def weak(images: Tensor, crop: Crop, generator: Generator | None) -> Tensor:
    """RandomResizedCrop (aspect 3/4-4/3) and horizontal flip."""
    boxes = random_boxes(images, scale=(crop.area, 1.0), generator=generator)
    mirrored = torch.rand(len(images), generator=generator, device=boxes.device) < 0.5
    return resample(images, boxes, crop.size, mirrored if crop.flip else None)


def strong(images: Tensor, crop: Crop, generator: Generator | None) -> Tensor:
    """`weak`, then the CIFAR-10 AutoAugment policy."""
    return cifar10_policy(weak(images, crop, generator), generator)


# (images uint8 [N, 3, H, W], crop, generator) -> uint8 [N, 3, size, size]
VIEWS: dict[str, Callable[[Tensor, Crop, Generator | None], Tensor]] = {
    "plain": plain,
    "weak": weak,
    "strong": strong,
}


def views(
    images: Tensor,
    kind: str,
    *,
    size: int = 32,
    crop_area: float = 0.2,
    flip: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    """One view of each image.

    Args:
        images: uint8 [N, 3, H, W], on any device.
        kind: a name in `VIEWS`: "plain", "weak" or "strong".
        size: side of the square views, in pixels.
        crop_area: smallest share of an image's area that a crop keeps, in (0, 1].
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
    if not 0 < crop_area <= 1:
        raise InputError(f"crop_area is {crop_area}: expected a share above 0, up to 1")
    return VIEWS[kind](images, Crop(size, crop_area, flip), generator).float().div_(255)
