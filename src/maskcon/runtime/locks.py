"""One process at a time: a lock that ends with the process that holds it, however that ends."""

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO

from maskcon.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows, where two processes are not kept apart
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file; it is removed at the end.

    The kernel holds the lock, not the file's being there: what a killed process leaves is no
    obstacle. A file system without locks is used without.

    Args:
        path: of the lock file.
        what: that one process at a time may use, such as "the run folder x".

    Raises:
        InputError: another process holds it; the message says which.
    """
    while True:
        file = open(path, "a+")  # noqa: SIM115 - open while the lock is held
        if _acquire(file, what) and not _is_there(file, path):
            file.close()  # removed by its holder between opening and locking it
            continue
        break
    try:
        file.truncate(0)
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        file.write(f"process {os.getpid()} on {socket.gethostname()}, since {now}\n")
        file.flush()
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _acquire(file: IO[str], what: str) -> bool:
    """Whether there is a lock now; False where the file system has none."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        file.seek(0)
        holder = file.read(200).strip() or "another process"
        file.close()
        raise InputError(
            f"{what} is in use by {holder}: wait for it to end, or stop it first"
        ) from error
    return True


def _is_there(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
