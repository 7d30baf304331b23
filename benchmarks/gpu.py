"""What a GPU is needed for, in order of worth; broken off, the same command goes on where it was.

    python benchmarks/gpu.py --data-dir FOLDER            # CIFAR-100's files; writes to gpu/
    python benchmarks/gpu.py --device cpu --epochs 1 ...  # the same on a processor, to try it
    python benchmarks/gpu.py ... -- --backbone resnet10w16   # what follows -- is every run's

First the tests that need a GPU (a step recorded as a CUDA graph beside a plain one among them),
then `maskcon benchmark step`, then CIFAR-100 with the paper's recipe, from scratch, method after
method: the first run says how long an epoch takes. Each run enters the ledger as it ends.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from maskcon.runs import folder as runs
from maskcon.runs import ledger
from maskcon.runtime.device import hardware, pick_device
from maskcon.runtime.files import write_json
from maskcon.runtime.progress import screen

HERE = Path(__file__).parent
# name: options; the names are those of the run folders
RUNS = {
    "maskcon-tau0.05": ("--method", "maskcon", "--w", "1", "--tau", "0.05"),
    "maskcon-tau0.1": ("--method", "maskcon", "--w", "1", "--tau", "0.1"),
    "grafit-w0.8": ("--method", "grafit", "--w", "0.8"),
    "coins-w0.5": ("--method", "coins", "--w", "0.5"),
    "selfcon": ("--method", "selfcon"),
    "supcon": ("--method", "supcon"),
}

# Of `benchmark step` on a processor, to try it: a batch of 128 takes ten seconds a step on a slow
# core, and filling a bank of 8,192 keys some minutes. This measures nothing that anybody wants.
FEW: dict[str, Any] = {
    **{"sides": ("floor", "maskcon"), "repeats": 1, "steps": 1},
    **{"batch_size": 16, "bank_size": 256},
}


def tests(out: Path) -> dict[str, Any]:
    """The tests of the step, with those that need a GPU; their last line."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n0", "tests/train/test_step.py"],
        cwd=HERE.parent,
        capture_output=True,
        text=True,
    )
    (out / "tests.txt").write_text(done.stdout + done.stderr)
    return {"said": done.stdout.strip().splitlines()[-1], "passed": done.returncode == 0}


def speed(out: Path, device: str) -> dict[str, Any]:
    """The training step beside plain PyTorch and the bare networks."""
    from maskcon.benchmark import BENCHMARKS, table

    few = FEW if pick_device(device).type == "cpu" else {}
    with screen() as progress:
        record = BENCHMARKS["step"](device=device, progress=progress, **few)
    write_json(out / "step.json", record)
    return {"said": "; ".join(" ".join(row) for row in table.speeds(record)[1:])}


def run(name: str, out: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One row: train or go on, and add it to the ledger."""
    folder = out / name
    words = ["--out", str(folder), "--resume"]
    if not (folder / runs.RUN_FILE).exists():
        data = ["--data-dir", given.data_dir] if given.data_dir else []
        words = [
            *("--recipe", "cifar100_paper", "--out", str(folder), *RUNS[name], *data),
            *("--device", given.device, "--epochs", str(given.epochs)),
            *("--warmup-epochs", str(min(5.0, given.epochs / 40)), *given.options),
        ]
    if not (folder / runs.RUN_FILE).exists() or runs.read(folder)["status"] != "finished":
        subprocess.run([sys.executable, "-m", "maskcon", "train", *words], check=True)
    done = runs.read(folder)
    ledger.add(given.ledger, [done])
    a_second = done["training"]["images_per_second"]
    return {"recall@1": done["results"]["recall@1"], "images_per_second": a_second}


def main() -> None:
    """Do what is not done yet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", help="folder of CIFAR-100's files [the cache]")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("gpu"))
    parser.add_argument("--ledger", type=Path, default=HERE / "ledger.jsonl")
    parser.add_argument("options", nargs="*", help="of every run, after --")
    given = parser.parse_args()
    where = pick_device(given.device)
    given.out.mkdir(parents=True, exist_ok=True)
    file = given.out / "done.json"
    done = json.loads(file.read_text()) if file.exists() else {"hardware": hardware(where)}
    stages: dict[str, Callable[[], dict[str, Any]]] = {
        "tests": partial(tests, given.out),
        "step": partial(speed, given.out, given.device),
        **{name: partial(run, name, given.out, given) for name in RUNS},
    }
    for name, work in stages.items():
        if name not in done:
            start = time.perf_counter()
            done[name] = {**work(), "seconds": round(time.perf_counter() - start, 1)}
            write_json(file, done)
        print(name, done[name], flush=True)
    folders = [str(given.out / name) for name in RUNS]
    subprocess.run([sys.executable, "-m", "maskcon", "compare", *folders], check=True)


if __name__ == "__main__":
    main()
