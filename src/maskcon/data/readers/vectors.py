"""Vectors where other readers find pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from maskcon.data.images import Features
from maskcon.data.pictures import Files, Gathering, Pictures
from maskcon.errors import InputError


class FeatureRows(Pictures):
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


@dataclass(frozen=True, eq=False)
class Computed:
    """Vectors of pictures that an encoder has made before.

    Attributes:
        vectors: float32 [N, F], unit length.
        identity: of the encoder.
        source: the file that they came from.
    """

    vectors: np.ndarray
    identity: str
    source: str

    def take(self, rows: np.ndarray) -> "Computed":
        """Some of the rows, in that order."""
        return replace(self, vectors=self.vectors[rows])

    def check(self, identity: str) -> None:
        """Raise `InputError` where they are not of the encoder that is asked for theirs."""
        if self.identity != identity:
            raise InputError(
                f"{self.source} has the vectors of the encoder {self.identity[:8]}, and that of "
                f"this run is {identity[:8]}: give the run that they were made with, or embed the "
                "pictures anew with this one"
            )


class Embedded(Files):
    """Image files of which an encoder's vectors are there.

    Args:
        paths: of the files [N].
        computed: their vectors.
    """

    def __init__(self, paths: Sequence[str], computed: Computed):
        super().__init__(paths)
        self.computed: Computed | None = computed

    def __getstate__(self) -> dict[str, Any]:  # a loader's process decodes, and asks nothing else
        return {**super().__getstate__(), "computed": None}


_FEATURES = Gathering(
    own=lambda lot: lot.features if isinstance(lot, FeatureRows) else None,
    take=lambda whole, rows: whole.take(torch.from_numpy(rows)),
    join=lambda lots: replace(lots[0], values=torch.cat([lot.values for lot in lots])),
)
_COMPUTED = Gathering(
    own=lambda lot: lot.computed if isinstance(lot, Embedded) else None,
    take=Computed.take,
    join=lambda lots: replace(lots[0], vectors=np.concatenate([lot.vectors for lot in lots])),
)


def features_of(pictures: Pictures) -> Features | None:
    """The vectors that there are in place of pictures; None where there are pictures."""
    return pictures.gathered(_FEATURES)


def computed_of(pictures: Pictures) -> Computed | None:
    """The vectors that are there beside pictures; None where not all of them have one."""
    return pictures.gathered(_COMPUTED)
