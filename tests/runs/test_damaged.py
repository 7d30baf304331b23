"""Whatever stands in the files of a run, reading them gives a result or one message of ours."""

import contextlib
import copy
import csv
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from maskcon import commands
from maskcon.commands.sources import own_data
from maskcon.data.sets import glyphs
from maskcon.encoder import Encoder
from maskcon.errors import InputError, TrainingError
from maskcon.report import card
from maskcon.runs import folder as runs
from maskcon.runs.record import Record, run_of
from tests.conftest import FAST, write_tree

VALUES = (None, [], {}, "x", -1, float("inf"), True, "x" * 10**5)
MISSING = object()


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A finished run that was evaluated, and an index of its pictures; to be copied."""
    home = tmp_path_factory.mktemp("damaged")
    write_tree(home / "pictures", glyphs.make(train=32, test=16))
    commands.train(data=home / "pictures", out=home / "run", **FAST)
    commands.eval(home / "run")
    commands.embed(home / "run", out=home / "e.csv")
    commands.index(home / "run", home / "pictures", out=home / "shop.index")
    commands.discover(home / "run", out=home / "groups", groups=2)
    return home


@pytest.fixture
def home(whole, tmp_path) -> Path:
    """A copy, to damage."""
    shutil.copytree(whole, tmp_path / "home")
    return tmp_path / "home"


def damaged(content: Any, values: tuple[Any, ...]) -> Iterator[Any]:
    """Copies in which one field, however deep, has another value, or is missing."""
    places = list(content) if isinstance(content, dict) else range(len(content[:1]))
    for place in places:
        for value in values:
            changed = copy.copy(content)
            if value is not MISSING:
                changed[place] = value
            elif isinstance(content, dict):
                del changed[place]
            yield changed
        if isinstance(content[place], dict | list):
            for part in damaged(content[place], values):
                changed = copy.copy(content)
                changed[place] = part
                yield changed


def told(read: Callable[[], object]) -> None:
    """See that what is raised is ours, and no longer than a screen."""
    said = "a result"
    try:
        read()
    except (InputError, TrainingError) as error:
        said = str(error)
    assert 0 < len(said) < 2000


def test_fields_of_run_json(home):
    path = home / "run" / runs.RUN_FILE
    for content in damaged(json.loads(path.read_text()), (MISSING, *VALUES)):
        path.write_text(json.dumps(content).replace("Infinity", "1e400"))

        def all_of_it() -> None:
            run = runs.read(home / "run")
            commands.compare([home / "run"])
            own_data(run["config"], {})
            card.card(run)

        told(all_of_it)


def test_lines_of_metrics_jsonl(home):
    path = home / "run" / runs.METRICS
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in (*VALUES, *(part for part in damaged(lines, (MISSING, *VALUES)))):
        content = line if isinstance(line, list) and line else [line, *lines]
        path.write_text("".join(json.dumps(each) + "\n" for each in content))
        told(lambda: commands.compare([home / "run"]))
    path.write_text('{"step": 1, "loss": 2}\n{"st')
    assert runs.metrics(home / "run") == [{"step": 1, "loss": 2}]
    path.write_text('{"st\n{"step": 1}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1 is damaged"):
        runs.metrics(home / "run")


def test_fields_of_encoder_json(home):
    path = home / "run" / "encoder.json"
    picture = next((home / "pictures").rglob("*.png"))
    for content in damaged(json.loads(path.read_text()), (MISSING, *VALUES)):
        path.write_text(json.dumps(content))
        told(lambda: Encoder.load(home / "run").embed([picture]))


def test_fields_of_a_description_of_vectors(home):
    path = home / "e.csv.json"
    for content in damaged(json.loads(path.read_text()), (MISSING, *VALUES)):
        path.write_text(json.dumps(content))
        with contextlib.suppress(FileNotFoundError):
            (home / "new.index").unlink()
        told(lambda: commands.index(home / "run", home / "e.csv", out=home / "new.index"))


def test_fields_of_an_index(home):
    path = home / "shop.index"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for content in damaged(json.loads(members["about.json"]), (MISSING, *VALUES)):
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in members.items():
                whole = json.dumps(content) if name == "about.json" else member
                archive.writestr(name, whole)
        told(lambda: commands.index(path))


def test_columns_of_groups(home):
    path = home / "groups" / "groups.csv"
    with open(path, newline="") as file:
        head, first, *rest = csv.reader(file)
    for column in range(len(head)):
        for cell in ("", "nan", "x", "-1", "\0", "x" * 10**5, MISSING):
            changed = [list(head), list(first), *map(list, rest)]
            for row in changed if cell is MISSING else ():
                del row[column]
            if cell is not MISSING:
                changed[1][column] = cell
            with open(path, "w", newline="") as file:
                csv.writer(file).writerows(changed)
            told(lambda: commands.check(path))


def readers(home: Path) -> dict[str, Callable[[], object]]:
    """The commands that read a run."""
    run, out = home / "run", {"overwrite": True}
    return {
        "eval": lambda: commands.eval(run),
        "embed": lambda: commands.embed(run, out=home / "e.parquet", **out),
        "discover": lambda: commands.discover(run, out=home / "groups", groups=2, **out),
        "report": lambda: commands.report(run, map="pca"),
        "export": lambda: commands.export(run, to="hf", out=home / "hf", **out),
        "search": lambda: commands.search(home / "shop.index", [home / "pictures"], run=run),
    }


@pytest.fixture
def asked_for(monkeypatch) -> set[str]:
    """The fields of a record that were asked for meanwhile: "x/y" is y of x."""
    fields: set[str] = set()

    def note(record: Record, name: str) -> None:
        _, *around = record.where.split(": ")
        fields.add("/".join([*around, name]))

    def get(record: Record, name: str, default: Any = None) -> Any:
        note(record, name)
        return dict.get(record, name, default)

    def item(record: Record, name: str) -> Any:
        note(record, name)
        return dict.__getitem__(record, name) if name in record else record.__missing__(name)

    monkeypatch.setattr(Record, "get", get)
    monkeypatch.setattr(Record, "__getitem__", item)
    return fields


def changed(content: dict[str, Any], names: Iterable[str], value: Any) -> dict[str, Any]:
    """A copy of a record in which fields have another value, or are missing."""
    content = copy.deepcopy(content)
    for name in names:
        *around, last = name.split("/")
        inner = content
        for part in around:
            inner = inner.get(part) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and last in inner:
            if value is MISSING:
                del inner[last]
            else:
                inner[last] = value
    return content


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["eval", "embed", "discover", "report", "export", "search"])
def test_commands_that_read_a_run(home, asked_for, name):
    """Without each of the fields that a command asks for; with others that pass as such."""
    path = home / "run" / runs.RUN_FILE
    content = json.loads(path.read_text())
    read = readers(home)[name]
    read()
    # those of config are looked at in one place, which test_fields_of_run_json tries
    fields = sorted(field for field in asked_for if not field.startswith("config/"))
    assert "config" in fields or name == "search"
    tried = [changed(content, [field], MISSING) for field in fields]
    tried += [{"config": kept} for kept in ({}, {"data": content["config"]["data"]})]
    for value in (None, -1, {}, [], "x", 2.5):
        passing = [field for field in fields if fits(changed(content, [field], value), path)]
        tried.append(changed(content, passing, value))
    for variant in tried:
        path.write_text(json.dumps(variant))
        told(read)


def fits(content: dict[str, Any], path: Path) -> bool:
    """Whether a record passes as one; where it does not, every command says the same."""
    try:
        run_of(content, path)
    except InputError:
        return False
    return True
