"""Pickles of arrays, read without executing code from them."""

import io
import pickle
import pickletools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import numpy as np

from maskcon.errors import InputError


class _Numbers:
    """What stands in a pickle for a NumPy type of numbers; NumPy itself is not asked."""

    def __init__(self, name: Any, *ignored: Any):
        self.kind = np.dtype(_text(name))
        if self.kind.kind not in "iuf":
            raise pickle.UnpicklingError(f"its numbers are {self.kind}")

    def __setstate__(self, state: tuple) -> None:  # byte order, and what plain types do not have
        self.kind = np.dtype(_text(state[1]) + self.kind.str[1:])


class _Array:
    """What stands in a pickle for a NumPy array, which is as large as its bytes say."""

    def __init__(self, *ignored: Any):
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: tuple) -> None:
        _, shape, numbers, in_columns, content = state
        order: Literal["F", "C"] = "F" if in_columns else "C"
        self.values = np.frombuffer(content, numbers.kind).reshape(shape, order=order)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


def _as_bytes(text: str, encoding: str | bytes) -> bytes:
    """How protocol 2 writes bytes."""
    if _text(encoding) != "latin1":
        raise pickle.UnpicklingError(f"it asks for text in {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles plain values and arrays; every other name is refused, so no code runs."""

    KNOWN: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): None,  # an argument of the above
        ("numpy", "dtype"): _Numbers,
        ("_codecs", "encode"): _as_bytes,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no image needs")
        return self.KNOWN[module, name]


def unpickle(content: bytes, name: str) -> dict[str, Any]:
    """The dictionary in a pickle; its keys as text, whichever Python wrote them.

    Raises:
        InputError: it is damaged, holds something else, or asks for code.
    """
    try:
        _check_memo(content)
        value = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a damaged pickle can raise anything
        raise InputError(f"{name} cannot be unpickled: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{name} holds no dictionary: it is not what the set's owners publish")
    return {
        _text(key): entry.values if isinstance(entry, _Array) else entry
        for key, entry in value.items()
    }


def _check_memo(content: bytes) -> None:
    """See that no place in the memo is beyond the file: Python makes room up to that place."""
    for operation, place, _ in pickletools.genops(content):
        if operation.name.endswith("PUT") and place is not None and place > len(content):
            raise pickle.UnpicklingError(f"it puts a value at place {place:,}")


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
