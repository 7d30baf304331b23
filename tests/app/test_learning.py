"""Learning again, in the background: kept, discarded, stopped."""

import re
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from maskcon.app import live as live_module
from maskcon.app import project
from maskcon.app.edits import Edits, effective
from maskcon.app.learning import Learning, carried, measures
from maskcon.app.live import Live
from maskcon.app.state import Ground, folded
from maskcon.discover.tree import grow
from maskcon.errors import InputError
from tests.app.places import a_project, client_of, work_of
from tests.app.test_state import GROUND, NAMES, Log


def other_trees(seed=0):
    """The pictures of `GROUND` by another encoder: nearly the same vectors."""
    random = np.random.default_rng(seed)
    x = GROUND.x + random.normal(scale=0.02, size=GROUND.x.shape).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    grown = grow(torch.from_numpy(x), torch.from_numpy(GROUND.coarse))
    return Ground(x, GROUND.coarse, GROUND.names, grown, 1, GROUND.votes)


def test_groups_keep_their_numbers_and_names_in_other_trees():
    log = Log()
    first = log.state.groups[0]
    log.add(kind="name", group=first.id, name="Wren")
    log.add(kind="move", pictures=first.rows[:2].tolist(), group=None)
    made = log.group_of(first.rows[0]).id
    gone = log.add(kind="move", pictures=first.rows[3:5].tolist(), group=None)
    lost = log.group_of(first.rows[3]).id
    log.undo(gone)
    edits, ground = effective(log.lines), other_trees()
    numbers = carried(log.state, ground, edits)
    after = folded(ground, edits, numbers)
    assert dict(after.numbers) == numbers
    assert after.by_id[made].rows.tolist() == log.state.by_id[made].rows.tolist()
    same = 0
    for group in after.groups:
        before = log.state.by_id.get(group.id)
        if before is not None:
            shared = len({*group.rows.tolist()} & {*before.rows.tolist()})
            assert 2 * shared >= min(len(group.rows), len(before.rows))
            same += shared
    assert same > 0.8 * len(GROUND)
    assert [g.name for g in after.groups if first.rows[8] in g.rows] == ["Wren"]
    assert lost not in after.by_id
    assert len({*numbers.values()}) <= len(numbers)
    for c in range(3):
        used = [number for (of, node), number in numbers.items() if of == c and node > -(2**40)]
        assert len(used) == len(set(used))


def test_what_is_typical_is_so_by_the_vectors_that_count(tmp_path):
    live = Live(GROUND, Edits(tmp_path / "edits.sqlite"))
    for group in live.state.groups:
        live.order(group)
    live.turn_to(other_trees())
    again = Live(other_trees(), Edits(tmp_path / "edits.sqlite", read_only=True), read_only=True)
    assert [g.id for g in live.state.groups] == [g.id for g in again.state.groups]
    for mine, theirs in zip(live.state.groups, again.state.groups, strict=True):
        assert live.order(mine)[0].tolist() == again.order(theirs)[0].tolist()


def test_orders_that_are_remembered_take_so_many_bytes(tmp_path, monkeypatch):
    live = Live(GROUND, Edits(tmp_path / "edits.sqlite"))
    for c in NAMES:
        live.do({"kind": "granularity", "coarse": c, "value": 3})
    expected = [live.order(group)[0].tolist() for group in live.state.groups]
    assert len(live._orders) == len(expected) > 4
    held = sum(4 + 17 * len(rows) for rows in expected)  # two numbers and a bit for each picture
    monkeypatch.setattr(live_module, "EACH", 4)
    live.turn_to(other_trees())
    assert not live._orders
    live.turn_to(GROUND)
    monkeypatch.setattr(live_module, "KEPT", held // 2)
    for group, rows in zip(live.state.groups, expected, strict=True):
        for _ in range(2):
            assert live.order(group)[0].tolist() == rows
        assert 0 < live._bytes <= held // 2
        kept = [4 + 17 * len(rows) for rows, _ in live._orders.values()]
        assert live._bytes == sum(kept)


def test_measures_by_hand():
    log = Log()
    a, b = log.state.groups[:2]
    assert measures(log.state) == {"groups": len(log.state.groups)}
    log.add(kind="name", group=a.id, name="Wren")
    log.add(kind="name", group=b.id, name="Tit")
    rows = sorted([*a.rows, *b.rows])
    of = {row: "Wren" if row in a.rows else "Tit" for row in rows}
    right = 0
    for row in rows:
        others = [other for other in rows if other != row]
        nearest = max(others, key=lambda other: GROUND.x[row] @ GROUND.x[other])
        right += of[nearest] == of[row]
    share = measures(log.state)["named pictures whose nearest named one has their name"]
    assert share == pytest.approx(right / len(rows))


def test_what_cannot_learn_says_so(tmp_path):
    work = work_of(a_project(tmp_path, train=24))
    with client_of(work) as client:
        assert client.get("/api/job").json() == {"state": "idle"}
        for step in ("keep", "discard"):
            answer = client.post(f"/api/learn/{step}", json={})
            assert answer.status_code == 422
            assert "nothing was learned" in answer.json()["error"]
    lost = work.paths[5]
    Path(lost).unlink()
    learning = Learning(work, [], lambda work: None)
    with pytest.raises(InputError, match=re.escape(f"any more: 1, such as {lost}; bring them")):
        learning.start()  # at once, not when all others have been learned from
    work.close()


def another_generation(work):
    """A job that has learned the trees of `work` once more, which are not kept yet."""
    here, learning = project.Generation(work.folder, 1), Learning(work, None, lambda work: None)
    shutil.copytree(work.here.home, here.home)
    here.ground.unlink()
    learning._made = learning._grown(here)
    return learning


def test_edits_before_what_was_learned_is_kept_take_no_number_twice(tmp_path):
    work = work_of(a_project(tmp_path, train=48))
    learning = another_generation(work)
    stale = {key: number + 50 for key, number in work.live.state.numbers.items()}
    work.live.edits.number(1, stale, ())  # a process that was ended left them
    split = work.live.state.groups[0]
    work.live.do({"kind": "move", "pictures": split.rows[:3].tolist(), "group": None})
    made = next(g for g in work.live.state.groups if split.rows[0] in g.rows)
    work.live.do({"kind": "granularity", "coarse": work.live.state.ground.names[0], "value": 5})
    before = {group.id: group.rows.tolist() for group in work.live.state.groups}
    assert made.id in before
    learning.keep()
    after = {group.id: group.rows.tolist() for group in work.live.state.groups}
    assert after == before  # the trees are the same, and so is every number
    assert len(after) == len(work.live.state.groups)
    work.close()
    again = work_of(work.folder)
    assert {group.id: group.rows.tolist() for group in again.live.state.groups} == after
    again.close()


def waited(client, seconds=400):
    until = time.monotonic() + seconds
    while (job := client.get("/api/job").json())["state"] == "running":
        assert time.monotonic() < until, job
        assert 0 <= job["fraction"] <= 1
        time.sleep(0.3)
    return job


@pytest.mark.heavy
def test_learning_from_what_was_said_is_kept_and_goes_on(tmp_path):
    folder = a_project(tmp_path, train=60)
    work = work_of(folder)
    state = work.live.state
    first, second = (np.flatnonzero(state.coarse == c) for c in (0, 1))
    work.live.do({"kind": "move", "pictures": first[:4].tolist(), "group": None})
    work.live.do({"kind": "name", "group": work.live.state.groups[-1].id, "name": "one"})
    work.live.do({"kind": "name", "group": work.live.state.groups[0].id, "name": "another"})
    for left, right in ((second[0], second[1]), (second[0], second[2])):
        body = {"left": int(left), "right": int(right), "verdict": "different"}
        work.live.do({"kind": "answer", **body})
    with client_of(work) as client:
        before = client.get("/api/groups").json()
        assert client.post("/api/learn", json={}).json()["job"]["state"] == "running"
        assert client.post("/api/learn", json={}).status_code == 422
        job = waited(client)
        assert job["state"] == "done", job
        assert job["before"].keys() == job["after"].keys()
        assert client.get("/api/groups").json() == before  # until it is kept
        assert client.post("/api/learn/keep", json={}).json()["revision"] > before["revision"]
        assert client.get("/api/project").json()["learned"]
        after = client.get("/api/groups").json()
        named = {g["name"] for g in before["groups"] if g["named"]}
        assert {g["name"] for g in after["groups"] if g["named"]} == named
        assert client.post("/api/search", json={"picture": 3, "count": 5}).status_code == 200
        assert client.post("/api/learn", json={}).status_code == 200
    work.close()  # with the second learning, which ends with the server
    assert project.read(folder).generation == 1
    again = work_of(folder)
    with client_of(again) as client:
        assert client.get("/api/groups").json() == after
        assert client.get("/api/job").json() == {"state": "idle"}
        assert not (folder / "2").exists()
    again.close()


@pytest.mark.heavy
def test_what_is_discarded_leaves_no_trace(tmp_path):
    folder = a_project(tmp_path, train=24)
    work = work_of(folder)

    def now():
        shape = [(group.id, group.rows.tolist()) for group in work.live.state.groups]
        return shape, work.index.about.identity, work.revision, sorted(folder.rglob("*"))

    before = now()
    words = ["--recipe", "quick", "--backbone", "resnet10w16", "--image-size", "16"]
    learning = Learning(work, [*words, "--epochs", "1"], lambda work: pytest.fail("was kept"))
    learning.start()
    while learning.busy():
        time.sleep(0.1)
    assert learning.job()["state"] == "done", learning.job()
    assert (folder / "1" / "pictures.index").exists()
    learning.discard()
    assert now() == before
    assert learning.job() == {"state": "idle"}
    with pytest.raises(InputError, match="learn first"):
        learning.keep()
    work.close()
    assert project.read(folder).generation == 0
