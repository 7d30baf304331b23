"""Where a run computes, and in what precision."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from maskcon.errors import InputError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's malloc.h
WITHOUT_FLOAT64 = ["mps"]  # kinds of devices
PRECISIONS = ("auto", "fp32", "bf16", "fp16")


def pick_device(name: str) -> torch.device:
    """The device of a name; "auto" is cuda where there is one, else cpu.

    "cuda" is the GPU of this process: of several on a machine each has its own. "mps" is that of
    Apple's machines, which "auto" leaves alone: nobody has measured a run there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.partition(":")[0] not in ("cpu", "cuda", "mps"):
        raise InputError(f"device is {name!r}: expected auto, cpu, cuda, cuda:1, ... or mps")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {name!r} cannot be used here: {reason}") from error
    return device


def check_memory(needed: int, what: str, device: torch.device) -> None:
    """See that something does not need more memory than there is at all, before it is asked for.

    Args:
        needed: bytes.
        what: it is, and how large.
        device: on which.

    Raises:
        InputError: it does.
    """
    there = None
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:  # not everywhere
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if there is not None and needed > there:
        raise InputError(
            f"{what} takes {needed / 2**30:,.0f} GiB of memory, and {device} has "
            f"{there / 2**30:,.0f}: give smaller numbers"
        )


class _Undrawn(TorchFunctionMode):
    """Leave tensors without memory as they are where random numbers would be put into them."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """What torch computes; of a function that fills such a tensor at random, the tensor."""
        kwargs = kwargs or {}
        if func in DRAWS:
            filled = args[0] if args else kwargs["tensor"]
            if filled.is_meta:
                return filled
        return func(*args, **kwargs)


DRAWS = (
    *(Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.trunc_normal_),
    *(nn.init.kaiming_normal_, nn.init.kaiming_uniform_),
)


@contextmanager
def without_memory() -> Iterator[None]:
    """Networks that are built here have shapes and no numbers.

    For normal numbers in a tensor without memory torch would import its compiler, which takes
    longer than torch itself.
    """
    with torch.device("meta"), _Undrawn():
        yield


def where_exact(x: Tensor) -> Tensor:
    """The tensor where float64 can be computed: on the processor if its device is Apple's."""
    return x.cpu() if x.device.type in WITHOUT_FLOAT64 else x


def sent(x: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, which need not wait for it.

    Apple's takes float64 as float32; and what is copied to it in the background may be written
    over before it is read.
    """
    if device.type not in WITHOUT_FLOAT64:
        return x.to(device, non_blocking=True)
    return (x.float() if x.dtype == torch.float64 else x).to(device)


def has_bf16_units(device: torch.device) -> bool:
    """Whether bf16 is faster than float32 there, not merely possible."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu" and platform.machine() == "x86_64":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return False


@dataclass(frozen=True)
class Precision:
    """In what numbers the networks compute; losses and normalisation stay in float32."""

    name: str  # "fp32", "bf16" or "fp16"
    device: torch.device
    backend: str = "torch"  # or an engine that makes vectors of pictures in its place

    @classmethod
    def pick(cls, name: str, device: torch.device) -> "Precision":
        """The precision of a name; "auto" is bf16 where the device has units for it."""
        if name not in PRECISIONS:
            raise InputError(f"precision is {name!r}: expected one of {', '.join(PRECISIONS)}")
        if name == "auto":
            name = "bf16" if has_bf16_units(device) else "fp32"
        return cls(name, device)

    def autocast(self) -> AbstractContextManager:
        """The context in which the networks run."""
        dtype = torch.float16 if self.name == "fp16" else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=self.name != "fp32")

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaling, which fp16 needs; it does nothing in the other precisions."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Let a GPU compute the same bits each time, or raise where it cannot; slower.

    On processors the same number of threads gives the same bits anyway.
    """
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic
    fill = memory.fill_uninitialized_memory
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # which cuBLAS asks for
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    memory.fill_uninitialized_memory = False  # nothing reads such memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        memory.fill_uninitialized_memory = fill


def reuse_memory() -> None:
    """Let this process keep the memory that large tensors give back, where it is glibc's.

    By default glibc returns it to the system at once, and the system clears it page by page
    when the next tensor asks: three quarters of the time of making a batch of float images.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        # bytes: smaller blocks come from the heap, and so many at its end are kept
        if libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30):
            libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


def hardware(device: torch.device) -> dict[str, Any]:
    """What the run ran on, for run.json."""
    found: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device.type == "cuda":
        found["cuda"] = torch.version.cuda
    return found


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(
                line.split(":")[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
