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
    if not path.is_dir():
        return False
    return any(_images(f) or any(_images(d) for d in _folders(f)) for f in _deep(path))


def _deep(path: Path) -> list[Path]:
    """Folders that may be classes: those of the root, and those of its splits."""
    folders = _folders(path)
    return folders + [
        f for split in folders if split.name.lower() in SPLITS for f in _folders(split)
    ]


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


def loose(path: Path) -> list[Path]:
    """Every picture anywhere below a folder, whatever its folders mean; in order of the paths."""
    found: list[Path] = []
    ahead = [path]
    while ahead:
        folder = ahead.pop()
        found += _images(folder)
        # a link may lead in a circle
        ahead += [f for f in reversed(_folders(folder)) if not f.is_symlink()]
    return found


def _parts(path: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders of the splits; the root alone as "train", where it has none; and notes."""
    folders = _folders(path)
    splits = [folder for folder in folders if folder.name.lower() in SPLITS]
    if not splits:
        return {"train": path}, ()
    others = [f.name for f in folders if f not in splits and (_images(f) or _rows(f))]
    if others:
        raise InputError(
            f"{path} has folders of splits ({', '.join(folder.name for folder in splits)}) and "
            f"others with images beside them ({', '.join(others)}): put all classes into the "
            "splits, or, if these are classes, all of them into a folder train/"
        )
    folders = splits
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
    loose = _images(path)
    if loose:
        raise InputError(
            f"{loose[0]} lies beside the class folders, and so has no label: put it into one, or "
            "move it away"
        )
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
    try:
        return [p for p in path.iterdir() if not p.name.startswith(".")] if path.is_dir() else []
    except OSError as error:
        raise InputError(f"the folder {path} cannot be read: {error}") from error
