"""The commands of the command line, as Python functions of the same names and options.

from maskcon.commands import train
run = train(data="cifar100", method="maskcon", tau=0.05, out="runs/x")
run["results"]["recall@1"]
"""

from maskcon.commands.judging import compare, eval  # noqa: A004 - the command is called so
from maskcon.commands.listing import datasets, methods
from maskcon.commands.pictures import check, pack
from maskcon.commands.reproducing import reproduce
from maskcon.commands.training import demo, train

__all__ = [
    "check",
    "compare",
    "datasets",
    "demo",
    "eval",
    "methods",
    "pack",
    "reproduce",
    "train",
]
