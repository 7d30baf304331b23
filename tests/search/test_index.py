"""An index of pictures, and what is found in it."""

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import maskcon
from maskcon import commands
from maskcon.cli import cli
from maskcon.data import from_arrays
from maskcon.errors import InputError
from maskcon.search import file as index_file
from maskcon.search import first_look, ivf, sheet
from maskcon.search import index as indices
from maskcon.search.index import About, Index, table
from maskcon.vectors import file as embeddings
from tests.conftest import Outline, untrained_run

EVIL = "<img src=x onerror=alert(1)>.png"
faiss = pytest.mark.skipif(not ivf.installed(), reason="needs FAISS")


def picture(seed: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture
def photos(tmp_path) -> Path:
    """A tree of 8 pictures in two classes, one of them with a bad name."""
    for row in range(8):
        place = tmp_path / "photos" / f"c{row % 2}"
        place.mkdir(parents=True, exist_ok=True)
        picture(row).save(place / (EVIL if row == 7 else f"{row}.png"))
    return tmp_path / "photos"


@pytest.fixture
def shop(run, photos, tmp_path) -> Path:
    commands.index(run, photos, out=tmp_path / "shop.index")
    return tmp_path / "shop.index"


def made(
    count: int, width: int = 6, seed: int = 0, kind: str = "auto", quantization: str = "int8"
) -> Index:
    """An index of random vectors."""
    vectors = np.random.default_rng(seed).normal(size=(count, width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    none = [None] * count
    rows = table([f"/p/{row}.jpg" for row in range(count)], none, none, none, none)
    return Index.of(About("abc", "/r", 16, "0", kind, None, quantization), vectors, rows)


def paths(hits: dict) -> list[str]:
    return [Path(hit["path"]).name for hit in hits["hits"]]


@given(
    count=st.integers(1, 40),
    queries=st.integers(1, 5),
    k=st.integers(1, 40),
    elements=st.sampled_from([1, 7, 60, 2**25]),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_exact_search_is_brute_force(count, queries, k, elements, seed):
    index, k = made(count, seed=seed), min(k, count)
    random = np.random.default_rng(seed + 1)
    asked = random.normal(size=(queries, 6)).astype(np.float32)
    without = [random.permutation(count)[: random.integers(0, 3)] for _ in range(queries)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indices, "ELEMENTS", elements)
        patch.setattr(indices, "QUERIES", 2)
        found = index.search(asked, k, without)
    for query, left_out, ids, scores in zip(
        asked, without, found.ids.tolist(), found.scores.tolist(), strict=True
    ):
        cosine = {row: float(index.vectors[row] @ query) for row in range(count)}
        expected = sorted(set(range(count)) - {*left_out.tolist()}, key=lambda row: -cosine[row])
        expected = expected[:k]
        assert ids == expected + [-1] * (k - len(expected))
        np.testing.assert_allclose(
            scores[: len(expected)], [cosine[row] for row in expected], atol=1e-5
        )


@faiss
@pytest.mark.parametrize("quantization", ivf.QUANTIZATIONS)
def test_ivf_states_what_it_finds(tmp_path, quantization):
    index = made(2000, width=16, kind="ivf", quantization=quantization)
    assert (index.kind, index.lists.quantization) == ("ivf", quantization)
    assert index.about.recall >= 0.99
    assert ivf.lists_for(2000) == index.lists.index.nlist == 51
    exact = replace(index, lists=None)
    queries = made(20, width=16, seed=1).vectors
    without = [np.array([row]) for row in exact.search(queries, 1).ids[:, 0].tolist()]
    found, best = (i.search(queries, 5, without) for i in (index, exact))
    assert (found.ids == best.ids).double().mean() > 0.9
    torch.testing.assert_close(found.scores[:, 0], best.scores[:, 0], atol=0.05, rtol=0)
    index_file.write(index, tmp_path / "x")
    back, notes = index_file.read(tmp_path / "x")
    assert notes == ()
    assert back.about == index.about
    assert back.lists.probes == index.lists.probes
    assert (back.search(queries, 5, without).ids == found.ids).all()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_file, "installed", lambda: False)
        alone, (note,) = index_file.read(tmp_path / "x")
    assert "FAISS is not installed: searched exactly" in note
    assert (alone.search(queries, 5, without).ids == best.ids).all()
    assert made(3, kind="ivf").search(queries[:, :6], 3).ids.shape == (20, 3)
    assert made(1, kind="ivf").about.recall == 1


@faiss
@given(seed=st.integers(0, 99), changes=st.integers(1, 6))
@settings(max_examples=8, deadline=None)
def test_lists_are_changed_and_not_made_anew(seed, changes):
    """As a dictionary that is searched by brute force, where every list is visited."""
    random = np.random.default_rng(seed)
    index = made(200, width=16, seed=seed, kind="ivf")
    known = dict(zip(index.rows["path"].to_pylist(), index.vectors, strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ivf.Lists, "over", None)  # makes lists
        for change in range(changes):
            before = (index, index.search(index.vectors[:3], 3))
            if change % 2 and len(known) > 1:
                gone = random.permutation(list(known))[: random.integers(1, len(known))].tolist()
                index, removed = index.remove(gone)
                assert sorted(removed) == sorted(gone)
                for path in gone:
                    del known[path]
            else:
                new = made(int(random.integers(1, 40)), width=16, seed=seed + 100 * (change + 1))
                names = [f"/p/{row}.jpg" for row in random.permutation(400)[: len(new)]]
                none = [None] * len(new)
                index = index.add(new.vectors, table(names, none, none, none, none))
                known |= dict(zip(names, new.vectors, strict=True))
            assert (before[0].search(before[0].vectors[:3], 3).ids == before[1].ids).all()
            paths = index.rows["path"].to_pylist()
            assert sorted(paths) == sorted(known)
            assert index.lists.index.ntotal == len(known)
            np.testing.assert_array_equal(index.vectors, [known[path] for path in paths])
            index = replace(index, lists=index.lists.visiting(10**6))
            k = min(5, len(known))
            found = index.search(index.vectors, k)
            exact = replace(index, lists=None).search(index.vectors, k)
            assert (found.ids == exact.ids).double().mean() > 0.95  # 20 candidates of int8
            torch.testing.assert_close(found.scores[:, 0], exact.scores[:, 0], atol=1e-5, rtol=0)


@faiss
def test_lists_that_are_outgrown_or_of_another_quantization_are_made_anew(tmp_path):
    index = made(200, kind="ivf")
    assert index.lists.index.nlist == 5
    none = [None] * 300
    new = table([f"/q/{row}.jpg" for row in range(300)], none, none, none, none)
    more = index.add(made(300, seed=1).vectors, new)
    assert more.lists.index.nlist == ivf.lists_for(500) == 12
    again = index.add(made(300, seed=1).vectors[:100], new[:100])
    assert again.lists.index.nlist == 5
    half = replace(index, about=replace(index.about, quantization="half")).linked()
    assert (half.lists.quantization, index.lists.quantization) == ("half", "int8")


@faiss
def test_unlike_pictures_cost_no_recall():
    """What is added lies outside of what int8 was fitted to: lists are made anew."""
    random = np.random.default_rng(0)
    near = np.abs(made(3000, width=16, kind="exact").vectors)  # in one orthant
    none = [None] * 3000
    rows = table([f"/p/{row}" for row in range(3000)], none, none, none, none)
    index = Index.of(About("abc", "/r", 16, "0", "ivf"), near, rows)
    assert index.about.recall >= 0.99
    far = random.normal(size=(2000, 16)).astype(np.float32)
    far /= np.linalg.norm(far, axis=1, keepdims=True)
    none = [None] * 2000
    rows = table([f"/q/{row}" for row in range(2000)], none, none, none, none)
    more = index.add(far, rows)
    assert more.about.recall >= 0.98
    some = np.arange(0, 5000, 50)
    found, best = (i.search(more.vectors[some], 10).ids for i in (more, replace(more, lists=None)))
    assert (found[:, :, None] == best[:, None]).any(2).double().mean() > 0.98


@faiss
def test_faiss_reads_no_lists_without_their_checksum(tmp_path, monkeypatch):
    """Damaged lists or keys are made anew; the index alone, indexed, keeps them."""
    index, _ = made(60, width=16, kind="ivf").remove(["3.jpg"])
    queries = made(20, width=16, seed=1).vectors
    index_file.write(index, tmp_path / "x")
    whole = (tmp_path / "x").read_bytes()
    begins = whole.index(index.lists.dump().tobytes())
    place = begins + len(index.lists.dump()) // 2
    keys = whole.index(index.lists.keys.tobytes()) + 8 * 50
    (tmp_path / "y").write_bytes(whole[:place] + b"\x7f" + whole[place + 1 :])
    (tmp_path / "z").write_bytes(whole[:keys] + b"\x7f" + whole[keys + 1 :])
    (tmp_path / "w").write_bytes(whole.replace(index_file.CHECKSUM.encode(), b"x" * 10))
    assert not index_file.read(tmp_path / "x")[0].anew
    with monkeypatch.context() as patch:
        patch.setattr(ivf.Lists, "loaded", None)
        for name in "wyz":
            back, (note,) = index_file.read(tmp_path / name)
            assert "the lists in it have no valid checksum, and were made anew" in note
            assert (back.search(queries, 5).ids == index.search(queries, 5).ids).all()
            commands.index(tmp_path / name)
    for name in "wyz":
        assert index_file.read(tmp_path / name)[1] == ()
    other = made(60, width=16, seed=2, kind="ivf").lists
    for keys, shape in ((other.keys, (59, 16)), (other.keys[::-1], (60, 16))):
        with pytest.raises(InputError, match="its lists are not of its"):
            ivf.Lists.loaded(other.dump(), keys, shape)


def test_without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    monkeypatch.setattr(indices, "EXACT_UP_TO", 10)
    assert made(20).kind == "exact"
    with pytest.raises(InputError, match=r"FAISS is not installed: pip install 'maskcon\[faiss\]'"):
        made(20, kind="ivf")


@faiss
def test_large_ones_are_searched_through_lists(monkeypatch):
    monkeypatch.setattr(indices, "EXACT_UP_TO", 10)
    assert (made(10).kind, made(11).kind, made(11, kind="exact").kind) == ("exact", "ivf", "exact")


def test_the_file(tmp_path):
    index = made(30)
    index_file.write(index, tmp_path / "x")
    back, _ = index_file.read(tmp_path / "x")
    np.testing.assert_array_equal(back.vectors, index.vectors)
    assert not back.vectors.flags.owndata  # where they lie in the file
    assert back.rows.equals(index.rows)
    assert back.about == index.about
    with zipfile.ZipFile(tmp_path / "x") as archive:  # for other programs, too
        assert archive.testzip() is None
        with archive.open("vectors.npy") as file:
            np.testing.assert_array_equal(np.load(file), index.vectors)
    whole = (tmp_path / "x").read_bytes()
    for damaged in (b"", b"nonsense", whole[:-30], whole[: len(whole) // 2], whole[200:]):
        (tmp_path / "y").write_bytes(damaged)
        with pytest.raises(InputError, match="damaged"):
            index_file.read(tmp_path / "y")
    random = np.random.default_rng(0)
    for place in random.integers(0, len(whole), 150):  # a flipped byte is an error, or harmless
        torn = bytearray(whole)
        torn[place] ^= 255
        (tmp_path / "y").write_bytes(torn)
        try:
            found, _ = index_file.read(tmp_path / "y")
        except InputError:
            continue
        found.rows.to_pylist()
    about = json.loads(zipfile.ZipFile(tmp_path / "x").read("about.json"))
    with zipfile.ZipFile(tmp_path / "z", "w") as archive:
        archive.writestr("about.json", json.dumps({**about, "maskcon index": 2}))
        archive.writestr("vectors.npy", b"")
        archive.writestr("rows.arrow", b"")
    with pytest.raises(
        InputError, match="format 2, made by maskcon '0': this version reads format 1"
    ):
        index_file.read(tmp_path / "z")


def test_add_and_remove():
    index = made(6)
    new = table(["/p/2.jpg", "/q/a.jpg", "/q/a.jpg"], *([v] * 3 for v in ("c", "f", b"d", b"t")))
    more = index.add(np.eye(3, 6, dtype=np.float32), new)
    names = more.rows["path"].to_pylist()
    assert names == [f"/p/{n}.jpg" for n in (0, 1, 3, 4, 5, 2)] + ["/q/a.jpg"]
    np.testing.assert_array_equal(more.vectors[5:], np.eye(3, 6)[[0, 2]])
    assert more.rows["fine"].to_pylist()[-2:] == ["f", "f"]
    for pattern, gone in (
        ("/p/2.jpg", 1),
        ("2.jpg", 1),
        ("p/2.jpg", 1),
        ("/p/*", 6),
        ("p/*.jp*", 6),
        ("*.jpg", 7),
    ):
        fewer, removed = more.remove([pattern])
        assert (len(fewer), len(removed)) == (7 - gone, gone)
    for pattern in ("2", "/2.jpg", "jpg", "P/2.jpg"):
        with pytest.raises(InputError, match="no path in the index matches"):
            more.remove([pattern])
    empty, _ = more.remove(["*"])
    with pytest.raises(InputError, match="it is empty"):
        empty.remove(["x"])
    with pytest.raises(InputError, match="the index is empty: add pictures"):
        empty.search(np.eye(1, 6, dtype=np.float32), 1)
    assert len(empty.add(np.eye(3, 6, dtype=np.float32), new)) == 2


def test_index_and_search(run, photos, shop, tmp_path):
    encoder = maskcon.Encoder.load(run)
    files = [str(path) for path in sorted(photos.rglob("*.png"))]
    index, _ = index_file.read(shop)
    assert index.rows["path"].to_pylist() == files
    assert index.rows["coarse"].to_pylist() == [Path(path).parent.name for path in files]
    assert index.about == About(encoder.identity, str(run), 16, maskcon.__version__)
    np.testing.assert_array_equal(index.vectors, encoder.embed(files))
    thumbnails = index.rows["thumbnail"].to_pylist()
    assert all(small.startswith(b"\xff\xd8") and len(small) < 3000 for small in thumbnails)

    result = commands.search(shop, files[2], k=3)
    (query,) = result["queries"]
    scores = index.vectors @ index.vectors[2]
    expected = [row for row in np.argsort(-scores) if row != 2][:3]
    assert paths(query) == [Path(files[row]).name for row in expected]
    assert [hit["rank"] for hit in query["hits"]] == [1, 2, 3]
    np.testing.assert_allclose([h["score"] for h in query["hits"]], scores[expected], atol=1e-5)
    assert {hit["coarse"] for hit in query["hits"]} <= {"c0", "c1"}
    assert query["left_out"] == [files[2]]
    (query,) = commands.search(shop, files[2], k=1, keep_self=True)["queries"]
    assert query["hits"][0]["path"] == files[2]
    assert len(commands.search(shop, photos, k=8)["queries"]) == 8
    assert len(commands.search(shop, [files[0], photos / "c1"], k=1)["queries"]) == 5
    arrays = np.stack([np.asarray(picture(row)) for row in (0, 100)])
    for queries in (arrays, list(arrays), [picture(0), picture(100)]):
        first, second = commands.search(shop, queries, k=7)["queries"]
        assert (len(first["left_out"]), len(second["left_out"])) == (1, 0)  # by its pixels
        assert (len(first["hits"]), len(second["hits"])) == (7, 7)


def test_the_query_is_left_out_by_path_or_pixels(shop, photos, tmp_path, monkeypatch):
    copy = tmp_path / "copy.bmp"
    picture(2).save(copy)
    (query,) = commands.search(shop, copy, k=8)["queries"]
    assert query["left_out"] == [str(photos / "c0" / "2.png")]
    assert len(query["hits"]) == 7
    picture(50).save(photos / "c0" / "2.png")  # other pixels at its path
    monkeypatch.chdir(photos)
    (query,) = commands.search(shop, "c0/2.png", k=8)["queries"]
    assert query["left_out"] == [str(photos / "c0" / "2.png")]


def test_changing_an_index(run, other_run, photos, shop, tmp_path):
    (tmp_path / "more").mkdir()
    picture(20).save(tmp_path / "more" / "20.png")
    done = commands.index(run, tmp_path / "more", out=shop, add=True)
    assert (done["pictures"], done["added"], done["replaced"]) == (9, 1, 0)
    picture(21).save(tmp_path / "more" / "20.png")
    picture(22).save(tmp_path / "more" / "22.png")
    done = commands.index(shop, tmp_path / "more", add=True, thumbnails=False)
    assert (done["pictures"], done["added"], done["replaced"]) == (10, 1, 1)
    assert done["thumbnails"] == 8
    index, _ = index_file.read(shop)
    encoder = maskcon.Encoder.load(run)
    alone = encoder.embed(tmp_path / "more" / "20.png")[0]
    np.testing.assert_allclose(index.vectors[8], alone, atol=1e-6)  # in batches of 2 and of 1
    assert index.rows["coarse"].to_pylist()[-2:] == [None, None]
    done = commands.index(shop, remove=["more/*", str(photos / "c0" / "0.png")])
    assert (done["pictures"], len(done["removed"])) == (7, 3)
    assert commands.index(shop)["pictures"] == 7
    done = commands.index(shop, remove=["c0/*"], out=tmp_path / "other.index")
    assert (done["pictures"], commands.index(shop)["pictures"]) == (4, 7)
    with pytest.raises(InputError, match=r"was made with the encoder .* cannot be compared"):
        commands.index(other_run, tmp_path / "more", out=shop, add=True)
    with pytest.raises(InputError, match=r"was made with the encoder .* cannot be compared"):
        commands.search(shop, photos, k=1, run=other_run)
    commands.index(other_run, tmp_path / "more", out=shop, overwrite=True)
    assert len(commands.search(shop, photos, k=1, run=other_run)["queries"]) == 8


def test_a_run_that_moved(photos, tmp_path):
    run = untrained_run(tmp_path / "here", seed=3)
    shop = tmp_path / "shop.index"
    commands.index(run / "encoder.safetensors", photos, out=shop)
    run.rename(tmp_path / "there")
    with pytest.raises(InputError, match=r"here, which is not there: give .* with --run"):
        commands.search(shop, photos, k=1)
    assert commands.search(shop, photos, k=1, run=tmp_path / "there")["k"] == 1


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".csv"])
def test_an_index_of_embeddings(suffix, run, other_run, photos, shop, tmp_path):
    file = tmp_path / f"e{suffix}"
    commands.embed(run, photos, out=file)
    commands.index(run, file, out=tmp_path / "same.index")
    first, second = (index_file.read(path)[0] for path in (shop, tmp_path / "same.index"))
    np.testing.assert_allclose(first.vectors, second.vectors, atol=1e-6)
    assert first.rows.equals(second.rows)
    with pytest.raises(InputError, match="cannot be compared"):
        commands.index(other_run, file, out=tmp_path / "x.index")
    if suffix == ".npz":
        np.savez(file, vector=np.eye(3))
        with pytest.raises(InputError, match="does not say which encoder made its vectors"):
            commands.index(run, file, out=tmp_path / "x.index")


def test_pictures_that_are_no_files(run, tmp_path):
    images = np.stack([np.asarray(picture(row)) for row in range(4)])
    data = from_arrays(images, ["a", "b"] * 2, name="toys")
    shop = tmp_path / "x.index"
    commands.index(run, data, out=shop)
    result = commands.search(shop, picture(1), k=2, html=tmp_path / "x.html")
    assert result["queries"][0]["left_out"] == ["image 1 of toys (train)"]
    assert (tmp_path / "x.html").read_text().count("data:image/jpeg") == 3
    commands.index(run, data, out=shop, thumbnails=False, overwrite=True)
    commands.search(shop, picture(1), k=2, html=tmp_path / "x.html", overwrite=True)
    assert (tmp_path / "x.html").read_text().count("no thumbnail") == 2
    commands.embed(run, data, out=tmp_path / "e.npz")
    done = commands.index(run, tmp_path / "e.npz", out=shop, overwrite=True)
    assert (done["pictures"], done["thumbnails"]) == (4, 0)


def test_the_sheet_escapes_names(run, shop, photos, tmp_path):
    commands.search(shop, photos / "c1", k=7, html=tmp_path / "x.html", overwrite=True)
    page = Outline((tmp_path / "x.html").read_text())
    images = page.of("img")
    assert len(images) == 4 + 4 * 7
    assert all(image["src"].startswith("data:image/jpeg;base64,") for image in images)
    assert not any(name.startswith("on") for _, a in page.elements for name in a)
    assert not any(tag in ("script", "iframe") for tag, _ in page.elements)
    assert [link["href"] for link in page.of("link")] == ["data:,"]
    (policy,) = (m["content"] for m in page.of("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert EVIL in "".join(page.text)
    assert any(image["alt"].endswith(EVIL) for image in images)
    evil = sheet.Card('"><script>', b"", "<b>label</b>", 2.0)
    again = Outline(sheet.page("</title><b>", "<i>", [(evil, [evil]), (evil, [])]))
    assert not {"script", "b"} & {tag for tag, _ in again.elements}
    assert "nothing else is in the index" in "".join(again.text)


def test_what_cannot_be_searched(run, shop, photos, tmp_path):
    one = photos / "c0" / "0.png"
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.png").write_bytes(b"no image")
    for words, options, message in (
        ((tmp_path / "none", one), {}, "not there: expected an index"),
        ((photos, one), {}, "is a folder: expected an index"),
        ((one, one), {}, "is no index, or is damaged"),
        ((shop, one), {"k": 0}, "k is 0"),
        ((shop, tmp_path / "empty"), {}, "has no pictures to search with"),
        ((shop, []), {}, "there is nothing to search with"),
        ((shop, tmp_path / "nowhere.png"), {}, "there is no such file"),
        ((shop, tmp_path / "bad.png"), {}, "no image of a known format"),
        ((shop, [one, tmp_path / "bad.png"]), {}, "1 of 2 pictures cannot be read"),
        ((shop, one), {"run": photos}, r"has no encoder\.json"),
        ((shop, one), {"html": tmp_path / "none" / "x.html"}, "is no folder"),
        ((shop, one), {"json": tmp_path}, "is a folder: give --json the name of a file"),
    ):
        with pytest.raises(InputError, match=message):
            commands.search(*words, **{"k": 2, **options})
    two = [one, tmp_path / "bad.png"]
    result = commands.search(shop, two, k=2, skip_unreadable=True)
    assert (len(result["queries"]), len(result["skipped"])) == (1, 1)
    commands.index(shop, remove=["*"])
    with pytest.raises(InputError, match="the index is empty: add pictures"):
        commands.search(shop, one)


def test_what_cannot_be_indexed(run, shop, photos, tmp_path):
    new = tmp_path / "new.index"
    for words, options, message in (
        ((run, photos), {}, "needs a name: give --out"),
        (
            (run, photos),
            {"out": shop},
            "exists: give another --out, --add to add to it, or --overwrite",
        ),
        ((run, photos), {"out": new, "add": True}, "not there: expected an index"),
        ((run, photos), {"out": new, "kind": "fast"}, "kind is 'fast': expected auto, exact, ivf"),
        ((run, photos), {"out": new, "kind": "hnsw"}, "ivf takes the place of hnsw"),
        ((shop,), {"quantization": "int4"}, "quantization is 'int4': expected int8, half"),
        ((shop,), {"quantization": "half"}, "kind is auto: it belongs to --kind ivf"),
        (
            (run, photos),
            {"out": new, "kind": "exact", "quantization": "half"},
            "kind is exact: it belongs to --kind ivf",
        ),
        ((run, photos), {"out": new, "remove": ["x"]}, "give the index alone"),
        ((tmp_path / "none", photos), {"out": new}, "expected a run folder or an index"),
        ((photos, photos), {"out": new}, r"has no encoder\.json"),
        ((photos / "c0" / "0.png", photos), {"out": new}, "is no index, or is damaged"),
        ((shop, photos), {}, "is an index: give --add"),
        ((shop,), {"add": True}, "there is nothing to add"),
        ((shop,), {"split": "train"}, "--split has no effect"),
        ((shop,), {"device": "cpu", "kind": "exact"}, "--device has no effect"),
        ((shop,), {"workers": 2}, "--workers has no effect"),
        ((shop,), {"remove": ["none/*"]}, "no path in the index matches 'none"),
        ((run, tmp_path / "none"), {"out": new}, "no path that exists"),
    ):
        with pytest.raises(InputError, match=message):
            commands.index(*words, **options)
    (photos / "c0" / "bad.png").write_bytes(b"")
    with pytest.raises(InputError, match="1 of 9 pictures cannot be read"):
        commands.index(run, photos, out=new)
    assert not new.exists()
    done = commands.index(run, photos, out=new, skip_unreadable=True)
    assert (done["pictures"], len(done["skipped"])) == (8, 1)


def test_as_it_is_typed(run, photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def typed(*words: str | Path) -> list[str]:
        cli([str(word) for word in words], standalone_mode=False)
        return capsys.readouterr().out.splitlines()

    assert typed("embed", run, "photos", "-o", "e.csv")[-1].startswith("e.csv: 8 vectors of 128, ")
    lines = typed("index", run, "photos", "-o", "x.index")
    assert "added: 8" in lines
    assert any(line.startswith("x.index: 8 pictures, 8 with thumbnails") for line in lines)
    assert "search: exact" in lines
    if ivf.installed():
        lines = typed("index", "x.index", "--kind", "ivf", "--quantization", "half")
        assert "search: ivf, which finds 100.0% of the exact 10 nearest" in lines
    lines = typed("search", "x.index", "photos/c0/0.png", "-k", "2", "--json", "x.json")
    start = lines.index("photos/c0/0.png  (in the index, left out)")
    assert lines[start + 1].split() == ["rank", "score", "coarse", "path"]
    assert lines[start + 2].split()[0] == "1"
    assert lines[start + 4] == "x.json is written"
    assert json.loads(Path("x.json").read_text())["queries"][0]["hits"][1]["rank"] == 2
    assert "removed: photos/c1/1.png" in typed("index", "x.index", "--remove", "1.png")
    assert "replaced: 7" in typed("index", "x.index", "photos", "--add")


def test_help_does_not_wait_for_torch():
    code = "import sys, maskcon.cli; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_identity_is_read_from_any_file(run, photos, tmp_path):
    assert embeddings.identity(tmp_path / "none.csv") is None
    assert embeddings.identity(photos / "c0" / "0.png") is None


@pytest.mark.parametrize(
    "spread", [0.7, 0.003]
)  # some hundred apart; many as near as half can tell
def test_one_query_after_another_is_exact(spread, monkeypatch):
    """After a first look in half precision the nearest are those of float64, in their order."""
    monkeypatch.setattr(first_look, "LEAST", 0)
    random = torch.Generator().manual_seed(0)
    means = torch.randn(3, 48, generator=random)[torch.arange(4000) % 3]
    noise = torch.randn(4000, 48, generator=random)
    vectors = torch.nn.functional.normalize(means + spread * noise, dim=1).numpy()
    index = Index(About("e", "r", 8, "0"), vectors, rows_of(4000))
    for query in (0, 1, 7, 3999):
        without = np.array([query, (query + 40) % 4000])
        found = index.search(vectors[query][None], 5, [without])
        scores = vectors.astype(np.float64) @ vectors[query]
        scores[without] = -np.inf
        expected = np.sort(scores)[::-1][:5]
        np.testing.assert_allclose(found.scores[0], expected, atol=1e-6)
        np.testing.assert_allclose(scores[found.ids[0]], expected, atol=1e-6)
    looked = index._look.among(vectors, vectors[0], 7)
    assert (looked is None) == (spread < 0.01)  # too many to be worth a second look
    changed = index.remove(["p0"])[0]
    assert changed._look is not index._look
    broken = vectors.copy()
    broken[17] = np.nan
    index = Index(About("e", "r", 8, "0"), broken, rows_of(4000))
    for _ in range(2):
        with pytest.raises(InputError, match="not finite"):
            index.search(vectors[:1], 5)


def rows_of(count: int):
    """So many rows of an index, p0, p1, ..."""
    return table([f"p{row}" for row in range(count)], *[[None] * count] * 4)
