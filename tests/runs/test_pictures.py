"""What a run was trained and tested with is told by content, wherever its pictures lie now."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from maskcon import commands
from maskcon.errors import InputError
from tests.conftest import Told

FEW: dict[str, Any] = {
    "backbone": "resnet10w16",
    "image_size": 16,
    "epochs": 1,
    "warmup_epochs": 0,
    "precision": "fp32",
}


def picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path) -> Path:
    for seed in range(40):
        picture(tmp_path / "photos" / "ab"[seed % 2] / f"{seed:02d}.png", seed)
    return tmp_path / "photos"


@pytest.fixture
def made(photos, tmp_path) -> Path:
    commands.train(data=photos, out=tmp_path / "run", **FEW)
    return tmp_path / "run"


def judged(run: Path, data: Path | None = None) -> tuple[dict[str, Any], str]:
    told = Told()
    found = commands.eval(run, data=data, progress=told)
    return {k: found[k] for k in ("recall@1/coarse", "images")}, "\n".join(told.notes)


def test_moved_renamed_and_grown(made, photos, tmp_path):
    before, _ = judged(made)
    assert before["images"] == 8
    photos.rename(tmp_path / "moved")
    for path in (tmp_path / "moved").glob("*/*.png"):  # another order
        path.rename(path.with_stem(f"{99 - int(path.stem)}"))
    now, told = judged(made, tmp_path / "moved")
    assert now == before
    assert "32 of 40 pictures of moved are ones that the run was trained on" in told
    again = commands.train(data=tmp_path / "moved", out=made, resume=True, **FEW)
    assert again["config"]["data"] == str(tmp_path / "moved")
    picture(tmp_path / "moved" / "a" / "new.png", 100)
    assert judged(made)[0] == before  # the run's own, where it lies now
    now, told = judged(made, tmp_path / "moved")
    assert now["images"] == 9
    assert "1 of 41 pictures of moved are new" in told
    commands.train(data=tmp_path / "moved", out=made, resume=True, **FEW)
    table = tmp_path / "own.csv"
    commands.embed(made, out=table)
    assert table.read_text().count('"test"') == 8


def test_a_test_picture_that_changed(made, photos):
    tested = [
        line.split(",")[0]
        for line in (made / "split.csv").read_text().splitlines()
        if line.endswith(",test")
    ]
    picture(Path(tested[0]), 101)
    found, told = judged(made)
    assert found["images"] == 7
    assert "1 pictures that the run was tested with are not in photos, or were changed" in told
    with pytest.raises(InputError, match=r"1 of the 8 pictures of the test split .* were changed"):
        commands.train(data=photos, out=made, resume=True, **FEW)


def test_a_train_picture_in_the_test_split(photos, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    photos.rename(root / "train")
    for seed in range(50, 60):
        picture(root / "test" / "ab"[seed % 2] / f"{seed}.png", seed)
    commands.train(data=root, out=tmp_path / "run", **FEW)
    before, told = judged(tmp_path / "run")
    assert before["images"] == 10
    assert "pictures" not in told
    (root / "train" / "a" / "00.png").rename(root / "test" / "a" / "00.png")
    now, told = judged(tmp_path / "run")
    assert now == before
    assert "1 of 11 pictures of set are ones that the run was trained on" in told
    now, told = judged(tmp_path / "run", root / "train")
    assert now["images"] == 39
    assert "the run was trained on all 39 pictures of train" in told
    assert commands.train(data=root, out=tmp_path / "run", resume=True, **FEW)
