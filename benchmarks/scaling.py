"""What more processes bring: measured on this machine, and on paper for many cards.

    python benchmarks/scaling.py measure   # one process and two; writes benchmarks/scaling.json
    python benchmarks/scaling.py paper     # the tables on paper of docs/ranks.md

`measure` needs an idle machine. Each process has one thread; the sides take turns, and the ratio
is the median of the pairs'.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from maskcon.runs.folder import provenance
from maskcon.runtime.device import hardware

SETTINGS = [
    *("--data", "glyphs", "--backbone", "resnet10w32", "--epochs", "1", "--eval-every", "1"),
    *("--batch-size", "128", "--bank-size", "2048", "--lr", "0.02"),
]
ROUNDS = 3

# On paper: MaskCon's recipe with ResNet-18 for small images, 128 images a card.
A_CARD = 128
WIDTH, CLASSES = 128, 20  # of a projection; classes
PARAMETERS = 11_168_832 + 512 * 512 + 512 + 512 * 128 + 128  # ResNet-18, small stem; projector
CHANNELS, NORMS = 4_800, 20  # of all batch norms; batch norms
SIDE = 32
NVLINK, NETWORK = 450e9, 50e9  # bytes a second and card, one way: H100 inside a machine; 400 Gb/s
FLOPS = 60e12  # float32 multiplications and additions a second that a matrix product gets


def speed(processes: int, threads: int, folder: Path) -> float:
    """Images a second of a run."""
    out = folder / "run"
    start = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    subprocess.run(
        [*start, "-m", "maskcon", "train", *SETTINGS, "--out", str(out), "--overwrite"],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        check=True,
        capture_output=True,
    )
    return json.loads((out / "run.json").read_text())["training"]["images_per_second"]


def measure(out: Path) -> None:
    """One process, two, and one with two threads, in turns."""
    sides = {"1 process": (1, 1), "2 processes": (2, 1), "1 process, 2 threads": (1, 2)}
    speeds: dict[str, list[float]] = {name: [] for name in sides}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for name, (processes, threads) in sides.items():
                speeds[name].append(speed(processes, threads, Path(folder)))
                print(name, speeds[name][-1], flush=True)
    pairs = zip(speeds["1 process"], speeds["2 processes"], strict=True)
    about = {k: v for k, v in provenance().items() if k != "command"}
    found: dict[str, Any] = {
        "about": {**about, "hardware": hardware(torch.device("cpu"))},
        "settings": " ".join(SETTINGS),
        "images_per_second": speeds,
        "efficiency": round(statistics.median(two / (2 * one) for one, two in pairs), 3),
    }
    out.write_text(json.dumps(found, indent=1) + "\n")
    print("efficiency of two processes:", found["efficiency"])


def size(count: float) -> str:
    """Bytes for people."""
    power = min(int(math.log10(max(count, 1)) // 3), 3)
    return f"{count / 1000**power:.3g} {('B', 'KB', 'MB', 'GB')[power]}"


def paper() -> None:
    """Bytes and operations of a step, each with its formula."""
    print("| cards W | batch B | keys and labels | key views (mixtures) | gradients | ", end="")
    print("statistics | inside a machine | over the network |")
    print("|---|---|---|---|---|---|---|---|")
    for cards in (8, 16, 32, 64):
        batch, others = A_CARD * cards, (cards - 1) / cards
        keys = batch * (4 * WIDTH + 8) * others
        views = batch * 3 * SIDE * SIDE * others
        gradients = 2 * 4 * PARAMETERS * others
        moments = 2 * 4 * CHANNELS  # mean and variance of every channel
        norms = 2 * moments * (cards - 1) + 2 * moments * others  # two views gathered, one reduced
        total = keys + gradients + norms
        print(
            f"| {cards} | {batch:,} | {size(keys)} | {size(views)} | {size(gradients)} | "
            f"{size(norms)} | {1e3 * total / NVLINK:.2f} ms | {1e3 * total / NETWORK:.2f} ms |"
        )
    print("\n| bank M | its bytes | similarities of 128 rows | their products | at 60 TFLOP/s |")
    print("|---|---|---|---|---|")
    for bank in (8_192, 65_536, 524_288):
        products = 2 * A_CARD * bank * WIDTH * 4  # key and query forward, query back twice
        print(
            f"| {bank:,} | {size(4 * WIDTH * bank)} | {size(4 * A_CARD * bank)} | "
            f"{products / 1e9:.1f} GFLOP | {1e3 * products / FLOPS:.2f} ms |"
        )


def main() -> None:
    """Choose."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("measure", "paper"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/scaling.json"))
    given = parser.parse_args()
    measure(given.out) if given.what == "measure" else paper()


if __name__ == "__main__":
    main()
