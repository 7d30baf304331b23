"""The bank in a run's checkpoint, and which train images its rows are keys of."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskcon.data.plans import CropRule, PrefillPlan, StepPlan
from maskcon.data.table import Part
from maskcon.errors import InputError
from maskcon.eval.soft_labels import Bank
from maskcon.methods.bank import MemoryBank
from maskcon.runs import checkpoint
from maskcon.runtime.progress import Progress
from maskcon.train.frozen import rows_apart


def own_bank(folder: Path, run: Mapping[str, Any], train: Part | None, notify: Progress) -> Bank:
    """The bank of the newest checkpoint, with the labels of the images that its keys are of.

    Args:
        folder: of the run.
        run: the content of its run.json.
        train: the train images that it was trained on.
        notify: told of a checkpoint that is damaged.

    Raises:
        InputError: there is no checkpoint or no bank in it, or the images are not those of the
            run, or have no fine labels.
    """
    method = run["config"]["method"]
    if not checkpoint.has_checkpoint(folder):
        raise InputError(
            f"{folder} has no checkpoint, and the bank that soft labels are of is in there: "
            "keep last.ckpt of a run, or train again"
        )
    state = checkpoint.newest_checkpoint(folder, notify)["training"]
    if "bank" not in state:
        raise InputError(
            f"the run in {folder} is one of {method}, which has no bank for soft labels to be "
            "over: give a run of another method"
        )
    if train is None or train.fine is None:
        raise InputError(
            "the data have no train images with fine labels, which the rows of the run's bank are "
            "compared with: give the data that the run was trained on"
        )
    if "answers" in state:
        raise InputError(
            f"the run in {folder} was taught by answers or names, which its bank has in place of "
            "labels: give a run without --answers and --known"
        )
    z, label = state["bank"]["z"].float(), state["bank"]["label"]
    rows = _rows(run, len(train), len(label), state["steps"])
    seen = train.fine if run["config"]["label"] == "fine" else train.coarse
    if rows is None or not torch.equal(seen[rows], label):
        raise InputError(
            f"the run in {folder} was not trained on these {len(train):,} train images, as its "
            "bank shows: give the data that it was trained on"
        )
    return Bank(z, train.coarse[rows], train.fine[rows])


def _rows(run: Mapping[str, Any], images: int, size: int, steps: int) -> Tensor | None:
    """The train image of each row [M]; None where the run had others."""
    config = run["config"]
    seed, batch = config["seed"], config["batch_size"]
    if images != run["data"]["train"]:
        return None
    apart = None
    if config.get("freeze") or config.get("features"):
        apart = rows_apart(images, batch, seed)
    seen = torch.arange(images) if apart is None else apart[1]
    if not batch or len(seen) < max(size, batch):
        return None
    return seen[entered(len(seen), size, batch, seed, steps)]


def entered(images: int, size: int, batch: int, seed: int, steps: int) -> Tensor:
    """The images whose keys are in the ring after some steps: int64 [M].

    What a step sees is a function of the seed and its number, so the ring is filled again, with
    the numbers of images in place of their keys.

    Args:
        images: that were trained on.
        size: rows M of the bank.
        batch: images of a step.
        seed: of the run.
        steps: that were done.
    """
    rule = CropRule(None, False, torch.ones(images, 2, dtype=torch.long), cuts=False)
    filled, plan = (
        PrefillPlan(rule, "plain", size, batch, seed),
        StepPlan(rule, ("plain",), batch, seed),
    )
    ring = MemoryBank(size, 1)
    ring.enqueue(torch.zeros(len(filled.order), 1), filled.order)
    first = max(0, steps - -(-size // batch))  # whatever entered before is gone
    ring.position.add_(first * batch).remainder_(size)
    for step in range(first, steps):
        rows = plan(step).rows
        ring.enqueue(torch.zeros(len(rows), 1), rows)
    return ring.label
