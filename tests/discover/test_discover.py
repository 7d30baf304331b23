"""Groups inside coarse classes: the mathematics on drawn vectors, the command on drawn pictures."""

import csv
import json
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from maskcon import commands
from maskcon.cli import cli
from maskcon.data import find, from_arrays
from maskcon.data.sets import glyphs
from maskcon.discover import discover, known, naming, spreadsheet
from maskcon.discover.groups import left_out, typical
from maskcon.discover.judging import judged, matched
from maskcon.discover.kmeans import UNKNOWN, confidence, grouped
from maskcon.discover.spectral import spectral, unit
from maskcon.errors import InputError
from tests.conftest import Outline, untrained_run, wait


def blobs(sizes, *, width=16, spread=0.15, seed=0) -> tuple[np.ndarray, np.ndarray]:
    """Unit rows around random directions, and the direction of each."""
    random = np.random.default_rng(seed)
    label = np.repeat(np.arange(len(sizes)), sizes)
    middle = unit(random.normal(size=(len(sizes), width)))
    x = unit(middle[label] + spread * random.normal(size=(len(label), width)))
    order = random.permutation(len(label))
    return x[order].astype(np.float32), label[order]


def same_groups(a, b) -> bool:
    """Whether two groupings are the same, whatever the groups are called."""
    pairs = set(zip(np.asarray(a).tolist(), np.asarray(b).tolist(), strict=True))
    return len(pairs) == len({p[0] for p in pairs}) == len({p[1] for p in pairs})


# ------------------------------------------------------------------ mathematics


@pytest.mark.parametrize("sizes", [(6, 5, 7), (60, 40, 50)])  # all eigenvectors, and the leading
def test_spectral_is_what_its_formula_says(sizes):
    x, _ = blobs(sizes, spread=0.3)
    n, count = len(x), min(15, len(x) - 1)
    similarity = (x @ x.T).astype(np.float64)
    np.fill_diagonal(similarity, -np.inf)
    a = np.zeros((n, n))
    for i in range(n):
        for j in np.argsort(-similarity[i])[:count]:
            a[i, j] += 0.5
            a[j, i] += 0.5
    d = a.sum(1)
    r = 0.1 * d.mean()
    normal = (a + r / n) / np.sqrt(np.outer(d + r, d + r))
    expected = unit(np.linalg.eigh(normal)[1][:, ::-1][:, :3])
    z = spectral(x, 3)
    np.testing.assert_allclose(z @ z.T, expected @ expected.T, atol=1e-4)  # up to signs


def test_groups_that_are_no_balls():
    """Two arcs that k-means would cut across; their graph falls apart between them."""
    angle = np.linspace(0, np.pi, 150)
    arcs = [np.stack([np.cos(angle + s), np.sin(angle + s), np.full(150, h)], 1)
            for s, h in ((0, -0.15), (np.pi / 2, 0.15))]  # fmt: skip
    x = unit(np.concatenate(arcs)).astype(np.float32)
    found = grouped(spectral(x, 2), 2)
    assert same_groups(found.group, np.repeat([0, 1], 150))


def test_a_handful_of_near_duplicates_is_no_group():
    x, label = blobs((100, 100))
    copies = unit(x[:1] + 1e-4 * np.random.default_rng(1).normal(size=(17, 16)))
    x = np.concatenate([x, copies.astype(np.float32)])
    label = np.append(label, np.full(17, label[0]))
    assert same_groups(grouped(spectral(x, 2), 2).group, label)


def test_more_rows_than_the_graph_holds(monkeypatch):
    x, label = blobs((150, 100, 120))
    monkeypatch.setattr("maskcon.discover.spectral.LARGEST", 200)
    assert same_groups(grouped(spectral(x, 3), 3).group, label)


def test_known_rows_stay_and_name_their_groups():
    x, label = blobs((40, 40, 40), spread=0.3)
    told = np.full(120, UNKNOWN)
    told[:12] = 2 - label[:12]  # names in another order
    told[0] = (told[0] + 1) % 3  # and one that is wrong
    found = grouped(spectral(x, 3), 3, known=told)
    assert (found.group[:12] == told[:12]).all()
    assert (found.group[12:] == 2 - label[12:]).mean() > 0.9


def test_confidence():
    similarity = np.array([[1.0, 0, 0], [0.5, 0.5, 0.5]])
    group = np.array([0, 2])
    expected = [np.exp(1 / 0.3) / (np.exp(1 / 0.3) + 2), 1 / 3]
    np.testing.assert_allclose(confidence(similarity, group), expected)


def test_typical_and_odd():
    x, label = blobs((30, 20))
    stranger = x[np.flatnonzero(label == 0)[3]] = unit(-x[label == 0].mean(0) + 0.1)
    rank, outlier = typical(x, label)
    for g in (0, 1):
        members = np.flatnonzero(label == g)
        near = {
            i: np.mean(sorted(float(x[i] @ x[j]) for j in members if j != i)[-10:]) for i in members
        }
        by_rank = [near[i] for i in members[np.argsort(rank[members])]]
        np.testing.assert_allclose(by_rank, sorted(near.values(), reverse=True), atol=1e-6)
        assert sorted(rank[members]) == list(range(1, len(members) + 1))
    assert np.flatnonzero((x == stranger).all(1)).item() in np.flatnonzero(outlier)
    assert outlier.sum() < 6
    assert not typical(np.repeat(x[:1], 20, 0), np.zeros(20, int))[1].any()  # all equal


def test_left_out_tells_what_new_images_would_get():
    x, label = blobs((60, 60, 60), spread=0.35)
    told = np.full(180, UNKNOWN)
    told[:60] = label[:60]
    z = spectral(x, 3)
    right, tested = left_out(z, 3, told, told != UNKNOWN, 0)
    new = (grouped(z, 3, known=told).group[60:] == label[60:]).mean()
    assert tested == 60
    assert abs(right / tested - new) < 0.1
    once = np.full(180, UNKNOWN)
    once[[np.flatnonzero(label == g)[0] for g in range(3)]] = range(3)
    assert left_out(z, 3, once, once != UNKNOWN, 0) == (0, 0)  # each name is known once only


def test_number():
    x, _ = blobs((100, 100, 100, 100))
    features, coarse = torch.from_numpy(x), torch.zeros(400, dtype=torch.long)
    (found,) = discover(features, coarse)
    assert (found.number, found.found.structure) == (4, "kinds or visits")
    assert found.found.low <= 4 <= found.found.high
    cloud = unit(np.random.default_rng(0).normal(size=(300, 16))).astype(np.float32)
    (whole,) = discover(torch.from_numpy(cloud), coarse[:300])
    assert (whole.number, whole.found.structure) == (1, "none")
    assert discover(features, coarse, numbers={0: 7})[0].number == 7
    assert discover(features, coarse, granularity={0: 9})[0].number == 9
    told = torch.full((400,), UNKNOWN)
    told[:60] = torch.arange(60) % 6
    assert discover(features, coarse, known=told)[0].number >= 6
    assert discover(features[:9], coarse[:9])[0].found.structure == "too few images"
    equal = features[:1].repeat(50, 1)
    assert discover(equal, coarse[:50])[0].number == 1
    two = features[:2].repeat(50, 1)
    assert discover(two, coarse[:100], numbers={0: 5})[0].number == 2  # only two images differ
    with pytest.raises(InputError, match="0 groups were asked for"):
        discover(features, coarse, numbers={0: 0})


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny_classes(count):
    x, _ = blobs((50, 50))
    features = torch.from_numpy(np.concatenate([x, x[:count]]))
    coarse = torch.tensor([0] * 100 + [4] * count)
    small = discover(features, coarse)[1]
    assert (small.label, small.number, small.rows.tolist()) == (4, 1, list(range(100, 100 + count)))
    assert sorted(small.rank) == list(range(1, count + 1))
    split = discover(features, coarse, numbers={4: 3})[1]
    assert split.number == len(set(split.group.tolist())) == count
    told = torch.full((len(coarse),), UNKNOWN)
    told[100:] = torch.arange(count) + 7
    assert set(discover(features, coarse, known=told)[1].names) == set(range(7, 7 + count))


def test_equal_and_broken_features():
    equal = torch.nn.functional.normalize(torch.ones(40, 8), dim=1)
    (one,) = discover(equal, torch.zeros(40, dtype=torch.long), numbers={0: 3})
    assert (one.number, one.outlier.any(), one.confidence.min()) == (1, False, 1)
    with pytest.raises(InputError, match="not finite"):
        discover(equal * torch.nan, torch.zeros(40, dtype=torch.long))


def test_the_same_twice_and_largest_first():
    x, _ = blobs((30, 60, 45), spread=0.4)
    features, coarse = torch.from_numpy(x), torch.zeros(135, dtype=torch.long)
    first, second = (discover(features, coarse, seed=3)[0] for _ in range(2))
    assert (first.group == second.group).all()
    sizes = np.bincount(first.group)
    assert (np.diff(sizes) <= 0).all()
    members = first.members(0)
    assert (first.rank[members] == np.arange(1, len(members) + 1)).all()


def test_judged_against_a_slow_matching():
    x, label = blobs((40, 40, 40), spread=0.6)
    features, fine = torch.from_numpy(x), torch.from_numpy(label)
    coarse = torch.zeros(120, dtype=torch.long)
    divisions = discover(features, coarse, numbers={0: 4})
    scores = judged(features, fine, divisions)
    group = torch.from_numpy(divisions[0].group)
    from itertools import permutations

    best = max(sum((group == g) & (fine == c) for c, g in enumerate(chosen)).double().mean().item()
               for chosen in permutations(range(4), 3))  # fmt: skip
    assert scores["accuracy"] == pytest.approx(best)
    assert matched(group, fine).double().mean().item() == pytest.approx(best)
    halves = (scores["accuracy/confident"] + scores["accuracy/rest"]) / 2
    assert halves == pytest.approx(best)
    assert (scores["number/error"], scores["groups"], scores["classes"]) == (1, 4, 3)
    told = torch.arange(120) >= 20
    assert judged(features, fine, divisions, rest=told)["images"] == 100


# ------------------------------------------------------------------ tables


def test_tables_that_people_write(tmp_path):
    path = tmp_path / "few.csv"
    columns = {"path": ("path", "file"), "fine": ("fine",)}
    for text in (
        "path,fine\na.png,x\n\n",
        "File;fine;more\na.png;x;1\n",
        "\ufefffile\tfine\na.png\t x",
    ):
        path.write_text(text, encoding="utf-8")
        assert spreadsheet.read(path, columns) == [{"path": "a.png", "fine": "x"}]
    for text, message in (
        ("", "is empty"),
        ("path,class\na,b\n", "has columns path, class: expected one of fine"),
        ("path,fine\na\n", "row 1 of .* has 1 cells"),
        ('path,fine\n"a,b\n', "cannot be read as a table"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            spreadsheet.read(path, columns)
    with pytest.raises(InputError, match="cannot be read"):
        spreadsheet.read(tmp_path / "none.csv", columns)


def test_known_labels_find_their_pictures(tmp_path):
    names = [str(tmp_path / f) for f in ("a/1.png", "a/2.png", "b/1.png")] + ["row 3 of x.parquet"]
    path = tmp_path / "few.csv"
    path.write_text(
        f"path,fine\na/1.png,x\n{names[1]},y\nsomewhere/b/1.png,z\nb/1.png,x\n1.png,x\n"
        "row 3 of x.parquet,y\na/2.png,\n"
    )
    told = known.read(path, names)
    assert told.names == ("x", "y", "z")
    assert told.label.tolist() == [0, 1, 0, 1]
    assert told.unmatched == ("somewhere/b/1.png", "1.png")  # no such path; one of two
    assert told.count == 4
    for text, message in (
        ("path,fine\nno.png,x\n", "none of the 1 paths .* is a picture of the data, such as 'no"),
        ("path,fine\na/1.png,\n", "has no fine labels"),
        ("path,fine\na/1.png,x\na/1.png,y\n", "two labels for a/1.png, x and y"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            known.read(path, names)


def test_names_follow_their_typical_pictures(tmp_path):
    x, _ = blobs((30, 20, 25))
    coarse = torch.tensor([0, 1] * 37 + [0])
    divisions = discover(torch.from_numpy(x), coarse, numbers={0: 2, 1: 2})
    groups = naming.groups_of(divisions, ("cats", "dogs"))
    assert [group.id for group in groups] == ["cats 1", "cats 2", "dogs 1", "dogs 2"]
    pictures = [f"/p/{i}.png" for i in range(75)]
    path = tmp_path / "names.csv"
    second = divisions[0].rows[divisions[0].members(1)[0]]
    path.write_text(f"group,name,typical\ncats 1,tabby,/p/{second}.png\ndogs 1,other,\ndogs 2,,\n")
    names = naming.read(path, groups, divisions, pictures)
    assert names == {"cats 2": "tabby", "dogs 1": "other"}
    renamed = naming.renamed(groups, names | {"cats 1": "other"})
    assert [g.name for g in renamed] == ["cats/other", "tabby", "dogs/other", "dogs 2"]
    same = naming.renamed(groups, {"cats 1": "x", "cats 2": "x"})
    assert [g.name for g in same][:2] == ["x", "x"]  # one fine class
    for text, message in (
        ("group,name\nbirds 1,x\n", "names a group 'birds 1', and there is none"),
        ("group,name\ncats 1,x\ncats 1,y\n", "gives cats 1 two names, x and y"),
        ("group,name\ncats 1,\n", "names no group"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            naming.read(path, groups, divisions, pictures)


# ------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with an encoder that has learnt nothing."""
    folder = tmp_path_factory.mktemp("runs") / "x"
    untrained_run(folder, seed=0, image_size=32)
    (folder / "run.json").write_text(
        json.dumps({"config": {"data": "nowhere"}, "precision": "fp32"})
    )
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A person's own pictures: coarse/image, names that HTML and CSV must quote, no fine labels."""
    root = tmp_path_factory.mktemp("data") / "photos"
    split = glyphs.make(train=10, test=240).test
    for row, image in enumerate(split.images.pixels):
        coarse = ('<i>digits</i> & "more", all'.replace("/", "-"), "letters")[
            int(split.coarse[row] > 0)
        ]
        place = root / coarse / f"{row:03d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place)
    few = root.parent / "few.csv"
    fine = [glyphs_name(split, row) for row in range(240)]
    lines = [f"{next(root.glob(f'*/{row:03d}.png')).name},{fine[row]}" for row in range(0, 240, 4)]
    few.write_text("path,fine\n" + "\n".join(lines) + "\n")
    return root


def glyphs_name(split, row) -> str:
    return "".join(glyphs.GROUPS.values())[int(split.fine[row])]


def test_a_persons_own_pictures(run, photos, tmp_path):
    out = tmp_path / "groups"
    done = CliRunner().invoke(cli, ["discover", str(run), str(photos), "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "photos: 240 images in 2 coarse classes\n" in done.output
    summary = json.loads((out / "summary.json").read_text())
    assert [c["images"] for c in summary["coarse"]] == [72, 168]
    assert "judged" not in summary
    assert summary["groups"] == sum(c["number"] for c in summary["coarse"])

    rows = list(csv.DictReader((out / "groups.csv").read_text().splitlines()))
    assert list(rows[0]) == ["path", "coarse", "fine", "group", "confidence", "typical", "outlier"]
    found = find(str(out / "groups.csv"))  # what `maskcon train --data` reads
    assert len(found.parts["train"]) == 240
    assert set(found.fine_names) == {g["id"] for c in summary["coarse"] for g in c["groups"]}
    assert found.parts["train"].pictures.decode(5).shape == (32, 32, 3)

    page = Outline((out / "sheet.html").read_text())
    inputs = page.of("input")
    assert [i["data-group"] for i in inputs] == [
        g["id"] for c in summary["coarse"] for g in c["groups"]
    ]
    assert all(tag != "i" for tag, _ in page.elements)  # class names are no HTML
    links = [attrs.get("src", "") for _, attrs in page.elements]
    assert all(link.startswith("data:") for link in links if link)
    assert "http" not in "".join(page.text)

    names = tmp_path / "names.csv"
    first = inputs[0]
    names.write_bytes(spreadsheet.write(
        ["group", "name", "images", "typical"],
        [[first["data-group"], 'one, "two"', first["data-images"], first["data-typical"]]],
    ))  # fmt: skip
    words = ["discover", str(run), str(photos), "-o", str(out), "--names", str(names)]
    refused = CliRunner().invoke(cli, words)
    assert "groups.csv exists: give another --out, or --overwrite" in str(refused.exception)
    done = CliRunner().invoke(cli, [*words, "--overwrite"])
    assert done.exit_code == 0, done.output
    assert 'one, "two"' in find(str(out / "groups.csv")).fine_names


def test_names_are_written_on_the_page(run, photos, tmp_path, browser):
    """Typed into a real page, saved with its button, and read by the command."""
    out = tmp_path / "groups"
    commands.discover(run, photos, out=out)
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    browser.get((out / "sheet.html").as_uri())
    field = browser.find_element("css selector", "input")
    group = field.get_attribute("data-group")
    field.send_keys('one, "two"\n')
    assert wait(browser, "document.activeElement !== document.querySelector('input')")
    assert wait(browser, "document.getElementById('count').textContent").startswith("1 of ")
    browser.find_element("id", "save").click()
    names, deadline = tmp_path / "names.csv", time.monotonic() + 30
    while not names.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    (row,) = csv.DictReader(names.read_text().splitlines())
    assert (row["group"], row["name"]) == (group, 'one, "two"')
    commands.discover(run, photos, out=tmp_path / "named", names=names)
    assert 'one, "two"' in find(str(tmp_path / "named" / "groups.csv")).fine_names


def test_known_labels_and_numbers(run, photos, tmp_path):
    few = photos.parent / "few.csv"
    found = commands.discover(
        run / "encoder.safetensors",
        photos,
        out=tmp_path / "g",
        known=few,
        groups={"letters": 30},
    )
    digits, letters = found["coarse"]
    assert letters["number"] == 30
    assert letters["how"] == "given"
    named = {line.split(",")[1] for line in few.read_text().splitlines()[1:]}
    assert named & set("0123456789") == {g["name"] for g in digits["groups"]} & set("0123456789")
    assert digits["number"] >= len(named & set("0123456789"))
    assert found["known"]["images"] == 60
    assert 0 <= found["known"]["right"] <= found["known"]["tested"] <= 60
    rows = list(csv.DictReader((tmp_path / "g" / "groups.csv").read_text().splitlines()))
    told = {row["path"][-7:]: row["fine"] for row in rows if row["known"] == "1"}
    for line in few.read_text().splitlines()[1:]:
        path, fine = line.split(",")
        assert told[path].rpartition("/")[2] == fine


def test_pictures_that_are_no_files(run, tmp_path):
    data = glyphs.make(train=120, test=50)
    parts = [(s.images.pixels, s.coarse.tolist(), s.fine.tolist()) for s in (data.train, data.test)]
    arrays = from_arrays(*parts[0], test=parts[1], name="drawn")
    found = commands.discover(run, arrays, out=tmp_path / "a", groups=3)
    assert {"accuracy", "ari", "accuracy/true_number", "number/error"} <= set(found["judged"])
    assert find_fails(tmp_path / "a" / "groups.csv") == "expected one for the image"
    commands.discover(run, arrays, out=tmp_path / "b", groups=3, pictures=True)
    again = find(str(tmp_path / "b" / "groups.csv"))
    assert {name: len(part) for name, part in again.parts.items()} == {"train": 120, "test": 50}
    assert (
        again.parts["train"].pictures.decode(7)
        == data.train.images.pixels[7].permute(1, 2, 0).numpy()
    ).all()
    test = commands.discover(run, arrays, out=tmp_path / "c", groups=3, split="test")
    assert test["images"] == 50


def find_fails(path) -> str:
    with pytest.raises(InputError) as error:
        find(str(path))
    return "expected one for the image" if "expected one for the image" in str(error.value) else ""


def test_a_picture_that_cannot_be_read(run, photos, tmp_path):
    root = tmp_path / "some"
    for i, path in enumerate(sorted(photos.glob("letters/*.png"))[:12]):
        place = root / "letters" / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"no picture" if i == 3 else path.read_bytes())
    with pytest.raises(InputError, match="1 of 12 pictures cannot be read"):
        commands.discover(run, root, out=tmp_path / "g")
    found = commands.discover(run, root, out=tmp_path / "g", skip_unreadable=True)
    assert found["images"] == 11
    assert len((tmp_path / "g" / "groups.csv").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--groups", "cats=2"], "groups of 'cats' were asked for, and there is no such coarse"),
        (["--groups", "0"], "0 groups of .* were asked for; give one or more"),
        (["--groups", "a=b"], "groups is 'a=b': expected a number for every coarse class"),
        (["--split", "test"], "photos has no test split, only train"),
        (["--known", "none.csv"], "there is no table none.csv"),
        (["--names", "none.csv"], "there is no table none.csv"),
        (["--answers", "none.csv"], "there is no table none.csv"),
        (["--ask"], "--ask needs a table to write answers to"),
        (["--granularity", "fine"], "granularity is 'fine': expected finer, coarser or a number"),
        (["--granularity", "0"], "expected finer, coarser, or a number of groups from 1"),
        (["--granularity", "3", "--groups", "3"], "has both --groups and --granularity"),
    ],
)
def test_nonsense(run, photos, tmp_path, words, message):
    done = CliRunner().invoke(
        cli, ["discover", str(run), str(photos), "-o", str(tmp_path / "g"), *words]
    )
    with pytest.raises(InputError, match=message):
        raise done.exception
    assert not (tmp_path / "g").exists()


def test_folders_that_are_none(run, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="'nowhere' is no data set"):
        commands.discover(run, out=tmp_path / "g")  # the run's own
    with pytest.raises(InputError, match="holds no data set"):
        commands.discover(run, tmp_path / "empty", out=tmp_path / "g")
    with pytest.raises(InputError, match=r"has no encoder\.json"):
        commands.discover(tmp_path, photos, out=tmp_path / "g")
    with pytest.raises(InputError, match="is a run folder: give the groups one of their own"):
        commands.discover(run, photos, out=run)
    with pytest.raises(InputError, match="is no folder: make it"):
        commands.discover(run, photos, out=tmp_path / "a" / "b")


def test_class_names_with_commas(run, photos, tmp_path):
    name = '<i>digits<-i> & "more", all'
    found = commands.discover(run, photos, out=tmp_path / "g", groups=f"{name}=3, letters = 2")
    assert [c["number"] for c in found["coarse"]] == [3, 2]
