"""Pictures of every suffix and with every kind of damaged metadata; folders of every depth."""

import csv
import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, PngImagePlugin

from maskcon import commands
from maskcon.data import find
from maskcon.data.image_file import decode
from maskcon.data.pictures import Files
from maskcon.errors import InputError


def noise(seed: int, size: int = 24) -> Image.Image:
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(256, size=(size, size, 3), dtype=np.uint8))


def bytes_of(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tree(root: Path, *folders: str, count: int = 4) -> Path:
    for number, name in enumerate(folders):
        (root / name).mkdir(parents=True, exist_ok=True)
        for row in range(count):
            noise(100 * number + row).save(root / name / f"{row}.png")
    return root


def test_no_picture_is_lost_for_its_name(tmp_path):
    tree(tmp_path, "cat", "dog")
    for suffix, kind in (("avif", "AVIF"), ("JFIF", "JPEG"), ("tga", "TGA"), ("part", "PNG")):
        (tmp_path / "cat" / f"x.{suffix}").write_bytes(bytes_of(noise(7), kind))
    (tmp_path / "dog" / "no_suffix").write_bytes(bytes_of(noise(8), "JPEG"))
    (tmp_path / "dog" / "notes.txt").write_text("no picture")
    (tmp_path / "dog" / "raw.NEF").write_bytes(bytes_of(noise(8), "TIFF"))
    for name in ("@eaDir", "__MACOSX", ".hidden", "dog/#recycle"):
        tree(tmp_path, name, count=1)
    found = find(str(tmp_path))
    assert len(found.parts["train"]) == 13
    assert found.coarse_names == ("cat", "dog")
    assert "1 files that look like pictures are passed over" in found.notes[0]
    assert "dog/raw.NEF" in found.notes[0]


def png_with(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    whole = bytes_of(noise(1), "PNG")
    end = struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    return whole[:33] + struct.pack(">I", len(data)) + kind + data + end + whole[33:]


def with_text() -> bytes:
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "x" * 2_000_000, zip=True)
    return bytes_of(noise(1), "PNG", pnginfo=text)


@pytest.mark.parametrize(
    "content",
    [
        png_with(b"eXIf", b"junkjunk"),
        png_with(b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\2\0\0\0\x016\0\0\0\0\0\0\0"),
        png_with(b"tEXt", b"a\0b", crc=0),
        with_text(),
        bytes_of(noise(1), "PNG", icc_profile=bytes(3_000_000)),
        bytes_of(noise(1), "WEBP", lossless=True, exif=b"Exif\0\0junk"),
    ],
)
def test_metadata_cost_no_picture(content):
    assert np.array_equal(decode(content, "it"), np.array(noise(1)))


def test_the_size_of_a_turned_tiff_is_the_seen_one(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.save(tmp_path / "x.tif", tiffinfo={274: 6})
    files = Files([tmp_path / "x.tif"])
    assert files.size(0) == files.decode(0).shape[:2] == (40, 20)


def test_pictures_above_the_limit(tmp_path):
    """A JPEG is decoded smaller; what cannot be is refused, with the option that allows it."""
    large = Image.new("RGB", (800, 400), (90, 120, 30))
    assert decode(bytes_of(large, "JPEG"), "it", max_pixels=100_000).shape == (200, 400, 3)
    for kind, options in (("PNG", {}), ("JPEG", {"progressive": True})):
        with pytest.raises(InputError, match="--max-pixels 320000"):
            decode(bytes_of(large, kind, **options), "it", max_pixels=100_000)
    tree(tmp_path / "set", "a", "b")
    large.save(tmp_path / "set" / "a" / "large.png")
    assert "large.png" in commands.check(tmp_path / "set", max_pixels=100_000).wrong[0]
    assert commands.check(tmp_path / "set", max_pixels=320_000).wrong == ()


def test_folders_of_every_depth(tmp_path):
    tree(tmp_path, "Fruit/Apple/Pink", "Fruit/Apple/Gala", "Fruit/Lime", "Milk/Oat/Oatly")
    with pytest.raises(InputError, match=r"--coarse-level 1 has 2 .*--coarse-level 2 has 3"):
        find(str(tmp_path))
    found = find(str(tmp_path), coarse_level=2)
    assert found.coarse_names == ("Apple", "Lime", "Oat")
    assert found.fine_names == ("Apple/Gala", "Apple/Pink", "Lime", "Oat/Oatly")
    assert find(str(tmp_path), coarse_level=1).fine_names == (
        "Fruit/Apple",
        "Fruit/Lime",
        "Milk/Oat",
    )
    with pytest.raises(InputError, match="fewer than 3 folders"):
        find(str(tmp_path), coarse_level=3)
    noise(1).save(tmp_path / "Fruit" / "Apple" / "loose.png")
    with pytest.raises(InputError, match="class Apple has images on two levels"):
        find(str(tmp_path), coarse_level=2)


def test_a_folder_without_labels_is_one_class(tmp_path):
    tree(tmp_path, "flat", count=6)
    found = find(str(tmp_path / "flat"))
    assert (found.coarse_names, found.fine_names) == (("flat",), ())
    assert commands.check(tmp_path / "flat", method="selfcon").wrong == ()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_beside_pictures(tmp_path, kind):
    for part, count in (("train", 6), ("test", 3)):
        tree(tmp_path, part, count=count)
        rows = [{"file_name": f"{i}.png", "label": "ab"[i % 2]} for i in range(count)]
        with open(tmp_path / part / f"metadata.{kind}", "w", newline="") as file:
            if kind == "csv":
                writer = csv.DictWriter(file, ["file_name", "label"])
                writer.writeheader()
                writer.writerows(rows)
            else:
                file.write("\n".join(map(json.dumps, rows)))
    found = find(str(tmp_path))
    assert [len(found.parts[part]) for part in ("train", "test")] == [6, 3]
    assert found.parts["test"].pictures.decode(2).shape == (24, 24, 3)


def test_the_hubs_parquet_and_views_of_strings(tmp_path):
    for part, count in (("train", 6), ("test", 3)):
        place = tmp_path / "default" / part
        place.mkdir(parents=True)
        images = [{"bytes": bytes_of(noise(i), "PNG"), "path": None} for i in range(count)]
        label = pa.array(["ab"[i % 2] for i in range(count)], pa.string_view())
        pq.write_table(pa.table({"image": images, "label": label}), place / "0000.parquet")
    found = find(str(tmp_path))
    assert [len(found.parts[part]) for part in ("train", "test")] == [6, 3]
    assert found.coarse_names == ("a", "b")


def test_a_picture_that_is_listed_again_is_in_one_split(tmp_path):
    tree(tmp_path, "a", "b", count=8)
    paths = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*.png"))
    names = [str(path) for path in paths] + [f"./{path}" for path in paths]
    lines = [f"{name},{Path(name).parent.name}\n" for name in names]
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(lines))
    found = find(str(tmp_path / "t.csv")).with_test(0.25, 0)
    train, test = (
        {found.parts[part].pictures.digest(row) for row in range(len(found.parts[part]))}
        for part in ("train", "test")
    )
    assert (len(train), len(test)) == (12, 4)
    assert not train & test
    assert "16 of the rows list a picture that is there more than once" in found.notes[-1]


def test_labels_that_look_alike_or_are_missing(tmp_path):
    tree(tmp_path, "Cat", "cat", "nan", "Käfer", "Ka\u0308fer")
    warnings = "\n".join(commands.check(tmp_path).warnings)
    assert "'Cat' and 'cat'" in warnings
    assert "'Ka\u0308fer' and 'Käfer'" in warnings
    assert "may be missing labels, 1:\n              'nan'" in warnings


def test_hints(tmp_path):
    for cells, hint in (
        ("img\\a.png,x", "with / in place of"),
        ("https://a.b/c.png,x", "nothing is fetched"),
    ):
        (tmp_path / "t.csv").write_text(f"path,label\n{cells}\n")
        with pytest.raises(InputError, match=hint):
            find(str(tmp_path / "t.csv")).parts["train"].pictures.decode(0)
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"photos\.zip may hold one: unpack it first"):
        find(str(tmp_path / "photos.zip"))


def test_twelve_bits_in_sixteen(tmp_path):
    tree(tmp_path, "a", "b", count=0)
    for row in range(8):
        levels = np.random.default_rng(row).integers(4096, size=(20, 20)).astype(np.uint16)
        Image.fromarray(levels).save(tmp_path / "ab"[row % 2] / f"{row}.png")
    assert any("12 bits" in warning for warning in commands.check(tmp_path).warnings)


def test_what_begins_as_a_picture_is_one_and_what_does_not_is_none(tmp_path):
    tree(tmp_path, "a", "b", count=1)
    kinds = ("PPM", "ICO", "PCX", "DDS", "SGI", "BMP")
    for kind in kinds:
        (tmp_path / "a" / f"{kind}.bin").write_bytes(bytes_of(noise(1, 32), kind))
    others = {"p": b"P1 of the plan\n", "t": b"#define text\n", "n": b"\n\0", "x": b""}
    for name, content in others.items():
        (tmp_path / "b" / f"{name}.txt").write_bytes(content)
    (tmp_path / "b" / "jxl").write_bytes(b"\xff\x0a" + bytes(20))
    (tmp_path / "b" / "camera.GPR").write_bytes(b"II*\0" + bytes(20))
    found = find(str(tmp_path))
    assert len(found.parts["train"]) == 2 + len(kinds)
    assert "2 files that look like pictures" in found.notes[0]


@pytest.mark.parametrize("name", ["@Recycle", "RECYCLER", "~snapshot", "a/@tmp", "b/_vti_cnf"])
def test_folders_of_machines(tmp_path, name):
    tree(tmp_path, "a", "b", name, count=2)
    assert len(find(str(tmp_path)).parts["train"]) == 4


@pytest.mark.parametrize(
    "marks", [("run.json", "metrics.jsonl"), (".maskcon-export",), ("groups.csv", "summary.json")]
)
def test_what_maskcon_wrote_among_the_pictures_is_no_class(tmp_path, marks):
    tree(tmp_path, "a", "b", "out/x", count=2)
    for mark in marks:
        (tmp_path / "out" / mark).write_text("{}")
    found = find(str(tmp_path))
    assert found.coarse_names == ("a", "b")
    assert found.notes == ("1 folders that maskcon wrote are passed over: out",)


def test_splits_in_a_class_are_no_fine_classes(tmp_path):
    tree(tmp_path / "one", "data/train", "data/test")
    with pytest.raises(InputError, match=r"splits in it \(test, train\).*: give .*one/data"):
        find(str(tmp_path / "one"))
    tree(tmp_path / "two", "bottle/train", "bottle/test", "cable/train", "cable/test")
    with pytest.raises(InputError, match="put the splits above the classes"):
        find(str(tmp_path / "two"))
    tree(tmp_path / "classes", "vehicles/train", "vehicles/tram", "tests/test")
    assert len(find(str(tmp_path / "classes")).fine_names) == 3


@pytest.mark.parametrize("place", ["train", "."])
def test_a_table_in_parquet_beside_pictures(tmp_path, place):
    tree(tmp_path, "train", "test")
    for part in {place, "test"} if place == "train" else {"."}:
        rows = [
            {"file_name": str(path.relative_to(tmp_path / part)), "label": "ab"[row % 2]}
            for row, path in enumerate(sorted((tmp_path / part).rglob("*.png")))
        ]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / part / "metadata.parquet")
    found = find(str(tmp_path))
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 4, "test": 4}
    assert found.coarse_names == ("a", "b")
    (tmp_path / "test" / "metadata.parquet").write_bytes(b"PAR1")
    if place == "train":
        with pytest.raises(InputError, match="cannot be read as"):
            find(str(tmp_path))
