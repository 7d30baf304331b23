"""Look through a data set."""

from pathlib import Path
from typing import Any

from maskcon.commands.sources import find_set, name_of, resolved
from maskcon.data import Found, data_sets, fitting_size
from maskcon.data.check import Report
from maskcon.data.check import check as look_through
from maskcon.errors import InputError
from maskcon.runtime.progress import Progress, Silent


def check(data: str | Path | Found, *, progress: Progress | None = None, **options: Any) -> Report:
    """Read every picture of a data set once, and report what is there and what is wrong.

    Args:
        data: a data set's name or path, or arrays.
        progress: told how it goes.
        options: how to read the data, and any other option of `train`.

    Returns:
        The report; training would be wrong where `wrong` is not empty.

    Raises:
        InputError: there is no such data set.
    """
    progress = progress or Silent()
    config = resolved({"data": name_of(data), **options}, None)
    there = isinstance(data, Found) or str(data) in data_sets() or Path(data).exists()
    try:
        found = find_set(config, progress, data)
        fits = fitting_size(found)
        split = found.with_test(config.test_share, config.seed)
        split = split.with_validation(config.val_share, config.seed)
        return look_through(split, config, fits, progress)
    except InputError as error:
        if not there:
            raise
        return Report((str(error),), (), {"name": name_of(data)}, ())
    finally:
        progress.close()
