"""The query encoder, and the key encoder that follows it."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.model.network import Network


class EncoderPair(nn.Module):
    """The query encoder, and the key encoder that follows it as a moving average.

    Parameters follow; buffers do not: the key's batch norms gather statistics of their own,
    and run in training mode, as in MoCo and MaskCon. What is frozen is the same in both.

    Args:
        query: the encoder to train.
        momentum: share of the key's old parameters that stays at each update.
    """

    def __init__(self, query: Network, momentum: float):
        super().__init__()
        self.query = query
        shared: dict[int, Any] = {id(part): part for part in query.fixed}
        self.key = copy.deepcopy(query, shared).requires_grad_(False)
        self.key.without([name for name, kind in query.heads.items() if not kind.key])
        self.momentum = momentum
        own = {n: p for n, p in query.named_parameters() if p.requires_grad}
        names = {n: p for n, p in self.key.named_parameters() if n in own}
        self._followers: list[Tensor] = list(names.values())
        self._leaders: list[Tensor] = [p for n, p in own.items() if n in names]

    @torch.no_grad()
    def update_key(self) -> None:
        """Move every parameter: key = momentum * key + (1 - momentum) * query."""
        torch._foreach_lerp_(self._followers, self._leaders, 1 - self.momentum)
