"""A ring of earlier keys and their labels."""

import torch
from torch import Tensor, nn

from maskcon.errors import InputError


class MemoryBank(nn.Module):
    """First in, first out; any batch size, any bank size.

    A batch that reaches the end of the ring goes on at its start, and of a batch larger than
    the ring the last rows stay. The rows are buffers, so they move with `.to()` and are in the
    checkpoint. A new bank holds zero rows: fill it with real keys before the first loss.

    Args:
        size: rows M.
        width: width D of a key.
    """

    z: Tensor  # [M, D]
    label: Tensor  # [M]
    position: Tensor  # the row that the next key takes; on the device, where a CUDA graph moves it

    def __init__(self, size: int, width: int):
        super().__init__()
        if size < 1:
            raise InputError(f"a bank of {size} rows: expected at least one")
        self.register_buffer("z", torch.zeros(size, width))
        self.register_buffer("label", torch.full((size,), -1, dtype=torch.long))
        self.register_buffer("position", torch.zeros((), dtype=torch.long), persistent=False)

    def __len__(self) -> int:
        return len(self.label)

    @torch.no_grad()
    def enqueue(self, z: Tensor, label: Tensor) -> None:
        """Put keys [N, D] and their labels [N] in the place of the oldest rows."""
        if z.shape[1] != self.z.shape[1]:
            raise InputError(
                f"bank has rows of {self.z.shape[1]}, keys have {z.shape[1]}: "
                f"set projection={self.z.shape[1]} or start a new run"
            )
        skipped = max(len(z) - len(self), 0)  # rows that this very batch would push out again
        places = torch.arange(skipped, len(z), device=self.position.device) + self.position
        places = places % len(self)
        self.z.index_copy_(0, places, z[skipped:])
        self.label.index_copy_(0, places, label[skipped:])
        self.position.add_(len(z)).remainder_(len(self))

    def get_extra_state(self) -> int:
        """The position of the ring, for the checkpoint."""
        return int(self.position)

    def set_extra_state(self, state: int) -> None:
        """Restore the position of the ring."""
        self.position.fill_(state)
