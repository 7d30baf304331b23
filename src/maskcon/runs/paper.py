"""The published rows of MaskCon's paper, and how a row is run again."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maskcon.config import COLUMN_FIELDS, MACHINE_FIELDS
from maskcon.errors import InputError

KS = (1, 2, 5, 10)
UPPER_BOUND = "supfine"  # a supervised method that is given fine labels
# What the paper trained supfine with is not stated.
UPPER_BOUND_METHODS = ("supcon", "supce")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        data: name of the data set.
        source: the table.
        method: as the paper calls it.
        hyper: "w" and "tau", as far as the row states them.
        recall: {"recall@1": share in [0, 1], ...}; without the values that were lost.
        best: the best row of its method on this set.
    """

    data: str
    source: str
    method: str
    hyper: Mapping[str, float]
    recall: Mapping[str, float]
    best: bool

    @property
    def name(self) -> str:
        """Method and hyper-parameters, as "maskcon w=1 tau=0.05"."""
        return " ".join([self.method, *(f"{k}={v:g}" for k, v in self.hyper.items())])


@cache
def rows() -> tuple[Row, ...]:
    """Every published row."""
    tables = tomllib.loads((Path(__file__).parent / "paper.toml").read_text(encoding="utf-8"))
    found = []
    for data, table in tables.items():
        for name, values in table.items():
            if name in ("source", "best"):
                continue
            method, *settings = name.split()
            hyper = {key: float(value) for key, _, value in (s.partition("=") for s in settings)}
            recall = {
                f"recall@{k}": value / 100
                for k, value in zip(KS, values, strict=True)
                if not math.isnan(value)
            }
            best = name in table["best"]
            found.append(Row(data, table["source"], method, hyper, recall, best))
    return tuple(found)


def row_of(data: str, method: str, hyper: Mapping[str, float]) -> Row:
    """The row of a method whose hyper-parameters are those that were given.

    What a row does not state fits any value. Where several fit, the best of the method counts,
    if it is one of them.

    Raises:
        InputError: no row fits, or several and none is the best.
    """
    sets = list(dict.fromkeys(row.data for row in rows()))
    if data not in sets:
        raise InputError(f"the paper has no rows for {data!r}: it has {', '.join(sets)}")
    of_set = [row for row in rows() if row.data == data]
    of_method = [row for row in of_set if row.method == method]
    if not of_method:
        methods = dict.fromkeys(row.method for row in of_set)
        raise InputError(f"the paper has no row of {method} on {data}: {', '.join(methods)}")
    fitting = [
        row
        for row in of_method
        if all(row.hyper.get(k, value) == value for k, value in hyper.items())
    ]
    if len(fitting) > 1:
        fitting = [row for row in fitting if row.best]
    if len(fitting) != 1:
        given = " ".join(f"--{k} {v:g}" for k, v in hyper.items()) or "these options"
        raise InputError(
            f"the paper has no one row of {method} on {data} with {given}: it has "
            f"{'; '.join(row.name for row in of_method)}"
        )
    return fitting[0]


def published(config: Mapping[str, Any]) -> Row | None:
    """The row that a run's configuration belongs to, by data, method and hyper-parameters.

    The budget may differ: see `differences`.
    """
    method = config["method"]
    if config["label"] == "fine":
        if method not in UPPER_BOUND_METHODS:
            return None
        method = UPPER_BOUND
    of_method = (row for row in rows() if (row.data, row.method) == (config["data"], method))
    fits = (r for r in of_method if all(config[name] == v for name, v in r.hyper.items()))
    return next(fits, None)


# What says nothing of how good a run can be, or is told elsewhere.
_APART = {*MACHINE_FIELDS, *COLUMN_FIELDS, "seed", "precision", "eval_every", "log_every"}
_APART |= {"test_share", "skip_unreadable"}


def differences(config: Mapping[str, Any], reference: Mapping[str, Any]) -> list[str]:
    """Why a run cannot be set beside the published numbers; empty if it can.

    Args:
        config: of the run.
        reference: of the row, as the paper ran it.
    """
    reasons = []
    if config["init"] != reference["init"]:
        reasons.append(f"it starts from {config['init']}, the paper from ImageNet weights")
    reasons += [
        f"{name} is {config[name]}, not {value}"
        for name, value in reference.items()
        if name not in _APART and name != "init" and config[name] != value
    ]
    return reasons
