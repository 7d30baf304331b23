"""The documentation as a site, and the messages that it explains."""

import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from maskcon.cli import cli
from maskcon.data.sets import glyphs
from maskcon.errors import InputError, TrainingError
from tests.conftest import untrained_run, write_tree

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SMALL = ("--backbone", "resnet10w16", "--image-size", "16", "--epochs", "1", "--warmup-epochs", "0")
# What a test of another file causes: with a signal, and with a full disk.
ELSEWHERE = {
    "stopped by …; a checkpoint is written": "cli/test_cli.py",
    "… could not be written": "cli/test_cli.py",
    "… is in use by process …": "train/test_crash.py",
    "… the encoder has collapsed": "train/test_watch.py",
    "… has jumped from …": "train/test_watch.py",
    "gradients overflow fp16 again and again": "train/test_watch.py",
}
TRAIN = "train --out new"
CAUSES = {
    "… and no path that exists": f"{TRAIN} --data phtos",
    "… holds no data set": f"{TRAIN} --data empty",
    "… has images on two levels": f"{TRAIN} --data levels",
    "… has columns …: expected one for the …": f"{TRAIN} --data columns.csv",
    "… rows of … have no fine label": f"{TRAIN} --data gaps.csv",
    "… pictures cannot be read": f"{TRAIN} --data broken",
    "… train images of … have one coarse label": f"{TRAIN} --data one",
    "… too few to leave some out to test with": f"{TRAIN} --data few.csv",
    "cifar100 is not in …": f"{TRAIN} --data cifar100 --data-dir empty",
    "… exists: give another --out, --resume to go on, or --overwrite": "train --out run",
    "… is read, and lies in …: give another --out": "train --out run --overwrite --data run/mine",
    "… train images, fewer than a batch of …": f"{TRAIN} --data photos --batch-size 500",
    "method … does not take …": f"{TRAIN} --method supcon --tau 0.1",
    "… has no effect: …": f"{TRAIN} --method supce --ema 0.1",
    "there is no backbone …": f"{TRAIN} --data photos --backbone resnet19",
    "the weights of … are not on this machine": f"{TRAIN} --data photos --init imagenet",
    "--freeze keeps what the backbone already knows": f"{TRAIN} --data photos --recipe frozen",
    "device 'cuda' cannot be used here": f"{TRAIN} --data photos --device cuda",
    "the loss is nan at step …": f"{TRAIN} --data photos --lr 1e9 {' '.join(SMALL)}",
    "the run in … cannot go on with other options": "train --out run --resume --epochs 9",
    "… is no run folder: it has no run.json": "eval empty",
    "there is no protocol …": "eval run --protocol knnn",
    "the data have no fine labels": "eval run --data photos/test/digits --protocol linear",
    "… was made with the encoder …": "search shop.index photos/test --run other",
    "… which needs umap-learn": "report run --map umap",
    "…groups.csv exists: give another --out, or --overwrite": "discover run photos -o groups",
}


class Site(HTMLParser):
    """Whatever a built page would load from somewhere."""

    def __init__(self, html: str):
        super().__init__()
        self.loaded: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        wanted = {"script": "src", "img": "src", "link": "href"}.get(tag)
        self.loaded += [value for name, value in attrs if name == wanted and value]


def test_the_site_builds_and_loads_nothing_from_elsewhere(tmp_path):
    """Strictly: a link or an anchor that leads nowhere is an error, and a page that no menu has."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = sorted((tmp_path / "site").glob("*.html"))
    assert {page.stem.lower() for page in (ROOT / "docs").glob("*.md")} <= {p.stem for p in pages}
    for page in pages:
        assert [url for url in Site(page.read_text()).loaded if "//" in url] == []
    assert 'id="maskcon.methods.family.maskcon"' in (tmp_path / "site" / "api.html").read_text()
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:|//)", sheet.read_text())


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """What somebody has who does each of these things wrong."""
    here = tmp_path_factory.mktemp("world")
    write_tree(here / "photos", glyphs.make(train=120, test=60))
    some = sorted((here / "photos" / "train").rglob("*.png"))
    for name in ("levels", "broken"):
        shutil.copytree(here / "photos", here / name)
    shutil.copy(some[0], here / "levels" / "train" / some[0].parent.parent.name / "stray.png")
    next((here / "broken").rglob("*.png")).write_text("no picture")
    shutil.copytree(some[0].parent, here / "one" / "cats")
    (here / "empty").mkdir()
    (here / "groups").mkdir()
    (here / "groups" / "groups.csv").touch()
    (here / "columns.csv").write_text("photo,category\nx.png,a\n")
    rows = [f"{path},{path.parent.parent.name},{path.parent.name}" for path in some[:20]]
    (here / "few.csv").write_text("\n".join(["image,label,fine", rows[0]]))
    gap = rows[3].rpartition(",")[0] + ","
    (here / "gaps.csv").write_text("\n".join(["image,label,fine", *rows[:3], gap]))
    data = ("--data", str(here / "photos"))
    cli.main(["train", "--out", str(here / "run"), *data, *SMALL], standalone_mode=False)
    untrained_run(here / "other", seed=1)
    index = ("index", here / "run", here / "photos" / "test", "-o", here / "shop.index")
    cli.main([*map(str, index)], standalone_mode=False)
    return here


@pytest.mark.parametrize("heading", CAUSES)
def test_messages_are_what_the_page_says(heading, world, monkeypatch, tmp_path):
    if "cuda" in heading and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    if "umap" in heading and find_spec("umap"):
        pytest.skip("umap-learn is installed")
    monkeypatch.chdir(world)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # no network, wherever this runs
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises((InputError, TrainingError)) as said:
        cli.main(CAUSES[heading].split(), standalone_mode=False)
    shutil.rmtree(world / "new", ignore_errors=True)
    pattern = ".*".join(map(re.escape, heading.split("…")))
    assert re.search(pattern, str(said.value), re.DOTALL)


def test_every_message_of_the_page_is_caused():
    headings = set(re.findall(r"^### `(.*)`$", PAGE, re.MULTILINE))
    assert headings == {*CAUSES, *ELSEWHERE}
    for heading, file in ELSEWHERE.items():
        text = (ROOT / "tests" / file).read_text()
        assert all(part.strip() in text for part in heading.split("…"))
