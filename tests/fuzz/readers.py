"""What is fuzzed: every reader, from the bytes of a file to a result or an error for people."""

import hashlib
import io
import json
import pickle
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from scipy.io import savemat

from maskcon.commands.sources import resolved
from maskcon.data import find
from maskcon.data.pictures import Files, Pictures
from maskcon.data.readers import pack as packs
from maskcon.data.sets import cars, cifar
from maskcon.discover import known
from maskcon.errors import InputError, TrainingError
from maskcon.model.backbones import read_weights
from maskcon.model.network import Architecture, Network
from maskcon.model.saved import load_encoder, save_encoder
from maskcon.runs import folder as runs
from maskcon.runs.checkpoint import HEAD as HEAD_BYTES
from maskcon.runs.checkpoint import (
    MAGIC,
    load_checkpoint,
    save_checkpoint,
)
from maskcon.runtime.progress import Silent
from maskcon.search import file as index_file
from maskcon.search.index import About, Index, table
from maskcon.vectors import file as embeddings
from maskcon.vectors.file import Embeddings

CORPUS = Path(__file__).parent / "corpus"
TABLE = (
    "path,coarse,fine,split\na.png,cats,tabby,train\nb.png,cats,siamese,test\nc.png,dogs,pug,test\n"
)
HEAD = {"parts": [4], "kept": 2, "hidden": 2, "share": 2.0}
ARCHITECTURE = {
    "backbone": "vectors",
    "stem": "small",
    "heads": ["z", "logits"],
    "projection": 2,
    "classes": 2,
    "head": HEAD,
}


@dataclass(frozen=True)
class Reader:
    """Something that reads a file.

    Attributes:
        file: what the file is called in its folder.
        seed: makes a good one.
        read: reads it, and uses what it found.
        beside: writes the files that it needs beside it.
    """

    file: str
    seed: Callable[[], bytes]
    read: Callable[[Path], object]
    beside: Callable[[Path], object] = lambda folder: None


def attempt(name: str, content: bytes, folder: Path) -> bool:
    """Whether a reader takes these bytes; False where it says why not.

    Anything but a result, an `InputError` or a `TrainingError` is a finding.
    """
    reader = READERS[name]
    file = folder / reader.file
    file.write_bytes(content)
    try:
        reader.read(file)
    except (InputError, TrainingError):
        return False
    return True


def prepared(name: str, folder: Path) -> Path:
    """A folder with what a reader needs beside its file."""
    folder.mkdir(exist_ok=True)
    READERS[name].beside(folder)
    return folder


def picture(kind: str = "PNG") -> bytes:
    """A small picture."""
    content = io.BytesIO()
    ramp = np.arange(8 * 6 * 3, dtype=np.uint8).reshape(8, 6, 3)
    Image.fromarray(ramp).save(content, kind)
    return content.getvalue()


# Good files --------------------------------------------------------------------------------------


def _json_lines() -> bytes:
    head, *rows = (line.split(",") for line in TABLE.splitlines())
    return "\n".join(json.dumps(dict(zip(head, row, strict=True))) for row in rows).encode()


def _columns(pictures: bool) -> pa.Table:
    images = [picture()] * 3 if pictures else ["a.png", "b.png", "c.png"]
    return pa.table({"image": images, "coarse": ["cats", "cats", "dogs"], "fine": ["a", "b", "c"]})


def _parquet() -> bytes:
    content = io.BytesIO()
    pq.write_table(_columns(pictures=True), content)
    return content.getvalue()


def _arrow() -> bytes:
    content, rows = io.BytesIO(), _columns(pictures=True)
    with pa.ipc.new_stream(content, rows.schema) as writer:
        writer.write_table(rows)
    return content.getvalue()


def _state(folder: Path) -> None:
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')


def _through_file(name: str, write: Callable[[Path], object]) -> bytes:
    """What a function writes to a file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def _pack() -> bytes:
    def write(path: Path) -> None:
        rows = path.parent / "rows.parquet"
        pq.write_table(_columns(pictures=True), rows)
        packs.write(
            find(str(rows)), path, size=8, workers=1, skip_unreadable=False, progress=Silent()
        )

    return _through_file("a.pack", write)


def _batch() -> bytes:
    images = np.zeros((2, 3072), np.uint8)
    return pickle.dumps({b"data": images, b"coarse_labels": [0, 1], b"fine_labels": [0, 1]}, 2)


def _cifar_files(folder: Path) -> None:
    names = {b"coarse_label_names": [b"a", b"b"], b"fine_label_names": [b"c", b"d"]}
    (folder / "meta").write_bytes(pickle.dumps(names, 2))
    (folder / "test").write_bytes(_batch())
    (folder / "train").write_bytes(_batch())


def _archive() -> bytes:
    content = io.BytesIO()

    def fill(folder: Path) -> bytes:
        folder.mkdir()
        _cifar_files(folder)
        with tarfile.open(fileobj=content, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
            archive.add(folder, "cifar-100-python")
        return b""

    _through_file("x", lambda path: (fill(path.parent / "cifar"), path.write_bytes(b"")))
    return content.getvalue()


def _cars() -> bytes:
    kinds = [("relative_im_path", "O"), ("class", "O"), ("test", "O")]
    rows = np.array([("car_ims/1.jpg", 1, 0), ("car_ims/2.jpg", 2, 1)], kinds)
    names = np.array(["Audi TT RS Coupe 2012", "BMW X6 SUV 2012"], object)
    content = io.BytesIO()
    savemat(content, {"annotations": rows, "class_names": names})
    return content.getvalue()


def _cars_files(folder: Path) -> None:
    (folder / "car_ims").mkdir(exist_ok=True)
    for name in ("1.jpg", "2.jpg"):
        (folder / "car_ims" / name).write_bytes(picture("JPEG"))


def _vectors() -> Embeddings:
    text = [np.array(list(column), object) for column in ("abc", "xxy", "uvw")]
    vectors = np.eye(3, 4, dtype=np.float32)
    return Embeddings(vectors, *text, identity="0" * 32, image_size=32, run="runs/x", data="d")


def _embedded(suffix: str) -> Callable[[], bytes]:
    return lambda: _through_file(f"v{suffix}", lambda path: embeddings.write(path, _vectors()))


def _index(kind: str) -> Callable[[], bytes]:
    def write(path: Path) -> None:
        rows = table(["a", "b", "c"], ["x", "x", "y"], [None] * 3, [b"1", b"2", b"3"], [None] * 3)
        about = About("0" * 32, "runs/x", 32, "0.1.0", kind)
        index_file.write(Index.of(about, np.eye(3, 4, dtype=np.float32), rows), path)

    return lambda: _through_file("a.index", write)


@cache
def _network() -> Network:
    torch.manual_seed(0)
    return Network(Architecture.of(ARCHITECTURE))


def _encoder_files(folder: Path) -> None:
    save_encoder(folder, _network(), {"image_size": 32, "mean": [], "std": []})


def _encoder_file(name: str) -> Callable[[], bytes]:
    def write(path: Path) -> None:
        _encoder_files(path.parent)

    return lambda: _through_file(name, write)


def _weights() -> bytes:
    content = io.BytesIO()
    torch.save({"state_dict": {"a.weight": torch.ones(2, 2)}}, content)
    return content.getvalue()


def _checkpoint() -> bytes:
    state = {"training": {"step": 3, "weights": torch.ones(2, 2)}}
    return _through_file("last.ckpt", lambda path: save_checkpoint(path.parent, state))


# Reading them ------------------------------------------------------------------------------------


def _signed(path: Path) -> None:
    """A checkpoint as it stands, and with a checksum that is right, as who writes one has it."""
    with suppress(InputError):
        load_checkpoint(path)
    body = path.read_bytes()[HEAD_BYTES:]
    path.write_bytes(MAGIC + hashlib.sha256(body).hexdigest().encode() + b"\n" + body)
    load_checkpoint(path)


def _look(pictures: Pictures) -> None:
    """Look at pictures as the commands do; each is read, or an `InputError` says why not."""
    for row in range(min(len(pictures), 3)):
        pictures.name(row)
        try:
            pictures.size(row), pictures.kind(row), pictures.digest(row), pictures.decode(row)
        except InputError:
            continue


def _picture(path: Path) -> None:
    files = Files([path])
    files.kind(0), files.size(0), files.digest(0), files.decode(0)


def _find(path: Path) -> None:
    for part in find(str(path)).parts.values():
        _look(part.pictures)


def _run(path: Path) -> None:
    config = runs.read(path.parent)["config"]
    resolved(config, None)


def _search(path: Path) -> None:
    index, _ = index_file.read(path)
    index.rows.to_pylist()
    if len(index) and index.vectors.shape[1]:
        index.search(np.ones((1, index.vectors.shape[1]), np.float32), 1)


def _read_embeddings(path: Path) -> None:
    embeddings.identity(path)
    found = embeddings.read(path)
    found.unit()
    for level in ("coarse", "fine", "split"):
        if getattr(found, level) is not None:
            found.labels(level)


READERS = {
    "csv": Reader("table.csv", TABLE.encode, _find),
    "tsv": Reader("table.tsv", TABLE.replace(",", "\t").encode, _find),
    "jsonl": Reader("table.jsonl", _json_lines, _find),
    "parquet": Reader("table.parquet", _parquet, _find),
    "arrow": Reader("data.arrow", _arrow, lambda path: _find(path.parent), _state),
    "state": Reader(
        "state.json",
        lambda: b'{"_data_files": [{"filename": "data.arrow"}]}',
        lambda path: _find(path.parent),
        lambda folder: (folder / "data.arrow").write_bytes(_arrow()),
    ),
    "pack": Reader("set.pack", _pack, _find),
    "pickle": Reader("train", _batch, lambda path: cifar.read_cifar100(path.parent), _cifar_files),
    "archive": Reader("cifar-100-python.tar.gz", _archive, cifar.read_cifar100),
    "matlab": Reader("cars_annos.mat", _cars, lambda path: cars.read(path.parent), _cars_files),
    "picture": Reader("a.png", picture, _picture),
    "jpeg": Reader("a.jpg", lambda: picture("JPEG"), _picture),
    "tiff": Reader("a.tif", lambda: picture("TIFF"), _picture),
    "gif": Reader("a.gif", lambda: picture("GIF"), _picture),
    "webp": Reader("a.webp", lambda: picture("WEBP"), _picture),
    "recipe": Reader(
        "recipe.toml",
        lambda: (
            b'method = "maskcon"\nepochs = 3\nlr = 0.1\ntau = "0.5:0.05:cosine"\nflip = false\n'
        ),
        lambda path: resolved({"data": "glyphs"}, path),
    ),
    "run": Reader(
        "run.json",
        lambda: json.dumps({"config": {"data": "glyphs", "method": "maskcon", "w": 1.0}}).encode(),
        _run,
    ),
    "encoder": Reader(
        "encoder.json",
        _encoder_file("encoder.json"),
        lambda path: load_encoder(path.parent),
        _encoder_files,
    ),
    "safetensors": Reader(
        "encoder.safetensors",
        _encoder_file("encoder.safetensors"),
        lambda path: load_encoder(path.parent),
        _encoder_files,
    ),
    "weights": Reader("weights.pt", _weights, read_weights),
    "checkpoint": Reader("last.ckpt", _checkpoint, _signed),
    "index": Reader("a.index", _index("exact"), _search),
    "graph": Reader("a.index", _index("ivf"), _search),
    "vectors_parquet": Reader("v.parquet", _embedded(".parquet"), _read_embeddings),
    "vectors_npz": Reader("v.npz", _embedded(".npz"), _read_embeddings),
    "vectors_csv": Reader("v.csv", _embedded(".csv"), _read_embeddings),
    "known": Reader(
        "known.csv", lambda: b"path,fine\na.png,tabby\n", lambda path: known.read(path, ["a.png"])
    ),
}
