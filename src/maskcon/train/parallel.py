"""Several processes that share each batch: what a step needs of the others' parts."""

from collections.abc import Collection
from dataclasses import replace

from torch import nn

from maskcon.methods import Output, Step
from maskcon.model.heads import says
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.progress import Progress


def of_whole_batch(step: Step, ranks: Ranks, count: int, heads: Collection[str]) -> Step:
    """The step of the whole batch, with gradient through the rows of this process.

    Args:
        step: of this process's part.
        ranks: who share the batch; alone, the step is the whole batch's already.
        count: rows of the whole batch.
        heads: names in `HEADS` of what the loss reads besides the feature.
    """
    if ranks.size == 1:
        return step

    def whole(output: Output) -> Output:
        rows = output.tensors()
        read = {name: rows[name] for name in ("feature", *map(says, heads)) if name in rows}
        return Output.of(
            {head: ranks.all_gather_with_gradient(x, count) for head, x in read.items()}
        )

    assert step.key is not None
    return replace(
        step,
        query=whole(step.query),
        key=whole(step.key),
        label=step.batch_label,
        batch_z=None,
        batch_label=None,
        own=None,
    )


def with_shared_statistics(network: nn.Module, ranks: Ranks, gpu: bool, notify: Progress) -> None:
    """Let batch norms see the whole batch, where that can be had; else say that they do not."""
    if ranks.size == 1:
        return
    if gpu:
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
    elif has_batch_norm(network):
        notify.note(
            f"batch norm: each of {ranks.size} processes normalises its own part of a batch, "
            "since SyncBatchNorm is for GPUs alone"
        )


def has_batch_norm(network: nn.Module) -> bool:
    """Whether a network normalises over the batch."""
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in network.modules())
