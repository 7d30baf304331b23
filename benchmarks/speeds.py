"""Write the tables of measured speeds into README.md and RESULTS.md, from benchmarks/results.

python benchmarks/speeds.py           # write them
python benchmarks/speeds.py --check   # fail if they differ from the results
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from maskcon.benchmark import table

HERE = Path(__file__).parent
RECORDS = {path.stem: json.loads(path.read_text()) for path in sorted((HERE / "results").glob("*"))}
BEGIN, END = "<!-- speeds: begin -->", "<!-- speeds: end -->"
COMMANDS = {
    "step": "maskcon benchmark step",
    "views": "maskcon benchmark views",
    "recall": "maskcon benchmark recall",
    "loader-500x375": "maskcon benchmark loader --width 500 --height 375",
    "loader-700x480": "maskcon benchmark loader",
    "loader-1600x1200": "maskcon benchmark loader --width 1600 --height 1200",
}


def markdown(rows: table.Table) -> str:
    """A table in Markdown."""
    head, *rest = rows
    cells = [head, ["---"] * len(head), *rest]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def short() -> str:
    """A table of one line for each comparison, for the README."""
    step, views, recall = (RECORDS[name] for name in ("step", "views", "recall"))
    lines = [["", "maskcon", "beside it", "ratio"]]

    def add(what: str, record: dict[str, Any], ours: str, theirs: str, named: str) -> None:
        a, b = record["speeds"][ours], record["speeds"][theirs]
        ratio = record["ratios"][ours][theirs]
        if record["unit"] == "rows/s":
            rows = int(ours.split("x")[0])
            cells = [f"{rows / a:.2f} s", f"{named}: {rows / b:.2f} s"]
        else:
            cells = [f"{a:,.0f} images/s", f"{named}: {b:,.0f}"]
        lines.append([what, *cells, f"{ratio:.2f} x"])

    what = "training step, ResNet-18, 32 px, batch 128, with its data"
    add(what, step, "maskcon", "reference", "plain PyTorch, float32, Pillow views")
    add("", step, "maskcon", "floor", "the bare networks, same precision")
    for kind in ("weak", "strong"):
        of = f"{kind} views, one thread"
        add(of, views, f"{kind}: maskcon", f"{kind}: Pillow", "torchvision on Pillow images")
    loader = RECORDS["loader-700x480"]
    named = "torchvision's loader"
    add("224 px views of 700 x 480 JPEGs", loader, "maskcon", "torchvision", named)
    add("the same, packed", loader, "maskcon, pack", "torchvision", named)
    for size in recall["settings"]["sizes"]:
        ours, theirs = f"{size}: maskcon", f"{size}: FAISS flat"
        add(f"exact Recall@K, {size.replace('x', ' x ')}", recall, ours, theirs, "FAISS flat")
    records = {"step": step, "views": views, "loader": loader, "recall": recall}
    return markdown(lines) + f"\n\nMedians of five turns.\n{measured(records)}"


def measured(records: dict[str, dict[str, Any]]) -> str:
    """Where records were measured: those of one machine, version and commit in one line."""
    places: dict[str, list[str]] = {}
    for name, record in records.items():
        places.setdefault(table.machine(record), []).append(name)
    return "\n".join(
        f"{', '.join(names).capitalize()}: {place}." for place, names in places.items()
    )


def full() -> str:
    """Every record with its command, for RESULTS.md."""
    parts = []
    for name, command in COMMANDS.items():
        record = RECORDS[name]
        parts += [
            f"### `{command}`",
            table.machine(record) + ".",
            markdown(table.speeds(record)),
        ]
        if "growth" in record:
            parts += [
                f"Features {record['growth_width']} wide:",
                markdown(table.growth(record)),
            ]
        if "compile" in record:
            parts.append(f"{table.compiling(record)}.")
        if record["targets"]:
            parts.append(markdown(table.targets(record)))
    return "\n\n".join(parts)


def write(page: Path, new: str, check: bool) -> None:
    """Put text between the markers of a page; or see that it is there."""
    text = page.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    expected = f"{before}{BEGIN}\n{new}\n{END}{after}"
    if check and expected != text:
        sys.exit(f"{page.name} differs from the results: run `python benchmarks/speeds.py`")
    if not check:
        page.write_text(expected)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    write(HERE.parent / "README.md", short(), given.check)
    write(HERE.parent / "RESULTS.md", full(), given.check)
