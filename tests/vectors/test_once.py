"""After training a head on a frozen network, no command runs the network over the same pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import maskcon
from maskcon import commands
from maskcon.config import Config
from maskcon.data import find, load
from maskcon.data.images import OnDisk
from maskcon.data.pictures import Files, Joined
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.model.blocks import Layered
from maskcon.runtime import cache
from maskcon.vectors import file as embeddings
from maskcon.vectors.encode import _Inference
from maskcon.vectors.once import embed
from maskcon.vectors.store import Store
from tests.conftest import Told, picture_tree, untrained_run, write_tree

NETWORK = "timm/test_efficientnet"
RUN = {
    **{"recipe": "frozen", "backbone": NETWORK, "image_size": 80, "epochs": 1, "batch_size": 16},
    **{"bank_size": 32, "components": 8, "head_hidden": 8, "device": "cpu", "precision": "fp32"},
    **{"warmup_epochs": 0, "projection": 8},
}


@pytest.fixture
def seen(monkeypatch):
    """How many pictures have gone through a network, so far."""
    count, forward = [0], Layered.forward

    def counted(self, images):
        count[0] += len(images)
        return forward(self, images)

    monkeypatch.setattr(Layered, "forward", counted)
    return count


@pytest.mark.parametrize("how", ["embed", "eval"])
def test_a_picture_that_changes_meanwhile_is_not_mistaken(how, tmp_path, own_cache, monkeypatch):
    """Its digest is of before, and its vector of after: that is not kept."""
    photos = picture_tree(tmp_path / "photos", glyphs.make(train=24, test=1).train, 90)
    run, decode, changed = untrained_run(tmp_path / "run", 0, image_size=80), Files.decode, []

    def changes(self, row, reduce=1):
        if reduce == 1 and not changed:  # it is embedded, not looked at
            changed.append(self.paths[row])
            Image.new("RGB", (90, 90), "red").save(self.paths[row])
        return decode(self, row, reduce)

    monkeypatch.setattr(Files, "decode", changes)
    if how == "embed":
        commands.embed(run, photos, out=tmp_path / "a.npz")
    else:
        encoder = maskcon.Encoder.load(run)
        images = load(find(str(photos)).with_test(0.2, 0), image_size=80).train.images
        embed(encoder.network, images, encoder.preprocessing, encoder.precision, 1, store=Store())
    (lot,) = Store().lots()
    count = 24 if how == "embed" else len(images)
    assert lot.pictures == count - 1


def test_every_command_after_another(tmp_path, own_cache, seen):
    torch.manual_seed(0)
    name = NETWORK.removeprefix("timm/")
    save_file(timm.create_model(name, num_classes=0).state_dict(), tmp_path / "w.safetensors")
    photos, run = tmp_path / "photos", tmp_path / "run"
    data = glyphs.make(train=48, test=16)
    for part in ("train", "test"):
        picture_tree(photos / part, getattr(data, part), 90)
    commands.train(data=photos, out=run, init=str(tmp_path / "w.safetensors"), **RUN)
    count = 48 + 16
    assert count <= seen[0] <= count + 8  # and a few that tell whether the network works
    after, encoder = seen[0], maskcon.Encoder.load(run)
    commands.eval(run)
    commands.eval(run, protocol="recall,diagnostics")
    commands.report(run, map="pca")
    commands.discover(run, out=tmp_path / "groups")
    commands.index(run, out=tmp_path / "all.index")
    commands.embed(run, out=tmp_path / "v.parquet")
    commands.export(run, to="atlas", out=tmp_path / "atlas.parquet", projection="pca")
    assert seen[0] == after
    # the same vectors as without a store, and a new picture costs itself alone
    kept = embeddings.read(tmp_path / "v.parquet")
    np.testing.assert_allclose(kept.vectors, encoder.embed(list(kept.paths)), atol=1e-5)
    after = seen[0]
    new = next(photos.rglob("*.png"))
    Image.open(new).resize((91, 91)).save(new.with_name("new.png"))
    told = Told()
    commands.embed(run, photos, out=tmp_path / "w.npz", progress=told)
    assert seen[0] == after + 1
    assert f"{count} of {count + 1} vectors are known from before" in told.notes


def test_a_limit_of_pixels_is_part_of_the_key(tmp_path, own_cache):
    """A JPEG above it is decoded at a part of its size, and has another vector."""
    path, run = tmp_path / "a.jpg", untrained_run(tmp_path / "run", 0)
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    plain, encoder = maskcon.Encoder.load(run), maskcon.Encoder.load(run, store=Store())
    found = []
    for limit in (Config.max_pixels, 96 * 96 // 4):
        pictures = Files([path])
        pictures.settle(limit)
        expected = plain.embed_readable(pictures).vectors
        for kept in (False, True):
            (made,) = encoder.stream(Joined([pictures]).take(np.array([0])))
            assert made.kept == kept
            np.testing.assert_allclose(made.vectors, expected, atol=1e-6)
        found.append(expected)
        digest = pictures.digest(0)  # the same, as the file is
        images = OnDisk(pictures, torch.tensor([[96, 96]]), (digest,), "")
        assert images.digests() == images.digests(torch.tensor([0]))
        assert images.digests() == [digest + pictures.limit_told()]
    assert abs(found[0] - found[1]).max() > 1e-3


@pytest.mark.parametrize("suffix", embeddings.SUFFIXES)
def test_a_file_of_embed_is_refused_where_pictures_changed(suffix, tmp_path, own_cache):
    photos = picture_tree(tmp_path / "photos", glyphs.make(train=6, test=1).train, 20)
    run, file = untrained_run(tmp_path / "run", 0), tmp_path / f"v{suffix}"
    commands.embed(run, photos, out=file)
    given = embeddings.read(file)
    encoder = maskcon.Encoder.load(run)
    np.testing.assert_array_equal(encoder.embed(file), given.vectors)
    first, second = map(Path, given.paths[:2])
    before = first.stat()
    os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    with pytest.raises(InputError, match=rf"1 of 6 have changed since, such as {first}, .* at 20"):
        encoder.embed(file)
    again = commands.embed(run, photos, out=file, overwrite=True)
    assert again["known"] == 6  # only the time was another one
    np.testing.assert_array_equal(encoder.embed(file), given.vectors)
    Image.new("RGB", (30, 30)).save(second)
    for ask in (encoder.embed, lambda file: commands.index(run, file, out=tmp_path / "x.index")):
        with pytest.raises(InputError, match=rf"{second}, which had \d+ bytes and has \d+: embed"):
            ask(file)
    second.unlink()  # which whoever shows it tells
    encoder.embed(file)


def test_a_file_of_embed_in_place_of_pictures(tmp_path, monkeypatch):
    """The network runs over none of them, and only what is shown is decoded."""
    monkeypatch.setenv(cache.FOLDER, cache.NOWHERE)
    photos, run = tmp_path / "photos", tmp_path / "run"
    write_tree(photos, glyphs.make(train=48, test=24))
    small = {"backbone": "resnet10w16", "image_size": 16, "epochs": 1, "batch_size": 16}
    commands.train(data=photos, out=run, **{**small, "bank_size": 32, "device": "cpu"})
    expected = commands.discover(run, photos, out=tmp_path / "expected")
    results = commands.eval(run, data=photos, protocol="recall,diagnostics")
    files = [tmp_path / f"v{suffix}" for suffix in embeddings.SUFFIXES]
    for file in files:
        commands.embed(run, photos, out=file)
    decode, decoded = Files.decode, []

    def counted(self, row, reduce=1):
        decoded.append(self.paths[row])
        return decode(self, row, reduce)

    def refused(self, images):
        raise AssertionError("the network ran")

    monkeypatch.setattr(Files, "decode", counted)
    monkeypatch.setattr(_Inference, "_of_part", refused)
    for file in files:
        found = commands.discover(run, file, out=tmp_path / f"groups{file.suffix}")
        assert found["judged"] == expected["judged"]
        groups = tmp_path / f"groups{file.suffix}" / "groups.csv"
        assert groups.read_text() == (tmp_path / "expected" / "groups.csv").read_text()
    assert 0 < len(decoded) / len(files) < 72  # what the page shows
    decoded.clear()
    assert commands.embed(run, files[0], out=tmp_path / "again.npz")["known"] == 72
    first, again = (embeddings.read(f).vectors for f in (files[0], tmp_path / "again.npz"))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(maskcon.Encoder.load(run).embed(files[0]), first)
    assert not decoded
    judged = commands.eval(run, data=files[0], protocol="recall,diagnostics")
    assert judged["recall@1"] == pytest.approx(results["recall@1"])
    commands.report(run, files[0], tmp_path / "report.html", map="pca")
    other = untrained_run(tmp_path / "other", 1)
    for ask in (
        lambda: commands.discover(other, files[1], out=tmp_path / "o"),
        lambda: commands.index(other, files[1], out=tmp_path / "o.index"),
        lambda: commands.embed(other, files[1], out=tmp_path / "o.npz"),
    ):
        with pytest.raises(InputError, match="encoder"):
            ask()
    with pytest.raises(InputError, match="whose columns have their names"):
        commands.discover(run, files[0], out=tmp_path / "c", coarse_column="fine")
