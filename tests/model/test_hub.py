"""Encoders of the hub, in a cache laid out as huggingface_hub lays it out."""

import numpy as np
import pytest
from huggingface_hub import constants

from maskcon import Encoder
from maskcon.errors import InputError
from maskcon.model.network import Architecture, Network
from maskcon.model.saved import save_encoder

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


def test_what_is_not_there(cache, tmp_path):
    for name, message in (
        ("hf:owner/none", "hf:owner/none is not in the hub's cache .* download=True"),
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
