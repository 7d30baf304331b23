"""One table of images with coarse and perhaps fine labels, however it came.

`find` takes the name of a set or a path, whatever layout lies there, and says which pictures
there are; `load` makes of it what training works with.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from maskcon.config import SMALL_IMAGE, Config, similar
from maskcon.data import scan
from maskcon.data.confine import check as confine_check
from maskcon.data.images import Features, Images, InMemory, OnDisk
from maskcon.data.known import Known
from maskcon.data.readers import layouts
from maskcon.data.readers.arrays import from_arrays
from maskcon.data.readers.columns import Columns
from maskcon.data.readers.layouts import is_set
from maskcon.data.readers.vectors import computed_of, features_of
from maskcon.data.sets.named import DATA_SETS, NamedSet, data_sets
from maskcon.data.table import DataSet, Found, Part, Split
from maskcon.errors import InputError, MainProcessError, unreadable
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.hub import is_of_hub, snapshot
from maskcon.runtime.progress import Progress, Silent

__all__ = [
    "DATA_SETS",
    "IMAGE_SIZES",
    "Columns",
    "DataSet",
    "Features",
    "Found",
    "Images",
    "InMemory",
    "NamedSet",
    "OnDisk",
    "Part",
    "Split",
    "computed_of",
    "data_sets",
    "features_of",
    "find",
    "from_arrays",
    "is_set",
    "load",
]

SAMPLE = 200  # pictures whose sizes say at what size to train
IMAGE_SIZES = (32, 64, 128, 224)  # to choose from
# Of a set of the hub: tables and pictures, and nothing that runs.
HUB_FILES = tuple(
    f"*.{end}"
    for end in ("parquet", "arrow", "csv", "tsv", "jsonl", "json", "jpg", "jpeg", "png", "webp")
)


def data_home() -> Path:
    """Where named sets lie: $MASKCON_DATA, else ~/.cache/maskcon."""
    return Path(os.environ.get("MASKCON_DATA") or Path.home() / ".cache" / "maskcon")


def find(
    data: str | Found,
    *,
    data_dir: Path | None = None,
    download: bool = False,
    columns: Columns = Columns(),  # noqa: B008 - frozen
    coarse_level: int = 0,
    confine: bool = False,
    max_pixels: int = Config.max_pixels,
    known: Known | None = None,
    progress: Progress | None = None,
) -> Found:
    """The pictures and labels of a data set; no picture is read yet.

    Args:
        data: a name in `data_sets()`; the path of a folder or file in one of `LAYOUTS`;
            hf:OWNER/NAME[@REVISION], a set of the Hugging Face hub in one of them; or arrays, as
            `from_arrays` takes them.
        data_dir: the folder of a named set; by default NAME under `data_home()`.
        download: fetch a set with a name, or of the hub, that is not there. Nothing is fetched
            otherwise.
        columns: names of a table's columns.
        coarse_level: which folder of a tree is the coarse label, 1 for the first; 0 is 1, and
            refuses a tree that is deeper than coarse/fine.
        confine: refuse pictures outside of the folder, or of the folder that a table is in.
        max_pixels: of a picture that is decoded.
        known: what is known of files from before; by default each is read.
        progress: told how a download goes.

    Raises:
        InputError: nothing usable there; the message says what was looked for.
    """
    if isinstance(data, Found):
        return data
    if data.startswith("(") and not os.path.exists(data):  # noqa: PTH110 - how a run.json calls arrays
        raise InputError(f"the run was trained on arrays, {data}: give them again, as data=")
    named = data_sets().get(data)
    if named is not None:
        if Path(data).exists() and progress is not None:
            progress.note(
                f"{data} is the set of that name, not the {data} that is here: for that one say "
                f"./{data}"
            )
        path = data_dir or data_home() / data
        found = named.find(data, path, download=download, progress=progress)
    else:
        path = _existing(data, download)
        found = layouts.read(path, columns, coarse_level)
        found = replace(found, name=data) if is_of_hub(data) else found
    return settled(found, path, max_pixels=max_pixels, known=known, confine=confine)


def settled(
    found: Found, path: Path, *, max_pixels: int, known: Known | None, confine: bool
) -> Found:
    """A set that was found at a path, whose pictures know how they are read; as `find`."""
    for part in found.parts.values():
        part.pictures.settle(max_pixels, known)
    return _confined(found, path) if confine else found


def _existing(data: str, download: bool) -> Path:
    if is_of_hub(data):
        return snapshot(data, "dataset", files=HUB_FILES, download=download)[1]
    path = Path(data)
    try:
        if path.exists():
            return path
    except OSError:  # a name longer than paths may be
        pass
    known = data_sets()
    raise InputError(
        f"{data!r} is no data set that maskcon knows{similar(data, [*known])} and no path "
        f"that exists: give one of {', '.join(known)}, a folder of images or a table"
    )


def _confined(found: Found, path: Path) -> Found:
    """The same, every picture of which lies where the set does."""
    lots = [part.pictures for part in found.parts.values()]
    confine_check(lots, path if path.is_dir() else path.parent)
    return found


def fitting_size(found: Found) -> int:
    """The side at which to train: of `IMAGE_SIZES` the smallest that most pictures fill."""
    sides = []
    for part in (found.parts[name] for name in ("train", "test") if name in found.parts):
        rows = np.linspace(0, len(part) - 1, min(SAMPLE, len(part))).astype(int)
        for row in rows:
            try:
                sides.append(min(part.pictures.size(int(row))))
            except InputError:
                continue  # told where all are read
    middle = float(np.median(sides)) if sides else 0.0
    return next((size for size in IMAGE_SIZES if size >= middle), IMAGE_SIZES[-1])


def load(
    found: Found,
    *,
    image_size: int,
    workers: int = 1,
    skip_unreadable: bool = False,
    progress: Progress | None = None,
    ranks: Ranks = ALONE,
) -> DataSet:
    """Read every picture once.

    Views of up to 64 px are cut from images in memory, which are squares of that size; larger
    ones from the pictures where they lie.

    Args:
        found: the set, with a train and a test split (`Found.with_test`).
        image_size: side of the views in pixels.
        workers: threads that read.
        skip_unreadable: leave out pictures that cannot be read, in place of an error.
        progress: told how it goes.
        ranks: that share the reading; each has the whole set then.

    Raises:
        InputError: pictures cannot be read, or a split is empty.
    """
    splits, skipped = {}, []
    for name, part in found.parts.items():
        splits[name], left_out = hold(part, image_size, workers, skip_unreadable, progress, ranks)
        skipped += left_out
    return DataSet(
        found.name,
        splits["train"],
        splits["test"],
        found.coarse_names,
        found.fine_names,
        found.made_split,
        tuple(skipped),
        splits.get("validation"),
    )


def hold(
    part: Part,
    image_size: int,
    workers: int,
    skip_unreadable: bool,
    progress: Progress | None,
    ranks: Ranks = ALONE,
) -> tuple[Split, list[tuple[str, str]]]:
    """A split of a part, every picture of which was read; and what was left out, and why."""
    progress = progress or Silent()
    features = features_of(part.pictures)
    if features is not None:
        return Split(features, part.coarse, part.fine), []
    images: Images
    if image_size <= SMALL_IMAGE:
        images, errors = scan.into_memory(part.pictures, image_size, workers, progress, ranks)
    else:
        images, errors = scan.look_through(part.pictures, workers, progress, ranks)
    if errors and not skip_unreadable:
        if not ranks.is_main:
            raise MainProcessError("pictures cannot be read")
        raise unreadable(
            list(errors.values()),
            len(part),
            "mend or remove them, or go on without them with --skip-unreadable",
        )
    skipped = [(part.pictures.name(row), reason) for row, reason in errors.items()]
    if errors:
        kept = np.setdiff1d(np.arange(len(part)), list(errors))
        part, images = part.take(kept), images.take(torch.from_numpy(kept))
    if not len(images):
        raise InputError(f"none of {len(skipped):,} pictures can be read")
    return Split(images, part.coarse, part.fine, computed_of(part.pictures)), skipped
