"""Tables as plain text."""

from collections.abc import Collection, Sequence


def aligned(table: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> list[str]:
    """Lines of a table whose rows have as many cells each; columns stand two spaces apart.

    Args:
        table: rows of cells, the head among them.
        left: places of the columns that begin at their left edge; the others, such as numbers,
            end at their right one.
    """
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place in left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
