import pytest
import torch

from maskcon.data.images import InMemory
from maskcon.model.preprocessing import Preprocessing
from maskcon.runtime.device import Precision
from maskcon.vectors import encode as loop
from maskcon.vectors.encode import encode, of_split


@pytest.mark.parametrize("together", [1, 16 * 16, 7 * 16 * 16, 10**9])
def test_how_many_go_through_together_is_no_matter(together, monkeypatch):
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (50, 3, 16, 16), dtype=torch.uint8, generator=random)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3), torch.nn.ReLU(), torch.nn.Flatten())
    preprocessing = Preprocessing(16, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    monkeypatch.setattr(loop, "TOGETHER", together)
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
