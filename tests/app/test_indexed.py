"""An index over HTTP: what `search` finds is found, and strangers' pictures break nothing."""

import asyncio
import hashlib
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from maskcon import commands
from maskcon.app import searching, uploads
from maskcon.app.guard import BODY, Access
from maskcon.app.indexed import serving
from maskcon.app.server import application
from maskcon.app.thumbnails import Photos, below
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.model.saved import save_encoder
from maskcon.search import file as index_file

TOKEN = "a-token-that-is-long-enough"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def png(pixels: np.ndarray) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pixels(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def shop(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    for row in range(10):
        place = folder / "photos" / "ab"[row % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row}.png").write_bytes(png(pixels(row)))
    commands.index(run, folder / "photos", out=folder / "shop.index")
    return folder / "shop.index"


@pytest.fixture(scope="module")
def asking(shop, run):
    index, _ = index_file.read(shop)
    app = serving(index, Encoder.load(run), Access(token=TOKEN, read_only=True), "shop")
    with TestClient(app, base_url="http://127.0.0.1", headers=BEARER) as client:
        yield client


def test_what_is_in_it(asking):
    about = asking.get("/").json()
    assert (about["pictures"], about["kind"]) == (10, "exact")
    told = asking.get("/api/pictures?offset=8&limit=5").json()
    assert told["count"] == 10
    assert [one["id"] for one in told["pictures"]] == [8, 9]
    one = asking.get("/api/picture?id=0").json()
    assert one == {"id": 0, "name": "a/0.png", "coarse": "a", "fine": None, "state": "here"}
    assert asking.get("/api/picture?id=10").status_code == 404


def test_by_id_as_the_command_finds_it(asking, shop):
    names = [one["name"] for one in asking.get("/api/pictures").json()["pictures"]]
    for row, name in enumerate(names):
        answer = asking.post("/api/search", json={"picture": row, "count": 4}).json()["found"]
        expected = commands.search(shop, shop.parent / "photos" / name, k=4)["queries"][0]["hits"]
        assert [one["name"] for one in answer] == [hit["path"][-7:] for hit in expected]
        assert [one["similarity"] for one in answer] == pytest.approx(
            [hit["score"] for hit in expected], abs=1e-5
        )
        assert [names[one["id"]] for one in answer] == [one["name"] for one in answer]


def test_count_may_stand_in_the_address(asking):
    for query, body, count in (("?count=2", {}, 2), ("?count=2", {"count": 3}, 3), ("", {}, 9)):
        answer = asking.post(f"/api/search{query}", json={"picture": 1, **body})
        assert len(answer.json().get("found", [])) == count, answer.text


def test_by_upload_as_the_command_finds_it(asking, shop, tmp_path):
    content = png(pixels(77))
    (tmp_path / "new.png").write_bytes(content)
    expected = commands.search(shop, tmp_path / "new.png", k=3)["queries"][0]["hits"]
    kind = {"Content-Type": "image/png"}
    sent = [
        asking.post("/api/search?count=3", content=content, headers=kind),
        asking.post("/api/search?count=3", files={"picture": ("../../x.png", content)}),
    ]
    for answer in sent:
        found = answer.json()["found"]
        assert [one["name"] for one in found] == [hit["path"][-7:] for hit in expected]
        assert [one["similarity"] for one in found] == pytest.approx(
            [hit["score"] for hit in expected], abs=1e-5
        )


def test_by_upload_after_another_encoder_of_another_size(run, shop, tmp_path):
    first = Encoder.load(run)
    other = replace(first.preprocessing, image_size=first.preprocessing.image_size + 8)
    (tmp_path / "run").mkdir()
    save_encoder(tmp_path / "run", first.network, other.described())
    commands.index(tmp_path / "run", shop.parent / "photos", out=tmp_path / "other.index")
    content = png(pixels(78))
    (tmp_path / "new.png").write_bytes(content)
    found = commands.search(tmp_path / "other.index", tmp_path / "new.png", k=4)
    expected = [hit["score"] for hit in found["queries"][0]["hits"]]
    index, later = (index_file.read(path)[0] for path in (shop, tmp_path / "other.index"))
    searcher = searching.Searcher(index, first)
    photos = Photos(index)
    app = application(searching.operations(searcher, photos), Access(token=TOKEN))
    with TestClient(app, base_url="http://127.0.0.1", headers=BEARER) as client:

        def scores() -> list[float]:
            kind = {"Content-Type": "image/png"}
            answer = client.post("/api/search?count=4", content=content, headers=kind)
            return [one["similarity"] for one in answer.json()["found"]]

        assert scores() != pytest.approx(expected, abs=1e-5)
        searcher.turn_to(later, Encoder.load(tmp_path / "run"))
        assert scores() == pytest.approx(expected, abs=1e-5)
    # what went through the first encoder before is searched in its own index
    queries = [searching.Query(np.array(one.vectors[0]), one, 2) for one in (index, later)]
    assert searcher._found(queries) == [searcher._found([query])[0] for query in queries]
    assert [found[0][1] for found in searcher._found(queries)] == pytest.approx([1, 1])
    searcher.close()
    photos.close()


def bomb() -> bytes:
    """A PNG of a few kilobytes that says that it has 4 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    header = (65535).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    data = zlib.compress(bytes(2**20))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )


def test_pictures_that_are_none(asking):
    kind = {"Content-Type": "image/png"}
    whole = png(pixels(1))
    for content, status in (
        *((b"", 422), (b"GIF89a", 422), (whole[:-30], 422), (bomb(), 422)),
        *((os.urandom(1000), 422), (b"\0" * (uploads.BYTES + 1), 413)),
        (b"\0" * (BODY + 1), 413),
    ):
        answer = asking.post("/api/search", content=content, headers=kind)
        assert answer.status_code == status, content[:20]
        assert "--max-pixels" not in answer.text
        assert "error" in answer.json()
    forms = [{"picture": ("a", whole), "other": ("b", whole)}, {}]
    for files in forms:
        answer = asking.post("/api/search", files=files) if files else asking.post("/api/search")
        assert answer.status_code in (400, 415, 422)
    answer = asking.post("/api/search", data={"picture": "/etc/passwd"}, files={"a": ("a", b"")})
    assert answer.status_code in (400, 422)
    # and then a whole one is found still
    assert asking.post("/api/search", content=whole, headers=kind).status_code == 200


def test_no_path_is_ever_opened(asking):
    for path in ("..%2f..%2fetc%2fpasswd", "../../etc/passwd", "-1", "1e1", "0x1", "٣", "%00", "a"):
        for at in ("thumb", "picture"):
            assert asking.get(f"/{at}/{path}").status_code in (404, 422), path
    assert asking.post("/api/search", json={"picture": "/etc/passwd"}).status_code == 422
    assert asking.get("/thumb/99").status_code == 404
    assert asking.get("/thumb/" + "9" * 40).status_code == 422


def test_thumbnails(asking):
    for size in (64, 128, 256):
        answer = asking.get(f"/thumb/1?size={size}")
        with Image.open(BytesIO(answer.content)) as image:
            assert max(image.size) == min(size, 60)
    assert asking.get("/thumb/1?size=63").status_code == 422
    assert asking.get("/picture/1").headers["Photo-State"] == "here"
    assert asking.get("/picture/1").content == asking.get("/picture/1").content


def test_deleted_and_changed_photos(run, tmp_path):
    for row in range(4):
        (tmp_path / f"{row}.png").write_bytes(png(pixels(row)))
    commands.index(run, tmp_path, out=tmp_path / "x.index")
    index, _ = index_file.read(tmp_path / "x.index")
    app = serving(index, None, Access(token=TOKEN), "x")
    with TestClient(app, base_url="http://127.0.0.1", headers=BEARER) as client:

        def states() -> list[str]:
            return [client.get(f"/api/picture?id={row}").json()["state"] for row in range(4)]

        assert states() == ["here"] * 4
        (tmp_path / "0.png").unlink()
        (tmp_path / "1.png").write_bytes(png(pixels(99)))
        (tmp_path / "2.png").write_bytes(b"no picture any more")
        os.utime(tmp_path / "3.png", (1, 1))  # touched, but the same
        assert states() == ["missing", "changed", "changed", "here"]
        answers = [client.get(f"/picture/{row}") for row in range(4)]
        assert [answer.status_code for answer in answers] == [404, 200, 404, 200]
        assert answers[1].headers["Photo-State"] == "changed"
        assert "is not there" in client.get("/thumb/0").json()["error"]
        assert client.get("/thumb/1?size=64").headers["Photo-State"] == "changed"
        (tmp_path / "0.png").symlink_to("/dev/zero")  # is no file, and is not waited for
        assert client.get("/picture/0").status_code == 404
        # without an encoder a picture can be named, but not sent
        assert client.post("/api/search", json={"picture": 3}).status_code == 200
        kind = {"Content-Type": "image/png"}
        assert client.post("/api/search", content=b"x", headers=kind).status_code == 409


def decoder() -> int:
    """The process that decodes."""
    (found,) = [one.pid for one in multiprocessing.active_children() if one.name == "uploads"]
    return found


def test_a_decoder_that_takes_too_long_or_ends_is_replaced(monkeypatch, asking):
    kind = {"Content-Type": "image/png"}

    def status() -> int:
        return asking.post("/api/search", content=png(pixels(1)), headers=kind).status_code

    assert status() == 200
    first = decoder()
    os.kill(first, signal.SIGSTOP)
    monkeypatch.setattr(uploads, "SECONDS", 0.1)
    answer = asking.post("/api/search", content=png(pixels(1)), headers=kind)
    assert answer.status_code == 422
    assert "not decoded in" in answer.json()["error"]
    monkeypatch.setattr(uploads, "SECONDS", 60.0)
    assert status() == 200
    second = decoder()
    assert second != first
    os.kill(second, signal.SIGKILL)
    assert {status(), status()} <= {200, 422}  # the first may still have met with the one that died
    assert status() == 200
    assert decoder() != second


def test_a_decoder_that_begins_too_late_answers_nobody(monkeypatch):
    decoders = uploads.Uploads(8)
    shades = [np.full((8, 8, 3), shade, np.uint8) for shade in (10, 200, 90)]
    try:
        monkeypatch.setattr(uploads, "STARTING", 0.0)
        decoders.start()
        decoders._thread.submit(monkeypatch.setattr, uploads, "STARTING", 120.0)
        for shade in shades:
            found = asyncio.run(decoders.square(png(shade)))
            np.testing.assert_array_equal(found, shade)
    finally:
        decoders.close()


BEGUN = """
import os
import signal
from maskcon.app import uploads
signal.signal(signal.SIGINT, lambda *_: None)
uploads.prepare()
decoders = uploads.Uploads(8)
decoders.start()
print("begun", flush=True)
decoders._thread.submit(int).result()
decoders.close()
os._exit(0)  # Python's own end lets the next signal kill it
"""


def test_ctrl_c_while_the_decoder_begins_is_the_servers_alone():
    """A terminal sends it to every process; of the decoder's each would print a traceback."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "start_new_session": True}
    with subprocess.Popen([sys.executable, "-c", BEGUN], text=True, **pipes) as process:
        assert process.stdout.readline() == "begun\n"
        while process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            time.sleep(0.1)
        assert process.stderr.read() == ""
        assert process.returncode == 0


def test_what_the_decoder_may_not_do(tmp_path):
    """Write a file; take more memory than it is given; live on when nobody asks."""
    code = """
import os, sys
import numpy as np
from maskcon.app import uploads
uploads.MEMORY = 2**28
uploads.confined()
assert uploads.answered(b"no picture", 8)[:1] == uploads.UNREADABLE
try:
    kept = np.ones(2**30, np.uint8)
except MemoryError:
    os.write(1, b"no memory ")
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    os.write(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), b"x")
except OSError as error:
    os.write(1, b"no file")
os._exit(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == "no memory no file", done.stderr


def test_what_the_decoder_answers():
    made = uploads.answered(png(np.full((30, 30, 3), 7, np.uint8)), 8)
    assert made == uploads.DONE + bytes([7]) * 192
    assert uploads.answered(bomb(), 8)[:1] == uploads.UNREADABLE
    assert b"--max-pixels" not in uploads.answered(bomb(), 8)


def test_many_ask_at_once_and_one_in_vain():
    lots = []

    def work(items):
        lots.append(len(items))
        if -1 in items:
            raise InputError("no")
        return [item * 2 for item in items]

    async def all_of_them(items):
        return await asyncio.gather(*map(together.ask, items), return_exceptions=True)

    together = searching.Together("test", work)
    answers = asyncio.run(all_of_them([*range(40), -1]))
    together.close()
    assert answers[:40] == [2 * item for item in range(40)]
    assert isinstance(answers[40], InputError)
    assert len(lots) < 80


def test_names_are_told_from_where_all_are():
    assert below(["/a/b/c.png", "/a/d.png"]) == ["b/c.png", "d.png"]
    assert below(["/a/b/c.png"]) == ["c.png"]
    assert below(["row 3 of /a/b.parquet", "/a/d.png"]) == ["row 3 of /a/b.parquet", "/a/d.png"]
    assert below([]) == []


@pytest.fixture
def served(shop):
    """A process as a person starts it; its address, and its token."""
    command = [sys.executable, "-m", "maskcon", "serve", str(shop)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        found = re.search(r"serving shop.index at (http://127.0.0.1:(\d+))/\?token=(\S+)", line)
        try:
            yield found[1], int(found[2]), found[3], process
        finally:
            process.kill()


@pytest.mark.heavy
def test_a_real_server(served, shop):
    base, port, token, process = served
    before = {path: hashlib.sha256(path.read_bytes()).digest() for path in shop.parent.rglob("*.*")}
    with httpx.Client(base_url=base, timeout=300) as client:
        assert client.get("/").status_code == 401
        assert client.get(f"/?token={token}").headers["location"] == "/"
        assert client.get("/").json()["name"] == "shop.index"  # the cookie
        assert client.get("/", headers={"Host": f"rebound.example:{port}"}).status_code == 403
        answer = client.get("/", headers={"Origin": "http://evil.example"})
        assert answer.status_code == 403
        kind = {"Content-Type": "image/png"}
        answer = client.post("/api/search?count=1", content=png(pixels(3)), headers=kind)
        assert answer.json()["found"][0]["name"] == "b/3.png"
        assert client.post("/api/search", content=bomb(), headers=kind).status_code == 422
        answer = client.post("/api/search", content=(b"x" * 2**20 for _ in range(40)), headers=kind)
        assert answer.status_code == 413
    for request in (
        b"GET /thumb/../../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        + f"Authorization: Bearer {token}\r\n\r\n".encode(),
        b"GET /thumb/0 HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil\r\nConnection: close\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as raw:
            raw.sendall(request)
            raw.shutdown(socket.SHUT_WR)
            assert raw.recv(100).split(b" ")[1] in (b"400", b"403", b"404"), request
    process.send_signal(2)
    assert process.wait(60) == 130
    after = {path: hashlib.sha256(path.read_bytes()).digest() for path in shop.parent.rglob("*.*")}
    assert after == before


def test_a_project_is_served_by_its_index(shop, tmp_path, monkeypatch):
    from maskcon.app import project, server

    place = project.begin(tmp_path / "photos.maskcon", project.Facts("photos", str(shop.parent)))
    here = project.Generation(tmp_path / "photos.maskcon", place.generation)
    here.home.mkdir(exist_ok=True)
    here.index.write_bytes(shop.read_bytes())
    index, _ = index_file.read(shop)
    here.run.symlink_to(index.about.run)
    told = []

    def run(app, access, *, ready):  # it would serve until somebody ends it
        with TestClient(app, base_url="http://127.0.0.1") as client:
            bearer = {"Authorization": f"Bearer {access.token}"}
            told.append(client.get("/", headers=bearer).json())

    monkeypatch.setattr(server, "run", run)
    commands.serve(tmp_path / "photos.maskcon")
    assert (told[0]["name"], told[0]["pictures"]) == ("photos.maskcon", 10)


def test_what_cannot_be_served(shop, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="not there"):
        commands.serve(tmp_path / "none.index")
    with pytest.raises(InputError, match="port is -1"):
        commands.serve(shop, port=-1)
    monkeypatch.setenv("MASKCON_TOKEN", "short")
    with pytest.raises(InputError, match="the token has 5 characters"):
        commands.serve(shop)
    monkeypatch.delenv("MASKCON_TOKEN")
    taken = socket.create_server(("127.0.0.1", 0))
    with taken, pytest.raises(InputError, match="give another --port"):
        commands.serve(shop, port=taken.getsockname()[1])
    with pytest.raises(InputError, match="or a --host of this machine"):
        commands.serve(shop, host="192.0.2.1")
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in [name for name in sys.modules if name.startswith("maskcon.app")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(InputError, match=r"pip install 'maskcon\[app\]'"):
        commands.serve(shop)
