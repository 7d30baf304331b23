"""Pack a data set into one file."""

from pathlib import Path
from typing import Any

from maskcon.commands.sources import find_set, inputs_of, name_of, resolved
from maskcon.config import reading
from maskcon.data import Found
from maskcon.data.readers import pack as packs
from maskcon.errors import InputError
from maskcon.runtime.files import check_apart, output
from maskcon.runtime.progress import Progress, follower


def pack(
    data: str | Path | Found,
    out: str | Path,
    *,
    size: int = 256,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Decode every picture once, make it small, and write all into one file that is mapped.

    A set without a test split is packed without one.

    Args:
        data: a data set's name or path, or arrays.
        out: the file, NAME.pack, which `data` may then name.
        size: short side of the packed pictures in pixels; smaller ones stay as they are.
        overwrite: replace the file.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config.

    Returns:
        "images" packed, "skipped" (reasons), "bytes" of the file.

    Raises:
        InputError: there is no such data set, or a picture cannot be read, or the file exists.
        TrainingError: the file cannot be written.
    """
    progress = follower(progress)
    out = Path(out)
    if size < 1:
        raise InputError(f"size is {size}: expected pixels, 1 or more")
    with output(out, "OUT", suffixes=(packs.SUFFIX,), overwrite=overwrite):
        config = resolved({"data": name_of(data), **reading(options)}, None)
        found = find_set(config, progress, data)
        check_apart([out], inputs_of(config, found), "OUT")
        images, skipped = packs.write(
            found,
            out,
            size=size,
            workers=config.readers,
            skip_unreadable=config.skip_unreadable,
            progress=progress,
        )
    return {"images": images, "skipped": skipped, "bytes": out.stat().st_size}
