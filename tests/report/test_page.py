"""The page about a run: its findings against slow oracles, and the page in a real browser."""

import json
import re
import shutil
import sys
import threading
from base64 import b64decode
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import normalize

from maskcon import commands
from maskcon.data import InMemory, from_arrays
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.eval import projection
from maskcon.eval.precision import query_precisions
from maskcon.eval.projection import components, places
from maskcon.eval.retrieval import nearest_others
from maskcon.report import figures as module
from maskcon.report.album import Album, short_names
from maskcon.report.drawing import Line, chart, thinned
from maskcon.report.figures import figures
from maskcon.report.findings import best_and_worst, confusions
from maskcon.report.near_duplicates import near_duplicates
from maskcon.report.sections import data_block
from maskcon.report.sprites import packed, thumbnails
from maskcon.runtime.progress import Silent
from tests.conftest import Outline, typed, wait, write_tree

HOSTILE = "<img src=x onerror=window.hacked=1>"
QUOTED = "\"'&<!--</script ]]>"
WITHIN = "recall@1/within_coarse"


def album_of(n: int = 60, *, fine: bool = True, seed: int = 0) -> Album:
    """Random pictures of 3 coarse and 6 fine classes; features that tell them apart by half."""
    random = torch.Generator().manual_seed(seed)
    label = torch.arange(n) % 6
    middle = torch.randn(6, 8, generator=random)
    features = normalize(middle[label] + 0.9 * torch.randn(n, 8, generator=random), dim=1)
    images = torch.randint(256, (n, 3, 16, 16), dtype=torch.uint8, generator=random)
    names = [f"{row}.png" for row in range(n)]
    classes = tuple(f"c{i // 2}/f{i}" for i in range(6)) if fine else ()
    return Album(
        InMemory(images), features, label // 2, label if fine else None, names, "abc", classes
    )


def test_names_lose_the_folder_that_all_share():
    assert short_names(["/home/me/x/a/1.png", "/home/me/x/b/2.png"]) == ["a/1.png", "b/2.png"]
    assert short_names(["row 3 of /home/me/t.parquet"]) == ["row 3 of t.parquet"]
    assert short_names(["image 0 of glyphs (test)"]) == ["image 0 of glyphs (test)"]
    assert short_names(["/a/1.png", "b/2.png"]) == ["/a/1.png", "b/2.png"]
    assert short_names(["/1.png", "/b/2.png"]) == ["1.png", "b/2.png"]
    assert short_names([]) == []


def test_fine_classes_of_a_tree_are_called_by_their_own_name():
    album = album_of()
    assert album.class_names == ["f0", "f1", "f2", "f3", "f4", "f5"]
    twice = Album(**{**vars(album), "fine_names": ("a/x", "b/x", "c/y", "d", "e/", "f")})
    assert twice.class_names == ["a/x", "b/x", "y", "d", "e/", "f"]


def test_best_and_worst_against_loops():
    album = album_of()
    precision = query_precisions(album.features, album.label)[0]
    best, worst = best_and_worst(album, nearest_others(album.features, 5), precision, count=3)
    similarity = album.features @ album.features.T
    place = []
    for row in range(len(album)):
        order = [i for i in similarity[row].argsort(descending=True).tolist() if i != row]
        place.append(1 + [album.label[i] == album.label[row] for i in order].index(True))
    ends = {
        label: max(p for p, own in zip(place, album.label, strict=True) if own == label)
        for label in range(6)
    }
    assert [query.place for query in worst] == sorted(ends.values(), reverse=True)[:3]
    assert all(query.place == place[query.row] for query in best + worst)
    tops = [precision[album.label == label].max().item() for label in range(6)]
    assert [query.precision for query in best] == pytest.approx(sorted(tops, reverse=True)[:3])
    for some in (best, worst):
        assert len({int(album.label[query.row]) for query in some}) == 3


def test_of_many_pictures_some_are_asked(monkeypatch):
    """What they say is what they say among all, and the others are in nobody's way."""
    album = album_of(60)
    pixels = album.pixels()
    every = figures(album, pixels, None, Silent())
    monkeypatch.setattr(module, "MANY", 59)
    monkeypatch.setattr(module, "ASKING", 25)
    some = figures(album, pixels, None, Silent())
    assert (every.asked, some.asked) == (60, 25)
    assert some.recall == every.recall
    asked = ~some.precision.isnan()
    assert asked.sum() == 25
    assert torch.equal(some.precision[asked], every.precision[asked])
    levels = normalize(pixels.flatten(1).float() / 255 - 0.5, dim=1)
    near = (levels @ levels.T).fill_diagonal_(-9).argmax(1)
    hit = (album.label[near] == album.label)[asked]
    assert some.pixels["recall@1"] == pytest.approx(hit.double().mean().item())
    close = (levels @ levels.T).fill_diagonal_(-9)
    near = close.masked_fill(album.coarse[:, None] != album.coarse, -9).argmax(1)
    hit = (album.label[near] == album.label)[asked]
    assert some.pixels[WITHIN] == pytest.approx(hit.double().mean().item())
    best, worst = best_and_worst(album, nearest_others(album.features, 5), some.precision)
    assert all(asked[query.row] for query in best + worst)


def test_those_alone_in_their_class_are_no_queries():
    alone = Album(**{**vars(album_of(12)), "fine": torch.tensor([0] * 11 + [5])})
    near = nearest_others(alone.features, 3)
    precision = query_precisions(alone.features, alone.label)[0]
    best, worst = best_and_worst(alone, near, precision)
    assert 11 not in [query.row for query in best + worst]


@pytest.mark.parametrize("fine", [True, False])
def test_confusions_against_loops(fine):
    album, k = album_of(fine=fine), 4
    near = nearest_others(album.features, k)
    counts: dict[tuple[int, int, bool], int] = {}
    for row in range(len(album)):
        for other in near.ids[row].tolist():
            a, b = int(album.label[row]), int(album.label[other])
            within = bool(album.coarse[row] == album.coarse[other])
            if a != b:
                counts[a, b, within] = counts.get((a, b, within), 0) + 1
    size = album.label.bincount().tolist()
    found = confusions(album, near, count=100)
    assert {(p.first, p.second, p.within) for p in found} == {
        (min(a, b), max(a, b), within) for a, b, within in counts
    }
    for pair in found:
        a, b, within = pair.first, pair.second, pair.within
        assert pair.there == pytest.approx(counts.get((a, b, within), 0) / (k * size[a]))
        assert pair.back == pytest.approx(counts.get((b, a, within), 0) / (k * size[b]))
        for query, other in pair.examples:
            assert {int(album.label[query]), int(album.label[other])} == {a, b}
        assert len(set(pair.rows())) == len(pair.rows())
    for kind in (True, False):
        pooled = [
            (p.there * size[p.first] + p.back * size[p.second]) / (size[p.first] + size[p.second])
            for p in found
            if p.within == kind
        ]
        assert pooled == pytest.approx(sorted(pooled, reverse=True))


def test_planted_twins_are_found():
    album = album_of(40)
    smooth = torch.nn.functional.interpolate(album.images.pixels[:, :, ::4, ::4].float(), 16).byte()
    pixels = smooth.clone()
    pixels[7] = pixels[3]
    pixels[20] = pixels[10].flip(2)
    pixels[31] = (pixels[30].float() * 0.7).byte()  # in another light
    pixels[35:37] = 90  # flat, and alike
    features = album.features.clone()
    features[31] = features[30]
    changed = Album(**{**vars(album), "features": features})
    found = near_duplicates(changed, pixels, nearest_others(features, 5))
    seen = {pair.rows(): pair for pair in found}
    assert set(seen) == {(3, 7), (10, 20), (30, 31)}
    assert (seen[3, 7].alike, seen[3, 7].difference, seen[3, 7].mirrored) == ("pixels", 0, False)
    assert (seen[10, 20].alike, seen[10, 20].mirrored) == ("pixels", True)
    assert seen[30, 31].alike == "features"


@pytest.mark.parametrize("how", ["tsne", "pca"])
def test_places_are_a_function_of_the_seed(how):
    features = album_of(80).features.numpy()
    spots = places(features, how, 0, Silent())
    assert spots.shape == (80, 2)
    assert spots.min() >= 0
    assert spots.max() <= 1
    assert np.ptp(spots, 0).max() == pytest.approx(1, abs=1e-5)
    np.testing.assert_array_equal(spots, places(features, how, 0, Silent()))


def test_places_of_few_and_of_equal_pictures():
    for features in (np.eye(2, 4), np.ones((5, 3)), np.ones((20, 3)), np.ones((9, 1))):
        spots = places(features.astype(np.float32), "tsne", 0, Silent())
        assert np.isfinite(spots).all()
    assert components(np.ones((3, 1)), 2).shape == (3, 2)


def test_more_than_the_landmarks_lie_by_their_neighbours(monkeypatch):
    monkeypatch.setattr(projection, "LANDMARKS", 60)
    album = album_of(240)
    middle = torch.eye(8)[:6]
    noise = 0.05 * torch.randn(240, 8, generator=torch.Generator().manual_seed(1))
    features = normalize(middle[album.label] + noise, dim=1).numpy()
    spots = places(features, "tsne", 0, Silent())
    label = album.label.numpy()
    middles = np.stack([spots[:60][label[:60] == i].mean(0) for i in range(6)])
    nearest = np.linalg.norm(spots[60:, None] - middles, axis=2).argmin(1)
    assert (nearest == label[60:]).mean() > 0.99


def test_unknown_maps_and_missing_packages(monkeypatch):
    with pytest.raises(InputError, match="map is 'mds': expected one of tsne, umap, pca"):
        places(np.eye(9, dtype=np.float32), "mds", 0, Silent())
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(InputError, match="pip install umap-learn"):
        places(np.eye(9, dtype=np.float32), "umap", 0, Silent())


@pytest.mark.parametrize("side", [32, 24])
def test_sheets_hold_every_picture_at_its_place(side, monkeypatch):
    monkeypatch.setattr("maskcon.report.sprites.SHEET", 128)
    flat = torch.arange(0, 250, 10, dtype=torch.uint8)[:, None, None, None]
    sheets = packed(flat.expand(25, 3, side, side).contiguous())
    assert (sheets.cell, sheets.columns, len(sheets.uris)) == (32, 4, 2)
    for index, level in enumerate(flat.flatten().tolist()):
        sheet = _decoded(sheets.uris[index // 16])
        place = index % 16
        top, left = place // 4 * 32, place % 4 * 32
        found = sheet[top : top + side, left : left + side].astype(float)
        assert np.abs(found - level).max() < 12


def _decoded(uri: str) -> np.ndarray:
    import base64

    content = base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))
    return np.array(Image.open(BytesIO(content)))


def test_thumbnails_of_arrays_are_made_small(photographs):
    rows = torch.tensor([5, 2])
    np.testing.assert_array_equal(thumbnails(InMemory(photographs), rows, 32, 1), photographs[rows])
    small = thumbnails(InMemory(photographs), rows, 16, 1)
    assert small.shape == (2, 3, 16, 16)
    expected = photographs[rows].float().mean((2, 3))
    assert (small.float().mean((2, 3)) - expected).abs().max() < 3


def test_charts():
    points = [(float(x), 5 - x / 1000) for x in range(0, 2000)]
    assert len(thinned(points)) <= 400
    assert thinned(points)[-1][0] == 1999
    text = chart([Line("<b>", points), Line("one", [(3.0, 5.0)], 4.0)], 'a "title"', "")
    assert "&lt;b&gt;" in text
    assert 'aria-label="a &quot;title&quot;"' in text
    assert 'class="level c1"' in text
    places = [float(y) for y in re.findall(r'<text class="c\d" x="[\d.]+" y="([\d.]+)"', text)]
    assert abs(places[0] - places[1]) >= 15
    assert "nan" not in chart([Line("flat", [(0.0, 0.0)])], "", "")


def test_nothing_ends_the_block_of_data():
    content = {"a": f"</script><!--{HOSTILE}", "b": "\u2028\x00'\""}
    packed_content = data_block(content)
    assert "<" not in packed_content
    assert json.loads(packed_content) == content


# Whole pages.


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of seconds on files whose names and classes are as bad as a disk allows."""
    place = tmp_path_factory.mktemp("page")
    data = glyphs.make(train=96, test=60)
    coarse = (HOSTILE, QUOTED.replace("/", "∕"), *data.coarse_names[2:])
    write_tree(place / "data", replace(data, coarse_names=coarse), prefix=HOSTILE)
    options = {"backbone": "resnet10w16", "image_size": 16, "epochs": 1, "batch_size": 16}
    options |= {"bank_size": 32, "warmup_epochs": 0, "precision": "fp32"}
    commands.train(data=str(place / "data"), out=place / "x", **options)
    return place / "x"


@pytest.fixture(scope="module")
def page(run) -> tuple[dict, str]:
    made = commands.report(run)
    return made, (run / "report.html").read_text()


def test_a_page_says_what_eval_says(run, page):
    made, html = page
    assert made["path"] == str(run / "report.html")
    assert made["bytes"] == (run / "report.html").stat().st_size
    assert (made["images"], made["points"], made["pictures"]) == (60, 60, 60)
    results = json.loads((run / "run.json").read_text())["results"]
    assert made["results"]["recall@1"] == pytest.approx(results["recall@1"])
    assert made["results"]["pixels"]["recall@1"] == pytest.approx(results["pixels"]["recall@1"])
    assert WITHIN in made["results"]
    assert f"{100 * results['recall@1']:.2f} %" in html
    assert str(run.parent) not in html  # nobody's folders
    outline = Outline(html)
    ids = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for wanted in ("curves", "recall", "map", "queries", "confusions", "duplicates", "diagnostics"):
        assert wanted in ids
        assert f"#{wanted}" in [link["href"] for link in outline.of("a")]


def test_the_same_run_gives_the_same_page(run, page, tmp_path):
    commands.report(run, out=tmp_path / "again.html")
    assert (tmp_path / "again.html").read_text() == page[1]


def test_a_page_has_no_element_that_a_name_made(page):
    outline = Outline(page[1])
    assert {image["class"] for image in outline.of("img")} == {"sheet"}
    assert all(image["src"].startswith("data:image/jpeg") for image in outline.of("img"))
    assert not [1 for _, attributes in outline.elements for name in attributes if name[:2] == "on"]
    assert len(outline.of("script")) == 2
    assert HOSTILE in outline.text
    assert not re.findall(r"https?://", page[1])


def test_data_without_fine_labels_and_fewer_points(run, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (50, 20, 20, 3), dtype=np.uint8)
    data = from_arrays(images, [i % 3 for i in range(50)])
    out = tmp_path / "x.html"
    made = commands.report(run, data, out, points=20, map="pca")
    assert (made["images"], made["points"]) == (50, 20)
    assert made["pictures"] > 20  # those of the findings are there, too
    html = out.read_text()
    assert "recall of coarse classes" in html
    assert "20 test pictures of 50, drawn at random," in html
    block = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])
    assert (block["fine"], len(block["names"])) == (False, made["pictures"])


def test_large_photographs(run, tmp_path):
    """Pictures that are not held in memory: an encoder of 96 px looks at them where they lie."""
    folder = shutil.copytree(run, tmp_path / "large")
    description = json.loads((folder / "encoder.json").read_text())
    (folder / "encoder.json").write_text(json.dumps({**description, "image_size": 96}))
    made = commands.report(folder, map="pca", workers=1)
    assert made["pictures"] == 60
    html = (folder / "report.html").read_text()
    block = json.loads(re.search(r'id="data">(.*?)</script>', html, re.DOTALL)[1])
    assert block["sheet"]["side"] == 64
    shown = {int(n) for n in re.findall(r'data-enlarge="(\d+)"', html)}
    assert sorted(block["large"]) == sorted(shown)  # each of the findings, larger
    large = block["largeSheet"]
    assert large["side"] > 64
    sheets = -(-len(shown) // (large["rows"] * large["columns"]))
    assert html.count('class="sheet of-large"') == sheets
    assert np.frombuffer(b64decode(block["ratio"]), "<f4").tolist() == [1.0] * 60


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 1}, "points is 1: expected 2 or more"),
        ({"map": "mds"}, "map is 'mds': expected one of tsne, umap, pca"),
        ({"out": "x.png"}, "x.png ends in '.png': give --out a name in .html"),
        ({"out": "nowhere/x.html"}, "nowhere is no folder"),
        ({"data": "nowhere"}, "'nowhere' is no data set"),
        ({"frobnicate": 1}, "unknown option 'frobnicate'"),
    ],
)
def test_nonsense(run, options, message):
    with pytest.raises(InputError, match=re.escape(message)):
        commands.report(run, **options)


def test_the_command(run, tmp_path):
    words = ["report", run, "-o", tmp_path / "r.html", "--map", "pca", "--points", "30"]
    done = typed(*words)
    assert done.returncode == 0, done.stderr
    assert re.search(r"r\.html: [\d.]+ MiB, 30 of 60 pictures on the map", done.stdout)
    (tmp_path / "empty").mkdir()
    done = typed("report", tmp_path / "empty")
    assert done.returncode == 2
    assert "is no run folder" in done.stderr


# In a browser.


@pytest.fixture
def opened(browser, run, page):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get((run / "report.html").as_uri())
    wait(browser, "document.documentElement.dataset.ready")
    browser.execute_script("document.getElementById('map').scrollIntoView({behavior: 'instant'})")
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def drawn(browser, count: int) -> None:
    wait(browser, "document.getElementById('canvas').dataset.drawn === arguments[0]", str(count))


def of_id(browser, name: str):
    return browser.find_element("id", name)


def text_of(browser, name: str) -> str:
    return browser.execute_script("return document.getElementById(arguments[0]).textContent", name)


@pytest.mark.heavy
def test_it_loads_and_nothing_leaves(opened):
    """No request but the page and what lies in it, and none that its scripts could make."""
    events = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"].endswith("WillBeSent")]
    assert asked
    assert all(url.startswith(("data:", "file:", "blob:", "about:")) for url in asked)
    assert len([url for url in asked if url.startswith("file:")]) == 1
    assert opened.execute_script("return window.hacked") is None
    painted = "return [...document.querySelectorAll('canvas[data-picture]')]"
    assert opened.execute_script(f"{painted}.length") > 50
    assert opened.execute_script(f"{painted}.every((c) => c.dataset.painted === c.dataset.picture)")


@pytest.mark.heavy
def test_the_policy_holds(browser, run, page):
    """A script that got in all the same could not run as an attribute, nor reach a server."""
    asked = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words): ...

    server = HTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser.get((run / "report.html").as_uri())
    said = browser.execute_async_script(
        """
        const [url, done] = arguments;
        const image = `<img src="${url}/image" onerror="window.hacked=1">`;
        document.body.insertAdjacentHTML("beforeend", image);
        fetch(`${url}/fetch`, {mode: "no-cors"}).then(() => done("reached"),
            () => setTimeout(() => done("refused"), 300));
        """,
        f"http://127.0.0.1:{server.server_port}",
    )
    server.shutdown()
    assert said == "refused"
    assert asked == []
    assert browser.execute_script("return window.hacked") is None
    browser.get_log("browser")


@pytest.mark.heavy
def test_hover_shows_the_picture(opened):
    from selenium.webdriver.common.action_chains import ActionChains

    drawn(opened, 60)
    canvas = of_id(opened, "canvas")
    index, px, py, width, height = opened.execute_script(
        "const i = map.nearest(map.width / 2, map.height / 2, Infinity);"
        "return [i, ...map.at(i), map.width, map.height]"
    )
    mouse = ActionChains(opened)
    mouse.move_to_element_with_offset(canvas, round(px - width / 2), round(py - height / 2))
    mouse.perform()
    wait(opened, "!document.getElementById('tip').hidden")
    name = opened.execute_script("return data.names[arguments[0]]", index)
    assert HOSTILE in name
    assert name in text_of(opened, "tip")
    levels = opened.execute_script(
        "const c = document.querySelector('#tip canvas');"
        "return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    )
    assert np.std(np.array(levels).reshape(-1, 4)[:, :3]) > 5  # a picture, no plain area
    assert name in text_of(opened, "details")
    assert len(opened.find_elements("css selector", "#details li button")) == 10
    assert not opened.find_elements("css selector", "img:not(.sheet)")
    mouse.click().perform()
    assert opened.execute_script("return map.pinned") == index
    assert name in text_of(opened, "live")


@pytest.mark.heavy
def test_pictures_are_enlarged_in_their_own_shape(opened):
    from selenium.webdriver.common.keys import Keys

    button = opened.find_element("css selector", "#queries [data-enlarge]")
    index = int(button.get_attribute("data-enlarge"))
    opened.execute_script("ratio[arguments[0]] = 2; arguments[1].focus()", index, button)
    button.send_keys(Keys.ENTER)
    wait(opened, "document.getElementById('enlarged').open")
    assert opened.execute_script("return data.names[arguments[0]]", index) in text_of(
        opened, "enlarged"
    )
    size = "const c = document.querySelector('#enlarged canvas'); return [c.width, c.height]"
    assert opened.execute_script(size) == [600, 300]
    opened.switch_to.active_element.send_keys(Keys.ESCAPE)
    wait(opened, "!document.getElementById('enlarged').open")
    assert opened.execute_script("return document.activeElement === arguments[0]", button)
    button.send_keys(Keys.ENTER)
    of_id(opened, "enlarged-find").click()
    assert opened.execute_script("return map.pinned") == index


@pytest.mark.heavy
def test_filters_change_the_map(opened):
    counts = opened.execute_script(
        "const n = new Array(data.coarseNames.length).fill(0);"
        "for (let i = 0; i < points; i++) n[coarse[i]]++; return n"
    )
    first = opened.find_element("css selector", "#coarse input")
    first.click()
    drawn(opened, 60 - counts[0])
    assert text_of(opened, "count") == f"{60 - counts[0]} of 60 pictures shown"
    of_id(opened, "none").click()
    drawn(opened, 0)
    of_id(opened, "all").click()
    drawn(opened, 60)
    of_id(opened, "search").send_keys("ONERROR=window.hacked=1>7.png")
    drawn(opened, 1)
    of_id(opened, "search").clear()
    of_id(opened, "search").send_keys("nothing is called so")
    drawn(opened, 0)
    button = opened.find_element("css selector", "[data-classes]")
    opened.execute_script("arguments[0].click()", button)
    classes = [int(word) for word in button.get_attribute("data-classes").split()]
    count = opened.execute_script(
        "return label.subarray(0, points).filter((one) => arguments[0].includes(one)).length",
        classes,
    )
    drawn(opened, count)
    of_id(opened, "only-clear").click()
    drawn(opened, 60)


@pytest.mark.heavy
def test_the_keyboard_is_enough(opened):
    from selenium.webdriver.common.keys import Keys

    of_id(opened, "written").send_keys("")  # focus; the map is the next stop
    opened.switch_to.active_element.send_keys(Keys.TAB)
    canvas = opened.switch_to.active_element
    assert canvas.get_attribute("id") == "canvas"
    canvas.send_keys(Keys.ARROW_RIGHT)
    first = wait(opened, "map.pinned >= 0 && [map.pinned, ...map.at(map.pinned)]")
    assert text_of(opened, "live")
    canvas.send_keys(Keys.ARROW_RIGHT)
    second = wait(opened, "map.pinned >= 0 && [map.pinned, ...map.at(map.pinned)]")
    assert second[0] != first[0]
    assert second[1] > first[1]
    before = opened.execute_script("return map.scale")
    canvas.send_keys("+")
    assert opened.execute_script("return map.scale") > before
    left = opened.execute_script("return map.left")
    canvas.send_keys(Keys.SHIFT, Keys.ARROW_RIGHT)
    assert opened.execute_script("return map.left") < left
    canvas.send_keys("0")
    assert opened.execute_script("return map.scale === map.fit")
    for _ in range(5):  # the three buttons of the zoom, the picture, then the nearest neighbour
        opened.switch_to.active_element.send_keys(Keys.TAB)
    neighbour = opened.execute_script("return related(map.pinned)[0]")
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    assert opened.execute_script("return map.pinned") == neighbour
    canvas.send_keys(Keys.ESCAPE)
    assert opened.execute_script("return map.pinned") == -1


@pytest.mark.heavy
def test_the_table_has_what_the_map_has(opened):
    opened.execute_script("document.getElementById('list').open = true")
    wait(opened, "document.querySelectorAll('#list tbody tr').length === 50")
    opened.execute_script("document.getElementById('after').click()")
    wait(opened, "document.querySelectorAll('#list tbody tr').length === 10")
    assert text_of(opened, "page") == "51 to 60 of 60"
    opened.execute_script("document.querySelector('#list tbody button').click()")
    assert opened.execute_script("return map.pinned") == 50


MOVED = """
const done = arguments[arguments.length - 1];
const n = 30000, random = (i) => (i * 7919) % 65536;
const x = Uint16Array.from({length: n}, (_, i) => random(i));
const y = Uint16Array.from({length: n}, (_, i) => random(i * i + 31));
const box = Object.assign(document.createElement("div"), {id: "many"});
document.body.append(box);
const make = () => {
  const canvas = document.createElement("canvas");
  canvas.width = 300; canvas.height = 200;
  box.append(canvas);
  return new PlaceMap(canvas, x, y, {
    paint: (i) => i % 3, styles: (k) => ({colour: ["red", "green", "blue"][k], shape: "circle"}),
    ink: map.ink, picture() {}, related: () => [], labels: () => [], hovered() {}, chosen() {},
  });
};
const seen = (m) => m.context.getImageData(0, 0, m.canvas.width, m.canvas.height).data;
const same = (a, b) => a.every((v, i) => v === b[i]);
const later = (ms) => new Promise((go) => setTimeout(go, ms));
(async () => {
  const [one, other] = [make(), make()];
  await later(300);
  const before = seen(one);
  let anew = 0;
  const real = one.drawAnew.bind(one);
  one.drawAnew = () => { anew++; real(); };
  one.move(13, 7);
  one.draw();
  const moving = [anew, same(seen(one), before)];
  await later(600);
  other.move(13, 7);
  other.changed = true;
  other.draw();
  const still = [anew, same(seen(one), seen(other))];
  one.point(20, 20);
  one.draw();
  box.remove();
  done([moving, still, anew]);
})();
"""


@pytest.mark.heavy
def test_many_points_move_as_they_were_drawn_and_are_drawn_anew_soon_after(opened):
    moving, still, hovered = opened.execute_async_script(MOVED)
    assert moving == [0, False]
    assert still == [1, True]
    assert hovered == 1
    opened.get_log("browser")  # Chromium has advice for who reads pixels as often as this test


@pytest.mark.heavy
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_zooming_shows_pictures_in_light_and_dark(opened, scheme):
    preference = [{"name": "prefers-color-scheme", "value": scheme}]
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": preference})
    opened.execute_script("map.zoom(3, ...map.at(0))")
    wait(opened, "Number(map.canvas.dataset.pictures) > 0")
    paper = {"light": "#ffffff", "dark": "#16191d"}[scheme]
    assert wait(opened, f"map.ink.paper === '{paper}'")  # the page is told of the change later
    paper = opened.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(re.findall(r"\d+", paper)[0]) > 128) == (scheme == "light")
