"""A backward pass through a batch that does not fit into memory at once."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from maskcon.methods.step import Output


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


def backward_in_parts(
    network: nn.Module,
    encode: Callable[[Tensor], Output],
    batches: Sequence[Sequence[Tensor]],
    backward: Callable[[Sequence[Output]], Tensor],
    apart: Callable[[], AbstractContextManager] = nullcontext,
) -> Tensor:
    """The loss of a whole batch and its gradients, with the activations of one part in memory.

    Each part is encoded twice: without activations, for the outputs of the whole batch, on
    which the loss and its gradient are those of the undivided batch; then with them, to take
    that gradient further to the weights. Only batch norm can tell the difference, since its
    statistics are those of a part. Reference: Gao et al., Scaling Deep Contrastive Learning
    Batch Size under Memory Limited Setup, 2021.

    Args:
        network: that `encode` calls; its parameters' gradients are added to.
        encode: images to their output.
        batches: the parts of each batch that the loss needs: of queries, and perhaps of others.
        backward: makes the loss of the batches' outputs and calls `backward()` on it.
        apart: the context of all parts but the last, in which processes that share the batch
            keep their gradients to themselves.

    Returns:
        The loss, as `backward` returned it.
    """
    if all(len(parts) == 1 for parts in batches):
        return backward([encode(parts[0]) for parts in batches])
    device = batches[0][0].device
    states, outputs = [], []
    with torch.no_grad():
        for parts in batches:
            encoded = []
            for part in parts:
                states.append(_random_state(device))
                encoded.append(encode(part))
            outputs.append(join(encoded))
    for whole in outputs:
        for value in whole.tensors().values():
            value.requires_grad_()
    loss = backward(outputs)
    with _kept_statistics(network), _kept_random_state(device):
        remembered = iter(states)
        again: list[tuple[Tensor, list[Tensor], dict[str, Tensor]]] = []
        for parts, whole in zip(batches, outputs, strict=True):
            gradients = {
                name: leaf.grad.tensor_split(len(parts))
                for name, leaf in whole.tensors().items()
                if leaf.grad is not None
            }
            for number, part in enumerate(parts):
                state = next(remembered)
                if gradients:
                    of_part = {name: gradient[number] for name, gradient in gradients.items()}
                    again.append((part, state, of_part))
        for number, (part, state, of_part) in enumerate(again):
            with nullcontext() if number == len(again) - 1 else apart():
                _set_random_state(device, state)  # the same units are dropped again
                output = encode(part)
                torch.autograd.backward(
                    [output.tensors()[name] for name in of_part], list(of_part.values())
                )
    return loss


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
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _set_random_state(device: torch.device, states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states[1], device)


@contextmanager
def _kept_random_state(device: torch.device) -> Iterator[None]:
    after = _random_state(device)
    try:
        yield
    finally:
        _set_random_state(device, after)
