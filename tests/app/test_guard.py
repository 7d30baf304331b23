"""Who may ask: every refusal, by a request that is refused and one beside it that is not."""

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from maskcon.app import guard
from maskcon.app.guard import Access, Guard
from maskcon.app.operations import Operation
from maskcon.app.server import address, application, listening
from maskcon.errors import InputError

TOKEN = "a-token-that-is-long-enough"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def hello(request: Request) -> JSONResponse:
    return JSONResponse({"query": str(request.query_params)})


async def size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


def client(at: str = "http://127.0.0.1:8000", **access) -> TestClient:
    routes = [Route("/", hello), Route("/size", size, methods=["GET", "POST"])]
    routes.append(Route("/search", size, methods=["POST"]))
    app = Guard(Starlette(routes=routes), Access(token=TOKEN, **access), frozenset({"/search"}))
    return TestClient(app, base_url=at, follow_redirects=False)


def test_without_the_token_nothing_is_told():
    with client() as asking:
        for path in ("/", "/nothing", "/?token=", "/?token=wrong", f"/?tok={TOKEN}"):
            answer = asking.get(path)
            assert answer.status_code == 401, path
            assert "open the address that maskcon printed" in answer.json()["error"]
        wrong = [f"Bearer {TOKEN}x", f"Basic {TOKEN}", "Bearer", "Bearer ü"]
        for value in wrong:
            headers = {"Authorization": value.encode()}
            assert asking.get("/", headers=headers).status_code == 401, value
        assert asking.get("/", headers=BEARER).status_code == 200


def test_the_token_in_the_address_becomes_a_cookie():
    with client() as asking:
        answer = asking.get(f"/?token={TOKEN}&view=map")
        assert (answer.status_code, answer.headers["location"]) == (303, "/?view=map")
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert asking.get("/?view=map").json() == {"query": "view=map"}  # the client keeps it
        asking.cookies.clear()
        answer = asking.get(f"//evil.example/?token={TOKEN}")
        assert not answer.headers.get("location", "").startswith("//")
        assert asking.post(f"/size?token={TOKEN}", content=b"x").status_code == 401


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "10.0.0.5:8000", "", "127.0.0.1@evil", "[::", "a b"],
)
def test_another_name_is_refused(host):
    with client() as asking:
        answer = asking.get("/", headers={**BEARER, "Host": host})
        assert answer.status_code == 403
        assert "open the address" in answer.json()["error"]


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:8000", "[::1]:8000", "LOCALHOST"])
def test_this_machine_has_several_names(host):
    with client() as asking:
        assert asking.get("/", headers={**BEARER, "Host": host}).status_code == 200


def test_one_that_listens_to_others_knows_numbers_and_its_own_name():
    import socket

    access = Access("0.0.0.0", token=TOKEN)
    assert not access.local
    for name in ("10.0.0.5", "[fe80::1]", "localhost", socket.gethostname()):
        assert access.knows(name), name
    assert not access.knows("evil.example")
    assert Access("photos.example", token=TOKEN).knows("photos.example")


def test_another_page_is_refused():
    with client() as asking:
        for origin in ("http://evil.example", "null", "http://127.0.0.1:9999", "file://"):
            answer = asking.post("/size", headers={**BEARER, "Origin": origin}, content=b"x")
            assert answer.status_code == 403, origin
        own = {**BEARER, "Origin": "http://127.0.0.1:8000"}
        assert asking.post("/size", headers=own, content=b"x").text == "1"
        for site in ("cross-site", "same-site"):  # another port of this machine is the same site
            answer = asking.get("/", headers={**BEARER, "Sec-Fetch-Site": site})
            assert answer.status_code == 403
        link = {**BEARER, "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
        assert asking.get("/", headers=link).status_code == 200
        assert asking.post("/size", headers=link, content=b"x").status_code == 403


def test_each_answer_has_a_policy():
    with client() as asking:
        for headers in ({}, BEARER):
            answer = asking.get("/", headers=headers)
            for name, value in guard.HEADERS.items():
                assert answer.headers[name] == value
            assert "unsafe" not in answer.headers["Content-Security-Policy"]
            assert answer.headers["Cache-Control"] == "no-store"


def test_read_only():
    with client(read_only=True) as asking:
        answer = asking.post("/size", headers=BEARER, content=b"x")
        assert answer.status_code == 403
        assert "--read-only" in answer.json()["error"]
        assert asking.post("/search", headers=BEARER, content=b"xy").text == "2"
        assert asking.get("/size", headers=BEARER).text == "0"
        assert asking.delete("/search/", headers=BEARER).status_code == 403


def test_what_reads_at_one_path_does_not_let_others_change_there():
    async def work(asked):
        return {}

    operations = [
        Operation("GET", "/edits", "", work),
        Operation("POST", "/edits", "", work, changes=True),
        Operation("POST", "/search", "", work),
    ]
    app = application(operations, Access(token=TOKEN, read_only=True))
    with TestClient(app, base_url="http://127.0.0.1") as asking:
        asked = [asking.get("/edits", headers=BEARER), asking.post("/edits", headers=BEARER)]
        asked.append(asking.post("/search", headers=BEARER))
        assert [answer.status_code for answer in asked] == [200, 403, 200]


def test_a_body_is_bounded(monkeypatch):
    monkeypatch.setattr(guard, "BODY", 1000)

    def pieces():
        for _ in range(20):
            yield b"x" * 100

    with client() as asking:
        assert asking.post("/size", headers=BEARER, content=b"x" * 1000).text == "1000"
        assert asking.post("/size", headers=BEARER, content=b"x" * 1001).status_code == 413
        assert asking.post("/size", headers=BEARER, content=pieces()).status_code == 413
        for length in ("-1", "x", "²", "1e3"):
            headers = {**BEARER, "Content-Length": length.encode()}
            assert asking.post("/size", headers=headers, content=b"x").status_code == 400, length
        headers = {**BEARER, "Content-Length": "9" * 5000}
        assert asking.post("/size", headers=headers, content=b"x").status_code == 413


def test_a_body_that_does_not_arrive_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(guard, "SECONDS", 0.05)
    sent = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"authorization", BEARER["Authorization"].encode())]
    scope = {"type": "http", "method": "POST", "path": "/size", "query_string": b""}
    scope |= {"headers": headers, "server": ("127.0.0.1", 80), "http_version": "1.1"}
    app = Starlette(routes=[Route("/size", size, methods=["POST"])])
    asyncio.run(Guard(app, Access(token=TOKEN))(scope, receive, send))
    assert sent[0]["status"] == 408


def test_any_token_goes_through_the_address_and_the_cookie():
    access = Access(token='a+b/c=d&e;f"g h,i%2Bj')
    with listening(access) as at:
        place = address(access, at)
    app = Guard(Starlette(routes=[Route("/", hello)]), access)
    with TestClient(app, base_url="http://127.0.0.1") as asking:
        assert asking.get("/?" + place.partition("/?")[2]).json() == {"query": ""}


def test_a_token_is_long_and_random():
    assert Access().token != Access().token
    assert len(Access().token) >= 32
    assert Access().token not in repr(Access())
    for token in ("short", "ü" * 20, "with\nnewline in it"):
        with pytest.raises(InputError, match="expected 16 or more"):
            Access(token=token)
    with pytest.raises(InputError, match="port is 70000"):
        Access(port=70000)
