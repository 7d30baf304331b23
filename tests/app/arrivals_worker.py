"""A process of the tests that takes in pictures which came later, and is killed on the way."""

import os
import signal
from pathlib import Path

STAGES = ("index", "trees", "moves", "map")  # before which it is killed


def arrive(folder: str, stage: str) -> None:
    """Open a project, and be killed before something of it is written."""
    from maskcon.app import project, workplace
    from maskcon.app.live import Live
    from maskcon.commands import following
    from maskcon.runtime.progress import Silent

    def die(*given: object, **named: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    facts = project.read(Path(folder))
    here = project.Generation(Path(folder), facts.generation)
    if stage == "index":
        following.index_file.write = die
    now = following.look(here, facts, Silent())
    following.follow(here, facts, now, Silent(), read_only=False)
    if stage == "trees":
        workplace.files.write = die
    elif stage == "moves":
        Live._append = die
    elif stage == "map":
        workplace.map_of = die
    workplace.Workplace(Path(folder), facts, Silent())
    die()  # a batch without moves has none to be killed before
