"""What version 0.1.0 wrote is read still: runs, checkpoints, indices, packs, files of vectors."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import maskcon
from maskcon import commands
from maskcon.data import find, from_arrays, load
from maskcon.runs import folder as runs
from maskcon.vectors import file as embeddings

HEAD = "80618132869200cb1f9967d039a1b9a3"
THERE = Path(__file__).parent / "v0_1"


def noise():
    """The pictures that the files were made of."""
    random = np.random.default_rng(0)
    parts = []
    for n in (32, 12):
        fine = np.arange(n) % 4
        images = random.integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
        parts.append((images, ["ab" if f < 2 else "cd" for f in fine], ["abcd"[f] for f in fine]))
    return from_arrays(*parts[0], test=parts[1], name="noise")


@pytest.fixture
def there(tmp_path):
    shutil.copytree(THERE, tmp_path / "v0_1")
    return tmp_path / "v0_1"


def test_an_encoder_and_its_vectors(there):
    known = embeddings.read(there / "vectors.npz")
    made = maskcon.Encoder.load(there / "finished").embed(noise())
    assert np.einsum("nf,nf->n", made, known.vectors).min() > 0.9999
    for suffix in ("csv", "parquet"):
        other = embeddings.read(there / f"vectors.{suffix}")
        np.testing.assert_allclose(other.vectors, known.vectors, atol=1e-6)
        assert list(other.fine) == list(known.fine)


def test_a_finished_run_is_judged(there):
    before = runs.read(there / "finished")["results"]
    found = commands.eval(there / "finished", data=noise(), protocol="recall,diagnostics")
    assert found["recall@1"] == pytest.approx(before["recall@1"], abs=0.1)
    assert found["pixels"] == pytest.approx(before["pixels"])
    assert commands.compare([there / "finished"])[0]["metrics"]["recall@1"]


def test_a_broken_run_goes_on(there):
    """From its checkpoint, which has the bank and the momenta, to where the unbroken one ended."""
    run = commands.train(out=there / "broken", data=noise(), resume=True)
    assert run["status"] == "finished"
    ended = safetensors.torch.load_file(there / "whole.safetensors")
    for name, value in safetensors.torch.load_file(
        there / "broken" / "encoder.safetensors"
    ).items():
        torch.testing.assert_close(value, ended[name], atol=2e-2, rtol=2e-2)
    lines, whole = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (there / "broken" / "metrics.jsonl", there / "whole.jsonl")
    )
    assert [line["step"] for line in lines] == [line["step"] for line in whole]
    assert lines[-2]["loss"] == pytest.approx(whole[-2]["loss"], abs=0.05)


def test_a_head_on_vectors(there):
    config = runs.read(there / "head")["config"]
    assert (config["components"], config["head_hidden"], config["feature_noise"]) == (4, 8, 0.25)
    encoder = maskcon.Encoder.load(there / "head")
    assert encoder.identity == HEAD
    made = encoder.embed(there / "given.npz")
    assert made.shape == (120, 8)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_an_index(there, kind):
    images = noise().parts["test"].pictures
    queries = [images.decode(row) for row in range(3)]
    result = commands.search(there / f"{kind}.index", queries, k=3, run=there / "finished")
    assert [len(query["hits"]) for query in result["queries"]] == [3, 3, 3]
    assert [len(query["left_out"]) for query in result["queries"]] == [1, 1, 1]


def test_a_pack(there):
    found = load(find(str(there / "noise.pack")), image_size=16)
    np.testing.assert_array_equal(
        found.test.images.pixels[5].permute(1, 2, 0).numpy(),
        noise().parts["test"].pictures.decode(5),
    )
