"""Pickles of arrays, read without executing code from them."""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from maskcon.errors import InputError


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain values and NumPy arrays; every other name is refused, so no code runs."""

    ALLOWED = frozenset(
        {
            ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("numpy", "ndarray"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),  # how protocol 2 writes bytes
        }
    )

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image needs")
        return super().find_class(module, name)


def unpickle(content: bytes, name: str) -> dict[str, Any]:
    """The dictionary in a pickle; its keys as text, whichever Python wrote them.

    Raises:
        InputError: it is damaged, holds something else, or asks for code.
    """
    try:
        value = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{name} cannot be unpickled: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} holds no dictionary: it is not what the set's owners publish")
    return {k.decode() if isinstance(k, bytes) else str(k): v for k, v in value.items()}


def entry(content: Mapping[str, Any], key: str, name: str) -> Any:
    """A value of a dictionary, or an `InputError`."""
    if key not in content:
        raise InputError(f"{name} has no entry {key}: it is not what the set's owners publish")
    return content[key]


def small_images(content: Mapping[str, Any], name: str) -> np.ndarray:
    """The 32 px images of a batch of CIFAR or ImageNet32: uint8 [N, 3, 32, 32]."""
    images = entry(content, "data", name)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 2:
        raise InputError(f"data of {name} is no table of uint8 images")
    if images.shape[1] != 3 * 32 * 32:
        raise InputError(f"images of {name} have {images.shape[1]} values: expected 3,072")
    return images.reshape(-1, 3, 32, 32)
