"""Look through a data set."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskcon.commands import choice
from maskcon.commands.sources import find_set, name_of, resolved
from maskcon.config import Config
from maskcon.data import Found, data_sets, fitting_size
from maskcon.data.check import Report
from maskcon.data.check import check as look_through
from maskcon.errors import InputError
from maskcon.runtime.progress import Progress, follower
from maskcon.train import frozen as freezing


def check(
    data: str | Path | Found,
    *,
    expect: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Report:
    """Read every picture of a data set once, and report what is there and what is wrong.

    Args:
        data: a data set's name or path, or arrays.
        expect: say how long training would take, where `train` would choose how: a few of its
            steps are measured.
        progress: told how it goes.
        options: how to read the data, and any other option of `train`.

    Returns:
        The report; training would be wrong where `wrong` is not empty.

    Raises:
        InputError: there is no such data set.
    """
    progress = follower(progress)
    given = {"data": name_of(data), **options}
    config = resolved(given, None)
    there = isinstance(data, Found) or str(data) in data_sets() or Path(data).exists()
    try:
        found = find_set(config, progress, data)
        made = choice.choose(config, found) if choice.is_open(given, None) else None
        config = made.settled(given) if made is not None else config
        fits = freezing.input_size(config) if config.on_vectors else fitting_size(found)
        split, trouble = _split(found, config)
        report = look_through(split, config, fits, progress)
        report = replace(report, wrong=(*trouble, *report.wrong))
        if made is None:
            return report
        told = [*made.lines]
        if expect and not report.wrong:
            progress.update("measuring how long training will take")
            settled = config.settled(len(split.parts["train"]), fits)
            if expectation := choice.expectation(settled, split):
                told.append(expectation)
        facts = {**report.facts, "chosen": made.typed}
        return replace(report, facts=facts, lines=(*report.lines, *told))
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
