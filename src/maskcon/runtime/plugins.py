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
            _left_out(group, entry.name, _package(entry), "another package has one of this name")
            continue
        try:
            found[entry.name] = entry.load()
        except Exception as error:  # whatever the code of others raises
            reason = f"{type(error).__name__}: {error}. Mend or uninstall it"
            _left_out(group, entry.name, _package(entry), reason)
    return found


def with_own(own: Mapping[str, _T], group: str) -> dict[str, _T]:
    """What maskcon has itself, and what the entry points of a group add; no name is replaced."""
    for name in entries(group):
        if name in own:
            _left_out(group, name, "a package", "maskcon has one of this name")
    return {**entries(group), **own}


def _package(entry: EntryPoint) -> str:
    return f"the package {entry.dist.name}" if entry.dist is not None else entry.value


@cache  # said once
def _left_out(group: str, name: str, package: str, reason: str) -> None:
    logging.getLogger("maskcon").warning(
        "%s of %s, from %s, is left out: %s", name, group, package, reason
    )
