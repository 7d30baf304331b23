"""What can be asked: the check of what is sent, beside jsonschema's rules, and the errors."""

import pytest
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from maskcon.app.guard import Access
from maskcon.app.operations import Operation, Refused, check, described
from maskcon.app.server import application
from maskcon.errors import InputError, TrainingError

TOKEN = "a-token-that-is-long-enough"
WHOLE = {"type": "integer", "minimum": 0, "maximum": 9}
EDIT = {
    "oneOf": [
        {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["name"]},
                "name": {"type": "string", "minLength": 1, "maxLength": 5},
            },
            "required": ["kind", "name"],
        },
        {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "enum": ["move"]},
                "pictures": {"type": "array", "items": WHOLE, "minItems": 1, "maxItems": 3},
                "group": {"type": ["string", "null"]},
            },
            "required": ["kind", "pictures", "group"],
        },
    ]
}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"kind": "name", "name": "owls"}, None),
        ({"kind": "move", "pictures": [1], "group": None}, None),
        ({"kind": "name", "name": ""}, "the edit: name is '': expected string of at least 1"),
        ({"kind": "name", "name": "sixsix"}, "of at most 5"),
        ({"kind": "name"}, "has no field name: expected kind, name"),
        ({"kind": "name", "name": "a", "x": 1}, "has the field 'x': expected kind, name"),
        ({"kind": "move", "pictures": [], "group": "a"}, "pictures is []"),
        ({"kind": "move", "pictures": [1, 99], "group": "a"}, r"pictures[1] is 99: expected"),
        ({"kind": "move", "pictures": [True], "group": "a"}, "pictures[0] is True"),
        ({"kind": "move", "pictures": 3, "group": "a"}, "expected array"),
        ({"kind": "else"}, "kind is 'else': expected name, move"),
        ([], "kind is None"),
    ],
)
def test_a_value_is_as_its_schema_says(value, words):
    if words is None:
        check(value, EDIT, "the edit")
        return
    with pytest.raises(Refused) as error:
        check(value, EDIT, "the edit")
    assert words in str(error.value)
    assert error.value.status == 422


def raising(error: Exception):
    async def work(asked):
        raise error

    return work


@pytest.fixture
def asking():
    async def echo(asked):
        return {"values": dict(asked.values), "body": asked.body}

    errors = [
        *(Refused(409, "no"), InputError("bad"), TrainingError("full"), KeyError("secret")),
        HTTPException(413, "much"),
    ]
    operations = [
        Operation(
            "GET", "/row/{id}", "", echo, {"id": WHOLE, "size": {**WHOLE, "default": 5}, "x": WHOLE}
        ),
        Operation("POST", "/edit", "", echo, body={"application/json": EDIT}),
        Operation("GET", "/edit", "", echo),
        *(Operation("GET", f"/error/{n}", "", raising(error)) for n, error in enumerate(errors)),
    ]
    app = application(operations, Access(token=TOKEN))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(
        app, base_url="http://localhost", headers=headers, raise_server_exceptions=False
    ) as client:
        yield client


def test_parameters(asking):
    assert asking.get("/row/3?x=4").json()["values"] == {"id": 3, "size": 5, "x": 4}
    wrong = ["3", "3?x=10", "3?x=-1", "3?x=a", "3?x=", "3?x=1&x=2", "3?x=1&y=2", "a?x=1", "99?x=1"]
    wrong += ["3?x=" + "9" * 5000, "3?x=1.0", "3?x=٣", "3?x=1&id=2"]
    for path in wrong:
        answer = asking.get(f"/row/{path}")
        assert answer.status_code == 422, path
        assert "expected" in answer.json()["error"] or "give it once" in answer.json()["error"]


def test_bodies(asking):
    good = {"kind": "name", "name": "owls"}
    assert asking.post("/edit", json=good).json()["body"] == good
    kind = {"Content-Type": "application/json; charset=utf-8"}
    for content in (b"", b"{", b"[" * 100_000, b"\xff", b"NaN"):
        assert asking.post("/edit", content=content, headers=kind).status_code in (400, 422)
    plain = {"Content-Type": "text/plain"}
    assert asking.post("/edit", content=b"{}", headers=plain).status_code == 415
    assert asking.post("/edit", content=b"{}").status_code == 415


def test_errors_are_words(asking):
    got = [asking.get(f"/error/{n}") for n in range(5)]
    assert [answer.status_code for answer in got] == [409, 422, 409, 500, 413]
    assert [answer.json()["error"] for answer in got[:3]] == ["no", "bad", "full"]
    assert "secret" not in got[3].text
    assert asking.get("/nothing").status_code == 404
    answer = asking.put("/edit")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert "openapi" in answer.json()["error"]


def test_the_description_is_what_is_checked(asking):
    told = asking.get("/openapi.json").json()
    row = told["paths"]["/row/{id}"]["get"]
    assert [(p["name"], p["in"], p["required"]) for p in row["parameters"]] == [
        ("id", "path", True),
        ("size", "query", False),
        ("x", "query", True),
    ]
    body = told["paths"]["/edit"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["oneOf"][0]["additionalProperties"] is False
    assert told["security"] == [{"token": []}]
    assert described([], "x")["paths"] == {}
