"""The photographs that come with the package."""

import csv
from collections import Counter

import numpy as np
from PIL import Image

from maskcon import commands
from maskcon.data import find
from maskcon.data.sets import grocery


def test_the_set_is_what_lies_in_its_folder():
    found = find("grocery_small")
    of_coarse = Counter(name.partition("/")[0] for name in found.fine_names)
    assert sorted(of_coarse.values()) == [1, 1, 1, 3, 3, 4, 4, 5]
    assert tuple(of_coarse) == found.coarse_names
    for part, count in (("train", 9), ("test", 5)):
        rows = found.parts[part]
        files = sorted((grocery.HERE / part).glob("*/*/*.jpg"))
        assert len(files) == len(rows) == 22 * count
        assert rows.fine.bincount().tolist() == [count] * 22
        names = [f"{file.parent.parent.name}/{file.parent.name}" for file in files]
        assert [found.fine_names[n] for n in rows.fine] == names
        assert [found.coarse_names[n] for n in rows.coarse] == [n.split("/")[0] for n in names]


def test_every_photograph_is_sound_and_small():
    files = [file for file in grocery.HERE.rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 4_000_000
    photos = [file for file in files if file.suffix == ".jpg"]
    assert {file.name for file in files} - {p.name for p in photos} == {"LICENSE", "SOURCE.md"}
    seen = set()
    for photo in photos:
        with Image.open(photo) as image:
            assert min(image.size) == 224
            assert not image.getexif()  # nothing of a camera or a place
            seen.add(np.asarray(image).tobytes())
    assert len(seen) == 308


def test_a_run_and_its_groups(tmp_path):
    options = {"backbone": "resnet10w16", "image_size": 16, "epochs": 1, "warmup_epochs": 0}
    run = commands.train(data="grocery_small", out=tmp_path / "run", **options)
    assert run["results"]["pixels"]["recall@1"] > 1 / 22
    commands.discover(tmp_path / "run", out=tmp_path / "groups")
    with open(tmp_path / "groups" / "groups.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({row["path"] for row in rows}) == 308
    assert all(row["group"].startswith(row["coarse"]) for row in rows)
