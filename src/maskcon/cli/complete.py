"""Names that a shell completes: data sets, backbones, methods, recipes, protocols, trackers.

Nobody waits for torch at a key press, so names whose own modules import it stand here again; a test
holds them against those.
"""

from collections.abc import Callable, Iterable
from importlib.metadata import entry_points

import rich_click as click
from click.shell_completion import CompletionItem

from maskcon.config import recipes
from maskcon.methods import METHODS
from maskcon.model.recommended import RECOMMENDED

SETS = (
    *("cars196", "cifar10", "cifar100", "cifartoy_bad", "cifartoy_good", "glyphs"),
    *("grocery_small", "imagenet32", "sop_split1", "sop_split2"),
)
OWN_NETWORKS = (
    *("resnet10w8", "resnet10w16", "resnet10w32"),
    *("resnet12", "resnet18", "resnet34", "resnet50", "vgg7w16", "vgg7w48"),
)
PROTOCOLS = (
    *("recall", "knn", "linear", "semi-supervised", "few-shot", "cluster", "diagnostics"),
    *("soft-labels", "all"),
)
TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


class Names(click.ParamType):
    """Text that is one of some names, or something else: the shell completes the names.

    Args:
        names: makes them when a shell asks.
        files: it may be a path too.
        several: names with commas between them.
    """

    name = "text"

    def __init__(
        self, names: Callable[[], Iterable[str]], *, files: bool = False, several: bool = False
    ):
        self.names, self.files, self.several = names, files, several

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The names that begin so; after a comma, those that are not there yet."""
        before, comma, last = incomplete.rpartition(",") if self.several else ("", "", incomplete)
        there = before.split(",")
        names = (name for name in self.names() if name.startswith(last) and name not in there)
        found = [CompletionItem(before + comma + name) for name in sorted(set(names))]
        # files come first: at their line bash's function forgets what came before
        return [*([CompletionItem(incomplete, type="file")] if self.files else []), *found]


def _sets() -> list[str]:
    own = entry_points(group="maskcon.data_sets")
    return [*SETS, *(entry.name for entry in own)]


DATA = Names(_sets, files=True)
METHOD = Names(lambda: METHODS)
PROTOCOL = Names(lambda: PROTOCOLS, several=True)
LOG = Names(lambda: TRACKERS, several=True)
RECIPE = Names(recipes, files=True)
FIELDS = {  # of Config
    "data": DATA,
    "method": METHOD,
    "backbone": Names(lambda: [*OWN_NETWORKS, *RECOMMENDED]),
    "init": Names(lambda: ("scratch", "imagenet"), files=True),
}
