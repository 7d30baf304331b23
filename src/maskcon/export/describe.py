"""What a person must know to use an encoder without maskcon."""

from importlib import metadata
from typing import Any

from maskcon.encoder import Encoder

RESIZE = "the whole picture to a square of image_size, bilinear with antialiasing, no crop"


def describe(encoder: Encoder) -> dict[str, Any]:
    """Network and input, as plain data."""
    architecture, preparation = encoder.network.architecture, encoder.preparation
    told: dict[str, Any] = {
        "backbone": architecture.backbone,
        "stem": architecture.stem,
        "feature": encoder.width,
        "image_size": preparation.image_size,
        "mean": list(preparation.mean),
        "deviation": list(preparation.deviation),
        "resize": RESIZE,
        "channels": "RGB",
        "identity": encoder.identity,
        "maskcon": metadata.version("maskcon"),
    }
    if architecture.head is not None:
        told["architecture"] = encoder.network.describe()
    return told
