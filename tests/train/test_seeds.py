"""Several seeds: each is a run as any other, and what they say together."""

import csv
import json
import os
import signal
import statistics
from pathlib import Path

import pytest

from maskcon import commands
from maskcon.data import DATA_SETS, NamedSet
from maskcon.errors import InputError, Interrupted
from maskcon.runs import compare as comparison
from maskcon.runs import folder as runs
from maskcon.train.state import Training
from tests.conftest import FAST, Told, as_found

FILES = ("metrics.jsonl", "encoder.safetensors")


@pytest.fixture(autouse=True, scope="module")
def small_glyphs(tiny):
    """Commands that read glyphs get the tiny set."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DATA_SETS, "glyphs", NamedSet("few", make=lambda: as_found(tiny)))
        yield


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """Runs with the seeds 2, 0 and 10, in a folder that nothing may be written to."""
    out = tmp_path_factory.mktemp("seeds") / "three"
    done = commands.train_seeds((2, 0, 10), out=out, data="glyphs", **FAST)
    assert [run["config"]["seed"] for run in done] == [2, 0, 10]
    return out


def test_each_is_the_run_of_that_seed(three, tmp_path):
    commands.train(out=tmp_path / "alone", data="glyphs", seed=10, **FAST)
    for name in FILES:
        assert (three / "seed-10" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    one, other = ((three / f"seed-{seed}" / FILES[0]).read_bytes() for seed in (0, 2))
    assert one != other


def test_an_interruption_goes_on(three, tmp_path, monkeypatch):
    """Finished runs are not touched, the broken one goes on, the last begins: to the same bits."""
    out, step = tmp_path / "three", Training.step
    again = {"out": out, "data": "glyphs", **FAST}

    def step_and_stop(self, *batch):
        loss = step(self, *batch)
        if self.config.seed == 0 and self.steps == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", step_and_stop)
        with pytest.raises(Interrupted):
            commands.train_seeds((2, 0, 10), **again)
    assert sorted(path.name for path in out.iterdir()) == ["seed-0", "seed-2"]
    before = (out / "seed-2" / "run.json").stat().st_mtime_ns
    with pytest.raises(InputError, match=r"seed-2 .*--resume"):
        commands.train_seeds((2, 0, 10), **again)
    match = r"seeds were not begun yet, .*the run in .*seed-2: lr is 0.02 there, not 0.5"
    with pytest.raises(InputError, match=match):
        commands.train_seeds((2, 0, 10), resume=True, **{**again, "lr": 0.5})
    told = Told()
    done = commands.train_seeds((2, 0, 10), resume=True, progress=told, **again)
    assert [run["status"] for run in done] == ["finished"] * 3
    assert f"{out / 'seed-2'} is finished" in told.notes
    assert (out / "seed-2" / "run.json").stat().st_mtime_ns == before
    for seed in (2, 0, 10):
        for name in FILES:
            path = f"seed-{seed}/{name}"
            assert (out / path).read_bytes() == (three / path).read_bytes()


def test_mean_and_deviation(three, tmp_path):
    """Table, JSON and CSV, beside what the run folders say."""
    folders = [three / f"seed-{seed}" for seed in (0, 2, 10)]
    values = [runs.read(folder)["results"]["recall@1"] for folder in folders]
    files = {"json": tmp_path / "t.json", "csv": tmp_path / "t.csv"}
    (row,) = commands.compare([three], **files)
    assert row["seeds"] == [0, 2, 10]
    assert row["runs"] == list(map(str, folders))
    mean = sum(values) / 3
    std = (sum((value - mean) ** 2 for value in values) / 2) ** 0.5
    assert row["mean"]["recall@1"] == pytest.approx(mean)
    assert row["std"]["recall@1"] == pytest.approx(std)
    assert json.loads(files["json"].read_text()) == json.loads(json.dumps([row]))
    lines = list(csv.DictReader(files["csv"].open()))
    assert [line["seed"] for line in lines] == ["0", "2", "10", "mean", "std"]
    found = [float(line["recall@1"]) for line in lines]
    assert found == pytest.approx([*values, statistics.mean(values), statistics.stdev(values)])
    (((head, cells), _),) = comparison.text_tables([comparison.Row.of(row)])
    assert cells[head.index("recall@1")] == f"{100 * mean:.2f} ± {100 * std:.2f}"
    (alone,) = commands.compare(folders[:1])
    assert alone["std"]["recall@1"] is None
    with pytest.raises(InputError, match="is no run folder"):
        commands.compare([tmp_path])


@pytest.mark.parametrize(
    ("seeds", "options", "message"),
    [
        ((0, 1), {"seed": 3}, "--seed 3 beside --seeds: leave it out"),
        ((1, 0, 1), {}, "--seeds is '1,0,1': expected different numbers"),
        ((), {}, "--seeds is ''"),
        ((0, -1), {}, "--seeds is '0,-1': expected different numbers, 0 or more"),
        ((0, 1), {"resume": True}, "there is no run in any of .*seed-0, .*leave out --resume"),
        ((0, 1), {"tau": "x"}, "tau"),
    ],
)
def test_what_cannot_be_begun(seeds, options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        commands.train_seeds(seeds, out=tmp_path / "runs", data="glyphs", **{**FAST, **options})
    assert not (tmp_path / "runs").exists()


def test_a_run_is_no_folder_of_runs(three):
    with pytest.raises(InputError, match="seed-0 is a run folder, where --seeds makes folders"):
        commands.train_seeds((0, 1), out=three / "seed-0", data="glyphs", **FAST)
    with pytest.raises(InputError, match=r"seed-10 .*--resume"):  # before seed 7 takes hours
        commands.train_seeds((7, 10), out=three, data="glyphs", **FAST)
    assert not (three / "seed-7").exists()


def test_as_a_person_types_it(three, capsys):
    from maskcon.cli import cli

    words = ["train", "--data", "glyphs", "--seeds", "2,0,10", "--out", str(three), "--resume"]
    cli.main(words, standalone_mode=False)
    assert " ± " in capsys.readouterr().out
    cli.main(["compare", str(three), "--metrics", "recall@1"], standalone_mode=False)
    assert "0,2,10" in capsys.readouterr().out
    with pytest.raises(InputError, match="--seeds is '0,x': expected whole numbers"):
        cli.main(["train", "--out", "x", "--seeds", "0,x"], standalone_mode=False)
