"""A command of maskcon in a process of its own, whose lines are told as they come."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from maskcon.errors import InputError

LINES = 20  # of the last ones, that a message of what failed is looked for in
MARK = "error: "  # what the message of a command that failed begins with


def maskcon(
    *words: str | Path,
    say: Callable[[str], None] = lambda line: None,
    begun: Callable[[subprocess.Popen], None] = lambda process: None,
) -> None:
    """Run a command to its end.

    Args:
        words: that follow `maskcon` where the command is typed.
        say: told each line that it prints.
        begun: given the process, so that it can be ended.

    Raises:
        InputError: it failed; the message is the command's.
    """
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "maskcon", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    begun(process)
    last: list[str] = []
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            last = [*last[1 - LINES :], line.strip()]
            say(line.strip())
    if process.wait() != 0:
        told = next((line for line in reversed(last) if line.startswith(MARK)), "")
        reason = told.removeprefix(MARK) or "; ".join(last[-3:]) or f"it ended {process.returncode}"
        raise InputError(f"maskcon {words[0]}: {reason}")
