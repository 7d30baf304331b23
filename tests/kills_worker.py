"""What a process does in tests/test_kills.py: a command, and die where it is told to."""

import errno
import os
import resource
import signal
from pathlib import Path
from typing import Any

from tests.command_worker import command

NAMES = ("replace", "link", "unlink", "rmdir", "mkdir")  # what gives files names and takes them


def typed(words: list[str], home: Path, last: int = -1, how: str = "killed") -> None:
    """Type a command in a folder, and perhaps let it end before it is through.

    Args:
        words: after "maskcon".
        home: the folder.
        last: number of the call at which it ends; -1 is none.
        how: "killed", before a call of `NAMES`; "full": from a call of os.fsync on, none of
            which succeeds; or "small": no file can have more than `last` bytes.
    """
    room = resource.getrlimit(resource.RLIMIT_FSIZE)
    if how == "small":
        resource.setrlimit(resource.RLIMIT_FSIZE, (last, room[1]))
    calls = 0

    def counted(before: Any, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if 0 <= last < calls:
                if how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return before(*args, **options)

        return call

    for name in {"killed": NAMES, "full": ("fsync",)}.get(how, ()):
        setattr(os, name, counted(getattr(os, name), name))
    try:
        command(words, home, home.parent / f"{home.name}.log")
    finally:  # what measures the coverage of tests writes later
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
