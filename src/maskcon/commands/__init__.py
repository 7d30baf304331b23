"""The commands of the command line, as Python functions of the same names and options.

from maskcon.commands import train
run = train(data="cifar100", method="maskcon", tau=0.05, out="runs/x")
run["results"]["recall@1"]

Each is imported when it is asked for: a search need not wait for what clustering needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maskcon.commands._data import check, pack
    from maskcon.commands._discover import discover
    from maskcon.commands._embed import embed
    from maskcon.commands._eval import compare, eval  # noqa: A004 - the command is called so
    from maskcon.commands._export import export
    from maskcon.commands._index import index
    from maskcon.commands._listing import datasets, methods
    from maskcon.commands._report import report
    from maskcon.commands._reproduce import reproduce
    from maskcon.commands._search import search
    from maskcon.commands._train import demo, train

_WHERE = {
    "check": "_data",
    "compare": "_eval",
    "datasets": "_listing",
    "demo": "_train",
    "discover": "_discover",
    "embed": "_embed",
    "eval": "_eval",
    "export": "_export",
    "index": "_index",
    "methods": "_listing",
    "pack": "_data",
    "report": "_report",
    "reproduce": "_reproduce",
    "search": "_search",
    "train": "_train",
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
