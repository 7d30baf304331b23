"""A function of tensors, recorded on a GPU once and then replayed in one go."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from maskcon.runtime.progress import Progress

WARM_UP = 3  # calls that run as usual first, in which libraries choose what to record


class Captured:
    """A CUDA graph of a function, such as a training step.

    A step of a small network is some thousand operations, each of which takes the processor
    longer to start than the GPU to finish. A graph starts all of them at once.

    The function must do the same operations each time, take nothing from the outside that
    changes but the content of tensors, and not wait for the device. Where it cannot be
    recorded, it goes on running as usual, and `notify` says why.

    Args:
        function: of tensors, and tuples of them, of always the same shapes.
        device: of the tensors.
        notify: told if it cannot be recorded.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device, notify: Progress):
        self._function, self._device, self._notify = function, device, notify
        self._stream = torch.cuda.Stream(device)
        self._calls = 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Any, ...] = ()
        self._output: Any = None

    def __call__(self, *inputs: Any) -> Any:
        """The function's result; its memory is used again by the next call."""
        if self._graph is None and self._calls <= WARM_UP:
            self._calls += 1
            if self._calls <= WARM_UP:
                return self._beside(*inputs)
            self._record(*inputs)
        if self._graph is None:
            return self._function(*inputs)
        for kept, new in zip(tree_leaves(self._inputs), tree_leaves(inputs), strict=True):
            if isinstance(kept, Tensor):
                kept.copy_(new, non_blocking=True)
        self._graph.replay()
        return self._output

    def _beside(self, *inputs: Any) -> Any:
        """On another stream, as recording will be, while the usual one waits."""
        usual = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(usual)
        with torch.cuda.stream(self._stream):
            output = self._function(*inputs)
        usual.wait_stream(self._stream)
        return output

    def _record(self, *inputs: Any) -> None:
        kept = tree_map_only(Tensor, Tensor.clone, inputs)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                output = self._function(*kept)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            self._notify.note(f"no CUDA graph of the step ({reason}): it runs without, slower")
            return
        self._graph, self._inputs, self._output = graph, kept, output
