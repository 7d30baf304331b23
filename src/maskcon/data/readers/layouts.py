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
        levels: whether it has folders, one of which can be chosen as the coarse label.
        labels: whether its pictures have labels.
        there: whether a path has it.
        read: finds its pictures, given the path, and columns or a level if it has them.
    """

    looks_like: str
    there: Callable[[Path], bool]
    read: Callable[..., Found]
    columns: bool = False
    levels: bool = False
    labels: bool = True


LAYOUTS = (
    Layout("a pack of `maskcon data pack`", pack.found, pack.read),
    Layout(
        "a table (.csv, .tsv, .jsonl, .parquet)",
        lambda path: path.is_file() and path.suffix.lower() in tables.SUFFIXES,
        tables.read,
        columns=True,
    ),
    Layout("*.parquet shards or a data set saved to disk", arrow.found, arrow.read, columns=True),
    Layout(
        "metadata.csv, .jsonl or .parquet beside pictures",
        lambda path: tables.beside(path) and (tables.labelled(path) or not folder.found(path)),
        tables.read_beside,
        columns=True,
    ),
    Layout(
        "cifar-100-python or its .tar.gz",
        lambda path: cifar.CIFAR100.locate(path) is not None,
        lambda path: cifar.CIFAR100.read(cifar.CIFAR100.locate(path) or path, "cifar100"),
    ),
    Layout(
        "class folders [train|test/]coarse/[fine/]image.jpg",
        folder.found,
        folder.read,
        levels=True,
    ),
    Layout("a folder of pictures", folder.flat, folder.read, levels=True, labels=False),
)
# What people give that has to be unpacked or saved in another form first.
OTHERS = {
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar"), "unpack it"),
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".numbers"), "save it as .csv"),
    ".json": "write one object a line, as .jsonl",
    ".txt": "name it .csv or .tsv, by what separates its cells",
}


def is_set(path: Path) -> bool:
    """Whether a path holds a data set with labels, in one of `LAYOUTS`."""
    return any(layout.labels and layout.there(path) for layout in LAYOUTS)


def read(path: Path, columns: Columns, coarse_level: int = 0) -> Found:
    """The set at a path, in the first of `LAYOUTS` that is there.

    Raises:
        InputError: none is there, or it has no images, or columns or a level are named that it
            cannot have.
    """
    layout = next((layout for layout in LAYOUTS if layout.there(path)), None)
    if layout is None:
        raise InputError(
            f"{path} holds no data set: looked for "
            + "; ".join(layout.looks_like for layout in LAYOUTS)
            + "".join(f". {hint}" for hint in (*_to_change(path), *folder.unread(path)))
        )
    if not layout.columns and columns != Columns():
        raise InputError(
            f"{path} has no columns: leave out --image-column and the like, which are for "
            "tables and Hugging Face sets"
        )
    if not layout.levels and coarse_level:
        raise InputError(
            f"{path} has no class folders: leave out --coarse-level, which is for folder trees"
        )
    chosen = (columns,) if layout.columns else (coarse_level,) if layout.levels else ()
    found = layout.read(path, *chosen)
    if "train" not in found.parts and "test" not in found.parts:
        raise InputError(f"{path} has no images")
    return found


def _to_change(path: Path) -> list[str]:
    """What to do with files that are no data set but may hold one."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [
        f"{file} may hold one: {OTHERS[file.suffix.lower()]} first"
        for file in files
        if file.is_file() and file.suffix.lower() in OTHERS
    ][:1]
