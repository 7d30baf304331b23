"""Judging on images that did not train: by fine labels where there are any, else without."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from maskcon.config import Config
from maskcon.data import Features, Split
from maskcon.data.another import another_view
from maskcon.data.augment.stages import stages
from maskcon.eval.retrieval import negatives_before, recall
from maskcon.eval.stability import NAME as STABLE
from maskcon.eval.stability import stability
from maskcon.model.network import Network
from maskcon.runtime.progress import Progress

if TYPE_CHECKING:
    from maskcon.train.state import Training


@dataclass(frozen=True)
class Verdict:
    """What is seen without fine labels.

    Attributes:
        coarse: share of the images whose nearest other image has their coarse label.
        stable: of images whose nearest other image, within their coarse class, is the same one
            for another view of them.
    """

    coarse: float
    stable: float

    def as_good_as(self, other: "Verdict") -> bool:
        """Whether nothing says that it is worse."""
        found, before = self.coarse * self.stable, other.coarse * other.stable
        return self.coarse >= other.coarse and found >= before


def verdict(training: "Training", network: Network, held: Split) -> Verdict:
    """Of some network, computed as the run computes."""
    features = training.features_of(network, held.images)
    coarse = recall(negatives_before(features, held.coarse), [1])["recall@1"]
    return Verdict(coarse, _stable(training, network, held, features))


def validated(training: "Training", held: Split, progress: Progress) -> dict[str, float]:
    """What validation images say of the encoder: figures of which the first is recall@1.

    Of fine labels; without these of coarse ones, and "stable", as `Verdict` has it.
    """
    features = training.features(held.images, progress)
    found = training.recall_of(features, held)
    if held.fine is None:
        found[STABLE] = _stable(training, training.encoder, held, features)
    return found


def _stable(training: "Training", network: Network, held: Split, features: Tensor) -> float:
    config, images = training.config, held.images.to(training.device)
    if isinstance(images, Features):
        assert isinstance(training.images, Features)
        images = replace(images, augmentation=training.images.augmentation)
    again = another_view(
        images,
        _other_kind(config),
        crop_scale=config.crop_scale,
        flip=config.flip,
        seed=config.seed,
    )
    found = stability(features, training.features_of(network, again), held.coarse)
    return training.ranks.broadcast_object(found)  # a rounding apart, they would end apart


def _other_kind(config: Config) -> str:
    """The other view: the query's, of several in turn the last, so that epochs compare."""
    return "strong" if config.on_vectors else stages("query_view", config.query_view)[-1].kind
