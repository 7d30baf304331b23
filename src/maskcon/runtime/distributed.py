"""Processes that train one network together: which part of a batch is whose, what they exchange.

`torchrun` starts them and tells each of them its rank. Nothing here is more than
torch.distributed does; alone, every exchange gives back what it was given.
"""

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from maskcon.errors import InputError, MainProcessError

# Longer than any download or evaluation that others wait for: torchrun ends the others when a
# process dies, not this.
PATIENCE = timedelta(days=1)

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """One of `size` processes.

    Attributes:
        rank: of this process, 0..size-1.
        size: processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """The rows of `count` that are this process's, as even as can be."""
        return self._parts(count)[self.rank]

    def _parts(self, count: int) -> list[slice]:
        share, rest = divmod(count, self.size)
        bounds = [rank * share + min(rank, rest) for rank in range(self.size + 1)]
        return [slice(a, b) for a, b in pairwise(bounds)]

    @torch.no_grad()
    def all_gather(self, rows: Tensor, count: int) -> Tensor:
        """The rows of all processes [count, ...], from this one's part of them; no gradient."""
        if self.size == 1:
            return rows
        longest = -(-count // self.size)
        padded = rows.new_zeros(longest, *rows.shape[1:])
        padded[: len(rows)] = rows
        every = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(every, padded)
        parts = [part.stop - part.start for part in self._parts(count)]
        return torch.cat([x[:n] for x, n in zip(every, parts, strict=True)])

    def all_gather_with_gradient(self, rows: Tensor, count: int) -> Tensor:
        """As `gather`, with this process's gradient through its own rows."""
        if self.size == 1:
            return rows
        own, every = self.part(count), self.all_gather(rows, count)
        return torch.cat([every[: own.start], rows, every[own.stop :]])

    def all_reduce(self, values: Tensor) -> Tensor:
        """The sum of all processes' values."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def all_reduce_max(self, values: Tensor) -> Tensor:
        """The largest of all processes' values, place by place."""
        if self.size > 1:
            dist.all_reduce(values, dist.ReduceOp.MAX)
        return values

    def broadcast(self, tensors: Sequence[Tensor]) -> None:
        """Give every process the tensors of the first."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.data, 0)

    def all_gather_object(self, thing: T) -> list[T]:
        """The things of all processes, in all."""
        if self.size == 1:
            return [thing]
        every: list[Any] = [None] * self.size
        dist.all_gather_object(every, thing)
        return every

    def broadcast_object(self, thing: T) -> T:
        """The thing of the first process, in all."""
        things = [thing]
        if self.size > 1:
            dist.broadcast_object_list(things, 0)
        return things[0]

    def gather_to_main(self, things: Iterable[T]) -> Iterator[T]:
        """What all processes make, one of each at a time, in the first; nothing in the others."""
        if self.size == 1:
            yield from things
            return
        source = iter(things)
        while True:
            thing = next(source, None)
            if not self.all_reduce_max(torch.tensor(int(thing is not None))):
                return
            every: list[Any] | None = [None] * self.size if self.is_main else None
            dist.gather_object(thing, every)
            yield from (one for one in every or [] if one is not None)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Do in the first process, then in the others: what it leaves on the disk they find."""
        if self.size > 1 and not self.is_main:
            dist.barrier()
        try:
            yield
        finally:
            if self.size > 1 and self.is_main:
                dist.barrier()

    def main_only(self, do: Callable[[], object]) -> None:
        """Do in the first process alone.

        Raises:
            What `do` raises, there; `MainProcessError` in the others.
        """
        failed: list[object] = [False]
        try:
            if self.is_main:
                failed = [True]
                do()
                failed = [False]
        finally:
            if self.size > 1:
                dist.broadcast_object_list(failed, 0)
        if failed[0]:
            raise MainProcessError("the process of rank 0 has stopped; its message tells why")

    def data_parallel(self, network: nn.Module) -> nn.Module:
        """The network with gradients that are the mean of all processes'."""
        if self.size == 1:
            return network
        # Statistics of batch norms are given to all where they are read, not in each step.
        kind = nn.parallel.DistributedDataParallel
        newer = "forward_sync_buffers" in inspect.signature(kind).parameters
        without: dict[str, Any] = {
            "forward_sync_buffers" if newer else "broadcast_buffers": False,
        }
        return kind(network, **without)


ALONE = Ranks()


def lost_connection(error: RuntimeError) -> bool:
    """Whether an exchange failed, as it does where another process has ended."""
    return isinstance(error, dist.DistError) or "gloo" in str(error) or "NCCL" in str(error)


class Agreement:
    """Whether any process was asked to stop; all hear it at the same step.

    The answer to a question is there when the next is asked, so that nobody waits.
    """

    def __init__(self, ranks: Ranks):
        self._ranks = ranks
        self._asked: Tensor | None = None
        self._work: Any = None

    def __call__(self, number: int) -> int:
        """The largest number that any process gave at the call before; alone, the own one."""
        if self._ranks.size == 1:
            return number
        answer = self.close()
        self._asked = torch.tensor(number)
        self._work = dist.all_reduce(self._asked, dist.ReduceOp.MAX, async_op=True)
        return answer

    def close(self) -> int:
        """Wait for the last answer."""
        if self._asked is None:
            return 0
        self._work.wait()
        answer, self._asked = int(self._asked), None
        return answer


@contextmanager
def process_group() -> Iterator[Ranks]:
    """This process among those that torchrun started with it; else alone.

    Raises:
        InputError: they cannot find each other.
    """
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1:
        yield ALONE
        return
    ours = not dist.is_initialized()  # else a program that calls this has done it
    if ours:
        backend = "gloo"
        if torch.cuda.is_available():  # "cuda" is the GPU of this process's number from now on
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
            backend = "cpu:gloo,cuda:nccl"
        try:
            store, rank, size = next(dist.rendezvous("env://", timeout=PATIENCE))
            # where torchrun has started them again, the addresses of those before are still there
            store = dist.PrefixStore(f"attempt {_attempt()}", store)
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=PATIENCE
            )
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"the {size} processes cannot find each other: {error}. Start them with torchrun"
            ) from error
    yield Ranks(dist.get_rank(), dist.get_world_size())
    if ours:  # after an error there may be nobody to say goodbye to
        try:
            dist.barrier()
        except RuntimeError as error:
            raise MainProcessError("another process has stopped; its message tells why") from error
        dist.destroy_process_group()


def restarted() -> bool:
    """Whether torchrun has started this process again, after one of them died."""
    return _attempt() > 0


def _attempt() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
