"""No command deletes or writes over what it reads, or what maskcon did not write."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from maskcon import commands
from maskcon.benchmark.step import step
from maskcon.data.sets import glyphs
from maskcon.errors import InputError, TrainingError
from tests.conftest import FAST, Told, picture_tree, write_tree


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A folder with pictures/, and run/, which was trained on them."""
    home = tmp_path_factory.mktemp("inputs")
    write_tree(home / "pictures", glyphs.make(train=48, test=24))
    commands.train(data=home / "pictures", out=home / "run", **FAST)
    return home


@pytest.fixture
def home(finished, tmp_path, monkeypatch) -> Path:
    """A copy, to work in."""
    shutil.copytree(finished, tmp_path / "home")
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def content(home: Path) -> dict[str, str]:
    """Every file below a folder, links as what they lead to."""
    return {
        str(path.relative_to(home)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(home.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def refused(home: Path, match: str, command, *words, error=InputError, **options) -> None:
    """See that a command refuses, and changes nothing."""
    before = content(home)
    with pytest.raises(error, match=match):
        command(*words, **options)
    assert content(home) == before


INSIDE = "is read, and lies in .*: give another"
SAME = "is read and would be overwritten: give another"


def test_training_data_inside_of_the_run_folder(home):
    (home / "link").symlink_to("run/mine")
    shutil.move(home / "pictures", home / "run" / "mine")
    train, again = commands.train, {**FAST, "out": home / "run", "overwrite": True}
    for data in ("run/mine", "link", "./run/../run/mine", home / "run" / "mine"):
        refused(home, INSIDE, train, data=data, **again)
    (home / "other").symlink_to("run")
    refused(home, INSIDE, train, data="link", **{**again, "out": "other"})
    rows = [
        f"{path},{'test' if 'test' in path.parts else 'train'},{path.parts[-3]}\n"
        for path in sorted((home / "run" / "mine").rglob("*.png"))
    ]
    (home / "t.csv").write_text("path,split,coarse\n" + "".join(rows))
    refused(home, INSIDE, train, data="t.csv", **again)
    refused(home, SAME, train, data="glyphs", init="run", out="run", overwrite=True)
    (home / "run" / "r.toml").write_text("lr = 0.1\n")
    refused(home, INSIDE, train, data="glyphs", recipe="run/r.toml", **again)


def test_overwriting_a_run_deletes_names_of_runs_alone(home):
    (home / "run" / "notes.txt").write_text("mine")
    (home / "run" / ".draft.new").write_text("mine")
    (home / "run" / "sub").mkdir()
    (home / "run" / "sub" / "README.md").write_text("mine")
    (home / "precious").write_text("mine")
    (home / "run" / "map.png").unlink()
    (home / "run" / "map.png").symlink_to(home / "precious")
    commands.train(data="pictures", out="run", overwrite=True, seed=1, **FAST)
    for name in ("run/notes.txt", "run/sub/README.md", "precious", "run/.draft.new"):
        assert (home / name).read_text() == "mine"
    assert not (home / "run" / "map.png").is_symlink()
    (home / "run" / "curves.png").unlink()
    (home / "run" / "curves.png").mkdir()
    again = {"data": "pictures", "out": "run", "overwrite": True, **FAST}
    refused(home, r"curves\.png is a folder", commands.train, **again)
    (home / "run" / "curves.png").rmdir()
    (home / "run" / "run.json").write_text('{"scripts": {}}')
    refused(home, "no record of a run.*; it is not overwritten", commands.train, **again)


def test_files_that_are_read_are_not_written_to(home):
    run, shop = "run", home / "shop.index"
    commands.embed(run, out="e.parquet")
    commands.embed(run, out="e.csv")
    commands.index(run, out=shop)
    commands.pack("pictures", "p.pack")
    commands.discover(run, out="groups", groups=2)
    (home / "l.parquet").symlink_to("e.parquet")
    (home / "s.json").symlink_to(shop)
    (home / "here").symlink_to(home)
    more = {"overwrite": True}
    picture = next((home / "pictures").rglob("*.png"))
    for way in ("e.parquet", "here/e.parquet"):
        refused(home, SAME, commands.index, run, "e.parquet", out=way, **more)
    refused(home, SAME, commands.index, run, "l.parquet", out="e.parquet", **more)
    refused(home, SAME, commands.index, run, picture, out=picture, **more)
    refused(home, SAME, commands.index, run, out="run/encoder.safetensors", **more)
    refused(home, SAME, commands.embed, run, "groups/groups.csv", out="groups/groups.csv", **more)
    refused(home, SAME, commands.pack, "p.pack", "here/p.pack", **more)
    for name in ("html", "json"):
        refused(home, SAME, commands.search, shop, [picture], **{name: shop}, **more)
        refused(home, SAME, commands.search, shop, [picture], **{name: picture}, **more)
        refused(home, SAME, commands.search, shop, [picture], **{name: "run/run.json"}, **more)
    refused(home, SAME, commands.search, shop, [picture], json="s.json", **more)
    refused(home, SAME, commands.eval, run, json="run/run.json", **more)
    refused(
        home, SAME, commands.eval, run, data="groups/groups.csv", json="groups/groups.csv", **more
    )
    refused(home, SAME, commands.compare, [run], csv="here/run/metrics.jsonl", **more)
    refused(home, INSIDE, commands.discover, run, "groups/groups.csv", out="groups", **more)
    refused(home, SAME, commands.discover, run, out="groups", known="groups/groups.csv", **more)
    refused(
        home,
        "that the run needs",
        commands.export,
        run,
        to="safetensors",
        out="run/encoder.safetensors",
        **more,
    )
    refused(home, SAME, commands.export, run, to="atlas", data="e.parquet", out="e.parquet", **more)


def test_other_names_of_what_is_read(home):
    """Hard links, as which names appear that differ in capitals where these do not matter."""
    rows = [f"{path},x\n" for path in sorted((home / "pictures").rglob("*.png"))]
    (home / "t.csv").write_text("path,label\n" + "".join(rows))
    (home / "same.csv").hardlink_to(home / "t.csv")
    refused(home, SAME, commands.embed, "run", "t.csv", out="same.csv", overwrite=True)
    refused(home, SAME, commands.eval, "run", data="t.csv", json="same.csv", overwrite=True)


def test_pictures_that_an_index_shows(home):
    commands.index("run", "pictures", out="shop.index")
    first, second, *_ = sorted((home / "pictures").rglob("*.png"))
    for option in ("html", "json"):
        refused(
            home, SAME, commands.search, "shop.index", [first], **{option: second}, overwrite=True
        )


def test_a_run_among_its_own_pictures(home):
    """What it writes is no class of theirs afterwards."""
    shutil.rmtree(home / "run")
    for number, path in enumerate(sorted((home / "pictures" / "train").rglob("*.png"))):
        place = home / "photos" / path.parts[-3] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    classes = len(commands.check("photos").facts["classes"]["coarse"])
    commands.train(data="photos", out="photos/runs/x", **FAST)
    told = Told()
    judged = commands.eval("photos/runs/x", progress=told)
    assert not any("differ" in note or "changed" in note for note in told.notes)
    assert len(commands.check("photos").facts["classes"]["coarse"]) == classes
    assert judged["images"] > 0


def test_what_is_there_is_not_written_over_unasked(home):
    run = "run"
    commands.index(run, out="shop.index")
    picture = next((home / "pictures").rglob("*.png"))
    (home / "record.json").write_text("{}")
    (home / "page.html").write_text("")
    (home / "lost.json").symlink_to("nowhere")
    (home / "lost.html").symlink_to("nowhere")
    (home / "folder").mkdir()
    searched = (commands.search, "shop.index", [picture])
    for out, match in (
        ("record.json", "exists"),
        ("lost.json", "exists"),
        ("folder", "is a folder"),
    ):
        refused(home, match, commands.eval, run, json=out)
        refused(home, match, *searched, json=out)
        for name in ("csv", "latex"):
            refused(home, match, commands.compare, [run], **{name: out})
    for out in ("page.html", "lost.html"):
        refused(home, "exists", commands.report, run, out=out)
        refused(home, "exists", *searched, html=out)
    refused(home, "two names", *searched, html="both", json="both")
    assert commands.eval(run, json="record.json", overwrite=True)["images"] == 24
    assert json.loads((home / "record.json").read_text())["images"] == 24
    commands.eval(run, json="lost.json", overwrite=True)
    assert not (home / "nowhere").exists()
    assert not (home / "lost.json").is_symlink()
    (home / "d.csv.json").mkdir()
    refused(home, r"d\.csv\.json is a folder", commands.embed, run, out="d.csv", overwrite=True)
    (home / "e.csv.json").write_text("mine")
    refused(home, r"e\.csv\.json exists", commands.embed, run, out="e.csv")


def test_folders_of_others_keep_their_files(home):
    (home / "groups" / "pictures").mkdir(parents=True)
    (home / "groups" / "pictures" / "0000000.png").write_bytes(b"mine")
    options = {"out": "groups", "groups": 2, "pictures": True, "overwrite": True}
    refused(home, "no discovery wrote it", commands.discover, "run", **options)
    shutil.rmtree(home / "groups")
    found = _arrays()
    commands.discover("run", found, **options)
    (home / "groups" / "pictures" / "mine.png").write_bytes(b"mine")
    (home / "groups" / "names.csv").write_text("group,name\n0 1,one\n")
    commands.discover("run", found, names="groups/names.csv", **options)
    assert (home / "groups" / "pictures" / "mine.png").read_bytes() == b"mine"
    commands.export("run", to="hf", out="hf")
    (home / "hf" / ".git").mkdir()
    (home / "hf" / ".git" / "HEAD").write_text("mine")
    (home / "hf" / "LICENSE").write_text("mine")
    (home / "precious").write_text("mine")
    for name in ("map.png", "neighbours.png"):
        (home / "run" / name).unlink()
    (home / "run" / "neighbours.png").symlink_to(home / "precious")
    commands.export("run", to="hf", out="hf", overwrite=True)
    assert not (home / "hf" / "neighbours.png").exists()  # of a link there is no copy
    assert str(home) not in (home / "hf" / "run.json").read_text()
    assert (home / "hf" / ".git" / "HEAD").read_text() == "mine"
    assert (home / "hf" / "LICENSE").read_text() == "mine"
    assert not (home / "hf" / "map.png").exists()
    assert not [*home.glob(".*.new")]


def _arrays():
    from maskcon.data import from_arrays

    random = np.random.default_rng(0)
    pixels = random.integers(256, size=(24, 16, 16, 3), dtype=np.uint8)
    return from_arrays(pixels, np.arange(24) % 2)


def test_a_run_of_somebody_else_writes_through_no_link(home):
    own = json.loads((home / "run" / "run.json").read_text())
    strange = {**own["config"], "download": True}
    (home / "run" / "run.json").unlink()
    (home / "real.json").write_text(json.dumps({**own, "config": strange}))
    (home / "run" / "run.json").symlink_to(home / "real.json")
    names = ("report.html", "metrics.jsonl", "run.json.part")
    for name in names:
        (home / "run" / name).unlink(missing_ok=True)
        (home / "run" / name).symlink_to(home / f"of-{name}")
        (home / f"of-{name}").write_text("")
    told = Told()
    commands.eval("run", progress=told)
    commands.report("run", map="pca", progress=told)
    assert any("the data are " in note for note in told.notes)
    assert json.loads((home / "real.json").read_text())["config"] == strange
    with pytest.raises((InputError, TrainingError)):
        commands.train(out="run", resume=True)
    assert not any((home / f"of-{name}").read_text() for name in names)
    assert not (home / "cache").exists()


def test_a_file_of_the_name_of_a_lock(home):
    (home / "e.parquet.lock").write_text("mine")
    command, out = commands.embed, "e.parquet"
    refused(home, "is no lock of maskcon", command, "run", out=out, error=TrainingError)
    (home / "e.parquet.lock").unlink()
    (home / "precious").write_text("mine")
    (home / "e.parquet.lock").symlink_to("precious")
    refused(home, "is no lock of maskcon", command, "run", out=out, error=TrainingError)


def test_a_ledger_is_one(home):
    (home / "notes.jsonl").write_text("mine\n")
    (home / "link.jsonl").symlink_to("ledger.jsonl")
    for name, match in (("notes.jsonl", "is no ledger"), ("link.jsonl", "is a link")):
        refused(home, match, commands.reproduce, "cifar100", "grafit", ledger=home / name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"projection": 10**9}, "projection is 1,000,000,000: expected a number up to"),
        ({"image_size": 100_000}, "image_size is 100,000: expected a number up to"),
        ({"bank_size": 10**12}, "bank_size is 1,000,000,000,000: expected a number up to"),
        ({"batch_size": 10**9}, "batch_size is 1,000,000,000: expected a number up to"),
        ({"workers": 10**9}, "workers is 1,000,000,000: expected a number up to"),
        (
            {"image_size": 4096, "batch_size": 64, "precision": "fp32"},
            r"a step of 64 images of 4096 px .* takes [\d,]+ GiB of memory",
        ),
        (
            {"projection": 2**16, "projection_hidden": 2**16, "projection_layers": 16},
            r"--projection 65536, --projection-hidden 65536\) in training takes \d+ GiB of memory",
        ),
    ],
)
def test_absurd_sizes(tmp_path, tiny, options, message):
    """Told before memory is asked for."""
    data = picture_tree(tmp_path / "pictures", tiny.train)
    with pytest.raises(InputError, match=message):
        commands.train(out=tmp_path / "run", data=data, **{**FAST, **options})
    assert not (tmp_path / "run").exists()


def test_an_absurd_benchmark():
    with pytest.raises(InputError, match=r"a bank of 1,000,000,000,000 keys.* GiB of memory"):
        step(bank_size=10**12, batch_size=8, sides=["floor"])
    with pytest.raises(InputError, match="batches of 0, a bank of 8192: expected 1 or more"):
        step(batch_size=0)
