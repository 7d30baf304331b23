"""Pictures with whatever labels they have, for the commands that only look at them."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from maskcon.commands.sources import (
    find_set,
    inputs_of,
    name_of,
    own_data,
    own_set,
    own_split,
    resolved,
    tell_of,
)
from maskcon.config import COLUMN_FIELDS, Config, reading
from maskcon.data import Found, confine, is_set
from maskcon.data.image_file import is_picture
from maskcon.data.known import Known
from maskcon.data.pictures import Files, Joined, Pictures
from maskcon.data.readers import folder
from maskcon.data.table import of_split
from maskcon.errors import InputError
from maskcon.runs import folder as runs
from maskcon.runtime.progress import Progress


@dataclass(frozen=True)
class Labelled:
    """Pictures and the names of their classes.

    Attributes:
        name: of the data.
        pictures: N of them.
        columns: "paths" [N], and "coarse", "fine", "split": text [N], or None where nobody
            labelled them, or where the set is not split.
        config: how they are read: threads, and whether to go on without unreadable ones.
    """

    name: str
    pictures: Pictures
    columns: Mapping[str, np.ndarray | None]
    config: Config

    @property
    def inputs(self) -> Iterator[str]:
        """The files and folders that are read, which none writes to."""
        yield from inputs_of(self.config)
        yield from self.pictures.read_from()

    def take(self, rows: np.ndarray) -> "Labelled":
        """Some of the rows."""
        columns = {n: None if c is None else c[rows] for n, c in self.columns.items()}
        return Labelled(self.name, self.pictures.take(rows), columns, self.config)


def labelled(
    data: str | Path | Found | None,
    run: Path,
    split: str,
    options: Mapping[str, Any],
    progress: Progress,
) -> Labelled:
    """Pictures and labels of a data set, or pictures alone.

    Args:
        data: a data set's name or path; a folder of pictures that is no set, or a picture, which
            have no labels; arrays; or None for the data that the run was trained with.
        run: the run folder. Its own data are read as they were in training: the same columns, and
            the same split where the set has none.
        split: the pictures to take: "all", or those of "train", "test" or "validation".
        options: fields `READING_FIELDS` of Config.
        progress: told what a person should know.

    Raises:
        InputError: no pictures there.
    """
    given = reading(options)
    trained = _trained(run)
    if data is None:
        if not trained:
            raise InputError(f"{run} does not say what it was trained with: give DATA")
        data = trained["data"]
        tell_of(str(data), run, progress)
    path = None if isinstance(data, Found) else Path(data)
    config = resolved({"data": name_of(data), **given}, None)
    own = trained.get("data") == config.data
    loose = None
    if path is not None and path.is_file() and is_picture(path):
        loose = _unlabelled([path], str(path), config)
    elif path is not None and not own and path.is_dir() and not is_set(path):
        loose = _below(path, config, progress)
    if loose is not None:
        if split != "all":
            raise InputError(f"{data} has no splits: leave out --split")
        return loose
    if own:
        config = own_data({**trained, "workers": 0}, given)
    try:
        found = own_set(config, run, progress, data) if own else find_set(config, progress, data)
    except InputError as error:
        columns = any(name in given for name in (*COLUMN_FIELDS, "coarse_level"))
        chosen = columns or split != "all"
        if path is None or chosen or not (path.is_dir() and folder.found(path)):
            raise
        progress.note(f"{error}\nso all pictures below {path} are taken without labels")
        return _below(path, config, progress)
    for note in found.notes:
        progress.note(note)
    if own and "test" not in found.parts:
        found = own_split(found, run, config, progress)
        progress.note("split as it was in training: train and test")
    return _named(of_split(found, split), config)


def _trained(run: Path) -> Mapping[str, Any]:
    """The configuration of a run; nothing where an encoder came without it."""
    try:
        config: Mapping[str, Any] = runs.read(run)["config"]
        return config
    except InputError:
        return {}


def _below(path: Path, config: Config, progress: Progress) -> Labelled:
    """Every picture below a folder."""
    files, notes = folder.loose(path)
    for note in notes:
        progress.note(note)
    found = _unlabelled(files, str(path), config)
    if config.confine:
        confine.check([found.pictures], path)
    return found


def _unlabelled(paths: list[Path], name: str, config: Config) -> Labelled:
    if not paths:
        raise InputError(f"{name} has no pictures, such as .jpg, .png and .webp files")
    files = [os.path.abspath(path) for path in paths]  # noqa: PTH100 - links stay as they are
    columns = {"paths": np.array(files, object), "coarse": None, "fine": None, "split": None}
    pictures = Files(files)
    pictures.settle(config.max_pixels, Known(trusted=not config.reread))
    return Labelled(name, pictures, columns, config)


def _named(found: Found, config: Config) -> Labelled:
    """A set, all parts one after the other, with the names of its labels."""
    parts = found.parts
    lots = [part.pictures for part in parts.values()]
    pictures = lots[0] if len(lots) == 1 else Joined(lots)
    paths = np.array([pictures.name(row) for row in range(len(pictures))], object)
    split = np.repeat(np.array([*parts], object), [len(part) for part in parts.values()])
    coarse = np.concatenate([_text(p.coarse, found.coarse_names) for p in parts.values()])
    fine = [_text(p.fine, found.fine_names) for p in parts.values() if p.fine is not None]
    columns = {
        "paths": paths,
        "coarse": coarse,
        "fine": np.concatenate(fine) if len(fine) == len(parts) else None,
        "split": split if len(parts) > 1 else None,
    }
    return Labelled(config.data, pictures, columns, config)


def _text(label: Tensor, names: tuple[str, ...]) -> np.ndarray:
    return np.array(names, object)[label.numpy()]
