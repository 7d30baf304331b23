"""A folder tree: root/[train|test/]coarse/fine/image."""

from pathlib import Path

import torch

from maskcon.data.table import DataSet, Split, decode_all
from maskcon.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm"}


def found(path: Path) -> bool:
    """Whether the folder has train/ and test/ with class folders in them."""
    return all(_folders(path / part) for part in ("train", "test"))


def read(path: Path, image_size: int, workers: int) -> DataSet:
    """Read train/ and test/, each coarse/fine/image, or coarse/image without fine labels.

    Classes are numbered in the order of their names and images lie in the order of their
    paths. Images of another size than `image_size` are resized to its square.
    """
    rows = {part: _rows(path / part) for part in ("train", "test")}
    has_fine = {fine is not None for part in rows.values() for _, _, fine in part}
    if len(has_fine) > 1:
        raise InputError(
            f"{path} has images both in coarse/ and in coarse/fine/: put all on one level"
        )
    if not has_fine:
        raise InputError(f"{path} has class folders, but no images in them")
    every = [row for part in rows.values() for row in part]
    coarse = {name: i for i, name in enumerate(sorted({coarse for _, coarse, _ in every}))}
    fine = {
        name: i for i, name in enumerate(sorted({f"{c}/{f}" for _, c, f in every if f is not None}))
    }
    splits = []
    for part in rows.values():
        items = [(file, str(file)) for file, _, _ in part]
        splits.append(
            Split(
                decode_all(items, size=image_size, workers=workers),
                torch.tensor([coarse[c] for _, c, _ in part], dtype=torch.long),
                torch.tensor([fine[f"{c}/{f}"] for _, c, f in part], dtype=torch.long)
                if fine
                else None,
            )
        )
    return DataSet(path.name, splits[0], splits[1], tuple(coarse), tuple(fine))


def _folders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def _rows(path: Path) -> list[tuple[Path, str, str | None]]:
    """(file, coarse, fine) of every image below a split's folder."""
    rows: list[tuple[Path, str, str | None]] = []
    for coarse in _folders(path):
        rows += [(file, coarse.name, None) for file in _images(coarse)]
        for fine in _folders(coarse):
            rows += [(file, coarse.name, fine.name) for file in _images(fine)]
    return rows


def _images(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
