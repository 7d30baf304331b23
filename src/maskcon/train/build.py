"""From a configuration to networks that can train on a set; whatever cannot is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from maskcon.config import KEYWORDS, SMALL_IMAGE, Config, is_run
from maskcon.data import DataSet, Features, Images
from maskcon.data.augment import view_of
from maskcon.data.augment.crop import SMALL
from maskcon.data.augment.stages import stages
from maskcon.data.images import FeatureAugmentation
from maskcon.data.table import lacks_coarse
from maskcon.errors import InputError
from maskcon.methods import METHODS
from maskcon.methods.bank import MemoryBank
from maskcon.methods.objective import Objective, check_hyper_parameters
from maskcon.model import timm_network
from maskcon.model.backbones import Normalisation, normalisation_of, read_weights
from maskcon.model.blocks import before_last, networks
from maskcon.model.libraries import is_resnet
from maskcon.model.network import Architecture, Headed, Network
from maskcon.model.own import Fitted
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.recommended import JOIN
from maskcon.model.residual_head import VECTORS, HeadShape
from maskcon.model.saved import WEIGHTS, load_encoder, normalisation_in
from maskcon.runtime.device import check_memory, pick_device, without_memory
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.progress import Progress
from maskcon.runtime.seeds import seed_of
from maskcon.train.gradient_cache import parts_of
from maskcon.train.parallel import has_batch_norm

WIDE = 8192  # numbers of a projection from which on its weights may be more than there is memory

CLASSIFIER = "head.classifier."  # of a backbone with a head

FITTED_TO = 2000  # images

LOOKED_AT = 224  # side of the black picture that views are tried on; a larger one takes seconds


def objective_of(config: Config) -> Objective:
    """The loss of a configuration, its hyper-parameters looked at."""
    objective = Objective(METHODS[config.method], config.mixup, config.ce_weight)
    check_hyper_parameters(objective, config.hyper)
    return objective


def check(config: Config, data: DataSet) -> Objective:
    """The loss, where a set can be trained on with it; nothing is built.

    Raises:
        InputError: it cannot.
    """
    objective = objective_of(config)
    _check_views(config)
    if objective.method.crops and not data.train.images.has_pictures:
        raise InputError(f"{config.method} needs small crops of pictures: vectors have none")
    label, _ = labels_of(config, data)
    if objective.labels and data.one_level and config.label == "coarse":
        needing = config.method if objective.method.labels else f"{config.method} with --ce-weight"
        raise InputError(lacks_coarse(data.name, needing))
    if objective.labels and label.unique().numel() < 2:
        raise InputError(
            f"all {len(label):,} train images of {data.name} have one {config.label} label: "
            f"{config.method} needs at least two classes; selfcon needs no labels"
        )
    if len(data.test) < 2:
        raise InputError(f"{data.name} has one test image: an evaluation needs two or more")
    if data.validation is not None and len(data.validation) < 2:
        raise InputError(
            f"{data.name} has one validation image: an evaluation needs two or more; leave it out, "
            "or set --val-share larger"
        )
    if config.stop_after and data.validation is None:
        raise InputError(
            "--stop-after has no effect: there are no validation images to look at, and test "
            "images must not choose; give --val-share 0.1, or data with a validation split"
        )
    if len(data.train) < config.batch_size:
        raise InputError(
            f"{data.name} has {len(data.train)} train images, fewer than a batch of "
            f"{config.batch_size}: set --batch-size {max(len(data.train) // 4, 2)} or so; "
            "--batch-size 0 follows the size of the set"
        )
    return objective


def _check_views(config: Config) -> None:
    """Refuse views that there are not, that would never come, or that fail on a black picture."""
    size = min(config.image_size, LOOKED_AT)
    for name in ("query_view", "key_view"):
        begin = 0.0
        for stage in stages(name, getattr(config, name)):
            if begin >= config.epochs:
                raise InputError(
                    f"{name} is {getattr(config, name)!r}, and no epoch of {config.epochs} sees "
                    f"{stage.kind}: leave it out, or train longer"
                )
            begin = stage.end
            try:
                view = view_of(stage.kind)
            except InputError as error:
                raise InputError(f"{name}: {error}") from error
            black = torch.zeros(1, 3, size, size, dtype=torch.uint8)
            view.apply(black, [view.draw(1, torch.Generator())])


def labels_of(config: Config, data: DataSet) -> tuple[Tensor, Sequence[str]]:
    """The labels of the train images that training sees [N], and their names."""
    if config.label == "coarse":
        return data.train.coarse, data.coarse_names
    if data.train.fine is None:
        raise InputError(f"{data.name} has no fine labels: train with --label coarse")
    return data.train.fine, data.fine_names


def network_of(
    config: Config,
    objective: Objective,
    classes: int,
    data: DataSet,
    stored: Preprocessing | None = None,
) -> tuple[Network, Preprocessing]:
    """The query encoder before the first step: a new one, or that of an earlier run.

    Args:
        config: of the run.
        objective: its loss.
        classes: that it tells apart.
        data: it is trained on.
        stored: how its input was made where the run began, if it did already.
    """
    torch.manual_seed(seed_of(config.seed, "weights"))
    architecture = _architecture(config, objective, classes, data.train.images)
    _check_size(architecture, config)
    preprocessing = Preprocessing(config.image_size, *data.normalisation())
    if not config.from_run:
        network = Network(architecture, init=init_of(config))
        check_first_layer(network.backbone, config)
        if config.init != "scratch":
            own = made_with(network.backbone, config, data.normalisation())
            preprocessing = Preprocessing(config.image_size, *own)
        elif isinstance(network.backbone, Fitted):
            network.backbone.fit(preprocessing.normalise(_some(data.train.images, config)))
    else:
        earlier, description = load_encoder(Path(config.init))
        was = earlier.architecture
        head = was.head
        if head is not None and head.belief:
            if "logits" not in objective.heads:
                raise InputError(
                    f"the head of {config.init} says which classes a classifier takes an image "
                    f"for, and {config.method} trains no classifier: give --ce-weight, such as 0.3"
                )
            head = replace(head, classes=classes)
        network = Network(
            replace(
                architecture,
                backbone=was.backbone,
                stem=was.stem,
                layers=was.layers,
                mirrored=was.mirrored,
                head=head,
                image_size=_size_made_for(was.backbone, config),
            )
        )
        _take_weights(network, earlier, config)
        preprocessing = replace(Preprocessing.of(description), image_size=config.image_size)
    if config.unfreeze:
        _freeze_all_but(network, config.unfreeze)
    return network, stored or preprocessing


def init_of(config: Config) -> str:
    """Where a backbone's weights are, as `build_backbone` takes it; of a run, its file of them."""
    return str(Path(config.init) / WEIGHTS) if is_run(config.init) else config.init


def made_with(backbone: nn.Module, config: Config, otherwise: Normalisation) -> Normalisation:
    """The mean and std of what a backbone with the weights of --init takes.

    Those of the run that the weights are of, else the network's own, else `otherwise`.
    """
    weights = None if config.init in KEYWORDS else normalisation_in(Path(init_of(config)))
    return weights or normalisation_of(backbone, otherwise)


def _some(images: Images, config: Config) -> Tensor:
    """Pictures from all over a set, that a first layer is fitted to: uint8 [n, 3, S, S]."""
    rows = torch.linspace(0, len(images) - 1, min(len(images), FITTED_TO)).long()
    return images.take(rows).probe(len(rows), config.image_size)


def keeps_weights(config: Config) -> bool:
    """Whether a part of the backbone stays as --init has it."""
    return config.computes_vectors or config.unfreeze > 0


def stem_of(config: Config) -> Literal["small", "large"]:
    """The first layers of ResNets.

    Those for small images are others than ImageNet's weights have, so that they have to learn.
    """
    if config.stem != "auto":
        return config.stem
    if config.init == "imagenet" and keeps_weights(config):
        return "large"
    return "small" if config.image_size <= SMALL_IMAGE else "large"


def check_first_layer(backbone: nn.Module, config: Config) -> None:
    """Refuse a ResNet whose first convolution a weights file has not, and that would not learn.

    Raises:
        InputError: that of the file is for images of another kind of size.
    """
    if not keeps_weights(config) or config.init == "scratch" or config.from_run:
        return
    for _, network in networks(backbone):
        if is_resnet(network) and config.init != "imagenet":
            given = next(v for v in read_weights(Path(init_of(config))).values() if v.ndim == 4)
            own = cast(nn.Conv2d, network.conv1).weight
            if given.shape != own.shape:
                sides = [f"{x.shape[2]} x {x.shape[3]}" for x in (given, own)]
                other = "large" if given.shape[2] > own.shape[2] else "small"
                raise InputError(
                    f"the first convolution of {config.init} is {sides[0]}, that of "
                    f"{config.backbone} is {sides[1]}, and it would not learn: give --stem {other}"
                )


def _check_size(architecture: Architecture, config: Config) -> None:
    """Raise `InputError` where the weights of a wide projector are more than there is memory."""
    if max(config.projection, config.projection_hidden) <= WIDE:
        return
    with without_memory():  # as large as it says
        weights = sum(value.numel() for value in Network(architecture).parameters())
    # float32, with their gradients and the optimizer's averages
    what = f"a network of {weights:,} weights (--projection {config.projection}"
    if config.projection_hidden:
        what += f", --projection-hidden {config.projection_hidden}"
    check_memory(12 * weights, f"{what}) in training", pick_device(config.device))


def _take_weights(network: Network, earlier: Network, config: Config) -> None:
    """Give a network what an earlier run learned, but for heads of another size.

    Raises:
        InputError: the backbone is one of another size of images, and its weights do not fit.
    """
    backbone = timm_network.resampled(network.backbone, earlier.backbone.state_dict())
    misfits = timm_network.misfitting(network.backbone, backbone)
    misfits = [name for name in misfits if not name.startswith(CLASSIFIER)]
    if misfits:
        raise InputError(
            f"the weights of {config.init} are for images of another size than "
            f"{config.image_size} px: {misfits[0]} does not fit; set --image-size to that of the "
            "run, which its encoder.json has"
        )
    own = network.state_dict()
    state = earlier.state_dict() | {f"backbone.{name}": v for name, v in backbone.items()}
    network.load_state_dict(  # a projector or classifier of another size begins anew
        {n: v for n, v in state.items() if n in own and own[n].shape == v.shape}, strict=False
    )


def _size_made_for(backbone: str, config: Config) -> int:
    """The size of images that a backbone must be made for; 0 where it takes any."""
    made = map(timm_network.is_made_for_a_size, backbone.split(JOIN))
    return config.image_size if any(made) else 0


def _freeze_all_but(network: Network, blocks: int) -> None:
    """Let only the last blocks of the backbone learn, and what is behind them."""
    backbone, start = network.backbone, "backbone."
    if isinstance(backbone, Headed) and backbone.trunk is not None:
        backbone, start = backbone.trunk, "backbone.trunk."
    network.freeze([start + name for name in before_last(backbone, blocks)])


def _architecture(
    config: Config, objective: Objective, classes: int, images: Images
) -> Architecture:
    """What network a configuration asks for."""
    parts = Architecture(
        backbone=config.backbone,
        stem=stem_of(config),
        heads=objective.heads,
        projection=config.projection,
        classes=classes,
        projection_layers=config.projection_layers or objective.method.projection_layers,
        projection_hidden=config.projection_hidden,
        image_size=_size_made_for(config.backbone, config),
    )
    if not isinstance(images, Features):
        return parts
    belief = config.head_belief if "logits" in objective.heads else 0.0
    head = HeadShape(
        parts=images.parts or (images.width,),
        components=min(config.components, images.width),
        hidden=config.head_hidden,
        scale=config.head_scale,
        belief=belief,
        classes=classes if belief else 0,
    )
    if config.features is not None:
        return replace(parts, backbone=VECTORS, head=head, image_size=0)
    return replace(
        parts,
        head=head,
        layers=config.layers,
        mirrored=config.mirrored,
        frozen=("backbone.trunk",),
    )


def check_network(
    encoder: Network, config: Config, probe: Tensor, crops: bool, ranks: Ranks
) -> None:
    """Refuse a network that cannot train on these images, or not as asked.

    Args:
        encoder: the query encoder.
        config: of the run.
        probe: some of the images, as squares or vectors.
        crops: whether small crops go through it too.
        ranks: who share a batch.
    """
    trunk = getattr(encoder.backbone, "trunk", encoder.backbone)
    if config.stem != "auto" and not any(is_resnet(one) for _, one in networks(trunk)):
        raise InputError(f"stem is {config.stem!r}, but {config.backbone} has no stem to choose")
    size = config.image_size
    try:
        with torch.no_grad():
            for size in (config.image_size, *[round(config.image_size * SMALL)] * crops):
                shape = probe.shape[1:] if probe.ndim == 2 else (3, size, size)
                encoder.eval()(torch.zeros(2, *shape))
    except Exception as error:  # whatever a network of another library raises
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{config.backbone} cannot take images of {size} px ({reason}): "
            "set another --image-size or --backbone"
        ) from error
    encoder.train()
    _check_parts(encoder, config, ranks)


def _check_parts(encoder: Network, config: Config, ranks: Ranks) -> None:
    """Refuse batches that cannot be divided as asked."""
    if config.batch_size < ranks.size:
        raise InputError(
            f"a batch of {config.batch_size} for {ranks.size} processes: each needs an image or "
            "more; set --batch-size larger, or start fewer"
        )
    if ranks.size > 1 and encoder.prototypes is not None and METHODS[config.method].key == "shared":
        raise InputError(
            f"{config.method} does not go on several processes: each would take the gradient of "
            "the prototypes for all of them; start one"
        )
    if config.micro_batch and ranks.size > 1 and encoder.prototypes is not None:
        raise InputError(
            f"--micro-batch does not go with {config.method} on several processes: leave it out, "
            "since each has a part of the batch only"
        )
    parts = parts_of(torch.empty(config.batch_size // ranks.size), config.micro_batch)
    if has_batch_norm(encoder) and min(map(len, parts)) < 2:
        raise InputError(
            "a batch of one image and a network with batch norm: statistics of one image mean "
            f"nothing; set {'--micro-batch' if len(parts) > 1 else '--batch-size'} larger"
        )


def fit_head(encoder: Network, images: Images, config: Config) -> Images:
    """Fit a head's principal components to the vectors it is trained on; how views of them differ.

    Those of an earlier run stay, since what it learned is of them.

    Returns:
        The images; of vectors with the augmentation of their strong views.

    Raises:
        InputError: the head of an earlier run was left out of its encoder.
    """
    if not isinstance(images, Features) or not isinstance(encoder.backbone, Headed):
        return images
    head = encoder.backbone.head
    if not config.from_run:
        head.fit(images.values[:, 0], *images.statistics)
    elif not head.shape.components:
        raise InputError(
            f"the head of {config.init} was left out of its encoder, since it was worse than the "
            "vectors: there is nothing to go on from; leave out --init"
        )
    augmentation = FeatureAugmentation(
        config.feature_noise, config.feature_dropout, head.directions(), head.mean
    )
    return replace(images, augmentation=augmentation)


def bank_of(config: Config, images: int, notify: Progress) -> MemoryBank:
    """An empty bank, of no more rows than there are images."""
    size = config.bank_size
    if size > images:
        size = images
        notify.note(
            f"bank: {size:,} rows in place of {config.bank_size:,}, one for each train "
            "image: in a larger bank every image would meet its own old key"
        )
    return MemoryBank(size, config.projection)
