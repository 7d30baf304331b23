"""The benchmark: its sides do the same work, and its record says what it should."""

import json
import os
import re
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch

from maskcon.benchmark import answer, embedding, loader, recall, sides, step, table, views
from maskcon.benchmark.reference import Reference
from maskcon.benchmark.sides import Comparison, Side
from maskcon.cli import cli
from maskcon.errors import InputError, TrainingError
from maskcon.methods import METHODS, Output, Step
from maskcon.runtime.progress import Silent
from maskcon.vectors.store import Store
from tests.conftest import typed

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


class Here:
    """A side in this process, which imports nothing anew; `test_a_step_record` has real ones."""

    def __init__(self, side: Side, errors: object):
        module, function = side.make.split(":")
        self.side = side
        self.turn = getattr(import_module(module), function)(**json.loads(json.dumps(side.options)))

    def ask(self, line: str) -> dict[str, float]:
        assert line == "turn"
        return json.loads(json.dumps({**self.turn(), **sides._peaks()}))

    def close(self) -> None: ...


@pytest.fixture
def here(monkeypatch):
    """All sides work in this process."""
    monkeypatch.setattr(sides, "_Process", Here)


def noise(n: int = 64) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8), random.integers(0, 5, n)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_the_reference_computes_maskcon():
    """What we are compared with is the same loss, written another way."""
    torch.manual_seed(0)
    reference = Reference(*noise(), size=8, batch_size=16, bank_size=32, device="cpu")
    seen = {}
    forward, target = reference.query.forward, reference.target

    def first(x):
        q = forward(x)
        seen.setdefault("q", q)
        return q

    def spy(k, label):
        bank, bank_label = reference.bank.T.clone(), reference.bank_label.clone()
        seen.setdefault("step", {"k": k, "label": label, "bank": bank, "bank_label": bank_label})
        return target(k, label)

    reference.query.forward, reference.target = first, spy
    loss = reference.step()
    at = seen["step"]
    same = Step(
        query=Output(z=seen["q"]),
        key=Output(z=at["k"]),
        label=at["label"],
        bank_z=at["bank"],
        bank_label=at["bank_label"],
    )
    assert loss == pytest.approx(METHODS["maskcon"].loss(same, tau=0.05).item(), rel=1e-5)
    assert torch.equal(reference.bank.T[:16], at["k"])
    for _ in range(5):  # into the next epoch
        assert np.isfinite(reference.step())


@pytest.mark.parametrize("name", ["ours", "plain", "faiss_flat"])
def test_every_side_finds_the_same(name):
    if name == "faiss_flat":
        pytest.importorskip("faiss")
    options = {"rows": 700, "width": 16} | ({} if name == "faiss_flat" else {"device": "cpu"})
    found = getattr(recall, name)(**options)()
    features, label = recall._features(700, 16)
    similarity = (features.double() @ features.double().T).fill_diagonal_(-torch.inf)
    hit = label[similarity.argsort(1, descending=True)[:, :10]] == label[:, None]
    for k in (1, 2, 5, 10):
        assert found[f"recall@{k}"] == hit[:, :k].any(1).double().mean().item()
    assert found["count"] == 700


def has_ratios(record: dict, name: str) -> None:
    """A record compares our turns with those of a side, round by round."""
    ours, theirs = (np.array(record["repeats"][side]) for side in ("maskcon", name))
    assert record[f"vs_{name}"] == pytest.approx(np.median(ours / theirs))
    low, high = record["ranges"][f"maskcon vs {name}"]
    assert low <= record[f"vs_{name}"] <= high


@pytest.mark.heavy
def test_a_step_record(tmp_path):
    path = tmp_path / "step.json"
    words = ["benchmark", "step", "--sides"]
    small = "--image-size 8 --batch-size 16 --bank-size 32 --steps 1 --repeats 2 --device cpu"
    some = "reference,maskcon"
    done = typed(*words, some, *small.split(), "--json", str(path))
    assert done.returncode == 0, done.stderr
    record = json.loads(path.read_text())
    assert list(record["images_per_second"]) == some.split(",")
    has_ratios(record, "reference")
    assert "step vs reference" in done.stdout
    assert 0 < record["views_share"] < 1
    assert all(mib > 100 for mib in record["peak_host_mib"].values())
    assert "/" not in json.dumps(record["settings"])


def test_other_sides_of_the_step(here, monkeypatch):
    monkeypatch.setitem(os.environ, "TORCHINDUCTOR_CACHE_DIR", "")  # which a side sets
    some = ["floor", "maskcon", "maskcon fp32", "maskcon in parts"]
    small = {"image_size": 8, "batch_size": 16, "bank_size": 32, "steps": 1, "repeats": 2}
    record = step.step(sides=some, backbone="resnet10w8", device="cpu", **small)
    assert list(record["speeds"]) == some
    assert all(speed > 0 for speed in record["speeds"].values())
    has_ratios(record, "floor")
    assert "step vs floor" in str(table.told(record))


def test_growth_is_measured_as_long_as_there_is_patience(here):
    record = recall.recall(sizes=[(300, 8)], growth=(500, 1000, 10**6), patience=5, repeats=1)
    (lines,) = [lines for name, lines in record["growth"].items() if name == "maskcon"]
    assert [line["measured"] for line in lines] == [True, True, False]
    assert lines[2]["seconds"] == pytest.approx(lines[1]["seconds"] * 1000**2)
    assert "extrapolated" in str(table.told(record))
    recalls = list(record["recall"].values())
    assert all(found == recalls[0] for found in recalls)


def test_views_are_compared_with_those_of_their_kind(here, monkeypatch):
    monkeypatch.setattr(views, "IMAGES", 64)
    record = views.views(image_size=16, batch_size=32, repeats=1, device="cpu")
    assert set(record["ratios"]) == {"weak: maskcon", "strong: maskcon"}
    for kind in ("weak", "strong"):
        others = {f"{kind}: Pillow", f"{kind}: torchvision v2"}
        assert set(record["ratios"][f"{kind}: maskcon"]) == others
    assert all(speed > 0 for speed in record["speeds"].values())
    assert table.told(record)


def test_a_loader_record(here):
    record = loader.loader(images=128, width=300, height=240, workers=1, repeats=1)
    assert list(record["speeds"]) == ["torchvision", "maskcon", "maskcon, pack"]
    assert all(speed > 0 for speed in record["speeds"].values())
    assert record["settings"]["images"] == 128
    with pytest.raises(InputError, match="100 images: expected 128 or more"):
        loader.loader(images=100)


@pytest.mark.heavy
def test_an_embed_record(here, tmp_path, capsys):
    path = tmp_path / "embed.json"
    small = "--backbone resnet10w8 --image-size 32 --images 10 --threads 1 --repeats 2"
    some = "maskcon,maskcon onnx,timm fp32,timm bf16,onnxruntime"
    words = ["benchmark", "embed", "--sides", some, *small.split(), "--json", str(path)]
    cli.main(words, standalone_mode=False)
    record = json.loads(path.read_text())
    assert list(record["speeds"]) == some.split(",")
    for ours in some.split(",")[:2]:
        assert set(record["ratios"][ours]) == set(some.split(",")[2:])
    assert record["cpu_ratios"]["maskcon"] == 1
    assert all(ms > 0 for ms in record["cpu_ms"].values())
    assert record["targets"][0]["measured"] == min(record["ratios"]["maskcon"].values())
    assert "ms of a core an image" in capsys.readouterr().out


@pytest.mark.heavy
def test_an_answer_record(here, tmp_path, own_cache):
    path = tmp_path / "answer.json"
    small = "--backbone resnet10w8 --image-size 32 --images 32 --threads 1 --repeats 1"
    words = ["benchmark", "answer", *small.split(), "--json", str(path)]
    cli.main(words, standalone_mode=False)
    record = json.loads(path.read_text())
    assert list(record["speeds"]) == ["maskcon", answer.SCRIPT]
    assert record["settings"]["images"] == 32
    assert record["targets"][0]["measured"] == record["ratios"]["maskcon"][answer.SCRIPT]
    assert not Store().lots()  # each turn has a store of its own
    with pytest.raises(InputError, match="8 images, 0 threads: expected 16 or more"):
        answer.answer(images=8)


def test_the_script_beside_an_answer_finds_what_is_apart():
    random = np.random.default_rng(0)
    centres = 10 * np.eye(5)[:3]
    x = np.repeat(centres, 20, 0) + random.normal(size=(60, 5))
    assert len(np.unique(answer._split(x))) == 3


def test_sides_of_embed_make_the_same_vectors(tmp_path):
    """What is compared is the same work: levels that Pillow resizes are ours to a step or two."""
    loader.photographs(tmp_path, 3, 70, 48)
    files = embedding._files(str(tmp_path), 3)
    (levels,) = embedding.levels_of(files, 32, 2)
    (batch,) = embedding.of_pictures(embedding.Files(files), size=32, threads=1, batch_size=3)
    ours = torch.stack([batch.read(row) for row in batch.rows.tolist()]).permute(0, 3, 1, 2)
    assert np.abs(levels * 255 - ours.numpy()).max() <= 2
    encoder = embedding.encoder_of("resnet10w8", 32)
    again = embedding.encoder_of("resnet10w8", 32)
    assert encoder.identity == again.identity


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": ["maskcon", "tim"]}, "sides are .*: expected some of maskcon, maskcon onnx, "),
        ({"sides": ["maskcon"], "images": 0}, "0 images, 0 threads: expected 1 or more"),
    ],
)
def test_embed_options_that_cannot_be_compared(options, message):
    with pytest.raises(InputError, match=message):
        embedding.embedding(**options)


def test_a_side_that_fails_says_why():
    side = Side("broken", "maskcon.benchmark.recall:ours", {"rows": 5, "width": -1})
    with pytest.raises(TrainingError, match=r"the side 'broken' ended: TypeError: .*device"):
        Comparison(
            name="recall",
            sides=[side],
            baselines=(),
            settings={},
            repeats=1,
            device="cpu",
            progress=Silent(),
        ).run()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": ["maskcon", "mascon"]}, "sides are .*: expected some of reference, floor"),
        ({"backbone": "resnet10w16"}, "the reference is of resnet18 .*leave it out of the sides"),
        ({"bank_size": 100}, "the reference is of resnet18 and a bank of whole batches"),
        ({"repeats": 0}, "repeats is 0"),
        ({"device": "abacus"}, "device is 'abacus'"),
    ],
)
def test_options_that_cannot_be_compared(options, message):
    with pytest.raises(InputError, match=message):
        step.step(**options)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_committed_results(path):
    """Each can be shown, was measured from a clean commit and names no folder."""
    record = json.loads(path.read_text())
    assert table.told(record)
    assert re.fullmatch("[0-9a-f]{40}", record["commit"])
    assert "/home" not in path.read_text()
    assert "/tmp" not in path.read_text()
