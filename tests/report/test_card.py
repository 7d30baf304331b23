"""The model card of a run: a program that runs, without paths, beside what learning must beat."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from maskcon import commands
from maskcon.cli.results import print_run
from maskcon.data.sets import glyphs
from maskcon.report.card import in_markdown
from maskcon.runs import folder as runs
from tests.conftest import write_tree

NETWORK = "timm/test_efficientnet"  # a few thousand weights
SMALL: dict[str, Any] = {
    "image_size": 32,
    "epochs": 2,
    "warmup_epochs": 1,
    "batch_size": 32,
    "bank_size": 64,
    "lr": 0.02,
    "precision": "fp32",
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    """A folder of pictures whose name is the set's."""
    folder = tmp_path_factory.mktemp("someone") / "letters"
    write_tree(folder, glyphs.make(train=96, test=40))
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("private") / "w.safetensors"
    network = timm.create_model(NETWORK.removeprefix("timm/"), num_classes=0)
    save_file(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def frozen(pictures, weights, tmp_path_factory) -> Path:
    """The run of a head on a frozen network."""
    folder = tmp_path_factory.mktemp("runs") / "head"
    network = {"backbone": NETWORK, "init": str(weights), "freeze": True, "head_hidden": 16}
    commands.train(data=pictures, out=folder, **SMALL, **network)
    return folder


def test_its_program_runs_as_it_is(pictures, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    commands.train(data=pictures, out=folder, backbone="resnet10w16", **{**SMALL, "image_size": 8})
    card = (folder / "README.md").read_text()
    assert 'encoder = maskcon.Encoder.load(".")' in card
    for name in ("a.jpg", "b.jpg"):
        Image.effect_noise((40, 30), 80).convert("RGB").save(folder / name)
    vectors = result_of(card, folder, monkeypatch)
    assert vectors.shape[0] == 2
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_its_program_takes_vectors_where_the_encoder_does(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    coarse = np.arange(120) % 4
    table = {
        "vector": (coarse[:, None] + random.normal(size=(120, 6))).astype(np.float32),
        "coarse": coarse.astype(str),
        "split": np.where(np.arange(120) < 80, "train", "test"),
    }
    np.savez(tmp_path / "mine.npz", **table)
    options = {name: value for name, value in SMALL.items() if name != "image_size"}
    commands.train(features=tmp_path / "mine.npz", out=tmp_path / "run", head_hidden=8, **options)
    card = (tmp_path / "run" / "README.md").read_text()
    shutil.copy(tmp_path / "mine.npz", tmp_path / "run" / "vectors.npz")
    assert len(result_of(card, tmp_path / "run", monkeypatch)) == 120
    assert card.startswith("# A head on vectors trained on mine with")
    assert str(tmp_path) not in card


def result_of(card: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """What the card's program calls `vectors`, run in its folder."""
    (program,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(folder)
    names: dict[str, Any] = {}
    exec(program, names)
    return names["vectors"]


def test_it_names_no_path(frozen, pictures, weights):
    card = (frozen / "README.md").read_text()
    assert "trained on letters with" in card
    assert "initial weights: `w.safetensors`" in card
    for path in (pictures, weights, frozen):
        assert str(path.parent) not in card
    assert not re.search(r"(^|[\s(\"'`])(/|~|[A-Z]:\\)\w", card, re.MULTILINE)


def test_a_head_stands_beside_the_network_alone(frozen, capsys):
    """In the card, on the screen and on the page."""
    run = runs.read(frozen)
    results = run["results"]
    alone = f"{results['frozen']['recall@1']:.2%}"
    assert f"| frozen network alone | {alone} |" in (frozen / "README.md").read_text()
    print_run(run)
    line = next(line for line in capsys.readouterr().out.splitlines() if "frozen network" in line)
    assert alone in line
    commands.report(frozen, points=20, map="pca")
    page = (frozen / "report.html").read_text()
    shown = f"{100 * results['frozen']['recall@1']:.2f} %"
    assert f"frozen network alone, among all pictures</th><td>{shown}" in page
    assert f"frozen network alone {shown}" in page  # beside the large figure


def test_other_data_are_judged_by_the_network_alone_as_well(frozen, pictures, tmp_path):
    results = commands.report(
        frozen, pictures / "test", tmp_path / "r.html", points=20, map="pca", precision="fp32"
    )["results"]
    own = runs.read(frozen)["results"]["frozen"]
    # vectors of training are kept as 16-bit floats
    assert results["frozen"]["recall@1"] == pytest.approx(own["recall@1"], abs=0.051)


@pytest.mark.parametrize(
    "name",
    [
        *("www.example.com", "https://x.org", "a@b.org", "@name", "#1", "$x$", "a|b", "_a_", "`a`"),
        *("<b>", "![a](b)", "a_b", "~~a~~", "``", "&amp;", ":tada:", "x" * 50 + "/y"),
    ],
)
def test_names_are_neither_links_nor_formulas_nor_mentions(name):
    """In code, whose marks are longer than any in the name, nothing is."""
    made = in_markdown(name)
    marks = re.match("`+", made).group()
    assert made.endswith(marks)
    assert made[len(marks) : -len(marks)].strip() == name
    assert marks not in re.findall("`+", name)
    assert in_markdown("polar bears 2") == "polar bears 2"
