"""Small runs one after the other for some hours: does anything grow that should not?

    python benchmarks/endurance.py --minutes 120 --out benchmarks/endurance.json

Each round trains in memory, trains on pictures that workers read, resumes what was interrupted,
evaluates, embeds, indexes and searches, and opens a report, in one process. After each, what the
process holds is written down: resident memory, open files, threads and child processes. Growth is
the slope of the memory over the second half, by least squares.
"""

import argparse
import gc
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import maskcon
from maskcon import commands
from maskcon.data import from_arrays
from maskcon.data.sets import glyphs
from maskcon.runs.folder import provenance
from maskcon.runtime.device import hardware

SETTINGS: dict[str, Any] = {
    "backbone": "resnet10w16",
    "epochs": 2,
    "batch_size": 32,
    "bank_size": 256,
    "eval_every": 1,
}


def held() -> dict[str, int]:
    """What this process holds now."""
    gc.collect()
    words = dict(
        line.split(":", 1)
        for line in Path("/proc/self/status").read_text().splitlines()
        if ":" in line
    )
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "resident_kib": int(words["VmRSS"].split()[0]),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": int(words["Threads"]),
        "children": len(children),
    }


def pictures(folder: Path, count: int, side: int) -> None:
    """Noise of four coarse classes, as files."""
    random = np.random.default_rng(0)
    for row in range(count):
        place = folder / f"c{row % 4}"
        place.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 255, (side, side, 3), np.uint8)
        Image.fromarray(pixels).save(place / f"{row}.jpg")


def one_round(folder: Path, seed: int) -> None:
    """Everything once."""
    made = glyphs.make(train=512, test=128)
    images = made.train.images.pixels.permute(0, 2, 3, 1).numpy()
    coarse = made.train.coarse.numpy()
    arrays = from_arrays(images, coarse, fine=made.train.fine.numpy())
    commands.train(out=folder / "memory", data=arrays, seed=seed, image_size=16, **SETTINGS)
    commands.train(
        out=folder / "photos", data=folder / "pictures", seed=seed, image_size=72, workers=2,
        **SETTINGS,
    )  # fmt: skip
    commands.train(out=folder / "photos", resume=True)
    commands.eval(folder / "photos")
    commands.embed(folder / "photos", folder / "pictures", out=folder / "a.parquet")
    commands.index(folder / "photos", folder / "pictures", out=folder / "a.index")
    commands.search(folder / "a.index", folder / "pictures" / "c0" / "0.jpg")
    commands.report(folder / "photos")
    maskcon.CoarseToFine(epochs=1).fit(images[:128], coarse[:128]).transform(images[:8])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    start, seen = time.monotonic(), []
    base = Path(tempfile.mkdtemp())
    pictures(base / "pictures", 160, 120)
    while time.monotonic() - start < 60 * given.minutes:
        one_round(base, len(seen))
        for path in base.iterdir():
            if path.name != "pictures":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        seen.append({"minutes": round((time.monotonic() - start) / 60, 2), **held()})
        print(seen[-1], flush=True)
        half = seen[len(seen) // 2 :]
        minutes, memory = ([x[k] for x in half] for k in ("minutes", "resident_kib"))
        slope = np.polyfit(minutes, memory, 1)[0] if len(half) > 2 else float("nan")
        about = {k: v for k, v in provenance().items() if k != "command"}
        given.out.write_text(
            json.dumps(
                {
                    "about": {**about, "hardware": hardware(torch.device("cpu"))},
                    "rounds": len(seen),
                    "minutes": seen[-1]["minutes"],
                    "growth_kib_per_hour": round(60 * slope, 1),
                    "every": seen,
                },
                indent=1,
            )
            + "\n"
        )
    shutil.rmtree(base)


if __name__ == "__main__":
    main()
