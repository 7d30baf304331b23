"""One ONNX graph from levels 0..1 to vectors of unit length, compared and timed."""

import io
import json
import logging
import time
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.export import Request
from maskcon.export.agreement import BATCH, Agreement, vectors_of
from maskcon.export.describe import describe
from maskcon.runtime import files
from maskcon.runtime.progress import Progress

OPSET = 18  # the first that torch's exporter writes without conversion; onnxruntime 1.14 reads it
TORCH = "2.7"  # the exporter of 2.6 does not work with the onnxscript of today
INPUT, OUTPUT = "images", "embedding"
SECONDS = 0.25  # of one turn at measuring a speed
TURNS = 3
LARGEST = 2**31 - 1  # bytes of a protocol buffer


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
    _need_packages()
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


def _need_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"an ONNX file needs {error.name}, which is not installed: pip install 'maskcon[onnx]'"
        ) from error
    if TorchVersion(torch.__version__) < TORCH:
        raise InputError(
            f"an ONNX file needs PyTorch {TORCH} or newer, and this is {torch.__version__}: "
            "pip install -U torch torchvision, or choose another --to"
        )


def graph(encoder: Encoder) -> bytes:
    """The serialised graph of an encoder, its metadata included.

    Raises:
        InputError: the packages are missing, or the network cannot be exported.
    """
    _need_packages()
    import onnx

    size = encoder.preprocessing.image_size
    example = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    told = io.StringIO()  # the exporter is talkative
    try:
        with warnings.catch_warnings(), _quiet(), redirect_stdout(told), redirect_stderr(told):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                FromLevels(encoder).eval(),
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            model = program.model_proto
    except Exception as error:  # whatever exporters raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        name = encoder.network.architecture.backbone
        raise InputError(
            f"{name} cannot be exported to ONNX with a free number of images ({reason}): "
            "choose another --to"
        ) from error
    model.producer_name = "maskcon"
    facts = {**describe(encoder), "input": f"{INPUT}: float32 [batch, 3, {size}, {size}], 0..1"}
    facts["output"] = f"{OUTPUT}: float32 [batch, {encoder.width}], unit length"
    for name, value in facts.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.append(onnx.StringStringEntryProto(key=name, value=text))
    if model.ByteSize() > LARGEST:
        raise InputError("the graph is larger than the 2 GiB of an ONNX file: choose another --to")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


class _quiet:  # noqa: N801 - used as a word
    """Nothing below an error from the exporter's loggers."""

    names = ("torch.onnx", "onnxscript", "onnx_ir")

    def __enter__(self) -> None:
        self.before = {name: logging.getLogger(name).level for name in self.names}
        for name in self.names:
            logging.getLogger(name).setLevel(logging.ERROR)

    def __exit__(self, *error: object) -> None:
        for name, level in self.before.items():
            logging.getLogger(name).setLevel(level)


def session(content: bytes) -> Callable[[Tensor], Tensor]:
    """A graph as a function, with as many threads as torch has."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(levels: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: levels.numpy()})[0])

    return run


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
