"""Semi-supervised judging: a whole encoder fine-tuned with a few fine labels."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.data.features import Features
from maskcon.data.plans import CropRule, StepPlan, plain_squares, sizes_of, some, views
from maskcon.data.table import Split
from maskcon.errors import InputError
from maskcon.eval.probe import few
from maskcon.methods.losses import cross_entropy
from maskcon.methods.schedules import learning_rate
from maskcon.model.network import Network
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.runtime.progress import Progress, Silent
from maskcon.runtime.seeds import seed_of

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
    crop_scale: float = 0.2,
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
        crop_scale: smallest share of an image's area that a view keeps.
        flip: whether views are mirrored.
        seed: of the labels, the classifier, the order and the views.
        workers: processes that read pictures.
        progress: told how far it is.

    Returns:
        {"finetune@1%": share of test images that are classified rightly}
    """
    progress = progress or Silent()
    assert train.fine is not None
    assert test.fine is not None
    if isinstance(train.images, Features):
        raise InputError(
            "fine-tuning needs pictures, and here are vectors alone: leave out the protocol fewshot"
        )
    rows = few(train.fine, share, seed)
    images, label = some(train.images, rows), train.fine[rows]
    device = precision.device
    torch.manual_seed(seed_of(seed, "weights"))
    backbone = copy.deepcopy(network.backbone).to(device).train()
    classifier = nn.Linear(network.width, int(train.fine.max()) + 1).to(device)
    optimizer = torch.optim.SGD(
        [
            {"params": backbone.parameters(), "full": BACKBONE_LR},
            {"params": classifier.parameters(), "full": CLASSIFIER_LR},
        ],
        lr=0.0,
        momentum=0.9,
        weight_decay=WEIGHT_DECAY,
    )
    scaler = precision.scaler()
    rule = CropRule(crop_scale, flip, sizes_of(images))
    plan = StepPlan(rule, ("weak",), min(BATCH, len(rows)), seed)
    made = views(
        images.to(device) if isinstance(images, Tensor) else images,
        plan,
        range(STEPS),
        size=preprocessing.image_size,
        workers=workers,
        device=device,
    )
    label = label.to(device)
    for step, (drawn, (view,)) in enumerate(made):
        for group in optimizer.param_groups:
            group["lr"] = group["full"] * learning_rate(step, STEPS, 0)
        with precision.autocast():
            logits = classifier(backbone(preprocessing.normalise(view)))
        optimizer.zero_grad()
        scaler.scale(cross_entropy(logits, label[drawn]).mean()).backward()
        scaler.step(optimizer)
        scaler.update()
        if step % 20 == 0:
            progress.update(f"fine-tuning with {share:.0%} of the labels: {step} of {STEPS} steps")
    found = _accuracy(backbone.eval(), classifier, preprocessing, precision, test, workers)
    return {f"finetune@{share * 100:g}%": found}


@torch.no_grad()
def _accuracy(
    backbone: nn.Module,
    classifier: nn.Linear,
    preprocessing: Preprocessing,
    precision: Precision,
    test: Split,
    workers: int,
) -> float:
    assert test.fine is not None
    right, done = 0, 0
    options: dict[str, Any] = {"size": preprocessing.image_size, "workers": workers}
    for batch in plain_squares(test.images, **options, batch_size=250):
        with precision.autocast():
            logits = classifier(backbone(preprocessing.normalise(batch.to(precision.device))))
        label = test.fine[done : done + len(batch)]
        right += int((logits.argmax(1).cpu() == label).sum())
        done += len(batch)
    return right / done
