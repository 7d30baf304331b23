"""The demonstration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskcon.commands._train import train
from maskcon.runtime.progress import Progress

# What `demo` trains: small enough for two cores and two minutes.
# Short runs want many steps and fresh keys, so batches, bank and momentum are
# smaller than for CIFAR-100; a character must not be mirrored or cut.
DEMO: Mapping[str, Any] = {
    "data": "glyphs",
    "method": "maskcon",
    "tau": 0.2,
    "query_view": "weak",
    "crop_scale": 0.7,
    "flip": False,
    "backbone": "resnet10w16",
    "bank_size": 1024,
    "ema": 0.9,
    "epochs": 7,
    "warmup_epochs": 0.5,
    "batch_size": 32,
    "lr": 0.06,
    "eval_every": 1,
}


def demo(
    *,
    out: str | Path = "glyphs-demo",
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Train on glyphs, evaluate and draw: about two minutes on two cores.

    Args:
        out: the run folder.
        resume: go on from the folder's last checkpoint.
        overwrite: delete the run that is there.
        progress: told how it goes.

    Returns:
        The content of run.json.
    """
    return train(out=out, resume=resume, overwrite=overwrite, progress=progress, **DEMO)
