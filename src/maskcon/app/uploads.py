"""A picture that somebody sends, decoded in a process of its own that has little to break.

The process gets bytes and gives back pixels, nothing else: no object of Python comes out of it. It
may write no file and start no process, its memory is bounded, and one that takes too long is ended.
"""

import asyncio
import contextlib
import multiprocessing
import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from maskcon.app.operations import Refused
from maskcon.errors import InputError

BYTES = 24 * 2**20  # of an upload
PIXELS = 50_000_000  # that are decoded
MEMORY = 2**30  # bytes that decoding may take beside what the process begins with
SECONDS = 20.0  # that decoding may take
STARTING = 120.0  # that the process may take to begin
WAITING = 16  # uploads that may arrive or wait at once; more are told to come again
DONE, UNREADABLE = b"\0", b"\1"  # what an answer begins with


def prepare() -> None:
    """Have the process that decoders are forked from know what decodes; call it before any is."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(
        [__name__, "maskcon.data.pictures", "maskcon.vectors.encode"]
    )


class Uploads:
    """The process that decodes, and those who wait for it.

    Args:
        size: side of the squares that it gives, as the encoder takes them.
    """

    def __init__(self, size: int):
        self.size, self._places = size, WAITING
        self._thread = ThreadPoolExecutor(1, "uploads", initializer=_let_be)
        self._context = multiprocessing.get_context("forkserver")
        self._process: Any = None
        self._pipe: Connection | None = None

    async def square(self, content: bytes) -> np.ndarray:
        """An image file as the encoder takes it: uint8 [size, size, 3].

        Raises:
            Refused: it is empty, too large, no picture, or takes too long.
        """
        if not content:
            raise Refused(422, "the picture is empty: expected the content of an image file")
        if len(content) > BYTES:
            raise Refused(
                413,
                f"the picture has {len(content):,} bytes: expected {BYTES:,} at most; make it "
                "smaller",
            )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._decoded, content)

    @contextmanager
    def place(self) -> Iterator[None]:
        """One of the places for an upload, from before its content arrives.

        Raises:
            Refused: none is free.
        """
        if self._places <= 0:
            raise Refused(503, f"{WAITING} pictures are being looked at: send this one again")
        self._places -= 1
        try:
            yield
        finally:
            self._places += 1

    def start(self) -> None:
        """Have the process ready before the first picture comes."""
        self._thread.submit(self._ready)

    def turn_to(self, size: int) -> None:
        """Give squares of another size from now on."""
        self._thread.submit(self._resized, size)

    def close(self) -> None:
        """End the process."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._end()

    def _decoded(self, content: bytes) -> np.ndarray:
        try:
            pipe = self._ready()
            pipe.send_bytes(content)
            if not pipe.poll(SECONDS):
                self._end()
                raise Refused(
                    422,
                    f"the picture was not decoded in {SECONDS:.0f} seconds: save it anew, as JPEG "
                    "or PNG",
                )
            answer = pipe.recv_bytes(max(2**16, self.size**2 * 3 + 1))
            if answer[:1] == DONE:
                pixels = np.frombuffer(answer, np.uint8, offset=1)
                return pixels.reshape(self.size, self.size, 3)
        except Refused:
            raise
        except (OSError, EOFError) as error:
            self._end()
            raise Refused(
                422,
                "the picture could not be decoded within the memory and time that one gets: save "
                "it anew, smaller, as JPEG or PNG",
            ) from error
        except BaseException:  # who knows what the next answer would be of
            self._end()
            raise
        raise Refused(422, answer[1:].decode("utf-8", "replace"))

    def _resized(self, size: int) -> None:
        if size != self.size:
            self._end()
            self.size = size
            self._ready()

    def _ready(self) -> Connection:
        """The pipe to a process that lives."""
        if self._pipe is None or not self._process.is_alive():
            self._end()
            ours, theirs = self._context.Pipe()
            process = self._context.Process(
                target=_work, args=(theirs, self.size), daemon=True, name="uploads"
            )
            with theirs:
                process.start()
            self._process, self._pipe = process, ours
            try:
                if not ours.poll(STARTING) or ours.recv_bytes(1) != DONE:
                    raise EOFError
            except BaseException:  # else what it says too late were the answer to an upload
                self._end()
                raise
        return self._pipe

    def _end(self) -> None:
        if self._pipe is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._pipe = None


def _let_be() -> None:
    """Keep Ctrl-C from the processes that this thread begins, since the server ends them."""
    if hasattr(signal, "pthread_sigmask"):
        resource_tracker.ensure_running()  # which lets it through again once it has begun
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _work(pipe: Connection, size: int) -> None:
    """The process: bytes in, pixels out, until nobody asks any more."""
    confined()
    with contextlib.suppress(EOFError, BrokenPipeError):
        pipe.send_bytes(DONE)
        while True:
            pipe.send_bytes(answered(pipe.recv_bytes(), size))


def answered(content: bytes, size: int) -> bytes:
    """What the process answers: `DONE` and the pixels, or `UNREADABLE` and why."""
    from maskcon.data.image_file import decode
    from maskcon.data.pictures import Arrays
    from maskcon.vectors.encode import as_square

    try:
        picture = decode(content, "the picture", max_pixels=PIXELS)
        return DONE + as_square(Arrays([picture]), 0, size).tobytes()
    except InputError as error:  # its advice is for whom has the command line
        return UNREADABLE + re.sub(r", or allow it with \S+ \d+", "", str(error)).encode()[:2000]
    except MemoryError:
        return UNREADABLE + b"the picture takes too much memory: make it smaller"


def confined() -> None:
    """Take from this process what decoding does not need."""
    import resource

    from maskcon.data.image_file import suffixes

    suffixes()  # imports what decodes
    with contextlib.suppress(OSError, ValueError, StopIteration):  # where there is no /proc
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        used = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY, used + MEMORY))
    for limit in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NPROC):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(limit, (0, 0))
