"""Groups keep their numbers and names: against all assignments, and through the command."""

import csv
import itertools
import shutil

import numpy as np
import pytest

from maskcon import commands
from maskcon.discover import discover, identity
from maskcon.discover.place import TABLE
from maskcon.errors import InputError
from tests.discover.test_discover import photos, run  # noqa: F401 - fixtures
from tests.discover.test_questions import kinds


def earlier_of(number, coarse):
    names = sorted(set(coarse) - {""})
    most = {c: max(n for n, of in zip(number, coarse, strict=True) if of == c) for c in names}
    return identity.Earlier(np.asarray(number), list(coarse), {}, {}, most)


@pytest.mark.parametrize("seed", range(4))
def test_numbers_stay_with_most_pictures(seed):
    """The matching is the best of all of them; a pair shares half of the smaller group."""
    features, coarse, _ = kinds(classes=2, count=3, each=12)
    divisions = discover(features, coarse, granularity={0: 3, 1: 4})
    random = np.random.default_rng(seed)
    number = random.integers(0, 5, size=len(coarse))  # 0: was not there
    names = ("cats", "dogs")
    was = [names[int(c)] if n else "" for c, n in zip(coarse, number, strict=True)]
    earlier = earlier_of(number, was)
    numbers = identity.kept(divisions, ("cats", "dogs"), earlier)
    for division, found in zip(divisions, numbers, strict=True):
        assert len(set(found)) == division.number
        old = number[division.rows]
        of_new = [division.group == n for n in range(division.number)]
        table = np.array([[np.sum((old == o) & here) for here in of_new] for o in range(1, 5)])
        best = max(
            sum(table[o, n] for n, o in enumerate(chosen))
            for chosen in itertools.permutations(range(4), division.number)
        )
        taken = [(o - 1, n) for n, o in enumerate(found) if o < 5]
        assert sum(table[o, n] for o, n in taken) <= best
        for o, n in taken:
            assert 2 * table[o, n] >= min(table[o].sum(), table[:, n].sum())
        assert all(o >= 5 for n, o in enumerate(found) if n not in dict(map(reversed, taken)))


def test_the_same_groups_keep_their_numbers_whatever_they_were():
    features, coarse, _ = kinds(classes=1, count=4)
    divisions = discover(features, coarse, granularity={0: 4})
    was = np.array([7, 2, 9, 4])
    number = np.empty(len(coarse), int)
    number[divisions[0].rows] = was[divisions[0].group]
    earlier = earlier_of(number, ["cats"] * len(coarse))
    assert identity.kept(divisions, ("cats",), earlier) == [was.tolist()]
    number[number == 2] = 0  # those pictures are new
    earlier = earlier_of(number, ["cats" if n else "" for n in number])
    assert identity.kept(divisions, ("cats",), earlier) == [[7, 10, 9, 4]]
    assert identity.kept(divisions, ("dogs",), earlier) == [[1, 2, 3, 4]]


def rows_of(folder):
    return {r["path"]: r for r in csv.DictReader((folder / TABLE).read_text().splitlines())}


def test_pictures_are_added_to_named_groups(run, photos, tmp_path):  # noqa: F811 - fixtures
    some, out = tmp_path / "some", tmp_path / "g"
    shutil.copytree(photos, some)
    pictures = sorted(some.glob("*/*.png"))
    later = {p: p.read_bytes() for p in pictures[::5]}
    for path in later:
        path.unlink()
    with pytest.raises(InputError, match=r"it has no groups\.csv: leave it out the first time"):
        commands.discover(run, some, out=out, continued=True)
    commands.discover(run, some, out=out, granularity=4)
    before = rows_of(out)
    named = next(r for r in before.values() if r["typical"] == "1" and r["group"] == "letters 3")
    names = tmp_path / "names.csv"
    names.write_text(f"group,name,typical\nletters 3,vowels,{named['path']}\n")
    commands.discover(run, some, out=out, granularity=4, names=names, overwrite=True)
    for path, content in later.items():
        path.write_bytes(content)
    with pytest.raises(InputError, match="leave out --overwrite"):
        commands.discover(run, some, out=out, continued=True, overwrite=True)
    found = commands.discover(run, some, out=out, granularity=4, continued=True)
    after = rows_of(out)
    same = [before[p]["group"] == after[p]["group"] for p in before]
    assert np.mean(same) > 0.5
    letters = next(c for c in found["coarse"] if c["name"] == "letters")
    there = {g["id"]: g["name"] for g in letters["groups"]}
    assert len(there) == 4
    assert there.get("letters 3", "vowels") == "vowels"
    assert {r["fine"] for r in after.values() if r["group"] == "letters 3"} <= {"vowels"}
    assert "--continue" in (out / "sheet.html").read_text()
    with (out / "outliers.csv").open() as file:
        listed = list(csv.DictReader(file))
    assert len(listed) == found["outliers"]
    assert all(r["reason"] and after[r["path"]]["group"] == r["group"] for r in listed)
    text = (out / TABLE).read_text().replace("letters 3", "letters x")
    (out / TABLE).write_text(text)
    with pytest.raises(InputError, match="expected letters and a number, as discover writes it"):
        commands.discover(run, some, out=out, continued=True)
