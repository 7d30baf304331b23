"""Vectors of images in place of the images: what a frozen encoder says of some views of each."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Generator, Tensor

from maskcon.errors import InputError


@dataclass(frozen=True, eq=False)
class FeatureAugmentation:
    """What happens to a vector in a strong view, besides the choice among its image's views.

    Attributes:
        noise: length of normal noise along each of the directions.
        dropout: share of the dimensions that are set to their mean, in [0, 1).
        directions: float32 [K, F].
        mean: of each dimension, float32 [F].
    """

    noise: float
    dropout: float
    directions: Tensor
    mean: Tensor

    def __call__(self, vectors: Tensor, random: Generator) -> Tensor:
        """Disturbed vectors [n, F]; random numbers are drawn on the processor."""
        device = vectors.device
        if self.noise:
            noise = torch.randn(len(vectors), len(self.directions), generator=random)
            vectors = torch.addmm(vectors, noise.to(device), self.directions, alpha=self.noise)
        if self.dropout:
            kept = torch.rand(vectors.shape, generator=random) >= self.dropout
            vectors = torch.where(kept.to(device), vectors, self.mean)
        return vectors


@dataclass(frozen=True, eq=False)
class Features:
    """Vectors of views of N images.

    Attributes:
        values: float32 or float16 [N, V, F]; the first view of each is the whole image, and
            what evaluations look at.
        normalisation: mean and std of each channel, for levels in 0..1, of the pictures
            that they were made of; empty where others made them.
        parts: widths of what a vector is made of; by default it is of one piece.
    """

    values: Tensor
    normalisation: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    parts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """F, of a vector."""
        return self.values.shape[2]

    @property
    def digest(self) -> str:
        """Tells these vectors from others."""
        digest = hashlib.blake2b(str(tuple(self.values.shape)).encode(), digest_size=16)
        digest.update(self.values.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def to(self, device: torch.device) -> "Features":
        """The same on a device."""
        return replace(self, values=self.values.to(device))

    def first(self, rows: slice | Tensor) -> Tensor:
        """The first view of some images: float32 [n, F]."""
        return self.values[rows, 0].float()

    @cached_property
    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and std of each dimension over the first views, float32 [F] both."""
        total = torch.zeros(self.width, dtype=torch.float64, device=self.values.device)
        squares = total.clone()
        for part in self.values[:, 0].split(8192):
            exact = part.double()
            total += exact.sum(0)
            squares += exact.square().sum(0)
        mean = total / len(self)
        std = (squares / len(self) - mean.square()).clamp(min=0).sqrt()
        return mean.float(), std.float()

    def view(
        self, rows: Tensor, kind: str, augmentation: FeatureAugmentation | None, random: Generator
    ) -> Tensor:
        """A view of some images: float32 [n, F].

        Args:
            rows: int64 [n], where the vectors are.
            kind: "plain" is the first view of each; "weak" one of its views at random; any
                other that, augmented.
            augmentation: how.
            random: on the processor.
        """
        if kind == "plain":
            return self.first(rows)
        which = torch.randint(self.values.shape[1], (len(rows),), generator=random)
        chosen = self.values[rows, which.to(self.values.device)].float()
        if kind == "weak" or augmentation is None:
            return chosen
        return augmentation(chosen, random)


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

    def kind(self, row: int) -> str:
        """What it is."""
        return f"vectors {list(self.features.values.shape[1:])}"

    def _no_picture(self, row: int) -> InputError:
        return InputError(
            f"{self.names[row]} of {self.source} is a vector, not a picture: give --features for "
            "vectors and --data for pictures"
        )
