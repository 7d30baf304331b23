"""What a step keeps in memory of its images, before that is asked for."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.config import Config
from maskcon.model.network import Network
from maskcon.runtime.device import Precision, check_memory, pick_device
from maskcon.runtime.distributed import Ranks

MANY = 2**22  # pixels of a batch from which on its activations may be more than there is memory
SURE = 0.75  # of the estimate, which is 0.6 to 1.3 of what a step keeps: what fits is not refused


def check_activations(network: Network, config: Config, ranks: Ranks) -> None:
    """See that a batch's activations are not more than there is memory.

    Small batches of small images are not looked at, nor networks of which a part does not learn.

    Args:
        network: that trains.
        config: of the run.
        ranks: who share a batch.

    Raises:
        InputError: they are.
    """
    images = config.micro_batch or config.batch_size // ranks.size
    if not network.takes_pictures or network.fixed or images * config.image_size**2 < MANY:
        return
    device = pick_device(config.device)
    half = Precision.pick(config.precision, device).name != "fp32"
    needed = int(SURE * images * activations(network, config.image_size) / (2 if half else 1))
    what = f"a step of {images} images of {config.image_size} px (--image-size, --batch-size; "
    check_memory(needed, f"{what}--micro-batch takes fewer at a time), at the least,", device)


def activations(network: nn.Module, size: int) -> int:
    """Bytes of what the layers of a network put out of one image, in float32; nothing is computed.

    A step keeps about as much of each image: what is written over its own input counts once, and
    what attention keeps does not.

    Args:
        network: images [N, 3, size, size] to anything.
        size: side of the image.

    Returns:
        0 of a network that asks for the numbers themselves, of which there are none.
    """
    put_out: dict[int, Tensor] = {}

    def note(layer: nn.Module, given: Any, out: Any) -> None:
        if isinstance(out, Tensor):
            put_out[out.untyped_storage()._cdata] = out

    there = copy.deepcopy(network).to("meta").eval()
    for layer in there.modules():
        if not [*layer.children()]:
            layer.register_forward_hook(note)
    try:
        with torch.no_grad():
            there(torch.empty(1, 3, size, size, device="meta"))
    except Exception:  # whatever a network of another library raises
        return 0
    return sum(out.untyped_storage().nbytes() for out in put_out.values())
