"""Types commands in processes that need not import everything anew."""

import os
import signal
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from maskcon import cli
from maskcon.report import plots

DRAWINGS = {name: getattr(plots, name) for name in ("curves", "tsne_map", "neighbours")}


def blank(*given: Any) -> Figure:
    """In place of a drawing, which takes two thirds of a short run's time."""
    return Figure((1, 1))


def command(
    words: list[str],
    home: Path,
    out: Path,
    err: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Type a command.

    Args:
        words: after "maskcon".
        home: the folder in which it is typed.
        out: a file that takes what it says.
        err: another one for its errors; None is the same.
        environment: variables that it finds besides.
    """
    os.environ.update(environment or {})
    torch.set_num_threads(1)
    os.chdir(home)
    for number, path in ((1, out), (2, err or out)):
        with open(path, "a") as file:
            os.dup2(file.fileno(), number)
    # as a terminal has them: what runs tests may have them ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name in DRAWINGS:
        setattr(plots, name, blank)
    sys.argv = ["maskcon", *words]
    try:
        cli.main()
    except Exception:
        traceback.print_exc()
        raise
    finally:  # the command is through; what measures the coverage of tests warns later
        sys.stderr.flush()
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
