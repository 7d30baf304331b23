"""The picture of README: a row for each group that `maskcon discover` wrote, most typical first.

python docs/site/groups.py groups/groups.csv Pepper,Juice docs/groups.jpg
"""

import csv
import sys
from collections import defaultdict
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

SIDE, ACROSS, GAP, MARGIN = 88, 9, 4, 92  # pixels; photographs of a row; pixels


def rows_of(table: Path, classes: list[str]) -> dict[str, list[str]]:
    """The paths of the most typical pictures of each group of some coarse classes."""
    groups = defaultdict(list)
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["coarse"] in classes:
                groups[row["group"]].append((int(row["typical"]), row["path"]))
    order = sorted(groups, key=lambda name: (classes.index(name.rpartition(" ")[0]), name))
    return {name: [path for _, path in sorted(groups[name])[:ACROSS]] for name in order}


def draw(rows: dict[str, list[str]]) -> Image.Image:
    """A sheet of the rows, each with its group's name before it."""
    step = SIDE + GAP
    sheet = Image.new("RGB", (MARGIN + ACROSS * step + GAP, len(rows) * step + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(17)
    for down, (name, paths) in enumerate(rows.items()):
        pen.text((8, down * step + step // 2), name, "black", font, anchor="lm")
        for across, path in enumerate(paths):
            with Image.open(path) as image:
                tile = ImageOps.fit(image.convert("RGB"), (SIDE, SIDE))
            sheet.paste(tile, (MARGIN + across * step, down * step + GAP))
    return sheet


if __name__ == "__main__":
    table, classes, out = sys.argv[1:]
    draw(rows_of(Path(table), classes.split(","))).save(out, quality=75, optimize=True)
