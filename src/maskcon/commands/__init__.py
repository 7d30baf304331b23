"""The commands of the command line, as Python functions of the same names and options.

from maskcon.commands import train
run = train(data="cifar100", method="maskcon", tau=0.05, out="runs/x")
run["results"]["recall@1"]

Each is imported when it is asked for: a search need not wait for what clustering needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# ruff: noqa: F401 - what type checkers and documentation see of `__all__`
if TYPE_CHECKING:
    from maskcon.commands._assign import assign
    from maskcon.commands._backbones import backbones
    from maskcon.commands._check import check
    from maskcon.commands._compare import compare
    from maskcon.commands._datasets import datasets
    from maskcon.commands._demo import demo
    from maskcon.commands._discover import discover
    from maskcon.commands._embed import embed
    from maskcon.commands._eval import eval  # noqa: A004 - the command is called so
    from maskcon.commands._explore import explore
    from maskcon.commands._export import export
    from maskcon.commands._index import index
    from maskcon.commands._methods import methods
    from maskcon.commands._pack import pack
    from maskcon.commands._report import report
    from maskcon.commands._reproduce import reproduce
    from maskcon.commands._search import search
    from maskcon.commands._serve import serve
    from maskcon.commands._train import train
    from maskcon.commands._train_seeds import train_seeds
    from maskcon.commands._vectors import vectors

# What the command line has, in the groups of its help. `data` has two commands, check and pack,
# `train --seeds` is `train_seeds` and `discover --assign` is `assign`; `benchmark` has functions
# of its own, `maskcon.benchmark.BENCHMARKS`.
COMMANDS = {
    "Train and judge": ("train", "demo", "reproduce", "eval", "compare", "report"),
    "Find and search": ("explore", "discover", "embed", "index", "search", "serve", "export"),
    "Data": ("data", "datasets"),
    "Other": ("methods", "backbones", "vectors", "benchmark"),
}
_GROUPS = ("data", "benchmark")
__all__ = [
    *(name for names in COMMANDS.values() for name in names if name not in _GROUPS),
    *("check", "pack", "train_seeds", "assign"),
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module(f"maskcon.commands._{name}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
