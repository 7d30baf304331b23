"""The forms in which people have their pictures, and which of them lies at a path."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maskcon.data.readers import arrow, folder, pack, tables
from maskcon.data.readers.columns import Columns
from maskcon.data.sets import cifar
from maskcon.data.table import Found
from maskcon.errors import InputError


@dataclass(frozen=True)
class Layout:
    """A form in which people have their pictures.

    Attributes:
        looks_like: what is looked for.
        columns: whether it has columns with names.
        there: whether a path has it.
        read: finds its pictures.
    """

    looks_like: str
    columns: bool
    there: Callable[[Path], bool]
    read: Callable[[Path, Columns], Found]


LAYOUTS = (
    Layout("a pack of `maskcon data pack`", False, pack.found, lambda path, _: pack.read(path)),
    Layout(
        "a table (.csv, .tsv, .jsonl, .parquet)",
        True,
        lambda path: path.is_file() and path.suffix.lower() in tables.SUFFIXES,
        tables.read,
    ),
    Layout("*.parquet shards or a data set saved to disk", True, arrow.found, arrow.read),
    Layout(
        "cifar-100-python or its .tar.gz",
        False,
        lambda path: cifar.CIFAR100.locate(path) is not None,
        lambda path, _: cifar.CIFAR100.read(cifar.CIFAR100.locate(path) or path, "cifar100"),
    ),
    Layout(
        "class folders [train|test/]coarse/[fine/]image.jpg",
        False,
        folder.found,
        lambda path, _: folder.read(path),
    ),
)


def is_set(path: Path) -> bool:
    """Whether a path holds a data set in one of `LAYOUTS`."""
    return any(layout.there(path) for layout in LAYOUTS)


def read(path: Path, columns: Columns) -> Found:
    """The set at a path, in the first of `LAYOUTS` that is there.

    Raises:
        InputError: none is there, or it has no images, or columns are named that it cannot have.
    """
    layout = next((layout for layout in LAYOUTS if layout.there(path)), None)
    if layout is None:
        raise InputError(
            f"{path} holds no data set: looked for "
            + "; ".join(layout.looks_like for layout in LAYOUTS)
        )
    if not layout.columns and columns != Columns():
        raise InputError(
            f"{path} has no columns: leave out --image-column and the like, which are for "
            "tables and Hugging Face sets"
        )
    found = layout.read(path, columns)
    if "train" not in found.parts and "test" not in found.parts:
        raise InputError(f"{path} has no images")
    return found
