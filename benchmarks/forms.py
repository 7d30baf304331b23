"""One data set in every form that maskcon reads: the recall is the same to the last digit.

python benchmarks/forms.py CIFAR100_FOLDER [--train 5000] [--test 2000]

Writes a part of the real CIFAR-100 as a folder tree, a table of paths (.csv), Parquet shards, a
saved Hugging Face set (Arrow) and a pack, the rows in the same order in all of them; trains on
each with the same seed, and prints the results.
"""

import argparse
import csv
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from maskcon import commands
from maskcon.data import Found, find
from maskcon.errors import InputError

RUN = {
    "method": "maskcon",
    "tau": 0.1,
    "backbone": "resnet10w16",
    "query_view": "weak",
    "epochs": 3,
    "warmup_epochs": 0.25,
    "lr": 0.06,
    "bank_size": 1024,
    "eval_every": 1,
}


def part(found: Found, counts: dict[str, int]) -> dict[str, list[tuple[str, str, bytes]]]:
    """(coarse, fine, PNG) of the first images of each split, in the order of a tree's paths."""
    rows = {}
    for name, count in counts.items():
        images = found.parts[name].take(np.arange(count))
        every = []
        for row in range(count):
            coarse = found.coarse_names[images.coarse[row]]
            fine = found.fine_names[images.fine[row]]
            every.append((coarse, fine, row, images.pictures.decode(row)))
        every.sort(key=lambda entry: entry[:3])
        rows[name] = [(coarse, fine, _png(image)) for coarse, fine, _, image in every]
    return rows


def _png(image: np.ndarray) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write(root: Path, rows: dict[str, list[tuple[str, str, bytes]]]) -> dict[str, Path]:
    """Every form, and where it is."""
    cells = []
    for name, entries in rows.items():
        for number, (coarse, fine, png) in enumerate(entries):
            file = root / "tree" / name / coarse / fine / f"{number:05d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png)
            path = str(file.relative_to(root))
            cells.append({"path": path, "coarse": coarse, "fine": fine, "split": name})
        table = pa.table(
            {
                "img": [{"bytes": png, "path": None} for _, _, png in entries],
                "coarse_label": [coarse for coarse, _, _ in entries],
                "fine_label": [fine for _, fine, _ in entries],
            }
        )
        (root / "parquet").mkdir(exist_ok=True)
        half = len(table) // 2
        for shard, piece in enumerate((table.slice(0, half), table.slice(half))):
            pq.write_table(piece, root / "parquet" / f"{name}-0000{shard}-of-00002.parquet")
        saved = root / "saved" / name
        saved.mkdir(parents=True)
        arrow = str(saved / "data-00000-of-00001.arrow")
        with pa.OSFile(arrow, "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=1000)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}
        (saved / "state.json").write_text(json.dumps(state))
    (root / "saved" / "dataset_dict.json").write_text(json.dumps({"splits": list(rows)}))
    with open(root / "table.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(cells[0]))
        writer.writeheader()
        writer.writerows(cells)
    commands.pack(root / "tree", root / "set.pack")
    places = {"tree": "tree", "csv": "table.csv", "parquet": "parquet", "arrow": "saved"}
    return {name: root / place for name, place in {**places, "pack": "set.pack"}.items()}


def run(folder: Path, counts: dict[str, int]) -> dict[str, dict[str, float]]:
    """Recalls of each form."""
    found = find("cifar100", data_dir=folder)
    results = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, place in write(Path(scratch), part(found, counts)).items():
            done = commands.train(data=place, out=Path(scratch) / "run", overwrite=True, **RUN)
            recalls = {k: v for k, v in done["results"].items() if k.startswith("recall")}
            results[name] = recalls
            print(f"{name:8}", "  ".join(f"{k} {v:.6f}" for k, v in recalls.items()), flush=True)
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="with CIFAR-100's files")
    parser.add_argument("--train", type=int, default=5000)
    parser.add_argument("--test", type=int, default=2000)
    given = parser.parse_args()
    try:
        recalls = run(given.folder, {"train": given.train, "test": given.test})
    except InputError as error:
        sys.exit(f"error: {error}")
    if len({json.dumps(r) for r in recalls.values()}) > 1:
        sys.exit("the forms differ")
