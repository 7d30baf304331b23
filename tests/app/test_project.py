"""Projects: a log that nothing is lost of, a lock, and folders of other versions."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from maskcon.app import edits, project
from maskcon.app.edits import Edits, effective, to_redo, to_undo, undone
from maskcon.app.live import Live
from maskcon.errors import InputError, TrainingError
from tests.app.test_state import GROUND


def worker(*words):
    command = [sys.executable, "-m", "tests.app.edits_worker", *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def live_of(folder, **how):
    return Live(GROUND, Edits(folder / "edits.sqlite", **how), **how)


def shape(live):
    return [(g.id, g.name, g.rows.tolist()) for g in live.state.groups]


def test_a_process_that_is_killed_loses_no_acknowledged_edit(tmp_path):
    for enough in (1, 7):  # in a log that is there from the second on
        process = worker("edit", tmp_path)
        said = [process.stdout.readline() for _ in range(enough)]
        process.send_signal(signal.SIGKILL)
        said += process.stdout.read().splitlines(keepends=True)
        process.wait(timeout=60)
        told = [line.split(" ", 2) for line in said if line.endswith("\n")]
        live = live_of(tmp_path)
        lines = {line.id: line for line in live.edits.lines}
        for number, kind, pictures in told:
            assert lines[int(number)].kind == kind
            assert str(lines[int(number)].content.get("pictures")) == pictures.strip()
        assert [*lines] == list(range(1, len(lines) + 1))
        # one more may have been written that nobody was told of, and no more
        assert len(lines) - int(told[-1][0]) in (0, 1)
        live.edits.close()


def test_restarting_finds_the_same_groups_and_numbers(tmp_path):
    live = live_of(tmp_path)
    group = live.state.groups[0]
    live.do({"kind": "name", "group": group.id, "name": "Wren"})
    live.do({"kind": "granularity", "coarse": "cats", "value": 5})
    live.do({"kind": "move", "pictures": group.rows[:2].tolist(), "group": None})
    live.undo()
    expected = shape(live), dict(live.state.numbers), live.revision, live.history()
    live.edits.close()
    again = live_of(tmp_path)
    assert (shape(again), dict(again.state.numbers), again.revision, again.history()) == expected
    again.edits.close()
    reader = live_of(tmp_path, read_only=True)
    assert shape(reader) == expected[0]
    for change in (reader.undo, reader.redo, lambda: reader.take_back(1)):
        with pytest.raises(InputError, match="--read-only"):
            change()
    with pytest.raises(InputError, match="--read-only"):
        reader.do({"kind": "split", "group": group.id})


def test_undo_redo_and_taking_back(tmp_path):
    live = live_of(tmp_path)
    before = shape(live)
    first = live.state.groups[0]
    live.do({"kind": "name", "group": first.id, "name": "Wren"})
    named = shape(live)
    second = live.do({"kind": "outlier", "pictures": [3], "on": True})
    with pytest.raises(InputError, match="no edit to redo"):
        live.redo()
    live.undo()
    assert to_undo(live.edits.lines).id == 1
    assert to_redo(live.edits.lines).id == second.id
    live.undo()
    assert shape(live) == before
    with pytest.raises(InputError, match="no edit to undo"):
        live.undo()
    live.redo()
    assert shape(live) == named
    live.redo()
    assert live.state.said.outlier == {3: True}
    live.take_back(1)
    assert shape(live) == before
    assert live.state.said.outlier == {3: True}
    with pytest.raises(InputError, match="no edit 1 that counts"):
        live.take_back(1)
    live.redo()
    assert shape(live) == named
    live.undo()
    live.do({"kind": "outlier", "pictures": [4], "on": True})
    with pytest.raises(InputError, match="others came since"):
        live.redo()
    assert undone(live.edits.lines) == {2}
    assert [e.id for e in effective(live.edits.lines)] == [1, live.revision]


def test_an_edit_that_cannot_be_written_changes_nothing(tmp_path):
    live = live_of(tmp_path)
    some = live.state.groups[0].rows[:2].tolist()
    live.do({"kind": "outlier", "pictures": [1], "on": True})
    before = shape(live), live.revision
    other = sqlite3.connect(tmp_path / "edits.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")  # as a disk that is full would, it refuses the next
    live.edits._connection.execute("PRAGMA busy_timeout = 0")
    with pytest.raises(TrainingError, match="nothing was changed"):
        live.do({"kind": "move", "pictures": some, "group": None})
    assert (shape(live), live.revision) == before
    other.execute("ROLLBACK")
    live.do({"kind": "move", "pictures": some, "group": None})
    assert live.revision == before[1] + 1


def test_threads_that_edit_at_once(tmp_path):
    live = live_of(tmp_path)

    def edit(first):
        for row in range(first, first + 5):
            live.do({"kind": "outlier", "pictures": [row], "on": True})

    threads = [threading.Thread(target=edit, args=(first,)) for first in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(live.state.said.outlier) == [r for f in (0, 10, 20, 30) for r in range(f, f + 5)]
    live.edits.close()
    assert [line.id for line in Edits(tmp_path / "edits.sqlite").lines] == list(range(1, 21))


def test_a_second_server_is_refused(tmp_path):
    folder = tmp_path / "photos.maskcon"
    folder.mkdir()
    process = worker("hold", folder)
    try:
        assert process.stdout.readline() == "held\n"
        words = f"in use by process {process.pid}"
        with pytest.raises(InputError, match=words), project.held(folder):
            pass
        with project.held(folder, read_only=True):
            pass
    finally:
        process.kill()
        process.wait(timeout=60)
    with project.held(folder):
        pass


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    with (
        pytest.raises(TrainingError, match="Give --project a folder"),
        project.held(tmp_path / "none" / "photos.maskcon"),
    ):
        pass


def test_a_project_of_an_older_version_opens(tmp_path):
    """As the first format was written, with what later versions do not know."""
    content = {"maskcon project": 1, "name": "x", "data": "/photos", "colour": "blue"}
    (tmp_path / "project.json").write_text(json.dumps(content))
    assert project.read(tmp_path) == project.Facts("x", "/photos")
    made = sqlite3.connect(tmp_path / "edits.sqlite")
    made.executescript(
        "CREATE TABLE edit (id INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL,"
        " kind TEXT NOT NULL, content TEXT NOT NULL);"
        "INSERT INTO edit VALUES (1, '2026-11-30T00:00:00.000+00:00', 'outlier',"
        ' \'{"pictures": [2], "on": true}\');'
        "PRAGMA user_version = 1"
    )
    made.close()
    live = live_of(tmp_path)
    assert live.state.said.outlier == {2: True}
    assert live.history()[0]["words"] == "outlier"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"maskcon project": 2}, "later version"),
        ({"maskcon project": 1}, "damaged"),
        ({"maskcon project": 1, "name": "x", "data": "y", "generation": -1}, "damaged"),
        ({"name": "x"}, "damaged"),
        ([], "damaged"),
    ],
)
def test_a_project_that_cannot_be_read(tmp_path, content, words):
    (tmp_path / "project.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=words):
        project.read(tmp_path)


def test_edits_that_cannot_be_read(tmp_path):
    path = tmp_path / "edits.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(InputError, match="bring it back"):
        Edits(path)
    path.unlink()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 9")
    later.close()
    with pytest.raises(InputError, match="later version"):
        Edits(path)
    with pytest.raises(InputError, match="cannot be used"):
        Edits(tmp_path / "none.sqlite", read_only=True)


def test_edits_that_another_program_has_are_told_as_that(tmp_path, monkeypatch):
    live_of(tmp_path).edits.close()
    other = sqlite3.connect(tmp_path / "edits.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(edits, "WAIT", 0.0)
    with pytest.raises(TrainingError, match="cannot be opened now: database is locked; close"):
        live_of(tmp_path)
    other.close()
    live_of(tmp_path).edits.close()
    other = sqlite3.connect(tmp_path / "edits.sqlite")
    other.execute("ALTER TABLE edit RENAME TO other")
    other.close()
    with pytest.raises(InputError, match="bring it back"):  # no such table: it is another's
        live_of(tmp_path, read_only=True)


def test_where_a_project_may_lie(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    assert project.beside(str(photos)) == tmp_path / "photos.maskcon"
    facts = project.Facts("photos", str(photos))
    with pytest.raises(InputError, match="among the pictures"):
        project.begin(photos / "here", facts)
    with pytest.raises(InputError, match="no project"):
        project.begin(tmp_path, facts)
    folder = tmp_path / "photos.maskcon"
    assert project.begin(folder, facts) == facts == project.begin(folder, facts)
    with pytest.raises(InputError, match="not of others"):
        project.begin(folder, project.Facts("others", "others"))
    assert list(photos.iterdir()) == []
