"""How pictures become a network's input: their size, and the normalisation of their levels."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Preprocessing:
    """How images become an encoder's input.

    Attributes:
        image_size: side in pixels.
        mean, std: of each channel, for levels in 0..1.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Preprocessing":
        """Read from the content of encoder.json."""
        return cls(description["image_size"], tuple(description["mean"]), tuple(description["std"]))

    def described(self) -> dict[str, Any]:
        """As `of` reads it: plain values, those that JSON gives back."""
        return {"image_size": self.image_size, "mean": [*self.mean], "std": [*self.std]}

    @property
    def digested(self) -> str:
        """What digests of encoders and of kept vectors hold: names as 0.1 had them."""
        size, mean, std = self.image_size, self.mean, self.std
        return f"Preparation(image_size={size}, mean={mean}, deviation={std})"

    def normalise(self, images: Tensor) -> Tensor:
        """Images uint8 [N, 3, H, W] as float32 of mean 0 and std 1; channels last.

        Vectors float32 [N, F] stay as they are.
        """
        if images.ndim == 2:
            return images
        n, _, height, width = images.shape
        levels = images.permute(0, 2, 3, 1).to(torch.float32, memory_format=torch.contiguous_format)
        # A row of pixels at a time, since the three channels alone are too short to be fast.
        rows = levels.view(n * height, width * 3)
        scale, shift = _row(self.mean, self.std, width, images.device)
        torch.addcmul(shift, rows, scale, out=rows)
        return levels.permute(0, 3, 1, 2)


@lru_cache(maxsize=8)
def _row(
    mean: tuple[float, ...], std: tuple[float, ...], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Factor and summand of each level of a row of pixels [W * 3]; kept where they are used."""
    scale = 1 / (255 * torch.tensor(std))
    shift = -torch.tensor(mean) / torch.tensor(std)
    return scale.repeat(width).to(device), shift.repeat(width).to(device)
