"""The page that a person works in: its files, and the whole road in a real browser."""

import json
import re
from functools import partial
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from maskcon import commands
from maskcon.app import page, project
from maskcon.data.sets import glyphs
from tests.app.person import ROW, Person, answer_some, explored, fine_of, move_some, name_some
from tests.conftest import FAST, Outline, picture_tree

FILES = {name: content.decode() for name, content in page.files().items()}
MODULES = sorted(
    name for name, text in FILES.items() if re.search(r"^(import|export) ", text, re.M)
)
CLASSIC = ("palette.js", "parts.js", "map.js")  # of the report, which has them in one script


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


# In a browser.


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of drawn digits and letters by coarse class, and the set that it was made of."""
    place = tmp_path_factory.mktemp("explore")
    data = glyphs.make(train=240, test=4)
    picture_tree(place / "photos", data.train, side=48)
    folder = place / "photos.maskcon"
    facts = project.begin(folder, project.Facts("photos", str(place / "photos")))
    # trained already, as explore leaves it, but in seconds
    run = project.Generation(folder, facts.generation).run
    run.parent.mkdir()
    commands.train(data=str(place / "photos"), out=run, **FAST)
    return place / "photos", data.train


@pytest.mark.heavy
def test_the_whole_road(browser, photos):
    """Answers, names, moves, undoing, search by a file; killed, started again, all is there."""
    folder, data = photos
    with explored(folder) as address:
        person = Person(browser, address)
        answered = answer_some(person, partial(fine_of, person, data), 5)
        assert answered > 0
        ids = name_some(person, ["zero", "one <b>", "two"])
        made, pair = move_some(person, ids[0], "apart")
        person.element("body").send_keys("z", "z")  # its name, then the move
        person.wait(f"!{ROW}", made)
        person.element("body").send_keys("Z")
        person.told("Done again")
        assert sorted(person.api(f"group?id={made}")["pictures"]) == sorted(pair)

        person.go("search")
        name = person.api(f"picture?id={pair[0]}")["name"]
        (file,) = folder.rglob(name.split("/")[-1])
        person.element("#file").send_keys(str(file))
        person.wait("document.querySelectorAll('#found .tile').length")
        assert int(person.element("#found .tile").get_attribute("data-id")) == pair[0]
        assert person.element("#found .caption").text.startswith("1.00")

        drop_on(person, ids[1], pair[1])
        assert pair[1] in person.api(f"group?id={ids[1]}&limit=500")["pictures"]
        history = person.api("edits")["edits"]
        groups = person.api("groups")["groups"]
        assert person.errors() == []
    with explored(folder) as address:
        person = Person(browser, address)
        assert person.api("groups")["groups"] == groups
        assert person.api("edits")["edits"] == history
        person.go("history")
        person.wait("document.querySelectorAll('#log li').length === arguments[0]", len(history))
        person.element("#log li button").click()  # the last move is taken back
        person.told("Taken back")
        assert pair[1] in person.api(f"group?id={made}")["pictures"]
        person.go("export")
        person.element("#kinds button").click()
        person.wait("document.getElementById('exported').textContent.endsWith('groups.csv')")
        table = Path(person.text("exported").split(": ", 1)[1]).read_text()
        assert len(table.splitlines()) == 1 + 240
        assert "one <b>" in table
        assert person.errors() == []


def drop_on(person, group, picture):
    """Drag a picture of the search onto a group of the list beside it."""
    from selenium.webdriver.common.action_chains import ActionChains

    tile = person.element(f"#found .tile[data-id='{picture}']")
    row = person.element(f"#side [data-group='{group}']")
    person.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", tile)
    person.browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", row)
    ActionChains(person.browser).drag_and_drop(tile, row).perform()
    person.told("1 picture moved to")


@pytest.fixture(scope="module")
def looking(browser, photos):
    """A person before the page of a project."""
    with explored(photos[0]) as address:
        yield Person(browser, address)


@pytest.mark.heavy
def test_the_map_and_its_lasso(looking):
    from selenium.webdriver.common.action_chains import ActionChains

    looking.go("map")
    looking.wait("window.maskconMap?.canvas.dataset.drawn === '240'")
    canvas = looking.element("#canvas")
    width, height = looking.ask("[maskconMap.width, maskconMap.height]")
    mouse = ActionChains(looking.browser).key_down(looking.keys.SHIFT)
    mouse.move_to_element_with_offset(canvas, -width // 2 + 4, -height // 2 + 4).click_and_hold()
    for dx, dy in ((width // 2, 0), (0, height - 8), (-width // 2, 0)):
        mouse.move_by_offset(dx, dy)
    mouse.release().key_up(looking.keys.SHIFT).perform()
    on_the_left = "maskconMap.at(i)[0] < maskconMap.width / 2 + 4"
    left = looking.ask(f"[...maskconMap.x.keys()].filter((i) => {on_the_left}).length")
    assert looking.text("picked") == f"{left} pictures picked"
    canvas.send_keys(looking.keys.ESCAPE)
    looking.wait("document.getElementById('bar').hidden")
    canvas.send_keys(looking.keys.ARROW_RIGHT, *"++++++++")
    looking.wait("Number(maskconMap.canvas.dataset.pictures) > 0")
    looking.wait("document.querySelector('#details img.large')?.complete")
    looking.element("#coarse input").click()
    count = looking.api("project")["coarse"][0]["count"]
    looking.wait("maskconMap.canvas.dataset.drawn === arguments[0]", str(240 - count))
    looking.element("#all").click()
    groups = looking.api("groups")["groups"]  # whatever earlier tests made of them
    words = groups[0]["id"]
    looking.element("#words").send_keys(words)
    found = sum(g["count"] for g in groups if words in f"{g['name']}\n{g['id']}")
    looking.wait("maskconMap.canvas.dataset.drawn === arguments[0]", str(found))
    looking.element("#words").clear()
    names = looking.api("names")["names"]
    wanted = [name for name in names if "7.png" in name]
    looking.element("#words").send_keys("7.PNG")
    looking.wait("maskconMap.canvas.dataset.drawn === arguments[0]", str(len(wanted)))
    looking.element("#words").clear()
    looking.element("#words").send_keys(looking.keys.SPACE)
    looking.wait("maskconMap.canvas.dataset.drawn === '240'")
    assert looking.errors() == []


@pytest.mark.heavy
@pytest.mark.parametrize("width", [400, 1400])
def test_no_view_is_wider_than_its_window(looking, width):
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    looking.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    group = looking.api("groups")["groups"][0]["id"]
    views = [
        link.get_attribute("href").split("#")[1]
        for link in looking.browser.find_elements("css selector", "#views a")
    ]
    for view in [*views, f"group={group}"]:
        looking.go(view)
        assert looking.ask("document.documentElement.scrollWidth") <= width, view
    looking.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert looking.errors() == []


@pytest.mark.heavy
def test_nothing_leaves_and_nothing_inline_runs(looking):
    looking.browser.get_log("performance")
    looking.browser.refresh()
    looking.wait("document.documentElement.dataset.ready")
    events = [
        json.loads(entry["message"])["message"] for entry in looking.browser.get_log("performance")
    ]
    asked = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    here = looking.ask("location.origin")
    assert asked
    assert all(url.startswith((f"{here}/", "blob:", "data:")) for url in asked)
    said = looking.browser.execute_async_script(
        """
        const done = arguments[0];
        document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.hacked=1'>");
        setTimeout(() => done(window.hacked ?? "refused"), 300);
        """
    )
    assert said == "refused"
    looking.errors()


@pytest.mark.heavy
def test_the_keys_lead_everywhere(looking):
    """Views by number, landmarks, names of all that one can press."""
    body = looking.element("body")
    for number, view in enumerate(("map", "groups", "questions", "search"), 1):
        body.send_keys(str(number))
        looking.wait("!document.getElementById(arguments[0]).hidden", f"view-{view}")
    for landmark in ("header", "main", "nav[aria-label]", "aside[aria-label]", "[aria-live]"):
        assert looking.element(landmark)
    kinds = "button, a, input, select, [role=option], [role=listbox]"
    named = "e.textContent.trim() || e.ariaLabel || e.labels?.length || e.ariaLabelledByElements"
    all_of_them = f"[...document.querySelectorAll('{kinds}')]"
    bare = looking.ask(f"{all_of_them}.filter((e) => !({named})).map((e) => e.outerHTML)")
    assert bare == []
    body.send_keys("?")
    assert looking.ask("document.getElementById('help').open")
    looking.press(looking.keys.ESCAPE)
    assert not looking.ask("document.getElementById('help').open")


@pytest.mark.heavy
def test_two_windows_see_each_others_edits(looking):
    first = looking.browser.current_window_handle
    address = looking.browser.current_url
    looking.browser.switch_to.new_window("window")
    looking.browser.get(address)
    looking.wait("document.documentElement.dataset.ready")
    group = looking.api("groups")["groups"][-1]["id"]
    looking.browser.execute_script(
        """
        const headers = {"Content-Type": "application/json"};
        fetch("api/edits", {method: "POST", headers, body: JSON.stringify(arguments[0])});
        """,
        {"kind": "name", "group": group, "name": "seen by both"},
    )
    row = f"{ROW}?.textContent.includes('seen by both')"
    looking.wait(row, group)
    looking.browser.close()
    looking.browser.switch_to.window(first)
    looking.wait(row, group)
