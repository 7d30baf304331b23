import time

import numpy as np
import pytest
import torch

from maskcon.data.images import InMemory
from maskcon.data.pictures import Arrays
from maskcon.data.scan import CHUNK
from maskcon.model.backbones import build_backbone
from maskcon.model.blocks import Layered, last
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.vectors import encode as loop
from maskcon.vectors.encode import encode, of_pictures, of_split


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("many", [1, 1000])
@pytest.mark.parametrize("together", [1, 16 * 16, 7 * 16 * 16, 10**9])
def test_how_many_go_through_together_is_no_matter(together, many, cores, monkeypatch):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (50, 3, 16, 16), dtype=torch.uint8, generator=random)
    norm = torch.nn.BatchNorm2d(5)
    torch.nn.init.uniform_(norm.running_var, 0.5, 1.5, generator=random)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 5, 3), norm, torch.nn.ReLU(), torch.nn.Flatten()
    )
    preprocessing = Preprocessing(16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    monkeypatch.setattr(loop, "TOGETHER", together)
    monkeypatch.setattr(loop, "MANY", many)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    rows, vectors = [], []
    for batch, made in encode(
        network.eval(),
        of_split(InMemory(pixels), size=16, workers=0, batch_size=20),
        preprocessing,
        Precision("fp32", torch.device("cpu")),
        count=len(pixels),
    ):
        rows.append(batch.rows)
        vectors.append(made)
    assert torch.cat(rows).tolist() == list(range(50))
    mean, std = (torch.tensor(x)[:, None, None] for x in (preprocessing.mean, preprocessing.std))
    expected = network((pixels / 255 - mean) / std)
    torch.testing.assert_close(torch.cat(vectors), expected.detach(), rtol=1e-4, atol=1e-5)
    # each core by itself, where there are parts for all; then as before
    parts = [-(-n // max(1, together // 256)) for n in (20, 20, 10)]
    assert told == [n for part in parts if part >= cores > 1 for n in (1, cores)]


def test_an_error_in_a_network_that_several_cores_run_is_told(monkeypatch):
    def broken(images):
        raise ValueError("broken")

    monkeypatch.setattr(loop, "TOGETHER", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    batches = of_split(InMemory(torch.zeros(4, 3, 8, 8, dtype=torch.uint8)), size=8, workers=0)
    preprocessing = Preprocessing(8, (0.5,) * 3, (0.2,) * 3)
    precision = Precision("fp32", torch.device("cpu"))
    with pytest.raises(ValueError, match="broken"):
        next(encode(broken, batches, preprocessing, precision, count=4))
    assert told == [1, 2]


def test_pictures_are_read_while_the_network_runs():
    """The whole next batch is read although nobody has asked for it yet."""
    read = []
    pictures = Arrays([np.zeros((8, 8, 3), np.uint8)] * (3 * CHUNK))
    decode = pictures.decode
    pictures.decode = lambda row, reduce=1: read.append(row) or decode(row, reduce)
    batches = of_pictures(pictures, size=8, threads=2, batch_size=CHUNK)
    assert len(next(batches).rows) == CHUNK
    for _ in range(1000):
        if len(read) == 2 * CHUNK:
            break
        time.sleep(0.01)
    assert sorted(read) == list(range(2 * CHUNK))
    batches.close()
    assert len(read) == 2 * CHUNK


def test_layers_of_parts_on_several_cores_are_not_mistaken(monkeypatch):
    """What blocks say is noted while a network runs: on each core what its own part says."""
    torch.manual_seed(0)
    backbone, _ = build_backbone("resnet10w8", stem="small")
    network = Layered(backbone.eval(), last(backbone, 2)).eval()
    pixels = torch.randint(256, (256, 3, 16, 16), dtype=torch.uint8)
    preprocessing = Preprocessing(16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    monkeypatch.setattr(loop, "TOGETHER", 4 * 16 * 16)

    def made(cores: int) -> torch.Tensor:
        monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
        batches = of_split(InMemory(pixels), size=16, workers=0, batch_size=64)
        precision = Precision("fp32", torch.device("cpu"))
        found = encode(network, batches, preprocessing, precision, count=len(pixels))
        return torch.cat([vectors for _, vectors in found])

    expected = made(1)
    for _ in range(3):
        torch.testing.assert_close(made(4), expected, rtol=1e-4, atol=1e-5)
