"""The gradient of a batch that does not fit into memory at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from maskcon.methods import Output


def parts_of(images: Tensor, size: int) -> tuple[Tensor, ...]:
    """Images in parts of at most some size, the sizes as even as can be; 0 is one part."""
    count = -(-len(images) // size) if size else 1
    return images.tensor_split(count)


def join(outputs: Sequence[Output]) -> Output:
    """The outputs of the parts of a batch as that of the batch."""
    if len(outputs) == 1:
        return outputs[0]
    every = [output.tensors() for output in outputs]
    return Output.of({name: torch.cat([one[name] for one in every]) for name in every[0]})


class GradientCache:
    """An encoder whose forward and backward pass have the activations of one part in memory.

    Each part is encoded twice: without activations, for the outputs of the whole batch, on
    which the loss and its gradient are those of the undivided batch; then with them, to take
    that gradient further to the weights. Only batch norm can tell the difference, since its
    statistics are those of a part. Reference: Gao et al., Scaling Deep Contrastive Learning
    Batch Size under Memory Limited Setup, 2021.

    Args:
        network: that `encode` calls; its parameters' gradients are added to.
        encode: images to their output.
        size: images of a part at most; 0 is the whole batch, encoded once.
        apart: the context of all parts but the last, in which processes that share the batch
            keep their gradients to themselves.
    """

    def __init__(
        self,
        network: nn.Module,
        encode: Callable[[Tensor], Output],
        size: int,
        apart: Callable[[], AbstractContextManager] = nullcontext,
    ):
        self._network, self._encode, self._size, self._apart = network, encode, size, apart
        self._cached: list[tuple[Output, list[tuple[Tensor, list[Tensor]]]]] = []

    def forward(self, batches: Sequence[Tensor]) -> list[Output]:
        """The outputs of some batches, to compute a loss of and call its `backward()`."""
        divided = [parts_of(images, self._size) for images in batches]
        self._cached = []
        if all(len(parts) == 1 for parts in divided):
            return [self._encode(parts[0]) for parts in divided]
        for parts in divided:
            states, outputs = [], []
            with torch.no_grad():
                for part in parts:
                    states.append(_random_state(part.device))
                    outputs.append(self._encode(part))
                whole = join(outputs)
            for value in whole.tensors().values():
                value.requires_grad_()
            self._cached.append((whole, list(zip(parts, states, strict=True))))
        return [whole for whole, _ in self._cached]

    def backward(self) -> None:
        """Take the gradients of the outputs to the weights; undivided batches have done so."""
        again: list[tuple[Tensor, list[Tensor], dict[str, Tensor]]] = []
        for whole, parts in self._cached:
            gradients = {
                name: leaf.grad.tensor_split(len(parts))
                for name, leaf in whole.tensors().items()
                if leaf.grad is not None
            }
            for number, (part, state) in enumerate(parts) if gradients else ():
                again.append((part, state, {name: g[number] for name, g in gradients.items()}))
        self._cached = []
        if not again:
            return
        device = again[0][0].device
        every = {name for _, _, gradient in again for name in gradient}
        with _kept_statistics(self._network), _on_with_random_state(device):
            for number, (part, state, gradient) in enumerate(again):
                last = number == len(again) - 1
                with nullcontext() if last else self._apart():
                    _set_random_state(device, state)  # the same units are dropped again
                    outputs = self._encode(part).tensors()
                    if last:  # processes wait for a gradient of all that any part has used
                        for name in every - gradient.keys():
                            gradient[name] = torch.zeros_like(outputs[name])
                    torch.autograd.backward(
                        [outputs[name] for name in gradient], list(gradient.values())
                    )


@contextmanager
def _kept_statistics(network: nn.Module) -> Iterator[None]:
    """Batch norms leave their running statistics alone: the first pass has updated them."""
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


def _random_state(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    if device.type == "mps":
        return [*states, torch.mps.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states[1])


@contextmanager
def _on_with_random_state(device: torch.device) -> Iterator[None]:
    after = _random_state(device)
    try:
        yield
    finally:
        _set_random_state(device, after)
