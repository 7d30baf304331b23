"""What run.json and metrics.jsonl hold, which others may have written: right kinds, or an error.

A field that nobody wrote is told where it is asked for; one of another kind where the file is read.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from maskcon.config import LONGEST, as_now, check_values
from maskcon.errors import InputError, brief

# Kinds of values: a type, a tuple of kinds to choose from, [kind of each] (as many as are listed,
# if it is not one), or {name: kind}, where the name "*" is any other one. Other fields are not
# looked at.
_NUMBERS = {"*": float}
_MEASURED = {
    "intervals": {"*": [float, float]},
    "by_coarse": {"*": _NUMBERS},
    "measured": {"*": (str, None)},
    "*": (float, _NUMBERS),
}
RECORD: dict[str, Any] = {
    "status": str,
    "precision": str,
    "preprocessing": {"image_size": int, "mean": [float], "std": [float]},
    "started": str,
    "command": (str, None),
    "commit": (str, None),
    "versions": {"*": str},
    "hardware": {"device": str, "cpu": str, "threads": int, "ranks": int},
    "data": {
        "name": str,
        "train": int,
        "test": int,
        "coarse": [str],
        "fine": int,
        "made_split": (None, {"share": float, "seed": int}),
        "validation": (None, {"images": int, "share": (None, float)}),
        "skipped": int,
    },
    "results": {"best": _NUMBERS, "pixels": _NUMBERS, "frozen": _NUMBERS, "*": float},
    "training": {
        "seconds": float,
        "images_per_second": float,
        "stopped": (None, int),
        "head": (None, {"kept": bool, "frozen": _NUMBERS, "learned": _NUMBERS}),
    },
    "evaluations": {"*": _MEASURED},
    "resumed": [dict],
    "id": str,
    "told": {"*": {"lines": int, "live": bool}},
}


class Record(dict[str, Any]):
    """A mapping of a file that tells which field it lacks, where one is asked for.

    Args:
        content: its fields.
        where: the file, and the fields around.
    """

    def __init__(
        self, content: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), where: str = "the record"
    ):
        super().__init__(
            (name, Record(value, f"{where}: {name}") if isinstance(value, dict) else value)
            for name, value in dict(content).items()
        )
        self.where = where

    def __missing__(self, name: str) -> Any:
        raise InputError(
            f"{self.where} has no {name!r}: it is no whole record of a run, or another program "
            "changed it"
        )


def run_of(content: Any, path: Path) -> Record:
    """The content of run.json, its names those of now.

    Raises:
        InputError: it is no record of a run, or a field of it is of another kind.
    """
    if not isinstance(content, dict) or not isinstance(content.get("config"), dict):
        raise InputError(f"{path} is no record of a run: it has no config")
    config = as_now(content["config"])
    try:
        check_values(config)
    except InputError as error:
        raise InputError(f"{path}: its config is damaged: {error}") from error
    _check(content, RECORD, str(path))
    return Record({**content, "config": config}, str(path))


def line_of(content: Any, where: str) -> dict[str, float]:
    """A line of metrics.jsonl: numbers by name, the step among them.

    Raises:
        InputError: it is none.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where} is {brief(content)}: expected metrics by name")
    _check(content, {"step": int, "epoch": int, "*": float}, where)
    if "step" not in content:
        raise InputError(f"{where} has no 'step'")
    return content


def _check(value: Any, kind: Any, where: str) -> None:
    """Raise `InputError` where a value is of another kind."""
    if isinstance(kind, dict):
        if not isinstance(value, dict):
            raise InputError(f"{where} is {brief(value)}: expected fields by name")
        for name, part in value.items():
            if name in kind or "*" in kind:
                _check(part, kind.get(name, kind.get("*")), f"{where}: {brief(name)}")
    elif isinstance(kind, list):
        if not isinstance(value, list):
            raise InputError(f"{where} is {brief(value)}: expected a list")
        if len(kind) > 1 and len(value) != len(kind):
            raise InputError(f"{where} is {brief(value)}: expected {len(kind)} values")
        for part in value:
            _check(part, kind[0], where)
    elif isinstance(kind, tuple):
        if value is None and None in kind:
            return
        kinds = [each for each in kind if each is not None]
        fitting = [each for each in kinds if isinstance(each, dict) == isinstance(value, dict)]
        _check(value, (fitting or kinds)[0], where)
    elif not _is(value, kind):
        expected = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        raise InputError(
            f"{where} is {brief(value)}: expected {expected.get(kind, 'fields by name')}"
        )


def _is(value: Any, kind: Any) -> bool:
    if kind is float:  # NaN is a figure that could not be measured
        return type(value) in (int, float) and not abs(value) > sys.maxsize
    if kind is int:
        return type(value) is int and 0 <= value <= sys.maxsize
    return isinstance(value, kind) and (kind is not str or len(value) <= LONGEST)
