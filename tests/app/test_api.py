"""What the page asks of a project, through the whole application."""

import io
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from maskcon.app import project
from maskcon.app.edits import Edits
from maskcon.app.live import Live
from maskcon.app.workplace import Workplace
from maskcon.commands import explore
from maskcon.commands import index as make_index
from maskcon.commands.following import look
from maskcon.errors import InputError
from maskcon.runtime.progress import Silent
from maskcon.search import file as index_file
from maskcon.search import index as indexes
from maskcon.search import ivf
from tests.app.places import a_project, client_of, work_of
from tests.conftest import Told, untrained_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return a_project(tmp_path_factory.mktemp("api"))


@pytest.fixture(scope="module")
def opened(made):
    """The project with a server of its own."""
    work = work_of(made)
    with client_of(work) as asks:
        yield work, asks
    work.close()


@pytest.fixture
def client(opened, made):
    """A client of a project whose edits are those of one test alone."""
    work, asks = opened
    work.live.edits.close()
    for file in made.glob("edits.sqlite*"):
        file.unlink()
    work.live = Live(work.live.state.ground, Edits(made / "edits.sqlite"))
    return asks


def get(client, path, **given):
    answer = client.get(f"/api/{path}", params=given)
    assert answer.status_code == 200, answer.text
    return answer.json()


def edit(client, **body):
    answer = client.post("/api/edits", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def members(client):
    return np.frombuffer(client.get("/api/members").content, "<i4")


def test_what_is_seen_first(client, made):
    about = get(client, "project")
    assert about["name"] == "photos"
    assert about["pictures"] == 96
    assert about["labelled"]
    assert not about["learned"]
    assert about["revision"] == 0
    assert sum(one["count"] for one in about["coarse"]) == 96
    spots = np.frombuffer(client.get("/api/map").content, "<f4").reshape(-1, 2)
    assert spots.shape == (96, 2)
    assert spots.min() >= 0
    assert spots.max() <= 1
    groups, of = get(client, "groups")["groups"], members(client)
    assert [g["count"] for g in groups] == np.bincount(of, minlength=len(groups)).tolist()
    index, _ = index_file.read(made / "0" / "pictures.index")
    for place, group in enumerate(groups):
        rows = np.flatnonzero(of == place).tolist()
        listed = get(client, "group", id=group["id"])["pictures"]
        assert sorted(listed) == rows
        assert listed[: len(group["typical"])] == group["typical"]
        assert {index.rows["coarse"][row].as_py() for row in rows} == {group["coarse"]}
        assert not group["named"]
    first = groups[0]["id"]
    assert (
        get(client, "group", id=first, offset=1, limit=2)["pictures"]
        == listed_of(client, first)[1:3]
    )
    paths = index.rows["path"].to_pylist()
    names = get(client, "names")["names"]
    assert all(path.endswith(f"/{name}") for path, name in zip(paths, names, strict=True))
    assert "maskcon" in client.get("/").text
    assert client.get("/thumb/3?size=64").headers["content-type"] == "image/jpeg"


def listed_of(client, group):
    return get(client, "group", id=group)["pictures"]


def test_a_picture_and_the_tree_of_its_class(client):
    of, groups = members(client), get(client, "groups")["groups"]
    facts = get(client, "picture", id=5)
    group = groups[of[5]]
    assert facts["group"] == group["id"]
    assert facts["coarse"] == group["coarse"]
    assert facts["state"] == "here"
    edit(client, kind="granularity", coarse=group["coarse"], value=4)
    root = get(client, "tree", coarse=group["coarse"])
    leaves, stack = [], [root]
    while stack:
        node = stack.pop()
        if "children" in node:
            assert node["count"] == sum(child["count"] for child in node["children"])
            assert 0 <= node["different"] <= 1
            stack += node["children"]
        else:
            leaves.append(node)
    now = {
        g["id"]: g["count"]
        for g in get(client, "groups")["groups"]
        if g["coarse"] == group["coarse"]
    }
    assert {leaf["group"]: leaf["count"] for leaf in leaves} == now
    assert len(now) == 4


def test_edits_undo_and_history(client):
    groups = get(client, "groups")["groups"]
    first = groups[0]
    assert edit(client, kind="name", group=first["id"], name="Alpha")["revision"] == 1
    assert get(client, "groups")["groups"][0]["name"] == "Alpha"
    moved = listed_of(client, first["id"])[:2]
    edit(client, kind="move", pictures=moved, group=None)
    of = members(client)
    assert of[moved[0]] == of[moved[1]] != 0
    edit(client, kind="outlier", pictures=[moved[0]], on=True)
    assert get(client, "picture", id=moved[0])["outlier"]
    assert moved[0] in [one["picture"] for one in get(client, "outliers")["outliers"]]
    assert client.post("/api/undo", json={}).json()["revision"] == 4
    assert client.post("/api/redo", json={}).json()["revision"] == 5
    assert client.post("/api/edits/1/take-back", json={}).status_code == 200
    assert get(client, "groups")["groups"][0]["name"] == first["id"]
    log = get(client, "edits")["edits"]
    assert [(one["id"], one["kind"], one["undone"]) for one in log] == [
        (3, "outlier", False),
        (2, "move", False),
        (1, "name", True),
    ]
    assert all(one["words"] and one["time"] for one in log)
    assert get(client, "changes", after=0) == {"revision": 6, "job": False}


def test_answers_change_the_groups(client):
    answered, before = 0, len(get(client, "groups")["groups"])
    while (asked := get(client, "question"))["question"] is not None and answered < 6:
        assert asked["answered"] == answered
        assert asked["worth"] >= 1
        left, right = asked["question"]["left"], asked["question"]["right"]
        edit(client, kind="answer", left=left[0], right=right[0], verdict="different")
        answered += 1
    assert get(client, "question")["answered"] == answered > 0
    assert len(get(client, "groups")["groups"]) > before


def test_search_by_a_picture_of_the_set_and_by_one_that_is_sent(client, made):
    found = client.post("/api/search", json={"picture": 7, "count": 5}).json()["found"]
    assert len(found) == 5
    assert 7 not in [one["id"] for one in found]
    index, _ = index_file.read(made / "0" / "pictures.index")
    content = Path(index.rows["path"][7].as_py()).read_bytes()
    sent = client.post(
        "/api/search?count=1", content=content, headers={"Content-Type": "image/png"}
    )
    assert sent.json()["found"][0]["id"] == 7


def test_near_duplicates(client, made):
    sets = get(client, "duplicates")["sets"]
    index, _ = index_file.read(made / "0" / "pictures.index")
    digests = [value.as_py() for value in index.rows["digest"]]
    label = [value.as_py() for value in index.rows["coarse"]]
    equal = {}
    for row, key in enumerate(zip(digests, label, strict=True)):
        equal.setdefault(key, set()).add(row)
    for rows in equal.values():
        assert len(rows) == 1 or any(rows <= set(one) for one in sets)
    assert len({row for one in sets for row in one}) == sum(map(len, sets))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"kind": "name", "group": "c9 9", "name": "x"}, 422),
        ({"kind": "name", "group": "c0 1"}, 422),
        ({"kind": "move", "pictures": [10**6], "group": None}, 422),
        ({"kind": "move", "pictures": [], "group": None}, 422),
        ({"kind": "nothing"}, 422),
        ([1], 422),
    ],
)
def test_what_is_refused_says_why_and_changes_nothing(client, body, status):
    answer = client.post("/api/edits", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]
    assert get(client, "project")["revision"] == 0


def test_other_refusals(client):
    assert client.get("/api/picture?id=96").status_code == 404
    assert client.get("/api/group?id=none").status_code == 404
    assert client.get("/api/tree?coarse=none").status_code == 404
    assert client.post("/api/undo", json={}).status_code == 422
    assert client.post("/api/edits/7/take-back", json={}).status_code == 422


def test_read_only(made):
    work = work_of(made)
    work.close()
    for path in (work.here.ground, work.here.map):  # what can be made again is not kept, either
        path.unlink()
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    reader = work_of(made, read_only=True)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    with client_of(reader, read_only=True) as client:
        assert get(client, "project")["read_only"]
        assert client.post("/api/undo", json={}).status_code == 403
        assert client.post("/api/edits", json={"kind": "split", "group": "c0 1"}).status_code == 403
        assert client.post("/api/search", json={"picture": 1}).status_code == 200


def test_a_photo_that_was_deleted_or_changed(tmp_path):
    folder = a_project(tmp_path, train=24)
    work = work_of(folder)
    paths = [Path(path) for path in work.index.rows["path"].to_pylist()]
    paths[0].unlink()
    other = io.BytesIO()
    Image.new("RGB", (30, 30), "red").save(other, "PNG")
    paths[1].write_bytes(other.getvalue())
    with client_of(work) as client:
        states = [get(client, "picture", id=row)["state"] for row in range(3)]
        assert states == ["missing", "changed", "here"]
        moved = edit(client, kind="move", pictures=[0], group=None)
        assert moved["revision"] == 1
    work.close()


def test_pictures_in_a_table_are_shown_as_they_are_there(tmp_path):
    random = np.random.default_rng(0)

    def write(count):
        rows = []
        for row in range(count):
            file = io.BytesIO()
            Image.fromarray(random.integers(0, 255, (150, 200, 3), np.uint8)).save(file, "PNG")
            rows.append({"image": {"bytes": file.getvalue()}, "coarse": "ab"[row % 2]})
        how = {"compression": "none", "use_dictionary": False}
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "data.parquet", **how)

    write(24)
    folder = tmp_path / "data.maskcon"
    facts = project.begin(folder, project.Facts("data", str(tmp_path / "data.parquet")))
    here = project.Generation(folder, 0)
    here.home.mkdir()
    make_index(untrained_run(here.run, seed=0), facts.data, out=here.index)
    for state, sizes in (("here", [(200, 150), (128, 96)]), ("changed", [(64, 48)] * 2)):
        now = look(here, facts, Silent())
        work = Workplace(folder, facts, Silent(), now.pictures)
        with client_of(work) as client:
            for address, size in zip(("/picture/3", "/thumb/3?size=128"), sizes, strict=True):
                answer = client.get(address)
                assert Image.open(io.BytesIO(answer.content)).size == size
                assert answer.headers["photo-state"] == state
            assert get(client, "picture", id=3)["state"] == state
        work.close()
        content = (tmp_path / "data.parquet").read_bytes()
        (tmp_path / "data.parquet").write_bytes(content.replace(b"IDAT", b"XDAT"))
    with client_of(work_of(folder)) as client:  # whoever cannot see the table has thumbnails
        assert Image.open(io.BytesIO(client.get("/picture/3").content)).size == (64, 48)


def test_a_restart_finds_everything_and_computes_nothing_again(tmp_path):
    folder = a_project(tmp_path, train=48)
    work = work_of(folder)
    with client_of(work) as client:
        first = get(client, "groups")["groups"][0]["id"]
        edit(client, kind="name", group=first, name="Alpha")
        before = get(client, "groups"), members(client).tolist(), client.get("/api/map").content
    work.close()
    files = {
        path: path.stat().st_mtime_ns for path in folder.rglob("*") if "edits" not in path.name
    }
    work = work_of(folder)
    with client_of(work) as client:
        assert (get(client, "groups"), members(client).tolist()) == before[:2]
        assert client.get("/api/map").content == before[2]
    work.close()
    now = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if "edits" not in path.name}
    assert now == files
    (folder / "0" / "ground.npz").write_bytes(b"spoiled")  # what can be made again is
    (folder / "0" / "map.f32").unlink()
    work = work_of(folder)
    with client_of(work) as client:
        assert (get(client, "groups"), members(client).tolist()) == before[:2]
    work.close()


def served(seen, **given):
    """Run explore until the page could be opened, and look at the project then."""

    def ready(address):
        seen.append(address)
        signal.raise_signal(signal.SIGINT)  # as Ctrl-C does, when the server looks at it

    with pytest.raises(KeyboardInterrupt):
        explore(ready=ready, **given)
    return seen[-1]


@pytest.mark.heavy
@pytest.mark.parametrize("count", [3, 30])
def test_a_folder_without_labels(tmp_path, count, monkeypatch):
    monkeypatch.setattr(indexes, "ALONE_UP_TO", 20)  # pictures that are searched exactly
    photos = tmp_path / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        noise = random.integers(0, 255, (90, 120, 3), np.uint8)
        Image.fromarray(noise).save(photos / f"{number}.png")
    before = {path: path.stat().st_mtime_ns for path in photos.iterdir()}
    told = Told()
    assert served([], data=photos, progress=told).startswith("http://127.0.0.1:")
    words = [f"for {count} vectors, of which those that are known take no time"]
    words += ["of the exact ten nearest (ivf)"] if count > 20 and ivf.installed() else []
    assert all(sum(word in line for line in told.notes) == 1 for word in words)
    assert len([line for line in told.notes if "(ivf)" in line]) == len(words) - 1
    work = work_of(tmp_path / "photos.maskcon")
    assert [one.id.split()[0] for one in work.live.state.groups] == ["all"] * len(
        work.live.state.groups
    )
    assert len(work.index) == count
    work.close()
    assert {path: path.stat().st_mtime_ns for path in photos.iterdir()} == before


@pytest.mark.heavy
def test_from_a_folder_with_labels_to_the_page(tmp_path):
    folder = a_project(tmp_path, train=200)
    photos = tmp_path / "photos"
    again = tmp_path / "again"
    assert served([], data=photos, project=again)
    assert (again / "0" / "run" / "run.json").is_file()
    when = {path: path.stat().st_mtime_ns for path in (again / "0").rglob("*")}
    assert served([], data=again)  # by its own name, and nothing is made again
    assert served([], data=photos, project=again, read_only=True)
    assert {path: path.stat().st_mtime_ns for path in (again / "0").rglob("*")} == when
    assert project.read(again).data == str(photos)
    with pytest.raises(InputError, match="other options"):
        explore(photos, project=again, coarse_level=1)
    with pytest.raises(InputError, match="is a project already"):
        explore(folder, project=again)


def test_a_project_that_was_never_opened_is_not_looked_at(tmp_path):
    folder = a_project(tmp_path, train=24)
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError) as refused:
        explore(folder, read_only=True)
    assert f"the project {folder} has no edits.sqlite" in str(refused.value)
    assert "--read-only makes none: leave it out once" in str(refused.value)
    assert sorted(folder.rglob("*")) == before


def test_what_explore_refuses(tmp_path):
    with pytest.raises(InputError, match="leave out"):
        explore("x", demo=True)
    with pytest.raises(InputError, match="no pictures were given"):
        explore()
    with pytest.raises(InputError, match="is not there"):
        explore(tmp_path / "none")
    with pytest.raises(InputError, match="no project"):
        explore(tmp_path, read_only=True)
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="among the pictures"):
        explore(tmp_path / "photos", project=tmp_path / "photos" / "inside")
