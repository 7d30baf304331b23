"""What a person must know to use an encoder without maskcon."""

from importlib import metadata
from typing import Any

from maskcon.encoder import Encoder

RESIZE = "the whole picture to a square of image_size, bilinear with antialiasing, no crop"


def describe(encoder: Encoder) -> dict[str, Any]:
    """Network and input, as plain data."""
    architecture, preprocessing = encoder.network.architecture, encoder.preprocessing
    told: dict[str, Any] = {
        "backbone": architecture.backbone,
        "stem": architecture.stem,
        "feature": encoder.width,
        "image_size": preprocessing.image_size,
        "mean": list(preprocessing.mean),
        "std": list(preprocessing.std),
        "resize": RESIZE,
        "channels": "RGB",
        "identity": encoder.identity,
        "maskcon": metadata.version("maskcon"),
    }
    if architecture.composed:
        told["architecture"] = encoder.network.describe()
    return told
