"""`maskcon eval` with every protocol, fine-tuning with few labels, and `maskcon compare`."""

import csv
import dataclasses
import json
from pathlib import Path

import pytest
import torch

from maskcon import commands
from maskcon.cli import cli
from maskcon.data import Found, from_arrays
from maskcon.data.sets import glyphs
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.eval import finetune
from maskcon.eval.finetune import fine_tuned
from maskcon.eval.protocols import PROTOCOLS, Subject, check_protocols, judge
from maskcon.runs import compare as comparison
from maskcon.runs import folder as runs
from maskcon.runtime.device import Precision


@pytest.fixture(scope="module")
def found() -> Found:
    data = glyphs.make(train=240, test=120)
    names = data.coarse_names

    def labels(split):
        return [names[c] for c in split.coarse], [data.fine_names[f] for f in split.fine]

    test = (data.test.images.pixels, *labels(data.test))
    return from_arrays(data.train.images.pixels, *labels(data.train), test=test, name="glyphs")


@pytest.fixture(scope="module")
def folders(tmp_path_factory, found) -> list[Path]:
    """Three short runs: two seeds of one method, and another method."""
    place = tmp_path_factory.mktemp("runs")
    options = {"backbone": "resnet10w16", "image_size": 16, "epochs": 2, "warmup_epochs": 0}
    options |= {"batch_size": 16, "eval_every": 1, "precision": "fp32"}
    made = []
    for name, more in (
        ("a0", {"method": "maskcon", "seed": 0}),
        ("a1", {"method": "maskcon", "seed": 1}),
        ("b", {"method": "supce", "lr": 0.03}),
    ):
        commands.train(data=found, out=place / name, **options, **more)
        made.append(place / name)
    return made


@pytest.fixture(scope="module")
def results(folders, found):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune, "STEPS", 3)
        return commands.eval(folders[0], data=found, protocol="all")


def test_every_protocol_has_its_figures(results):
    assert {"recall@1", "recall@100", "recall@1/within_coarse", "map@r", "r_precision"} <= set(
        results
    )
    assert {"knn@200", "knn@200/coarse", "linear", "linear@1%", "linear@10%"} <= set(results)
    assert {"finetune@1%", "finetune@10%", "nmi", "ari", "accuracy"} <= set(results)
    assert {"nmi/within_coarse", "accuracy/estimated", "clusters/estimated"} <= set(results)
    assert {"coarse_accuracy", "effective_rank", "uniformity", "alignment"} <= set(results)
    shares = [v for k, v in results.items() if "@" in k and "left_out" not in k]
    assert all(0 <= value <= 1 for value in shares if isinstance(value, float))
    for name, (low, high) in results["intervals"].items():
        assert low <= results[name] <= high, name
    assert {"digits", "vowels"} <= set(results["by_coarse"])
    within = results["recall@1/within_coarse"]
    assert within >= results["recall@1"]


def test_the_runs_own_recall_comes_out_again(results, folders):
    run = runs.read(folders[0])
    assert {k: results[k] for k in ("recall@1", "recall@10")} == {
        k: run["results"][k] for k in ("recall@1", "recall@10")
    }
    assert results["pixels"] == run["results"]["pixels"]


def test_results_are_noted_and_added_to(results, folders, found):
    noted = runs.read(folders[0])["evaluations"]["glyphs"]
    assert noted["linear"] == results["linear"]
    again = commands.eval(folders[0], data=found, protocol=["diagnostics"])
    assert set(again) == {
        "coarse_accuracy",
        "effective_rank",
        "uniformity",
        "alignment",
        "images",
    }
    noted = runs.read(folders[0])["evaluations"]["glyphs"]
    assert noted["linear"] == results["linear"]
    assert noted["effective_rank"] == again["effective_rank"]


def test_without_fine_labels_there_is_what_can_be_known(folders, found):
    parts = {name: dataclasses.replace(part, fine=None) for name, part in found.parts.items()}
    bare = dataclasses.replace(found, name="bare", parts=parts, fine_names=())
    got = commands.eval(folders[0], data=bare, protocol="recall,diagnostics")
    assert "recall@1/coarse" in got
    assert "coarse_accuracy" in got
    with pytest.raises(InputError, match=r"no fine labels, which knn would be measured against"):
        commands.eval(folders[0], data=bare, protocol="knn")


def test_classifiers_need_train_images(folders, found):
    alone = dataclasses.replace(found, name="alone", parts={"test": found.parts["test"]})
    with pytest.raises(InputError, match="no train images with fine labels"):
        commands.eval(folders[0], data=alone, protocol="linear")
    assert "recall@1" in commands.eval(folders[0], data=alone)


@pytest.mark.parametrize("names", [["recal"], [""], []])
def test_unknown_protocols(names):
    with pytest.raises(InputError, match=r"there is no protocol.*choose of recall, knn"):
        check_protocols(names)


def test_protocols_come_in_their_order():
    assert check_protocols(["diagnostics", "recall"]) == ("recall", "diagnostics")
    assert check_protocols(["all"]) == tuple(PROTOCOLS)


# --- fine-tuning ---------------------------------------------------------------------------------


def test_fine_tuning_learns_and_leaves_the_network_alone(folders, tiny, monkeypatch):
    monkeypatch.setattr(finetune, "STEPS", 60)
    encoder = Encoder.load(folders[0])
    before = {k: v.clone() for k, v in encoder.network.state_dict().items()}
    precision = Precision.pick("fp32", torch.device("cpu"))
    options = {"crop_scale": 0.7, "flip": False}
    parts = encoder.network, encoder.preprocessing, precision, tiny.train, tiny.train
    got = fine_tuned(*parts, share=1.0, **options)
    assert got.keys() == {"finetune@100%"}
    assert got["finetune@100%"] > 5 / len(tiny.fine_names)
    after = encoder.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert fine_tuned(*parts, share=1.0, **options) == got


def test_fine_tuning_trains_what_the_run_left_as_it_was(folders, tiny, monkeypatch):
    monkeypatch.setattr(finetune, "STEPS", 2)
    network = Encoder.load(folders[0]).network
    network.freeze(["backbone"])
    seen = []
    monkeypatch.setattr(finetune, "_accuracy", lambda tuned, *rest: seen.append(tuned) or 0.0)
    preprocessing = Encoder.load(folders[0]).preprocessing
    precision = Precision.pick("fp32", torch.device("cpu"))
    parts = network, preprocessing, precision, tiny.train, tiny.train
    fine_tuned(*parts, share=1.0, crop_scale=0.7, flip=False)
    now, before = (dict(n.named_parameters()) for n in (seen[0][0], network.backbone))
    assert all(not torch.equal(now[name], before[name]) for name in before)
    assert not any(p.requires_grad for p in before.values())


def test_features_are_computed_once(folders, tiny, monkeypatch):
    encoder = Encoder.load(folders[0])
    calls = []

    def counted(self, network, split):
        calls.append(split)
        return torch.nn.functional.normalize(split.images.pixels.flatten(1).float(), dim=1)

    monkeypatch.setattr(Subject, "_embed", counted)
    subject = Subject(
        encoder.network,
        encoder.preprocessing,
        encoder.precision,
        test=tiny.test,
        train=tiny.train,
        coarse_names=tiny.coarse_names,
    )
    noted = []
    found = judge(subject, ("recall", "knn", "linear", "diagnostics"), noted.append)
    assert len(calls) == 2
    first = "recall@", "knn@", "linear", "effective_rank"
    for count, results in enumerate(noted, 1):  # each is noted before the next begins
        assert [f for f in first if any(m.startswith(f) for m in results)] == [*first[:count]]
    assert noted[-1] == found


# --- several runs --------------------------------------------------------------------------------


def test_seeds_of_a_run_are_one_row(folders):
    rows = comparison.rows(folders)
    assert len(rows) == 2
    (both,) = (row for row in rows if row.name.startswith("maskcon"))
    assert both.seeds == [0, 1]
    assert both.name == "maskcon, w 1, tau 0.05, lr 0.02"
    values = [runs.read(folder)["results"]["recall@1"] for folder in folders[:2]]
    assert both.metrics["recall@1"] == values
    assert rows == sorted(rows, key=lambda row: -row.mean("recall@1"))


def test_tables_and_picture(folders, tmp_path, results):
    files = {name: tmp_path / f"t.{name}" for name in ("csv", "tex", "png", "svg")}
    commands.compare(folders, csv=files["csv"], latex=files["tex"], picture=files["png"])
    commands.compare(folders[:1], metrics=["linear", "knn@200"], picture=files["svg"])
    lines = list(csv.DictReader(files["csv"].open()))
    both = ["0", "1", "mean", "std"]
    assert [line["seed"] for line in lines] in ([*both, "0"], ["0", *both])
    measured = {line["run"]: float(line["recall@1"]) for line in lines}
    for folder in folders:
        assert measured[str(folder)] == runs.read(folder)["results"]["recall@1"]
    latex = files["tex"].read_text()
    assert "\\begin{tabular}{lrrrr}" in latex
    assert "maskcon, w 1, tau 0.05, lr 0.02 & " in latex
    assert latex.count("\\textbf{") >= 4
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert "<svg" in files["svg"].read_text()


def test_names_are_escaped_for_latex():
    row = comparison.Row("50% a_b & {c}", [0], ["x"], {"recall@1": [0.5]})
    assert "50\\% a\\_b \\& \\{c\\} & 50.00 \\\\" in comparison.latex_table([row])


def test_the_best_is_the_lowest_distance():
    distance = "label_distance/maskcon"
    near, far = (
        comparison.Row(n, [0], ["x"], {distance: [v]}) for n, v in (("a", 0.2), ("b", 0.6))
    )
    latex = comparison.latex_table([far, near])
    assert "\\textbf{20.00}" in latex
    assert latex.count("\\textbf{") == 1
    assert near.rank(distance) > far.rank(distance)


def test_what_cannot_be_compared(folders, tmp_path):
    with pytest.raises(InputError, match="is no run folder"):
        commands.compare([tmp_path])
    with pytest.raises(InputError, match="no runs to compare"):
        commands.compare([])
    with pytest.raises(InputError, match=r"has no linear: it has recall@1.*--protocol all"):
        commands.compare(folders[1:], metrics=["linear"])
    with pytest.raises(InputError, match=r"ends in '.jpg': expected .png, .svg, .pdf"):
        commands.compare(folders, picture=tmp_path / "x.jpg")
    (tmp_path / "run.json").write_text(json.dumps({"config": {}, "status": "interrupted"}))
    with pytest.raises(InputError, match="is interrupted: finish it first"):
        commands.compare([tmp_path])


def test_typed(folders, results, capsys):
    cli.main(
        ["compare", *map(str, folders), "--metrics", "recall@1,recall@10"], standalone_mode=False
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["seeds", "recall@1", "recall@10"]
    assert any(line.startswith("maskcon, w 1, tau 0.05, lr 0.02") for line in lines)


def test_few_shot_is_left_out_of_all_where_classes_are_small(results, folders, found):
    assert "5-way/1-shot" not in results
    with pytest.raises(InputError, match=r"take 20 images of a fine class.*leave out few-shot"):
        commands.eval(folders[0], data=found, protocol="few-shot")
    assert "few-shot" not in check_protocols(["all"], without=["few-shot"])


def test_few_shot_of_a_run_keeps_the_intervals_of_recall(folders, found):
    test = found.parts["test"]
    fine = torch.arange(len(test)) % 3  # classes of forty
    few = dataclasses.replace(
        found,
        name="few",
        parts={"test": dataclasses.replace(test, fine=fine, coarse=torch.zeros_like(fine))},
        fine_names=("a", "b", "c"),
    )
    commands.eval(folders[2], data=few, protocol="recall")
    got = commands.eval(folders[2], data=few, protocol="few-shot")
    noted = runs.read(folders[2])["evaluations"]["few"]
    assert {"recall@1", "all-way/1-shot"} <= set(noted["intervals"])
    for name, (low, high) in got["intervals"].items():
        assert low <= got[name] <= high
    assert "5-way/1-shot" not in got  # three classes
