"""After training a head on a frozen network, no command runs the network over the same pictures."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import maskcon
from maskcon import commands
from maskcon.data.sets import glyphs
from maskcon.model.blocks import Layered
from maskcon.vectors import file as embeddings
from tests.conftest import Told, picture_tree

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
