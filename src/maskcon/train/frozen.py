"""Training behind a backbone that stays as it is: its vectors, and if the head was worth it."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskcon.config import Config, is_run, refuse_idle
from maskcon.data import DataSet, Split
from maskcon.data.augment import VIEWS
from maskcon.data.images import IMAGENET_STATISTICS
from maskcon.errors import InputError
from maskcon.model.backbones import layered
from maskcon.model.blocks import networks
from maskcon.model.graph import computing
from maskcon.model.libraries import is_resnet
from maskcon.model.network import Architecture, Headed, Network, without_head
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.recommended import true_name
from maskcon.model.residual_head import VECTORS, HeadShape
from maskcon.model.saved import load_encoder, save_encoder
from maskcon.runtime.progress import Progress
from maskcon.runtime.seeds import generator
from maskcon.train.build import check_first_layer, init_of, keeps_weights, made_with, stem_of
from maskcon.train.state import Training
from maskcon.train.verdict import verdict
from maskcon.vectors.frozen import Frozen
from maskcon.vectors.store import Store

NATIVE = 224  # pixels
HELD, FEWEST = 2000, 40  # train images that a head is judged on


def check(config: Config) -> None:
    """Refuse what contradicts itself, before anything is read.

    Raises:
        InputError: it does.
    """
    if config.on_vectors and config.unfreeze:
        raise InputError(
            "--unfreeze trains blocks of a backbone, and here nothing of it is trained: train the "
            "head first, then go on from its run with --init RUN --unfreeze N"
        )
    kept = "--freeze" if config.freeze else f"--unfreeze {config.unfreeze}"
    if keeps_weights(config) and config.init == "scratch":
        raise InputError(
            f"{kept} keeps what the backbone already knows, and --init scratch is a backbone that "
            "knows nothing: give --init imagenet or a weights file"
        )
    if keeps_weights(config) and config.init == "imagenet" and config.stem == "small":
        raise InputError(
            f"{kept} keeps the first layers as they are, and ImageNet's weights have none for "
            "--stem small: leave it out"
        )
    if config.features is not None and config.init != "scratch" and not config.from_run:
        raise InputError(
            f"--init {config.init} has no effect: --features has the vectors, and a head on them "
            "begins anew, or goes on from an earlier run's folder; leave it out"
        )
    refuse_idle({"answers": config.answers, "known": config.known}, config)  # of a recipe, too
    for table in filter(None, (config.answers, config.known)):
        if not Path(table).is_file():
            raise InputError(f"there is no table {table}")


def of_run(config: Config, given: Mapping[str, Any]) -> Config:
    """The same; where --init is an earlier run, with its network as what is frozen.

    Args:
        config: of the new run.
        given: what a person gave, of a recipe too.

    Raises:
        InputError: the run has a head already, or --backbone says which network it is to be.
    """
    if not config.computes_vectors or not is_run(config.init):
        return config
    run = Path(config.init)
    network, description = load_encoder(run)
    if network.architecture.head is not None:
        raise InputError(
            f"the encoder of {run} has a head already: leave out --freeze to go on with both, or "
            "give --init what that head was trained on"
        )
    backbone = network.architecture.backbone
    if true_name(given.get("backbone", backbone)) != backbone:
        raise InputError(
            f"--backbone has no effect: --init {run} is a run, whose network is {backbone}; leave "
            "it out"
        )
    resnet = any(is_resnet(one) for _, one in networks(network.backbone))
    return replace(
        config,
        backbone=backbone,
        stem=network.architecture.stem if resnet else config.stem,
        image_size=config.image_size or description["image_size"],
    )


def input_size(config: Config) -> int:
    """The side of the pictures that a frozen backbone takes, where nobody says it."""
    if config.features is not None:
        return 1  # no pictures
    return config.image_size or NATIVE


def frozen_of(config: Config) -> Frozen:
    """The frozen backbone of a configuration, as its vectors are made with it."""
    precision = computing("auto", config.precision, config.device, config.backend)
    size, stem = config.image_size, stem_of(config)
    backbone, parts = layered(
        config.backbone,
        config.layers,
        init=init_of(config),
        stem=stem,
        size=size,
        mirrored=config.mirrored,
    )
    check_first_layer(backbone, config)
    backbone = backbone.eval().to(precision.device).to(memory_format=torch.channels_last)
    return Frozen(
        backbone,
        config.backbone,
        parts,
        Preprocessing(size, *made_with(backbone, config, IMAGENET_STATISTICS)),
        precision,
        config.frozen_views,
        VIEWS["weak"].area(config.crop_scale),
        config.flip,
        config.seed,
    )


def unlearned(config: Config) -> tuple[Network, Preprocessing]:
    """The frozen backbone of a configuration as an encoder, where there is nothing to learn from.

    Its vectors are those that a head starts from, and has to beat.
    """
    frozen = frozen_of(config)
    shape = HeadShape(
        parts=frozen.parts, components=0, hidden=config.head_hidden, scale=config.head_scale
    )
    bare = Architecture(
        backbone=VECTORS,
        stem=stem_of(config),
        heads=(),
        projection=config.projection,
        classes=1,
        head=shape,
    )
    network = Network(bare)
    assert isinstance(network.backbone, Headed)
    network.backbone.trunk = frozen.backbone
    network.architecture = replace(
        bare, backbone=config.backbone, layers=config.layers, mirrored=config.mirrored
    )
    return network.eval(), frozen.preprocessing


def vectors_of(data: DataSet, config: Config, progress: Progress) -> DataSet:
    """The set with vectors of a frozen backbone in place of its images; computed, or kept."""
    progress.update(f"loading {config.backbone}")
    frozen, store = frozen_of(config), Store()
    try:
        return frozen.data_set(data, store, config.readers, progress)
    finally:
        store.close()


def judge(
    training: Training, held: Split | None, test: Split, folder: Path, progress: Progress
) -> dict[str, Any]:
    """Keep the head of a finished run, or go back to the frozen vectors if it is worse.

    Fine labels are not looked at, nor the test images. On train images that were left out of
    training, a head is worse if fewer images have a nearest neighbour of their coarse class than
    by the frozen vectors; or if it gains less there than it loses of the order inside classes:
    of neighbours that are the same for another view of the image.

    Args:
        training: finished; its encoder, last and best evaluation change if the head is worse.
        held: images left out of training; None where there were too few: the head is kept.
        test: to evaluate again, if need be.
        folder: of the run, where the encoder is saved.
        progress: told the verdict.

    Returns:
        For run.json: {"head": {"kept": whether, "frozen": {...}, "learned": {...}}}.
    """
    if held is None:
        return {}
    network = training.encoder
    frozen = without_head(network)
    before, after = (verdict(training, x, held) for x in (frozen, network))
    kept = after.as_good_as(before)
    progress.note(
        "held-out train images with a nearest neighbour of their coarse class: "
        f"{before.coarse:.1%} by the frozen vectors, {after.coarse:.1%} with the head; with one "
        "inside the class that is the same for another view: "
        f"{before.stable:.1%} and {after.stable:.1%}"
    )
    if not kept:
        progress.note("the head is worse than the frozen vectors, and is left out of the encoder")
        training.encoder = frozen
        training.last = training.recall_of(training.features(test.images), test)
        training.best.results = {"epoch": training.config.epochs, **training.last}
        if training.ranks.is_main:
            save_encoder(folder, frozen, training.preprocessing.described())
    return {"head": {"kept": kept, "frozen": asdict(before), "learned": asdict(after)}}


def set_apart(data: DataSet, config: Config) -> tuple[DataSet, Split | None]:
    """Train images to judge the head on, and the set without them.

    Of vectors alone; None where there are too few to leave some out.
    """
    rows = rows_apart(len(data.train), config.batch_size, config.seed)
    if data.train.images.has_pictures or rows is None:
        return data, None
    apart, left = map(data.train.take, rows)
    return replace(data, train=left), apart


def rows_apart(images: int, batch_size: int, seed: int) -> tuple[Tensor, Tensor] | None:
    """Rows of the train images that a head is judged on, and of the others, ascending.

    None where there are too few to leave some out.
    """
    held = min(HELD, images // 10)
    if held < FEWEST or images - held < batch_size:
        return None
    order = torch.randperm(images, generator=generator(seed, "held"))
    return order[:held].sort().values, order[held:].sort().values
