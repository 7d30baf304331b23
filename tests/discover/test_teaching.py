"""What answers and names say of pairs of pictures, and what it teaches a head."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from maskcon import commands
from maskcon.cli import cli
from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.questions import Answer
from maskcon.discover.teaching import Lesson, Said
from maskcon.discover.tree import grow
from maskcon.errors import InputError
from maskcon.methods.targets import DIFFERENT, OPEN, SAME
from tests.conftest import Told
from tests.discover.test_questions import kinds


def by_loops(lesson: Lesson) -> np.ndarray:
    """What is known of each pair of pictures, one after the other [N, N]."""
    named, coarse, count = lesson.said.named, lesson.coarse.tolist(), len(lesson.coarse)
    group, found = lesson.questions.groups(), np.full((count, count), OPEN)
    classes = sorted(set(coarse))
    for i in range(count):
        for j in range(count):
            if coarse[i] != coarse[j]:
                found[i, j] = DIFFERENT
            elif UNKNOWN not in (named[i], named[j]):
                found[i, j] = SAME if named[i] == named[j] else DIFFERENT
            elif lesson.questions.asked()[classes.index(coarse[i])]:
                found[i, j] = SAME if group[i] == group[j] else DIFFERENT
    return found


@pytest.mark.parametrize("seed", range(4))
def test_lots_are_what_a_loop_over_all_pairs_finds(seed):
    random = np.random.default_rng(seed)
    x, coarse, fine = kinds(classes=4, count=3, each=12, seed=seed)
    answers = []
    for _ in range(random.integers(1, 14)):  # of two classes
        a, b = random.choice(np.flatnonzero(coarse.numpy() == random.integers(2)), 2, replace=False)
        verdict = random.choice(["same", "different", "unsure"], p=[0.3, 0.6, 0.1])
        answers.append(Answer(int(a), int(b), verdict))
    talked = (random.random(len(fine)) < 0.1 * seed) & (coarse.numpy() != 3)
    lesson = Lesson(x, coarse + 5, Said(answers, np.where(talked, fine % 4, UNKNOWN)))
    lot, lots = lesson.lots()
    np.testing.assert_array_equal(lots.relation.numpy()[lot][:, lot], by_loops(lesson))
    np.testing.assert_array_equal(lots.label.numpy()[lot], coarse + 5)
    assert (lots.relation == OPEN).any()


def test_nothing_said_leaves_each_class_one_open_lot():
    x, coarse, fine = kinds(classes=3)
    lot, lots = Lesson(x, coarse, Said([], np.full(len(fine), UNKNOWN))).lots()
    assert lots.relation.tolist() == (OPEN * torch.eye(3, dtype=torch.long)).tolist()
    np.testing.assert_array_equal(lot, coarse)


def about_merges(x, coarse, fine, least=5) -> list[Answer]:
    """What somebody says who knows the fine labels, of every merge of lots that are not small."""
    found = []
    for g in grow(x, coarse):
        for a, b in g.tree.joined:
            sides = [g.beneath(int(node)) for node in (a, b)]
            if min(map(len, sides)) >= least:
                left, right = (np.bincount(fine[rows]).argmax() for rows in sides)
                pair = [int(g.images[g.tree.typical[node]]) for node in (a, b)]
                found.append(Answer(*pair, "same" if left == right else "different"))
    return found


def test_right_answers_say_what_is_so():
    x, coarse, fine = kinds(spread=0.5)
    answers = about_merges(x, coarse, fine)
    lot, lots = Lesson(x, coarse, Said(answers, np.full(len(fine), UNKNOWN))).lots()
    relation, same = lots.relation.numpy()[lot][:, lot], fine[:, None] == fine
    assert same[relation == SAME].mean() > 0.95
    assert not same[relation == DIFFERENT].any()
    assert not (relation == OPEN).any()


def test_what_is_left_out_is_a_quarter_and_one_merge_is_on_one_side():
    x, coarse, fine = kinds()
    random, answers = np.random.default_rng(0), []
    for _ in range(200):
        a, b = random.choice(np.flatnonzero(coarse.numpy() == 0), 2, replace=False)
        answers.append(Answer(int(a), int(b), "same"))
    lesson = Lesson(x, coarse, Said(answers, np.where(fine < 6, fine, UNKNOWN)), seed=1)
    teach, judge = lesson.apart()
    assert sorted(map(repr, [*teach.answers, *judge.answers])) == sorted(map(repr, answers))
    merges = [{lesson.questions.merge_of(a) for a in part.answers} for part in (teach, judge)]
    assert not merges[0] & merges[1]
    assert len(merges[1]) == round(0.25 * len(merges[0] | merges[1]))
    named = [part.named != UNKNOWN for part in (teach, judge)]
    assert not (named[0] & named[1]).any()
    assert named[1].sum() == 30  # of 120
    np.testing.assert_array_equal(np.maximum(teach.named, judge.named), lesson.said.named)


def test_agreement_is_what_counting_finds():
    x, coarse, fine = kinds(spread=0.9)
    said = Said(about_merges(x, coarse, fine), np.where(fine % 3, fine, UNKNOWN))
    lesson = Lesson(x, coarse, said)
    teach, left_out = lesson.apart()
    found = Lesson(x, coarse, teach).agreement(left_out, said)
    group = Lesson(x, coarse, teach).questions.groups()
    right = 0
    for a in left_out.answers:
        right += (a.verdict == "same") == (group[a.a] == group[a.b])
    assert found["answers"] == pytest.approx(right / len(left_out.answers))
    right = 0
    for i in np.flatnonzero(left_out.named != UNKNOWN):
        others = [j for j in np.flatnonzero(said.named != UNKNOWN) if j != i]
        others = [j for j in others if coarse[j] == coarse[i]]
        right += said.named[max(others, key=lambda j: float(x[i] @ x[j]))] == said.named[i]
    assert found["names"] == pytest.approx(right / (left_out.named != UNKNOWN).sum())
    few = Said(left_out.answers[:3], np.full(len(fine), UNKNOWN))
    assert lesson.agreement(few, said) == {}


# ------------------------------------------------------------------ the command

SMALL: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 32,
    "bank_size": 256,
    "lr": 0.1,
    "ce_weight": 0.3,
    "head_hidden": 32,
    "feature_noise": 0.5,
    "eval_every": 4,
}


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> tuple[Path, np.ndarray, np.ndarray]:
    """Vectors of 12 kinds in 3 classes, that say little of kinds; their names and kinds."""
    random = np.random.default_rng(0)
    fine = random.integers(0, 12, 720)
    middle = random.normal(size=(3, 1, 24)) + 0.7 * random.normal(size=(3, 4, 24))
    x = middle.reshape(12, 24)[fine] + random.normal(size=(720, 24))
    path = tmp_path_factory.mktemp("taught") / "v.npz"
    name = np.array([f"p{row:03d}.jpg" for row in range(len(fine))])
    np.savez(
        path,
        vector=x.astype(np.float32),
        coarse=(fine // 4).astype(str),
        fine=fine.astype(str),
        path=name,
        split=np.where(np.arange(len(fine)) % 4, "train", "test"),
    )
    return path, name, fine


def table(path: Path, name: np.ndarray, fine: np.ndarray, rows: np.ndarray) -> Path:
    """A table of the kinds of some pictures."""
    lines = [f"{name[row]},kind {fine[row]}" for row in rows]
    path.write_text("\n".join(["path,fine", *lines]) + "\n")
    return path


def test_names_teach_the_head(vectors, tmp_path):
    file, name, fine = vectors
    known = table(tmp_path / "k.csv", name, fine, np.flatnonzero(np.arange(len(fine)) % 4))
    plain = commands.train(features=str(file), out=tmp_path / "a", **SMALL)
    told = Told()
    run = commands.train(
        features=str(file), out=tmp_path / "b", known=str(known), progress=told, **SMALL
    )
    facts = run["training"]["taught"]
    assert facts["kept"]
    assert facts["named"] == 540
    assert facts["agreement"]["names"][1] > facts["agreement"]["names"][0]
    assert run["results"]["recall@1"] > plain["results"]["recall@1"] + 0.02
    assert "the head is taught" in " ".join(told.notes)
    assert "taught" not in plain["training"]


def test_wrong_names_teach_nothing_and_the_run_is_the_one_without(vectors, tmp_path):
    file, name, fine = vectors
    wrong = np.random.default_rng(1).permutation(fine)
    known = table(tmp_path / "k.csv", name, wrong, np.arange(len(fine)))
    one = commands.train(features=str(file), out=tmp_path / "a", **SMALL)
    two = commands.train(features=str(file), out=tmp_path / "b", known=str(known), **SMALL)
    assert two["results"] == one["results"]
    assert two["training"]["taught"]["kept"] is False


def test_a_taught_run_goes_on_to_the_same_bits_and_only_with_its_answers(vectors, tmp_path):
    file, name, fine = vectors
    known = table(tmp_path / "k.csv", name, fine, np.flatnonzero(np.arange(len(fine)) % 4))
    options = {"features": str(file), "known": str(known), **SMALL}
    whole = commands.train(out=tmp_path / "a", **options)
    assert whole["training"]["taught"]["kept"]
    commands.train(out=tmp_path / "b", **options)
    (tmp_path / "b" / "last.ckpt").unlink()
    again = commands.train(out=tmp_path / "b", resume=True)
    assert again["results"] == whole["results"]
    table(known, name, fine, np.arange(len(fine)))
    (tmp_path / "b" / "last.ckpt").unlink(missing_ok=True)
    with pytest.raises(InputError, match="answers and names are not those"):
        commands.train(out=tmp_path / "b", resume=True)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"answers": "no.csv"}, r"there is no table .*no\.csv"),
        ({"known": "known", "method": "ancor"}, "known has no effect: ancor asks of no two"),
        ({"known": "known", "label": "fine"}, "known has no effect: training sees the fine"),
        ({"known": "known", "features": None}, "has no effect: no head is trained"),
    ],
)
def test_what_cannot_teach_is_refused(vectors, tmp_path, options, match):
    file, name, fine = vectors
    known = table(tmp_path / "k.csv", name, fine, np.arange(9))
    options = {k: str(known) if v == "known" else v for k, v in options.items()}
    with pytest.raises(InputError, match=match):
        commands.train(
            **{"features": str(file), **({"ce_weight": 0.3} | SMALL), **options}, out=tmp_path / "a"
        )


def test_answers_teach_from_the_command_line(vectors, tmp_path):
    """In the table that --ask writes."""
    file, name, fine = vectors
    x = torch.nn.functional.normalize(torch.from_numpy(np.load(file)["vector"]), dim=1)
    answers = about_merges(x, torch.from_numpy(fine // 4), fine)
    lines = [f"{name[a.a]},{name[a.b]},{a.verdict}" for a in answers]
    answers = tmp_path / "answers.csv"
    answers.write_text("\n".join(["left,right,answer", *lines, "gone.jpg,p001.jpg,same"]) + "\n")
    words = ["train", "--features", str(file), "--out", str(tmp_path / "a"), "--epochs", "2"]
    words += ["--batch-size", "32", "--head-hidden", "32", "--answers", str(answers)]
    found = CliRunner().invoke(cli, words)
    assert found.exit_code == 0, found.output
    assert f"{len(lines)} answers" in found.output
    assert "1 pictures of the answers and names are none of the data" in found.output
    assert "that groups agree with" in found.output
