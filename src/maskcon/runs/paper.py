"""Published rows, of MaskCon's paper and of its relatives', and how a row is run again."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from maskcon.config import COLUMN_FIELDS, MACHINE_FIELDS
from maskcon.data import DATA_SETS
from maskcon.errors import InputError

UPPER_BOUND = "supfine"  # a supervised method that is given fine labels
# What the paper trained supfine with is not stated.
UPPER_BOUND_METHODS = ("supcon", "supce")


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        data: name of the data set.
        source: the paper, and its table.
        method: as the paper calls it.
        hyper: "w", "tau", "epochs", as far as the row states them.
        published: {metric as `maskcon eval` calls it: share in [0, 1]}; without what was lost.
        best: the best row of its method on this set.
        recipe: that it is run with.
        init: the initial weights that it started from.
        protocols: of `maskcon eval` that measure the metrics, beside the recall of training.
        differs: what the recipe and the protocols have otherwise than the source.
    """

    data: str
    source: str
    method: str
    hyper: Mapping[str, float]
    published: Mapping[str, float]
    best: bool
    recipe: str
    init: str
    protocols: tuple[str, ...]
    differs: tuple[str, ...]

    @property
    def name(self) -> str:
        """Method and hyper-parameters, as "maskcon w=1 tau=0.05"."""
        return " ".join([self.method, *(f"{k}={v:g}" for k, v in self.hyper.items())])

    @property
    def has_name(self) -> bool:
        """Whether its set is read by a name; a person says where another one lies."""
        return self.data in DATA_SETS

    @property
    def command(self) -> str:
        """What runs it."""
        options = "".join(f" --{k} {v:g}" for k, v in self.hyper.items())
        if self.has_name:
            return f"maskcon reproduce {self.data} {self.method}{options}"
        run = f"runs/{self.method}"
        return (
            f"maskcon train --recipe {self.recipe} --data FOLDER{options} --out {run}; "
            f"maskcon eval {run} --protocol {','.join(self.protocols)}"
        )


@cache
def rows() -> tuple[Row, ...]:
    """Every published row."""
    text = (Path(__file__).parent / "paper.toml").read_text(encoding="utf-8")
    return tuple(
        Row(
            table["data"],
            table["source"],
            method,
            {key: float(value) for key, _, value in (s.partition("=") for s in settings)},
            {
                metric: value / 100
                for metric, value in zip(table["metrics"], values, strict=True)
                if not math.isnan(value)
            },
            " ".join([method, *settings]) in table["best"],
            table["recipe"],
            table["init"],
            tuple(table["protocols"]),
            tuple(table["differs"]),
        )
        for table in tomllib.loads(text)["table"]
        for (method, *settings), values in ((n.split(), v) for n, v in table["rows"].items())
    )


def row_of(data: str, method: str, hyper: Mapping[str, float]) -> Row:
    """The row of a method whose hyper-parameters are those that were given.

    What a row does not state fits any value. Where several fit, the best of the method counts,
    if it is one of them.

    Raises:
        InputError: no row fits, or several and none is the best.
    """
    sets = list(dict.fromkeys(row.data for row in rows()))
    if data not in sets:
        raise InputError(f"no row was published for {data!r}: there are {', '.join(sets)}")
    of_set = [row for row in rows() if row.data == data]
    of_method = [row for row in of_set if row.method == method]
    if not of_method:
        methods = dict.fromkeys(row.method for row in of_set)
        raise InputError(f"no row of {method} on {data} was published: {', '.join(methods)}")
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
            f"there is no one row of {method} on {data} with {given}: there are "
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
        reference: of the row, as it was published.
    """
    reasons = []
    if config["init"] != reference["init"]:
        theirs = "ImageNet weights" if reference["init"] == "imagenet" else reference["init"]
        reasons.append(f"it starts from {config['init']}, the paper from {theirs}")
    reasons += [
        f"{name} is {config[name]}, not {value}"
        for name, value in reference.items()
        if name not in _APART and name != "init" and config[name] != value
    ]
    return reasons
