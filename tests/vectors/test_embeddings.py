"""Embeddings in files: three formats that say the same, streamed, and gone on with."""

import json
import signal
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import maskcon
from maskcon import commands
from maskcon.config import Config
from maskcon.data import find, from_arrays
from maskcon.errors import InputError
from maskcon.runtime import cache
from maskcon.vectors import file as embeddings
from maskcon.vectors.file import Embeddings
from maskcon.vectors.store import Store
from tests import command_worker
from tests.conftest import Told, begun, picture_tree, typed, untrained_run

SUFFIXES = (".parquet", ".npz", ".csv")


@pytest.fixture
def photos(tmp_path) -> Path:
    """A tree of 12 pictures in two coarse and four fine classes."""
    random = np.random.default_rng(0)
    for row in range(12):
        place = tmp_path / "photos" / f"c{row % 2}" / f"f{row % 4}"
        place.mkdir(parents=True, exist_ok=True)
        image = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(image).save(place / f"{row:02d}.png")
    return tmp_path / "photos"


def some(count: int = 7, width: int = 5) -> Embeddings:
    vectors = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    paths = np.array([f'/a, b/"é"\n{row}.jpg' for row in range(count)], object)
    coarse = np.array([None if row == 2 else f"c{row % 3}" for row in range(count)], object)
    split = np.array(["train"] * 4 + ["test"] * (count - 4), object)
    stamps = np.array([None if row == 1 else f"{row} 17" for row in range(count)], object)
    about = {"run": "/r", "data": "photos", "stamps": stamps}
    return Embeddings(vectors, paths, coarse, None, split, "abc", 32, **about)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_formats_round_trip(suffix, tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "BLOCK", 10)  # blocks of two rows
    given = some()
    embeddings.write(tmp_path / f"e{suffix}", given)
    back = embeddings.read(tmp_path / f"e{suffix}")
    np.testing.assert_array_equal(back.vectors, given.vectors)
    assert back.vectors.dtype == np.float32
    for name in ("paths", "coarse", "split", "stamps"):
        assert getattr(back, name).tolist() == getattr(given, name).tolist()
    assert back.fine is None
    assert (back.identity, back.image_size, back.run, back.data) == ("abc", 32, "/r", "photos")
    assert back.version == maskcon.__version__
    assert embeddings.identity(tmp_path / f"e{suffix}") == "abc"
    assert [*tmp_path.glob("*.new")] == []


def test_the_record():
    given = some()
    codes, names = given.labels("coarse")
    assert (codes.tolist(), names) == ([0, 1, -1, 0, 1, 2, 0], ("c0", "c1", "c2"))
    with pytest.raises(InputError, match="no fine labels, but coarse, split"):
        given.labels("fine")
    np.testing.assert_allclose(np.linalg.norm(given.unit(), axis=1), 1, atol=1e-6)
    part = given.take(given.split == "test")
    assert (len(part), part.width, part.identity) == (3, 5, "abc")
    assert part.paths.tolist() == given.paths[4:].tolist()
    with pytest.raises(InputError, match="vector of row 1 is zero"):
        Embeddings(np.array([[1.0], [0.0]], np.float32)).unit()


def test_vectors_of_other_programs(tmp_path):
    vectors = np.arange(6.0).reshape(3, 2)
    file = tmp_path / "e.parquet"
    for lists in (
        pa.array(vectors.tolist()),
        pa.array(list(vectors.astype(np.float16)), pa.large_list(pa.float16())),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), 2),
        pa.array(vectors.astype(int).tolist()),
    ):
        label = pa.array(["x", "y", "x"]).dictionary_encode()
        pq.write_table(pa.table({"Embedding": lists, "label": label, "n": [1.0] * 3}), file)
        back = embeddings.read(file)
        np.testing.assert_array_equal(back.vectors, vectors)
        assert back.coarse.tolist() == ["x", "y", "x"]
        assert (back.paths, back.identity) == (None, None)
    np.savez(tmp_path / "e.npz", embedding=vectors, path=np.array(["a", "b", "c"]), label=[1, 2, 1])
    back = embeddings.read(tmp_path / "e.npz")
    assert back.paths.tolist() == ["a", "b", "c"]
    assert back.labels("coarse")[1] == ("1", "2")
    (tmp_path / "e.csv").write_text("v0,v1,label\n1,2,x\n3,4e-1,\n")
    back = embeddings.read(tmp_path / "e.csv")
    np.testing.assert_array_equal(back.vectors, np.array([[1, 2], [3, 0.4]], np.float32))
    assert back.coarse.tolist() == ["x", None]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1.0], [1.0, 2.0]], "row 1 has 2 numbers, and row 0 has 1"),
        ([[1.0], None], "row 1 has no vector"),
        ([[1.0], [None]], "lacks a number"),
        (["a", "b"], "is of string: expected lists of numbers"),
        ([["a"], ["b"]], "lists of string: expected numbers"),
        ([[1.0], [float("nan")]], "vector of row 1 is not finite"),
        (pa.array([[], []], pa.list_(pa.float32())), "has no vectors"),
        (pa.array([], pa.list_(pa.float32())), "has no vectors"),
    ],
)
def test_parquet_that_is_none(column, message, tmp_path):
    pq.write_table(pa.table({"vector": column}), tmp_path / "e.parquet")
    with pytest.raises(InputError, match=message):
        embeddings.read(tmp_path / "e.parquet")


def test_files_that_are_none(tmp_path):
    def refused(name: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            embeddings.read(tmp_path / name)

    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "e.parquet")
    refused("e.parquet", "has a, b: expected a column or field `vector` or `embedding`")
    for name in ("x.parquet", "x.npz", "x.csv"):
        (tmp_path / name).write_bytes(b"\x80nonsense")
    refused("x.parquet", "damaged or no Parquet file")
    refused("x.npz", "damaged or no npz file")
    refused("x.csv", "cannot be read as a csv file")
    (tmp_path / "y.csv").write_text("v0,v2\n1,2\n")
    refused("y.csv", r"expected v0, v1, \.\.\.")
    (tmp_path / "y.csv").write_text("v0,path\n1,a\n,b\n")
    refused("y.csv", "row 1 has nothing in column 'v0'")
    (tmp_path / "y.csv").write_text("v0,path\nabc,a\n")
    refused("y.csv", "cannot be read as embeddings")
    np.savez(tmp_path / "z.npz", vector=np.array([[1], [1, 2]], object))
    refused("z.npz", "holds Python objects, which could execute code")
    np.savez(tmp_path / "z.npz", vector=np.ones(3))
    refused("z.npz", r"float64 \[3\]: expected numbers \[N, F\]")
    np.savez(tmp_path / "z.npz", vector=np.ones((3, 2)), path=np.array(["a"]))
    refused("z.npz", "3 vectors and 1 paths")
    refused("none.npz", "not there")
    refused("", "a folder")
    refused("e.txt", "not there")
    (tmp_path / "e.txt").write_text("")
    refused("e.txt", "ends in '.txt'")
    embeddings.write(tmp_path / "e.csv", some())
    lines = (tmp_path / "e.csv").read_text().splitlines(keepends=True)
    (tmp_path / "e.csv").write_text("".join(lines[:-2]))
    refused("e.csv", "it was changed since")
    (tmp_path / "e.csv.json").write_text("[1]")
    refused("e.csv", "no JSON object")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_embed(suffix, run, photos, own_cache, tmp_path):
    out = tmp_path / f"e{suffix}"
    done = commands.embed(run, photos, out=out)
    assert (done["images"], done["known"], done["skipped"]) == (12, 0, [])
    back = embeddings.read(out)
    encoder = maskcon.Encoder.load(run)
    assert back.identity == encoder.identity
    assert (back.image_size, back.run, back.width) == (16, str(run), encoder.width)
    np.testing.assert_array_equal(back.vectors, encoder.embed(list(back.paths)))
    assert all(Path(path).is_absolute() for path in back.paths)
    fine = [str(Path(path).parent.relative_to(photos)) for path in back.paths]
    assert back.fine.tolist() == fine
    assert back.coarse.tolist() == [name.split("/")[0] for name in fine]
    assert back.split is None
    with pytest.raises(InputError, match="exists: give another --out, or --overwrite"):
        commands.embed(run, photos, out=out)
    commands.embed(run / "encoder.safetensors", photos, out=out, overwrite=True)


def test_what_may_be_embedded(run, photos, tmp_path):
    out = tmp_path / "e.npz"

    def embedded(data) -> Embeddings:
        commands.embed(run, data, out=out, overwrite=True)
        return embeddings.read(out)

    loose = embedded(photos / "c0" / "f0")
    assert (len(loose), loose.coarse, loose.split) == (3, None, None)
    assert len(embedded(photos / "c0" / "f0" / "00.png")) == 1
    images = np.zeros((4, 16, 16, 3), np.uint8)
    arrays = embedded(from_arrays(images[:3], ["a", "b", "a"], test=(images[3:], ["a"])))
    assert arrays.split.tolist() == ["train"] * 3 + ["test"]
    assert arrays.paths[3] == "image 0 of arrays (test)"
    Image.fromarray(images[0]).save(photos / "beside.png")  # so it is no set of labels
    told = Told()
    commands.embed(run, photos, out=out, overwrite=True, progress=told)
    assert embeddings.read(out).coarse is None
    assert "are taken without labels" in told.notes[0]
    for data, message in (
        (tmp_path / "nowhere", "no path that exists"),
        (run, "has no pictures"),
        (None, "does not say what it was trained with"),
    ):
        with pytest.raises(InputError, match=message):
            embedded(data)
    for name, message in (("e.txt", "ends in '.txt'"), ("none/e.npz", "is no folder")):
        with pytest.raises(InputError, match=message):
            commands.embed(run, photos, out=tmp_path / name)
    with pytest.raises(InputError, match=r"has no encoder\.json"):
        commands.embed(photos, photos, out=tmp_path / "x.npz")


def test_the_runs_own_data_keep_its_split(photos, tmp_path):
    for row in range(4):
        Image.new("RGB", (8, 8), (row, 0, 0)).save(photos / "c0" / "f0" / f"more{row}.png")
    folder = untrained_run(tmp_path / "own", seed=0)
    config = Config(data=str(photos), seed=3).as_dict()
    (folder / "run.json").write_text(json.dumps({"config": config}))
    expected = find(str(photos)).with_test(0.2, 3).parts["test"].pictures
    for data in (None, photos):
        commands.embed(folder, data, out=tmp_path / "e.parquet", overwrite=True)
        back = embeddings.read(tmp_path / "e.parquet")
        test = back.paths[back.split == "test"].tolist()
        assert test == [expected.name(row) for row in range(len(expected))]
        assert test
        assert len(back) == 16


def test_all_splits_or_one(run, tiny, tmp_path):
    for name, part in (("train", tiny.train), ("test", tiny.test), ("val", tiny.test)):
        few = part.take(torch.arange(0, len(part), 8))
        picture_tree(tmp_path / "set" / name, few)
    whole = commands.embed(run, tmp_path / "set", out=tmp_path / "all.parquet")["images"]
    numbers = [
        commands.embed(run, tmp_path / "set", out=tmp_path / f"{name}.parquet", split=name)[
            "images"
        ]
        for name in ("train", "test", "validation")
    ]
    assert whole == sum(numbers)
    assert numbers[1] == numbers[2]
    made = commands.index(run, tmp_path / "set", out=tmp_path / "x.index")
    assert made["pictures"] == whole
    made = commands.index(run, tmp_path / "set", out=tmp_path / "v.index", split="val")
    assert made["pictures"] == numbers[2]
    (tmp_path / "set" / "val").rename(tmp_path / "loose")
    with pytest.raises(InputError, match="has no validation split, only train, test"):
        commands.embed(run, tmp_path / "set", out=tmp_path / "no.parquet", split="val")
    with pytest.raises(InputError, match="expected all, train, test, validation"):
        commands.embed(run, tmp_path / "set", out=tmp_path / "no.parquet", split="dev")
    with pytest.raises(InputError, match="has the vectors already"):
        commands.index(run, tmp_path / "all.parquet", out=tmp_path / "n.index", split="test")


def test_unreadable_pictures(run, photos, tmp_path):
    (photos / "c0" / "f0" / "bad.png").write_bytes(b"")
    out = tmp_path / "e.parquet"
    with pytest.raises(InputError, match=r"bad\.png.*\n1 of 13 pictures cannot be read"):
        commands.embed(run, photos, out=out)
    assert not out.exists()
    done = commands.embed(run, photos, out=out, skip_unreadable=True)
    assert (done["images"], done["known"]) == (12, 12)  # what was embedded is kept
    assert [Path(name).name for name, _ in done["skipped"]] == ["bad.png"]
    assert len(embeddings.read(out)) == 12
    with pytest.raises(InputError, match=r"bad\.png cannot be read as an image: it is empty"):
        commands.embed(run, photos / "c0" / "f0" / "bad.png", out=tmp_path / "f.npz")


def test_going_on(run, other_run, photos, own_cache, tmp_path, monkeypatch):
    """Broken off in the middle: the same vectors, and only what is missing or new is embedded."""
    out = tmp_path / "e.parquet"
    with monkeypatch.context() as patch:
        patch.setenv(cache.FOLDER, cache.NOWHERE)
        commands.embed(run, photos, out=tmp_path / "whole.parquet", batch_size=4)
    whole = embeddings.read(tmp_path / "whole.parquet")
    add, batches = Store.add, []

    def breaks(self, source, pictures, vectors):
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(len(pictures))
        add(self, source, pictures, vectors)

    monkeypatch.setattr(Store, "add", breaks)
    with pytest.raises(KeyboardInterrupt):
        commands.embed(run, photos, out=out, batch_size=4)
    monkeypatch.setattr(Store, "add", add)
    assert not out.exists()
    assert commands.embed(other_run, photos, out=tmp_path / "other.npz")["known"] == 0
    changed = whole.paths[0]  # is not taken from before
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(changed)
    told = Told()
    done = commands.embed(run, photos, out=out, batch_size=4, progress=told)
    assert (done["images"], done["known"]) == (12, 7)
    assert "7 of 12 vectors are known from before" in told.notes
    back = embeddings.read(out)
    np.testing.assert_allclose(back.vectors[1:], whole.vectors[1:], atol=0.02)  # bf16, perhaps
    assert not np.allclose(back.vectors[0], whole.vectors[0])


def test_a_full_disk(run, photos, own_cache, tmp_path):
    import resource

    from maskcon.errors import TrainingError

    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(TrainingError, match=r"could not be written.*no earlier one"):
            commands.embed(run, photos, out=tmp_path / "e.parquet", batch_size=1)
        with pytest.raises(TrainingError, match=r"could not be written.*no earlier one"):
            embeddings.write(tmp_path / "e.npz", some(500))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    commands.embed(run, photos, out=tmp_path / "e.parquet")
    assert len(embeddings.read(tmp_path / "e.parquet")) == 12


@pytest.mark.heavy
def test_killed_and_gone_on_with(run, own_cache, tmp_path):
    """SIGKILL in the middle; the same command ends with the vectors of an unbroken one."""
    words = ["embed", str(run), "glyphs", "--workers", "1", "-o"]
    out, log = tmp_path / "e.parquet", tmp_path / "log"
    where = {cache.FOLDER: str(own_cache)}
    running = begun(command_worker.command, [*words, str(out)], tmp_path, log, None, where)
    deadline = time.monotonic() + 600
    while not sum(lot.pictures for lot in Store().lots()) and time.monotonic() < deadline:
        time.sleep(0.01)
    running.kill()
    running.join()
    assert running.exitcode == -signal.SIGKILL
    assert not out.exists()
    done = typed(*words, out, environment=where)
    assert "of 15,000 vectors are known from before" in done.stdout
    typed(*words, tmp_path / "whole.parquet", environment={cache.FOLDER: cache.NOWHERE})
    parts, whole = (embeddings.read(file) for file in (out, tmp_path / "whole.parquet"))
    np.testing.assert_array_equal(parts.vectors, whole.vectors)
    assert parts.paths.tolist() == whole.paths.tolist()
    about = pq.read_schema(out).metadata[b"maskcon"]
    assert json.loads(about)["rows"] == 15_000
