"""Who is told of a run: each event once, however often it is broken off; and what they write."""

import json
import sys
from collections import defaultdict
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from maskcon.commands import train, train_seeds
from maskcon.data.sets.named import DATA_SETS, NamedSet
from maskcon.errors import InputError
from maskcon.runs.callbacks import Callback, told_before
from maskcon.runs.trackers import MADE
from tests.conftest import FAST, Told, as_found

OPTIONS = {**FAST, "epochs": 3, "log_every": 2, "eval_every": 2, "seed": 0}


@pytest.fixture(autouse=True)
def small_glyphs(monkeypatch, tiny):
    monkeypatch.setitem(DATA_SETS, "glyphs", NamedSet("a few", make=lambda: as_found(tiny)))


class Heard(Callback):
    """Remembers what it is told."""

    def __init__(self):
        self.events = []

    def begin(self, run):
        self.events.append(("begin", run.step, run.id))
        return f"{run.total_steps} steps"

    def step(self, step, figures):
        self.events.append(("step", step, dict(figures)))

    def evaluation(self, step, figures):
        self.events.append(("evaluation", step, dict(figures)))

    def checkpoint(self, step, folder):
        self.events.append(("checkpoint", step, (folder / "last.ckpt").exists()))

    def notice(self, step, line):
        self.events.append(("notice", step, line))

    def end(self, status, results):
        self.events.append(("end", status, dict(results)))

    def of(self, *names):
        return [event for event in self.events if event[0] in names]


class Killed(BaseException):
    """What nothing in a run catches, as nothing catches a kill."""


class Killer(Callback):
    """Ends the process, as it were, when a step has been logged."""

    def __init__(self, after):
        self.after = after

    def step(self, step, figures):
        if step == self.after:
            raise Killed


class Sooner(Killer):
    """Another one, which knows nothing of what the first was told."""


def lines_of(folder: Path) -> list[tuple[str, int, dict]]:
    """metrics.jsonl as the events that it should have been."""
    found = []
    for text in (folder / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        step = line.pop("step")
        found.append(("evaluation" if "epoch" in line else "step", step, line))
    return found


def test_a_run_tells_what_it_writes(tmp_path):
    heard, told = Heard(), Told()
    run = train(out=tmp_path / "x", callbacks=[heard], progress=told, **OPTIONS)
    assert heard.of("step", "evaluation") == lines_of(tmp_path / "x")
    assert heard.events[0] == ("begin", 0, run["id"])
    steps = sorted({step for _, step, _ in heard.of("step")})
    assert [event[1:] for event in heard.of("checkpoint")] == [
        (step, True) for step in (0, *(s for s in steps if s % (steps[-1] // 3) == 0))
    ]
    assert heard.events[-1] == ("end", "finished", run["results"])
    assert any(line.startswith("epoch 2/3") for _, _, line in heard.of("notice"))
    assert f"Heard: {steps[-1]} steps" in told.notes


@contextmanager
def killed():
    """A process that ends so; what Weights & Biases has beside it ends with it."""
    with pytest.raises(Killed):
        yield
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


def broken_off(folder: Path, *callbacks) -> list[Heard]:
    """A run of three processes: killed at 16 of 18 steps, then at 14, and ended. Epochs have 6."""
    heard = [Heard(), Heard(), Heard()]
    with killed():
        train(out=folder, callbacks=[*callbacks, heard[0], Killer(16)], **OPTIONS)
    with killed():
        train(out=folder, resume=True, callbacks=[*callbacks, heard[1], Sooner(14)])
    train(out=folder, resume=True, callbacks=[*callbacks, heard[2]])
    return heard


def test_what_was_told_is_not_told_again(tmp_path):
    """The same steps are computed twice, or three times, and told once."""
    whole = Heard()
    train(out=tmp_path / "whole", callbacks=[whole], **OPTIONS)
    heard = broken_off(tmp_path / "broken")
    assert [one.events[0][1] for one in heard] == [0, 12, 12]
    together = [event for one in heard for event in one.of("step", "evaluation")]
    assert together == whole.of("step", "evaluation") == lines_of(tmp_path / "broken")


def test_who_comes_later_is_told_what_was(tmp_path):
    with pytest.raises(Killed):
        train(out=tmp_path / "x", callbacks=[Killer(16)], **OPTIONS)
    heard = Heard()
    train(out=tmp_path / "x", resume=True, callbacks=[heard])
    assert heard.of("step", "evaluation") == lines_of(tmp_path / "x")


def test_what_each_knows():
    """Callbacks that come and go, beside a list of lines for each."""
    sessions = [({"a"}, 0, 9), ({"b"}, 6, 12), (set(), 6, 11), ({"a", "b"}, 12, 20)]
    record, length, heard = {}, 0, defaultdict(list)
    for names, kept, end in sessions:
        record = told_before(record, names, length)
        for line in range(1, end + 1):  # the lines up to `kept` are read, the others written
            assert kept <= end
            for name in names:
                if line > record[name]["lines"]:
                    heard[name].append(line)
        length = end
    assert heard == {"a": list(range(1, 21)), "b": list(range(1, 21))}


def test_one_that_fails_costs_nothing(tmp_path):
    class Broken(Heard):
        def step(self, step, figures):
            super().step(step, figures)
            raise OSError("no room")

    broken, heard, told = Broken(), Heard(), Told()
    run = train(out=tmp_path / "x", callbacks=[broken, heard], progress=told, **OPTIONS)
    assert run["status"] == "finished"
    assert len(broken.of("step")) == 1
    assert broken.of("end") == []
    assert heard.of("step", "evaluation") == lines_of(tmp_path / "x")
    notices = [line for line in told.notes if "Broken failed" in line]
    assert len(notices) == 1
    assert "goes on: OSError: no room" in notices[0]


def test_seeds_are_told_one_after_the_other(tmp_path):
    heard = Heard()
    few = {**OPTIONS, "epochs": 1}
    del few["seed"]
    runs = train_seeds([0, 1], out=tmp_path / "x", callbacks=[heard], **few)
    assert [event[2] for event in heard.of("begin")] == [run["id"] for run in runs]
    assert runs[0]["id"] != runs[1]["id"]


def test_callbacks_that_there_are_not(tmp_path, monkeypatch):
    for given, message in (
        (["tensorbord"], "no tracker 'tensorbord' .did you mean tensorboard"),
        ("wandb", "expected a list of callbacks"),
        ([Heard(), Heard()], "two callbacks Heard"),
    ):
        with pytest.raises(InputError, match=message):
            train(out=tmp_path / "x", callbacks=given, **OPTIONS)
    for name in MADE:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=rf"pip install 'maskcon\[{name}\]'"):
            train(out=tmp_path / "x", callbacks=[name], **OPTIONS)
    assert not (tmp_path / "x").exists()


def of_tensorboard(folder: Path, run: dict) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "trackers" / "tensorboard"), {"scalars": 0})
    events.Reload()
    assert "options/text_summary" in events.Tags()["tensors"]
    return {
        name: [(scalar.step, scalar.value) for scalar in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def records_of(content: bytes):
    """LevelDB's log, in which an offline run of W&B is kept: behind 7 bytes blocks of 32 KiB, of
    pieces: checksum, length and kind (1 whole, 2 first, 3 middle, 4 last)."""
    at, whole = 7, b""
    assert content[:4] == b":W&B"
    while at + 7 <= len(content):
        if 2**15 - at % 2**15 < 7:
            at += 2**15 - at % 2**15
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield whole
            whole = b""


def of_wandb(folder: Path, run: dict) -> dict[str, list[tuple[int, float]]]:
    import wandb
    from wandb.proto.wandb_internal_pb2 import Record

    wandb.teardown()  # what it writes beside this process is on the disk
    found = defaultdict(list)
    for path in sorted((folder / "trackers" / "wandb").rglob("*.wandb")):
        assert run["id"] in path.name
        for data in records_of(path.read_bytes()):
            record = Record()
            record.ParseFromString(data)
            items = {"/".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            for name, value in items.items():
                if not name.startswith("_"):
                    found[name].append((int(items["step"]), float(value)))
    return found


def of_mlflow(folder: Path, run: dict) -> dict[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/trackers/mlflow/mlflow.db")
    place = client.get_experiment_by_name("maskcon").experiment_id
    (only,) = client.search_runs([place])
    assert only.info.status == "FINISHED"
    assert only.data.params["backbone"] == OPTIONS["backbone"]
    assert only.data.tags["maskcon_run"] == run["id"]
    names = {"recall@1": "recall_1"}
    return {
        name: [
            (metric.step, metric.value)
            for metric in client.get_metric_history(only.info.run_id, names.get(name, name))
        ]
        for name in ("loss", "lr", "recall@1")
    }


def of_trackio(folder: Path, run: dict) -> dict[str, list[tuple[int, float]]]:
    from trackio.sqlite_storage import SQLiteStorage

    found = defaultdict(list)
    for line in SQLiteStorage.get_logs("maskcon", f"{folder.name}-{run['id'][:6]}"):
        for name, value in line.items():
            if name not in ("timestamp", "step"):
                found[name].append((line["step"], value))
    return found


READERS = {
    "tensorboard": of_tensorboard,
    "wandb": of_wandb,
    "mlflow": of_mlflow,
    "trackio": of_trackio,
}
assert list(READERS) == list(MADE)


@pytest.mark.parametrize("name", READERS)
def test_curves_of_a_run_that_was_killed_twice(name, tmp_path, monkeypatch):
    """They are read back by each program's own reader: every point once, as in metrics.jsonl."""
    for needed in ("sqlalchemy", "alembic") if name == "mlflow" else ():
        pytest.importorskip(needed)
    if find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    for variable in ("WANDB_MODE", "MLFLOW_TRACKING_URI", "TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL"):
        monkeypatch.delenv(variable, raising=False)
    if name == "trackio":
        import trackio.sqlite_storage
        import trackio.utils

        for module in (trackio.sqlite_storage, trackio.utils):  # read where it is imported
            monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    folder = tmp_path / "x"
    broken_off(folder, name)
    run = json.loads((folder / "run.json").read_text())
    curves = READERS[name](folder, run)
    for of in ("loss", "lr", "recall@1"):
        expected = [(step, line[of]) for _, step, line in lines_of(folder) if of in line]
        assert [step for step, _ in curves[of]] == [step for step, _ in expected]
        assert [v for _, v in curves[of]] == pytest.approx([v for _, v in expected], rel=1e-6)
    (folder / "trackers").mkdir(exist_ok=True)
    (folder / "trackers" / "mine.txt").write_text("not of a run")
    train(out=folder, overwrite=True, **{**OPTIONS, "epochs": 1})
    assert [path.name for path in (folder / "trackers").iterdir()] == ["mine.txt"]
