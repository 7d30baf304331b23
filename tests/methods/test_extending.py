"""A method from outside: of a script, and of an installed package, as CONTRIBUTING.md has it."""

import json
import os
import subprocess
import sys

import pytest
from torch import nn

from maskcon import commands
from maskcon.config import resolve
from maskcon.data.sets import glyphs
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.methods import METHODS, Method
from maskcon.methods.objective import Objective, check_hyper_parameters
from maskcon.methods.step import needed
from maskcon.model.heads import HEADS, HeadKind
from maskcon.runs import folder as runs
from tests.conftest import as_found, write_tree

SCRIPT = '''
import signal
import sys

from maskcon import commands
from maskcon.errors import Interrupted
from maskcon.methods import METHODS, Method
from maskcon.methods.family import selfcon, supcon

HALF = 1 / 2
calls = 0


def mine(step, *, w=1 - HALF, cold: bool = False, way="both", t=0.1):
    """Half of each. And more of it."""
    global calls
    calls += 1
    if calls == 9:
        signal.raise_signal(signal.SIGTERM)
    assert way in ("both", "other") and isinstance(cold, bool)
    t = t / 2 if cold else t
    return w * supcon(step, t=t) + (1 - w) * selfcon(step, t=t)


METHODS["mine"] = Method(mine)

if __name__ == "__main__":
    out, data = sys.argv[1:]
    options = dict(
        data=data, method="mine", cold=True, way="other", w="0:1:linear", image_size=16,
        backbone="resnet10w8", batch_size=8, bank_size=8, epochs=4, warmup_epochs=0,
    )
    try:
        commands.train(out=out, **options)
    except Interrupted:
        run = commands.train(out=out, resume=True)
    assert commands.eval(out)["recall@1"] == run["results"]["recall@1"]
'''

PACKAGE = '''
from maskcon.methods import Method
from maskcon.methods.family import selfcon


def toy(step, *, warm: float = 1.0, t: float = 0.1):
    """What a package brings."""
    return selfcon(step, t=warm * t)


TOY = Method(toy, labels=False)
'''


TYPE = """
import json, sys
from maskcon.cli import cli

for words in json.loads(sys.argv[1]):
    cli.main(words, standalone_mode=False)
    print("typed", flush=True)
"""


def python(*words, folder):
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *sys.path])},
        check=False,
        capture_output=True,
        text=True,
        timeout=600,
    )


def test_a_method_of_a_script(tmp_path):
    """It trains, resumes and is judged; and judged again where nobody knows it."""
    data = tmp_path / "data"
    write_tree(data, glyphs.make(train=24, test=40))
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = python(tmp_path / "mine.py", tmp_path / "run", data, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mine" not in METHODS
    run = runs.read(tmp_path / "run")
    kept = {name: run["config"][name] for name in ("w", "cold", "way", "t")}
    assert kept == {"w": "0:1:linear", "cold": True, "way": "other", "t": 0.1}
    found = commands.eval(tmp_path / "run")
    assert found["recall@1"] == run["results"]["recall@1"]
    assert commands.compare([tmp_path / "run"])[0]["name"] == "mine"
    assert commands.embed(tmp_path / "run", out=tmp_path / "v.npz")["images"] == 64


def test_a_method_of_a_package(tmp_path, installed):
    installed("toy_method", PACKAGE, {"maskcon.methods": {"toy": "toy_method:TOY"}})
    write_tree(tmp_path / "data", glyphs.make(train=40, test=40))
    words = "train --method toy --warm 2 --backbone resnet10w8 --epochs 1 --image-size 8 --data"
    words = [*words.split(), str(tmp_path / "data"), "--out", str(tmp_path / "run")]
    (tmp_path / "type.py").write_text(TYPE)
    lines = json.dumps([["methods"], ["train", "--help"], words])
    done = python(tmp_path / "type.py", lines, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    listed, helped, _ = done.stdout.split("typed\n", 2)
    assert "What a package brings." in listed
    assert "--warm" in helped
    assert runs.read(tmp_path / "run")["config"]["warm"] == 2


def test_a_hyper_parameter_called_as_an_option_is_refused(monkeypatch):
    """Else a run would take its option for it, and the loss its default."""

    def loss(step, *, momentum=0.5):
        return step.query.z.sum() * momentum

    monkeypatch.setitem(METHODS, "mine", Method(loss))
    with pytest.raises(InputError, match="mine takes momentum, which is an option of every run"):
        resolve({"method": "mine", "momentum": 0.25})


def test_a_loss_that_does_not_weigh_its_rows_is_refused_with_mixup():
    def plain(step):
        return step.query.z.square().sum(1).mean()

    def weighted(step):
        return step.mean(step.query.z.square().sum(1))

    check_hyper_parameters(Objective(Method(plain)), {})
    check_hyper_parameters(Objective(Method(weighted), mixup=0.5), {})
    with pytest.raises(InputError, match=r"return step\.mean\(rows\)"):
        check_hyper_parameters(Objective(Method(plain), mixup=0.5), {})


def test_a_method_with_a_head_of_its_own(tiny, tmp_path, monkeypatch):
    """A predictor on the projection, as BYOL has it: one record, and no classifier of classes."""

    def predictor(widths):
        width = widths.projection
        return nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))

    def predicted(step, *, share: float = 1.0):
        """The predictor of a query says its key."""
        found, key = needed(step, "query.predictor", "key.z")
        return share * step.mean(2 - 2 * (found * key.detach()).sum(1))

    monkeypatch.setitem(HEADS, "predictor", HeadKind("predictor", predictor, "z", unit=True))
    heads = ("z", "predictor")
    monkeypatch.setitem(METHODS, "predicted", Method(predicted, heads=heads, labels=False))
    small = {"backbone": "resnet10w8", "image_size": 8, "projection": 8, "batch_size": 8}
    out = tmp_path / "run"
    own = {"method": "predicted", "bank_size": 16}
    run = commands.train(out=out, data=as_found(tiny), epochs=2, log_every=1, **own, **small)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").open()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert run["status"] == "finished"
    assert losses[-1] < losses[0] < 4
    network = Encoder.load(out).network
    assert network.predictor[0].weight.shape == (16, 8)
    assert network.prototypes is None
