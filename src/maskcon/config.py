"""One flat, frozen configuration; the command line's flags are its fields.

Values come from three places, the later winning: the defaults below (the recipe of MaskCon's
paper for small images), a recipe file, and what a person gives. A method's hyper-parameters
stand beside the fields in all three, and are kept in `hyper`.
"""

import difflib
import math
import os
import tomllib
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from maskcon.errors import InputError, brief
from maskcon.methods import METHODS
from maskcon.methods.method import Hyper, Method
from maskcon.methods.schedules import Schedule, is_schedule

LONGEST = 4096  # letters of a name or path
SMALL_IMAGE = 64  # pixels; up to here images are in memory and ResNets have the small-image stem
BATCH_SIZE = 128  # of the paper
KEYWORDS = ("scratch", "imagenet")  # of --init, whatever folders are there


# What no machine has memory or patience for is a slip of the keyboard.
LARGEST = {
    **{
        "image_size": 4096,
        "projection": 2**16,
        "projection_hidden": 2**16,
        "projection_layers": 16,
        "bank_size": 2**28,
        "batch_size": 2**20,
    },
    **{"micro_batch": 2**20, "frozen_views": 1000, "components": 2**16, "head_hidden": 2**18},
    **{"layers": 1000, "unfreeze": 1000, "epochs": 10**6, "workers": 1024},
}

# What `maskcon train --help` shows together, in this order; "first" is what most people need.
OPTION_GROUPS = {
    "first": "What most people need",
    "data": "Data",
    "views": "Views",
    "method": "Method",
    "network": "Network",
    "frozen": "Head on a frozen network",
    "optimisation": "Optimisation",
    "hardware": "Hardware",
    "output": "Output",
}


def _option(group: str, default: Any, text: str, *, needs: str = "", first: bool = False) -> Any:
    """A field; `needs` names those of `NEEDS` without which it has no effect, with spaces."""
    shown = "first" if first else group
    about = {"help": text, "group": shown, "needs": tuple(needs.split())}
    return field(default=default, metadata=about)


_data = partial(_option, "data")
_named = partial(_data, needs="pictures name")
_column = partial(_data, None, needs="pictures table")
_views = partial(_option, "views")
_crops = partial(_views, needs="pictures")
_method = partial(_option, "method")
_network = partial(_option, "network")
_frozen = partial(_option, "frozen")
_freeze = partial(_frozen, needs="freeze")
_head = partial(_frozen, needs="vectors")
_new_head = partial(_frozen, needs="vectors new")
_taught = partial(_frozen, None, needs="vectors lots classes")
_optimisation = partial(_option, "optimisation")
_hardware = partial(_option, "hardware")
_output = partial(_option, "output")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Everything that a training run depends on."""

    data: str = _data(
        "glyphs",
        "a data set's name (see `maskcon datasets`), folder or table; hf:OWNER/NAME of the hub",
        needs="pictures",
        first=True,
    )
    data_dir: str | None = _named(None, "where a named data set lies [~/.cache/maskcon/NAME]")
    download: bool = _data(
        False,
        "fetch a named data set, weights of --init, or what is called hf:OWNER/NAME, if not there",
        needs="fetched",
    )
    image_column: str | None = _column("a table's column of images [image, img, path...]")
    coarse_column: str | None = _column("of coarse labels [coarse, coarse_label, label...]")
    fine_column: str | None = _column("of fine labels [fine, fine_label]; none: there is none")
    split_column: str | None = _column("of train or test [split, set...]; none: there is none")
    test_share: float = _data(0.2, "share of the images to test with, where no split is given")
    val_share: float = _data(
        0.0,
        "share of the train images that do not train: the best epoch is chosen on them, by their "
        "recall@1, without fine labels that of coarse ones times the share of steady neighbours; "
        "0 is none",
    )
    confine: bool = _data(False, "refuse pictures outside of the data's own folder, links followed")
    skip_unreadable: bool = _data(
        False, "go on without pictures that cannot be read", needs="pictures"
    )
    reread: bool = _data(
        False,
        "read every picture again, also where the file's length and times are what they were",
        needs="pictures",
    )
    max_pixels: int = _data(
        89_000_000,
        "pixels that a picture may have; a JPEG of more is decoded smaller, others are refused",
        needs="pictures",
    )
    coarse_level: int = _data(
        0,
        "which of the folders that a picture lies in is its coarse label, the next being the fine "
        "one: 1 is the first; 0 is the first, too, and refuses trees with more levels than two",
        needs="pictures folder",
    )
    one_level: bool = _data(
        False, "the labels have one level, and evaluation judges by them; there is no coarse label"
    )
    image_size: int = _data(
        0, "side of the views in pixels; 0 is chosen from the pictures", needs="pictures"
    )

    query_view: str = _views(
        "auto",
        "view of the query: plain, weak, strong, perspective, jitter, moco or simclr; auto by "
        "size; moco:10,simclr changes after epoch 10; module:attribute is one of your own",
    )
    key_view: str = _views("auto", "view of the key, likewise", needs="key")
    crop_scale: float | None = _crops(
        None, "smallest share of an image's area that a crop keeps [0.2; of simclr 0.08]"
    )
    flip: bool = _crops(True, "mirror every other view; --no-flip for letters and the like")

    method: str = _method("maskcon", "the loss (see `maskcon methods`)", first=True)
    label: Literal["coarse", "fine"] = _method(
        "coarse", "the labels that training sees; fine only for the upper bound", needs="labels"
    )
    mixup: float = _method(
        0.0, "share of the loss of mixed images, with methods that have a key encoder; 0 is none"
    )
    mixup_alpha: float = _method(
        2.0, "alpha of mixup: shares are drawn from Beta(alpha, alpha)", needs="mixed"
    )
    ce_weight: float = _method(
        0.0, "weight of a linear classifier's cross-entropy, added to the method's loss"
    )
    bank_size: int = _method(8192, "keys that the bank remembers", needs="bank")
    ema: float = _method(0.99, "share of the key encoder that stays at each step", needs="momentum")

    backbone: str = _network(
        "resnet18",
        "resnet18/34/50; resnet10w16/w32 or vgg7w48 for a few cores; resnet12 of few-shot papers; "
        "a name that `maskcon backbones` lists; torchvision/NAME or timm/NAME",
        needs="pictures new",
        first=True,
    )
    init: str = _network(
        "scratch",
        "scratch, imagenet (weights of others, here or by --download), a run or a weights file",
        first=True,
    )
    unfreeze: int = _network(
        0, "fine-tune only the last N blocks of the backbone, and what is behind them; 0 is all"
    )
    stem: Literal["auto", "small", "large"] = _network(
        "auto",
        "first layers of torchvision's ResNets; auto is small up to 64 px",
        needs="pictures new",
    )
    projection: int = _network(128, "width of the projection", needs="projection")
    projection_hidden: int = _network(
        0,
        "width of the projector's hidden layers; 0 is the feature's, 2048 with batch norm",
        needs="projection hidden",
    )
    projection_layers: int = _network(
        0,
        "layers of the projector, from three on with batch norm; 0 is 2, and 3 of wcl",
        needs="projection",
    )

    freeze: bool = _frozen(
        False, "leave the backbone as --init has it; train a head on its vectors, computed once"
    )
    features: str | None = _frozen(
        None, "a file of vectors (.parquet, .npz, .csv) in place of pictures, to train a head on"
    )
    layers: int = _freeze(
        2, "last blocks of a frozen backbone whose averages join its vectors; 0 is none"
    )
    mirrored: bool = _freeze(False, "a vector is the mean of the picture's and its mirror image's")
    frozen_views: int = _freeze(1, "views of each image that a frozen backbone sees")
    feature_noise: float = _head(
        0.5, "of strong views of vectors, in deviations of the mean component; 0 is none"
    )
    feature_dropout: float = _head(0.0, "share of a vector that strong views leave out")
    components: int = _new_head(400, "principal components of the vectors that a head works on")
    head_hidden: int = _new_head(2048, "width of a head's hidden layer")
    head_scale: float = _new_head(
        2.0, "length of the learned part of a head's feature; the frozen part has 1"
    )
    head_belief: float = _frozen(
        0.0,
        "length of a third part: which classes a classifier of the labels takes the image for; "
        "0 is none",
        needs="vectors new classifier",
    )

    answers: str | None = _taught(
        "a table of left, right and same or different pictures, as `maskcon discover --answers` "
        "writes it: it teaches the head, where answers that are left out agree"
    )
    known: str | None = _taught(
        "a table of pictures and their fine labels, or the groups.csv in which groups were named: "
        "they teach the head, where labels that are left out agree"
    )

    epochs: int = _optimisation(200, "passes over the train images", first=True)
    warmup_epochs: float | None = _optimisation(
        None, "epochs of linear warm-up, inside the epochs [a fortieth of them]"
    )
    batch_size: int = _optimisation(
        0, "images of a step; 0 is 128, or fewer for a small set", first=True
    )
    lr: float = _optimisation(0.02, "learning rate, at the end of the warm-up")
    optimizer: Literal["sgd", "adamw", "lars"] = _optimisation(
        "sgd", "with momentum; adamw wants a lower --lr, such as 1e-3; lars is for large batches"
    )
    momentum: float = _optimisation(0.9, "of sgd and lars", needs="velocity")
    nesterov: bool = _optimisation(False, "look a step ahead along momentum", needs="velocity")
    weight_decay: float = _optimisation(5e-4, "of the weights; of adamw apart from the gradient")
    decay_norms: bool = _optimisation(
        True, "weight decay on biases and norms, and whatever else a network exempts", needs="decay"
    )
    layer_decay: float = _optimisation(
        1.0,
        "factor of the rate from a layer of a timm backbone to the one before it; its last layer "
        "and the heads have the full rate; 1 is none",
        needs="learns",
    )
    stop_after: int = _optimisation(
        0, "end after so many evaluations without a better one of validation images; 0 is never"
    )
    seed: int = _optimisation(0, "of initial weights, order and views")

    device: str = _hardware("auto", "auto, cpu, cuda, cuda:1, mps", first=True)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = _hardware(
        "auto", "of the networks; auto is bf16 where the hardware has units for it"
    )
    backend: Literal["torch", "onnx", "openvino"] = _hardware(
        "torch", "what runs a frozen backbone: torch, onnx (onnxruntime), openvino", needs="freeze"
    )
    micro_batch: int = _hardware(
        0, "images whose activations are in memory at a time, where a batch's do not fit; 0 is all"
    )
    workers: int = _hardware(
        0, "threads or processes that read pictures, in each rank; 0 shares out the cores"
    )
    compile: bool = _hardware(False, "compile the networks first; may not pay on a processor")
    deterministic: bool = _hardware(
        False, "let a GPU compute the same bits each time; slower, and some networks cannot"
    )

    eval_every: int = _output(10, "epochs between evaluations; the last epoch always has one")
    log_every: int = _output(50, "steps between lines of metrics.jsonl")

    hyper: Mapping[str, Hyper] = field(default_factory=dict)

    def __post_init__(self) -> None:
        positive = ("max_pixels", "projection", "bank_size", "epochs", "lr", "mixup_alpha")
        of_heads = ("frozen_views", "components", "head_hidden", "head_scale")
        for name in (*positive, *of_heads, "eval_every", "log_every"):
            if getattr(self, name) <= 0:
                raise InputError(f"{name} is {getattr(self, name)}: expected a value above 0")
        for name in (
            "weight_decay",
            "seed",
            "workers",
            "image_size",
            "batch_size",
            "micro_batch",
            "unfreeze",
            "projection_hidden",
            "projection_layers",
            "layers",
            "feature_noise",
            "head_belief",
            "coarse_level",
            "stop_after",
        ):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: expected 0 or more")
        for name, largest in LARGEST.items():
            if getattr(self, name) > largest:
                raise InputError(
                    f"{name} is {getattr(self, name):,}: expected a number up to {largest:,}"
                )
        self._check_shares()

    def _check_shares(self) -> None:
        if self.crop_scale is not None and not 0 < self.crop_scale <= 1:
            raise InputError(f"crop_scale is {self.crop_scale}: expected a share above 0, up to 1")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"layer_decay is {self.layer_decay}: expected above 0, up to 1")
        if self.nesterov and not self.momentum:
            raise InputError("nesterov looks ahead along the momentum, which is 0: set momentum")
        if not 0 < self.test_share < 1:
            raise InputError(f"test_share is {self.test_share}: expected a share between 0 and 1")
        for name in ("ema", "momentum", "feature_dropout", "val_share"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}: expected 0 to below 1")
        if self.warmup_epochs is not None and not 0 <= self.warmup_epochs < self.epochs:
            raise InputError(
                f"warmup_epochs is {self.warmup_epochs} of {self.epochs} epochs: the warm-up is "
                "inside the epochs, so it must be shorter; set warmup_epochs"
            )

    @property
    def readers(self) -> int:
        """Threads or processes that read pictures."""
        if self.workers:
            return self.workers
        if hasattr(os, "sched_getaffinity"):  # not everywhere
            cores = len(os.sched_getaffinity(0))
        else:
            cores = os.cpu_count() or 1
        beside = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # processes of torchrun's, here
        return max(1, cores // beside)

    @property
    def on_vectors(self) -> bool:
        """Whether a head is trained on vectors that do not change."""
        return self.freeze or self.features is not None

    @property
    def computes_vectors(self) -> bool:
        """Whether they are computed of pictures; those of a file are there already."""
        return self.freeze and self.features is None

    @property
    def from_run(self) -> bool:
        """Whether training goes on from the encoder of an earlier run."""
        return not self.computes_vectors and is_run(self.init)

    def settled(self, count: int, fitting_size: int) -> "Config":
        """The same with what was left open chosen for a set.

        Args:
            count: its train images.
            fitting_size: a side for the views that its pictures fill.
        """
        size = self.image_size or fitting_size
        small = size <= SMALL_IMAGE or self.on_vectors
        query, key = ("strong", "weak") if small else ("jitter", "perspective")
        quarter = max(2, 2 ** int(math.log2(max(count // 4, 2))))
        return replace(
            self,
            image_size=size,
            batch_size=self.batch_size or min(BATCH_SIZE, quarter),
            warmup_epochs=self.epochs / 40 if self.warmup_epochs is None else self.warmup_epochs,
            query_view=query if self.query_view == "auto" else self.query_view,
            key_view=key if self.key_view == "auto" else self.key_view,
        )

    def as_dict(self) -> dict[str, Any]:
        """The flat mapping that `resolve` takes: fields and hyper-parameters alike."""
        values = asdict(self)
        hyper = values.pop("hyper")
        return {**values, **hyper}


def is_run(init: str) -> bool:
    """Whether --init is the folder of an earlier run."""
    return init not in KEYWORDS and os.path.isdir(init)  # noqa: PTH112 - it is text


@dataclass(frozen=True)
class Need:
    """What an option must find in a run to have an effect.

    Attributes:
        met: whether a configuration and its method have it.
        lacks: the reason where they have not; {method} and {data} are the run's.
        of: what the option belongs to.
    """

    met: Callable[[Config, Method], bool]
    lacks: str
    of: str


NEEDS: dict[str, Need] = {
    "pictures": Need(
        lambda config, _: config.features is None,
        "--features has the vectors, and no picture is read",
        "training on pictures",
    ),
    "name": Need(
        lambda config, _: config.data != Config.data and not _is_own(config.data),
        "{data} is no set that lies in a folder under its name",
        "the sets that `maskcon datasets` lists",
    ),
    "fetched": Need(
        lambda config, method: (
            config.init == "imagenet"
            or (NEEDS["pictures"].met(config, method) and NEEDS["name"].met(config, method))
        ),
        "{data} is no set that lies in a folder under its name, and --init is not imagenet",
        "the sets that `maskcon datasets` lists, and pretrained weights",
    ),
    "table": Need(
        lambda config, _: os.path.isabs(config.data),  # noqa: PTH117 - it is text
        "{data} has no columns",
        "tables and Hugging Face sets",
    ),
    "folder": Need(
        lambda config, _: os.path.isdir(config.data),  # noqa: PTH112 - it is text
        "{data} is no folder of class folders",
        "folder trees",
    ),
    "labels": Need(
        lambda config, method: method.labels or config.ce_weight > 0,
        "{method} reads no labels",
        "methods that read labels, and --ce-weight",
    ),
    "lots": Need(
        lambda _, method: method.lots,
        "{method} asks of no two pictures whether they are of one kind",
        "methods with a rule for labels, such as maskcon",
    ),
    "classes": Need(
        lambda config, _: config.label == "coarse",
        "training sees the fine labels already",
        "training on coarse labels",
    ),
    "key": Need(
        lambda _, method: method.key != "none",
        "{method} has no key: it looks at one view",
        "methods that compare two views",
    ),
    "momentum": Need(
        lambda _, method: method.key == "momentum",
        "{method} has no key encoder",
        "methods whose key encoder is a moving average, such as maskcon",
    ),
    "bank": Need(
        lambda _, method: method.bank,
        "{method} has no bank",
        "methods with a bank of earlier keys, such as maskcon",
    ),
    "mixed": Need(
        lambda config, method: config.mixup > 0 or method.mixes,
        "no images are mixed",
        "--mixup, and to methods that mix images, such as sane",
    ),
    "projection": Need(
        lambda _, method: {*method.heads} != {"logits"},
        "{method} has no projection",
        "methods that compare projections",
    ),
    "hidden": Need(
        lambda config, method: (config.projection_layers or method.projection_layers) > 1,
        "a projector of one layer has no hidden ones",
        "projectors of two layers or more",
    ),
    "velocity": Need(
        lambda config, _: config.optimizer != "adamw",
        "AdamW has averages of its own",
        "--optimizer sgd and lars",
    ),
    "decay": Need(
        lambda config, _: config.weight_decay > 0,
        "--weight-decay is 0",
        "runs with weight decay",
    ),
    "learns": Need(
        lambda config, _: not config.on_vectors,
        "no layer of a backbone learns",
        "training and fine-tuning of backbones timm/NAME",
    ),
    "new": Need(
        lambda config, _: not config.from_run,
        "--init is a run, whose network it is",
        "new networks",
    ),
    "freeze": Need(
        lambda config, _: config.computes_vectors,
        "no vectors of a frozen backbone are computed",
        "--freeze",
    ),
    "vectors": Need(
        lambda config, _: config.on_vectors,
        "no head is trained on vectors",
        "--freeze and --features",
    ),
    "classifier": Need(
        lambda config, method: "logits" in method.heads_with(config.ce_weight),
        "{method} trains no linear classifier of the labels",
        "--ce-weight, and methods with a classifier, such as coins",
    ),
}


def _is_own(data: str) -> bool:
    """Whether data are a person's own: a path, which `commands` makes absolute, or arrays."""
    return os.path.isabs(data) or data.startswith("(")  # noqa: PTH117 - it is text


def refuse_idle(given: Mapping[str, Any], config: Config) -> None:
    """Refuse options that a person gave, and that have no effect in this run.

    What is None, or a switch that is off as by default, counts as not given.

    Args:
        given: the options by name.
        config: of the run, with all that a recipe and the defaults say.

    Raises:
        InputError: one has none; the message says why, and what it belongs to.
    """
    method = METHODS[config.method]
    for option in fields(Config):
        value = given.get(option.name)
        if value is None or (value is False and not option.default):
            continue
        unmet = [NEEDS[n] for n in option.metadata["needs"] if not NEEDS[n].met(config, method)]
        if unmet:
            lacks = unmet[0].lacks.format(method=config.method, data=config.data)
            raise InputError(
                f"--{option.name.replace('_', '-')} has no effect: {lacks}; leave it out. It "
                f"belongs to {unmet[0].of}"
            )


# Fields as 0.1 called them in its run.json.
RENAMED = {
    "kappa": "mixup_alpha",
    "crop_area": "crop_scale",
    "cached_views": "frozen_views",
    "noise": "feature_noise",
    "vector_dropout": "feature_dropout",
    "kept": "components",
    "hidden": "head_hidden",
    "share": "head_scale",
}
GONE = ("cache_dir",)  # fields that there are no more, of which no number depends


def as_now(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of an earlier run, by the names that they have now."""
    kept = {name: value for name, value in options.items() if name not in GONE}
    return {RENAMED.get(name, name): value for name, value in kept.items()}


# What may change between a run and its resumption without changing a number.
MACHINE_FIELDS = frozenset({"data_dir", "download", "workers", "device", "confine", "reread"})


# How a set is found and read; the commands that take one take these.
COLUMN_FIELDS = ("image_column", "coarse_column", "fine_column", "split_column")
READING_FIELDS = (
    *("data_dir", "download", *COLUMN_FIELDS, "coarse_level", "one_level"),
    *("confine", "skip_unreadable", "reread", "max_pixels", "workers"),
)


def reading(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given a value, all of them in `READING_FIELDS`.

    Raises:
        InputError: another one.
    """
    unknown = [name for name in options if name not in READING_FIELDS]
    if unknown:
        raise InputError(
            f"unknown option {unknown[0]!r}{similar(unknown[0], READING_FIELDS)}: expected one of "
            f"{', '.join(READING_FIELDS)}"
        )
    return {name: value for name, value in options.items() if value is not None}


def _of_methods() -> set[str]:
    """The hyper-parameters of all methods."""
    return {name for each in METHODS.values() for name in each.hyper_parameters}


def with_recipe(options: Mapping[str, Any], recipe: str | Path | None) -> dict[str, Any]:
    """Options, and what a recipe says where they say nothing.

    The hyper-parameters of a recipe are those of its method: beside another one they are left out.

    Args:
        options: fields and hyper-parameters by name.
        recipe: a TOML file of the same names.

    Raises:
        InputError: there is no such recipe.
    """
    written = read_recipe(recipe) if recipe is not None else {}
    if options.get("method", own := written.get("method")) != own and own is not None:
        written = {name: value for name, value in written.items() if name not in _of_methods()}
    return {**written, **options}


def resolve(options: Mapping[str, Any], *, recipe: str | Path | None = None) -> Config:
    """Make a Config of a recipe file and of options that win over it.

    Args:
        options: fields and hyper-parameters by name.
        recipe: a TOML file of the same names; its hyper-parameters are for its own method.

    Raises:
        InputError: an unknown name, a wrong type or value, an unknown method, or a
            hyper-parameter that the method does not take.
    """
    values = with_recipe(options, recipe)
    method = values.get("method", Config.method)
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(
            f"there is no method {method!r}{similar(str(method), list(METHODS))}: "
            f"choose one of {', '.join(METHODS)}"
        )
    known = {f.name: f for f in fields(Config) if f.name != "hyper"}
    takes = METHODS[method].hyper_parameters
    if both := known.keys() & takes.keys():
        raise InputError(
            f"method {method} takes {min(both)}, which is an option of every run: call its "
            "hyper-parameter something else"
        )
    given: dict[str, Any] = {}
    hyper = dict(takes)
    for name, value in values.items():
        if name in known:
            given[name] = _typed(name, value, known[name].type)
        elif name in takes:
            hyper[name] = _hyper(name, value, takes[name])
        elif name in _of_methods():
            raise InputError(
                f"method {method} does not take {name}: it takes "
                f"{', '.join(takes) or 'no hyper-parameters'}"
            )
        else:
            raise InputError(f"unknown option {name!r}{similar(name, [*known, *_of_methods()])}")
    return Config(**given, hyper=hyper)


def recipes() -> dict[str, Path]:
    """The recipes that come with maskcon, by name."""
    here = Path(__file__).parent
    for folder in (here / "recipes", here.parents[1] / "recipes"):  # installed; a source tree
        if folder.is_dir():
            return {file.stem: file for file in sorted(folder.glob("*.toml"))}
    return {}


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The flat names and values of a TOML file, or of a recipe that comes with maskcon."""
    known = recipes()
    path = known.get(str(path), path)
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(
            f"there is no recipe file {path}{similar(str(path), list(known))}: give a TOML file, "
            f"or one of {', '.join(known)}"
        ) from error
    except RecursionError as error:
        raise InputError(f"{path} cannot be read as a TOML recipe: nested too deep") from error
    except (OSError, ValueError) as error:  # of the encoding, TOML, or a number too long
        raise InputError(f"{path} cannot be read as a TOML recipe: {error}") from error


def similar(name: str, choices: Sequence[str]) -> str:
    """' (did you mean x?)' where a choice is close to a name, else ''."""
    found = difflib.get_close_matches(name, choices, 2)
    return f" (did you mean {' or '.join(found)}?)" if found else ""


def option_type(annotation: Any) -> tuple[type, tuple[str, ...]]:
    """The type of a field's values, and the values to choose from if they are listed."""
    if get_origin(annotation) is Literal:
        return str, get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return next(a for a in get_args(annotation) if a is not type(None)), ()
    return annotation, ()


def check_values(options: Mapping[str, Any]) -> None:
    """See that what a file calls the options of a run are values that these can have.

    Unknown names are those of other versions, or of packages that are not here.

    Raises:
        InputError: one is of another type, or out of range.
    """
    types = {f.name: f.type for f in fields(Config) if f.name != "hyper"}
    method = _typed("method", options.get("method", Config.method), str)
    of_any = {n: v for each in METHODS.values() for n, v in each.hyper_parameters.items()}
    hyper = {**of_any, **(METHODS[method].hyper_parameters if method in METHODS else {})}
    given = {}
    for name, value in options.items():
        if name in types:
            given[name] = _typed(name, value, types[name])
        elif name in hyper:
            _hyper(name, value, hyper[name])
    Config(**given)


def _hyper(name: str, value: Any, default: Hyper) -> Hyper:
    """A value of the default's kind: a flag, a word, or a number or the text of its schedule."""
    if isinstance(default, bool):
        return _typed(name, value, bool)
    if isinstance(default, str) and not is_schedule(default):
        return _typed(name, value, str)
    if isinstance(value, str):
        _typed(name, value, str)  # not too long
        try:
            value = float(value)
        except ValueError:
            return str(Schedule.parse(name, value))
    return _typed(name, value, float)


def _typed(name: str, value: Any, annotation: Any) -> Any:
    wanted, choices = option_type(annotation)
    if value is None and type(None) in get_args(annotation):
        return None
    if isinstance(value, Path) and wanted is str:
        value = str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) >= 2**63:
            raise InputError(f"{name} is {value:#x}: expected a number of at most 63 bits")
        value = float(value) if wanted is float else value
    if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
        raise InputError(f"{name} is {brief(value)}: expected {wanted.__name__}")
    if isinstance(value, str) and len(value) > LONGEST:
        raise InputError(f"{name} has {len(value):,} letters: expected up to {LONGEST:,}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{name} is {value}: expected a finite number")
    if choices and value not in choices:
        raise InputError(f"{name} is {value!r}: expected one of {', '.join(choices)}")
    return value
