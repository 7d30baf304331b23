"""The commands of the command line, as Python functions of the same names and options.

from maskcon.commands import train
run = train(data="cifar100", method="maskcon", tau=0.05, out="runs/x")
run["results"]["recall@1"]

Each is imported when it is asked for: a search need not wait for what clustering needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskcon.commands.discovering import discover
    from maskcon.commands.embedding import embed
    from maskcon.commands.exporting import export
    from maskcon.commands.indexing import index
    from maskcon.commands.judging import compare, eval  # noqa: A004 - the command is called so
    from maskcon.commands.listing import datasets, methods
    from maskcon.commands.pictures import check, pack
    from maskcon.commands.reporting import report
    from maskcon.commands.reproducing import reproduce
    from maskcon.commands.searching import search
    from maskcon.commands.training import demo, train

_WHERE = {
    "check": "pictures",
    "compare": "judging",
    "datasets": "listing",
    "demo": "training",
    "discover": "discovering",
    "embed": "embedding",
    "eval": "judging",
    "export": "exporting",
    "index": "indexing",
    "methods": "listing",
    "pack": "pictures",
    "report": "reporting",
    "reproduce": "reproducing",
    "search": "searching",
    "train": "training",
}
__all__ = [
    "check",
    "compare",
    "datasets",
    "demo",
    "discover",
    "embed",
    "eval",
    "export",
    "index",
    "methods",
    "pack",
    "report",
    "reproduce",
    "search",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f"maskcon.commands.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
