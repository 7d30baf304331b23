"""Semi-supervised judging: a whole encoder fine-tuned with a few fine labels."""

import copy
import time

import torch
from torch import Tensor, nn

from maskcon.data.plans import Squares, StepPlan
from maskcon.data.table import Split
from maskcon.errors import InputError
from maskcon.eval.probe import few
from maskcon.methods.losses import cross_entropy
from maskcon.methods.schedules import learning_rate
from maskcon.model.network import Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.runtime.progress import Progress, Silent, duration
from maskcon.runtime.seeds import seed_of
from maskcon.runtime.threads import shared_by, threads_of
from maskcon.vectors.encode import encode, of_split

BATCH = 64
STEPS = 800  # whatever the share: few labels are seen more often
BACKBONE_LR, CLASSIFIER_LR = 0.01, 0.1
WEIGHT_DECAY = 1e-4


def fine_tuned(
    network: Network,
    preprocessing: Preprocessing,
    precision: Precision,
    train: Split,
    test: Split,
    *,
    share: float,
    crop_scale: float | None = None,
    flip: bool = True,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Accuracy of an encoder that was fine-tuned with a share of the fine labels.

    A linear classifier on the feature and the backbone below it are trained with
    cross-entropy, 800 steps of 64 weak views: SGD with momentum 0.9, rates 0.01 for the
    backbone and 0.1 for the classifier, both on a cosine to 0, weight decay 1e-4. These are
    not chosen on any test set. The network that is given stays as it is.

    Args:
        network: the encoder.
        preprocessing: how images become its input.
        precision: of the network.
        train: the split that labels are drawn from, as `maskcon.eval.probe.few` draws them.
        test: the split that is judged.
        share: of the fine labels, in (0, 1].
        crop_scale: smallest share of an image's area that a view keeps [0.2].
        flip: whether views are mirrored.
        seed: of the labels, the classifier, the order and the views.
        workers: processes that read pictures.
        progress: told how far it is.

    Returns:
        {"finetune@1%": share of test images that are classified rightly}
    """
    assert train.fine is not None
    if not train.images.has_pictures:
        raise InputError(
            "fine-tuning needs pictures, and here are vectors alone: leave out the protocol "
            "semi-supervised"
        )
    rows, device = few(train.fine, share, seed), precision.device
    images = train.images.take(rows).to(device)
    torch.manual_seed(seed_of(seed, "weights"))
    classifier = nn.Linear(network.width, int(train.fine.max()) + 1)
    tuned = nn.Sequential(copy.deepcopy(network.backbone), classifier).to(device)
    tuned.requires_grad_(True)  # what the run left as it was, too
    batches = images.views(
        StepPlan(images.crop_rule(crop_scale, flip), ("weak",), min(BATCH, len(rows)), seed),
        range(STEPS),
        size=preprocessing.image_size,
        workers=workers,
        device=device,
    )
    label = train.fine[rows].to(device)
    told = progress or Silent(), f"fine-tuning with {share:.0%} of the labels"
    side = preprocessing.image_size
    batch = torch.zeros(min(BATCH, len(rows)), 3, side, side, device=device)
    with shared_by(threads_of(tuned, batch)):
        _descend(tuned, batches, label, preprocessing, precision, *told)
    found = _accuracy(tuned.eval(), preprocessing, precision, test, workers)
    return {f"finetune@{share * 100:g}%": found}


def _descend(
    tuned: nn.Sequential,
    batches: Squares,
    label: Tensor,
    preprocessing: Preprocessing,
    precision: Precision,
    progress: Progress,
    doing: str,
) -> None:
    """Train a backbone and a classifier on batches of (rows, [view])."""
    backbone, classifier = tuned.train()
    optimizer = torch.optim.SGD(
        [
            {"params": backbone.parameters(), "full": BACKBONE_LR},
            {"params": classifier.parameters(), "full": CLASSIFIER_LR},
        ],
        lr=0.0,
        momentum=0.9,
        weight_decay=WEIGHT_DECAY,
    )
    scaler, start = precision.scaler(), time.perf_counter()
    for step, (rows, (view,)) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * learning_rate(step, STEPS, 0)
        with precision.autocast():
            logits = tuned(preprocessing.normalise(view))
        optimizer.zero_grad()
        scaler.scale(cross_entropy(logits, label[rows]).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        if step % 20 == 0:
            left = (time.perf_counter() - start) / (step + 1) * (STEPS - step - 1)
            more = f"  {duration(left)} left" if step else ""  # the first is slower than others
            progress.update(f"{doing}: {step} of {STEPS} steps{more}")


def _accuracy(
    network: nn.Module,
    preprocessing: Preprocessing,
    precision: Precision,
    test: Split,
    workers: int,
) -> float:
    """Share of test images whose largest logit is that of their fine class."""
    assert test.fine is not None
    size, count, right = preprocessing.image_size, len(test), 0
    device = precision.device
    batches = of_split(test.images, size=size, workers=workers, device=device, batch_size=250)
    for made in encode(network, batches, preprocessing, precision, count=count):
        right += int((made.features.argmax(1).cpu() == test.fine[made.rows]).sum())
    return right / count
