"""People's own data: every form, every kind of picture, and what can be wrong with them."""

import csv
import io
import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from maskcon import commands
from maskcon.config import Config, resolve
from maskcon.data import Columns, DataSet, Found, find, fitting_size, from_arrays, hold, load
from maskcon.data.image_file import decode
from maskcon.data.images import IMAGENET_STATISTICS, OnDisk
from maskcon.data.loader import cut_picture
from maskcon.data.pictures import Arrays, Files
from maskcon.errors import InputError, Interrupted, TrainingError
from maskcon.eval.recall import pixel_recall
from maskcon.runs.recorder import FolderRecorder
from maskcon.train.loop import fit
from maskcon.train.state import Training
from tests.conftest import typed

CLASSES = {"fruit": ("apple", "pear"), "fish": ("trout", "carp")}
FINE = [f"{coarse}/{fine}" for coarse, fines in sorted(CLASSES.items()) for fine in sorted(fines)]
SMALL = {
    "backbone": "resnet10w8",
    "epochs": 2,
    "warmup_epochs": 0.5,
    "batch_size": 8,
    "bank_size": 24,
    "log_every": 1,
    "eval_every": 1,
    "precision": "fp32",
}


def picture(row: int, size: int) -> np.ndarray:
    """Smooth colours that differ from row to row: uint8 [size, size, 3]."""
    random = np.random.default_rng(row)
    coarse = random.integers(256, size=(5, 5, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def encoded(image: np.ndarray, kind: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind)
    return buffer.getvalue()


def rows(part: str, size: int) -> list[tuple[str, str, np.ndarray]]:
    """(coarse, fine, picture) in the order of a tree's paths."""
    count, start = (10, 0) if part == "train" else (4, 1000)
    return [
        (*name.split("/"), picture(start + 100 * c + i, size))
        for c, name in enumerate(FINE)
        for i in range(count)
    ]


def write_tree(root: Path, size: int = 32, parts=("train", "test"), fine: bool = True) -> None:
    for part in parts:
        for number, (coarse, name, image) in enumerate(rows(part, size)):
            place = root / (part if len(parts) > 1 else "") / coarse / (name if fine else "")
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:03d}.png").write_bytes(encoded(image))


def table(root: Path, size: int = 32) -> list[dict[str, str]]:
    """Writes the pictures in one heap; returns the rows of a table in the tree's order."""
    (root / "heap").mkdir(parents=True)
    cells = []
    for part in ("train", "test"):
        for number, (coarse, fine, image) in enumerate(rows(part, size)):
            name = f"heap/{part}{number:03d}.png"
            (root / name).write_bytes(encoded(image))
            cells.append({"path": name, "coarse": coarse, "fine": fine, "split": part})
    return cells


def write_csv(path: Path, cells: list[dict], delimiter: str = ",") -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(cells[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(cells)


def make_csv(root: Path, size: int) -> str:
    write_csv(root / "set.csv", table(root, size))
    return str(root / "set.csv")


def make_tsv(root: Path, size: int) -> str:
    write_csv(root / "set.tsv", table(root, size), "\t")
    (root / "set.tsv").write_text("\n" + (root / "set.tsv").read_text())  # as some programs begin
    return str(root / "set.tsv")


def make_jsonl(root: Path, size: int) -> str:
    lines = [json.dumps(row) for row in table(root, size)]
    (root / "set.jsonl").write_text("\n".join(lines) + "\n\n")
    return str(root / "set.jsonl")


def make_parquet_of_paths(root: Path, size: int) -> str:
    pq.write_table(pa.Table.from_pylist(table(root, size)), root / "set.parquet")
    return str(root / "set.parquet")


def hugging_face(size: int, part: str) -> pa.Table:
    """Images as {bytes, path}, class names in the metadata."""
    coarse, names = sorted(CLASSES), [name.split("/")[1] for name in FINE]
    cells = [
        {
            "picture": {"bytes": encoded(image), "path": None},
            "group": coarse.index(group),
            "species": names.index(fine),
        }
        for group, fine, image in rows(part, size)
    ]
    features = {
        "group": {"names": coarse, "_type": "ClassLabel"},
        "species": {"names": names, "_type": "ClassLabel"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.Table.from_pylist(cells).replace_schema_metadata(metadata)


def make_shards(root: Path, size: int) -> str:
    (root / "data").mkdir(parents=True)
    for part in ("train", "test"):
        whole = hugging_face(size, part)
        half = len(whole) // 2
        for number, shard in enumerate((whole.slice(0, half), whole.slice(half))):
            pq.write_table(shard, root / "data" / f"{part}-{number:05d}-of-00002.parquet")
    return str(root)


def make_saved(root: Path, size: int) -> str:
    """As datasets.DatasetDict.save_to_disk writes it."""
    for part in ("train", "test"):
        folder = root / part
        folder.mkdir(parents=True)
        whole = hugging_face(size, part)
        name = "data-00000-of-00001.arrow"
        with (
            pa.OSFile(str(folder / name), "wb") as file,
            pa.ipc.new_stream(file, whole.schema) as w,
        ):
            for batch in whole.to_batches(max_chunksize=7):
                w.write_batch(batch)
        state = {"_data_files": [{"filename": name}], "_split": part}
        (folder / "state.json").write_text(json.dumps(state))
        (folder / "dataset_info.json").write_text("{}")
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test"]}))
    return str(root)


def make_tree(root: Path, size: int) -> str:
    write_tree(root, size)
    return str(root)


def make_arrays(root: Path, size: int):
    given = {part: list(zip(*rows(part, size), strict=True)) for part in ("train", "test")}
    (coarse, fine, images), test = given["train"], given["test"]
    return from_arrays(np.stack(images), coarse, fine, test=(np.stack(test[2]), test[0], test[1]))


FORMS = {
    "tree": make_tree,
    "csv": make_csv,
    "tsv": make_tsv,
    "jsonl": make_jsonl,
    "parquet of paths": make_parquet_of_paths,
    "hugging face shards": make_shards,
    "hugging face, saved": make_saved,
    "arrays": make_arrays,
}
COLUMNS = {"image_column": "picture", "coarse_column": "group", "fine_column": "species"}


def fitted(found: Found, folder: Path, **changes) -> str:
    """The metrics of a short run."""
    config = resolve({**SMALL, **changes})
    data = load(found, image_size=config.image_size, workers=2)
    folder.mkdir(exist_ok=True)
    fit(Training(config, data), data, FolderRecorder(folder))
    return (folder / "metrics.jsonl").read_text()


def columns(form: str) -> dict[str, str]:
    return COLUMNS if form.startswith("hugging") else {}


def test_the_form_changes_nothing(tmp_path):
    """The same rows in every form: the same losses and recalls, to the last digit."""
    lines = {}
    for form, make in FORMS.items():
        found = find(make(tmp_path / form, 32), columns=Columns(*_of(form)))
        lines[form] = fitted(found, tmp_path / "run", image_size=32, epochs=1)
    assert len(set(lines.values())) == 1
    assert '"recall@1"' in lines["tree"]


@pytest.mark.heavy
def test_the_form_changes_nothing_that_workers_read(tmp_path):
    """Once for each way in which pictures are kept, of those that are too large for memory."""
    lines = []
    for form in ("tree", "hugging face shards", "hugging face, saved", "arrays"):
        found = find(FORMS[form](tmp_path / form, 80), columns=Columns(*_of(form)))
        lines.append(fitted(found, tmp_path / "run", image_size=72, epochs=1))
    assert len(set(lines)) == 1


@pytest.mark.parametrize("form", FORMS)
def test_what_a_form_says(tmp_path, form):
    found = find(FORMS[form](tmp_path / "set", 32), columns=Columns(*_of(form)))
    assert found.coarse_names == ("fish", "fruit")
    assert [name.rpartition("/")[2] for name in found.fine_names] in (
        ["carp", "trout", "apple", "pear"],
        ["apple", "carp", "pear", "trout"],
    )
    for part, count in (("train", 40), ("test", 16)):
        assert len(found.parts[part]) == count
        for row, (coarse, fine, image) in enumerate(rows(part, 32)):
            mine = found.parts[part]
            assert found.coarse_names[mine.coarse[row]] == coarse
            assert found.fine_names[mine.fine[row]].rpartition("/")[2] == fine
            assert np.array_equal(mine.pictures.decode(row), image)


def _of(form: str) -> list[str | None]:
    return [columns(form).get(f"{role}_column") for role in ("image", "coarse", "fine", "split")]


def test_a_split_is_made_stratified_and_recorded(tmp_path):
    write_tree(tmp_path / "set", parts=("train",))
    run = commands.train(data=tmp_path / "set", out=tmp_path / "run", **SMALL)
    assert run["data"]["made_split"] == {"share": 0.2, "seed": 0}
    assert (run["data"]["train"], run["data"]["test"]) == (32, 8)
    lines = list(csv.DictReader((tmp_path / "run" / "split.csv").read_text().splitlines()))
    test = [Path(line["image"]).parent.name for line in lines if line["split"] == "test"]
    assert sorted(test) == sorted(["carp", "trout", "apple", "pear"] * 2)
    assert len(lines) == 40
    again = commands.eval(tmp_path / "run", precision="fp32")
    assert again["recall@1"] == run["results"]["recall@1"]
    other = find(str(tmp_path / "set")).with_test(0.2, 1)
    names = {other.parts["test"].pictures.name(row) for row in range(8)}
    assert names != {line["image"] for line in lines if line["split"] == "test"}


def test_eval_of_a_set_without_a_split_takes_all_of_it(tmp_path):
    write_tree(tmp_path / "set")
    write_tree(tmp_path / "other", parts=("train",))
    commands.train(data=tmp_path / "set", out=tmp_path / "run", **SMALL)
    assert commands.eval(tmp_path / "run", data=tmp_path / "other")["images"] == 40


def test_tiny_classes_keep_an_image_to_train_on():
    arrays = from_arrays([picture(row, 8) for row in range(7)], list("aaaaabc"))
    split = arrays.with_test(0.5, 0)
    assert len(split.parts["test"]) == 2
    assert set(split.parts["train"].coarse.tolist()) == {0, 1, 2}
    with pytest.raises(InputError, match="2 images in 2 classes: too few to leave some out"):
        from_arrays([picture(row, 8) for row in range(2)], list("ab")).with_test(0.5, 0)


def test_coarse_labels_only(tmp_path):
    write_tree(tmp_path / "set", fine=False)
    run = commands.train(data=tmp_path / "set", out=tmp_path / "run", **SMALL)
    assert run["data"]["fine"] == 0
    assert set(run["results"]) == {*(f"recall@{k}/coarse" for k in (1, 2, 5, 10)), "best", "pixels"}
    card = (tmp_path / "run" / "README.md").read_text()
    assert "no fine labels, so the recall of fine classes is unknown" in card
    again = commands.eval(tmp_path / "run", precision="fp32")
    assert again["recall@1/coarse"] == run["results"]["recall@1/coarse"]


def test_splits_by_other_names(tmp_path):
    write_tree(tmp_path / "set")
    (tmp_path / "set" / "test").rename(tmp_path / "set" / "val")
    found = find(str(tmp_path / "set"))
    assert found.notes == ("the validation split serves as the test split",)
    assert len(found.parts["test"]) == 16
    write_tree(tmp_path / "set", parts=("train", "test"))
    found = find(str(tmp_path / "set"))
    assert [*found.parts] == ["train", "test", "validation"]
    assert found.notes == ()
    trains = found.with_test(0.2, 0)
    assert [*trains.parts] == ["train", "test", "validation"]
    commands.pack(tmp_path / "set", tmp_path / "set.pack")
    packed = find(str(tmp_path / "set.pack"))
    assert {name: len(part) for name, part in packed.parts.items()} == {
        name: len(part) for name, part in found.parts.items()
    }


# Pictures -----------------------------------------------------------------------------------


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def oblong(mode: str = "RGB") -> Image.Image:
    """40 x 20, left half dark, right half light."""
    image = Image.new("L", (40, 20), 30)
    image.paste(220, (20, 0, 40, 20))
    return image.convert(mode)


def left_and_right(content: bytes) -> tuple[list[int], list[int]]:
    picture = decode(content, "it")
    assert picture.dtype == np.uint8
    assert picture.shape == (20, 40, 3)
    return picture[10, 5].tolist(), picture[10, 35].tolist()


@pytest.mark.parametrize(
    ("content", "tolerance"),
    [
        (saved(oblong(), "png"), 0),
        (saved(oblong(), "jpeg", quality=95), 3),
        (saved(oblong("L"), "png"), 0),
        (saved(oblong("L"), "jpeg", quality=95), 3),
        (saved(oblong("P"), "png"), 0),
        (saved(oblong("P"), "gif"), 0),
        (saved(oblong("RGBA"), "png"), 0),
        (saved(oblong("LA"), "png"), 0),
        (saved(oblong("CMYK"), "jpeg", quality=95), 3),
        (saved(oblong(), "webp", lossless=True), 0),
        (saved(oblong(), "bmp"), 0),
        (saved(oblong(), "tiff"), 0),
        (saved(oblong("F"), "tiff"), 0),
        (saved(Image.fromarray(np.array(oblong("L"), np.uint16) * 257), "png"), 0),
        (saved(Image.fromarray(np.array(oblong("L"), np.uint16) * 257), "tiff"), 0),
        (saved(oblong(), "gif", save_all=True, append_images=[oblong().rotate(180)]), 0),
        (saved(oblong(), "png", save_all=True, append_images=[oblong().rotate(180)]), 0),
    ],
)
def test_kinds_of_pictures(content, tolerance):
    dark, light = left_and_right(content)
    assert all(abs(level - 30) <= tolerance for level in dark)
    assert all(abs(level - 220) <= tolerance for level in light)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduce", [1, 2])
def test_exif_turns_the_picture(tmp_path, orientation, reduce):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (96, 64))
    image.paste((255, 0, 0), (0, 0, 48, 32))  # red, top left
    (tmp_path / "x.jpg").write_bytes(saved(image, "jpeg", exif=exif, quality=95))
    seen = decode(tmp_path / "x.jpg", "it", reduce)
    assert Files([tmp_path / "x.jpg"]).size(0) == ((64, 96) if orientation < 5 else (96, 64))
    height, width = seen.shape[:2]
    corner = {
        (y, x): seen[y * (height - 9) + 4, x * (width - 9) + 4, 0] > 128
        for y in (0, 1)
        for x in (0, 1)
    }
    # where EXIF 2.32 says that row 0 and column 0 are: (0, 0) is top left
    places = {
        1: (0, 0),
        2: (0, 1),
        3: (1, 1),
        4: (1, 0),
        5: (0, 0),
        6: (0, 1),
        7: (1, 1),
        8: (1, 0),
    }
    assert [place for place, red in corner.items() if red] == [places[orientation]]


def test_transparency_lies_on_white():
    image = Image.new("RGBA", (8, 8), (200, 0, 0, 0))
    assert decode(saved(image, "png"), "it").min() == 255
    palette = Image.new("P", (8, 8), 3)
    palette.putpalette([10 * i for i in range(24)])
    assert decode(saved(palette, "png", transparency=3), "it").min() == 255


def test_sizes_at_the_limits(tmp_path):
    assert decode(saved(Image.new("RGB", (1, 1), (1, 2, 3)), "png"), "it").tolist() == [[[1, 2, 3]]]
    wide = saved(Image.new("L", (20_000, 30)), "png")
    assert decode(wide, "it").shape == (30, 20_000, 3)
    for side in (9_500, 14_000):  # beyond ours, and beyond Pillow's own
        (tmp_path / "huge.png").write_bytes(saved(Image.new("1", (side, side)), "png"))
        with pytest.raises(
            InputError, match=rf"huge\.png .*{Config.max_pixels:,}.* make it smaller"
        ):
            decode(tmp_path / "huge.png", str(tmp_path / "huge.png"))
    levels = np.full((4, 4), -3, np.float32)
    with pytest.raises(InputError, match="levels go from -3 to -3: expected 0 to 65,535"):
        decode(saved(Image.fromarray(levels), "tiff"), "it")


def spoil(root: Path) -> dict[str, str]:
    """Unreadable files among the good ones of a tree: path -> what is said of it."""
    place = root / "train" / "fruit" / "apple"
    good = saved(oblong().resize((400, 300)), "jpeg")
    bad = {
        "a.jpg": (good[: len(good) // 2], "truncated"),
        "b.jpg": (b"", "it is empty"),
        "c.png": (b"this is a text", "it is no image of a known format"),
        "d.png": (encoded(picture(0, 32))[:60], "cannot be read as an image"),
    }
    for name, (content, _) in bad.items():
        (place / name).write_bytes(content)
    (place / "e.png").symlink_to(root / "nowhere.png")
    return {str(place / n): why for n, (_, why) in bad.items()} | {
        str(place / "e.png"): "there is no such file"
    }


@pytest.mark.parametrize("image_size", [32, pytest.param(72, marks=pytest.mark.heavy)])
def test_unreadable_pictures(tmp_path, image_size):
    write_tree(tmp_path / "set")
    bad = spoil(tmp_path / "set")
    options = {"data": tmp_path / "set", "out": tmp_path / "run", "image_size": image_size, **SMALL}
    with pytest.raises(InputError) as caught:
        commands.train(**options)
    message = str(caught.value)
    assert "5 of 45 pictures cannot be read" in message
    assert "--skip-unreadable" in message
    for name, why in bad.items():
        assert any(name in line and why in line for line in message.splitlines()), name
    assert not (tmp_path / "run").exists()
    run = commands.train(**options, skip_unreadable=True)
    assert run["data"]["train"] == 40
    listed = list(csv.DictReader((tmp_path / "run" / "skipped.csv").read_text().splitlines()))
    assert {line["image"] for line in listed} == set(bad)
    done = commands.index(tmp_path / "run", out=tmp_path / "x.index")  # as it was trained
    assert len(done["skipped"]) == len(bad)

    write_tree(tmp_path / "clean")
    clean = fitted(find(str(tmp_path / "clean")), tmp_path / "other", image_size=image_size)
    assert clean == (tmp_path / "run" / "metrics.jsonl").read_text()


def test_data_that_were_moved_since_are_asked_for(tmp_path):
    write_tree(tmp_path / "set")
    run = tmp_path / "run"
    commands.train(data=tmp_path / "set", out=run, **SMALL)
    (tmp_path / "set").rename(tmp_path / "there")
    message = r"It is what .*run was trained with: if it was moved, give its place now"
    for look in (
        lambda **data: commands.eval(run, **data),
        lambda **data: commands.discover(run, out=tmp_path / "groups", **data),
        lambda **data: commands.embed(run, out=tmp_path / "x.parquet", **data),
    ):
        with pytest.raises(InputError, match=message):
            look()
        look(data=tmp_path / "there")


# Tables that are wrong ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "", "has no rows"),
        ("t.csv", "path,coarse\n", "has no rows"),
        ("t.csv", "file_id,coarse\n1,a\n", "columns file_id, coarse: expected one for the image"),
        (
            "t.csv",
            "path,kind\nx.png,a\n",
            "expected one for the coarse label; name it",
        ),
        ("t.csv", "path,coarse\nx.png,a,b\n", "row 0 of .* has 3 cells, and the head has 2"),
        (
            "t.csv",
            "path,coarse\nx.png,a\ny.png,\n",
            "1 of 2 rows of .* have no coarse label",
        ),
        (
            "t.csv",
            "path,coarse,fine\nx.png,a,\ny.png,a,b\n",
            "1 of 2 rows of .* have no fine label.*--fine-column none",
        ),
        ("t.csv", "path,coarse,split\nx.png,a,dev\n", "row 0 of .* is of split 'dev': expected"),
        ("t.csv", "path,coarse\n,a\n", "row 0 of .* has '' for a path"),
        ("t.jsonl", '{"path": "x.png"\n', "line 1 of .* is no JSON"),
        ("t.jsonl", "[1]\n", "line 1 of .* is no JSON object"),
        ("t.jsonl", '{"path": "x", "coarse": 1}\n{"path": "y"}\n', "row 1 of .* has no coarse"),
        ("t.jsonl", '{"path": "x", "coarse": [1]}\n', r"label \[1\] of row 0 .* is no class"),
    ],
)
def test_tables_that_are_wrong(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        find(str(tmp_path / name))


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_columns_that_are_empty(tmp_path, suffix):
    """As `maskcon embed` writes them of a set without fine labels or splits."""
    cells = [{**row, "fine": None, "split": None} for row in table(tmp_path)]
    path = tmp_path / f"set.{suffix}"
    if suffix == "csv":
        write_csv(path, cells)
    else:
        pq.write_table(pa.Table.from_pylist(cells), path)
    found = find(str(path))
    assert found.fine_names == ()
    assert list(found.parts) == ["train"]
    assert [note.partition(": ")[2] for note in found.notes] == [
        "the column of fine labels is empty, as if there were none",
        "the column of splits is empty, as if there were none",
    ]


def test_columns_that_are_not_there(tmp_path):
    make_csv(tmp_path, 32)
    with pytest.raises(InputError, match="no column 'genus': it has path, coarse, fine, split"):
        find(str(tmp_path / "set.csv"), columns=Columns(coarse="genus"))
    found = find(str(tmp_path / "set.csv"), columns=Columns(fine="none", split="none"))
    assert found.fine_names == ()
    assert list(found.parts) == ["train"]


def test_missing_files_of_a_table(tmp_path):
    write_csv(tmp_path / "t.csv", [{"path": f"{i}.png", "coarse": "ab"[i % 2]} for i in range(20)])
    with pytest.raises(InputError, match=r"there is no such file(.|\n)*16 of 16 pictures"):
        commands.train(data=tmp_path / "t.csv", out=tmp_path / "run")


def test_numbers_as_class_names(tmp_path):
    cells = [{"path": f"{i}.png", "coarse": f"{i % 12:03d}"} for i in range(24)]
    write_csv(tmp_path / "t.csv", cells)
    assert find(str(tmp_path / "t.csv")).coarse_names == tuple(f"{i:03d}" for i in range(12))
    write_csv(tmp_path / "t.csv", [{**c, "coarse": str(int(c["coarse"]))} for c in cells])
    assert find(str(tmp_path / "t.csv")).coarse_names == tuple(map(str, range(12)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((np.zeros((4, 8, 8, 3)), [0] * 4), r"float64 \[4, 8, 8, 3\]: expected uint8"),
        ((np.zeros((4, 8, 8, 4), np.uint8), [0] * 4), r"\[4, 8, 8, 4\]: expected uint8"),
        ((torch.zeros(4, 8, 8, 3, dtype=torch.uint8), [0] * 4), r"expected uint8 \[N, 3, H, W\]"),
        (([np.zeros((8, 8, 2), np.uint8)], [0]), "train image 0 is of uint8"),
        ((np.zeros((4, 8, 8, 3), np.uint8), [0] * 3), "4 train images have 3 coarse labels"),
        ((np.zeros((4, 8, 8, 3), np.uint8), [0.5] * 4), r"coarse label 0\.5: expected text"),
    ],
)
def test_arrays_that_are_wrong(given, message):
    with pytest.raises(InputError, match=message):
        from_arrays(*given)


def test_arrays_of_many_kinds():
    grey = from_arrays(np.full((3, 5, 6), 7, np.uint8), np.array([1, 0, 1]))
    assert grey.parts["train"].pictures.decode(0).shape == (5, 6, 3)
    mixed = from_arrays([np.zeros((5, 6, 3), np.uint8), np.ones((9, 4), np.uint8)], ["b", "a"])
    assert mixed.parts["train"].pictures.size(1) == (9, 4)
    assert mixed.parts["train"].coarse.tolist() == [1, 0]
    tensor = from_arrays(torch.zeros(2, 3, 5, 6, dtype=torch.uint8), torch.tensor([4, 2]))
    assert tensor.parts["train"].pictures.size(0) == (5, 6)
    assert tensor.coarse_names == ("2", "4")


# Large pictures -----------------------------------------------------------------------------


def test_size_is_chosen_from_the_pictures(tmp_path):
    for side, expected in ((20, 32), (32, 32), (50, 64), (120, 128), (160, 224), (900, 224)):
        arrays = from_arrays([np.zeros((side, side + 9, 3), np.uint8)] * 5, list("ababa"))
        assert fitting_size(arrays) == expected


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A tree of JPEG photographs of two sizes, 60 to train on and 20 to test with."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for part, count in (("train", 60), ("test", 20)):
        for row in range(count):
            which = row % 2
            image = Image.fromarray(load_sample_images().images[which])
            side = int(random.integers(200, 400))
            left, top = (int(random.integers(0, limit - side)) for limit in (640, 427))
            crop = image.crop((left, top, left + side, top + side * 3 // 4))
            place = root / part / ("temple", "flower")[which] / f"{left // 200}"
            place.mkdir(parents=True, exist_ok=True)
            crop = crop.resize((320, 240) if row % 3 else (200, 150))
            crop.save(place / f"{row:03d}.jpg", quality=90)
    return root


LARGE = {**SMALL, "image_size": 72, "batch_size": 10, "epochs": 2, "log_every": 1}


@pytest.mark.heavy
def test_workers_and_resumption_change_nothing(photos, tmp_path, monkeypatch):
    lines = fitted(find(str(photos)), tmp_path / "a", workers=1, **LARGE)
    assert lines == fitted(find(str(photos)), tmp_path / "b", workers=3, **LARGE)

    from maskcon.train import state as loop

    real = loop.Training.step

    def stop_at_8(self, *batch):
        if self.steps == 8:
            raise Interrupted(2)
        return real(self, *batch)

    monkeypatch.setattr(loop.Training, "step", stop_at_8)
    with pytest.raises(Interrupted):
        commands.train(data=photos, out=tmp_path / "c", workers=2, **LARGE)
    monkeypatch.setattr(loop.Training, "step", real)
    run = commands.train(data=photos, out=tmp_path / "c", resume=True)
    assert lines == (tmp_path / "c" / "metrics.jsonl").read_text()
    assert run["config"]["query_view"] == "jitter"
    assert run["config"]["key_view"] == "perspective"


def test_normalisation_of_photos_is_imagenets(photos):
    data = load(find(str(photos)), image_size=72, workers=2)
    assert isinstance(data.train.images, OnDisk)
    assert data.normalisation() == IMAGENET_STATISTICS


@pytest.mark.parametrize("box", [(0, 0, 240, 320), (17, 40, 200, 180), (100, 3, 61, 80)])
def test_cuts_agree_with_pillow(photos, box):
    """torch's integer arithmetic and Pillow's are alike: one level at most. A JPEG that was
    decoded at a half or quarter differs more: box averages come before the triangle filter.
    """
    pictures = Files(sorted(photos.rglob("*.jpg"))[:1])
    if pictures.size(0) != (240, 320):
        pictures = Files(sorted(photos.rglob("*.jpg"))[1:2])
    full = Image.fromarray(pictures.decode(0))
    top, left, height, width = box
    pillow = full.resize(
        (48, 48), Image.Resampling.BILINEAR, box=(left, top, left + width, top + height)
    )
    cut = full.crop((left, top, left + width, top + height))
    pillow = np.array(cut.resize((48, 48), Image.Resampling.BILINEAR)).astype(int)
    exact, fast = torch.empty(2, 48, 48, 3, dtype=torch.uint8)
    cut_picture(pictures, 0, (240, 320), [box], [exact], exact=True)
    assert np.abs(exact.numpy().astype(int) - pillow).max() <= 1
    cut_picture(pictures, 0, (240, 320), [box], [fast])
    assert np.abs(fast.numpy().astype(int) - pillow).mean() < 6


def together(data: DataSet, **options: int) -> torch.Tensor:
    squares = data.test.images.plain(size=40, **options)
    return torch.cat([view.clone() for view in squares])


def test_plain_squares_do_not_depend_on_batches(photos):
    data = load(find(str(photos)), image_size=72, workers=2)
    whole = together(data, workers=2, batch_size=7)
    again = together(data, workers=1, batch_size=50)
    assert whole.shape == (20, 3, 40, 40)
    assert torch.equal(whole, again)
    assert 0 < pixel_recall(data.test)["recall@1"] <= 1


def test_a_picture_that_vanishes_is_named(photos, tmp_path):
    import shutil

    shutil.copytree(photos, tmp_path / "set")
    data = load(find(str(tmp_path / "set")), image_size=72, workers=1)
    gone = data.test.images.pictures.name(3)
    Path(gone).unlink()
    with pytest.raises(TrainingError, match=r"there is no such file; it could be read when the"):
        list(data.test.images.plain(size=40, workers=2, batch_size=7))


# Packs --------------------------------------------------------------------------------------


@pytest.mark.heavy
def test_a_pack_of_pictures_that_fit_changes_nothing(photos, tmp_path):
    """Where nothing is made smaller, the exact pixels come back in their order; JPEGs are
    decoded in full size, so that training sees what it sees without a pack if no picture is
    reduced.
    """
    done = commands.pack(photos, tmp_path / "all.pack", size=1000)
    assert done["images"] == 80
    assert done["skipped"] == []
    there, back = find(str(photos)), find(str(tmp_path / "all.pack"))
    assert back.coarse_names == there.coarse_names
    assert back.fine_names == there.fine_names
    for name, part in there.parts.items():
        assert torch.equal(part.coarse, back.parts[name].coarse)
        assert torch.equal(part.fine, back.parts[name].fine)
        for row in range(len(part)):
            assert np.array_equal(part.pictures.decode(row), back.parts[name].pictures.decode(row))
    large = {**LARGE, "image_size": 130, "epochs": 1}  # no crop is twice this large
    assert fitted(there, tmp_path / "a", **large) == fitted(back, tmp_path / "b", **large)


def test_a_pack_makes_pictures_small(photos, tmp_path):
    commands.pack(photos, tmp_path / "small.pack", size=100)
    back = find(str(tmp_path / "small.pack")).parts["train"].pictures
    assert {min(back.size(row)) for row in range(len(back))} == {100}
    there = find(str(photos)).parts["train"].pictures
    for row in range(5):
        height, width = back.size(row)
        full = Image.fromarray(there.decode(row)).resize((width, height), Image.Resampling.BILINEAR)
        difference = np.array(full).astype(int) - back.decode(row)
        assert np.abs(difference).mean() < 3
    tiny = from_arrays([np.zeros((3, 4, 3), np.uint8)] * 4, list("abab"))
    commands.pack(tiny, tmp_path / "tiny.pack", size=100)
    assert find(str(tmp_path / "tiny.pack")).parts["train"].pictures.size(0) == (3, 4)


def test_packs_that_are_wrong(photos, tmp_path):
    with pytest.raises(InputError, match=r"ends in .*: give OUT a name in \.pack"):
        commands.pack(photos, tmp_path / "all.bin")
    commands.pack(photos, tmp_path / "all.pack", size=60)
    with pytest.raises(InputError, match="exists: give another OUT, or --overwrite"):
        commands.pack(photos, tmp_path / "all.pack")
    content = bytearray((tmp_path / "all.pack").read_bytes())
    (tmp_path / "cut.pack").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"cut\.pack is damaged, or no pack"):
        find(str(tmp_path / "cut.pack"))
    (tmp_path / "text.pack").write_text("no pack")
    with pytest.raises(InputError, match=r"text\.pack is damaged, or no pack"):
        find(str(tmp_path / "text.pack"))
    content[len(content) // 2] ^= 255
    (tmp_path / "flip.pack").write_bytes(content)
    with pytest.raises(InputError, match=r"in .*flip\.pack is damaged: its checksum differs"):
        load(find(str(tmp_path / "flip.pack")), image_size=72)
    bad = tmp_path / "set" / "train"
    (bad / "a").mkdir(parents=True)
    (bad / "a" / "x.png").write_bytes(b"")
    (bad / "a" / "y.png").write_bytes(encoded(picture(0, 32)))
    with pytest.raises(InputError, match=r"x\.png cannot be read .*: mend it, or give --skip-un"):
        commands.pack(tmp_path / "set", tmp_path / "bad.pack")
    assert not list(tmp_path.glob("bad.pack*"))
    done = commands.pack(tmp_path / "set", tmp_path / "bad.pack", skip_unreadable=True)
    assert done["images"] == 1
    assert "x.png" in done["skipped"][0]


# The check ----------------------------------------------------------------------------------


def test_check_of_a_good_set(tmp_path):
    write_tree(tmp_path / "set")
    report = commands.check(tmp_path / "set")
    assert report.wrong == ()
    assert report.facts["splits"] == {"train": 40, "test": 16, "made": False}
    assert report.facts["sizes"]["median"] == [32, 32]
    assert report.facts["classes"]["coarse"]["fish"] == {"train": 20, "test": 8}
    assert report.facts["classes"]["fine"]["fruit/pear"] == {"train": 10, "test": 4}
    assert report.facts["settings"]["image_size"] == 32
    assert report.facts["settings"]["stem"] == "small"
    assert report.facts["settings"]["batch_size"] == 8
    assert report.facts["settings"]["bank_size"] == 40
    run = commands.train(
        data=tmp_path / "set",
        out=tmp_path / "run",
        backbone="resnet10w16",
        epochs=1,
        warmup_epochs=0,
    )
    assert run["config"]["batch_size"] == 8
    assert run["config"]["image_size"] == 32


def test_check_finds_what_is_wrong(tmp_path):
    cells = table(tmp_path, 64)
    cells[3] = {**cells[3], "coarse": "fruit"}  # a carp among the fruit
    cells += [{"path": "heap/train000.png", "coarse": "bird", "fine": "owl", "split": "train"}]
    image = np.clip(picture(105, 64).astype(int) + 2, 0, 255).astype(np.uint8)  # of train
    (tmp_path / "heap" / "near.png").write_bytes(encoded(image))
    cells += [{"path": "heap/near.png", "coarse": "fish", "fine": "trout", "split": "test"}]
    cells += [{"path": "heap/train007.png", "coarse": "fish", "fine": "carp", "split": "test"}]
    cells += [{"path": "heap/no.png", "coarse": "fish", "fine": "carp", "split": "test"}]
    write_csv(tmp_path / "set.csv", cells)
    report = commands.check(tmp_path / "set.csv")
    warnings = "\n".join(report.warnings)
    assert len(report.wrong) == 1
    assert "no.png" in report.wrong[0]
    assert "there is no such file" in report.wrong[0]
    assert "carp: fish, fruit" in warnings
    assert "coarse classes of fewer than 5 train images, 1:\n              bird" in warnings
    facts = report.facts["duplicates"]
    assert facts["exact_across_splits"] == 1
    assert facts["near_across_splits"] == 1
    assert facts["with_two_coarse_labels"] == 1
    assert facts["exact_within_train"] == 1
    assert {Path(name).name for pair in facts["pairs"] for name in pair} == {
        "train007.png",
        "near.png",
        "train015.png",
    }
    assert commands.check(tmp_path / "set.csv", skip_unreadable=True).wrong == ()


def test_check_and_pack_as_commands(tmp_path):
    write_tree(tmp_path / "set", 80)
    done = typed("data", "check", "set", "--json", "report.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "40 train and 16 test images" in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["wrong"] == []
    for file in (tmp_path / "set" / "train" / "fruit").rglob("*.png"):
        file.unlink()
    done = typed("data", "check", "set", cwd=tmp_path)
    assert done.returncode == 1
    assert "wrong:      all train images are of one coarse class" in done.stdout
    done = typed("data", "pack", "set", "set.pack", "--size", "40", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "set.pack: 36 pictures" in done.stdout
    assert typed("data", "check", "nowhere", cwd=tmp_path).returncode == 2


def test_one_class_is_wrong_for_methods_that_read_labels(tmp_path):
    one = from_arrays(
        np.random.default_rng(0).integers(256, size=(9, 8, 8, 3), dtype=np.uint8), ["a"] * 9
    )
    report = commands.check(one)
    assert "one coarse class" in report.wrong[0]
    assert not any("no fine labels" in warning for warning in report.warnings)


def test_memory_of_arrays_is_not_copied():
    images = torch.zeros(6, 3, 32, 32, dtype=torch.uint8)
    split, _ = hold(from_arrays(images, list("ababab")).parts["train"], 32, 1, False, None)
    assert split.images.pixels.data_ptr() == images.data_ptr()
    assert isinstance(Arrays(images).size(0), tuple)


@pytest.mark.heavy
def test_real_cifar100_in_every_form(cifar100_folder, monkeypatch, capsys):
    """benchmarks/forms.py, smaller: a part of the real set, trained on in five forms."""
    script = Path(__file__).parents[2] / "benchmarks" / "forms.py"
    words = [str(script), str(cifar100_folder), "--train", "128", "--test", "64"]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().out.splitlines()
    recalls = {line[8:] for line in said}
    assert len(said) == 5
    assert len(recalls) == 1


# What people run into -----------------------------------------------------------------------


def test_folders_that_are_ambiguous(tmp_path):
    write_tree(tmp_path / "set")
    place = tmp_path / "set" / "annotations"
    place.mkdir()
    assert set(find(str(tmp_path / "set")).parts) == {"train", "test"}  # it has no images
    (place / "x.png").write_bytes(encoded(picture(0, 32)))
    with pytest.raises(InputError, match=r"others with images beside them \(annotations\)"):
        find(str(tmp_path / "set"))
    (place / "x.png").rename(tmp_path / "set" / "train" / "x.png")
    with pytest.raises(InputError, match=r"train/x\.png lies beside the class folders"):
        find(str(tmp_path / "set"))
    with pytest.raises(InputError, match="has no columns: leave out --image-column"):
        find(str(tmp_path / "set"), columns=Columns(fine="none"))


def test_tables_as_spreadsheets_write_them(tmp_path):
    cells = table(tmp_path)
    text = "\ufeffPath,Coarse,Fine,Split\r\n" + "".join(
        ",".join(row.values()) + "\r\n" for row in cells
    )
    (tmp_path / "set.csv").write_text(text, newline="")
    assert len(find(str(tmp_path / "set.csv")).parts["train"]) == 40
    for mark in ";\t":  # as a spreadsheet writes where a comma is in numbers
        (tmp_path / "set.csv").write_text(text.replace(",", mark), newline="")
        assert len(find(str(tmp_path / "set.csv")).parts["train"]) == 40
    (tmp_path / "set.csv").write_bytes("path,coarse\né.png,x\n".encode("utf-16"))
    with pytest.raises(InputError, match="save it as UTF-8"):
        find(str(tmp_path / "set.csv"))
    (tmp_path / "set.csv").write_text("path,coarse,coarse\na.png,x,y\n")
    with pytest.raises(InputError, match="two columns 'coarse'"):
        find(str(tmp_path / "set.csv"))
    later = [{k: v for k, v in cells[0].items() if k != "split"}, *cells[1:]]
    (tmp_path / "set.jsonl").write_text("\n".join(map(json.dumps, later)))
    with pytest.raises(InputError, match=r"row 0 of .* has no split"):
        find(str(tmp_path / "set.jsonl"))


def test_labels_of_arrays_that_are_too_many():
    """Those of one split never become another's."""
    images = np.zeros((10, 8, 8, 3), np.uint8)
    coarse, fine = ["a", "b"] * 5, [*range(10)]
    with pytest.raises(InputError, match=r"12 fine labels"):
        from_arrays(images, coarse, [*fine, 0, 1])
    with pytest.raises(InputError, match=r"12 fine labels"):
        from_arrays(images, coarse, [*fine, 0, 1], test=(images, coarse, fine[:8]))
    with pytest.raises(InputError, match=r"9 coarse labels"):
        from_arrays(images, coarse[:9], fine, test=(images, coarse, fine))
    found = from_arrays(images, coarse, fine, test=(images[:4], coarse[:4], fine[4:8]))
    assert found.parts["test"].fine.tolist() == fine[4:8]


def test_shards_that_number_their_classes_differently(tmp_path):
    make_shards(tmp_path, 32)
    shard = tmp_path / "data" / "test-00001-of-00002.parquet"
    other = pq.read_table(shard)
    info = json.loads(other.schema.metadata[b"huggingface"])
    info["info"]["features"]["group"]["names"].reverse()
    pq.write_table(other.replace_schema_metadata({"huggingface": json.dumps(info)}), shard)
    with pytest.raises(InputError, match="numbers its coarse classes in another order"):
        find(str(tmp_path), columns=Columns("picture", "group", "species"))


def test_names_that_pictures_of_a_report_cannot_take_literally(tmp_path, drawn):
    write_tree(tmp_path / "set")
    (tmp_path / "set" / "train" / "fish").rename(tmp_path / "set" / "train" / "$x^$")
    (tmp_path / "set" / "test" / "fish").rename(tmp_path / "set" / "test" / "$x^$")
    (tmp_path / "set" / "train" / "fruit").rename(tmp_path / "set" / "train" / "_fruit")
    (tmp_path / "set" / "test" / "fruit").rename(tmp_path / "set" / "test" / "_fruit")
    commands.train(data=tmp_path / "set", out=tmp_path / "run", **SMALL)
    assert (tmp_path / "run" / "map.png").exists()


def test_check_of_what_cannot_be_split_or_read(tmp_path):
    report = commands.check(from_arrays(np.zeros((2, 8, 8, 3), np.uint8), list("ab")))
    assert "too few to leave some out" in report.wrong[0]
    (tmp_path / "t.csv").write_text("path,coarse\nx.png,\n")
    assert "no coarse label" in commands.check(tmp_path / "t.csv").wrong[0]
    with pytest.raises(InputError, match="no path that exists"):
        commands.check(tmp_path / "nowhere")


def test_check_looks_at_pictures_of_a_set_that_is_too_small_to_split(tmp_path):
    for name, level in (("cat", 40), ("Cat ", 90), ("nan", 3000)):
        folder = tmp_path / "set" / name
        folder.mkdir(parents=True)
        for i in range(3):
            levels = np.arange(400, dtype=np.uint16).reshape(20, 20) + level * (1 + i)
            Image.fromarray(levels.clip(max=4000)).save(folder / f"{i}.png")
    (tmp_path / "set" / "cat" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    report = commands.check(tmp_path / "set")
    assert "too few to leave some out" in report.wrong[0]
    assert "2.png" in report.wrong[1]
    assert len(report.wrong) == 2  # and nothing is said of the test images that are not there
    told = "\n".join(report.warnings)
    assert "'cat' and 'Cat '" in told or "'Cat ' and 'cat'" in told
    assert "'nan'" in told
    assert "12 bits" in told


@pytest.mark.heavy
def test_a_script_that_ends_with_batches_ready_ends(photos, tmp_path):
    """Workers are daemons: what a script leaves open must not keep it from ending."""
    script = tmp_path / "script.py"
    script.write_text(
        "from maskcon.config import Config, resolve\n"
        "from maskcon.data import find, load\n"
        "from maskcon.train.state import Training\n"
        f"options = {dict(LARGE)!r}\n"
        "config = resolve(options)\n"
        f"data = load(find({str(photos)!r}), image_size=72, workers=1)\n"
        "training = Training(config, data)\n"
        "training.batch()\n"
    )
    subprocess.run([sys.executable, script], check=True, timeout=600)


@pytest.mark.heavy
def test_resumption_with_random_layers(photos, tmp_path, monkeypatch):
    """Stochastic depth draws from torch's global generator, which loaders must leave alone."""
    options = {**LARGE, "backbone": "torchvision/efficientnet_b0", "epochs": 2, "method": "supce"}
    lines = fitted(find(str(photos)), tmp_path / "a", **options)
    real = Training.step

    def stop_at_8(self, *batch):
        if self.steps == 8:
            raise Interrupted(2)
        return real(self, *batch)

    config = resolve(options)
    data = load(find(str(photos)), image_size=72, workers=2)
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(Training, "step", stop_at_8)
    with pytest.raises(Interrupted):
        fit(Training(config, data), data, FolderRecorder(tmp_path / "b"))
    monkeypatch.setattr(Training, "step", real)
    fit(Training(config, data), data, FolderRecorder(tmp_path / "b"), resume=True)
    assert (tmp_path / "b" / "metrics.jsonl").read_text() == lines
