"""The methods: pure functions of one training step, and all that goes into them.

A method sees a `Step` and returns a scalar; it knows no network, no file and no fine label.

    METHODS     the record of each: its loss, its hyper-parameters, what it needs of the loop
    step        Output, Step: what a loss may look at
    family      the loss functions
    losses      the losses that torch does not have, a value for each row
    targets     label rules; the legend of letters in shape comments
    graph       components of the nearest-neighbour graph
    objective   a method with what can be added to any of them
    bank        a ring of earlier keys
    mixing      mixtures of images
    schedules   values that change over a run
    ranges      ranges of hyper-parameters

Importing the package does not import torch, so that `maskcon train --help` need not wait for it:
a record names its function, which is imported where it is called.
"""

from maskcon.methods.method import Method
from maskcon.methods.step import Lots, Mixed, Output, Step
from maskcon.runtime.plugins import with_own

__all__ = ["METHODS", "Lots", "Method", "Mixed", "Output", "Step"]

# To add one: a function in family.py, a record here, an oracle in tests/methods/test_methods.py.
_OURS = {
    "maskcon": Method(
        "maskcon.methods.family:maskcon",
        {"w": 1.0, "tau": 0.05, "t": 0.1},
        key="momentum",
        heads=("z",),
        lots=True,
    ),
    "grafit": Method(
        "maskcon.methods.family:grafit",
        {"w": 0.8, "t": 0.1},
        key="momentum",
        heads=("z",),
        lots=True,
    ),
    "supcon": Method(
        "maskcon.methods.family:supcon",
        {"t": 0.1},
        key="momentum",
        heads=("z",),
        lots=True,
    ),
    "selfcon": Method(
        "maskcon.methods.family:selfcon",
        {"t": 0.1},
        key="momentum",
        heads=("z",),
        labels=False,
    ),
    "coins": Method(
        "maskcon.methods.family:coins",
        {"w": 0.5, "t": 0.1},
        key="momentum",
        heads=("z", "logits"),
    ),
    "coins_original": Method(
        "maskcon.methods.family:coins_original",
        {"w": 0.5, "t_class": 0.2, "t": 0.1},
        key="momentum",
        heads=("z", "prototypes"),
    ),
    "supce": Method(
        "maskcon.methods.family:supce",
        {},
        key="none",
        heads=("logits",),
    ),
    "ancor": Method(
        "maskcon.methods.family:ancor",
        {"t": 0.2},
        key="momentum",
        heads=("z", "rectified_prototypes"),
    ),
    "ascl": Method(
        "maskcon.methods.family:ascl",
        {"tau": 0.05, "neighbours": 1.0, "t": 0.1},
        key="momentum",
        heads=("z",),
        labels=False,
    ),
    "ressl": Method(
        "maskcon.methods.family:ressl",
        {"tau": 0.04, "t": 0.1},
        key="momentum",
        heads=("z",),
        labels=False,
    ),
    "sane": Method(
        "maskcon.methods.family:sane",
        {"tau_sharpen": 0.8, "mu": "0:1:cosine", "lam": 0.5, "t": 0.2},
        key="momentum",
        heads=("z",),
        labels=False,
        mixes=True,
    ),
    "wcl": Method(
        "maskcon.methods.family:wcl",
        {"t": 0.1},
        key="shared",
        heads=("z", "graph"),
        labels=False,
        projection_layers=3,
    ),
    "wcl_crops": Method(
        "maskcon.methods.family:wcl_crops",
        {"neighbours": 4.0, "t": 0.1},
        key="shared",
        heads=("z", "graph"),
        labels=False,
        projection_layers=3,
        crops=True,
    ),
}

METHODS: dict[str, Method] = with_own(_OURS, "maskcon.methods", Method)
