"""Trees, questions and answers: on drawn vectors, and the table of answers."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.cluster.hierarchy import fcluster, is_valid_linkage

from maskcon import commands
from maskcon.cli import cli
from maskcon.data.pictures import Arrays, Files
from maskcon.discover import Questions, answers, discover, place
from maskcon.discover import tree as trees
from maskcon.discover.questions import undone
from maskcon.discover.sameness import USUAL, learned
from maskcon.discover.spectral import unit
from maskcon.discover.tree import grow, near_duplicates, tree_of
from maskcon.errors import InputError
from maskcon.runtime.progress import Silent
from tests.conftest import wait
from tests.discover.test_discover import blobs, photos, run, same_groups  # noqa: F401 - fixtures


def kinds(classes=3, count=4, each=20, spread=0.5, seed=0):
    """Coarse classes of some kinds each, drawn: features, coarse and fine labels."""
    random = np.random.default_rng(seed)
    middle = 2 * random.normal(size=(classes, 1, 12)) + random.normal(size=(classes, count, 12))
    x = np.repeat(middle.reshape(-1, 12), each, 0)
    x = unit(x + spread * random.normal(size=x.shape)).astype(np.float32)
    fine = np.repeat(np.arange(classes * count), each)
    return torch.from_numpy(x), torch.from_numpy(fine // count), fine


def told(question, fine) -> str:
    """What somebody says who knows the fine labels."""
    left, right = (np.bincount(fine[rows]).argmax() for rows in (question.left, question.right))
    return "same" if left == right else "different"


def answered(questions, fine, count):
    """The questions after so many answers, at most."""
    for _ in range(count):
        question = questions.next()
        if question is None:
            break
        questions.answer(question, told(question, fine))
    return questions


def right(group, fine) -> float:
    """Share of pairs of images on which groups and fine classes agree."""
    a, b = (x[:, None] == x for x in (np.asarray(group), np.asarray(fine)))
    return float((a == b).mean())


# ------------------------------------------------------------------ trees


def test_a_tree_is_a_linkage_and_its_cuts_are_those_of_scipy():
    x, _ = blobs((20, 15, 30), spread=0.4)
    tree = tree_of(x)
    assert is_valid_linkage(tree.merges)
    assert (np.diff(tree.merges[:, 2]) >= 0).all()
    for number in (1, 2, 3, 7, 65, 90):
        group = np.empty(65, int)
        for i, node in enumerate(tree.into(number, np.zeros(tree.leaves - 1, bool))):
            group[tree.beneath(node)] = i
        assert same_groups(group, fcluster(tree.merges, number, "maxclust"))
    for m, (a, b) in enumerate(tree.joined):
        assert set(tree.beneath(65 + m)) == set(tree.beneath(a)) | set(tree.beneath(b))
        assert tree.meeting(tree.beneath(a)[0], tree.beneath(b)[-1]) == m


def test_near_duplicates_join_first_and_count_once():
    x, _ = blobs((30, 30), spread=0.4)
    burst = unit(x[:1] + 1e-3 * np.random.default_rng(1).normal(size=(9, 16))).astype(np.float32)
    both = np.concatenate([x, burst, x[5:6]])
    assert len(np.unique(near_duplicates(both))) == 60
    tree = tree_of(both)
    assert (tree.merges[:10, 2] == 0).all()
    assert (tree.once[-1], tree.stop[-1]) == (60, 70)


@pytest.mark.parametrize("largest", [20, 5000])
def test_near_duplicates_are_found_where_a_tree_has_no_leaf_for_them(monkeypatch, largest):
    monkeypatch.setattr(trees, "LARGEST", largest)
    x, _ = blobs((30, 30), spread=0.4)
    order = np.random.default_rng(0).permutation(130)
    twice = np.concatenate([x, x, unit(x[:10] + 1e-3)]).astype(np.float32)[order]
    of = np.concatenate([np.arange(60), np.arange(60), np.arange(10)])[order]
    (grown,) = grow(torch.from_numpy(twice), torch.zeros(130, dtype=torch.long))
    assert len(grown.images) == min(largest, 130)
    found = sorted(lot.tolist() for lot in grown.near_duplicates(twice))
    assert found == sorted(np.flatnonzero(of == one).tolist() for one in range(60))


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_few_or_equal_pictures(count):
    x, _ = blobs((20,))
    for rows in (x[:count], np.repeat(x[:1], count, 0)):
        features, coarse = torch.from_numpy(rows), torch.zeros(count, dtype=torch.long)
        questions = Questions.of(features, coarse)
        assert (questions.groups() == 0).all()
        assert np.isfinite(grow(features, coarse)[0].tree.features).all()
    assert questions.next() is None  # nobody is asked about equal pictures


def test_permuted_pictures_have_the_same_groups():
    features, coarse, fine = kinds()
    order = np.random.default_rng(3).permutation(len(fine))
    plain = answered(Questions.of(features, coarse), fine, 6).groups()
    other = answered(Questions.of(features[order], coarse[order]), fine[order], 6).groups()
    assert same_groups(plain[order], other)


def test_a_class_larger_than_its_tree(monkeypatch):
    monkeypatch.setattr("maskcon.discover.tree.LARGEST", 50)
    x, label = blobs((60, 60))
    coarse = torch.zeros(120, dtype=torch.long)
    (g,) = grow(torch.from_numpy(x), coarse)
    assert g.tree.leaves == 50
    assert same_groups(g.groups(g.tree.into(2, np.zeros(g.tree.leaves - 1, bool))), label)
    questions = Questions.of(torch.from_numpy(x), coarse)
    question = questions.next()
    assert len(question.left) + len(question.right) <= 120
    assert set(question.shown_left) <= set(question.left)


# ------------------------------------------------------------------ the model


def test_the_model_is_the_minimum_of_its_formula():
    random = np.random.default_rng(0)
    features = USUAL.mean + USUAL.std * random.normal(size=(30, len(USUAL.mean)))
    coarse, says = random.integers(2, size=30), random.random(30)
    model = learned(USUAL, features, coarse, says, 2)

    def loss(w):
        x = np.concatenate([(features - USUAL.mean) / USUAL.std, np.ones((30, 1)),
                            np.eye(2)[coarse]], 1)  # fmt: skip
        logit = x @ w
        start = np.concatenate([USUAL.slope, [USUAL.intercept, 0, 0]])
        deviation = np.array([0.3] * len(USUAL.slope) + [0.5, 0.7, 0.7])
        return (np.logaddexp(0, logit) - says * logit).sum() + (
            ((w - start) / deviation) ** 2
        ).sum() / 2

    least = loss(model.weights)
    for step in np.eye(len(model.weights)) * 1e-3:
        assert loss(model.weights + step) > least < loss(model.weights - step)
    nobody = learned(USUAL, features[:0], coarse[:0], says[:0], 2)
    np.testing.assert_allclose(nobody.weights[: len(USUAL.slope)], USUAL.slope)


def test_the_cut_is_the_best_of_all_cuts():
    x, _ = blobs((5, 6, 5), spread=0.5)
    tree = tree_of(x)
    different = np.random.default_rng(0).random(15)
    a, b = tree.joined.T
    least = np.minimum(tree.once[a], tree.once[b])
    gain = np.where(least >= 3, (2 * different - 1) * least, -np.inf)

    def best(node):
        if node < 16:
            return 0.0
        return max(0.0, gain[node - 16] + sum(best(child) for child in tree.joined[node - 16]))

    chosen, stack = 0.0, [30]
    cut = undone(tree, different)
    while stack:
        node = stack.pop()
        if node >= 16 and cut[node - 16]:
            chosen += gain[node - 16]
            stack += tree.joined[node - 16].tolist()
    assert chosen == pytest.approx(best(30))


# ------------------------------------------------------------------ questions


def test_answers_lead_to_the_kinds():
    features, coarse, fine = kinds()
    before = right(Questions.of(features, coarse).groups(), fine)
    questions = answered(Questions.of(features, coarse), fine, 25)
    assert right(questions.groups(), fine) >= max(before, 0.99)
    assert questions.groups().tolist() == questions.groups().tolist()


def test_an_answer_is_taken_back():
    features, coarse, fine = kinds()
    questions = answered(Questions.of(features, coarse), fine, 3)
    before, question = questions.groups(), questions.next()
    questions.answer(question, "same")
    assert questions.take_back().verdict == "same"
    assert (questions.groups() == before).all()
    assert questions.next().merge == question.merge
    for _ in range(3):
        questions.take_back()
    with pytest.raises(InputError, match="no answer to take back"):
        questions.take_back()


def test_answers_that_contradict_each_other():
    features, coarse, fine = kinds(classes=2, count=2)
    questions = Questions.of(features, coarse)
    question = questions.next()
    a, b = int(question.shown_left[0]), int(question.shown_right[0])
    questions.tell(a, b, "same")
    questions.tell(b, a, "different")  # of one pair the last word counts
    assert questions.groups()[a] != questions.groups()[b]
    for other in question.shown_left[1:4]:  # others outvote it
        questions.tell(int(other), b, "same")
    questions.tell(a, b, "same")
    assert questions.groups()[a] == questions.groups()[b]
    answered(questions, fine, 20)
    assert right(questions.groups(), fine) > 0.7


def test_wrong_answers_cost_little():
    features, coarse, fine = kinds(classes=6)
    random = np.random.default_rng(0)
    questions = Questions.of(features, coarse)
    for _ in range(60):
        question = questions.next()
        if question is None:
            break
        verdict = told(question, fine)
        if random.random() < 0.05:
            verdict = {"same": "different", "different": "same"}[verdict]
        questions.answer(question, verdict)
    assert right(questions.groups(), fine) > 0.98


def test_what_nobody_can_tell_is_not_asked_again():
    features, coarse, _ = kinds(classes=2, count=2)
    questions = Questions.of(features, coarse)
    asked = set()
    while (question := questions.next()) is not None:
        assert (question.coarse, question.merge) not in asked
        asked.add((question.coarse, question.merge))
        questions.answer(question, "unsure")


def test_names_count_as_answers():
    features, coarse, fine = kinds(classes=2, count=3)
    label = np.full(len(fine), -1)
    label[::5] = fine[::5]
    questions = Questions.of(features, coarse)
    questions.name(label)
    assert right(questions.groups(), fine) > 0.99
    questions = Questions.of(features, coarse)
    questions.name(np.where(label >= 0, fine // 3, -1))  # one name for all of a class
    assert len(np.unique(questions.groups())) == 2


@pytest.mark.parametrize("seed", range(3))
def test_no_group_holds_two_names(seed):
    """Whatever the tree says: names at random, which contradict it, and each other's merges."""
    features, coarse, fine = kinds(classes=2, count=3, seed=seed)
    random = np.random.default_rng(seed)
    label = np.full(len(fine), -1)
    rows = random.choice(len(fine), 8, replace=False)
    label[rows] = random.integers(3, size=8)
    found = discover(features, coarse, named=label)
    for division in found:
        for group in range(division.number):
            inside = label[division.rows[division.group == group]]
            assert len(np.unique(inside[inside >= 0])) < 2
    assert discover(features, coarse, named=np.full(len(fine), -1))[0].found.how == "estimated"


@pytest.mark.parametrize("seed", range(4))
def test_bursts_are_what_a_loop_over_pairs_finds(seed):
    """Pictures that look alike, taken within seconds of each other, are one."""
    random = np.random.default_rng(seed)
    views = random.normal(size=(12, 6))[random.integers(12, size=40)]
    x = unit(views + 0.18 * random.normal(size=(40, 6))).astype(np.float32)
    taken = 1e9 + random.integers(0, 60, 40)
    taken = np.where(random.random(40) < 0.2, np.nan, taken)
    radius = np.linalg.norm(x - x.mean(0), axis=1).mean()
    lot = np.arange(40)
    for i in range(40):
        for j in range(i):
            far = np.linalg.norm(x[i] - x[j]) / radius
            if far < 0.15 or (far < 0.5 and abs(taken[i] - taken[j]) <= 5):
                lot[lot == lot[i]] = lot[j]
    assert same_groups(near_duplicates(x, taken), lot)
    assert len(set(lot)) <= len(set(near_duplicates(x).tolist()))


def test_pictures_of_a_burst_count_once_and_their_times_are_those_of_exif(tmp_path):
    """A burst of one view of two kinds beside each other: one picture, with times alone."""
    x, _, _ = kinds(classes=1, count=2, each=30)
    times = np.full(60, np.nan)
    times[:10] = 1e9 + np.arange(10)
    x[1:10] = torch.nn.functional.normalize(x[0] + 0.05 * torch.randn(9, x.shape[1]), dim=1)
    once = [tree_of(x.numpy(), taken=t).once[-1] for t in (None, times)]
    assert once[1] == 51 < once[0]
    image = Image.new("RGB", (16, 16))
    exif = Image.Exif()
    exif[0x0132] = "2024:05:06 07:08:09"
    image.save(tmp_path / "changed.jpg", exif=exif)
    exif.get_ifd(0x8769)[0x9003] = "2024:05:06 07:08:03"
    exif.get_ifd(0x8769)[0x9291] = "25"
    image.save(tmp_path / "taken.jpg", exif=exif)
    image.save(tmp_path / "taken.png", exif=exif)
    image.save(tmp_path / "none.jpg")
    exif.get_ifd(0x8769)[0x9003] = "soon"
    image.save(tmp_path / "wrong.jpg", exif=exif)
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    names = ("changed.jpg", "taken.jpg", "taken.png", "none.jpg", "wrong.jpg", "broken.jpg", "no")
    found = place.taken(Files([tmp_path / name for name in names]), 2, Silent())
    start = datetime(2024, 5, 6, 7, 8, tzinfo=UTC).timestamp()
    expected = np.array([9, 3.25, 3.25, *[np.nan] * 4])
    np.testing.assert_allclose(found - start, expected)
    arrays = Arrays(torch.zeros(3, 3, 8, 8, dtype=torch.uint8))
    assert np.isnan(place.taken(arrays, 1, Silent())).all()


@pytest.mark.parametrize("asked", ["groups", "granularity", "known"])
@pytest.mark.parametrize("seed", range(3))
def test_no_group_holds_two_names_however_groups_are_asked_for(seed, asked):
    """As many as are asked for, or as many as there are names."""
    x, coarse, _ = kinds(classes=2, count=2, each=25, seed=seed)
    random = np.random.default_rng(seed)
    for number in (1, 3, 6):
        rows = random.choice(50, 4, replace=False)  # of one class, which has two kinds
        named = np.full(len(x), -1)
        named[rows] = 3 + np.arange(4)
        known = torch.full((len(x),), -1)
        known[int(random.choice(np.setdiff1d(np.arange(50), rows)))] = 0
        how = {
            "groups": {"numbers": {0: number}},
            "granularity": {"granularity": {0: number}},
            "known": {"known": known},
        }[asked]
        first, second = discover(x, coarse, named=named, **how)
        assert len({first.group[row] for row in rows}) == 4
        if asked != "known":
            assert first.number >= max(number, 4)
            assert asked == "granularity" or first.number == max(number, 4)
            # the other class has the number that these names leave it, whatever this one was asked
            assert second.number == discover(x, coarse, named=named)[1].number
        else:
            assert first.names.count(0) == 1
            assert set(first.names) == {0, -1}  # names of groups are given to them later


def test_the_name_of_known_pictures_is_the_same_name():
    x, coarse, fine = kinds(classes=1, count=2, each=30, spread=0.3)
    known, named = torch.full((len(x),), -1), np.full(len(x), -1)
    known[0], named[1], named[40] = 0, 0, 1
    (found,) = discover(x, coarse, known=known, named=named)
    assert found.number == 2
    assert same_groups(found.group, fine)


def test_one_name_of_two_groups_is_a_word_for_one_kind():
    features, coarse, fine = kinds(classes=2, count=3)
    plain = Questions.of(features, coarse)
    question = plain.next()
    pair = int(question.shown_left[0]), int(question.shown_right[0])
    label = np.full(len(fine), -1)
    for codes, verdict in (((0, 0), "same"), ((0, 1), "different")):
        label[list(pair)] = codes
        named, told_ = Questions.of(features, coarse), Questions.of(features, coarse)
        named.name(label)
        told_.tell(*pair, verdict)
        for a, b in zip(named.different(), told_.different(), strict=True):
            np.testing.assert_allclose(a, b)


def test_nothing_is_worth_asking():
    """None is said where no open merge is worth a picture, and only there."""
    features, coarse, fine = kinds(classes=4)
    questions, asked = Questions.of(features, coarse), 0
    seen: dict[tuple[int, int], set[tuple[int, int]]] = {}
    while (question := questions.next()) is not None:
        pair = int(question.shown_left[0]), int(question.shown_right[0])
        pairs = seen.setdefault((question.coarse, question.merge), set())
        assert pair not in pairs  # another pair of the same lots
        pairs.add(pair)
        assert len(pairs) <= 2  # no answer contradicts another
        questions.answer(question, told(question, fine))
        asked += 1
    assert asked < 200
    state, least = questions._now(), questions._smaller
    wrong = 1 / (1 + np.exp(np.abs(state.logit / np.sqrt(1 + np.pi / 8 * state.deviation**2))))
    for merge in np.flatnonzero(least >= 3):
        assert state.settled[merge] or wrong[merge] * least[merge] < 1
    assert right(questions.groups(), fine) > 0.99


def test_nonsense_is_refused():
    features, coarse, _ = kinds(classes=2, count=2)
    questions = Questions.of(features, coarse)
    for words, message in (
        ((0, 1, "yes"), "expected one of same, different, unsure"),
        ((0, 999, "same"), "there is no picture 999"),
        ((3, 3, "same"), "compared with itself"),
        ((0, 79, "same"), "are of two coarse classes"),
    ):
        with pytest.raises(InputError, match=message):
            questions.tell(*words)


def test_granularity_turns_the_cut():
    features, coarse, _ = kinds(spread=0.8)
    numbers = [
        sum(d.number for d in discover(features, coarse, granularity=dict.fromkeys(range(3), g)))
        for g in ("coarser", "finer", 20)
    ]
    usual = sum(d.number for d in discover(features, coarse))
    assert numbers[0] <= usual <= numbers[1]
    assert numbers[2] == 60


def test_clear_is_said_of_answered_classes_alone():
    features, coarse, fine = kinds(classes=2, count=2)
    assert {d.found.structure for d in discover(features, coarse)} <= {"kinds or visits", "none"}
    questions = answered(Questions.of(features, coarse), fine, 4)
    found = discover(features, coarse, answers=questions.answers)
    assert "clear" in {d.found.structure for d in found}
    assert same_groups(np.concatenate([d.group + 9 * d.label for d in found]), questions.groups())


# ------------------------------------------------------------------ tables and the command


def test_a_table_of_answers(tmp_path):
    names = [f"/p/{i}, {i}.png" for i in range(4)]
    path = tmp_path / "answers.csv"
    answers.append(path, names[0], names[1], "same")
    path.write_bytes(path.read_bytes()[:-1])  # a person's editor takes the last end of line
    answers.append(path, names[1], names[2], "different")
    found, missing = answers.read(path, names, [0] * 4)
    assert missing == ()
    assert [(a.a, a.b, a.verdict) for a in found] == [(0, 1, "same"), (1, 2, "different")]
    answers.take_back(path)
    assert len(answers.read(path, names, [0] * 4)[0]) == 1
    for form in (  # as people and their programs write them
        "answer;note;left;right\r\nsame;the two; /p/0, 0.png;/p/1, 1.png\r\n",
        "\ufeffA\tB\tVerdict\n/p/0, 0.png\t/p/1, 1.png\tsame\n",
        'left,right,answer,note\n"/p/0, 0.png","/p/1, 1.png",same,"two\nlines"\n\n',
    ):
        path.write_bytes(form.encode())
        answers.append(path, names[1], names[2], "different")
        answers.append(path, names[0], names[3], "unsure")
        found, missing = answers.read(path, names, [0] * 4)
        assert missing == ()
        assert [a.verdict for a in found] == ["same", "different", "unsure"]
        assert [(a.a, a.b) for a in found] == [(0, 1), (1, 2), (0, 3)]
        answers.take_back(path)
        assert answers.read(path, names, [0] * 4)[0] == found[:2]
        answers.take_back(path)
        assert path.read_bytes() == form.encode()
    answers.take_back(path)
    with pytest.raises(InputError, match="no row"):
        answers.take_back(path)
    path.write_text("left,right,answer\nno.png,/p/none.png,same\n")
    assert answers.read(path, names, [0] * 4) == ([], ("no.png", "/p/none.png"))
    for text, message in (
        ('left,right,answer\n"/p/0, 0.png","/p/1, 1.png",yes\n', "has the answer 'yes'"),
        ('left,right,answer\n"/p/0, 0.png","/p/3, 3.png",same\n', "two pictures of one coarse"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            answers.read(path, names, [0, 0, 0, 1])


def test_asking_in_the_terminal(run, photos, tmp_path):  # noqa: F811 - fixtures
    table = tmp_path / "answers.csv"
    words = ["discover", str(run), str(photos), "-o", str(tmp_path / "g"), "--answers", str(table)]
    done = CliRunner().invoke(cli, [*words, "--ask"], input="s\nd\nb\nu\nq\n")
    assert done.exit_code == 0, done.output
    assert "question 1: are these two of the same kind?" in done.output
    assert [line.rpartition(",")[2] for line in table.read_text().splitlines()] == [
        "answer", "same", "unsure",
    ]  # fmt: skip
    assert (tmp_path / "answers.csv.question.png").read_bytes().startswith(b"\x89PNG")
    first = (tmp_path / "g" / "groups.csv").read_bytes()
    done = CliRunner().invoke(cli, [*words, "--overwrite"])  # the table alone: the same groups
    assert done.exit_code == 0, done.output
    assert (tmp_path / "g" / "groups.csv").read_bytes() == first
    summary = json.loads((tmp_path / "g" / "summary.json").read_text())
    with np.load(tmp_path / "g" / "trees.npz", allow_pickle=False) as trees:
        for c, entry in enumerate(summary["coarse"]):
            assert is_valid_linkage(trees[f"{c}/merges"])
            assert len(trees[f"{c}/rows"]) == entry["images"]
            for m, left, right_, height, different in entry["tree"]:
                assert trees[f"{c}/merges"][m, 3] == left + right_
                assert trees[f"{c}/merges"][m, 2] == height
                assert trees[f"{c}/strength"][m] == pytest.approx(different)


def test_the_page_asks_and_opens_trees(run, photos, tmp_path, browser):  # noqa: F811 - fixtures
    """Keys and buttons of a real page; its table is what --answers takes."""
    out = tmp_path / "g"
    commands.discover(run, photos, out=out, granularity=3)
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    browser.get((out / "sheet.html").as_uri())
    tree = browser.find_element("css selector", ".tree details")
    assert tree.get_attribute("open") is None
    tree.find_element("css selector", "summary").click()
    assert wait(browser, "document.querySelector('.tree details').open")
    assert len(browser.find_elements("css selector", "#class-0 .tree a")) == 3
    page = browser.find_element("css selector", "body")
    page.send_keys("sxd")  # x says nothing
    browser.find_element("css selector", "[data-say=back]").click()
    page.send_keys("U")
    browser.find_element("css selector", "input").send_keys("sdu")  # a name is no answer
    assert wait(browser, "document.getElementById('asked').textContent").startswith("Question 3 of")
    for width in (400, 1400):
        browser.set_window_size(width, 900)
        inner = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.execute_script(f"return {inner}") <= 0
    browser.find_element("id", "answers").click()
    table, deadline = tmp_path / "answers.csv", time.monotonic() + 30
    while not table.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    rows = table.read_text().splitlines()
    assert [row.rpartition(",")[2] for row in rows] == ["answer", "same", "unsure"]
    commands.discover(run, photos, out=tmp_path / "again", answers=table)
    names = sorted(str(path) for path in photos.glob("*/*.png"))
    coarse = [Path(name).parent.name == "letters" for name in names]
    told_, missing = answers.read(table, names, coarse)
    assert ([a.verdict for a in told_], missing) == (["same", "unsure"], ())
    assert "--answers" in (tmp_path / "again" / "sheet.html").read_text()
