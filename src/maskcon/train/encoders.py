"""The networks of a run as its step uses them: on views, in the run's precision, in parts."""

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from maskcon.errors import InputError
from maskcon.methods import Output
from maskcon.model.network import Network
from maskcon.model.pair import EncoderPair
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.runtime.distributed import Ranks
from maskcon.train.gradient_cache import GradientCache, join, parts_of


class Encoders:
    """The query encoder, with gradient, and the key encoder, without.

    Args:
        network: the query encoder, on its device.
        pair: query and key encoder; None for methods without a key encoder.
        preprocessing: of the views.
        precision: that the networks compute in.
        micro_batch: images whose activations are in memory at a time; 0 is all.

    Attributes:
        compile_seconds: that `torch.compile` took; 0.0 if it was not asked for.
    """

    def __init__(
        self,
        network: Network,
        pair: EncoderPair | None,
        preprocessing: Preprocessing,
        precision: Precision,
        micro_batch: int,
    ):
        self._network, self._pair = network, pair
        self._preprocessing, self._precision = preprocessing, precision
        self._micro_batch = micro_batch
        # The networks, or what they are compiled to.
        self._query: nn.Module = network
        self._key: Callable[[Tensor], Output] | None = None if pair is None else pair.key
        self._cache = GradientCache(network, self._encode_query, micro_batch)
        self.compile_seconds = 0.0

    def share(self, ranks: Ranks) -> None:
        """Let gradients be the mean of all processes'."""
        self._query = ranks.data_parallel(self._query)
        apart = nullcontext
        if isinstance(self._query, DistributedDataParallel):
            apart = self._query.no_sync  # type: ignore[assignment]
        self._cache = GradientCache(self._network, self._encode_query, self._micro_batch, apart)

    def forward(self, batches: Sequence[Tensor]) -> list[Output]:
        """Outputs of the query encoder, with gradient; of views uint8, or floats as it takes."""
        return self._cache.forward(batches)

    def backward(self) -> None:
        """Take gradients further where a batch was encoded in parts; else there is nothing to."""
        self._cache.backward()

    @torch.no_grad()
    def key(self, views: Tensor) -> Output:
        """Outputs of the key encoder."""
        assert self._key is not None
        return join([self._encode(self._key, p) for p in parts_of(views, self._micro_batch)])

    @torch.no_grad()
    def graph(self, views: Tensor) -> Tensor:
        """What the query encoder's graph head says, without gradient [N, D]."""
        z = join([self._encode_query(part) for part in parts_of(views, self._micro_batch)]).graph
        assert z is not None
        return z

    def _encode_query(self, views: Tensor) -> Output:
        return self._encode(self._query, views)

    def _encode(self, network: Callable[[Tensor], Output], views: Tensor) -> Output:
        if views.dtype == torch.uint8:
            views = self._preprocessing.normalise(views)
        with self._precision.autocast():
            return network(views)

    def compile(self, images: Tensor) -> None:
        """Compile the networks for training.

        Args:
            images: such as those of this process's part of a batch.

        Raises:
            InputError: there is no compiler.
        """
        start = time.perf_counter()
        before = {name: value.clone() for name, value in self._network.state_dict().items()}
        part = parts_of(images, self._micro_batch)[0]
        try:
            self._query = cast(nn.Module, torch.compile(self._network, dynamic=False))
            heads = self._encode_query(part).tensors().values()
            torch.stack([value.float().sum() for value in heads]).sum().backward()
            if self._pair is not None:
                self._key = torch.compile(self._pair.key, dynamic=False)
                self.key(part)
        except Exception as error:  # whatever compilers raise
            reason = str(error).strip().splitlines()[0]
            raise InputError(
                f"torch.compile does not work here ({reason}): on a processor it needs a C++ "
                "compiler such as g++. Install one, or leave --compile out"
            ) from error
        self._network.load_state_dict(before)  # batch norms have seen the images
        if self._pair is not None:
            self._pair.key.load_state_dict(before, strict=False)
        self._network.zero_grad()
        self.compile_seconds = time.perf_counter() - start
