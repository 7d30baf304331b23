"""The layouts that maskcon reads, and what can be wrong with them."""

import hashlib
import io
import json
import pickle
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from maskcon.data import DataSet, Found, Split, find, fitting_size
from maskcon.data import load as load_found
from maskcon.data.sets import cifar, glyphs, named
from maskcon.data.sets.download import Remote
from maskcon.errors import InputError
from maskcon.eval.recall import pixel_recall
from maskcon.runtime.progress import Silent


def load(data: str | Found, *, data_dir=None, download=False, columns=None, **options) -> DataSet:
    """As `maskcon train` reads a set."""
    columns = {} if columns is None else {"columns": columns}
    found = find(data, data_dir=data_dir, download=download, **columns).with_test(0.2, 0)
    options = {"image_size": fitting_size(found), "workers": 2, **options}
    return load_found(found, **options)


COARSE, FINE = ("fruit", "fish"), ("apple", "pear", "trout")
COARSE_OF = [0, 0, 1]


def pictures(n: int, seed: int) -> tuple[np.ndarray, list[int]]:
    """uint8 [n, 32, 32, 3] and fine labels."""
    random = np.random.default_rng(seed)
    return random.integers(256, size=(n, 32, 32, 3), dtype=np.uint8), (np.arange(n) % 3).tolist()


PARTS = {"train": pictures(12, 0), "test": pictures(6, 1)}


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "png")
    return buffer.getvalue()


def write_parquet(folder: Path, names: bool = True, image: str = "img", shards: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (images, fine) in PARTS.items():
        rows = {
            image: [{"bytes": png(i), "path": None} for i in images],
            "fine_label": fine,
            "coarse_label": [COARSE_OF[f] for f in fine],
        }
        table = pa.table(rows)
        if names:
            features = {
                f"{level}_label": {"names": list(values), "_type": "ClassLabel"}
                for level, values in (("coarse", COARSE), ("fine", FINE))
            }
            info = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": info})
        step = len(images) // shards
        for shard in range(shards):
            name = f"{part}-{shard:05d}-of-{shards:05d}.parquet"
            pq.write_table(table.slice(shard * step, step), folder / name)


def write_archive(folder: Path, change=lambda name, content: content) -> None:
    """CIFAR's layout: pickles of protocol 2 with keys of bytes, as Python 2 wrote them."""
    folder = folder / "cifar-100-python"
    folder.mkdir(parents=True)
    content = {
        "meta": {
            b"coarse_label_names": [n.encode() for n in COARSE],
            b"fine_label_names": [n.encode() for n in FINE],
        }
    }
    for part, (images, fine) in PARTS.items():
        content[part] = {
            b"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1),
            b"fine_labels": fine,
            b"coarse_labels": [COARSE_OF[f] for f in fine],
        }
    for name, entry in content.items():
        (folder / name).write_bytes(pickle.dumps(change(name, entry), protocol=2))


def write_tree(folder: Path, fine_level: bool = True) -> None:
    for part, (images, fine) in PARTS.items():
        for row, (image, label) in enumerate(zip(images, fine, strict=True)):
            place = folder / part / COARSE[COARSE_OF[label]]
            place = place / FINE[label] if fine_level else place
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{row:03d}.png").write_bytes(png(image))


def check_rows(data: DataSet, order: bool = True) -> None:
    """The pictures and labels that were written came back."""
    for part, (images, fine) in PARTS.items():
        split: Split = getattr(data, part)
        assert split.images.pixels.dtype == torch.uint8
        written = {
            i.transpose(2, 0, 1).tobytes(): (COARSE[COARSE_OF[f]], FINE[f])
            for i, f in zip(images, fine, strict=True)
        }
        found = [
            (
                image.numpy().tobytes(),
                data.coarse_names[coarse],
                data.fine_names[fine].rpartition("/")[2],
            )
            for image, coarse, fine in zip(
                split.images.pixels, split.coarse, split.fine, strict=True
            )
        ]
        assert len(found) == len(written)
        assert all(written[image] == (coarse, fine) for image, coarse, fine in found)
        if order:
            assert [image for image, _, _ in found] == list(written)


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("image", ["img", "image"])
def test_parquet(tmp_path, workers, image):
    write_parquet(tmp_path, image=image)
    check_rows(load(str(tmp_path), workers=workers))


def test_parquet_in_a_data_folder_and_without_names(tmp_path):
    write_parquet(tmp_path / "data", names=False, shards=1)
    data = load(str(tmp_path))
    assert data.coarse_names == ("0", "1")
    assert data.fine_names == ("0", "1", "2")


def test_archive_unpacked(tmp_path):
    write_archive(tmp_path)
    check_rows(load(str(tmp_path)))
    check_rows(load(str(tmp_path / "cifar-100-python")))


def test_archive_packed(tmp_path):
    write_archive(tmp_path / "loose")
    packed = tmp_path / "cifar-100-python.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(tmp_path / "loose" / "cifar-100-python", "cifar-100-python")
    check_rows(load(str(tmp_path)))
    check_rows(load(str(packed)))
    content = packed.read_bytes()
    packed.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"tar\.gz is damaged"):
        load(str(packed))


def test_tree(tmp_path):
    write_tree(tmp_path)
    data = load(str(tmp_path))
    check_rows(data, order=False)
    assert data.fine_names == ("fish/trout", "fruit/apple", "fruit/pear")


def test_tree_of_coarse_classes_only(tmp_path):
    write_tree(tmp_path, fine_level=False)
    data = load(str(tmp_path))
    assert data.train.fine is None
    assert data.fine_names == ()
    assert list(pixel_recall(data.test)) == [
        "recall@1/coarse",
        "recall@2/coarse",
        "recall@5/coarse",
    ]


def test_tree_of_other_sizes_and_modes(tmp_path):
    write_tree(tmp_path)
    place = tmp_path / "train" / "fruit" / "apple"
    Image.new("L", (90, 41), 200).save(place / "grey.jpg")
    Image.new("RGBA", (12, 30), (255, 0, 0, 128)).save(place / "alpha.png")
    Image.new("P", (32, 32)).save(place / "palette.gif")
    (place / "notes.txt").write_text("no image, not looked at")
    data = load(str(tmp_path), image_size=24)
    assert data.train.images.pixels.shape == (15, 3, 24, 24)
    flat = [i for i in data.train.images.pixels if i.float().std() < 1]
    # palette, half-transparent red on white in each channel's mean, grey
    assert sorted(round(i.float().mean().item()) for i in flat) == [0, 200]


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return (exec, ("open('bomb-went-off', 'w').close()",))


def test_a_pickle_cannot_run_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_archive(tmp_path, lambda name, content: Bomb() if name == "train" else content)
    with pytest.raises(
        InputError, match=r"train cannot be unpickled: .*exec, which no image needs"
    ):
        load(str(tmp_path))
    assert not (tmp_path / "bomb-went-off").exists()


def without(key: bytes):
    return lambda name, content: {k: v for k, v in content.items() if k != key}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without(b"data"), "has no entry data"),
        (without(b"fine_label_names"), "has no entry fine_label_names"),
        (lambda name, content: [1, 2], "meta holds no dictionary"),
        (
            lambda name, content: {**content, b"data": np.zeros(3)} if name != "meta" else content,
            "no table of uint8 images",
        ),
        (
            lambda name, content: (
                {**content, b"fine_labels": [7] * 12} if name == "train" else content
            ),
            r"fine label 7 of train image 0 is outside 0\.\.2",
        ),
        (
            lambda name, content: (
                {**content, b"coarse_labels": [0, 1]} if name == "test" else content
            ),
            "6 test images have 2 coarse labels",
        ),
    ],
)
def test_archive_of_other_content(tmp_path, change, message):
    write_archive(tmp_path, change)
    with pytest.raises(InputError, match=message):
        load(str(tmp_path))


def test_damaged_files(tmp_path):
    write_tree(tmp_path / "tree")
    bad = tmp_path / "tree" / "test" / "fish" / "trout" / "002.png"
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(InputError, match=r"fish/trout/002\.png cannot be read as an image"):
        load(str(tmp_path / "tree"))
    bad.write_bytes(b"")
    with pytest.raises(InputError, match=r"002\.png cannot be read as an image"):
        load(str(tmp_path / "tree"), workers=4)

    write_parquet(tmp_path / "parquet")
    shard = tmp_path / "parquet" / "train-00001-of-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(InputError, match=r"train-00001-of-00002\.parquet cannot be read"):
        load(str(tmp_path / "parquet"))


def test_parquet_of_other_columns(tmp_path):
    pq.write_table(pa.table({"picture": [b"x"], "label": [1]}), tmp_path / "train.parquet")
    pq.write_table(pa.table({"picture": [b"x"], "label": [1]}), tmp_path / "test.parquet")
    with pytest.raises(InputError, match="has columns picture, label: expected one for the image"):
        load(str(tmp_path))
    for part in ("train", "test"):
        rows = {"img": [b"no image"], "coarse_label": [0], "fine_label": [0]}
        pq.write_table(pa.table(rows), tmp_path / f"{part}.parquet")
    with pytest.raises(InputError, match=r"row 0 of .* cannot be read as an image: it is no image"):
        load(str(tmp_path))
    rows = {"img": [None], "coarse_label": [0], "fine_label": [0]}
    table = pa.table(
        rows, schema=pa.schema({"img": pa.binary(), **dict.fromkeys(list(rows)[1:], pa.int64())})
    )
    pq.write_table(table, tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"1 rows of .* have no image"):
        load(str(tmp_path))


def test_trees_of_other_shapes(tmp_path):
    with pytest.raises(InputError, match=r"holds no data set: looked for a pack .*class folders"):
        load(str(tmp_path))
    (tmp_path / "train" / "fruit").mkdir(parents=True)
    (tmp_path / "test" / "fruit").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no data set"):
        load(str(tmp_path))
    write_tree(tmp_path)
    (tmp_path / "train" / "fruit" / "loose.png").write_bytes(png(PARTS["train"][0][0]))
    with pytest.raises(InputError, match="images on two levels"):
        load(str(tmp_path))


def test_no_test_images(tmp_path):
    write_tree(tmp_path)
    for file in (tmp_path / "test").rglob("*.png"):
        file.unlink()
    assert "test" not in find(str(tmp_path)).parts  # so that one is made
    for file in (tmp_path / "train").rglob("*.png"):
        file.unlink()
    with pytest.raises(InputError, match="holds no data set"):
        load(str(tmp_path))


def test_names(tmp_path):
    with pytest.raises(
        InputError,
        match=r"'cifar101' is no data set that maskcon knows .did you mean cifar10 or cifar100",
    ):
        load("cifar101")
    with pytest.raises(
        InputError, match=r"cifar100 is not in .*cifar-100-python\.tar\.gz, .*--data-dir, or --down"
    ):
        load("cifar100", data_dir=tmp_path)
    write_archive(tmp_path)
    with pytest.raises(
        InputError, match="not the whole of cifar100: 12 train images in place of 50,000"
    ):
        load("cifar100", data_dir=tmp_path)


@pytest.fixture
def server(tmp_path):
    """A web server on this machine that has an archive: (address, file)."""
    served = tmp_path / "served"
    write_archive(served)
    with tarfile.open(served / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(served / "cifar-100-python", "cifar-100-python")
    handler = partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield (
            f"http://127.0.0.1:{http.server_port}/cifar-100-python.tar.gz",
            served / "cifar-100-python.tar.gz",
        )
        http.shutdown()


def serve(monkeypatch, url: str, md5: str) -> None:
    """Let cifar100 be fetched from elsewhere."""
    real = named.DATA_SETS["cifar100"]
    remote = replace(real.download, url=url, md5=md5)
    monkeypatch.setitem(named.DATA_SETS, "cifar100", replace(real, download=remote))


def test_download(server, tmp_path, monkeypatch):
    url, file = server
    serve(monkeypatch, url, hashlib.md5(file.read_bytes()).hexdigest())
    home = tmp_path / "home"
    with pytest.raises(InputError, match="not the whole of cifar100"):  # it is a tiny one
        load("cifar100", data_dir=home, download=True)
    check_rows(load(str(home)))


class Ranges(SimpleHTTPRequestHandler):
    """Answers requests for the rest of a file, as the servers of data sets do."""

    asked: ClassVar[list[str | None]] = []
    content = bytes(range(256)) * 9000

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(self.content):
            self.send_error(416)
            return
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        # breaks off half way, the first time
        end = len(self.content) // 2 if len(self.asked) == 1 else len(self.content)
        self.wfile.write(self.content[start:end])


def test_a_download_that_broke_off_goes_on(tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{http.server_port}/big.bin"
        remote = Remote(address, hashlib.md5(Ranges.content).hexdigest())
        with pytest.raises(InputError, match=r"1\.1 MiB are kept: try again to go on"):
            remote.fetch(tmp_path, Silent())
        assert not (tmp_path / "big.bin").exists()
        assert remote.fetch(tmp_path, Silent()).read_bytes() == Ranges.content
        half = len(Ranges.content) // 2
        assert Ranges.asked == [None, f"bytes={half}-"]
        # all of it was there already, but not yet verified
        (tmp_path / "big.bin").rename(tmp_path / "big.bin.part")
        assert remote.fetch(tmp_path, Silent()).read_bytes() == Ranges.content
        http.shutdown()


def test_download_of_wrong_bytes_and_from_nowhere(server, tmp_path, monkeypatch):
    url, _ = server
    for address in (
        url,
        url.replace("python.tar", "missing.tar"),
        "http://127.0.0.1:9/cifar-100-python.tar.gz",
    ):
        serve(monkeypatch, address, cifar.CIFAR100.remote.md5)
        with pytest.raises(InputError, match=r"could not be fetched into .*Fetch it by hand"):
            load("cifar100", data_dir=tmp_path / "home", download=True)
        with pytest.raises(InputError, match="cifar100 is not in"):  # nothing half is left
            load("cifar100", data_dir=tmp_path / "home")


def test_glyphs():
    data = glyphs.make(train=340, test=170)
    again = glyphs.make(train=340, test=170)
    assert torch.equal(data.train.images.pixels, again.train.images.pixels)
    assert torch.equal(data.train.fine.bincount(), torch.full((34,), 10))
    groups = {
        data.fine_names[f]: data.coarse_names[c]
        for f, c in zip(data.test.fine, data.test.coarse, strict=True)
    }
    assert groups["7"] == "digits"
    assert groups["E"] == "vowels"
    assert groups["Z"] == "T to Z"
    assert not torch.equal(data.train.images.pixels[:170], data.test.images.pixels)


def test_glyphs_are_mostly_wrong_in_pixel_space():
    assert pixel_recall(glyphs.make(train=34, test=1500).test)["recall@1"] < 0.25


def test_normalisation(tiny):
    mean, std = tiny.normalisation()
    levels = tiny.train.images.pixels.double() / 255
    torch.testing.assert_close(
        torch.tensor(mean).double(), levels.mean((0, 2, 3)), rtol=1e-5, atol=0
    )
    torch.testing.assert_close(
        torch.tensor(std).double(), levels.std((0, 2, 3), correction=0), rtol=1e-5, atol=0
    )


@pytest.mark.heavy
def test_real_cifar100(cifar100_folder):
    """Counts, names, statistics and the coarse class of a few fine classes."""
    data = load("cifar100", data_dir=cifar100_folder)
    assert torch.equal(data.train.fine.bincount(), torch.full((100,), 500))
    assert torch.equal(data.test.coarse.bincount(), torch.full((20,), 500))
    pairs = {
        (data.fine_names[f], data.coarse_names[c])
        for f, c in zip(data.train.fine.tolist(), data.train.coarse.tolist(), strict=True)
    }
    assert len(pairs) == 100
    assert {("maple_tree", "trees"), ("trout", "fish"), ("woman", "people")} <= pairs
    mean, std = data.normalisation()
    assert mean == pytest.approx((0.5071, 0.4865, 0.4409), abs=1e-4)
    assert std == pytest.approx((0.2673, 0.2564, 0.2762), abs=1e-4)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "coarse_label",
            [0.7, 1.9],
            r"coarse label 0\.7 of row 0 .*: expected text|label 0\.7 of row 0",
        ),
        ("img", [1, 2], "are of type int64: expected paths, the bytes"),
        ("img", [{"path": "a"}, {"path": "b"}], "expected paths, the bytes of image files"),
    ],
)
def test_parquet_of_other_types(tmp_path, column, values, message):
    image = png(np.zeros((32, 32, 3), np.uint8))
    columns = {"img": [image, image], "coarse_label": [0, 1], "fine_label": [0, 1]}
    for part in ("train", "test"):
        pq.write_table(pa.table({**columns, column: values}), tmp_path / f"{part}.parquet")
    with pytest.raises(InputError, match=message):
        load(str(tmp_path))


def test_an_archive_with_flipped_bits(tmp_path):
    write_archive(tmp_path)
    packed = tmp_path / "packed" / "cifar-100-python.tar.gz"
    packed.parent.mkdir()
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(tmp_path / "cifar-100-python", "cifar-100-python")
    content = bytearray(packed.read_bytes())
    for place in range(len(content) // 3, len(content) // 2):
        content[place] ^= 255
    packed.write_bytes(content)
    with pytest.raises(InputError, match=r"cifar-100-python\.tar\.gz is damaged|has no file"):
        load(str(packed.parent))
