"""Processes of the tests of projects, which are killed: one edits, one holds a project."""

import sys
import time
from pathlib import Path

from maskcon.app.edits import Edits
from maskcon.app.live import Live
from maskcon.app.project import held


def edit_for_ever(folder: str) -> None:
    """Make edits, and say each one's id as soon as it is acknowledged."""
    from tests.app.test_state import GROUND

    live = Live(GROUND, Edits(Path(folder) / "edits.sqlite"))
    number = 0
    while True:
        number += 1
        if number % 5 == 4:
            edit = live.undo()
        else:
            edit = live.do({"kind": "move", "pictures": [number % len(GROUND)], "group": None})
        sys.stdout.write(f"{edit.id} {edit.kind} {edit.content.get('pictures')}\n")
        sys.stdout.flush()


def hold(folder: str) -> None:
    """Have a project until killed."""
    with held(Path(folder)):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        time.sleep(600)


if __name__ == "__main__":
    {"edit": edit_for_ever, "hold": hold}[sys.argv[1]](sys.argv[2])
