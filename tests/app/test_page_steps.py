"""Steps of the page beside its main road, in a real browser: splitting, what is pasted, a wrong
class, the keys alone, exports, learning, a page that may change nothing.
"""

import csv
import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from maskcon import Encoder
from maskcon.search import file as index_file
from tests.app.person import Person, explored, exported, learn, press
from tests.app.places import a_project

pytestmark = pytest.mark.heavy
SHOWN = "[...document.querySelectorAll(arguments[0])].filter((e) => e.checkVisibility())"


@pytest.fixture(scope="module")
def looking(browser, tmp_path_factory):
    """A person before the page of a project of 60 glyphs, with an encoder that hardly learned."""
    folder = a_project(tmp_path_factory.mktemp("steps"), train=60, learned=True)
    with explored(folder) as address:
        person = Person(browser, address)
        person.folder = folder
        yield person


def groups_of(person):
    return person.api("groups")["groups"]


def pictures_of(person, group):
    return set(person.api(f"group?id={group}&limit=500")["pictures"])


def counts_of(person):
    return {one["name"]: one["count"] for one in person.api("project")["coarse"]}


def largest(person):
    return max(groups_of(person), key=lambda group: group["count"])


def test_a_group_is_split_and_is_whole_again(looking):
    group = largest(looking)
    whole, before = pictures_of(looking, group["id"]), groups_of(looking)
    looking.go("groups")
    looking.wait("document.querySelectorAll('#cards .card').length")
    card = looking.element(f"#cards [data-group='{group['id']}']")
    card.find_element("xpath", ".//button[text()='Split']").click()
    looking.told("was split")
    after = groups_of(looking)
    assert len(after) == len(before) + 1
    untouched = [one["id"] for one in before if one["id"] != group["id"]]
    parts = [pictures_of(looking, one["id"]) for one in after if one["id"] not in untouched]
    assert len(parts) == 2
    assert parts[0] | parts[1] == whole
    assert not parts[0] & parts[1]
    looking.wait("document.querySelectorAll('#cards .card').length === arguments[0]", len(after))
    looking.element("body").send_keys("z")
    looking.told("Undone")
    assert groups_of(looking) == before
    assert looking.errors() == []


def test_a_pasted_picture_is_searched_by(looking):
    """The event that a browser makes of Ctrl+V, with a picture as it is copied: without a name."""
    picture = 7
    looking.go("map")
    pasted = looking.browser.execute_async_script(
        """
        const [id, done] = arguments;
        (async () => {
          const image = new Image();
          image.src = `picture/${id}`;
          await image.decode();
          const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
          canvas.getContext("2d").drawImage(image, 0, 0);
          const clipboardData = new DataTransfer();
          const blob = await canvas.convertToBlob({ type: "image/png" });
          clipboardData.items.add(new File([blob], "", { type: blob.type }));
          const paste = new ClipboardEvent("paste", { clipboardData, bubbles: true });
          document.body.dispatchEvent(paste);
        })().then(() => done("pasted"), (error) => done(String(error)));
        """,
        picture,
    )
    assert pasted == "pasted"
    looking.wait("document.querySelectorAll('#found .tile').length")
    assert looking.ask("location.hash") == "#search"
    assert int(looking.element("#found .tile").get_attribute("data-id")) == picture
    assert looking.element("#asked-with canvas").is_displayed()
    assert looking.errors() == []


def test_a_wrong_class_is_put_right(looking):
    group, before = largest(looking), counts_of(looking)
    other = next(name for name in before if name != group["coarse"])
    looking.go(f"group={group['id']}")
    looking.wait("document.querySelectorAll('#group-pictures .tile').length > 2")
    tile = looking.element("#group-pictures .tile")
    picture = int(tile.get_attribute("data-id"))
    assert looking.api(f"picture?id={picture}")["coarse"] == group["coarse"]
    looking.browser.execute_script("arguments[0].focus()", tile)
    for picked in ("true", "false"):  # as those hear it who do not see the page
        looking.press(looking.keys.SPACE)
        assert tile.get_attribute("aria-selected") == picked
    looking.press("c")
    looking.wait("document.getElementById('chooser').open")
    looking.press(other, looking.keys.ENTER)
    looking.told(f"1 picture now of {other}")
    told = looking.api(f"picture?id={picture}")
    assert told["coarse"] == other
    assert picture in pictures_of(looking, told["group"])
    assert picture not in pictures_of(looking, group["id"])
    after = counts_of(looking)
    assert (after[other], after[group["coarse"]]) == (
        *(before[other] + 1, before[group["coarse"]] - 1),
    )
    looking.element("body").send_keys("z")
    looking.told("Undone")
    assert looking.api(f"picture?id={picture}")["coarse"] == group["coarse"]
    assert looking.errors() == []


def test_the_keys_alone_lead_into_every_view(looking):
    """What has the focus after each key, where nothing was clicked."""
    focus = "document.activeElement"

    def lead(*keys):
        looking.press(*keys)
        return looking.ask(f"{focus}.id || {focus}.className")

    looking.go("groups")
    looking.browser.execute_script("document.activeElement.blur(); window.getSelection().empty()")
    looking.browser.execute_script("document.getElementById('skip').focus()")
    assert lead(looking.keys.ENTER) == "main"
    assert looking.ask("location.hash") == "#groups"
    assert lead(looking.keys.ARROW_RIGHT) == "tile"
    picture = int(looking.ask(f"{focus}.dataset.id"))
    group = looking.api(f"picture?id={picture}")["group"]
    looking.press("g")
    looking.wait(f"document.title.startsWith(arguments[0]) && {focus}.id === 'main'", group)
    looking.wait("document.querySelector('#group-pictures .tile')")
    assert lead(looking.keys.ARROW_RIGHT) == "tile"
    looking.press(looking.keys.ENTER)
    looking.wait("document.getElementById('viewer').open")
    looking.press("f")
    looking.wait("location.hash.startsWith('#search=')")
    looking.wait("!document.getElementById('viewer').open")
    looking.press("1")
    looking.wait(f"{focus}.id === 'canvas'")
    assert lead("/") == "words"
    assert lead("a group", looking.keys.ENTER) == "canvas"
    assert lead("/", looking.keys.ESCAPE) == ""
    looking.press("2")
    looking.wait(f"{focus}.id === 'main'")
    looking.browser.execute_script("document.querySelector('#cards .name-field').focus()")
    assert lead("not kept", looking.keys.ESCAPE) == ""
    looking.press("8")
    looking.wait("!document.getElementById('view-history').hidden")
    assert "not kept" not in looking.text("log")
    assert looking.errors() == []


def test_every_export_is_pressed_and_opened(looking):
    """What is written has all pictures, whole; the report is opened by the browser, too."""
    looking.go("export")
    with exported(looking, "Table").open(encoding="utf-8") as table:
        paths = {row["path"] for row in csv.DictReader(table)}
    assert len(paths) == 60
    contents = sorted(Path(path).read_bytes() for path in paths)
    for title in ("Folders of links", "Folders of copies"):
        placed = [path for path in exported(looking, title).rglob("*") if path.is_file()]
        assert sorted(path.read_bytes() for path in placed) == contents
    tasks = json.loads((exported(looking, "Label Studio") / "tasks.json").read_text())
    assert len(tasks) == 60
    images = ElementTree.parse(exported(looking, "CVAT") / "annotations.xml").findall("image")
    samples = json.loads((exported(looking, "FiftyOne") / "data.json").read_text())
    assert len(images) == len(samples) == 60
    encoder = Encoder.load(exported(looking, "Encoder"))
    assert encoder.embed([min(paths)]).shape == (1, encoder.width)
    report = exported(looking, "Report")
    assert looking.errors() == []
    page = looking.browser.current_window_handle
    looking.browser.switch_to.new_window("tab")
    looking.browser.get(report.as_uri())
    looking.wait("document.documentElement.dataset.ready")
    map_ = looking.element("#canvas")
    looking.browser.execute_script("arguments[0].scrollIntoView({behavior: 'instant'})", map_)
    looking.wait("Number(arguments[0].dataset.drawn)", map_)
    assert looking.ask("document.title") == "maskcon on photos"
    assert looking.errors() == []
    looking.browser.close()
    looking.browser.switch_to.window(page)
    looking.browser.execute_cdp_cmd("Page.bringToFront", {})  # a tab behind another draws nothing


def test_what_was_learned_is_discarded(looking):
    """Then nothing is left of it, and it can learn again."""
    looking.browser.refresh()  # without the filters of other tests
    looking.wait("document.documentElement.dataset.ready")
    before, project = groups_of(looking), looking.api("project")
    files = sorted(looking.folder.rglob("*"))
    learn(looking)
    assert (looking.folder / "1").is_dir()
    press(looking, "Discard")
    looking.told("Discarded: everything is as it was")
    assert groups_of(looking) == before
    assert looking.api("project") == project
    assert sorted(looking.folder.rglob("*")) == files
    looking.wait("!document.querySelector('#learning table')")
    looking.browser.refresh()
    looking.wait("document.documentElement.dataset.ready")
    looking.go("learn")
    looking.wait("document.querySelector('#learning button')")
    assert looking.ask("document.querySelector('#learning').innerText").count("Discard") == 0
    assert looking.errors() == []


def test_what_was_learned_is_kept(looking):
    """Until then the project is as it was; then map, search and groups are the new network's."""
    looking.browser.refresh()  # without the filters of other tests
    looking.wait("document.documentElement.dataset.ready")
    before, encoder = groups_of(looking), looking.api("project")["encoder"]
    looking.go("map")
    looking.wait("window.maskconMap?.canvas.dataset.drawn === '60'")
    places = "[...window.maskconMap.x].join()"
    was = looking.ask(places)
    shown = learn(looking)
    assert shown["groups"][0] == str(len(before))
    assert groups_of(looking) == before
    assert looking.api("project")["encoder"] == encoder
    keep = looking.element("#learning button.primary")
    looking.go("map")
    looking.go("learn")
    looking.api("job")  # answered after what the view asked for
    assert keep.is_displayed()  # a paint of the same would take it away under the pointer
    press(looking, "Keep")
    looking.told("Kept")
    assert looking.api("project")["encoder"] != encoder
    assert len(groups_of(looking)) == int(shown["groups"][1])
    looking.go("map")
    looking.wait(f"{places} !== arguments[0]", was)
    looking.go("search=5")
    looking.wait("document.querySelectorAll('#found .tile').length")
    x = index_file.read(looking.folder / "1" / "pictures.index")[0].vectors
    nearest = np.argsort(-(x @ x[5]))[1]  # the first is itself
    assert int(looking.element("#found .tile").get_attribute("data-id")) == nearest
    assert looking.errors() == []


def test_who_may_only_read_has_nothing_to_edit_with(looking):
    """By a second server, which holds no lock: the one of the tests before goes on.

    In each view all buttons that can be seen are pressed, and all keys that edit elsewhere; the
    server would refuse what edits, which the browser's log would have.
    """
    editing = "smnoczdub"
    before = state_of(looking.folder)
    with explored(looking.folder, "--read-only") as address:
        person = Person(looking.browser, address)
        assert "read only" in person.text("facts")
        links = person.browser.find_elements("css selector", "#views a")
        views = [link.get_attribute("href").split("#")[1] for link in links]
        notes = {}
        for view in [*views, f"group={largest(person)['id']}"]:
            person.go(view)
            person.wait("document.getElementById('loading').hidden")
            assert person.ask(f"{SHOWN}.length", ".edits") == 0, view
            assert person.ask(f"{SHOWN}.every((field) => field.readOnly)", ".name-field"), view
            notes[view] = person.ask(f"{SHOWN}.map((e) => e.textContent).join()", ".reading")
            person.browser.execute_script(f"{SHOWN}.forEach((e) => e.click())", "main button")
            for _ in range(2):  # what a button has opened may keep keys to itself
                person.element("body").send_keys(person.keys.ESCAPE)
            person.element("body").send_keys(*editing)
        told = {view for view, words in notes.items() if "was started with --read-only" in words}
        assert told == {"questions", "learn", "export"}
        person.wait("document.querySelectorAll('#group-pictures .tile').length")
        person.browser.execute_script("document.querySelector('#group-pictures .tile').focus()")
        person.press(" ", *editing)
        assert person.text("picked") == "1 picture picked"
        assert person.ask(f"{SHOWN}.length", ".edits") == 0
        assert not person.ask("document.getElementById('chooser').open")
        assert person.errors() == []
    assert state_of(looking.folder) == before


def state_of(folder):
    """What a project's files hold, but for those that SQLite shares among who reads."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".sqlite-shm"]
    return {path: path.read_bytes() for path in files}
