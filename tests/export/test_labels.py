"""Groups as annotation tools take them: every fact of a format that its makers publish is asked."""

import csv
import json
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from maskcon import commands
from maskcon.cli import cli
from maskcon.discover import spreadsheet
from maskcon.errors import InputError
from maskcon.export import TARGETS, cvat, fiftyone, label_studio
from maskcon.export.labels import Labels, read

TOOLS = [name for name, target in TARGETS.items() if target.of == "groups"]
NAMES = ("cats 1", "cats 2", "cats 10", 'tabby & "co" <x>', "Ölig/wet")


@pytest.fixture
def groups(tmp_path) -> Path:
    """A folder as discover writes it: 12 pictures of two coarse classes, odd names among them."""
    folder, rows = tmp_path / "groups", []
    for row in range(12):
        coarse = "cats" if row < 8 else "dogs & co"
        suffix = ".png" if row % 2 else ".bmp"
        stem = "same.v2" if row < 2 else f"p {row:02d}?é"
        path = tmp_path / "photos" / coarse / (stem + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20 + row, 10), (row, 0, 0)).save(path)
        fine = NAMES[row % 5] if row < 8 else "cats 1"  # a name that both classes have
        rows.append([path, coarse, fine, f"{coarse} 1", f"{row / 12:.4f}", row + 1, 0])
    folder.mkdir()
    head = ["path", "coarse", "fine", "group", "confidence", "typical", "outlier"]
    (folder / "groups.csv").write_bytes(spreadsheet.write(head, rows))
    return folder


def rows_of(folder: Path) -> list[dict]:
    with open(folder / "groups.csv", newline="") as file:
        return list(csv.DictReader(file))


def label_of(row: dict) -> str:
    """By the eye: "cats 1" is in both classes."""
    return f"{row['coarse']}/{row['fine']}" if row["fine"] == "cats 1" else row["fine"]


@pytest.mark.parametrize("to", TOOLS)
def test_as_typed(to, groups, monkeypatch):
    done = CliRunner().invoke(cli, ["export", str(groups), "--to", to])
    assert done.exit_code == 0, done.output
    assert "12 images with 6 labels" in done.output
    made = groups / to
    assert {path.name for path in made.iterdir() if path.name[0] != "."} == {
        Path(file).name for file in re.findall(r"written: (\S+)", done.output)
    }
    with pytest.raises(InputError, match="--overwrite"):
        commands.export(groups, to=to)
    before = {path: path.read_bytes() for path in made.iterdir()}
    commands.export(groups, to=to, overwrite=True)
    assert {path: path.read_bytes() for path in made.iterdir()} == before


def test_label_studio(groups):
    """https://labelstud.io/guide/predictions: data, predictions, result; names as in the tags."""
    done = commands.export(groups, to="label-studio")
    tasks = json.loads((groups / "label-studio" / "tasks.json").read_text())
    view = ElementTree.parse(groups / "label-studio" / "interface.xml").getroot()
    picture, choices = view.find("Image"), view.find("Choices")
    assert view.tag == "View"
    assert picture.get("value") == "$image"
    assert choices.get("toName") == picture.get("name")
    values = [choice.get("value") for choice in choices]
    assert len(values) == len(set(values)) == done["labels"]
    home = groups.parent / "photos"
    for row, task in zip(rows_of(groups), tasks, strict=True):
        assert set(task) == {"data", "predictions"}
        address = urlsplit(task["data"]["image"])
        assert address.path == "/data/local-files/"
        (place,) = parse_qs(address.query, strict_parsing=True)["d"]
        assert home / place == Path(row["path"])
        assert task["data"]["coarse"] == row["coarse"]
        (prediction,) = task["predictions"]
        assert prediction["score"] == float(row["confidence"])
        (result,) = prediction["result"]
        assert result["type"] == "choices"
        assert (result["from_name"], result["to_name"]) == (
            choices.get("name"),
            picture.get("name"),
        )
        assert result["value"]["choices"] == [label_of(row)]
        assert label_of(row) in values


def test_label_studio_by_its_own_rules(groups):
    interface = pytest.importorskip("label_studio_sdk.label_interface")
    commands.export(groups, to="label-studio")
    rules = interface.LabelInterface((groups / "label-studio" / "interface.xml").read_text())
    rules.validate()
    for task in json.loads((groups / "label-studio" / "tasks.json").read_text()):
        assert rules.validate_task({"data": task["data"]})
        assert all(rules.validate_prediction(one) for one in task["predictions"])


def test_cvat(groups):
    """https://docs.cvat.ai/docs/manual/advanced/xml_format, version 1.1, images, tags."""
    commands.export(groups, to="cvat", root=groups.parent)
    top = ElementTree.parse(groups / "cvat" / "annotations.xml").getroot()
    assert [child.tag for child in top] == ["version", "meta"] + ["image"] * 12
    assert top.findtext("version") == "1.1"
    assert top.findtext("meta/task/size") == "12"
    assert top.findtext("meta/task/mode") == "annotation"
    known = [label.findtext("name") for label in top.iterfind("meta/task/labels/label")]
    assert {label.findtext("type") for label in top.iterfind("meta/task/labels/label")} == {"tag"}
    raw = json.loads((groups / "cvat" / "labels.json").read_text())
    assert [label["name"] for label in raw] == known
    for number, (row, image) in enumerate(zip(rows_of(groups), top.iterfind("image"), strict=True)):
        assert image.get("id") == str(number)
        assert groups.parent / image.get("name") == Path(row["path"])
        with Image.open(row["path"]) as picture:
            assert (image.get("width"), image.get("height")) == tuple(map(str, picture.size))
        (tag,) = image
        assert tag.tag == "tag"
        assert tag.get("label") == label_of(row)
        assert tag.get("label") in known
        (attribute,) = tag
        allowed = [a["name"] for a in raw[known.index(tag.get("label"))]["attributes"]]
        assert attribute.get("name") in allowed
        assert attribute.text == row["coarse"]


def test_fiftyone(groups):
    """https://docs.voxel51.com/user_guide/import_datasets.html: uuids, classes, targets.

    FiftyOne joins names of data.json without their endings to those of labels.json.
    """
    commands.export(groups, to="fiftyone")
    data = json.loads((groups / "fiftyone" / "data.json").read_text())
    told = json.loads((groups / "fiftyone" / "labels.json").read_text())
    assert set(told) == {"classes", "labels"}
    paths = {name.rpartition(".")[0]: path for name, path in data.items()}
    assert len(paths) == len(data) == 12  # two are same.v2, of different endings
    assert set(paths) == set(told["labels"])
    found = {paths[name]: label for name, label in told["labels"].items()}
    for row in rows_of(groups):
        label = found[row["path"]]
        assert told["classes"][label["label"]] == label_of(row)
        assert label["confidence"] == float(row["confidence"])
        assert label["attributes"] == {"coarse": row["coarse"]}


def test_fiftyone_and_cvat_by_the_readers_of_fiftyone(groups):
    data = pytest.importorskip("fiftyone.utils.data")
    from fiftyone.utils.cvat import CVATImageDatasetImporter

    folder = commands.export(groups, to="fiftyone")["out"]
    reader = data.FiftyOneImageClassificationDatasetImporter(folder, data_path="data.json")
    reader.setup()
    found = {path: label for path, _, label in reader}
    file = groups / "cvat" / "annotations.xml"
    commands.export(groups, to="cvat")
    other = CVATImageDatasetImporter(data_path=str(groups.parent / "photos"), labels_path=str(file))
    other.setup()
    tagged = {path: label["classifications"].classifications for path, _, label in other}
    for row in rows_of(groups):
        assert found[row["path"]].label == label_of(row)
        assert found[row["path"]]["coarse"] == row["coarse"]
        assert [tag.label for tag in tagged[row["path"]]] == [label_of(row)]


def test_labels_from_python(tmp_path):
    """What a program has at hand goes the same way, without confidence too."""
    for name in ("a.png", "b.png"):
        Image.new("RGB", (4, 3)).save(tmp_path / name)
    labels = Labels(
        tuple(str(tmp_path / n) for n in ("a.png", "b.png")), ("x", "x"), ("x 2", "x 10")
    )
    assert labels.names == ("x 2", "x 10")
    for module in (label_studio, cvat, fiftyone):
        done = module.write(labels, tmp_path / module.__name__.rpartition(".")[2])
        assert (done["images"], done["labels"]) == (2, 2)
        assert all(Path(file).is_file() for file in done["files"])
    (task, _) = json.loads((tmp_path / "label_studio" / "tasks.json").read_text())
    assert "score" not in task["predictions"][0]
    told = json.loads((tmp_path / "fiftyone" / "labels.json").read_text())["labels"]
    assert told["a"] == {"label": 0, "attributes": {"coarse": "x"}}


def test_pictures_that_discover_wrote(tmp_path):
    """Their paths are relative to the folder, wherever it has gone since."""
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (4, 3)).save(tmp_path / "pictures" / "0000000.png")
    (tmp_path / "groups.csv").write_text("path,coarse,fine\npictures/0000000.png,a,a 1\n")
    labels = read(tmp_path)
    assert labels.paths == (str(tmp_path / "pictures" / "0000000.png"),)
    assert labels.confidence is None
    assert labels.inside(tmp_path) == ["pictures/0000000.png"]


def test_confidence_is_that_of_the_table(groups):
    told = [float(row["confidence"]) for row in rows_of(groups)]
    assert np.array_equal(read(groups).confidence, told)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (None, {}, "has no groups.csv: expected the folder of groups that `maskcon discover"),
        ("path,coarse,fine\n", {}, "has no rows"),
        ("name,coarse,fine\nimage 3 of it,a,a 1\n", {}, "run discover again with --pictures"),
        ("path,coarse\nx.png,a\n", {}, "expected one of fine"),
        ("path,coarse,fine,confidence\nx.png,a,a 1,much\n", {}, "confidence that is no number"),
        ("path,coarse,fine\nx.png,a,a 1\n", {"root": "elsewhere"}, "give --root a folder that all"),
        ("path,coarse,fine\nx.png,a,a 1\n", {"data": "photos"}, "does not take data: it is of the"),
        ("path,coarse,fine\nx.png,a,a 1\n", {"workers": 2}, "does not take workers: it is of the"),
        ("path,coarse,fine\nx.png,a,a 1\n", {"license": "mit"}, "does not take license: it takes"),
        ("path,coarse,fine\nx.png,a,a 1\n", {}, "x.png"),  # which is not there
        ("path,coarse,fine\nx.png,a,a\x01b\n", {}, "XML cannot hold the name"),
    ],
)
def test_nonsense(table, options, message, tmp_path):
    if table is not None:
        (tmp_path / "groups.csv").write_text(table)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=re.escape(message)):
        commands.export(tmp_path, to="cvat", **options)
    assert sorted(tmp_path.iterdir()) == before
