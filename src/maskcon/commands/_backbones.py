"""The pretrained networks that are recommended."""

import time
from typing import Any

import torch

from maskcon.model import here
from maskcon.model.backbones import build_backbone
from maskcon.model.recommended import RECOMMENDED
from maskcon.runtime.device import pick_device
from maskcon.runtime.progress import Progress, Silent

SIDE = 224  # pixels of the images that speed is measured on
BATCH = 8
SHORTEST = 1.0  # seconds that are timed


def backbones(
    *, measure: bool = False, device: str = "auto", progress: Progress | None = None
) -> list[dict[str, Any]]:
    """What there is to choose among, and whether its weights are on this machine.

    Args:
        measure: time each network, with random weights, on images of 224 px; that takes minutes.
        device: to time it on.
        progress: told which is timed.

    Returns:
        For each the fields of `maskcon.model.recommended.Recommended`, "free", "source" and "path"
        of its weights (None where they are not here), and "images_per_second" if measured.
    """
    progress = progress or Silent()
    where = pick_device(device) if measure else None
    rows = []
    for one in RECOMMENDED.values():
        weights = here.found(one.name)
        row: dict[str, Any] = {
            **one._asdict(),
            "free": one.free,
            "source": weights and weights.source,
            "path": str(weights.path) if weights else None,
        }
        if where is not None:
            progress.update(f"timing {one.short}")
            row["images_per_second"] = round(_speed(one.name, where), 2)
        rows.append(row)
    progress.close()
    return rows


@torch.inference_mode()
def _speed(name: str, device: torch.device) -> float:
    """Images a second through a network, float32, after a first batch that is not timed."""
    network = build_backbone(name, stem="large", size=SIDE)[0].eval().to(device)
    images = torch.zeros(BATCH, 3, SIDE, SIDE, device=device)
    done, start = -BATCH, time.perf_counter()
    while done <= 0 or time.perf_counter() - start < SHORTEST:
        network(images)[0, 0].item()  # which waits for the device
        done += BATCH
        if not done:
            start = time.perf_counter()
    return done / (time.perf_counter() - start)
