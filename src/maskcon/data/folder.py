"""A folder tree: root/[train|test/]coarse/[fine/]image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maskcon.data.pictures import SUFFIXES, Files
from maskcon.data.table import SPLITS, Found, Part, numbered, settle
from maskcon.errors import InputError


@dataclass(frozen=True)
class _Row:
    file: Path
    coarse: str
    fine: str | None


def found(path: Path) -> bool:
    """Whether the folder has class folders with images in them, under splits or not."""
    return path.is_dir() and any(_rows(part) for part in _parts(path)[0].values())


def read(path: Path) -> Found:
    """Read class folders: coarse/fine/image, or coarse/image without fine labels.

    Classes are numbered in the order of their names and images lie in the order of their
    paths. A fine class belongs to its coarse one, so its name is "coarse/fine".
    """
    folders, notes = _parts(path)
    rows = {name: _rows(part) for name, part in folders.items()}
    every = [row for part in rows.values() for row in part]
    shallow = next((row for row in every if row.fine is None), None)
    deep = next((row for row in every if row.fine is not None), None)
    if shallow and deep:
        raise InputError(
            f"{path} has images on two levels, such as {shallow.file} and {deep.file}: put all "
            "of them in coarse/, or all in coarse/fine/"
        )
    coarse, coarse_names = numbered([row.coarse for row in every])
    fine, fine_names = (
        numbered([f"{row.coarse}/{row.fine}" for row in every]) if deep else (None, ())
    )
    parts, start = {}, 0
    for name, part in rows.items():
        mine = slice(start, start + len(part))
        start += len(part)
        if part:
            parts[name] = Part(
                Files([row.file for row in part]),
                coarse[mine],
                None if fine is None else fine[mine],
            )
    return Found(path.name, parts, coarse_names, fine_names, notes)


def _parts(path: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders of the splits; the root alone as "train", where it has none; and notes."""
    folders = _folders(path)
    if not folders or any(folder.name.lower() not in SPLITS for folder in folders):
        return {"train": path}, ()
    parts: dict[str, Path] = {}
    for folder in folders:
        name = SPLITS[folder.name.lower()]
        if name in parts:
            raise InputError(
                f"{path} has two folders for its {name} split, {parts[name].name} and "
                f"{folder.name}: keep one"
            )
        parts[name] = folder
    return settle(parts)


def _rows(path: Path) -> list[_Row]:
    """Every image below a split's folder."""
    rows: list[_Row] = []
    for coarse in _folders(path):
        rows += [_Row(file, coarse.name, None) for file in _images(coarse)]
        for fine in _folders(coarse):
            rows += [_Row(file, coarse.name, fine.name) for file in _images(fine)]
            deeper = next((file for deep in _folders(fine) for file in _images(deep)), None)
            if deeper is not None:
                raise InputError(
                    f"{deeper} lies deeper than coarse/fine/image: two levels of class folders "
                    "are read, or give a table of paths and labels"
                )
    return rows


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in _visible(path) if p.is_dir())


def _images(path: Path) -> list[Path]:
    return sorted(p for p in _visible(path) if p.suffix.lower() in SUFFIXES and not p.is_dir())


def _visible(path: Path) -> Sequence[Path]:
    return [p for p in path.iterdir() if not p.name.startswith(".")] if path.is_dir() else []
