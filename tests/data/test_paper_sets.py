"""The paper's data sets: tiny ones in the layouts that their owners publish, and the real splits
and coarse labels on the level of annotations.
"""

import json
import pickle
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy.io import savemat

from maskcon import commands
from maskcon.cli import cli
from maskcon.cli import reproduce as reproducing
from maskcon.config import read_recipe, recipes
from maskcon.data import DATA_SETS, find
from maskcon.data.sets import cars, cifar, imagenet32, sop
from maskcon.data.sets.named import NamedSet
from maskcon.errors import InputError
from maskcon.eval.protocols import PROTOCOLS
from maskcon.runs import ledger, paper
from maskcon.runs.callbacks import Callback
from tests.conftest import as_found

CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
CARS = (Path(__file__).parent / "cars_names.txt").read_text().splitlines()


# CIFARtoy -----------------------------------------------------------------------------------


def cifar10_rows(part: str) -> tuple[np.ndarray, list[int]]:
    random = np.random.default_rng(part == "test")
    labels = (np.arange(40 if part == "train" else 20) % 10).tolist()
    return random.integers(256, size=(len(labels), 3, 32, 32), dtype=np.uint8), labels


def write_cifar10_archive(root: Path) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    content = {"batches.meta": {b"label_names": [name.encode() for name in CIFAR10]}}
    images, labels = cifar10_rows("train")
    for n in range(5):
        rows = slice(8 * n, 8 * n + 8)
        content[f"data_batch_{n + 1}"] = {
            b"data": images[rows].reshape(8, -1),
            b"labels": labels[rows],
        }
    images, labels = cifar10_rows("test")
    content["test_batch"] = {b"data": images.reshape(20, -1), b"labels": labels}
    for name, entry in content.items():
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))


def png(image: np.ndarray) -> bytes:
    import io

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write_cifar10_parquet(root: Path) -> None:
    root.mkdir(parents=True)
    for part in ("train", "test"):
        images, labels = cifar10_rows(part)
        cells = [{"bytes": png(i.transpose(1, 2, 0)), "path": None} for i in images]
        table = pa.table({"img": cells, "label": labels})
        info = {"info": {"features": {"label": {"names": CIFAR10, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, root / f"{part}-00000-of-00001.parquet")


def write_cifar10_tree(root: Path) -> None:
    for part in ("train", "test"):
        for row, (image, label) in enumerate(zip(*cifar10_rows(part), strict=True)):
            place = root / part / CIFAR10[label]
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row:03d}.png").write_bytes(png(image.transpose(1, 2, 0)))


@pytest.mark.parametrize(
    "write", [write_cifar10_archive, write_cifar10_parquet, write_cifar10_tree]
)
def test_cifartoy(tmp_path, write):
    write(tmp_path / "set")
    for name, groups in (("cifartoy_good", cifar.GOOD), ("cifartoy_bad", cifar.BAD)):
        found = DATA_SETS[name].read(tmp_path / "set")
        assert found.coarse_names == tuple(groups)
        assert len(found.fine_names) == 8
        assert not {"deer", "frog"} & set(found.fine_names)
        for part, rows in found.parts.items():
            images, labels = cifar10_rows(part)
            wanted = {
                image.tobytes(): CIFAR10[label]
                for image, label in zip(images, labels, strict=True)
                if CIFAR10[label] not in ("deer", "frog")
            }
            assert len(rows) == len(wanted)
            for row in range(len(rows)):
                pixels = rows.pictures.decode(row).transpose(2, 0, 1).tobytes()
                fine = found.fine_names[rows.fine[row]]
                assert fine == wanted[pixels]
                assert fine in groups[found.coarse_names[rows.coarse[row]]]
        with pytest.raises(InputError, match=r"not the whole of cifartoy_.*: 32 train images"):
            find(name, data_dir=tmp_path / "set")


@pytest.mark.parametrize(
    "write", [write_cifar10_archive, write_cifar10_parquet, write_cifar10_tree]
)
def test_cifar10_has_labels_of_one_level(tmp_path, write):
    write(tmp_path / "set")
    found = DATA_SETS["cifar10"].read(tmp_path / "set")
    assert (found.name, found.coarse_names, list(found.fine_names)) == (
        "cifar10",
        ("all",),
        CIFAR10,
    )
    for part, rows in found.parts.items():
        images, labels = cifar10_rows(part)
        wanted = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
        seen = {
            rows.pictures.decode(row).transpose(2, 0, 1).tobytes(): int(rows.fine[row])
            for row in range(len(rows))
        }
        assert seen == wanted
        assert not rows.coarse.any()
    with pytest.raises(InputError, match=r"not the whole of cifar10: 40 train images in place of"):
        find("cifar10", data_dir=tmp_path / "set")


def test_groups_of_cifartoy():
    assert set(cifar.GOOD["vehicle"]) == {"airplane", "automobile", "ship", "truck"}
    assert set(cifar.GOOD["animal"]) == {"bird", "cat", "dog", "horse"}
    assert set(cifar.BAD["first"]) == {"airplane", "automobile", "dog", "cat"}
    assert set(cifar.BAD["second"]) == {"ship", "truck", "bird", "horse"}


# ImageNet32 ---------------------------------------------------------------------------------


def write_imagenet32(root: Path, python2: bool = False) -> np.ndarray:
    """Twenty images a batch, labels 1 to 1000; returns the labels of the train images."""
    root.mkdir(parents=True)
    random = np.random.default_rng(0)
    labels = random.permutation(np.arange(1, 1001))[:200]
    for n in range(11):
        name = f"train_data_batch_{n + 1}" if n < 10 else "val_data"
        mine = labels[20 * n : 20 * n + 20] if n < 10 else np.arange(1, 1001)
        data = random.integers(256, size=(len(mine), 3072), dtype=np.uint8)
        entry = {"data": data, "labels": mine.tolist(), "mean": np.zeros(3072)}
        if python2:
            entry = {key.encode(): value for key, value in entry.items()}
        (root / name).write_bytes(pickle.dumps(entry, protocol=2))
    return labels


@pytest.mark.parametrize("python2", [False, True])
def test_imagenet32(tmp_path, python2):
    labels = write_imagenet32(tmp_path / "set", python2)
    found = imagenet32.read(tmp_path / "set")
    order = imagenet32.ilsvrc_of_label()
    assert found.parts["train"].fine.tolist() == [order[label - 1] for label in labels]
    assert sorted(found.parts["test"].fine.tolist()) == list(range(1000))
    counts = found.parts["test"].coarse.bincount().tolist()
    assert counts == [61, 123, 59, 95, 60, 130, 70, 53, 105, 71, 93, 80]
    with pytest.raises(InputError, match="200 train images in place of 1,281,167; 1,000 test im"):
        find("imagenet32", data_dir=tmp_path / "set")
    (tmp_path / "set" / "train_data_batch_7").unlink()
    with pytest.raises(InputError, match=r"but not train_data_batch_7: fetch them from https"):
        find("imagenet32", data_dir=tmp_path / "set")
    with pytest.raises(InputError, match=r"imagenet32 is not in .*: looked for train_data_batch_1"):
        find("imagenet32", data_dir=tmp_path / "elsewhere")


def test_coarse_classes_of_imagenet():
    names, coarse = imagenet32.coarse_classes()
    assert len(coarse) == 1000
    assert [coarse.count(i) for i in range(12)] == [
        *(61, 123, 59, 95, 60, 130, 70, 53, 105, 71, 93, 80)
    ]
    of = dict(zip(range(1000), (names[i] for i in coarse), strict=True))
    assert of[0] == "Reptile/Aquatic vertebrate"  # tench
    assert of[7] == "Bird"  # cock
    assert of[151] == "Domestic animal"  # Chihuahua
    assert of[71] == "Invertebrate"  # scorpion
    assert of[817] == "Vehicle"  # sports car
    assert of[404] == "Vehicle"  # airliner
    assert sorted(imagenet32.ilsvrc_of_label()) == list(range(1000))
    counts = DATA_SETS["imagenet32"].counts()
    assert counts.images == {"train": 1_281_167, "test": 50_000}
    assert sum(counts.per_coarse["test"]) == 50_000


# Stanford Online Products -------------------------------------------------------------------


def products(category: str, first: int, count: int, images: int) -> list[sop.Image]:
    """Products of 8 views or more that have as many images in all; each has a number."""
    views = [8 + (images - 8 * count) // count] * count
    for place in range(images - sum(views)):
        views[place] += 1
    return [
        sop.Image(category, first + number, view)
        for number, n in enumerate(views)
        for view in range(n)
    ]


def test_split1_of_sop():
    """A list with the published counts of products and images on either side of the rule, and
    with products of fewer than eight images, which belong to neither part.
    """
    rules = sop.facts()["split1"]
    images = []
    for category, rule in rules.items():
        last = rule["last_train_product"]
        train, test = (rule["train_products"], rule["test_products"])
        images += products(category, last - train + 1, train, rule["train_images"])
        images += products(category, last + 1, test, rule["test_images"])
        images += [sop.Image(category, last - 10_000, view) for view in range(7)]
    parts = sop.split1(reversed(images))
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 25_368, "test": 25_278}
    fine = {part: {(i.category, i.product) for i in rows} for part, rows in parts.items()}
    assert {part: len(products) for part, products in fine.items()} == {"train": 2517, "test": 2518}
    assert not fine["train"] & fine["test"]
    for category, rule in rules.items():
        mine = [i for i in parts["train"] if i.category == category]
        assert len(mine) == rule["train_images"]
        assert len({i.product for i in mine}) == rule["train_products"]
    counts = DATA_SETS["sop_split1"].counts()
    assert counts.images == {"train": 25_368, "test": 25_278}
    assert counts.fine == 2517 + 2518


def test_split2_of_sop():
    views = sop.facts()["split2_test_views"]
    assert len(views) == 1498
    images = [sop.Image("lamp", int(product), view) for product in views for view in range(12)]
    others = [sop.Image("lamp", 5, view) for view in range(11)]
    parts = sop.split2([*images, *others])
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 14_980, "test": 2_996}
    assert {i.product for i in parts["train"]} == {i.product for i in parts["test"]}
    assert Counter(i.product for i in parts["test"]) == dict.fromkeys(map(int, views), 2)
    assert [i.view for i in parts["test"] if i.product == 111687027218] == [0, 3]
    with pytest.raises(InputError, match="product 7 has 12 images but is not among the 1,498"):
        sop.split2([sop.Image("lamp", 7, view) for view in range(12)])
    counts = DATA_SETS["sop_split2"].counts()
    assert counts.images == {"train": 14_980, "test": 2_996}


def write_sop(root: Path, lists: bool) -> None:
    """Four products: two of eight views around the rule's border, one of twelve, one of three."""
    last = sop.facts()["split1"]["mug"]["last_train_product"]
    sizes = {last: 8, last + 1: 9, 111502876121: 12, 3: 3}
    names = [f"mug_final/{p}_{v}.JPG" for p, count in sizes.items() for v in range(count)]
    (root / "mug_final").mkdir(parents=True)
    for number, name in enumerate(names):
        Image.new("RGB", (20, 10), (number, 0, 0)).save(root / name, "jpeg")
    if lists:
        for part, mine in (("train", names[:15]), ("test", names[15:])):
            rows = [f"{i + 1} 1 1 {name}" for i, name in enumerate(mine)]
            text = "\n".join(["image_id class_id super_class_id path", *rows]) + "\n"
            (root / f"Ebay_{part}.txt").write_text(text)


@pytest.mark.parametrize("lists", [True, False])
def test_sop(tmp_path, lists):
    home = tmp_path / "Stanford_Online_Products"
    write_sop(home, lists)
    found = sop.read(tmp_path, "sop_split1")
    assert found.coarse_names == ("mug",)
    # products are in numeric order, and 111502876121 comes before the last train product
    assert {part: len(rows) for part, rows in found.parts.items()} == {"train": 20, "test": 9}
    assert found.fine_names[0] == "mug/111502876121"
    name = found.parts["train"].pictures.name(1)
    assert name.endswith("mug_final/111502876121_1.JPG")
    found = sop.read(home, "sop_split2")
    assert {part: len(rows) for part, rows in found.parts.items()} == {"train": 10, "test": 2}
    tested = [Path(found.parts["test"].pictures.name(row)).name for row in range(2)]
    assert tested == ["111502876121_8.JPG", "111502876121_9.JPG"]
    with pytest.raises(InputError, match="not the whole of sop_split1: 20 train images in place"):
        find("sop_split1", data_dir=tmp_path)
    if lists:
        (home / "mug_final" / "111502876121_4.JPG").unlink()
        with pytest.raises(InputError, match=r"lacks 1 of the 29 images of sop_split1, mug_final"):
            sop.read(tmp_path, "sop_split1")
        (home / "Ebay_test.txt").unlink()
        with pytest.raises(InputError, match=r"has Ebay_train\.txt alone"):
            sop.read(tmp_path, "sop_split1")
    assert sop.read(tmp_path / "nowhere", "sop_split1") is None


@pytest.mark.parametrize("name", ["mug_final/12.JPG", "12_3.JPG", "mug_final/a_b.JPG", ""])
def test_names_that_are_no_image_of_sop(name):
    with pytest.raises(InputError, match=r"is no image of SOP: expected CATEGORY_final/PRODUCT_V"):
        sop.Image.parse(name)


# Stanford Cars ------------------------------------------------------------------------------


def test_body_types_of_all_196_models():
    assert len(set(CARS)) == 196
    counts = Counter(cars.BODIES[cars.body_of(name)] for name in CARS)
    assert [counts[body] for body in cars.BODIES] == [18, 50, 36, 30, 29, 14, 6, 13]
    assert cars.BODIES[cars.body_of("Ford E-Series Wagon Van 2012")] == "Van"  # the last word
    with pytest.raises(InputError, match="'Tesla Cybertruck' is no class of Stanford Cars"):
        cars.body_of("Tesla Cybertruck")


MODELS = ["Audi TT RS Coupe 2012", "Ram C/V Cargo Van Minivan 2012", "FIAT 500 Abarth 2012"]
CAR_ROWS = {"train": [0, 1, 2, 0, 1], "test": [2, 0, 1]}  # class of each image


def car(part: str, row: int) -> Image.Image:
    return Image.new("RGB", (40, 30), (row * 20, 200 if part == "test" else 0, 0))


def write_first_layout(root: Path) -> None:
    (root / "car_ims").mkdir(parents=True)
    rows = []
    for part, labels in CAR_ROWS.items():
        for row, label in enumerate(labels):
            name = f"car_ims/{len(rows) + 1:06d}.jpg"
            car(part, row).save(root / name)
            rows.append((name, 1, 2, 30, 20, label + 1, int(part == "test")))
    fields = ["relative_im_path", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "test"]
    write_mat(root / "cars_annos.mat", fields, rows, class_names=np.array(MODELS, object))


def write_mat(path: Path, fields: list[str], rows: list[tuple], **more) -> None:
    table = np.zeros((1, len(rows)), [(name, object) for name in fields])
    for place, row in enumerate(rows):
        table[0, place] = row
    savemat(path, {"annotations": table, **more})


def write_torchvision_layout(root: Path) -> None:
    root = root / "stanford_cars"
    fields = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]
    (root / "devkit").mkdir(parents=True)
    for part, labels in CAR_ROWS.items():
        (root / f"cars_{part}").mkdir()
        rows = []
        for row, label in enumerate(labels):
            name = f"{row + 1:05d}.jpg"
            car(part, row).save(root / f"cars_{part}" / name)
            rows.append((1, 2, 30, 20, label + 1, name))
        place = {"train": "devkit/cars_train_annos.mat", "test": "cars_test_annos_withlabels.mat"}
        write_mat(root / place[part], fields, rows)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array(MODELS, object)})


def write_hugging_face_layout(root: Path) -> None:
    (root / "data").mkdir(parents=True)
    for part, labels in CAR_ROWS.items():
        images = [
            {"bytes": png(np.asarray(car(part, r))), "path": None} for r in range(len(labels))
        ]
        info = {"info": {"features": {"label": {"names": MODELS, "_type": "ClassLabel"}}}}
        table = pa.table({"image": images, "label": labels})
        table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, root / "data" / f"{part}-00000-of-00001.parquet")


@pytest.mark.parametrize(
    "write", [write_first_layout, write_torchvision_layout, write_hugging_face_layout]
)
def test_cars(tmp_path, write):
    write(tmp_path)
    found = cars.read(tmp_path)
    assert found.coarse_names == cars.BODIES
    for part, labels in CAR_ROWS.items():
        rows = found.parts[part]
        assert rows.fine.tolist() == labels
        bodies = [found.coarse_names[c] for c in rows.coarse]
        assert bodies == [("Coupe", "Van", "Hatchback")[label] for label in labels]
        for row in range(len(rows)):
            off = np.abs(rows.pictures.decode(row).astype(int) - np.asarray(car(part, row)))
            assert off.max() <= 3  # jpeg
    with pytest.raises(InputError, match="5 train images in place of 8,144; 3 test images in pl"):
        find("cars196", data_dir=tmp_path)


def test_cars_that_are_not_whole(tmp_path):
    write_torchvision_layout(tmp_path)
    (tmp_path / "stanford_cars" / "cars_test" / "00002.jpg").unlink()
    with pytest.raises(InputError, match=r"lacks 1 of the images .*, cars_test/00002\.jpg the"):
        cars.read(tmp_path)
    (tmp_path / "stanford_cars" / "cars_test_annos_withlabels.mat").unlink()
    with pytest.raises(InputError, match=r"lacks cars_test_annos_withlabels\.mat"):
        cars.read(tmp_path)
    (tmp_path / "stanford_cars" / "devkit" / "cars_meta.mat").write_bytes(b"no mat file")
    (tmp_path / "stanford_cars" / "cars_test_annos_withlabels.mat").touch()
    with pytest.raises(InputError, match=r"cars_meta\.mat cannot be read as a MATLAB file"):
        cars.read(tmp_path)
    with pytest.raises(InputError, match=r"cars196 is not in .*: looked for car_ims/.*copy on K"):
        find("cars196", data_dir=tmp_path / "nowhere")


# Rows of the paper --------------------------------------------------------------------------


def test_published_rows():
    rows = paper.rows()
    assert Counter(row.data for row in rows) == {
        "cifar100": 19,
        "sop_split1": 15,
        "cifartoy_good": 18,
        "cifartoy_bad": 18,
        "sop_split2": 14,
        "cars196": 14,
        "imagenet32": 1,
        "cifar10": 1,
        "imagenet": 4,
    }
    best = paper.row_of("cifar100", "maskcon", {})
    assert best.hyper == {"w": 1.0, "tau": 0.05}
    assert best.published == pytest.approx(
        {"recall@1": 0.6552, "recall@2": 0.7446, "recall@5": 0.8364, "recall@10": 0.8925}
    )
    other = paper.row_of("cifar100", "maskcon", {"w": 0.5, "tau": 0.1})
    assert other.published["recall@1"] == 0.6018
    assert "recall@10" not in paper.row_of("cifar100", "selfcon", {}).published  # lost
    for row in rows:
        values = list(row.published.values())
        assert values == sorted(values) or row.method == "ancor", row
        assert row.has_name == (row.data in DATA_SETS)
    with pytest.raises(InputError, match=r"no one row of grafit on cars196 with --w 0\.3: there"):
        paper.row_of("cars196", "grafit", {"w": 0.3})


def test_rows_of_the_relatives():
    """As the papers have them, by the names of what `maskcon eval` measures."""
    sane = paper.row_of("cifar10", "sane", {})
    assert sane.published == pytest.approx({"knn@200": 0.952, "linear": 0.961})
    ancor = paper.row_of("cifar100", "ancor", {})
    assert ancor.published == pytest.approx({"5-way/1-shot": 0.7456, "all-way/1-shot": 0.2984})
    assert read_recipe(ancor.recipe)["backbone"] == "resnet12"
    assert "the bank is one for all classes" in ancor.differs[0]
    wcl = {r.name: dict(r.published) for r in paper.rows() if r.method == "wcl"}
    for epochs, linear in ((100, 0.681), (200, 0.703), (800, 0.722)):
        assert wcl.pop(f"wcl epochs={epochs}") == pytest.approx({"linear": linear})
    assert wcl.pop("wcl") == pytest.approx({"finetune@1%": 0.65, "finetune@10%": 0.72})
    assert not wcl
    with pytest.raises(InputError, match=r"no set that is read by its name.* train --recipe wcl"):
        commands.reproduce("imagenet", "wcl")


def test_every_row_has_its_recipe_and_protocols_that_measure_it():
    for row in paper.rows():
        recipe = read_recipe(row.recipe)
        assert recipe.get("data", row.data).split("_")[0] == row.data.split("_")[0]
        if row.init == "imagenet":  # MaskCon's own
            assert DATA_SETS[row.data].recipe == row.recipe
            assert recipe["backbone"] == "resnet18"
            assert recipe["image_size"] == (224 if row.data.startswith(("sop", "cars")) else 32)
            assert {metric.partition("@")[0] for metric in row.published} == {"recall"}
        else:
            assert recipe["method"] == row.method
            assert set(row.protocols) <= set(PROTOCOLS)
    assert commands.datasets()["sop_split2"]["best"] == {"w": 0.5, "tau": 0.05}
    assert set(recipes()) >= {"cifar100_cpu", "cifar100_paper", "cars196_paper"}


@pytest.fixture
def tiny_cifar100(monkeypatch, tiny) -> None:
    small = NamedSet("few", make=lambda: replace(as_found(tiny), name="cifar100"))
    small = replace(small, recipe="cifar100_paper")
    monkeypatch.setitem(DATA_SETS, "cifar100", small)


QUICK = {
    "backbone": "resnet10w16",
    "epochs": 1,
    "warmup_epochs": 0.0,
    "batch_size": 32,
    "init": "scratch",
    "precision": "fp32",
}


@pytest.mark.heavy
def test_reproduce(tiny_cifar100, tmp_path):
    class Ends(Callback):
        def end(self, status, results):
            ended.append((status, results["recall@1"]))

    ended: list = []
    result = commands.reproduce(
        *("cifar100", "maskcon"),
        tau=0.1,
        w=1.0,
        seeds=(0, 1),
        out=tmp_path,
        ledger=tmp_path / "ledger.jsonl",
        callbacks=[Ends()],
        **QUICK,
    )
    assert ended == [("finished", run["results"]["recall@1"]) for run in result["runs"]]
    assert result["row"]["published"]["recall@1"] == pytest.approx(0.6252)
    assert [run["config"]["seed"] for run in result["runs"]] == [0, 1]
    assert result["runs"][0]["config"]["tau"] == 0.1
    assert result["runs"][0]["config"]["query_view"] == "strong"
    reasons = "\n".join(result["not_comparable"])
    assert "it starts from scratch, the paper from ImageNet weights" in reasons
    assert "epochs is 1, not 200" in reasons
    assert "backbone is resnet10w16, not resnet18" in reasons
    assert (tmp_path / "cifar100-maskcon-w1-tau0.1-seed1" / "run.json").exists()
    table = ledger.tables(tmp_path / "ledger.jsonl")
    assert "| maskcon, w 1, tau 0.1 | 0, 1 |" in table
    assert table.splitlines()[6].endswith("| 62.52 |")
    again = commands.reproduce(
        "cifar100",
        "maskcon",
        tau=0.1,
        w=1.0,
        seeds=(0, 1),
        out=tmp_path,
        ledger=tmp_path / "ledger.jsonl",
        resume=True,
        **QUICK,
    )
    assert again["runs"] == result["runs"]  # nothing was run again
    with pytest.raises(InputError, match="cannot go on with other options: epochs is 1, not 2"):
        commands.reproduce(
            *("cifar100", "maskcon"),
            out=tmp_path,
            tau=0.1,
            w=1.0,
            resume=True,
            ledger=tmp_path / "ledger.jsonl",
            **{**QUICK, "epochs": 2},
        )
    with pytest.raises(InputError, match=r"the ledger .* cannot be written: .* is no folder"):
        commands.reproduce("cifar100", "selfcon", ledger=tmp_path / "no" / "l.jsonl", **QUICK)
    assert len((tmp_path / "ledger.jsonl").read_text().splitlines()) == 2
    with pytest.raises(InputError, match=r"seed1 .*--resume"):  # before the run of seed 3
        commands.reproduce(
            *("cifar100", "maskcon"),
            seeds=(3, 1),
            w=1.0,
            tau=0.1,
            out=tmp_path,
            ledger=tmp_path / "ledger.jsonl",
            **QUICK,
        )
    assert not [*tmp_path.glob("*-seed3")]


@pytest.mark.parametrize("seeds", [(), (0, 1, 0), (-1,)])
def test_seeds_that_reproduce_cannot_run(seeds, tmp_path):
    with pytest.raises(InputError, match="expected different numbers, 0 or more"):
        commands.reproduce("cifar100", "selfcon", seeds=seeds, out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_the_published_rows_are_listed():
    said = CliRunner().invoke(cli, ["reproduce"], env={"COLUMNS": None})
    assert said.exit_code == 0
    assert "62.52%" in said.output
    for row in paper.rows():
        assert row.command in said.output


@pytest.mark.heavy
def test_reproduce_a_row_that_is_judged_by_other_protocols(tmp_path, monkeypatch, tiny, capsys):
    """SANE's, of kNN and a linear probe: what `eval` says of the run is set beside it."""
    found = replace(as_found(tiny), name="cifar10")
    monkeypatch.setitem(DATA_SETS, "cifar10", NamedSet("few", make=lambda: found))
    file = tmp_path / "ledger.jsonl"
    options = {**QUICK, "bank_size": 40, "projection_hidden": 8, "out": tmp_path, "ledger": file}
    result = commands.reproduce("cifar10", "sane", **options)
    (run,) = result["runs"]
    judged = commands.eval(tmp_path / "cifar10-sane-seed0", protocol="linear")
    assert run["evaluations"]["cifar10"]["linear"] == judged["linear"]
    reproducing._print_comparison(result)
    said = capsys.readouterr().out
    assert re.search(r"published .* 96\.10%", said)
    assert "kNN has k 200 and temperature 0.1, the paper's 50 and 0.05" in said
    assert "epochs is 1, not 2000" in said
    table = ledger.tables(file)
    assert re.search(r"linear [\d.]+ \(published 96\.10\); SANE, NeurIPS 2021", table)
    again = commands.reproduce("cifar10", "sane", resume=True, **options)
    assert again["runs"][0]["started"] == run["started"]


def test_reproduce_the_upper_bound(tiny_cifar100, tmp_path, capsys):
    result = commands.reproduce(
        "cifar100",
        "supfine",
        upper_bound="supce",
        out=tmp_path,
        ledger=tmp_path / "ledger.jsonl",
        **QUICK,
    )
    config = result["runs"][0]["config"]
    assert (config["method"], config["label"]) == ("supce", "fine")
    reproducing._print_comparison(result)
    said = capsys.readouterr().out
    assert re.search(r"published +71\.13%", said)
    assert "NOT COMPARABLE with the published numbers:\n  it starts from scratch" in said
    assert "71.13" in ledger.tables(tmp_path / "ledger.jsonl")
    with pytest.raises(InputError, match="upper_bound is 'svm': expected supcon or supce"):
        commands.reproduce("cifar100", "supfine", upper_bound="svm", out=tmp_path)


def test_reproduce_lists_the_rows():
    done = CliRunner().invoke(cli, ["reproduce"], env={"COLUMNS": None})
    assert done.exit_code == 0
    line = next(line for line in done.output.splitlines() if "maskcon w=1 tau=0.05" in line)
    shares = ["65.52%", "74.46%", "83.64%", "89.25%", "best"]
    assert line.split()[3:8] == shares
    assert line.endswith("  maskcon reproduce cifar100 maskcon --w 1 --tau 0.05")
    assert done.output.count("\n") > 100
    with pytest.raises(InputError, match="give a method of the rows of cars196: supfine; grafit"):
        commands.reproduce("cars196")
    with pytest.raises(InputError, match="no row was published for 'mnist': there are cifar100"):
        commands.reproduce("mnist", "maskcon")


@pytest.mark.heavy
def test_real_cifar100_counts_for_each_class(cifar100_folder):
    found = find("cifar100", data_dir=cifar100_folder)
    for part, count in (("train", 2500), ("test", 500)):
        assert found.parts[part].coarse.bincount().tolist() == [count] * 20
    half = found.parts["train"].take(np.arange(0, 50_000, 2))
    with pytest.raises(InputError, match="25,000 train images in place of 50,000"):
        DATA_SETS["cifar100"].counts().check(replace(found, parts={**found.parts, "train": half}))
    moved = replace(found.parts["train"], coarse=torch.zeros(50_000, dtype=torch.long))
    with pytest.raises(InputError, match="50,000 train images of aquatic_mammals in place of 2,5"):
        DATA_SETS["cifar100"].counts().check(replace(found, parts={**found.parts, "train": moved}))
