"""Tables on the screen, as wide as it is."""

import os
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence
from io import StringIO
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maskcon.cli.echo import echo
from maskcon.runtime.progress import printable

APART = 2  # blanks between columns
NARROW = 16  # a column of text is not made narrower
WORD = 24  # nor one of numbers than its head's longest word, up to this many letters
UNBOUND = 10**6  # columns of no screen


def show(table: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> None:
    """Print a table whose rows have as many cells each, the head among them.

    On a terminal (and where $COLUMNS says how wide it is) it fits: text is wrapped, and columns
    that have no room go below the others. In a file or a pipe a row stays a line.

    Args:
        table: rows of cells, the first being the head.
        left: places of the columns that are text and begin at their left edge; the others, such
            as numbers, end at their right one.
    """
    wide = sys.stdout.isatty() or "COLUMNS" in os.environ
    echo("\n".join(lines(table, left, shutil.get_terminal_size().columns if wide else None)))


def show_each(tables: Iterable[tuple[Sequence[Sequence[str]], Collection[int]]]) -> None:
    """Print tables, and a blank line between two; each is what `show` takes."""
    for place, (table, left) in enumerate(tables):
        if place:
            echo()
        show(table, left)


def lines(
    table: Sequence[Sequence[str]], left: Collection[int] = (0,), width: int | None = None
) -> list[str]:
    """The lines of `show`, at most so wide; None is as wide as they need.

    Names in cells cannot steer the terminal, and none is taken for markup.
    """
    table = [[printable(cell).replace("\n", "\\n") for cell in row] for row in table]
    columns = list(zip(*table, strict=True))
    whole = [max(map(cell_len, column)) for column in columns]
    if width is None or sum(whole) + APART * (len(whole) - 1) <= width:
        return _drawn(table, left, [*whole], UNBOUND)
    least = [
        min(size, NARROW) if place in left else _least(column)
        for place, (column, size) in enumerate(zip(columns, whole, strict=True))
    ]
    found: list[str] = []
    for places in _blocks(least, width):
        part = [[row[place] for place in places] for row in table]
        text = {i for i, place in enumerate(places) if place in left}
        fixed = [None if i in text else least[place] for i, place in enumerate(places)]
        found += ([""] if found else []) + _drawn(part, text, fixed, width)
    return found


def _least(column: Sequence[str]) -> int:
    """How narrow a column of numbers may be: its head may be wrapped, and nothing else."""
    words = max(map(cell_len, column[0].split() or [""]))
    return max(min(words, WORD), *map(cell_len, column[1:]), 1)


def _blocks(least: Sequence[int], width: int) -> list[list[int]]:
    """Places of columns that fit beside each other; the first column begins each block."""
    blocks, used = [[0]], least[0]
    for place in range(1, len(least)):
        if used + APART + least[place] > width and len(blocks[-1]) > 1:
            blocks.append([0])
            used = least[0]
        blocks[-1].append(place)
        used += APART + least[place]
    return blocks


def _drawn(
    table: Sequence[Sequence[str]],
    left: Collection[int],
    widths: Sequence[int | None],
    screen: int,
) -> list[str]:
    """Lines of a table by rich; columns without a width share what the others leave."""
    drawn = Table(box=None, padding=(0, APART, 0, 0), pad_edge=False, header_style="")
    for place, (head, width) in enumerate(zip(table[0], widths, strict=True)):
        side: Literal["left", "right"] = "left" if place in left else "right"
        drawn.add_column(Text(head), justify=side, width=width, overflow="fold")
    for row in table[1:]:
        drawn.add_row(*map(Text, row))
    file = StringIO()
    Console(file=file, width=screen, color_system=None, legacy_windows=False).print(drawn)
    return [line.rstrip() for line in file.getvalue().splitlines()]
