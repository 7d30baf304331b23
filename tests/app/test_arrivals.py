"""Pictures that came later: beside `placed` in plain loops, and beside all of them at once."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskcon import commands
from maskcon.app import exporting, learning, project
from maskcon.app.arrivals import taken_in
from maskcon.app.ground import ground_of, map_of
from maskcon.app.learning import Learning
from maskcon.commands import _explore
from maskcon.commands import index as make_index
from maskcon.commands.following import follow, look
from maskcon.discover import spreadsheet
from maskcon.discover.placing import limits
from maskcon.discover.tree import grow
from maskcon.errors import InputError
from maskcon.runtime import files
from maskcon.runtime.progress import Silent
from maskcon.search import file as index_file
from maskcon.search.index import About, Index, table
from tests.app.arrivals_worker import STAGES, arrive
from tests.app.places import a_project, work_of
from tests.app.test_state import GROUND, NAMES, Log
from tests.conftest import Told, begun

FIRST = 100  # rows of GROUND that are there before


def index_of(x, coarse):
    """An index of vectors and their labels in words; its pictures are not there."""
    nothing = [None] * len(x)
    paths = [f"/none/{row}.jpg" for row in range(len(x))]
    about = About("identity", "run", 16, "0")
    return Index.of(about, x, table(paths, coarse, nothing, nothing, nothing))


def words_of(label):
    return [NAMES[one] for one in label]


def before(tmp_path):
    """A project of the first pictures, and what was said of them."""
    index = index_of(GROUND.x[:FIRST], words_of(GROUND.coarse[:FIRST]))
    log = Log(ground_of(index, 0, tmp_path / "ground.npz", Silent()))
    log.add(kind="granularity", coarse="cats", value=3)
    log.add(kind="granularity", coarse="dogs", value=3)
    groups = [group for group in log.state.groups if len(group.rows) > 3]
    log.add(kind="name", group=groups[0].id, name="Wren")
    cats = [g for g in log.state.groups if g.id.startswith("cats")]
    log.add(kind="move", pictures=cats[0].rows.tolist(), group=None)  # the whole of a group
    dogs = [g for g in log.state.groups if g.id.startswith("dogs")]
    log.add(kind="merge", groups=[dogs[0].id, dogs[1].id])
    return log


def later(log, x, coarse):
    """The log with more pictures in its ground, whose moves are made."""
    log.ground = taken_in(log.state, index_of(x, coarse), Silent())
    for move in log.ground.moves:
        log.put("move", move)
    log.state = log.fold()
    return log


def nearest_group(state, x, row, c):
    """The group of a class that a picture is nearest to; None where it is far from all."""
    members, found = state.ground.x[:FIRST], []
    for at, group in enumerate(state.groups):
        if group.coarse == c:
            rows = group.rows[group.rows < FIRST]
            alike = sorted((float(x[row] @ members[one]) for one in rows), reverse=True)
            k = max(1, min(10, len(rows) - 1))
            found.append((1 - sum(alike[:k]) / k, at))
    distance, at = min(found)
    limit = limits(members, state.group[:FIRST])[at]
    return state.groups[at].id if distance <= limit else None


def test_each_is_in_the_group_that_it_is_nearest_to_and_all_that_was_said_holds(tmp_path):
    log = before(tmp_path)
    was = log.state
    random = np.random.default_rng(1)
    strange = random.normal(size=(4, 12)).astype(np.float32)
    strange /= np.linalg.norm(strange, axis=1, keepdims=True)
    x = np.concatenate([GROUND.x, strange])
    label = np.concatenate([GROUND.coarse, [0, 0, 1, 2]])
    expected = {row: nearest_group(was, x, row, int(label[row])) for row in range(FIRST, len(x))}
    later(log, x, words_of(label))
    now = log.state
    for row in range(FIRST):
        old, new = was.groups[was.group[row]], now.groups[now.group[row]]
        assert (old.id, old.name) == (new.id, new.name)
    new_ones = [g for g in now.groups if g.id not in was.by_id]
    for row, group in expected.items():
        found = now.groups[now.group[row]]
        if group is None:
            assert found in new_ones
            assert found.coarse == label[row]
        else:
            assert found.id == group
    far = sorted(row for row, group in expected.items() if group is None)
    assert far
    assert sorted(np.concatenate([g.rows for g in new_ones]).tolist()) == far
    assert len({group.coarse for group in new_ones}) == len(new_ones)
    assert len(set(expected.values())) > 3
    for edit in [line for line in log.lines if "made" in line.content and line.id > 5]:
        log.undo(edit)  # as any move is taken back: each lies beside the nearest of its class
    assert {g.id for g in log.state.groups} == {g.id for g in was.groups}


def test_copies_are_where_they_would_be_had_they_always_been_there(tmp_path):
    index = index_of(GROUND.x, words_of(GROUND.coarse))
    log = Log(ground_of(index, 0, tmp_path / "ground.npz", Silent()))
    typical = [int(group.place[1]) for group in log.state.groups]
    x = np.concatenate([GROUND.x, GROUND.x[typical]])
    label = np.concatenate([GROUND.coarse, GROUND.coarse[typical]])
    later(log, x, words_of(label))
    at_once = ground_of(index_of(x, words_of(label)), 0, tmp_path / "all.npz", Silent())
    for place, row in enumerate(typical):
        copy = len(GROUND.x) + place
        for state in (log.state, Log(at_once).state):
            assert state.group[copy] == state.group[row]
    found = [lot for one in log.ground.grown for lot in one.near_duplicates(x)]
    for place, row in enumerate(typical):
        assert any({row, len(GROUND.x) + place} <= {*lot} for lot in found)
    votes = zip(log.ground.votes, at_once.votes, strict=True)
    assert all(np.array_equal(one, other) for one, other in votes)
    assert not log.ground.moves


def test_a_class_that_was_not_there_gets_a_tree_and_the_others_keep_their_numbers(tmp_path):
    log = before(tmp_path)
    was = {group.id: group.rows.tolist() for group in log.state.groups}
    random = np.random.default_rng(2)
    eels = (random.normal(size=(20, 12)) + 9 * np.eye(12)[11]).astype(np.float32)
    eels /= np.linalg.norm(eels, axis=1, keepdims=True)
    x = np.concatenate([GROUND.x[:FIRST], eels])
    later(log, x, [*words_of(GROUND.coarse[:FIRST]), *["antlers"] * 20])
    assert log.ground.names == (*NAMES, "antlers")
    now = {group.id: group.rows.tolist() for group in log.state.groups}
    assert {name: rows for name, rows in now.items() if name in was} == was
    fresh = [rows for name, rows in now.items() if name not in was]
    assert sorted(np.concatenate(fresh).tolist()) == list(range(FIRST, FIRST + 20))
    alone = grow(torch.from_numpy(x), torch.from_numpy(log.ground.coarse))[3]
    assert np.array_equal(log.ground.grown[3].tree.merges, alone.tree.merges)


def test_the_map_stays_where_it_was(tmp_path):
    path = tmp_path / "map.f32"
    old = map_of(index_of(GROUND.x[:FIRST], words_of(GROUND.coarse[:FIRST])), path, Silent())
    index = index_of(GROUND.x, words_of(GROUND.coarse))
    new = map_of(index, path, Silent())
    assert new[: len(old)] == old
    spots = np.frombuffer(new, "<f4").reshape(-1, 2)
    assert spots.shape == (len(GROUND.x), 2)
    assert ((spots >= 0) & (spots <= 1)).all()
    assert map_of(index, path, Silent()) == new
    path.write_bytes(new[:-3])  # which is no map
    assert len(map_of(index, path, Silent())) == len(new)


def opened(folder):
    facts, told = project.read(folder), Told()
    here = project.Generation(folder, facts.generation)
    follow(here, facts, look(here, facts, told), told, read_only=False)
    return work_of(folder), told


def shape(work):
    return [(g.id, g.name, g.rows.tolist()) for g in work.live.state.groups]


def changed_folder(tmp_path):
    """A project with edits, to whose folder pictures were added since, one removed, one changed."""
    folder = a_project(tmp_path, train=48)
    work = work_of(folder)
    work.live.do({"kind": "name", "group": work.live.state.groups[0].id, "name": "Wren"})
    first = work.live.state.groups[0].rows[:2].tolist()
    work.live.do({"kind": "move", "pictures": first, "group": None})
    work.close()
    photos = tmp_path / "photos"
    paths = sorted(photos.rglob("*.png"))
    for number, path in enumerate(paths[:6]):
        shutil.copy(path, path.with_name(f"later {number}.png"))
    Image.new("RGB", (24, 24), (250, 40, 10)).save(paths[0].with_name("strange.png"))
    (paths[0].parent / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (24, 24), (0, 90, 10)).save(paths[10])
    paths[11].unlink()
    return folder, paths


def test_a_second_start_says_what_was_added_and_takes_it_in(tmp_path):
    folder, paths = changed_folder(tmp_path)
    facts = project.read(folder)
    here = project.Generation(folder, 0)
    was, _ = index_file.read(here.index)
    stamp = here.index.stat().st_mtime_ns
    told = Told()
    follow(here, facts, look(here, facts, told), told, read_only=True)
    assert told.notes[0].endswith("8 were added, 1 was removed, 1 was changed since")
    assert "leave out --read-only" in told.notes[1]
    assert here.index.stat().st_mtime_ns == stamp
    before = work_of(folder)
    groups = shape(before)
    before.close()
    work, told = opened(folder)
    words = "7 were added, 1 was removed, 1 was changed since, and 1 cannot be read"
    (line,) = [line for line in told.notes if line.startswith("of the pictures")]
    assert line == f"of the pictures of photos, {words}"
    (line,) = [line for line in told.notes if line.startswith("left out: ")]
    assert "broken.png" in line
    index = work.index
    assert index.rows.slice(0, 48).equals(was.rows)
    np.testing.assert_array_equal(index.vectors[:48], was.vectors)
    make_index(here.run, tmp_path / "photos", out=tmp_path / "all.index", skip_unreadable=True)
    at_once, _ = index_file.read(tmp_path / "all.index")
    place = {path: row for row, path in enumerate(at_once.rows["path"].to_pylist())}
    for row, path in enumerate(index.rows["path"].to_pylist()):
        if row >= 48:
            expected = at_once.rows.slice(place[path], 1).to_pylist()
            assert index.rows.slice(row, 1).to_pylist() == expected
            np.testing.assert_allclose(
                index.vectors[row], at_once.vectors[place[path]], rtol=0, atol=1e-5
            )
    assert len(index) == 48 + 7
    for number, name, rows in shape(work):
        known = [row for row in rows if row < 48]
        assert (number, name, known) in groups or not known
    names = index.rows["path"].to_pylist()
    states = {row: work.photos.state(row) for row in range(len(index))}
    assert states.pop(names.index(str(paths[10]))) == "changed"
    assert states.pop(names.index(str(paths[11]))) == "missing"
    assert set(states.values()) == {"here"}
    assert len(work.map) == 8 * len(index)
    found = shape(work), work.map
    work.close()
    again, told = opened(folder)
    assert (shape(again), again.map) == found
    words = "1 was removed, 1 was changed since, and 1 cannot be read"  # as they still are
    assert told.notes[-2] == f"of the pictures of photos, {words}"
    assert told.notes[-1].startswith("left out: ")
    assert "broken.png" in told.notes[-1]
    again.close()


def started(monkeypatch, *given, **options):
    """What `explore` serves, as (name, pictures, their states), and what it said."""
    seen, told = [], Told()

    def serve(work, *_):
        states = {work.photos.state(row) for row in range(len(work.index))}
        seen.append((shape(work), work.facts.data, work.index.rows["path"].to_pylist(), states))

    monkeypatch.setattr(_explore, "_serve", serve)
    commands.explore(*given, progress=told, **options)
    return *seen[0], told.notes


@pytest.mark.parametrize("together", [True, False])
def test_photos_that_were_moved_are_found_again(tmp_path, monkeypatch, together):
    """With their project, as on a disk that has another name now; or without it."""
    old = tmp_path / "old"
    old.mkdir()
    folder = a_project(old, train=48)
    work = work_of(folder)
    work.live.do({"kind": "name", "group": work.live.state.groups[0].id, "name": "Wren"})
    groups, paths = shape(work), work.index.rows["path"].to_pylist()
    work.close()
    new = tmp_path / "new"
    if together:
        old.rename(new)
        photos, folder = new / "photos", new / "photos.maskcon"
    else:
        new.mkdir()
        photos = (old / "photos").rename(new / "pictures")
    min(photos.rglob("*.png")).unlink()
    for again in (False, True):  # when they are where they were
        known, data, now, states, notes = started(monkeypatch, photos, project=folder)
        assert (known, data) == (groups, str(photos))
        assert now == [path.replace(str(old / "photos"), str(photos)) for path in paths]
        assert states == {"here", "missing"}
        assert any("1 was removed since" in note for note in notes)
        moved = [note for note in notes if note.endswith("47 of 48 were found there")]
        assert len(moved) == (not again)
    assert started(monkeypatch, folder)[:3] == (groups, str(photos), now)


def test_a_table_that_was_moved_and_its_pictures_were_not(tmp_path, monkeypatch):
    folder = a_project(tmp_path, train=48)
    photos, table = sorted((tmp_path / "photos").rglob("*.png")), tmp_path / "t.csv"
    lines = [f"{path},{path.parent.name}\n" for path in photos]
    table.write_text("path,coarse\n" + "".join(lines))
    facts = project.Facts("t.csv", str(table))
    project.write(folder, facts)
    (tmp_path / "there").mkdir()
    moved = table.rename(tmp_path / "there" / "t.csv")
    _, data, now, states, notes = started(monkeypatch, moved, project=folder)
    assert (data, sorted(now), states) == (str(moved), [*map(str, photos)], {"here"})
    assert any("48 of 48 were found there" in note for note in notes)


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_report_of_photos_that_were_moved(tmp_path, monkeypatch):
    """Of what the folder says, and of what was learned from since."""
    folder = a_project(tmp_path, train=96, learned=True)
    work = work_of(folder)
    exporting.export(work, "report")
    here = work.here
    files.write(here.learned_from, learning.pictures(work, work.live.state))
    work.close()
    (tmp_path / "photos").rename(tmp_path / "pictures")
    with monkeypatch.context() as patch:
        patch.setattr(spreadsheet, "write", interrupted)  # between the index and the table
        with pytest.raises(KeyboardInterrupt):
            started(monkeypatch, tmp_path / "pictures", project=folder)
    started(monkeypatch, tmp_path / "pictures", project=folder)
    for learned in (True, False):
        if not learned:
            here.learned_from.unlink()
        work = work_of(folder)
        assert Path(exporting.export(work, "report")).is_file()
        work.close()


def test_other_photos_are_not_taken_for_those_that_were_moved(tmp_path, monkeypatch):
    folder = a_project(tmp_path, train=48)
    photos, others = tmp_path / "photos", tmp_path / "others"
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        place = others / path.parent.name / f"other {number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    with pytest.raises(InputError, match=r"is a project of .*photos, not of .*others"):
        started(monkeypatch, others, project=folder)
    empty = tmp_path / "empty"
    empty.mkdir()
    photos.rename(tmp_path / "elsewhere")
    content = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"not there any more; of its 48 pictures .* has 0"):
        started(monkeypatch, others, project=folder)
    with pytest.raises(InputError, match="no pictures"):
        started(monkeypatch, empty, project=folder)
    notes = started(monkeypatch, folder)[-1]
    assert any(f"maskcon explore PHOTOS --project {folder}" in note for note in notes)
    for path, before in content.items():
        assert path.read_bytes() == before


def test_a_class_that_came_later_keeps_its_number_in_trees_that_are_grown_anew(tmp_path):
    folder = a_project(tmp_path, train=48)
    work_of(folder).close()
    (tmp_path / "photos" / "aardvarks").mkdir()  # before all others in the alphabet
    for number, path in enumerate(sorted((tmp_path / "photos").rglob("*.png"))[:4]):
        shutil.copy(path, tmp_path / "photos" / "aardvarks" / f"{number}.png")
    work, _ = opened(folder)
    names = work.live.state.ground.names
    assert names[-1] == "aardvarks"
    first = work.live.state.groups[0]
    work.live.do({"kind": "granularity", "coarse": names[0], "value": 3})
    moved = {"pictures": first.rows[:2].tolist(), "coarse": "aardvarks"}
    work.live.do({"kind": "coarse", **moved})

    def told(work):
        coarse = [work.live.state.ground.names[c] for c in work.live.state.coarse]
        return work.live.state.ground.names, work.live.state.said.granularity, coarse

    expected = told(work)
    here = project.Generation(folder, 1)
    learning = Learning(work, None, lambda work: None)
    shutil.copytree(work.here.home, here.home)
    here.ground.unlink()
    learning._made = learning._grown(here)
    learning.keep()
    assert told(work) == expected
    work.close()
    here.ground.unlink()  # a file that can be made again
    again, _ = opened(folder)
    assert told(again) == expected
    again.close()


@pytest.mark.heavy
def test_killed_in_the_middle_it_goes_on_the_next_time(tmp_path):
    (tmp_path / "first").mkdir()
    folder, _ = changed_folder(tmp_path / "first")
    copies = [shutil.copytree(folder, tmp_path / stage) for stage in STAGES]
    work, _ = opened(folder)
    expected = shape(work), work.map, work.live.revision
    work.close()
    for stage, copy in zip(STAGES, copies, strict=True):
        process = begun(arrive, str(copy), stage)
        process.join()
        assert process.exitcode == -9
        work, _ = opened(copy)
        assert (shape(work), work.map, work.live.revision) == expected
        work.close()
