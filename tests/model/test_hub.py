"""Encoders of the hub, in a cache laid out as huggingface_hub lays it out."""

import io
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants
from PIL import Image

from maskcon import Encoder, commands, vectors
from maskcon.data import find
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.model.network import Architecture, Network
from maskcon.model.saved import save_encoder
from tests.conftest import FAST, write_tree

SHAPE = Architecture(backbone="resnet10w8", stem="small", heads=("z",), projection=8, classes=2)
COMMITS = {"main": "a" * 40, "v1": "b" * 40}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Two revisions of one encoder, with other weights."""
    repo = tmp_path / "models--owner--fruit"
    for name, commit in COMMITS.items():
        snapshot = repo / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (repo / "refs").mkdir(exist_ok=True)
        (repo / "refs" / name).write_text(commit)
        size = {"image_size": 16, "mean": [0.5] * 3, "std": [0.2] * 3}
        save_encoder(snapshot, Network(SHAPE), size)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    return repo


def test_an_encoder_in_the_cache(cache):
    images = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
    for name, revision in (("", "main"), ("@main", "main"), ("@v1", "v1"), ("@" + "b" * 40, "v1")):
        expected = Encoder.load(cache / "snapshots" / COMMITS[revision])
        encoder = Encoder.load(f"hf:owner/fruit{name}")
        assert encoder.identity == expected.identity
        assert np.array_equal(encoder.embed(images), expected.embed(images))


def test_the_revision_is_noted(cache):
    """By the commit, whatever a branch or a tag is later."""
    assert Encoder.load("hf:owner/fruit").source == "hf:owner/fruit@" + "a" * 40
    assert Encoder.load("hf:owner/fruit@v1").source == "hf:owner/fruit@" + "b" * 40
    folder = cache / "snapshots" / COMMITS["v1"]
    assert Encoder.load(folder / "encoder.safetensors").source == str(folder)


def test_commands_take_its_name(cache, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = glyphs.make(train=40, test=20)
    write_tree(tmp_path / "photos", data)
    there = "hf:owner/fruit@" + "b" * 40
    before = sorted(path for path in cache.rglob("*"))
    for name, at in (("hf:owner/fruit@v1", there), (str(cache / "snapshots" / ("b" * 40)), None)):
        out = "hub" if at == there else "folder"
        at = at or name
        commands.embed(name, "photos", out=f"{out}.npz")
        assert vectors.read(Path(f"{out}.npz")).about["run"] == at
        made = commands.index(name, "photos", out=f"{out}.index")
        assert made["run"] == at
        assert commands.index(f"{out}.index", "photos", add=True)["run"] == at
        found = commands.search(f"{out}.index", "photos/test", k=2)
        assert found["queries"]
        groups = commands.discover(name, "photos", out=out, split="train", groups=2)
        assert groups["run"] == at
        commands.assign(name, "photos", groups=out, out=f"{out}.csv", split="test")
    one, other = (vectors.read(Path(f"{out}.npz")).vectors for out in ("hub", "folder"))
    assert np.array_equal(one, other)
    assert Path("hub.csv").read_text() == Path("folder.csv").read_text()
    assert sorted(path for path in cache.rglob("*")) == before
    with pytest.raises(InputError, match=r"an export of hf:owner/fruit@b+ needs a place"):
        commands.export("hf:owner/fruit@v1", to="safetensors")
    done = commands.export("hf:owner/fruit@v1", to="safetensors", out="backbone.safetensors")
    assert done["agreement"].min_cosine > 0.9999
    shutil.rmtree(cache)
    with pytest.raises(InputError, match=r"hub.index was made with .* say --download to fetch it"):
        commands.search("hub.index", "photos/test")


def test_a_run_of_the_hub_is_judged_and_has_a_page(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    photos, run = tmp_path / "photos", tmp_path / "run"
    write_tree(photos, glyphs.make(train=40, test=20))
    commands.train(out=run, data=photos, **FAST)
    repo = tmp_path / "hub" / "models--owner--run"
    for name in ("refs", "snapshots"):
        (repo / name).mkdir(parents=True)
    (repo / "refs" / "main").write_text("d" * 40)
    snapshot = repo / "snapshots" / ("d" * 40)
    commands.export(run, to="hf", out=snapshot)
    before = {path: path.stat().st_mtime_ns for path in repo.rglob("*")}
    with pytest.raises(InputError, match=r"the page of hf:owner/run@d+ needs a place of its own"):
        commands.report("hf:owner/run", photos)
    page = commands.report("hf:owner/run", photos, tmp_path / "page.html", points=50)
    judged = commands.eval("hf:owner/run", data=photos)  # an export says no paths
    assert page["results"]["recall@1"] == judged["recall@1"] == commands.eval(run)["recall@1"]
    assert {path: path.stat().st_mtime_ns for path in repo.rglob("*")} == before


def test_a_set_of_the_hub(tmp_path, monkeypatch):
    """Shards of Parquet, each a link to a blob, as huggingface_hub lays them out."""
    drawn = glyphs.make(train=40, test=20)
    repo = tmp_path / "datasets--owner--letters"
    snapshot = repo / "snapshots" / ("c" * 40)
    (snapshot / "data").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("c" * 40)
    (repo / "blobs").mkdir()
    for part in ("train", "test"):
        split = getattr(drawn, part)
        rows = []
        for image, coarse in zip(split.images.pixels, split.coarse.tolist(), strict=True):
            file = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(file, "png")
            rows.append({"image": {"bytes": file.getvalue(), "path": None}, "coarse": coarse})
        pq.write_table(pa.Table.from_pylist(rows), repo / "blobs" / part)
        shard = snapshot / "data" / f"{part}-00000-of-00001.parquet"
        shard.symlink_to(repo / "blobs" / part)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    for name in ("hf:owner/letters", "hf:owner/letters@" + "c" * 40):
        found = find(name)
        assert found.name == name
        assert {part: len(rows) for part, rows in found.parts.items()} == {"train": 40, "test": 20}
    done = commands.train(data=name, out=tmp_path / "run", method="maskcon", **FAST)
    assert done["config"]["data"] == name
    assert commands.eval(tmp_path / "run")["images"] == 20  # found again by its name
    with pytest.raises(InputError, match="hf:owner/none is not in the hub's cache"):
        find("hf:owner/none")
    with pytest.raises(InputError, match="names no data set of the hub: expected hf:OWNER/NAME"):
        find("hf:letters")


def test_what_is_not_there(cache, tmp_path):
    for name, message in (
        (
            "hf:owner/none",
            "hf:owner/none is not in the hub's cache .* --download in this command",
        ),
        ("hf:owner/fruit@v2", "fruit@v2 is not in the hub's cache"),
        ("hf:fruit", "expected hf:OWNER/NAME"),
        ("hf:../../fruit", "expected hf:OWNER/NAME"),
    ):
        with pytest.raises(InputError, match=message):
            Encoder.load(name)
    with pytest.raises(InputError, match="hf:owner/none cannot be fetched: "):
        Encoder.load("hf:owner/none", download=True)
    with pytest.raises(InputError, match="download has no effect"):
        Encoder.load(tmp_path, download=True)
