"""What a process does in tests/test_kills.py: a command, and die where it is told to."""

import errno
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401 - what commands import late is imported once, for all
import sklearn.decomposition  # noqa: F401
import torch

import maskcon.commands._compare
import maskcon.commands._discover
import maskcon.commands._eval
import maskcon.commands._export
import maskcon.commands._report
import maskcon.commands._search  # noqa: F401
from maskcon import cli

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
    torch.set_num_threads(1)
    os.chdir(home)
    with open(home.parent / f"{home.name}.log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
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
    sys.argv = ["maskcon", *words]
    try:
        cli.main()
    finally:  # the command is through; what measures the coverage of tests writes and warns later
        resource.setrlimit(resource.RLIMIT_FSIZE, room)
        sys.stderr.flush()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
