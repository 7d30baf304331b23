"""What edits are made to: trees in which photographs of a burst count once."""

from datetime import UTC, datetime

import numpy as np
import torch
from PIL import Image

from maskcon.app.ground import ground_of
from maskcon.discover.tree import grow
from maskcon.runtime.progress import Silent
from maskcon.search.index import About, Index, table

ABOUT = About("identity", "run", 16, "0")


def test_photographs_of_a_burst_count_once_by_their_exif(tmp_path):
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 16)) + 4 * np.eye(16)[np.arange(60) % 3]
    x[1:10] = x[0] + 0.3 * random.normal(size=(9, 16))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    when, paths = np.full(60, np.nan), []
    for row in range(60):
        exif = Image.Exif()
        if row < 10:
            exif.get_ifd(0x8769)[0x9003] = f"2024:05:06 07:08:{row:02d}"
            when[row] = datetime(2024, 5, 6, 7, 8, row, tzinfo=UTC).timestamp()
        paths.append(str(tmp_path / f"{row}.jpg"))
        Image.new("RGB", (8, 8), (4 * row, 0, 0)).save(paths[-1], exif=exif)
    nothing = [None] * 60
    index = Index.of(ABOUT, x, table(paths, nothing, nothing, nothing, nothing))
    ground = ground_of(index, 0, tmp_path / "ground.npz", Silent())
    vectors, coarse = torch.from_numpy(x), torch.zeros(60, dtype=torch.long)
    (expected,), (without,) = grow(vectors, coarse, taken=when), grow(vectors, coarse)
    (found,) = ground.grown
    np.testing.assert_array_equal(found.tree.merges, expected.tree.merges)
    assert found.tree.once[-1] == expected.tree.once[-1] <= without.tree.once[-1] - 8
    again = ground_of(index, 0, tmp_path / "ground.npz", Silent())  # which the file has
    np.testing.assert_array_equal(again.grown[0].tree.merges, expected.tree.merges)
