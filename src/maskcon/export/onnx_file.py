"""One ONNX graph from levels 0..1 to vectors of unit length, compared and timed."""

import json
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.export import Request
from maskcon.export.agreement import BATCH, Agreement, vectors_of
from maskcon.export.describe import describe
from maskcon.model.graph import OPSET, OUTPUT, model_of, need_packages, onnxruntime_of
from maskcon.runtime import files
from maskcon.runtime.progress import Progress

INPUT = "images"
SECONDS = 0.25  # of one turn at measuring a speed
TURNS = 3


class FromLevels(nn.Module):
    """Levels 0..1, float32 [N, 3, S, S] -> vectors [N, F] of unit length.

    The normalisation is part of the network, so that nobody can forget it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.backbone = encoder.network.backbone
        for name in ("mean", "std"):
            values = torch.tensor(getattr(encoder.preprocessing, name)).view(1, 3, 1, 1)
            self.register_buffer(name, values)

    def forward(self, images: Tensor) -> Tensor:
        """Vectors of images."""
        feature = self.backbone((images - self.mean) / self.std)
        return nn.functional.normalize(feature, dim=1)


def write(request: Request) -> dict[str, Any]:
    """Export, compare with the encoder, and only then write the file.

    Args:
        request: the encoder, and pictures to compare on.

    Returns:
        "agreement", "opset", "bytes", and "images_per_second" of "onnxruntime" and "torch" at
        "batch" with "threads".

    Raises:
        InputError: the packages are missing, the network cannot be exported, or the graph does
            not agree with the encoder.
    """
    need_packages("onnx", "an ONNX file")
    encoder, images, progress = request.encoder, request.images, request.progress
    network = FromLevels(encoder).eval()
    progress.update("exporting the graph")
    content = graph(encoder)
    progress.update("comparing onnxruntime with PyTorch")
    run = session(content)
    levels = images.float() / 255
    # all at once, and one alone: the number of images is free
    found = torch.cat([run(levels[:1]), run(levels[1:])]) if len(levels) > 1 else run(levels)
    agreement = Agreement.between(vectors_of(encoder, images), found).check("the ONNX graph")
    batch = levels.repeat(-(-BATCH // len(levels)), 1, 1, 1)[:BATCH]
    speeds = _speeds({"onnxruntime": run, "torch": _in_its_layout(network)}, batch, progress)
    files.write(request.out, content)
    return {
        "agreement": agreement,
        "opset": OPSET,
        "bytes": len(content),
        "images_per_second": speeds,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
    }


def graph(encoder: Encoder) -> bytes:
    """The serialised graph of an encoder, its metadata included.

    Raises:
        InputError: the packages are missing, or the network cannot be exported.
    """
    need_packages("onnx", "an ONNX file")
    import onnx

    size = encoder.preprocessing.image_size
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    name = encoder.network.architecture.backbone
    try:
        model = model_of(FromLevels(encoder).eval(), example, INPUT, free=True, what=name)
    except InputError as error:
        raise InputError(f"{error}: choose another --to") from error
    model.producer_name = "maskcon"
    facts = {**describe(encoder), "input": f"{INPUT}: float32 [batch, 3, {size}, {size}], 0..1"}
    facts["output"] = f"{OUTPUT}: float32 [batch, {encoder.width}], unit length"
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.append(onnx.StringStringEntryProto(key=name, value=text))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def session(content: bytes) -> Callable[[Tensor], Tensor]:
    """A graph as a function, with as many threads as torch has."""
    return onnxruntime_of(content, torch.get_num_threads())


def _in_its_layout(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """The network on channels last, where PyTorch's convolutions are fastest."""
    return lambda levels: network(levels.contiguous(memory_format=torch.channels_last))


@torch.inference_mode()
def _speeds(
    sides: dict[str, Callable[[Tensor], Tensor]], levels: Tensor, progress: Progress
) -> dict[str, float]:
    """Images per second of each side, which take turns; medians."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(TURNS + 1):  # the first is to warm up
        for name, run in sides.items():
            progress.update(f"measuring the speed of {name}")
            calls, start = 0, time.perf_counter()
            while calls == 0 or (turn and time.perf_counter() - start < SECONDS):
                run(levels)
                calls += 1
            if turn:
                measured[name].append(calls * len(levels) / (time.perf_counter() - start))
    return {name: round(median(values), 1) for name, values in measured.items()}
