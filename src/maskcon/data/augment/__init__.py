"""Views of a whole uint8 batch, on its device, with random draws of each image's own.

`views` is the way in; `VIEWS` names the pipelines. A view is a crop, resized to a square and
perhaps mirrored, and then what `View.apply` does with the squares: pictures that do not fit
into memory are cropped where they are decoded, and changed as a batch like all others. The
random numbers are drawn on the generator's device (the processor, in training), so that one
seed gives the same views on every device.
"""

import torch
from torch import Generator, Tensor

from maskcon.data.augment.crop import Crops, random_crops, resample, whole
from maskcon.data.augment.own import view_of, with_named_views
from maskcon.data.augment.view import VIEWS, View
from maskcon.errors import InputError

__all__ = ["VIEWS", "Crops", "View", "draw_crops", "view_of", "views", "with_named_views"]


def draw_crops(
    area: float | None, sizes: Tensor, *, flip: bool, generator: Generator | None
) -> Crops:
    """The crops of a view.

    Args:
        area: what `View.area` says.
        sizes: height and width of each image, int64 [N, 2].
        flip: mirror every other view left to right.
        generator: source of the random numbers; None is torch's global one.
    """
    if area is None:
        return whole(sizes)
    return random_crops(sizes, area=area, flip=flip, generator=generator)


def views(
    images: Tensor,
    kind: str,
    *,
    size: int = 32,
    crop_scale: float | None = None,
    flip: bool = True,
    generator: Generator | None = None,
) -> Tensor:
    """One view of each image.

    Args:
        images: uint8 [N, 3, H, W], on any device.
        kind: a name in `VIEWS` ("plain", "weak", "strong", "perspective", "jitter", "moco" or
            "simclr"), or module:attribute, as `view_of` takes it.
        size: side of the square views, in pixels.
        crop_scale: smallest share of an image's area that a crop keeps, in (0, 1]; None is the
            view's own.
        flip: mirror every other view left to right.
        generator: source of the random numbers; None is torch's global one.

    Returns:
        float32 [N, 3, size, size] in 0..1, before normalisation, on the images' device.

    Raises:
        InputError: the images are no uint8 batch, or there is no such kind.
    """
    view = view_of(kind)
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise InputError(
            f"images are {images.dtype} {list(images.shape)}: expected uint8 [N, 3, H, W]"
        )
    if crop_scale is not None and not 0 < crop_scale <= 1:
        raise InputError(f"crop_scale is {crop_scale}: expected a share above 0, up to 1")
    sizes = torch.tensor(images.shape[2:]).expand(len(images), 2)
    crops = draw_crops(view.area(crop_scale), sizes, flip=flip, generator=generator)
    squares = cut(images, crops, size)
    return view.apply(squares, [view.draw(len(squares), generator)]).float().div_(255)


def cut(images: Tensor, crops: Crops, size: int) -> Tensor:
    """Crops of images uint8 [N, 3, H, W] as squares uint8 [N, 3, size, size]."""
    if crops.whole and images.shape[2:] == (size, size):
        return images
    return resample(images, crops.boxes, size, crops.mirrored)
