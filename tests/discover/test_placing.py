"""New pictures among groups: on drawn vectors beside slow loops, and through the command."""

import csv
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from maskcon import commands
from maskcon.cli import cli
from maskcon.discover.groups import typical
from maskcon.discover.placing import limits, placed
from maskcon.discover.spectral import unit
from maskcon.errors import InputError
from tests.discover.test_discover import blobs, photos, run  # noqa: F401 - fixtures


def test_the_nearest_group_and_what_is_new():
    x, label = blobs((30, 20, 25, 4), spread=0.3)
    known = np.arange(len(x)) % 3 > 0
    members, group = x[known], label[known]
    away = np.repeat(-unit(members.mean(0, keepdims=True)), 3, 0)  # on the other side
    rest = np.concatenate([x[~known], away])
    found = placed(rest, members, group)
    fence = limits(members, group)
    for row, picture in enumerate(rest):
        best = None
        for g in range(4):
            inside = members[group == g]
            near = sorted((float(picture @ m) for m in inside), reverse=True)
            distance = 1 - np.mean(near[: min(10, len(inside) - 1)])
            if best is None or distance < best[0]:
                best = distance, g
        assert found.group[row] == best[1]
        assert found.distance[row] == pytest.approx(best[0], abs=1e-6)
        assert found.new[row] == (found.distance[row] > fence[best[1]])
    assert (found.group[:-3] == label[~known]).mean() > 0.9
    assert found.new[-3:].all()
    assert found.new[:-3].mean() < 0.2


def test_the_limit_is_that_of_outliers():
    x, label = blobs((40, 30), spread=0.3)
    x[0] = -x[0]
    outlier = typical(x, label)[1]
    assert outlier[0]
    fence = limits(x, label)
    for row in range(len(x)):
        inside = np.flatnonzero((label == label[row]) & (np.arange(len(x)) != row))
        near = np.sort(x[inside] @ x[row])[::-1][:10]
        assert outlier[row] == (1 - near.mean() > fence[label[row]])


def test_few_and_equal_members():
    one = np.ones((1, 4), np.float32) / 2
    found = placed(np.concatenate([one, -one]), one, np.zeros(1, int))
    assert found.new.tolist() == [False, True]  # nothing says how far is far: a copy alone fits
    same = np.repeat(one, 9, 0)
    assert placed(np.concatenate([one, -one]), same, np.zeros(9, int)).new.tolist() == [False, True]
    allowed = np.array([[False, True]])
    found = placed(one, np.concatenate([same, -same]), np.repeat([0, 1], 9), allowed)
    assert (found.group.tolist(), found.new.tolist()) == ([1], [True])


def test_pictures_are_placed_by_the_command(run, photos, tmp_path):  # noqa: F811 - fixtures
    groups, out = tmp_path / "g", tmp_path / "new.csv"
    commands.discover(run, photos, out=groups, granularity=3)
    before = {p.name: p.read_bytes() for p in groups.iterdir()}
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(photos.glob("letters/*.png"))[:12]:
        shutil.copy(path, few)
    words = ["discover", str(run), str(few), "--assign", str(groups), "-o", str(out)]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(out.read_text().splitlines()))
    with (groups / "groups.csv").open() as file:
        names = {r["group"]: r["fine"] for r in csv.DictReader(file)}
    assert len(rows) == 12
    for row in rows:  # pictures without labels may come into any group
        assert row["new"] == str(int(float(row["distance"]) > float(row["limit"])))
        assert row["fine"] == ("" if row["new"] == "1" else names[row["nearest"]])
    again = commands.assign(run, photos, groups=groups, out=tmp_path / "all.csv")
    assert again["images"] == 240
    assert sum(again["placed"].values()) + again["new"] == 240
    of_class = csv.DictReader((tmp_path / "all.csv").read_text().splitlines())
    assert all(r["nearest"].rpartition(" ")[0] == r["coarse"] for r in of_class)
    assert {p.name: p.read_bytes() for p in groups.iterdir()} == before
    for more, message in (
        (["--names", "x.csv", "--groups", "3"], "leave out --groups, --names"),
        (["-o", str(tmp_path / "g")], r"\.csv"),
    ):
        with pytest.raises(InputError, match=message):
            raise CliRunner().invoke(cli, [*words, "--overwrite", *more]).exception
    with pytest.raises(InputError, match=r"has no groups\.csv: give a folder that discover wrote"):
        commands.assign(run, few, groups=few, out=tmp_path / "x.csv")
