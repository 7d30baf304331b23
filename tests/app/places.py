"""Projects for tests, as `maskcon explore` leaves them, without the minutes that learning takes."""

from pathlib import Path

from starlette.testclient import TestClient

from maskcon import commands
from maskcon.app import project
from maskcon.app.guard import Access
from maskcon.app.workplace import Workplace
from maskcon.commands import _explore, index
from maskcon.data.sets import glyphs
from maskcon.runtime.progress import Silent
from tests.conftest import picture_tree, untrained_run

TOKEN = "a token of the tests"


def a_project(folder: Path, *, train: int = 96, learned: bool = False) -> Path:
    """A folder of glyphs in coarse classes; the project beside it, with an untrained encoder.

    Args:
        folder: for both.
        train: how many pictures.
        learned: the encoder was trained, for one epoch.
    """
    photos = folder / "photos"
    picture_tree(photos, glyphs.make(train=train, test=4).train, side=24)
    made = photos.with_name("photos.maskcon")
    facts = project.begin(made, project.Facts("photos", str(photos)))
    here = project.Generation(made, facts.generation)
    here.home.mkdir()
    if learned:
        network = {"backbone": "resnet10w16", "image_size": 16, "projection": 8}
        commands.train(out=here.run, data=str(photos), epochs=1, **network)
    else:
        untrained_run(here.run, seed=0)
    index(here.run, photos, out=here.index)
    return made


def work_of(folder: Path, *, read_only: bool = False) -> Workplace:
    return Workplace(folder, project.read(folder), Silent(), read_only=read_only)


def client_of(work: Workplace, *, read_only: bool = False) -> TestClient:
    """A client that shows the token; used as a context it starts and ends the server's threads."""
    access = Access(token=TOKEN, read_only=read_only)
    app = _explore.made(work, access, Silent())
    headers = {"Authorization": f"Bearer {TOKEN}"}
    return TestClient(app, base_url="http://127.0.0.1", headers=headers)
