"""Whether pictures lie inside of a folder: for tables and folders that others made."""

import os
from collections.abc import Iterable
from pathlib import Path

from maskcon.data.pictures import Pictures
from maskcon.errors import InputError
from maskcon.runtime.files import place_of

SHOWN = 3  # files that a message names


def check(lots: Iterable[Pictures], root: Path) -> None:
    """See that every file that pictures are read from lies inside of a folder, links followed.

    Args:
        lots: pictures; arrays and packs have no files of their own.
        root: the folder, which may be a link itself.

    Raises:
        InputError: some lie elsewhere; the message names the first.
    """
    home = os.path.realpath(root)
    files = list(dict.fromkeys(file for pictures in lots for file in pictures.read_from()))
    folders: dict[str, str] = {}
    outside = [
        (file, place)
        for file, place in ((file, place_of(file, folders)) for file in files)
        if os.path.commonpath((home, place)) != home
    ]
    if outside:
        named = ", ".join(
            file if file == place else f"{file} (which is {place})"
            for file, place in outside[:SHOWN]
        )
        raise InputError(
            f"{len(outside):,} of {len(files):,} files lie outside of {root}: {named}"
            f"{', ...' if len(outside) > SHOWN else ''}. Bring them into the folder, or leave "
            "out --confine if you trust whoever named them"
        )
