"""Vectors where other readers find pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from maskcon.data.images import Features
from maskcon.data.pictures import Chosen, Joined, Pictures
from maskcon.errors import InputError


class FeatureRows:
    """Vectors where readers have pictures: rows with names, which nobody can look at.

    Args:
        features: N of them.
        names: of the pictures that they are of [N].
        source: the file that they came from.
    """

    def __init__(self, features: Features, names: Sequence[str], source: str):
        self.features, self.names, self.source = features, names, source

    def __len__(self) -> int:
        return len(self.features)

    def name(self, row: int) -> str:
        """The path of the picture, or the row."""
        return self.names[row]

    def size(self, row: int) -> tuple[int, int]:
        """There are no pixels."""
        raise self._no_picture(row)

    def decode(self, row: int, reduce: int = 1) -> np.ndarray:
        """There are no pixels."""
        raise self._no_picture(row)

    def digest(self, row: int) -> bytes:
        """Of the vectors of a row."""
        return hashlib.blake2b(self.features.values[row].numpy().data, digest_size=16).digest()

    def length(self, row: int) -> int:
        """Of the vectors of a row."""
        return self.features.values[row].nbytes

    def kind(self, row: int) -> str:
        """What it is."""
        return f"vectors {list(self.features.values.shape[1:])}"

    def _no_picture(self, row: int) -> InputError:
        return InputError(
            f"{self.names[row]} of {self.source} is a vector, not a picture: give --features for "
            "vectors and --data for pictures"
        )


def features_of(pictures: Pictures) -> Features | None:
    """The vectors that there are in place of pictures; None where there are pictures."""
    if isinstance(pictures, Joined):
        lots = [features_of(lot) for lot in pictures.lots]
        there = [lot for lot in lots if lot is not None]
        if not there or len(there) < len(lots):
            return None
        return replace(there[0], values=torch.cat([lot.values for lot in there]))
    rows: Tensor | slice = slice(None)
    if isinstance(pictures, Chosen):
        rows = torch.from_numpy(pictures.rows)
        pictures = pictures.pictures
    if not isinstance(pictures, FeatureRows):
        return None
    return pictures.features.take(rows)
