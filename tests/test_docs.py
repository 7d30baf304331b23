"""What the pages say a person can do: every block is run, in order, in a folder of its own."""

import csv
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from maskcon import commands
from maskcon.cli import cli
from maskcon.commands import _demo as demonstration
from maskcon.config import RENAMED, recipes
from maskcon.data import DATA_SETS, NamedSet
from maskcon.data.sets import glyphs
from maskcon.eval import finetune
from tests.conftest import as_found, write_tree

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": (ROOT / "README.md").read_text()}
PAGES |= {f"docs/{p.name}": p.read_text() for p in sorted((ROOT / "docs").glob("*.md"))}
TEXT = "\n".join(PAGES.values())
BLOCK = re.compile(r"```(sh|python|py)\n(.*?)```", re.DOTALL)
# What takes the network, the paper's sets or half an hour is looked at, not run.
NOT_HERE = ("--download", "maskcon reproduce cifar100", "maskcon benchmark", "python3 -m venv")
NOT_HERE += (
    "--backbone timm/",
    "--backbone efficientnet",
    "--data cifar100",
    "--unfreeze",
    "python -c",
    ".ci/run",
    "pytest",
)
NOT_HERE += ("mkdocs", "pip install", "--ask")
# Options of torchrun, of SLURM and of others.
OF_OTHERS = ("--nproc-per-node", "--max-restarts", "--nnodes", "--nodes", "--ntasks-per-node")
OF_OTHERS += ("--rdzv-backend", "--rdzv-id", "--rdzv-endpoint", "--gpus-per-node")
OF_OTHERS += ("--cpus-per-task", "--signal", "--requeue")
OF_OTHERS += ("--index-url", "--rm", "--user", "--data-binary")  # of pip, docker and curl
OF_OTHERS += ("--logdir", "--append", "--backend-store-uri", "--project")  # of trackers
NOT_NEEDED = ("lancedb", "qdrant_client")  # a block that imports one is run where it is installed
FAST = ("--epochs", "1", "--warmup-epochs", "0", "--backbone", "resnet10w16", "--image-size", "16")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Pictures and short runs under the names that the pages use."""
    here = tmp_path_factory.mktemp("world")
    data = glyphs.make(train=240, test=80)
    coarse = tuple(name.replace(" ", "_") for name in data.coarse_names)
    fine = tuple(name.rpartition("/")[2] for name in data.fine_names)
    write_tree(here / "photos", replace(data, coarse_names=coarse, fine_names=fine))
    some = sorted((here / "photos").rglob("*.png"))
    rows = [f"{place.relative_to(here)},{place.parent.parent.name}" for place in some]
    (here / "catalogue.csv").write_text("\n".join(["photo,category", *rows]))
    for name in (
        "new.jpg",
        "photo.jpg",
        "a.png",
        "b.png",
        "new/c.png",
        "more/d.png",
        "more/old/e.png",
    ):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(some[len(name)]).save(here / name)
    options = {"backbone": "resnet10w16", "image_size": 16, "epochs": 1, "warmup_epochs": 0}
    for name in ("x", "y", "photos"):
        run = here / "runs" / name
        commands.train(data=here / "photos", out=run, seed=len(name), **options)
    return here


def lines(block: str) -> list[str]:
    """Commands of a shell block, without comments; continued lines are one."""
    joined = block.replace("\\\n", " ")
    return [line for line in (line.split("  #")[0].strip() for line in joined.splitlines()) if line]


def typed(line: str) -> None:
    """Run a command as it stands; training a little shorter."""
    program, *words = shlex.split(line, comments=True)
    assert program == "maskcon", line
    if words[0] == "train":
        words += [*FAST[: 4 if "--features" in words else None], "--overwrite"]
    if words[0] == "index" and "-o" in words and "--add" not in words:
        Path(words[words.index("-o") + 1]).unlink(missing_ok=True)
    if "--names" in words:
        name_a_group()
    cli.main(words, standalone_mode=False)


def name_a_group() -> None:
    """Write names.csv, as the page of groups would."""
    with open("groups/groups.csv") as file:
        first = next(csv.DictReader(file))
    Path("names.csv").write_text(f"group,name\n{first['group']},first\n")


@pytest.mark.heavy
@pytest.mark.parametrize("page", [page for page, text in PAGES.items() if BLOCK.search(text)])
def test_every_block_runs(page, world, tmp_path, monkeypatch):
    here = tmp_path / "here"
    shutil.copytree(world, here)
    monkeypatch.chdir(here)
    monkeypatch.setattr(finetune, "STEPS", 20)  # of hundreds
    # The demonstration itself takes minutes.
    few = NamedSet("a few glyphs", make=lambda: as_found(glyphs.make(train=240, test=80)))
    monkeypatch.setitem(DATA_SETS, "glyphs", few)
    monkeypatch.setattr(demonstration, "DEMO", {**demonstration.DEMO, "epochs": 1, "bank_size": 64})
    if "runs/grocery" in PAGES[page]:  # whose backbone would take a minute
        options = {"backbone": "resnet10w16", "image_size": 16, "epochs": 1, "warmup_epochs": 0}
        commands.train(data="grocery_small", out=here / "runs" / "grocery", **options)
    for made in re.findall(r'out="(runs/\w+)"', PAGES[page]):  # by the page itself
        shutil.rmtree(here / made, ignore_errors=True)
    names: dict = {}
    for language, block in BLOCK.findall(PAGES[page]):
        if language == "sh":
            for line in lines(block):
                if not any(word in line for word in NOT_HERE):
                    typed(line)
        elif all(
            find_spec(name) for name in NOT_NEEDED if re.search(rf"(import|from) {name}", block)
        ):
            exec(block, names)


def test_promised_tests_exist():
    named = re.findall(r"`((?:\w+/)?test_\w+\.py)::(\w+)`", PAGES["docs/promises.md"])
    assert len(named) > 20
    for file, name in named:
        assert f"\ndef {name}(" in (ROOT / "tests" / file).read_text(), name


def test_files_that_are_linked_exist():
    for page, text in PAGES.items():
        links = re.findall(r"\]\(([^)#]+)\)", text)
        local = [link for link in links if "://" not in link]
        home = (ROOT / page).parent
        assert [link for link in local if not (home / link).exists()] == []
    assert set(re.findall(r"--recipe (\w+)", TEXT)) <= set(recipes())


def test_flags_in_the_text_exist():
    known = {"--help", "--shm-size", *OF_OTHERS, *(flag for p in cli.params for flag in p.opts)}
    for group in (cli, *(c for c in cli.commands.values() if hasattr(c, "commands"))):
        for command in group.commands.values():
            for option in command.params:
                known |= {*option.opts, *option.secondary_opts}
    ours = [line for line in TEXT.splitlines() if "embedding-atlas " not in line]
    assert set(re.findall(r"--[a-z][a-z-]*", "\n".join(ours))) <= known


def test_commands_of_the_package_are_real():
    code = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) + re.findall(r"`([^`\n]+)`", TEXT)
    words = [word for part in code for word in re.findall(r"(?:^|[ /])maskcon ([a-z]+)", part)]
    assert words
    assert set(words) <= set(cli.commands)


def test_every_command_is_in_the_text():
    assert [name for name in cli.commands if f"maskcon {name}" not in TEXT] == []


def test_the_tables_of_results_come_from_the_ledger():
    script = ROOT / "benchmarks" / "ledger.py"
    subprocess.run([sys.executable, script, "tables", "--check"], check=True)


def test_the_tables_of_speeds_come_from_the_results():
    script = ROOT / "benchmarks" / "speeds.py"
    subprocess.run([sys.executable, script, "--check"], check=True)


def test_the_changelog_names_every_option_that_was_renamed():
    text = (ROOT / "CHANGELOG.md").read_text()
    for old, new in RENAMED.items():
        flags = (f"--{name.replace('_', '-')}" for name in (old, new))
        assert "| `{}` | `{}` |".format(*flags) in text
