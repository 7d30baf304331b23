"""The page that a person works in: its files, and the whole road in a real browser."""

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from maskcon.app import page
from tests.conftest import Outline

FILES = {name: content.decode() for name, content in page.files().items()}
MODULES = sorted(
    name for name, text in FILES.items() if re.search(r"^(import|export) ", text, re.M)
)
CLASSIC = ("parts.js", "map.js")  # of the report, which has them in one script


def uses_of(name: str, module: str) -> int:
    return len(re.findall(rf"\b{name}\b", FILES[module]))


def test_a_file_for_each_name_that_is_asked_for():
    client = TestClient(Starlette(routes=page.routes()))
    first = client.get("/")
    assert first.headers["content-type"] == "text/html; charset=utf-8"
    outline = Outline(first.text)
    asked = [a["src"] for a in outline.of("script")] + [a["href"] for a in outline.of("link")]
    for module in MODULES:
        asked += [f"page/{name}" for name in re.findall(r'from "\./([a-z.]+)"', FILES[module])]
    assert {*asked} == {f"page/{name}" for name in FILES if name != "index.html"}
    for address in set(asked):
        answer = client.get(f"/{address}")
        assert answer.status_code == 200, address
        assert answer.headers["content-type"].split(";")[0] in (
            *("text/css", "text/javascript", "image/svg+xml"),
        )
    assert client.get("/page/__init__.py").status_code == 404


def test_a_policy_without_exceptions_lets_the_page_run():
    """Nothing inline, and nothing from another place."""
    outline = Outline(FILES["index.html"])
    assert all(script["src"] for script in outline.of("script"))
    assert not outline.of("style")
    for _, attributes in outline.elements:
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
    for name, text in FILES.items():
        assert not re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert "innerHTML" not in text, name


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_what_there_is(module):
    for names, source in re.findall(r'import \{([^}]+)\} from "\./([a-z.]+)"', FILES[module]):
        exported = re.findall(
            r"^export (?:async )?(?:function|const|class) (\w+)", FILES[source], re.M
        )
        for name in filter(None, (name.strip() for name in names.split(","))):
            assert name in exported, f"{module}: {source} has no {name}"
            assert uses_of(name, module) > 1, f"{module} imports {name} for nothing"
    for line in re.findall(r"/\* global ([^*]+) \*/", FILES[module]):
        for name in line.replace(":writable", "").strip().split(", "):
            declares = re.compile(rf"^(const|let|class|function) {name}\b", re.M)
            assert any(declares.search(FILES[script]) for script in CLASSIC), name
            assert uses_of(name, module) > 1, f"{module} names {name} for nothing"


def test_every_id_that_modules_ask_for_is_on_the_page():
    outline = Outline(FILES["index.html"])
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    made = {"title-group", "group-end"}  # by group.js
    for module in MODULES:
        asked = set(re.findall(r'byId\("([\w-]+)"\)', FILES[module]))
        assert asked <= {*ids, *made}, module
