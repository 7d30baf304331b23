"""Validation: what is left out of training chooses the best epoch, and test images never do."""

import json
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from maskcon import commands
from maskcon.config import resolve
from maskcon.data import DataSet, InMemory, OnDisk, find, from_arrays, load
from maskcon.data.another import another_view
from maskcon.data.sets import glyphs
from maskcon.errors import InputError, Interrupted
from maskcon.eval import stability as stable
from maskcon.eval.stability import stability
from maskcon.runs.recorder import FolderRecorder
from maskcon.runtime import seeds
from maskcon.train.loop import fit
from maskcon.train.state import Training
from tests.conftest import FAST, Told, as_found, picture_tree, write_tree
from tests.train.test_train import equal

EPOCHS = 8
SHORT = {**FAST, "image_size": 8, "epochs": EPOCHS, "eval_every": 1, "lr": 0.2}


@pytest.fixture(scope="module")
def some() -> DataSet:
    """Glyphs, seven of each class to train on."""
    return glyphs.make(train=238, test=40)


@pytest.fixture(scope="module")
def validated(some) -> DataSet:
    """The same, a third of whose train images are for validation."""
    return load(as_found(some).with_validation(0.33, 0), image_size=16)


def run(folder: Path, data: DataSet, resume: bool = False, **changes) -> Training:
    folder.mkdir(exist_ok=True)
    training = Training(resolve({**SHORT, **changes}), data)
    fit(training, data, FolderRecorder(folder), resume=resume)
    return training


@pytest.fixture(scope="module")
def whole(tmp_path_factory, validated) -> tuple[Training, Path]:
    """A run that nothing ends early, and its folder; nothing may be written to it."""
    folder = tmp_path_factory.mktemp("whole")
    return run(folder, validated), folder


def evaluations(folder: Path) -> list[dict]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if "epoch" in line]


def contents(pictures) -> Counter:
    return Counter(pictures.digest(row) for row in range(len(pictures)))


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_a_share_of_each_class_is_left_out_and_no_copy_is_in_both(tiny, share):
    images, fine = tiny.train.images.pixels, tiny.train.fine % 5
    again = torch.arange(0, 90, 7)  # rows that are listed once more, with another label
    pictures = torch.cat([images, images[again]])
    label = torch.cat([fine, (fine[again] + 1) % 5]).tolist()
    test = (tiny.test.images.pixels, tiny.test.coarse.tolist(), (tiny.test.fine % 5).tolist())
    whole = from_arrays(pictures, [0] * len(label), label, test=test)
    found = whole.with_validation(share, 3)
    train, held = (contents(found.parts[name].pictures) for name in ("train", "validation"))
    assert train + held == contents(whole.parts["train"].pictures)
    assert not {*train} & {*held}
    assert found.parts["test"] is whole.parts["test"]
    counts = fine.bincount(minlength=5).tolist()  # a picture counts once, under its first label
    first = {whole.parts["train"].pictures.digest(row): int(fine[row]) for row in range(96)}
    drawn = Counter(first[digest] for digest in held)
    for name, count in enumerate(counts):
        assert abs(drawn[name] - max(round(share * count), 2)) <= len(again)
    assert sum(drawn.values()) == pytest.approx(share * 96, abs=len(again))
    assert contents(whole.with_validation(share, 3).parts["validation"].pictures) == held
    assert contents(whole.with_validation(share, 4).parts["validation"].pictures) != held


def test_without_copies_each_class_has_its_share_exactly(some):
    found = as_found(some).with_validation(0.25, 0)
    whole = some.train.fine.bincount().tolist()
    left_out = found.parts["validation"].fine.bincount(minlength=len(whole)).tolist()
    for count, drawn in zip(whole, left_out, strict=True):
        wanted = max(round(0.25 * count), 2 if count >= 4 else 0)
        assert drawn == (min(wanted, count - 1) if wanted > 1 else 0)


def test_no_validation_picture_trains(validated):
    training = Training(resolve(SHORT), validated)
    held = {picture.numpy().tobytes() for picture in validated.validation.images.pixels}
    seen = set()
    for step in range(training.total_steps):
        rows = training.batches._plan(step).rows
        seen |= {picture.numpy().tobytes() for picture in training.images.pixels[rows]}
    assert len(seen) > len(validated.train) // 2
    assert not seen & held


def test_the_best_epoch_is_that_of_the_validation_images(whole, validated):
    """A loop over what metrics.jsonl has; the run ends with the encoder of that epoch."""
    training, folder = whole
    lines = evaluations(folder)
    assert len(lines) == EPOCHS
    best = lines[0]
    for line in lines:
        if line["validation/recall@1"] > best["validation/recall@1"]:
            best = line
    assert training.best.results == {name: v for name, v in best.items() if name != "step"}
    assert training.last == {name: v for name, v in best.items() if name.startswith("recall@")}
    saved = load_file(folder / "encoder.safetensors")
    own = {name: value for name, value in training.encoder.state_dict().items() if name in saved}
    assert own
    assert all(torch.equal(saved[name], value) for name, value in own.items())
    features = training.features(validated.test.images)
    assert training.recall_of(features, validated.test) == training.last


def test_test_images_have_no_say(tmp_path, validated):
    """Labels of the test images drawn at random change what is told, and nothing else."""
    random = torch.Generator().manual_seed(5)
    other = validated.test.fine[torch.randperm(len(validated.test), generator=random)]
    changed = replace(validated, test=replace(validated.test, fine=other))
    kept = {"stop_after": 3}
    a, b = run(tmp_path / "a", validated, **kept), run(tmp_path / "b", changed, **kept)
    assert a.last != b.last
    assert a.steps == b.steps
    assert a.best.results["epoch"] == b.best.results["epoch"]
    name = "encoder.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def stops_at(values: list[float], patience: int) -> int:
    """The evaluation after which a run ends, counted from 1: a loop."""
    for end in range(1, len(values) + 1):
        best = values.index(max(values[:end]))  # the first of them
        if end - 1 - best >= patience:
            return end
    return len(values)


@pytest.mark.parametrize("patience", [1, pytest.param(2, marks=pytest.mark.heavy)])
def test_a_run_ends_after_evaluations_that_were_no_better(patience, tmp_path, whole, validated):
    lines = evaluations(whole[1])
    training = run(tmp_path / "short", validated, stop_after=patience)
    short = evaluations(tmp_path / "short")
    end = stops_at([line["validation/recall@1"] for line in lines], patience)
    assert short == lines[:end]
    assert training.steps == end * training.steps_per_epoch
    again = run(tmp_path / "short", validated, resume=True, stop_after=patience)  # nothing to do
    assert again.steps == training.steps
    assert evaluations(tmp_path / "short") == short


@pytest.mark.parametrize("stop_at", [pytest.param(19, marks=pytest.mark.heavy), 24])
def test_resumption_is_exact(stop_at, tmp_path, validated, monkeypatch):
    """The best encoder and the evaluations since then are in the checkpoint."""
    whole = run(tmp_path / "whole", validated, stop_after=4)
    step = Training.step

    def step_and_stop(self, *batch):
        loss = step(self, *batch)
        if self.steps == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(Training, "step", step_and_stop)
        with pytest.raises(Interrupted):
            run(tmp_path / "parts", validated, stop_after=4)
    resumed = run(tmp_path / "parts", validated, resume=True, stop_after=4)
    assert equal(whole.state_dict(), resumed.state_dict())
    for name in ("metrics.jsonl", "encoder.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    other = replace(validated, validation=validated.validation.take(torch.arange(8)))
    with pytest.raises(InputError, match="labels differ in the validation split"):
        run(tmp_path / "parts", other, resume=True, stop_after=4)


def steady(features: torch.Tensor, again: torch.Tensor, coarse: torch.Tensor) -> float:
    """Share of images whose nearest other image in their class is one and the same: a loop."""

    def nearest(row: int, asking: torch.Tensor) -> int | None:
        near = {
            other: float(asking[row] @ features[other])
            for other in range(len(features))
            if other != row and coarse[other] == coarse[row]
        }
        found = [other for other, value in near.items() if value == max(near.values())]
        return found[0] if len(found) == 1 else None

    rows = [row for row in range(len(features)) if (coarse == coarse[row]).sum() > 1]
    kept = [row for row in rows if nearest(row, features) == nearest(row, again) is not None]
    return len(kept) / len(rows) if rows else 1.0


@pytest.mark.parametrize("elements", [7, 2**25])
def test_stability_against_a_loop(elements, monkeypatch):
    monkeypatch.setattr(stable, "ELEMENTS", elements)  # of a block of rows
    for draw in range(20):
        random = torch.Generator().manual_seed(draw)
        features = torch.randint(-2, 3, (24, 3), generator=random).double()  # many are equally near
        noise = torch.randint(-1, 2, (24, 3), generator=random).double()
        coarse = torch.randint(5, (24,), generator=random) ** 2
        coarse[3] = 99  # alone
        given = features, features + noise * (draw % 3), coarse
        assert stability(*given) == pytest.approx(steady(*given), abs=0)
    alike = torch.ones(6, 2)
    assert stability(alike, alike, torch.zeros(6)) == 0  # a collapsed encoder
    assert stability(alike, alike, torch.arange(6)) == 1  # nothing to find


@pytest.mark.parametrize("kind", ["weak", "strong", "plain"])
def test_another_view_is_the_same_however_it_is_asked_for(kind, validated, tmp_path):
    folder = picture_tree(tmp_path / "set", validated.validation, side=70)
    on_disk = load(find(str(folder)).with_test(0.2, 0), image_size=70).train.images
    for images in (validated.validation.images, on_disk):
        assert images is not on_disk or isinstance(images, OnDisk)
        again = another_view(images, kind, crop_scale=0.5, flip=True, seed=3)
        whole = torch.cat([x.clone() for x in again.plain(size=16, workers=1, batch_size=7)])
        assert len(whole) == len(images) == len(again)
        part = again.take(slice(5, 20))
        for batch_size in (0, 4):
            some = part.plain(size=16, workers=1, batch_size=batch_size)
            assert torch.equal(torch.cat([x.clone() for x in some]), whole[5:20])
        given = torch.cat([x.clone() for x in images.plain(size=16, workers=1)])
        assert (kind == "plain") == torch.equal(given, whole)


def test_without_fine_labels_coarse_recall_and_steady_neighbours_choose(tmp_path, validated):
    """Of equally good epochs the first; figures of the run's end against loops."""
    parts = {n: replace(getattr(validated, n), fine=None) for n in ("train", "test", "validation")}
    training = run(tmp_path, replace(validated, **parts, fine_names=()))
    lines = evaluations(tmp_path)
    worth = [line["validation/recall@1/coarse"] * line["validation/stable"] for line in lines]
    best = lines[worth.index(max(worth))]
    assert training.best.results == {name: v for name, v in best.items() if name != "step"}

    held = validated.validation
    again = another_view(held.images, "strong", crop_scale=None, flip=True, seed=0)
    views = torch.cat(list(again.plain(size=8, workers=1)))
    first, second = (training.features(x) for x in (held.images, InMemory(views)))
    assert best["validation/stable"] == steady(first, second, held.coarse)
    near = (first @ first.T).fill_diagonal_(-1).argmax(1)
    hits = (held.coarse[near] == held.coarse).double().mean()
    assert best["validation/recall@1/coarse"] == pytest.approx(float(hits))


def test_with_one_coarse_class_steady_neighbours_alone_choose(tmp_path, validated):
    """All coarse neighbours are right from the first epoch on, which chose that one."""
    zeros = {
        n: replace(getattr(validated, n), fine=None, coarse=getattr(validated, n).coarse * 0)
        for n in ("train", "test", "validation")
    }
    one = replace(validated, **zeros, fine_names=(), coarse_names=("all",))
    training = run(tmp_path, one, method="selfcon", epochs=4)
    values = [line["validation/stable"] for line in evaluations(tmp_path)]
    assert training.best.results["epoch"] == 1 + values.index(max(values))
    assert training.best.results["validation/recall@1/coarse"] == 1


def test_a_split_of_the_sets_own(tmp_path, tiny):
    """A folder val/ beside train/ and test/ chooses; the record, the card and `eval` agree."""
    write_tree(tmp_path / "set", tiny)
    write_tree(tmp_path / "more", replace(tiny, train=tiny.train.take(torch.arange(60))))
    (tmp_path / "more" / "train").rename(tmp_path / "set" / "val")
    told = Told()
    done = commands.train(
        data=tmp_path / "set", out=tmp_path / "run", stop_after=1, progress=told, **SHORT
    )
    assert done["data"]["validation"] == {"images": 60, "share": None}
    assert any("the best epoch is chosen on 60 images that do not train" in n for n in told.notes)
    lines = evaluations(tmp_path / "run")
    assert done["training"]["stopped"] in (None, lines[-1]["epoch"])
    best = done["results"]["best"]
    assert {n: done["results"][n] for n in best if n.startswith("recall@")}.items() <= best.items()
    judged = commands.eval(tmp_path / "run")
    assert judged["recall@1"] == done["results"]["recall@1"]
    card = (tmp_path / "run" / "README.md").read_text()
    assert f"The encoder is that of epoch {best['epoch']} of {EPOCHS}" in card
    assert "best by recall@1 of 60 validation images, which did not train" in card
    again = commands.train(out=tmp_path / "run", resume=True)
    assert again["results"] == done["results"]
    match = r"--val-share has no effect: .* has a validation split of its own"
    with pytest.raises(InputError, match=match):
        commands.train(data=tmp_path / "set", out=tmp_path / "b", val_share=0.1, **SHORT)


def test_a_share_is_recorded_and_left_out_wherever_the_run_is_judged(tmp_path, some):
    short = {**SHORT, "epochs": 1}
    data = as_found(some)
    done = commands.train(data=data, out=tmp_path / "run", val_share=0.25, **short)
    count = done["data"]["validation"]["images"]
    assert done["data"]["validation"] == {"images": count, "share": 0.25}
    assert done["data"]["train"] + count == len(some.train)
    listed = (tmp_path / "run" / "split.csv").read_text().splitlines()
    assert sum(line.endswith(",validation") for line in listed) == count
    everything = from_arrays(some.train.images.pixels, some.train.coarse.tolist())
    told = Told()
    commands.eval(tmp_path / "run", data=everything, progress=told)
    assert any("trained on all 238 pictures" in note for note in told.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stop_after": 2}, "--stop-after has no effect: there are no validation images"),
        ({"val_share": 1.0}, "val_share is 1.0: expected 0 to below 1"),
        ({"val_share": 0.1, "stop_after": -1}, "stop_after is -1: expected 0 or more"),
    ],
)
def test_what_has_no_effect_or_no_sense(options, message, tmp_path, tiny):
    with pytest.raises(InputError, match=message):
        commands.train(data=as_found(tiny), out=tmp_path / "run", **SHORT, **options)


def test_every_purpose_has_random_numbers_of_its_own():
    streams = seeds._STREAM
    assert len({*streams.values()}) == len(streams)
