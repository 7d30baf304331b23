"""A new data set as CONTRIBUTING.md says, and one that an installed package brings."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maskcon import commands
from maskcon.data import DATA_SETS, Found, NamedSet, find, from_arrays
from maskcon.data.readers import layouts
from maskcon.errors import InputError
from tests.conftest import MASKCON

FINE = ["red", "pink", "blue", "navy"]
SMALL = {"epochs": 1, "batch_size": 16, "image_size": 16, "backbone": "resnet10w16"}
PACKAGE = """
import numpy as np
from maskcon.data import NamedSet, from_arrays

def read(path):
    if not (path / "dots.npz").is_file():
        return None
    dots = np.load(path / "dots.npz")
    return from_arrays(dots["images"], dots["coarse"], dots["fine"], name="dots")

def make():
    return NamedSet("coloured dots", read=read, files="dots.npz", source="nowhere")
"""


def dots(path: Path) -> Path:
    """A file of 64 noisy pictures in two coarse and four fine classes."""
    random = np.random.default_rng(0)
    fine = random.permutation(np.arange(64) % 4)
    images = (random.integers(0, 60, (64, 16, 16, 3)) + 40 * fine[:, None, None, None]).astype("u1")
    path.mkdir()
    names = np.array(FINE)[fine]
    np.savez(path / "dots.npz", images=images, coarse=np.array(["r", "b"])[fine // 2], fine=names)
    return path


def read(path: Path) -> Found | None:
    """The first edit: a reader."""
    if not (path / "dots.npz").is_file():
        return None
    with np.load(path / "dots.npz") as given:
        return from_arrays(given["images"], given["coarse"], given["fine"], name="dots")


def works(name: str, folder: Path, out: Path) -> None:
    """The set is listed, trained on and judged."""
    assert commands.datasets()[name]["summary"].startswith("coloured dots")
    commands.train(data=name, data_dir=folder, out=out, method="maskcon", **SMALL)
    judged = commands.eval(out, data=name, data_dir=folder)
    assert 0 <= judged["recall@1"] <= 1


def test_a_set_with_a_name_in_two_edits(monkeypatch, tmp_path):
    entry = NamedSet("coloured dots", read=read, files="dots.npz", source="me", recipe="frozen")
    monkeypatch.setitem(DATA_SETS, "dots", entry)
    works("dots", dots(tmp_path / "here"), tmp_path / "run")
    with pytest.raises(InputError, match=r"looked for dots\.npz\. Get it from me"):
        find("dots", data_dir=tmp_path / "elsewhere")


def test_a_form_of_peoples_data_in_two_edits(monkeypatch, tmp_path):
    form = layouts.Layout(
        "dots.npz", lambda path: (path / "dots.npz").is_file(), lambda path, *_: read(path)
    )
    monkeypatch.setattr(layouts, "LAYOUTS", (*layouts.LAYOUTS, form))
    assert len(find(str(dots(tmp_path / "here"))).parts["train"]) == 64
    with pytest.raises(InputError, match=r"class folders .*; dots\.npz"):
        find(str(tmp_path))


def test_an_installed_package_adds_a_set(installed, tmp_path):
    installed("toy_dots", PACKAGE, {"maskcon.data_sets": {"dots": "toy_dots:make"}})
    works("dots", dots(tmp_path / "here"), tmp_path / "run")


def test_the_command_line_lists_it(installed, tmp_path):
    installed("toy_dots", PACKAGE, {"maskcon.data_sets": {"dots": "toy_dots:make"}})
    installed("toy_bad", "", {"maskcon.data_sets": {"bad": "toy_bad:make"}})
    where = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    told = subprocess.run(
        [sys.executable, str(MASKCON), "datasets"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": where},
    )
    assert "coloured dots" in told.stdout
    assert "bad of maskcon.data_sets, from the package toy_bad, is left out" in told.stderr
