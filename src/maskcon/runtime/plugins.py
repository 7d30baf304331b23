"""What installed packages add, through entry points of their pyproject.toml.

[project.entry-points."maskcon.data_sets"]
birds = "our_package.birds:BIRDS"
"""

import logging
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

_T = TypeVar("_T")


@cache
def entries(group: str) -> dict[str, Any]:
    """What the entry points of a group stand for, by name; loaded once, and not to be changed.

    One that cannot be loaded is left out, and a warning of the logger "maskcon" (a line on
    stderr where nobody listens to it) names its package and why.

    Args:
        group: such as "maskcon.data_sets".
    """
    found: dict[str, Any] = {}
    for entry in entry_points(group=group):
        if entry.name in found:
            _leave_out(entry, "another package has one of this name")
            continue
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # whatever the code of others raises
            _leave_out(entry, f"{type(error).__name__}: {error}. Mend or uninstall it")
    return found


def with_own(own: Mapping[str, _T], group: str, kind: type[_T] | None = None) -> dict[str, _T]:
    """What maskcon has itself, and what the entry points of a group add; no name is replaced.

    Args:
        own: by name.
        group: of the entry points.
        kind: what each of them stands for, if not for a function that makes one; other things
            are left out with a warning.
    """
    added = entries(group) if kind is None else _made(group, kind)  # type: ignore[arg-type]
    for name in added:
        if name in own:
            _leave_out(_of(group, name), "maskcon has one of this name")
    return {**added, **own}


@cache
def _made(group: str, kind: type[_T]) -> dict[str, _T]:
    found = {}
    for name, given in entries(group).items():
        try:
            made = given if isinstance(given, kind) else given()
        except Exception as error:  # whatever the code of others raises
            _leave_out(_of(group, name), f"{type(error).__name__}: {error}. Mend or uninstall it")
            continue
        if isinstance(made, kind):
            found[name] = made
        else:
            _leave_out(_of(group, name), f"it is no {kind.__name__}, but {made!r}")
    return found


def _of(group: str, name: str) -> EntryPoint:
    return next(iter(entry_points(group=group, name=name)))


@cache  # said once
def _leave_out(entry: EntryPoint, reason: str) -> None:
    package = f"the package {entry.dist.name}" if entry.dist is not None else entry.value
    logging.getLogger("maskcon").warning(
        "%s of %s, from %s, is left out: %s", entry.name, entry.group, package, reason
    )
