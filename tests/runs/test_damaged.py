"""Whatever stands in the files of a run, reading them gives a result or one message of ours."""

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Iterator
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


def readers(home: Path) -> tuple[Callable[[], object], ...]:
    """The commands that read a run."""
    run, out = home / "run", {"overwrite": True}
    return (
        lambda: commands.eval(run),
        lambda: commands.embed(run, out=home / "e.parquet", **out),
        lambda: commands.discover(run, out=home / "groups", groups=2, **out),
        lambda: commands.report(run, map="pca"),
        lambda: commands.export(run, to="hf", out=home / "hf", **out),
        lambda: commands.search(home / "shop.index", [home / "pictures"], run=run),
    )


@pytest.mark.heavy
@pytest.mark.parametrize(
    "value", [MISSING, None, -1, "x" * 10**5], ids=["missing", "none", "number", "text"]
)
def test_commands_that_read_a_run(home, value):
    path = home / "run" / runs.RUN_FILE
    whole = json.loads(path.read_text())
    for content in damaged(whole, (value,)):
        path.write_text(json.dumps(content))
        try:
            runs.read(home / "run")
        except InputError:
            continue  # as every command then says
        for read in readers(home):
            path.write_text(json.dumps(content))
            told(read)


@pytest.mark.heavy
def test_missing_fields(home):
    """Each command with a record that has no more than a configuration."""
    path = home / "run" / runs.RUN_FILE
    config = json.loads(path.read_text())["config"]
    for kept in ({}, {"data": config["data"]}, config):
        for read in readers(home):
            path.write_text(json.dumps({"config": kept}))
            told(read)
