"""Whether an export says what the encoder says, on pictures."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from maskcon.encoder import Encoder
from maskcon.errors import InputError

# Of vectors of unit length in float32. Another order of summation moves a component by about
# 1e-6; a forgotten normalisation, another resize or a wrong epsilon by more than 1e-3.
MAX_DIFFERENCE = 1e-4
MIN_COSINE = 0.99999
BATCH = 32


@dataclass(frozen=True)
class Agreement:
    """How near two sets of vectors of the same images are.

    Attributes:
        max_difference: the largest of any component.
        min_cosine: the smallest of any image.
        images: how many.
    """

    max_difference: float
    min_cosine: float
    images: int

    @classmethod
    def between(cls, expected: Tensor, found: Tensor) -> "Agreement":
        """Compare [N, F] with [N, F], both of unit length.

        Raises:
            InputError: they have different shapes.
        """
        if expected.shape != found.shape:
            raise InputError(
                f"the export gives vectors {list(found.shape)}, the encoder "
                f"{list(expected.shape)}: it was not kept"
            )
        a, b = expected.double(), found.double()
        cosine = torch.nn.functional.cosine_similarity(a, b, dim=1)
        return cls((a - b).abs().max().item(), cosine.min().item(), len(a))

    def check(self, what: str) -> "Agreement":
        """This, if it is near enough.

        Raises:
            InputError: it is not.
        """
        # written so that NaN is refused
        if not (self.max_difference <= MAX_DIFFERENCE and self.min_cosine >= MIN_COSINE):
            raise InputError(
                f"{what} does not agree with the encoder on {self.images} pictures: a component "
                f"differs by {self.max_difference:.2e} ({MAX_DIFFERENCE:.0e} allowed), the "
                f"smallest cosine is {self.min_cosine:.6f} ({MIN_COSINE} needed). It was not kept"
            )
        return self


@torch.no_grad()
def vectors_of(encoder: Encoder, images: Tensor) -> Tensor:
    """What the encoder says in float32 of squares uint8 [N, 3, S, S]: [N, F], unit length."""
    prepare = encoder.preprocessing.normalise
    feature = [encoder.network.backbone(prepare(part)).float() for part in images.split(BATCH)]
    return normalize(torch.cat(feature), dim=1)
