"""The encoder: a backbone with the heads that a method reads."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast

from torch import Tensor, nn

from maskcon.errors import InputError, brief
from maskcon.methods import Output
from maskcon.model.backbones import layered
from maskcon.model.heads import HEADS, Widths
from maskcon.model.recommended import JOIN
from maskcon.model.residual_head import VECTORS, Found, HeadShape, ResidualHead


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What it takes to build an encoder again."""

    backbone: str  # "vectors" where there is none
    stem: Literal["small", "large"]
    heads: tuple[str, ...]  # names in `HEADS`
    projection: int  # D
    classes: int  # C
    projection_layers: int = 2
    projection_hidden: int = 0  # width of projectors' hidden layers; 0 is as `heads` has it
    layers: int = 0  # last blocks that a vector says more of
    mirrored: bool = False  # a vector is the mean of the picture's and its mirror image's
    head: HeadShape | None = None  # behind the backbone
    frozen: tuple[str, ...] = ()  # modules and parameters that do not learn
    image_size: int = 0  # that a network of timm's was made to take; 0 is its own, or any

    @property
    def composed(self) -> bool:
        """Whether the backbone is more than one network: several side by side, or with a head."""
        return self.head is not None or JOIN in self.backbone

    @classmethod
    def of(cls, described: Mapping[str, Any]) -> "Architecture":
        """Read from encoder.json."""
        lists = {name: tuple(described[name]) for name in ("heads", "frozen") if name in described}
        # as 0.1 called it
        lists["heads"] = tuple("prototypes" if h == "centres" else h for h in lists["heads"])
        now = {**described, **lists, "head": HeadShape.of(described.get("head"))}
        if now.pop("deep", False):  # likewise
            now["projection_layers"] = 3
        return cls(**now)


class Headed(nn.Module):
    """A backbone with a head behind it; takes images, or the backbone's vectors of them.

    Args:
        trunk: images to vectors; None where vectors are all there is.
        head: vectors to features.
    """

    def __init__(self, trunk: nn.Module | None, head: ResidualHead):
        super().__init__()
        self.trunk, self.head = trunk, head

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] or vectors [N, F] -> features."""
        return self.found(images).feature

    def found(self, images: Tensor) -> Found:
        """Features, and what else heads read and losses need."""
        if images.ndim == 2:
            return self.head(images)
        if self.trunk is None:
            raise InputError(
                "this encoder was trained on vectors that another model made, and takes vectors "
                f"[N, {self.head.shape.inputs}] alone: embed the pictures with that model first"
            )
        return self.head(self.trunk(images))


def _backbone_of(architecture: Architecture, init: str) -> tuple[nn.Module, int]:
    """The backbone of an architecture, with its head if it has one, and the features' width."""
    name, shape = architecture.backbone, architecture.head
    if name == VECTORS and shape is not None:
        trunk, width = None, shape.inputs
    else:
        trunk, parts = layered(
            name,
            architecture.layers,
            init=init,
            stem=architecture.stem,
            size=architecture.image_size,
            mirrored=architecture.mirrored,
        )
        width = sum(parts)
    if shape is None:
        assert trunk is not None
        return trunk, width
    if width != shape.inputs:
        raise InputError(f"{name} has vectors of {width}, and the head takes {shape.inputs}")
    head = ResidualHead(shape)
    return Headed(trunk, head), head.width


class Network(nn.Module):
    """A backbone with the heads that a method reads, as `HEADS` describes them.

    Args:
        architecture: of the network.
        init: as `build_backbone` takes it.
        made: a backbone that was made elsewhere, and the width of its vectors.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        init: str = "scratch",
        made: tuple[nn.Module, int] | None = None,
    ):
        super().__init__()
        self.architecture = architecture
        self.backbone, self.width = made or _backbone_of(architecture, init)
        shape = architecture.head
        widths = Widths(
            self.width if shape is None else shape.components or shape.inputs,
            architecture.projection,
            architecture.classes,
            architecture.projection_layers,
            architecture.projection_hidden,
        )
        unknown = [name for name in architecture.heads if name not in HEADS]
        if unknown:
            raise InputError(f"there is no head {brief(unknown[0])}: there are {', '.join(HEADS)}")
        wanted = set(architecture.heads)
        if shape is not None and shape.belief:
            wanted -= {"logits"}  # the head has the classifier, since it is a part of features
        self.heads = {name: kind for name, kind in HEADS.items() if name in wanted}
        for kind in self.heads.values():
            setattr(self, kind.module, kind.build(widths))
        self.freeze()

    @property
    def inputs(self) -> int | None:
        """Width of the vectors that it takes in place of images; None without a head."""
        shape = self.architecture.head
        return None if shape is None else shape.inputs

    @property
    def takes_pictures(self) -> bool:
        """Whether it takes images."""
        return not (isinstance(self.backbone, Headed) and self.backbone.trunk is None)

    @property
    def fixed(self) -> list[nn.Module | nn.Parameter]:
        """What does not learn."""
        parameters, modules = dict(self.named_parameters()), dict(self.named_modules())
        return [
            parameters[name] if name in parameters else modules[name]
            for name in self.architecture.frozen
        ]

    def freeze(self, names: Sequence[str] = ()) -> None:
        """Let modules and parameters of these names, and of the architecture's, learn no more."""
        frozen = dict.fromkeys([*self.architecture.frozen, *names])
        self.architecture = replace(self.architecture, frozen=tuple(frozen))
        for part in self.fixed:
            part.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> "Network":
        """Training mode, but for what is frozen."""
        super().train(mode)
        for part in self.fixed:
            if isinstance(part, nn.Module):
                part.eval()
        return self

    @property
    def prototypes(self) -> Tensor | None:
        """Rows of a classifier on the projection, one for each class [C, D]."""
        for kind in self.heads.values():
            if kind.reads == "z" and kind.says == "logits":
                return cast(nn.Linear, getattr(self, kind.module)).weight
        return None

    def without(self, names: Collection[str]) -> None:
        """Leave out heads."""
        for name in names:
            delattr(self, self.heads.pop(name).module)

    def forward(self, images: Tensor) -> Output:
        """Normalised images [N, 3, H, W] -> feature [N, F] and the heads there are."""
        if isinstance(self.backbone, Headed):
            # A part of the feature does not learn: heads read what does.
            feature, learned, logits = self.backbone.found(images)
        else:
            feature = learned = self.backbone(images)
            logits = None
        read, said = {"feature": learned}, {"feature": feature}
        if logits is not None:
            said["logits"] = logits
        for name, kind in self.heads.items():
            value = read[name] = getattr(self, kind.module)(read[kind.reads])
            if kind.unit:
                value = nn.functional.normalize(value.float(), dim=1)
            said[kind.says or name] = value
        return Output.of(said)

    def describe(self) -> dict[str, Any]:
        """The architecture as plain data, for encoder.json."""
        return asdict(self.architecture)


def without_head(network: Network) -> Network:
    """The frozen network of an encoder alone, which the head has to beat."""
    was = network.architecture
    assert was.head is not None
    assert isinstance(network.backbone, Headed)
    shape = replace(was.head, components=0, belief=0.0, classes=0)
    bare = Network(replace(was, backbone=VECTORS, head=shape, heads=(), frozen=()))
    assert isinstance(bare.backbone, Headed)
    bare.backbone.trunk = network.backbone.trunk
    bare.architecture = replace(was, head=shape, heads=())
    return bare.eval().to(next(network.parameters()).device)
