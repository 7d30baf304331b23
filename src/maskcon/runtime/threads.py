"""How many threads share an operator of the step: one, where the operators are small."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Multiply-adds of a layer for a batch. Threads that have done their part of an operator wait for
# the others, busily, and where another program has a core they wait longer than small operators
# take: docs/speed.md has what was measured below and above.
FEW = 100e6


def threads_of(network: nn.Module, images: Tensor) -> int:
    """Threads for steps of a network: a function of its size, so that each run has the same bits.

    Args:
        network: on the device where it trains.
        images: a batch, as squares [N, 3, H, W] or vectors [N, F].

    Returns:
        1 where its layers are small and it trains on a processor, unless OMP_NUM_THREADS says how
        many there are to be; else as many as torch has.
    """
    now = torch.get_num_threads()
    on_processor = next(network.parameters()).device.type == "cpu"
    if now == 1 or not on_processor or "OMP_NUM_THREADS" in os.environ:
        return now
    return 1 if len(images) * work(network, images[:1].float()) < FEW else now


@torch.no_grad()
def work(network: nn.Module, images: Tensor) -> float:
    """Multiply-adds of a convolution or linear layer for some images, the mean of all."""
    counts: list[float] = []

    def count(layer: Any, given: Any, made: Tensor) -> None:
        counts.append(made.numel() * layer.weight[0].numel())

    kinds = (nn.Conv2d, nn.Linear)
    layers = [layer for layer in network.modules() if isinstance(layer, kinds)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was = network.training
    try:
        network.eval()(images)
    finally:
        network.train(was)
        for hook in hooks:
            hook.remove()
    return sum(counts) / max(len(counts), 1)


@contextmanager
def shared_by(threads: int) -> Iterator[None]:
    """Have operators shared by so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
