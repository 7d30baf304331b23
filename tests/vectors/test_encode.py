import itertools
import time

import numpy as np
import pytest
import torch

from maskcon.data.images import InMemory
from maskcon.data.pictures import Arrays
from maskcon.data.scan import look_through
from maskcon.errors import InputError
from maskcon.model.backbones import build_backbone
from maskcon.model.blocks import Layered, last
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.runtime.distributed import ALONE
from maskcon.runtime.progress import Silent
from maskcon.vectors import encode as loop
from maskcon.vectors.encode import encode, of_pictures, of_split

CPU = torch.device("cpu")
READ = {"size": 8, "threads": 2, "batch_size": 4}


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
    for made in encode(
        network.eval(),
        of_split(InMemory(pixels), size=16, workers=0, device=CPU, batch_size=20),
        preprocessing,
        Precision("fp32", CPU),
        count=len(pixels),
    ):
        rows.append(made.rows)
        vectors.append(made.features)
    assert torch.cat(rows).tolist() == list(range(50))
    mean, std = (torch.tensor(x)[:, None, None] for x in (preprocessing.mean, preprocessing.std))
    expected = network((pixels / 255 - mean) / std)
    torch.testing.assert_close(torch.cat(vectors), expected.detach(), rtol=1e-4, atol=1e-5)
    # each core by itself, where there are parts for all; in the end as before
    parts = [-(-n // max(1, together // 256)) for n in (20, 20, 10)]
    alone = max(parts) >= cores > 1
    assert {*told[:-1]} == ({1} if alone else set())
    assert told[-1:] == ([cores] if alone else [])


def test_an_error_in_a_network_that_several_cores_run_is_told(monkeypatch):
    def broken(images):
        raise ValueError("broken")

    monkeypatch.setattr(loop, "TOGETHER", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    blank = np.zeros((4, 8, 8, 3), np.uint8)
    images = InMemory(torch.from_numpy(blank).permute(0, 3, 1, 2))
    preprocessing = Preprocessing(8, (0.5,) * 3, (0.2,) * 3)
    for batches in (
        of_split(images, size=8, workers=0, device=CPU),
        of_pictures(Arrays([*blank]), **READ),
    ):
        with pytest.raises(ValueError, match="broken"):
            next(encode(broken, batches, preprocessing, Precision("fp32", CPU), count=4))
        assert told[-1] == 2
        assert {*told[:-1]} == {1}
        told.clear()


def flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)


def test_what_has_one_core_leaves_the_threads_of_others(monkeypatch):
    """Else what begins later would have one thread for ever, in a server."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    pictures = Arrays([np.zeros((8, 8, 3), np.uint8)] * 10)
    preprocessing = Preprocessing(8, (0.5,) * 3, (0.2,) * 3)
    found = encode(
        flat, of_pictures(pictures, **READ), preprocessing, Precision("fp32", CPU), count=10
    )
    assert sum(len(made.rows) for made in found) == 10
    assert not told


def test_pictures_are_read_while_nobody_asks():
    """The whole next batch is begun when one is handed over, and no other."""
    read = []
    pictures = Arrays([np.zeros((8, 8, 3), np.uint8)] * 300)
    decode = pictures.decode
    pictures.decode = lambda row, reduce=1: read.append(row) or decode(row, reduce)
    batches = of_pictures(pictures, **{**READ, "batch_size": 100})
    preprocessing = Preprocessing(8, (0.5,) * 3, (0.2,) * 3)
    found = encode(flat, batches, preprocessing, Precision("fp32", CPU), count=300)
    assert len(next(found).rows) == 100
    for _ in range(1000):
        if len(read) == 200:
            break
        time.sleep(0.01)
    assert sorted(read) == list(range(200))
    found.close()
    assert len(read) == 200


@pytest.mark.parametrize("cores", [1, 3, 0])
@pytest.mark.parametrize("together", [1, 4, 1000])
def test_pictures_that_cannot_be_read_are_left_out(together, cores, monkeypatch):
    """Some of a part, all of a part, all of a batch; on cores, and (0) as for a GPU."""
    monkeypatch.setattr(loop, "TOGETHER", together * 64)
    monkeypatch.setattr(torch, "get_num_threads", lambda: max(cores, 1))
    random = np.random.default_rng(0)
    pictures = Arrays([random.integers(0, 255, (8, 8, 3), np.uint8) for _ in range(50)])
    bad, decode = {0, 1, 2, 3, 9, *range(20, 40)}, pictures.decode

    def decoded(row: int, reduce: int = 1) -> np.ndarray:
        if row in bad:
            raise InputError(f"picture {row} is damaged")
        return decode(row, reduce)

    pictures.decode = decoded
    preprocessing = Preprocessing(8, (0.5,) * 3, (0.2,) * 3)
    inference = loop._Inference(flat, preprocessing, Precision("fp32", CPU), 50)
    inference._on_cores = cores > 0
    batches = of_pictures(pictures, **{**READ, "batch_size": 20})
    with inference:
        found = [*inference.each(batches)]
    assert [len(made.rows) for made in found] == [15, 0, 10]
    assert [*itertools.chain(*(made.rows.tolist() for made in found))] == sorted({*range(50)} - bad)
    assert [error for made in found for error in made.errors] == [
        (row, f"picture {row} is damaged") for row in sorted(bad)
    ]
    for made in found:
        for row, vector in zip(made.rows.tolist(), made.features, strict=True):
            pixels = torch.from_numpy(decode(row)).permute(2, 0, 1)[None]
            torch.testing.assert_close(vector, preprocessing.normalise(pixels).flatten())


def test_a_split_on_the_disk_has_the_pixels_that_workers_cut():
    """A core that reads for itself has what processes read for a GPU; damage is an error."""
    random = np.random.default_rng(0)
    pictures = Arrays([random.integers(0, 255, (90, 70, 3), np.uint8) for _ in range(12)])
    images, errors = look_through(pictures, 1, Silent(), ALONE)
    assert not errors
    pixels = torch.cat([part.clone() for part in images.plain(size=16, workers=1)])
    preprocessing = Preprocessing(16, (0.5,) * 3, (0.2,) * 3)

    def made() -> list[loop.Encoded]:
        batches = of_split(images, size=16, workers=1, device=CPU, batch_size=5)
        return [*encode(flat, batches, preprocessing, Precision("fp32", CPU), count=12)]

    found = torch.cat([part.features for part in made()])
    torch.testing.assert_close(found, preprocessing.normalise(pixels).flatten(1))

    def decoded(row: int, reduce: int = 1) -> np.ndarray:
        raise InputError(f"picture {row} is damaged")

    pictures.decode = decoded
    with pytest.raises(InputError, match="picture 0 is damaged"):
        made()


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
        batches = of_split(InMemory(pixels), size=16, workers=0, device=CPU, batch_size=64)
        precision = Precision("fp32", CPU)
        found = encode(network, batches, preprocessing, precision, count=len(pixels))
        return torch.cat([made.features for made in found])

    expected = made(1)
    for _ in range(3):
        torch.testing.assert_close(made(4), expected, rtol=1e-4, atol=1e-5)
