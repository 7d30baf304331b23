"""Hostile and broken input: a clear error or a right result, within limits of memory.

SECURITY.md says what is defended; each promise there has a test here.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import zipfile
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat

from maskcon import commands
from maskcon.cli import cli
from maskcon.config import READING_FIELDS, resolve
from maskcon.data import find
from maskcon.data.image_file import decode
from maskcon.data.pictures import Files
from maskcon.data.readers import folder
from maskcon.data.sets import glyphs, matlab
from maskcon.data.sets.pickles import small_images, unpickle
from maskcon.discover import known
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.model.backbones import read_weights
from maskcon.model.network import Architecture, Network
from maskcon.model.saved import load_encoder, save_encoder
from maskcon.runs.checkpoint import (
    MAGIC,
    load_checkpoint,
    save_checkpoint,
)
from maskcon.runtime.progress import printable
from maskcon.search import file as index_file
from maskcon.search import sheet
from maskcon.search.index import About, Index, table
from maskcon.vectors import file as embeddings
from tests.fuzz.readers import ARCHITECTURE, CORPUS, HEAD, READERS, attempt, picture, prepared

ROOT = Path(__file__).parent.parent
MARKER = "code was run"
NAMES = (
    "<img src=x onerror=alert(1)>",
    "a\nb",
    "\x1b[2J\x1b[31m",
    "[red]",
    "=1+1",
    "ä 犬 \u202e",
    "'\";--",
)


class Runs:
    """What runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (f"touch '{MARKER}'",)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_tree(root: Path, names=("cats", "dogs"), each: int = 4) -> Path:
    """A tree of train and test pictures, all different."""
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in names:
            (root / part / name).mkdir(parents=True)
            for i in range(each):
                pixels = random.integers(256, size=(16, 16, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / part / name / f"{i}.png")
    return root


def write_encoder(place: Path, state=None, **description) -> Path:
    """An encoder of two numbers' width, perhaps with other weights and another description."""
    place.mkdir(exist_ok=True)
    network = Network(Architecture.of(ARCHITECTURE))
    if state is not None:
        network.load_state_dict({n: state(v) for n, v in network.state_dict().items()})
    save_encoder(place, network, {"image_size": 32, "mean": [], "std": []})
    if description:
        about = json.loads((place / "encoder.json").read_text())
        (place / "encoder.json").write_text(json.dumps({**about, **description}))
    return place


# Code -------------------------------------------------------------------------------------------


def test_nothing_that_is_loaded_runs_code(here):
    evil = pickle.dumps({"training": Runs(), b"data": Runs()}, 2)
    write_encoder(here / "run")
    (here / "run" / "encoder.safetensors").write_bytes(evil)
    for name in ("last.ckpt", "weights.pt", "weights.safetensors", "v.npz", "v.parquet", "a.index"):
        (here / name).write_bytes(evil)
    torch.save({"training": Runs()}, here / "zip.ckpt")
    body = (here / "zip.ckpt").read_bytes()
    digest = hashlib.sha256(body).hexdigest().encode()
    (here / "signed.ckpt").write_bytes(MAGIC + digest + b"\n" + body)
    np.savez(here / "objects.npz", vector=np.array([Runs()], object))
    save_checkpoint(here / "run", {"training": {}})
    assert load_checkpoint(here / "run" / "last.ckpt") == {"training": {}}
    for load in (
        lambda: unpickle(evil, "batch"),
        lambda: load_checkpoint(here / "last.ckpt"),
        lambda: load_checkpoint(here / "zip.ckpt"),
        lambda: load_checkpoint(here / "signed.ckpt"),
        lambda: read_weights(here / "weights.pt"),
        lambda: read_weights(here / "zip.ckpt"),
        lambda: read_weights(here / "weights.safetensors"),
        lambda: load_encoder(here / "run"),
        lambda: embeddings.read(here / "v.npz"),
        lambda: embeddings.read(here / "objects.npz"),
        lambda: embeddings.read(here / "v.parquet"),
        lambda: index_file.read(here / "a.index"),
    ):
        with pytest.raises(InputError):
            load()
    assert not (here / MARKER).exists()
    pickle.loads(evil)
    assert (here / MARKER).exists()  # so the test would have seen it


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_in_pickles_without_numpys_help(protocol):
    content = {
        b"data": np.arange(2 * 3072).astype(np.uint8).reshape(2, 3072),
        b"columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        b"big": np.arange(3, dtype=">i4"),
        b"names": [b"a", "b"],
    }
    found = unpickle(pickle.dumps(content, protocol), "batch")
    assert found.pop("names") == [b"a", "b"]
    for name, values in found.items():
        np.testing.assert_array_equal(values, content[name.encode()])
    assert small_images(found, "batch").shape == (2, 3, 32, 32)


def test_pictures_start_no_program(here):
    (here / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n")
    with pytest.raises(InputError, match="no image of a known format"):
        decode(here / "a.png", "a.png")


# Archives ---------------------------------------------------------------------------------------


def test_archives_write_nowhere(here):
    (here / "set").mkdir()
    with tarfile.open(here / "set" / "cifar-100-python.tar.gz", "w:gz") as archive:
        with tarfile.open(fileobj=io.BytesIO(READERS["archive"].seed())) as good:
            for member in good.getmembers():
                archive.addfile(member, good.extractfile(member) if member.isfile() else None)
        for name in ("../outside", "/tmp/maskcon-outside", "cifar-100-python/../../outside"):
            entry = tarfile.TarInfo(name)
            entry.size = 1
            archive.addfile(entry, io.BytesIO(b"x"))
        link = tarfile.TarInfo("cifar-100-python/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(link)
    before = sorted(here.rglob("*"))
    assert len(find(str(here / "set")).parts["train"]) == 2
    assert sorted(here.rglob("*")) == before
    assert not Path("/tmp/maskcon-outside").exists()


def test_a_saved_set_names_no_file_elsewhere(here):
    for name in ("../data.arrow", "/etc/passwd", "a/b.arrow", "", "\0"):
        (here / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
        with pytest.raises(InputError):
            find(str(here))


# Confinement ------------------------------------------------------------------------------------


def write_rows(place: Path, paths: list[str]) -> Path:
    """A table of paths in the format of its suffix."""
    rows = [{"path": path, "coarse": f"class {i % 2}"} for i, path in enumerate(paths)]
    if place.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), place)
    elif place.suffix == ".jsonl":
        place.write_text("\n".join(map(json.dumps, rows)))
    else:
        with open(place, "w", newline="") as file:
            delimiter = "\t" if place.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, ["path", "coarse"], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    return place


@pytest.fixture
def inside(here) -> Path:
    """A folder with a picture in it, links out of it and beside it a secret picture."""
    (here / "in").mkdir()
    for place in (here / "secret.png", here / "in" / "a.png", here / "in" / "deep" / "b.png"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(picture())
    (here / "in" / "link.png").symlink_to(here / "secret.png")
    (here / "in" / "up").symlink_to("..")
    (here / "in" / "own.png").symlink_to("deep/b.png")
    (here / "in" / "circle").symlink_to("circle")
    return here / "in"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_confined_table_names_no_file_outside(inside, suffix):
    good = ["a.png", "deep/b.png", "own.png", str(inside / "a.png"), "deep/../a.png"]
    found = find(str(write_rows(inside / f"t{suffix}", good)), confine=True)
    assert len(found.parts["train"]) == len(good)
    outside = ["../secret.png", "link.png", "up/secret.png", str(inside.parent / "secret.png")]
    for path in (*outside, "/etc/passwd", "../in2/a.png"):
        place = write_rows(inside / f"t{suffix}", [*good, path])
        assert len(find(str(place)).parts["train"]) == len(good) + 1  # where nobody asked
        with pytest.raises(InputError, match=r"1 of 5 files lie outside.*leave out --confine"):
            find(str(place), confine=True)
    place = write_rows(inside / f"t{suffix}", good + outside)
    with pytest.raises(InputError, match=r"4 of 8 files .*link\.png \(which is .*secret\.png\)"):
        find(str(place), confine=True)


def test_a_confined_table_may_be_reached_by_a_link(inside):
    write_rows(inside / "t.csv", ["a.png", "deep/b.png"])
    (inside.parent / "way").symlink_to(inside)
    assert len(find(str(inside.parent / "way" / "t.csv"), confine=True).parts["train"]) == 2


def test_a_confined_tree_has_no_links_outside(here):
    tree = write_tree(here / "tree")
    find(str(tree), confine=True)
    (here / "more").mkdir()
    (here / "more" / "c.png").write_bytes(picture())
    (tree / "train" / "birds").symlink_to(here / "more")
    with pytest.raises(InputError, match="1 of 17 files lie outside"):
        find(str(tree), confine=True)
    (tree / "train" / "birds").unlink()
    (tree / "train" / "cats" / "x.png").symlink_to(here / "more" / "c.png")
    with pytest.raises(InputError, match=r"x\.png \(which is"):
        find(str(tree), confine=True)


def test_the_commands_take_it(inside, capsys):
    assert "confine" in READING_FIELDS
    write_rows(inside / "t.csv", ["a.png", "own.png", "../secret.png"])
    report = commands.check(inside / "t.csv", confine=True)
    assert "outside of" in report.wrong[0]
    for words in (
        ["train", "--data", "in/t.csv", "--confine", "--out", "run"],
        ["data", "pack", "in/t.csv", "t.pack", "--confine"],
    ):
        with pytest.raises(InputError, match="outside of"):
            cli.main(words, standalone_mode=False)
    assert not Path("run").exists()


# Memory -----------------------------------------------------------------------------------------

BOMBS = r"""
import gzip, io, json, pickle, resource, sys, tarfile, zipfile, zlib
from pathlib import Path
import numpy as np, pyarrow as pa, pyarrow.parquet as pq, torch
from maskcon.search import file as index_file
from maskcon.vectors import file as embeddings
from maskcon.model.saved import load_encoder
from maskcon.data import find
from maskcon.data.sets import cifar
from maskcon.data.sets.pickles import small_images, unpickle
from maskcon.data.image_file import decode
from maskcon.errors import InputError
from maskcon.model.backbones import read_weights
from maskcon.runtime.files import parse_json

resource.setrlimit(resource.RLIMIT_AS, (16 * 2**30, 16 * 2**30))  # so that no machine falls

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

find("photo.csv"), decode(Path("a.png"), "a.png")  # whatever is loaded when it is needed
start = peak()
for name, read in {
    "pickle, shape": lambda: small_images(unpickle(Path("shape.pkl").read_bytes(), "b"), "b"),
    "pickle, memo": lambda: unpickle(b"\x80\x04Nr\xff\xff\xff\xff.", "b"),
    "tar, header": lambda: cifar.read_cifar100(Path("header")),
    "tar, member": lambda: cifar.read_cifar100(Path("member")),
    "npz, zeros": lambda: embeddings.read("zeros.npz"),
    "npz, header": lambda: embeddings.read("header.npz"),
    "parquet, vectors": lambda: embeddings.read("vectors.parquet"),
    "parquet, rows": lambda: find("rows.parquet"),
    "encoder, width": lambda: load_encoder(Path("wide")),
    "encoder, giant": lambda: load_encoder(Path("giant")),
    "torch, zeros": lambda: read_weights(Path("zeros.pt")),
    "index, header": lambda: index_file.read(Path("header.index")),
    "picture, header": lambda: decode(Path("huge.png"), "huge.png"),
    "jsonl, depth": lambda: find("deep.jsonl"),
}.items():
    try:
        read()
        print(name, "was read")
    except InputError as error:
        print(f"{name}: {peak() - start} MiB: {str(error)[:150]}", file=sys.stderr)
print(peak() - start)
"""


def npy_header(shape: tuple, kind: str = "<f4") -> bytes:
    content = io.BytesIO()
    about = {"descr": kind, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, about)
    return content.getvalue()


def zipped(place: Path, entries: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(place, "w", how) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def write_bombs(here: Path) -> None:
    """Small files that claim much, or unpack to much."""
    zeros = bytes(2**26)
    write_rows(here / "photo.csv", ["a.png", "a.png"])
    (here / "a.png").write_bytes(picture())
    shape = pickle.dumps({b"data": np.zeros((1, 3072), np.uint8)}, 2)
    start = b"K\x01M\x00\x0c\x86"  # the shape (1, 3072)
    assert start in shape
    (here / "shape.pkl").write_bytes(shape.replace(start, b"J\xff\xff\xff\x00M\x00\x0c\x86"))
    for name, kind in (("header", tarfile.XHDTYPE), ("member", tarfile.REGTYPE)):
        (here / name).mkdir()
        entry = tarfile.TarInfo("cifar-100-python/meta")
        entry.size, entry.type = 16 * len(zeros), kind
        with open(here / name / "cifar-100-python.tar.gz", "wb") as file:
            file.write(gzip.compress(entry.tobuf(), 1))
            file.write(gzip.compress(zeros, 1) * 16)
    zipped(here / "zeros.npz", {"vector.npy": npy_header((2**16, 2**10)) + 4 * zeros}, 8)
    zipped(here / "header.npz", {"vector.npy": npy_header((10**12, 512))})
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2**26, np.float32)), 2**8)
    pq.write_table(pa.table({"vector": vectors}), here / "vectors.parquet", compression="zstd")
    same = pa.DictionaryArray.from_arrays(np.zeros(2 * 10**7, np.int8), ["a.png"])
    pq.write_table(pa.table({"path": same, "label": same}), here / "rows.parquet")
    architecture = {**ARCHITECTURE, "head": None, "backbone": "timm/vit_giant_patch14_224"}
    write_encoder(here / "giant", architecture=architecture)
    write_encoder(here / "wide", architecture={**ARCHITECTURE, "projection": 10**9})
    zipped(here / "zeros.pt", {"archive/data.pkl": b"", "archive/data/0": 4 * zeros}, 8)
    about = {"maskcon index": 1, "identity": "0", "run": "r", "image_size": 1, "version": "0"}
    entries = {
        "about.json": json.dumps({**about, "kind": "exact", "recall": None}).encode(),
        "vectors.npy": npy_header((10**12, 512)),
        "rows.arrow": b"",
    }
    zipped(here / "header.index", entries)
    chunks = b""
    for chunk in (b"IHDR" + (10**5).to_bytes(4) * 2 + b"\x08\x02\0\0\0", b"IDAT" + bytes(9)):
        chunks += (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)
    (here / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    (here / "deep.jsonl").write_text("[" * 10**6)


@pytest.mark.heavy
def test_bombs_do_not_fill_memory(here):
    write_bombs(here)
    done = subprocess.run(
        [sys.executable, "-c", BOMBS], capture_output=True, text=True, cwd=here, timeout=600
    )
    print(done.stderr)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300  # MiB


@pytest.mark.parametrize("name", ["run.json", "encoder.json", "state.json", "recipe.toml"])
def test_nested_too_deep(here, name):
    reader = next(reader for reader in READERS.values() if reader.file == name)
    reader.beside(here)
    (here / name).write_text(("a = " if name.endswith("toml") else "") + "[" * 10**5)
    with pytest.raises(InputError, match=r"too deep|nested|recursion"):
        reader.read(here / name)


@pytest.mark.parametrize(
    "text",
    ["epochs = " + "9" * 5000, "epochs = 0x" + "f" * 5000, "lr = 1" + "0" * 400, "seed = 1e999"],
)
def test_numbers_that_no_option_holds(here, text):
    (here / "r.toml").write_text(text)
    with pytest.raises(InputError):
        resolve({}, recipe=here / "r.toml")


# Names and classes ------------------------------------------------------------------------------


def test_names_of_all_kinds_are_read(here):
    write_tree(here / "tree", [name.replace("/", "_") for name in NAMES], each=2)
    found = find(str(here / "tree"))
    assert set(found.coarse_names) == set(NAMES)
    assert found.parts["train"].pictures.decode(0).shape == (16, 16, 3)
    write_rows(here / "t.csv", [str(p) for p in sorted((here / "tree").rglob("*.png"))])
    again = find(str(here / "t.csv"))
    assert len(again.parts["train"]) == 4 * len(NAMES)
    assert again.parts["train"].pictures.decode(3).shape == (16, 16, 3)


def test_a_terminal_is_not_steered(here):
    assert printable("a\n\tb ä犬") == "a\n\tb ä犬"
    assert printable("\x1b[2J\r\x07\u202e\udcff") == "\\x1b[2J\\r\\x07\\u202e\\udcff"
    write_tree(here / "tree", ["\x1b[2J", "[red]"], each=2)
    (here / "tree" / "train" / "\x1b[2J" / "\x1b[31m.png").write_bytes(b"")
    done = CliRunner().invoke(cli, ["data", "check", "tree"])
    assert done.exit_code == 1
    assert "\x1b" not in done.output
    assert "\\x1b[31m.png" in done.output
    assert "[red]" in done.output


@pytest.mark.parametrize("reader", READERS)
def test_empty_files(reader, here):
    assert not attempt(reader, b"", prepared(reader, here)) or reader == "recipe"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,coarse\n", "no rows"),
        ("path,coarse\n,cats\n", "for a path"),
        ("path,coarse\na.png,\n", "no coarse label"),
        ("path,coarse,fine\na.png,cats,tabby\nb.png,cats,\n", "no fine label"),
        ("path,coarse,split\na.png,cats,train\nb.png,cats,\n", "of split ''"),
        (",\na.png,cats\n", "two columns ''"),
    ],
)
def test_empty_cells(here, text, message):
    (here / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        find(str(here / "t.csv"))


@pytest.mark.heavy
def test_many_classes(here):
    """As many as rows: time and memory grow with both, not with their product."""
    count = 200_000
    with open(here / "t.csv", "w") as file:
        file.write("path,coarse\n")
        file.writelines(f"{i}.png,class {i}\n" for i in range(count))
    code = (
        "import resource; from maskcon.data import find;"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        f"found = find('t.csv'); assert len(found.coarse_names) == {count};"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 300  # MiB


def test_a_hundred_thousand_labels(here):
    count = 100_000
    names = [str(here / f"{i}.png") for i in range(count)]
    with open(here / "known.csv", "w") as file:
        file.write("path,fine\n")
        file.writelines(f"{i}.png,label {i}\n" for i in range(count))
    told = known.read(here / "known.csv", names)
    assert (told.count, len(told.names)) == (count, count)
    with open(here / "wide.csv", "w") as file:
        file.write(",".join(["path", "coarse", *(f"c{i}" for i in range(count))]) + "\n")
        file.write(",".join(["a.png", "cats", *map(str, range(count))]) + "\n")
    assert find(str(here / "wide.csv")).coarse_names == ("cats",)


# Folders ----------------------------------------------------------------------------------------


def test_links_in_circles_and_deep_folders(here):
    tree = write_tree(here / "tree")
    (tree / "train" / "cats" / "round").symlink_to(tree)
    (tree / "train" / "self").symlink_to("self")
    (tree / "train" / "cats" / "own.png").symlink_to("own.png")
    pictures = find(str(tree / "train")).parts["train"].pictures
    with pytest.raises(InputError, match=r"own\.png cannot be read"):
        pictures.decode(4)
    assert len(folder.loose(tree)[0]) == 17
    deep = os.open(tree, os.O_RDONLY)
    for _ in range(1200):  # more than Python's functions may be nested
        os.mkdir("d", dir_fd=deep)
        below = os.open("d", os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    os.close(deep)
    assert len(folder.loose(tree)[0]) == 17
    with pytest.raises(InputError):
        find(str(tree / "train" / "self"))
    subprocess.run(["rm", "-rf", tree / "d"], check=True)  # deeper than Python removes


@pytest.mark.parametrize(
    "options",
    [
        {"data": "round"},
        {"data": "cifar100", "data_dir": "round"},
        {"init": "round"},
        {"features": "round/v.npz"},
        {"recipe": "round"},
        {"out": "round"},
        {"data": "x" * 5000},
        {"data": "a\0b"},
        {"data_dir": "a\0b"},
        {"data": ""},
    ],
)
def test_options_that_are_no_paths(here, options):
    (here / "round").symlink_to("round")
    with pytest.raises(InputError):
        commands.train(**{"out": "run", "epochs": 1, "warmup_epochs": 0, **options})


@pytest.mark.parametrize("special", ["pipe", "device", "folder"])
def test_what_is_no_file_is_no_picture(here, special):
    place = here / "a.png"
    if special == "pipe":
        os.mkfifo(place)
    elif special == "device":
        place.symlink_to("/dev/zero")
    else:
        place.mkdir()
    for look in (Files([place]).decode, Files([place]).size, Files([place]).digest):
        with pytest.raises(InputError, match="no file, but a folder, pipe or device"):
            look(0)


# Vectors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".csv"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_vectors_that_are_not_finite(here, suffix, value):
    vectors = np.eye(4, dtype=np.float32)
    vectors[2, 1] = value
    embeddings.write(here / f"v{suffix}", embeddings.Embeddings(vectors))
    with pytest.raises(InputError, match="row 2 is not finite"):
        embeddings.read(here / f"v{suffix}")


@pytest.mark.parametrize("kind", ["exact", "ivf"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_index_of_vectors_that_are_not_finite(here, kind, value):
    vectors = np.eye(8, dtype=np.float32)
    rows = table([str(i) for i in range(8)], ["a"] * 8, *([None] * 8 for _ in range(3)))
    index = Index.of(About("0", "r", 32, "0", kind), vectors, rows)
    index_file.write(index, here / "a.index")
    content = (here / "a.index").read_bytes()
    one = vectors[5].tobytes()
    at = content.index(vectors.tobytes()) + 5 * len(one)
    wrong = np.full(8, value, np.float32).tobytes()
    (here / "a.index").write_bytes(content[:at] + wrong + content[at + len(one) :])
    with pytest.raises(InputError, match=r"not finite|damaged"):
        index_file.read(here / "a.index")[0].search(vectors[5:6], 8)


def test_an_encoder_that_has_diverged(here):
    write_encoder(here / "run", state=lambda v: v * torch.nan if v.is_floating_point() else v)
    encoder = Encoder.load(here / "run", device="cpu", precision="fp32")
    with pytest.raises(InputError, match="not finite"):
        encoder.embed(np.ones((2, 4), np.float32))


@pytest.mark.parametrize(
    "description",
    [
        {"image_size": 10**9},
        {"image_size": "32"},
        {"image_size": True},
        {"mean": [float("nan")] * 3},
        {"std": [1, 2]},
        {"architecture": {**ARCHITECTURE, "head": {**HEAD, "hidden": 3}}},
        {"architecture": {**ARCHITECTURE, "backbone": "timm/hf-hub:somebody/model"}},
        {"architecture": {**ARCHITECTURE, "backbone": "timm/local-dir:/tmp"}},
        {"architecture": {**ARCHITECTURE, "code": "import os"}},
        {"architecture": []},
    ],
)
def test_descriptions_that_no_encoder_has(here, description):
    with pytest.raises(InputError):
        load_encoder(write_encoder(here / "run", **description))


# MATLAB's files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_matlabs_lists_as_scipy_reads_them(here, compressed, order):
    kinds = [("fname", "O"), ("class", "O"), ("box", "O")]
    rows = np.array([("ä.jpg", 1, np.arange(300)), ("", 196, np.array([0.5]))], kinds)
    names = np.array(["Audi TT RS Coupe 2012", "x"], object)
    content = {"annotations": rows, "class_names": names}
    savemat(here / "a.mat", content, do_compression=compressed)
    found, theirs = matlab.read(here / "a.mat"), loadmat(here / "a.mat", squeeze_me=True)
    assert found["class_names"] == theirs["class_names"].tolist()
    assert [row["fname"] for row in found["annotations"]] == ["ä.jpg", ""]
    for mine, other in zip(found["annotations"], theirs["annotations"], strict=True):
        assert mine["class"] == [other["class"]]
        assert mine["box"] == np.atleast_1d(other["box"]).tolist()


def test_matlab_files_that_are_none(here):
    for content, message in (
        (b"x" * 200, "level than 5"),
        (bytes(126) + b"IM" + bytes(4), "cannot be read"),
    ):
        (here / "a.mat").write_bytes(content)
        with pytest.raises(InputError, match=message):
            matlab.read(here / "a.mat")


# Any bytes --------------------------------------------------------------------------------------

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
EDITS = st.lists(
    st.tuples(
        st.floats(0, 1),  # where
        st.one_of(st.integers(0, 16), st.just(10**6)),  # bytes that are taken away
        st.binary(max_size=12),  # bytes that are put there
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture(scope="module")
def places(tmp_path_factory) -> dict[str, tuple[Path, bytes]]:
    """For each reader a folder, and a good file."""
    root = tmp_path_factory.mktemp("readers")
    return {name: (prepared(name, root / name), READERS[name].seed()) for name in READERS}


@pytest.mark.parametrize("reader", READERS)
def test_good_files_are_read(reader, places):
    place, seed = places[reader]
    assert attempt(reader, seed, place)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS)
@QUICK
@given(edits=EDITS)
def test_damaged_files(reader, places, edits):
    place, content = places[reader]
    for where, gone, new in edits:
        at = round(where * len(content))
        content = content[:at] + new + content[at + gone :]
    attempt(reader, content, place)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("reader", READERS)
@settings(QUICK, max_examples=15)
@given(content=st.binary(max_size=200))
def test_any_bytes(reader, places, content):
    attempt(reader, content, places[reader][0])


CELLS = st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | CELLS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(CELLS, inner, max_size=3),
    max_leaves=4,
)


@settings(QUICK, max_examples=60)
@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_any_cells_come_back(rows, tmp_path):
    with open(tmp_path / "t.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["path", "coarse"], *rows])
    try:
        found = find(str(tmp_path / "t.csv")).parts["train"]
        names = find(str(tmp_path / "t.csv")).coarse_names
    except InputError:
        assert any(not cell.strip() for row in rows for cell in row)
        return
    assert [names[label] for label in found.coarse] == [coarse.strip() for _, coarse in rows]
    assert [Path(found.pictures.name(row).strip()) for row in range(len(rows))] == [
        Path(str(tmp_path / path.strip()).strip()) for path, _ in rows
    ]


@settings(QUICK, max_examples=60)
@given(rows=st.lists(st.dictionaries(st.sampled_from(["path", "coarse", "fine"]), VALUES)))
def test_any_json_rows(rows, tmp_path):
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    try:
        find(str(tmp_path / "t.jsonl"))
    except InputError:
        return


NAMED = st.sampled_from(["data", "method", "epochs", "lr", "tau", "w", "seed", "flip", "stem"])


@settings(QUICK, max_examples=100)
@given(config=st.dictionaries(NAMED | CELLS, VALUES, max_size=4))
def test_any_configuration_of_a_run(config, tmp_path):
    attempt("run", json.dumps({"config": config}).encode(), tmp_path)


CASES = sorted(CORPUS.glob("*/*"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.parent.name}-{case.name}")
def test_the_corpus(case, tmp_path):
    attempt(case.parent.name, case.read_bytes(), prepared(case.parent.name, tmp_path / "x"))


# The main job, without a network, on names that are code -----------------------------------------

JOB = """
import socket, sys

reached = []
asked = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
sys.addaudithook(lambda event, given: reached.append((event, given)) if event in asked else None)

from pathlib import Path
from maskcon.cli import cli

try:
    socket.create_connection(("192.0.2.1", 80), 1)
except OSError:
    assert reached  # the hook hears what there is to hear
    reached.clear()
else:
    raise SystemExit("there is a network")

def typed(*words):
    cli.main(words, standalone_mode=False)

fast = ("--backbone", "resnet10w16", "--epochs", "1", "--warmup-epochs", "0", "--image-size", "32")
typed("train", "--data", "tree", "--out", "run", "--confine", *fast)
typed("eval", "run")
typed("embed", "run", "tree", "-o", "v.parquet")
typed("index", "run", "tree", "-o", "a.index")
some = str(sorted(Path("tree/test").rglob("*.png"))[0])
typed("search", "a.index", some, "-k", "5", "--html", "search.html", "--json", "search.json")
typed("discover", "run", "tree", "-o", "groups")
typed("report", "run")
assert not reached, reached
"""


class Elements(HTMLParser):
    """Every element of a page, and its text outside of scripts."""

    def __init__(self, page: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.heavy
def test_the_main_job_without_a_network_on_names_that_are_code(here):
    if not shutil.which("unshare"):
        pytest.skip("unshare is not installed, so no network namespace can be made")
    alone = ["unshare", "--map-root-user", "--net"]
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        pytest.skip("this system permits no namespaces of one's own")
    data = glyphs.make(train=160, test=60)
    for part in ("train", "test"):
        split = getattr(data, part)
        for row, image in enumerate(split.images.pixels):
            coarse, fine = NAMES[split.coarse[row] % 4], NAMES[split.fine[row] % len(NAMES)]
            place = here / "tree" / part / coarse / fine / f"{NAMES[row % len(NAMES)]}{row}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(place)
    done = subprocess.run(
        [*alone, sys.executable, "-c", JOB], cwd=here, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "\x1b" not in done.stdout + done.stderr
    pages = sorted(here.rglob("*.html"))
    assert [page.name for page in pages] == ["sheet.html", "report.html", "search.html"]
    for page in pages:
        found = Elements(page.read_text())
        assert NAMES[0] in found.text
        for tag, attributes in found.elements:
            assert not [name for name in attributes if name.startswith("on")], (page, tag)
            assert tag != "img" or attributes.get("src", "data:").startswith("data:")
    assert "`<img src=x onerror=alert(1)>`" in (here / "run" / "README.md").read_text()


def test_the_sheet_of_a_search_escapes_every_name():
    name = NAMES[0]
    card = sheet.Card(path=name, thumbnail=b"x", label=name, score=0.5)
    found = Elements(sheet.page(name, name, [(card, [card])]))
    assert found.text.count(name) == 6  # title, heading, line, query, label and path of the hit
    images = [attributes for tag, attributes in found.elements if tag == "img"]
    assert [image["alt"] for image in images] == [name, name]
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
