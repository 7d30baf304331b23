"""What starting costs: processor seconds of commands, each in a process of its own, one thread.

python benchmarks/startup.py                      # a table
python benchmarks/startup.py --beside OTHER/src   # and another copy of the source, in turn

Processor seconds hardly depend on what else the machine does, as seconds on the clock do. Networks
have random weights and the index random vectors: they are as long in loading as others.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import maskcon
from maskcon import Encoder
from maskcon.model.network import Architecture, Network
from maskcon.model.saved import save_encoder
from maskcon.search import file
from maskcon.search.index import About, Index, table

PICTURES = 5000  # of the index
SIZE = 224  # pixels
BACKBONES = {"ResNet-18": "resnet18", "EfficientNet-Lite0 of timm": "timm/efficientnet_lite0"}
FIXED = {
    "import torch": ["-c", "import torch"],
    "--help": ["-m", "maskcon", "--help"],
    "an option that there is not": ["-m", "maskcon", "search", "--nope"],
}


def prepared(folder: Path) -> dict[str, list[str]]:
    """Write runs, indexes and a picture; return the commands."""
    rng = np.random.default_rng(0)
    picture = str(folder / "picture.jpg")
    Image.fromarray(rng.integers(0, 255, (480, 640, 3), np.uint8)).save(picture)
    commands = dict(FIXED)
    for title, backbone in BACKBONES.items():
        run = folder / backbone.replace("/", "-")
        run.mkdir()
        made = Architecture(
            backbone=backbone, stem="large", heads=("z",), projection=128, classes=10
        )
        about = {"image_size": SIZE, "mean": [0.5] * 3, "std": [0.25] * 3}
        save_encoder(run, Network(made).eval(), about)
        encoder = Encoder.load(run, device="cpu")
        vectors = rng.normal(size=(PICTURES, encoder.width)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        paths = [f"/nowhere/{row}.jpg" for row in range(PICTURES)]
        digests, small = [b"%016d" % row for row in range(PICTURES)], [bytes(2000)] * PICTURES
        rows = table(paths, ["a"] * PICTURES, [None] * PICTURES, digests, small)
        known = About(encoder.identity, str(run), SIZE, maskcon.__version__, "exact")
        index = run / "pictures.index"
        file.write(Index(known, vectors, rows), index)
        start = ["-m", "maskcon"]
        commands[f"search, {title}"] = [*start, "search", str(index), picture]
        out = [str(run / "vectors.npz"), "--overwrite"]
        commands[f"embed, {title}"] = [*start, "embed", str(run), picture, "-o", *out]
    return commands


def seconds(command: list[str], source: Path) -> float:
    """Processor seconds of a command with a copy of the source."""
    before = os.times()
    environment = {**os.environ, "PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], env=environment, capture_output=True, check=False)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", type=Path, help="the src of another copy")
    parser.add_argument("--turns", type=int, default=3)
    options = parser.parse_args()
    here = Path(maskcon.__file__).parent.parent
    sources = [here, *([options.beside] if options.beside else [])]
    with tempfile.TemporaryDirectory() as folder:
        commands = prepared(Path(folder))
        print("| | here |" + " beside |" * (len(sources) - 1))
        print("|---|" + "---|" * len(sources))
        for name, command in commands.items():
            turns = [[seconds(command, s) for s in sources] for _ in range(options.turns)]
            cells = [f"{statistics.median(column):.2f} s" for column in zip(*turns, strict=True)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
