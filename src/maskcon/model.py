"""Backbones, heads, the encoder, and the pair of query and key encoder."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from maskcon.config import similar
from maskcon.errors import InputError
from maskcon.step import Head, Output


class NarrowResNet(nn.Module):
    """A ResNet of basic blocks with a small-image stem and few channels, for a few cores.

    Args:
        width: channels of the stem and the first stage; each later stage doubles them.
        blocks: basic blocks of each stage.
    """

    def __init__(self, width: int, blocks: Sequence[int] = (1, 1, 1, 1)):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        stages, channels = [], width
        for stage, count in enumerate(blocks):
            out = width * 2**stage
            for block in range(count):
                stride = 2 if stage > 0 and block == 0 else 1
                shortcut = None
                if stride != 1 or channels != out:
                    shortcut = nn.Sequential(
                        nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
                    )
                stages.append(BasicBlock(channels, out, stride, shortcut))
                channels = out
        self.stages = nn.Sequential(*stages)
        self.num_features = channels
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        """Feature [N, F] of images [N, 3, H, W]: the mean over the last stage's pixels."""
        return self.stages(self.stem(images)).mean((2, 3))


NARROW: dict[str, Callable[[], NarrowResNet]] = {
    "resnet10w16": lambda: NarrowResNet(16),
    "resnet10w32": lambda: NarrowResNet(32),
}
DEEP = 2048  # width of the hidden layers of a deep projector
RESNETS = ("resnet18", "resnet34", "resnet50")


def build_backbone(
    name: str, *, init: str = "scratch", stem: Literal["small", "large"] = "small"
) -> tuple[nn.Module, int]:
    """A network that maps images to features, and the features' width F.

    Args:
        name: "resnet18", "resnet34" or "resnet50"; "resnet10w16" or "resnet10w32" for a few
            cores; "torchvision/NAME" or "timm/NAME" for any classifier of those libraries.
        init: "scratch", "imagenet" (downloads the library's weights) or the path of a weights
            file (.safetensors, or a torch file of tensors).
        stem: of the ResNets: "small" replaces the first convolution by a 3x3 one of stride 1
            and drops the max-pool (its weights are random whatever `init` says); "large" is
            the original.

    Raises:
        InputError: no such network, or the weights do not fit it.
    """
    imagenet = init == "imagenet"
    if name in NARROW:
        if imagenet:
            raise InputError(
                f"{name} has no ImageNet weights: use init 'scratch' or one of {', '.join(RESNETS)}"
            )
        narrow = NARROW[name]()
        backbone: nn.Module = narrow
        width = narrow.num_features
    elif name.startswith("timm/"):
        import timm

        model = name.removeprefix("timm/")
        if not timm.is_model(model):
            raise InputError(f"timm has no model {model!r}{similar(model, timm.list_models())}")
        with _named(name):
            backbone = timm.create_model(model, pretrained=imagenet, num_classes=0)
        width = cast(int, backbone.num_features)
    elif name in RESNETS or name.startswith("torchvision/"):
        model = name.removeprefix("torchvision/")
        known = torchvision.models.list_models(torchvision.models)
        if model not in known:
            raise InputError(f"torchvision has no classifier {model!r}{similar(model, known)}")
        weights = "IMAGENET1K_V1" if imagenet else None  # V1 are those of the papers
        with _named(name):
            backbone = torchvision.models.get_model(model, weights=weights)
        width = _drop_classifier(backbone, model)
    else:
        choices = [*RESNETS, *NARROW]
        raise InputError(
            f"there is no backbone {name!r}{similar(name, choices)}: choose one of "
            f"{', '.join(choices)}, torchvision/NAME or timm/NAME"
        )
    if stem == "small" and isinstance(backbone, torchvision.models.ResNet):
        backbone.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(backbone.conv1.weight, mode="fan_out", nonlinearity="relu")
        backbone.maxpool = nn.Identity()
    if init not in ("scratch", "imagenet"):
        load_backbone_weights(backbone, Path(init))
    return backbone, width


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn whatever a library raises where it makes a network into an InputError."""
    try:
        yield
    except Exception as error:
        raise InputError(
            f"{name} cannot be made: {error}; weights are fetched from the network, so without "
            "it give --init scratch or the path of a weights file"
        ) from error


def _drop_classifier(network: nn.Module, model: str) -> int:
    """Replace a classifier's last linear layer by the identity; return the width it took."""
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise InputError(f"{model} does not end in a linear layer: choose another network")
    parent, _, child = linear[-1].rpartition(".")
    width = cast(nn.Linear, network.get_submodule(linear[-1])).in_features
    setattr(network.get_submodule(parent), child, nn.Identity())
    return width


def load_backbone_weights(backbone: nn.Module, path: Path) -> None:
    """Load a local weights file into a backbone.

    Names may carry a "module." or "backbone." prefix; a classifier's weights are passed over,
    and so is a first convolution of another shape (the small-image stem stays random).

    Raises:
        InputError: the file is missing or no weights file, or its weights do not fit.
    """
    if not path.is_file():
        raise InputError(
            f"there is no weights file {path}: init is 'scratch', 'imagenet' or a path"
        )
    weights = read_weights(path)
    for prefix in ("module.", "backbone."):
        if any(name.startswith(prefix) for name in weights):
            weights = {
                name.removeprefix(prefix): value
                for name, value in weights.items()
                if name.startswith(prefix)
            }
    own = backbone.state_dict()
    stem = next(iter(own))
    fitting = {n: v for n, v in weights.items() if n in own and v.shape == own[n].shape}
    missing = [n for n in own if n not in fitting and n != stem]
    if missing:
        raise InputError(
            f"{path} does not fit the backbone: {len(missing)} of its {len(own)} tensors are "
            f"missing or of another shape, {missing[0]} first. Was it saved from another network?"
        )
    backbone.load_state_dict(fitting, strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or torch file, without executing code from it."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(f"{path} cannot be read as weights: {error}") from error
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise InputError(f"{path} holds no dictionary of tensors")
    return content


def projector(width: int, projection: int) -> nn.Sequential:
    """MaskCon's: two layers, no batch norm."""
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, projection))


def deep_projector(width: int, projection: int) -> nn.Sequential:
    """WCL's: three layers, batch norm and ReLU after the first two, 2,048 wide."""
    return nn.Sequential(
        nn.Linear(width, DEEP),
        nn.BatchNorm1d(DEEP),
        nn.ReLU(),
        nn.Linear(DEEP, DEEP),
        nn.BatchNorm1d(DEEP),
        nn.ReLU(),
        nn.Linear(DEEP, projection),
    )


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What it takes to build an encoder again."""

    backbone: str
    stem: Literal["small", "large"]
    heads: tuple[Head, ...]
    projection: int  # D
    classes: int  # C
    deep: bool = False  # projectors of three layers with batch norm


class Network(nn.Module):
    """A backbone with the heads that a method reads.

    The projector ("z") is Linear(F, F)-ReLU-Linear(F, D) without batch norm, its output scaled
    to unit length in float32; a deep one is that of `deep_projector`. A second one ("graph") is
    of the same kind. The classifier is Linear(F, C) on the feature ("logits"), or Linear(D, C)
    without bias on the projection before it is scaled ("centres").
    """

    def __init__(self, architecture: Architecture, *, init: str = "scratch"):
        super().__init__()
        self.architecture = architecture
        self.backbone, width = build_backbone(
            architecture.backbone, init=init, stem=architecture.stem
        )
        self.width = width
        heads, narrow = architecture.heads, architecture.projection
        project = deep_projector if architecture.deep else projector
        self.projector = project(width, narrow) if "z" in heads else None
        self.classifier: nn.Linear | None = None
        if "logits" in heads:
            self.classifier = nn.Linear(width, architecture.classes)
        elif "centres" in heads:
            self.classifier = nn.Linear(narrow, architecture.classes, bias=False)
        self.grapher = project(width, narrow) if "graph" in heads else None

    @property
    def centres(self) -> Tensor | None:
        """Rows of a classifier on the projection, one for each class [C, D]."""
        on_projection = "centres" in self.architecture.heads and self.classifier is not None
        return cast(nn.Linear, self.classifier).weight if on_projection else None

    def forward(self, images: Tensor) -> Output:
        """Normalised images [N, 3, H, W] -> feature [N, F] and the heads there are."""
        feature = self.backbone(images)
        raw = z = logits = graph = None
        if self.projector is not None:
            raw = self.projector(feature)
            z = nn.functional.normalize(raw.float(), dim=1)
        if self.classifier is not None:
            logits = self.classifier(feature if "logits" in self.architecture.heads else raw)
        if self.grapher is not None:
            graph = nn.functional.normalize(self.grapher(feature).float(), dim=1)
        return Output(feature=feature, z=z, logits=logits, graph=graph)

    def describe(self) -> dict[str, Any]:
        """The architecture as plain data, for encoder.json."""
        return asdict(self.architecture)


class EncoderPair(nn.Module):
    """The query encoder, and the key encoder that follows it as a moving average.

    Parameters follow; buffers do not: the key's batch norms gather statistics of their own,
    and run in training mode, as in MoCo and MaskCon.

    Args:
        query: the encoder to train.
        momentum: share of the key's old parameters that stays at each update.
    """

    def __init__(self, query: Network, momentum: float):
        super().__init__()
        self.query = query
        self.key = copy.deepcopy(query).requires_grad_(False)
        self.key.classifier = None
        self.momentum = momentum
        names = dict(self.key.named_parameters())
        self._followers: list[Tensor] = list(names.values())
        self._leaders: list[Tensor] = [p for n, p in query.named_parameters() if n in names]

    @torch.no_grad()
    def update_key(self) -> None:
        """Move every parameter: key = momentum * key + (1 - momentum) * query."""
        torch._foreach_lerp_(self._followers, self._leaders, 1 - self.momentum)
