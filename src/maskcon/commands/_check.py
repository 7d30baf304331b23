"""Look through a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskcon.commands.sources import find_set, name_of, resolved
from maskcon.config import Config
from maskcon.data import Found, data_sets, fitting_size
from maskcon.data.check import Report
from maskcon.data.check import check as look_through
from maskcon.errors import InputError
from maskcon.runtime.progress import Progress, follower


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
    progress = follower(progress)
    config = resolved({"data": name_of(data), **options}, None)
    there = isinstance(data, Found) or str(data) in data_sets() or Path(data).exists()
    try:
        found = find_set(config, progress, data)
        fits = fitting_size(found)
        split, trouble = _split(found, config)
        report = look_through(split, config, fits, progress)
        return replace(report, wrong=(*trouble, *report.wrong))
    except InputError as error:
        if not there:
            raise
        return Report((str(error),), (), {"name": name_of(data)}, ())
    finally:
        progress.close()


def _split(found: Found, config: Config) -> tuple[Found, tuple[str, ...]]:
    """A set as training splits it; one that cannot be split as train images alone, with why."""
    try:
        split = found.with_test(config.test_share, config.seed)
        return split.with_validation(config.val_share, config.seed), ()
    except InputError as error:
        train = found.parts.get("train")
        if train is None:
            raise
        parts = {"train": train, "test": train.take(np.arange(0))}
        return replace(found, parts=parts), (str(error),)
