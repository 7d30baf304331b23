"""A network as an ONNX graph, and the engines that run it in PyTorch's place."""

import io
import logging
import threading
import warnings
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from maskcon.errors import InputError
from maskcon.runtime.device import Precision, has_bf16_units, pick_device

OPSET = 18  # the first that torch's exporter writes without conversion; onnxruntime 1.14 reads it
TORCH = "2.7"  # the exporter of 2.6 does not work with the onnxscript of today
OUTPUT = "embedding"
PACKAGES = {
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}
LARGEST = 2**31 - 1  # bytes of a protocol buffer
MIN_COSINE = 0.9999  # of an engine's vectors with PyTorch's of the same images, in float32
# of bf16, in which PyTorch's own vectors are as far from those in float32: so many times as far
ROUNDING = 2.0
# By default each process of OpenVINO ties its threads to cores, the first first: two processes of
# one thread each share a core while another is idle, and one waits beside whatever is busy there.
UNPINNED = {"ENABLE_CPU_PINNING": False}
Engine = Callable[[Tensor], Tensor]


def need_packages(engine: str, what: str) -> None:
    """Raise `InputError` where packages are missing.

    Args:
        engine: a name in `PACKAGES`, which is also that of the extra.
        what: needs them, in words.
    """
    missing = [name for name in PACKAGES[engine] if not _is_there(name)]
    if missing:
        raise InputError(
            f"{what} needs {missing[0]}, which is not installed: pip install 'maskcon[{engine}]'"
        )
    if TorchVersion(torch.__version__) < TORCH:
        raise InputError(
            f"{what} needs PyTorch {TORCH} or newer, and this is {torch.__version__}: "
            "pip install -U torch torchvision, or do without it"
        )


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # somebody put None in its place
        return False


def model_of(network: nn.Module, example: Tensor, name: str, *, free: bool, what: str) -> Any:
    """A network in evaluation mode as an ONNX model of one input and one output.

    Args:
        network: images to vectors [N, F].
        example: images, float32 [N, 3, S, S].
        name: of the input; the output is `OUTPUT`.
        free: whether N may be any number; else it is that of the example.
        what: the network is called in a message.

    Raises:
        InputError: it cannot be exported.
    """
    told = io.StringIO()  # the exporter is talkative
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    try:
        with warnings.catch_warnings(), _quiet(), redirect_stdout(told), redirect_stderr(told):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[name],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_shapes=shapes,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            model = program.model_proto
    except Exception as error:  # whatever exporters raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        count = " with a free number of images" if free else ""
        raise InputError(f"{what} cannot be exported to ONNX{count} ({reason})") from error
    if model.ByteSize() > LARGEST:
        raise InputError(f"the graph of {what} is larger than the 2 GiB of an ONNX file")
    return model


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


def onnxruntime_of(content: bytes, threads: int) -> Engine:
    """A graph as a function of images; several threads may call it at once.

    Args:
        content: the serialised graph.
        threads: that share the work of one call.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        given = images.contiguous(memory_format=torch.contiguous_format)
        return torch.from_numpy(session.run([OUTPUT], {name: given.numpy()})[0])

    return run


@cache
def _openvino() -> Any:
    """OpenVINO's core, one for the process: requests of threads may outlive an engine."""
    import openvino

    return openvino.Core()


def openvino_of(content: bytes, callers: int, precision: str) -> Engine:
    """A graph as a function of images, each call on one core; `callers` threads may call it."""
    core = _openvino()
    options = {
        "INFERENCE_NUM_THREADS": callers,
        "NUM_STREAMS": callers,
        "INFERENCE_PRECISION_HINT": precision.replace("fp32", "f32"),
        **UNPINNED,
    }
    compiled = core.compile_model(core.read_model(content), "CPU", options)
    own = threading.local()

    def run(images: Tensor) -> Tensor:
        if not hasattr(own, "request"):
            own.request = compiled.create_infer_request()
        given = images.contiguous(memory_format=torch.contiguous_format)
        found = own.request.infer([given.numpy()])[0]
        return torch.from_numpy(found.copy())  # the next call writes over it

    return run


ENGINES: Mapping[str, Callable[[bytes, int, str], Engine]] = {
    "onnx": lambda content, callers, precision: onnxruntime_of(content, 1),
    "openvino": openvino_of,
}
PRECISIONS = {"onnx": ("fp32",), "openvino": ("fp32", "bf16")}  # that an engine computes in


@torch.no_grad()
def engine_of(precision: Precision, network: nn.Module, example: Tensor, callers: int) -> Engine:
    """An engine that computes what a network does, of as many images as the example or fewer.

    Args:
        precision: with the engine's name, a backend in `ENGINES`.
        network: in evaluation mode, on the processor; images to vectors [N, F].
        example: normalised images, float32 [N, 3, S, S], which it is tried on.
        callers: threads that may call it at once, each of which computes alone.

    Raises:
        InputError: the network cannot be exported, or the engine's vectors are others.
    """
    count, backend = len(example), precision.backend
    example = example.contiguous(memory_format=torch.contiguous_format)
    instead = "choose another --backend"
    try:
        model = model_of(network, example, "images", free=False, what="the network")
        run = ENGINES[backend](bytes(model.SerializeToString()), callers, precision.name)
    except InputError as error:
        raise InputError(f"{error}: {instead}") from error
    except Exception as error:  # whatever engines raise
        raise InputError(f"{backend} cannot run the network ({error}): {instead}") from error

    def padded(images: Tensor) -> Tensor:
        rest = count - len(images)
        if not rest:
            return run(images)
        return run(torch.cat([images, images[-1:].expand(rest, -1, -1, -1)]))[: len(images)]

    expected = network(example)
    least, found = MIN_COSINE, _cosine(padded(example), expected)
    if precision.name != "fp32":
        with precision.autocast():
            rounded = network(example)
        least = min(least, 1 - ROUNDING * (1 - _cosine(rounded, expected)))
    if not found > least:  # written so that NaN is refused
        raise InputError(
            f"the vectors of {backend} in {precision.name} are not PyTorch's: the smallest cosine "
            f"of {count} images is {found:.6f} ({least:.6f} needed): {instead}"
        )
    return padded


def _cosine(found: Tensor, expected: Tensor) -> float:
    """The smallest of vectors [N, F] with others, row by row."""
    return nn.functional.cosine_similarity(found.double(), expected.double(), dim=1).min().item()


BACKENDS = ("torch", *ENGINES)


def computing(
    own: str,
    name: str | None = None,
    device: str | None = None,
    backend: str | None = None,
    *,
    own_backend: str = "torch",
) -> Precision:
    """What vectors of pictures are made with, as a person asks for it.

    Args:
        own: the precision of a run.
        name: of the precision; by default the run's own.
        device: as `pick_device` takes it; auto by default.
        backend: in `BACKENDS`; by default the run's own. Those other than torch compute on
            processors, and in `PRECISIONS`: float32, where theirs is not the one that is meant.
        own_backend: of a run, whose vectors are known so; torch stands in where it cannot be had.

    Raises:
        InputError: one of them is none, or cannot be had together with another, or a package is
            missing.
    """
    if backend is None:
        backend = own_backend if _can(own_backend, name, device) else "torch"
    if backend == "torch":
        return Precision.pick(name or own, pick_device(device or "auto"))
    if backend not in BACKENDS:
        raise InputError(f"backend is {backend!r}: expected {', '.join(BACKENDS)}")
    if not _computes(backend, name, device):
        raise InputError(
            f"--backend {backend} computes in {' or '.join(_own(backend))} on the processor here, "
            f"and device is {device or 'auto'} and precision {name or 'auto'}: leave those out, or "
            "--backend"
        )
    need_packages(backend, f"--backend {backend}")
    processor = pick_device("cpu")
    meant = Precision.pick(name or own, processor).name
    return Precision(meant if meant in _own(backend) else "fp32", processor, backend)


def _own(backend: str) -> tuple[str, ...]:
    """Precisions of an engine on this processor: bf16 where it has units for it."""
    if has_bf16_units(pick_device("cpu")):
        return PRECISIONS[backend]
    return tuple(name for name in PRECISIONS[backend] if name != "bf16")


def _computes(backend: str, name: str | None, device: str | None) -> bool:
    """Whether an engine computes in a precision and on a device, as they are asked for."""
    return device in (None, "auto", "cpu") and name in (None, "auto", *_own(backend))


def _can(backend: str, name: str | None, device: str | None) -> bool:
    """Whether an engine is here, and nothing that is asked for speaks for torch."""
    if backend not in ENGINES or not _computes(backend, name, device):
        return False
    there = all(map(_is_there, PACKAGES[backend])) and TorchVersion(torch.__version__) >= TORCH
    return there and pick_device(device or "auto").type == "cpu"
