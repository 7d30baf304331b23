"""Pictures and labels that are in memory already."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from maskcon.data.image_file import decode, rgb
from maskcon.data.pictures import Arrays
from maskcon.data.table import Found, Part, numbered
from maskcon.errors import InputError

CHANNELS = (1, 3, 4)  # of a picture
BANDS = 16  # that a picture of more than three colours, as from a satellite, may have


def from_arrays(
    images: Any,
    coarse: Sequence,
    fine: Sequence | None = None,
    *,
    test: tuple | None = None,
    name: str = "arrays",
) -> Found:
    """A data set of arrays, for `maskcon.commands.train(data=...)`.

    Args:
        images: uint8, NumPy [N, H, W, 3] or [N, H, W] (grey), torch [N, 3, H, W], or a
            sequence of [H, W, 3] or [H, W] arrays of any sizes.
        coarse: label of each image, as text or whole numbers [N].
        fine: the same; None where nobody labelled them.
        test: (images, coarse) or (images, coarse, fine) of a test split; without one, a share
            of the images becomes it.
        name: of the set.

    Raises:
        InputError: something has another type or length.
    """
    if coarse is None:
        raise InputError("coarse is None: give a coarse label for each image")
    given: dict[str, tuple[Any, Any, Any]] = {"train": (images, coarse, fine)}
    if test is not None:
        if len(test) not in (2, 3):
            raise InputError(f"test has {len(test)} parts: expected (images, coarse[, fine])")
        given["test"] = (test[0], test[1], test[2] if len(test) == 3 else None)
    if len({part[2] is None for part in given.values()}) > 1:
        raise InputError("fine labels for one split and not for the other: give both or none")
    levels: dict[str, tuple[Tensor, tuple[str, ...]]] = {}
    for place, level in ((1, "coarse"), (2, "fine")):
        if given["train"][place] is None:
            continue
        columns = [part[place] for part in given.values()]
        values = [_text(value, level) for column in columns for value in column]
        levels[level] = numbered(values)
    parts, starts = {}, dict.fromkeys(levels, 0)
    for part, (pictures, *columns) in given.items():
        if isinstance(pictures, np.ndarray) and pictures.ndim == 3 and pictures.shape[2] in (3, 4):
            raise InputError(
                f"{part} images are an array {list(pictures.shape)}, one picture: expected uint8 "
                "[N, H, W, 3] or [N, H, W]"
            )
        found = Arrays(_images(pictures, part), f"{name} ({part})")
        labels = {}
        for (level, (codes, _)), column in zip(levels.items(), columns, strict=False):
            labels[level] = codes[starts[level] :][: len(column)]  # `Part` holds it to the pictures
            starts[level] += len(column)
        parts[part] = Part(found, labels["coarse"], labels.get("fine"))
    fine_names = levels["fine"][1] if "fine" in levels else ()
    return Found(name, parts, levels["coarse"][1], fine_names)


def pictures_of(images: Any, name: str = "arrays") -> Arrays:
    """Pictures without labels, of whatever `from_arrays` takes.

    Each of a sequence may also be a Pillow image, an image file's path or bytes, or an array with
    an alpha channel or its channels first.

    Raises:
        InputError: something has another type or shape.
    """
    return Arrays(_images(images, name), name)


def one_or_several(images: Any, name: str = "arrays") -> Arrays:
    """What `pictures_of` takes, or one picture alone.

    Args:
        images: one is a Pillow image, the bytes of an image file, uint8 [H, W], [H, W, 1],
            [H, W, 3] or [H, W, 4], or a tensor [3, H, W].
        name: what people know them as.

    Raises:
        InputError: something has another type or shape, or may be one picture as well as several.
    """
    if is_one(images):
        return pictures_of([images], name)
    if isinstance(images, np.ndarray) and images.ndim == 3:
        count, height, width = images.shape
        bands = width <= BANDS and width < height  # [H, W, C]
        if count in (2, 3, 4) or bands:
            raise InputError(
                f"{name} are an array {list(images.shape)}, which may be one picture "
                + (f"of {width} bands" if bands else "with its channels first")
                + " or several grey ones: give [H, W, 3], or a list of pictures"
            )
    return pictures_of(images, name)


CONTENT = bytes | bytearray | memoryview  # the content of an image file


def is_one(images: Any) -> bool:
    """Whether something is one picture, not several."""
    if isinstance(images, CONTENT | Image.Image):
        return True
    if not isinstance(images, np.ndarray | Tensor):
        return False
    # a tensor's channels come first, and several pictures have four axes
    single = images.ndim == 3 and (isinstance(images, Tensor) or images.shape[2] in (1, 3, 4))
    return images.ndim == 2 or single


def _text(value: Any, level: str) -> str:
    if isinstance(value, Tensor | np.generic):
        value = value.item()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InputError(f"{level} label {value!r}: expected text or a whole number")
    return str(value)


def _images(images: Any, part: str) -> Tensor | list[np.ndarray]:
    if isinstance(images, Tensor | np.ndarray) and 0 in images.shape[1:]:
        raise InputError(f"{part} images have the shape {list(images.shape)}: no pixels")
    if isinstance(images, Tensor):
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise InputError(
                f"{part} images are a tensor of {images.dtype} {list(images.shape)}: expected "
                "uint8 [N, 3, H, W]"
            )
        return images.cpu()
    if isinstance(images, np.ndarray):
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or images.shape[3:] not in ((), (3,))
        ):
            raise InputError(
                f"{part} images are an array of {images.dtype} {list(images.shape)}: expected "
                "uint8 [N, H, W, 3] or [N, H, W]"
            )
        if images.ndim == 3:
            images = np.repeat(images[..., None], 3, axis=3)
        return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    if not isinstance(images, Iterable):
        raise InputError(
            f"{part} are {type(images).__name__}: expected pictures, as paths, arrays, Pillow "
            "images or the bytes of image files"
        )
    return [_picture(image, f"{part} image {row}") for row, image in enumerate(images)]


def _picture(image: Any, name: str) -> np.ndarray:
    """One picture, uint8 [H, W, 3], as the file with the same picture would be read."""
    if isinstance(image, str | Path):
        return decode(Path(image), str(image))
    if isinstance(image, CONTENT):
        return decode(bytes(image), name)
    if isinstance(image, Image.Image):
        return rgb(ImageOps.exif_transpose(image))
    if isinstance(image, Tensor) and image.dtype != torch.uint8:  # NumPy has not all of its types
        raise InputError(
            f"{name} is of {image.dtype} {list(image.shape)}: expected uint8 [3, H, W]"
        )
    array = np.asarray(image.cpu() if isinstance(image, Tensor) else image)
    if array.ndim == 3 and array.shape[0] in CHANNELS and array.shape[2] not in CHANNELS:
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if (
        array.dtype != np.uint8
        or not array.size
        or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in CHANNELS))
    ):
        raise InputError(
            f"{name} is of {array.dtype} {list(array.shape)}: expected uint8 [H, W, 3], [H, W, 4] "
            "or [H, W]"
        )
    return rgb(Image.fromarray(np.ascontiguousarray(array)))
