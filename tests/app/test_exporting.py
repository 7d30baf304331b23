"""What a project gives to other programs."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from maskcon.app import exporting
from maskcon.data import find
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from tests.app.places import a_project, client_of, work_of


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A project with a name, a group that a person made, an outlier, and another coarse label."""
    made = work_of(a_project(tmp_path_factory.mktemp("export"), train=60))
    live = made.live
    first = live.state.groups[0]
    live.do({"kind": "name", "group": first.id, "name": "a/b"})
    live.do({"kind": "move", "pictures": first.rows[:3].tolist(), "group": None})
    live.do({"kind": "outlier", "pictures": [int(first.rows[4])], "on": True})
    other = next(g for g in live.state.groups if g.coarse != first.coarse)
    coarse = other.id.rpartition(" ")[0]
    live.do({"kind": "coarse", "pictures": [int(first.rows[5])], "coarse": coarse})
    yield made
    made.close()


def rows_of(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_the_table_has_what_the_page_shows(work):
    rows, state = rows_of(exporting.table(work)), work.live.state
    assert [row["path"] for row in rows] == work.paths
    assert [row["group"] for row in rows] == [state.groups[g].id for g in state.group]
    names = [state.groups[g].name or state.groups[g].id for g in state.group]
    assert [row["fine"] for row in rows] == names
    assert [row["coarse"] for row in rows] == [
        state.groups[g].id.rpartition(" ")[0] for g in state.group
    ]
    for group in state.groups:
        ranks = {int(rows[row]["typical"]): row for row in group.rows.tolist()}
        assert [ranks[rank] for rank in sorted(ranks)] == work.live.order(group)[0].tolist()
    assert rows[state.said.outlier and min(state.said.outlier)]["outlier"] == "1"
    assert all(0 < float(row["confidence"]) <= 1 for row in rows)


def test_the_table_trains(work):
    path = exporting.export(work, "groups.csv")
    found = find(str(path))
    assert len(found.parts["train"]) == len(work.index)
    assert set(found.fine_names) == {row["fine"] for row in rows_of(path.read_bytes())}


@pytest.mark.parametrize("kind", ["links", "copies"])
def test_folders_of_groups(work, kind):
    folder = exporting.export(work, kind)
    assert folder == exporting.export(work, kind)  # as nothing has changed since
    placed = [path for path in folder.rglob("*") if not path.is_dir()]
    assert {path.is_symlink() for path in placed} == {kind == "links"}
    rows = rows_of(exporting.table(work))
    assert len(placed) == len(rows)
    for row in rows:
        fine = row["fine"].replace("/", "_")
        there = folder / row["coarse"] / fine / Path(row["path"]).name
        assert there.read_bytes() == Path(row["path"]).read_bytes()
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_names_that_no_folder_can_have():
    assert exporting._fit("a/b\\c:d") == "a_b_c_d"
    assert exporting._fit("..") == "_"
    assert exporting._fit(" .x. ") == "x"
    assert len(exporting._fit("x" * 300)) == 100


def test_annotation_tools(work):
    fine = {row["path"]: row["fine"] for row in rows_of(exporting.table(work))}
    tasks = json.loads((exporting.export(work, "label-studio") / "tasks.json").read_text())
    assert len(tasks) == len(fine)
    for name in ("cvat", "fiftyone"):
        assert any(exporting.export(work, name).iterdir())


def test_the_encoder(work):
    encoder = Encoder.load(exporting.export(work, "encoder"))
    assert encoder.identity == work.index.about.identity
    vector = encoder.embed([work.paths[3]])
    assert np.allclose(vector[0], work.index.vectors[3], atol=1e-5)


def test_answers_of_one_class_alone(work):
    state = work.live.state
    left, right = np.flatnonzero(state.ground.class_of == 1)[:2].tolist()
    work.live.do({"kind": "answer", "left": left, "right": right, "verdict": "different"})
    assert rows_of(exporting.answers(work)) == [
        {"left": work.paths[left], "right": work.paths[right], "answer": "different"}
    ]
    names = [state.ground.names[g.label] for g in state.ground.grown]
    other = names[1 - int(state.coarse[left] > 0)]
    work.live.do({"kind": "coarse", "pictures": [left], "coarse": other})
    assert rows_of(exporting.answers(work)) == []
    work.live.undo()
    work.live.undo()


def test_a_report_needs_a_run_that_learned(work):
    (work.here.run / "run.json").unlink(missing_ok=True)
    with pytest.raises(InputError, match="nothing was learned yet"):
        exporting.export(work, "report")


def test_over_http(work):
    with client_of(work) as client:
        answer = client.post("/api/export", json={"kind": "groups.csv"})
        assert Path(answer.json()["path"]).read_bytes() == exporting.table(work)
        refused = client.post("/api/export", json={"kind": "zip"})
        assert refused.status_code == 422
        assert "groups.csv" in refused.json()["error"]
