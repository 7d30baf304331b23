"""An encoder before its judges: the protocols by name, each run on what it needs."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from maskcon.data.table import Split
from maskcon.errors import InputError
from maskcon.eval import bootstrap, precision, probe, recall
from maskcon.eval.cluster import clustering
from maskcon.eval.diagnostics import diagnostics
from maskcon.eval.few_shot import few_shot
from maskcon.eval.finetune import fine_tuned
from maskcon.eval.knn import nearest_across, vote
from maskcon.eval.recall import pixel_recall, recall_of
from maskcon.eval.soft_labels import Bank, needed_bank, soft_labels
from maskcon.model.network import Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.progress import Progress, Silent
from maskcon.vectors.once import embed
from maskcon.vectors.store import Store

SHARES = (0.01, 0.1)  # of the fine labels, of the semi-supervised protocol
NEIGHBOURS = 200  # that vote


@dataclass(frozen=True)
class Subject:
    """An encoder and the images that it is judged on.

    Attributes:
        network: the encoder, on its device.
        preprocessing: how images become its input.
        precision: the precision that it computes in.
        test: the split whose images are judged.
        train: the split that classifiers learn from; None where there is none.
        bare: the frozen network alone, where only a head on it was trained.
        bank: of the run, where soft labels are judged.
        coarse_names: of the coarse classes.
        crop_scale, flip: of the views that fine-tuning sees.
        seed: of whatever is drawn.
        workers: that read pictures.
        progress: told how it goes.
        ranks: that share the embedding.
        store: of vectors that are known.
    """

    network: Network
    preprocessing: Preprocessing
    precision: Precision
    test: Split
    train: Split | None = None
    bare: Network | None = None
    bank: Bank | None = None
    coarse_names: Sequence[str] = ()
    crop_scale: float | None = None
    flip: bool = True
    seed: int = 0
    workers: int = 1
    progress: Progress = field(default_factory=Silent)
    ranks: Ranks = ALONE
    store: Store | None = None

    def embed(self) -> None:
        """Compute the features that all need; of several `ranks` each must call this."""
        _ = self.features
        _ = self.frozen
        if self.train is not None:
            _ = self.train_features

    @cached_property
    def features(self) -> Tensor:
        """Of the test images [N, F], unit length; computed once."""
        return self._embed(self.network, self.test)

    @cached_property
    def frozen(self) -> Tensor | None:
        """The same by the frozen network alone, where there is one."""
        if self.bare is None:
            return None
        return self._embed(self.bare, replace(self.test, computed=None))

    @cached_property
    def train_features(self) -> Tensor:
        """Of the train images, computed once."""
        return self._embed(self.network, self.taught)

    def _embed(self, network: Network, split: Split) -> Tensor:
        workers, progress = self.workers, self.progress
        how = self.preprocessing, self.precision, workers, progress, self.ranks, self.store
        return embed(network, split, *how).cpu()

    @property
    def fine(self) -> Tensor:
        """Fine labels of the test images."""
        assert self.test.fine is not None
        return self.test.fine

    @property
    def coarse(self) -> Tensor | None:
        """Coarse labels of the test images; None where labels have one level."""
        one_level = len(self.coarse_names) == 1 and self.test.fine is not None
        return None if one_level else self.test.coarse

    @property
    def taught(self) -> Split:
        """The train images, with fine labels.

        Raises:
            InputError: there are none.
        """
        if self.train is None or self.train.fine is None:
            raise InputError(
                "the data have no train images with fine labels, which classifiers are taught "
                "with: leave out knn, linear and semi-supervised, or "
                "give data with a train split"
            )
        return self.train


Protocol = Callable[[Subject], dict[str, Any]]


def _recall(subject: Subject) -> dict[str, Any]:
    test = subject.test
    beside = {"pixels": pixel_recall(test, subject.workers)}
    if subject.frozen is not None:
        beside["frozen"] = recall_of(subject.frozen, test)
    if test.fine is None:
        return {**recall_of(subject.features, test), **beside}
    coarse = subject.coarse
    found = recall.hits(subject.features, test.fine, coarse)
    average, r_precision = precision.query_precisions(subject.features, test.fine)
    of_query: dict[str, Tensor] = dict(found)
    if average.isfinite().any():
        of_query |= {"map@r": average, "r_precision": r_precision}
    by_coarse = {} if coarse is None else recall.recall_by_coarse(found, coarse)
    intervals = bootstrap.intervals(of_query, seed=subject.seed)
    return {
        **recall.recall_at(found),
        **{name: of_query[name].nanmean().item() for name in of_query if name not in found},
        "intervals": {k: list(v) for k, v in intervals.items()},  # as JSON has them
        "by_coarse": {subject.coarse_names[c]: values for c, values in by_coarse.items()},
        **beside,
    }


def _knn(subject: Subject) -> dict[str, Any]:
    train = subject.taught
    assert train.fine is not None
    subject.progress.update("knn")
    found = nearest_across(subject.features, subject.train_features, NEIGHBOURS)
    name = f"knn@{found.ids.shape[1]}"

    def accuracy(label: Tensor, truth: Tensor) -> float:
        return (vote(found, label) == truth).double().mean().item()

    judged = {name: accuracy(train.fine, subject.fine)}
    if subject.coarse is not None:
        judged[f"{name}/coarse"] = accuracy(train.coarse, subject.coarse)
    return judged


def _linear(subject: Subject) -> dict[str, Any]:
    train = subject.taught
    assert train.fine is not None
    features = subject.train_features, train.fine, subject.features, subject.fine
    return probe.linear_probe(*features, seed=subject.seed, progress=subject.progress)


def _semi_supervised(subject: Subject) -> dict[str, Any]:
    train, seed, progress = subject.taught, subject.seed, subject.progress
    assert train.fine is not None
    found: dict[str, Any] = {}
    for share in SHARES:
        features = subject.train_features, train.fine, subject.features, subject.fine
        found |= probe.few_probe(*features, share=share, seed=seed, progress=progress)
        found |= fine_tuned(
            subject.network,
            subject.preprocessing,
            subject.precision,
            train,
            subject.test,
            share=share,
            crop_scale=subject.crop_scale,
            flip=subject.flip,
            seed=seed,
            workers=subject.workers,
            progress=progress,
        )
    return found


def _few_shot(subject: Subject) -> dict[str, Any]:
    seed, progress = subject.seed, subject.progress
    return few_shot(subject.features, subject.fine, subject.coarse, seed=seed, progress=progress)


def _cluster(subject: Subject) -> dict[str, Any]:
    seed, progress = subject.seed, subject.progress
    return clustering(subject.features, subject.fine, subject.coarse, seed=seed, progress=progress)


def _diagnostics(subject: Subject) -> dict[str, Any]:
    subject.progress.update("diagnostics")
    return diagnostics(subject.features, subject.coarse, subject.test.fine)


def _soft_labels(subject: Subject) -> dict[str, Any]:
    return soft_labels(needed_bank(subject.bank), progress=subject.progress)


PROTOCOLS: dict[str, Protocol] = {
    "recall": _recall,
    "knn": _knn,
    "linear": _linear,
    "semi-supervised": _semi_supervised,
    "few-shot": _few_shot,
    "cluster": _cluster,
    "diagnostics": _diagnostics,
    "soft-labels": _soft_labels,
}
TAUGHT = ("knn", "linear", "semi-supervised")  # with the fine labels of train images
WITHOUT_FINE = ("recall", "diagnostics")  # what can be judged where there are none


def check_protocols(
    names: Sequence[str], fine: bool = True, without: Collection[str] = ()
) -> tuple[str, ...]:
    """The protocols of these names, in their order; "all" is all that the data allow.

    Args:
        names: of `PROTOCOLS`, or "all".
        fine: whether the data have fine labels.
        without: protocols that "all" leaves out, since something else of theirs is missing.

    Raises:
        InputError: an unknown one, or one that needs fine labels where there are none.
    """
    possible = tuple(PROTOCOLS) if fine else WITHOUT_FINE
    unknown = [name for name in names if name not in PROTOCOLS and name != "all"]
    if unknown or not names:
        raise InputError(
            f"there is no protocol {unknown[0] if unknown else ''!r}: choose of "
            f"{', '.join(PROTOCOLS)}, or all"
        )
    if "all" in names:
        return tuple(name for name in possible if name not in without)
    impossible = [name for name in names if name not in possible]
    if impossible:
        raise InputError(
            f"the data have no fine labels, which {', '.join(impossible)} would be measured "
            f"against: {' and '.join(possible)} are what can be known"
        )
    return tuple(name for name in PROTOCOLS if name in names)


def judge(
    subject: Subject, names: Sequence[str], note: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """The results of some protocols, one after the other.

    Args:
        subject: what is judged.
        names: as `check_protocols` returns them.
        note: given the results so far after each of them, since the next may take long.

    Returns:
        {name of a metric: share in [0, 1] or figure}, and "images", the number of test images;
        besides, of recall and few-shot, "intervals" ({metric: [low, high]}, 95 %), and of recall,
        "by_coarse" ({coarse class: {metric: share}}) and "pixels" (the recall of raw pixels).
    """
    found: dict[str, Any] = {"images": len(subject.test)}
    intervals: dict[str, Any] = {}
    for name in names:
        found = found | PROTOCOLS[name](subject)
        intervals |= found.get("intervals", {})
        found |= {"intervals": {**intervals}} if intervals else {}
        note(found)
    subject.progress.close()
    return found
