"""A random change of a uint8 batch, in two halves: what is drawn, and what is done with it."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor


@dataclass(frozen=True)
class Change:
    """A change that images of several steps can go through together.

    Each step draws from a generator of its own; the drawn rows of several steps, one after the
    other, change their images as they would have been changed one step at a time.

    Attributes:
        draw: (N, generator) -> what each image draws, on the processor [N, ...]; None is
            torch's global generator.
        apply: (images uint8 [N, 3, H, W], drawn) -> the same shape, on the images' device.
            Nothing in it waits for the device.
    """

    draw: Callable[[int, Generator | None], Tensor]
    apply: Callable[[Tensor, Tensor], Tensor]

    def __call__(self, images: Tensor, generator: Generator | None = None) -> Tensor:
        """Draw and apply."""
        return self.apply(images, self.draw(len(images), generator))
