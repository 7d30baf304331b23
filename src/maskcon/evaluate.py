"""What a trained encoder is worth: features and Recall@K."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.augment import views
from maskcon.data.table import Split
from maskcon.device import Precision
from maskcon.errors import InputError
from maskcon.model import Encoder
from maskcon.retrieval import nearest_others, recall

BATCH = 500
KS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Preparation:
    """How images become an encoder's input.

    Attributes:
        image_size: side in pixels.
        mean, deviation: of each channel, for levels in 0..1.
    """

    image_size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> "Preparation":
        """Read from the content of encoder.json."""
        return cls(**{field.name: description[field.name] for field in fields(cls)})

    def normalise(self, images: Tensor) -> Tensor:
        """Levels in 0..1, [N, 3, H, W], to mean 0 and deviation 1; channels last."""
        mean = images.new_tensor(self.mean)[:, None, None]
        deviation = images.new_tensor(self.deviation)[:, None, None]
        return ((images - mean) / deviation).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def embed(
    encoder: Encoder, images: Tensor, preparation: Preparation, precision: Precision
) -> Tensor:
    """Features before the projector, of unit length: float32 [N, F] on the encoder's device.

    The images (uint8 [N, 3, H, W]) are resized to a square, not cropped; the encoder runs in
    evaluation mode and is put back in the mode it was in.
    """
    device = next(encoder.parameters()).device
    was_training = encoder.training
    encoder.eval()
    features = []
    for batch in images.split(BATCH):
        batch = views(batch.to(device), "plain", size=preparation.image_size)
        with precision.autocast():
            feature = encoder(preparation.normalise(batch)).feature
        features.append(nn.functional.normalize(feature.float(), dim=1))
    encoder.train(was_training)
    return torch.cat(features)


def recall_of(features: Tensor, split: Split) -> dict[str, float]:
    """Recall@1, 2, 5, 10 of fine labels, every image querying all the others.

    Empty where the split has no fine labels. A split of ten images or fewer has no ten
    others, and gets only the K that it has.
    """
    if split.fine is None:
        return {}
    if len(split) < 2:
        raise InputError("one test image has no other to find: an evaluation needs two or more")
    ks = [k for k in KS if k < len(split)]
    return recall(nearest_others(features, max(ks)), split.fine.to(features.device), ks)


def pixel_recall(split: Split) -> dict[str, float]:
    """Recall@K of raw pixels: what learning must beat."""
    pixels = split.images.flatten(1).float().div_(255).sub_(0.5)
    return recall_of(nn.functional.normalize(pixels, dim=1), split)
