"""One training step: all of it, from the top to the bottom.

What most runs do not need stands around it: batches that do not fit into memory
(`gradient_cache`), a CUDA graph of it (`cuda_graph`), mixed images and small crops (`batches`),
several processes (`parallel`), loss scaling (`Precision.scaler`).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from maskcon.methods import Mixed, Output, Step
from maskcon.train.parallel import of_whole_batch

if TYPE_CHECKING:
    from maskcon.train.state import Training


class Batch(NamedTuple):
    """What one step sees, on the device: of several processes, this one's part of the batch.

    Attributes:
        label: [N].
        query: views uint8 [N, 3, S, S], or vectors float32 [N, F].
        key: views of the same images, likewise; None for methods without keys.
        crops: small crops of the key views, uint8 [N, 3, s, s].
        partner: row of the whole batch with whose key view each query view is mixed [N].
        share: of the query view in the mixture [N].
    """

    label: Tensor
    query: Tensor
    key: Tensor | None = None
    crops: Tensor | None = None
    partner: Tensor | None = None
    share: Tensor | None = None

    def mixed(self, outputs: Sequence[Output]) -> Mixed | None:
        """The mixed queries, the last of what the query encoder has seen; None without mixtures."""
        if self.partner is None or self.share is None:
            return None
        return Mixed(outputs[-1], self.share, self.partner)


def step(run: "Training", batch: Batch) -> Tensor:
    """One optimizer step; the loss, still on the device: this process's share of it.

    Nothing here waits for the device or depends on the number of the step, so that a CUDA graph
    can stand in for it.
    """
    method, bank, ranks = run.method, run.bank, run.ranks
    count = run.config.batch_size  # of the whole batch
    label = ranks.all_gather(batch.label, count)

    # The key encoder follows the query's first; its keys have no gradient.
    key = keys = entering = None
    if run.pair is not None and batch.key is not None:
        run.pair.update_key()
        key = run.encoders.key(batch.key)
        assert key.z is not None  # methods with a key encoder have a projection
        keys = entering = ranks.all_gather(key.z, count)
    if batch.crops is not None:
        entering = ranks.all_gather(run.encoders.graph(batch.crops), count)

    query, *others = run.encoders.forward(run.batches.with_gradient(batch))
    seen = Step(
        query=query,
        key=others[0] if method.key == "shared" else key,
        label=batch.label,
        bank_z=None if bank is None else bank.z,
        bank_label=None if bank is None else bank.label,
        batch_z=keys,
        batch_label=label,
        own=run.own_rows,
        prototypes=run.encoder.prototypes,
        mixed=batch.mixed(others),
        lots=run.lots,
    )
    if method.key == "shared":  # each row is compared with all others of the batch
        seen = of_whole_batch(seen, ranks, count, run.objective.heads)
    loss = run.objective(seen, **run.hyper)

    run.optimizer.zero_grad()
    run.scaler.scale(run.gradient_share * loss).backward()
    run.encoders.backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()

    # The keys enter the bank last: no query meets its own among its negatives.
    if bank is not None and entering is not None:
        bank.enqueue(entering, label)
    return run.loss_share * loss.detach()
