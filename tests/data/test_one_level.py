"""Sets whose labels have one level: who trains on them, and what judges them."""

import numpy as np
import pytest

from maskcon import commands
from maskcon.config import resolve
from maskcon.data import from_arrays, load
from maskcon.data.table import as_one_level
from maskcon.errors import InputError
from maskcon.eval import protocols
from maskcon.methods import METHODS
from maskcon.train import build
from tests.conftest import FAST, as_found, picture_tree


@pytest.fixture(scope="module")
def arrays(tiny):
    """Glyphs with their fine labels alone, which arrays call coarse."""
    pictures = [split.images.pixels for split in (tiny.train, tiny.test)]
    label = [[tiny.fine_names[i] for i in split.fine] for split in (tiny.train, tiny.test)]
    return from_arrays(pictures[0], label[0], test=(pictures[1], label[1]), name="glyphs")


def test_the_labels_become_the_fine_ones(arrays):
    one = as_one_level(arrays)
    assert one.one_level
    assert not arrays.one_level
    assert (one.coarse_names, one.fine_names) == (("all",), arrays.coarse_names)
    for name, part in one.parts.items():
        assert part.fine.equal(arrays.parts[name].coarse)
        assert not part.coarse.any()


def test_two_levels_are_refused(tiny, tmp_path):
    match = r"glyphs has 6 coarse and 34 fine classes: leave out --one-level, which is for labels"
    with pytest.raises(InputError, match=match):
        commands.train(data=as_found(tiny), one_level=True, out=tmp_path / "run", **FAST)
    assert not (tmp_path / "run").exists()


def check(arrays, method: str, **options) -> None:
    """Whether a method can train on the set, and nothing more."""
    taken = {name: value for name, value in FAST.items() if name != "bank_size"}
    config = resolve({**taken, "method": method, **options})
    build.check(config.settled(96, 16), load(as_one_level(arrays), image_size=16))


@pytest.mark.parametrize("method", METHODS)
def test_who_can_train(method, arrays):
    if METHODS[method].labels:
        match = rf"have one level, .*which {method} needs\. Choose .*selfcon, .*--label fine"
        with pytest.raises(InputError, match=match):
            check(arrays, method)
        check(arrays, method, label="fine")
    else:
        check(arrays, method)
        with pytest.raises(InputError, match=f"which {method} with --ce-weight needs"):
            check(arrays, method, ce_weight=0.5)


@pytest.fixture(scope="module")
def tree(tiny, tmp_path_factory):
    """A folder of train|test/class/picture, and a run on it."""
    root = tmp_path_factory.mktemp("tree")
    for name in ("train", "test"):
        picture_tree(root / "set" / name, getattr(tiny, name))  # whose classes are the coarse ones
    commands.train(data=root / "set", one_level=True, out=root / "run", method="selfcon", **FAST)
    return root


@pytest.mark.heavy
def test_every_protocol_judges_by_them(tree):
    found = commands.eval(tree / "run", protocol="all")
    assert {"recall@1", "knn@96", "linear", "linear@1%", "linear@10%"} <= {*found}
    assert {"finetune@1%", "finetune@10%", "nmi", "accuracy/estimated", "alignment"} <= {*found}
    assert not [name for name in found if "coarse" in name and name != "by_coarse"]
    assert found["by_coarse"] == {}


def test_few_shot_has_no_coarse_classes(tree, monkeypatch):
    asked = []

    def few_shot(features, fine, coarse, **how):
        asked.append(coarse)
        return {}

    monkeypatch.setattr(protocols, "few_shot", few_shot)
    commands.eval(tree / "run", protocol="few-shot")
    assert asked == [None]


def test_recall_is_that_of_a_loop_over_the_nearest_other(tree, tiny):
    """A folder's pictures are those of the set, and the class of each is its folder."""
    commands.embed(tree / "run", out=tree / "vectors.npz", split="test")
    with np.load(tree / "vectors.npz", allow_pickle=True) as file:
        vectors, fine, coarse = file["vector"], file["fine"].tolist(), file["coarse"].tolist()
    assert set(coarse) == {"all"}
    assert sorted(fine) == sorted(f"c{label}" for label in tiny.test.coarse)
    found = 0
    for row, vector in enumerate(vectors):
        others = [other for other in range(len(vectors)) if other != row]
        nearest = max(others, key=lambda other: float(vector @ vectors[other]))
        found += fine[nearest] == fine[row]
    results = commands.eval(tree / "run")
    assert results["recall@1"] == pytest.approx(found / len(vectors))


def test_the_check_says_it(tree):
    report = commands.check(tree / "set", one_level=True, method="selfcon")
    assert not report.wrong
    told = "\n".join(report.lines)
    assert "coarse      none: labels have one level, and evaluation judges by them" in told
    assert [*report.facts["classes"]] == ["fine"]
    report = commands.check(tree / "set", one_level=True)
    assert "there is no coarse label, which maskcon needs" in report.wrong[0]


def test_other_commands_on_it(tree):
    commands.report(tree / "run", out=tree / "report.html")
    assert (tree / "report.html").exists()
    resumed = commands.train(out=tree / "run", resume=True)
    assert resumed["status"] == "finished"
