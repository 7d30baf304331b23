"""Every command that writes has its target to itself."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from maskcon import cli, commands
from maskcon.data.sets import glyphs
from maskcon.runtime import files
from tests.conftest import FAST, write_tree


@dataclass(frozen=True)
class Case:
    """A command that writes.

    Attributes:
        words: RUN is the run's folder, which makes one result or another.
        writes: files and folders.
        told_by_last: the last of them says what the others are.
    """

    words: str
    writes: tuple[str, ...]
    told_by_last: bool = False


CASES = {
    "embed": Case("embed RUN photos -o e.parquet --overwrite", ("e.parquet",)),
    "embed to csv": Case(
        "embed RUN photos -o e.csv --overwrite", ("e.csv", "e.csv.json"), told_by_last=True
    ),
    "index": Case("index RUN photos -o s.index --overwrite", ("s.index",)),
    "search": Case(
        "search RUN.index photos/test --run RUN --html s.html --json s.json --overwrite",
        ("s.html", "s.json"),
    ),
    "discover": Case(
        "discover RUN set.pack -o groups --groups 2 --pictures --overwrite",
        (
            *("groups/pictures", "groups/groups.csv", "groups/sheet.html"),
            *("groups/trees.npz", "groups/summary.json"),
        ),
        told_by_last=True,
    ),
    "report": Case("report RUN photos -o r.html --map pca --overwrite", ("r.html",)),
    "safetensors": Case(
        "export RUN --to safetensors -o x.safetensors --overwrite",
        ("x.safetensors", "x.json"),
        told_by_last=True,
    ),
    "hf": Case("export RUN --to hf -o hf --overwrite", ("hf",)),
    "atlas": Case(
        "export RUN --to atlas --projection pca -o a.parquet --overwrite", ("a.parquet",)
    ),
    "pack": Case("data pack RUN.pictures p.pack --size 16 --overwrite", ("p.pack",)),
    "check": Case("data check RUN.pictures --json c.json --overwrite", ("c.json",)),
    "eval": Case(
        "eval RUN --data photos --json v.json --picture v.png --overwrite", ("v.json", "v.png")
    ),
    "compare": Case(
        "compare RUN --csv c.csv --latex c.tex --picture c.png --overwrite",
        ("c.csv", "c.tex", "c.png"),
    ),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two runs, two indexes, pictures and a pack of them; to be copied."""
    home = tmp_path_factory.mktemp("kills") / "home"
    write_tree(home / "photos", glyphs.make(train=32, test=16))
    for seed, run in enumerate(("a", "b")):
        commands.train(data=home / "photos", out=home / run, seed=seed, **FAST)
        commands.index(home / run, home / "photos", out=home / f"{run}.index")
        write_tree(home / f"{run}.pictures", glyphs.make(train=16 + 8 * seed, test=8))
    commands.pack(home / "photos", home / "set.pack", size=16)
    return home


def left(home: Path) -> list[str]:
    """What no command should leave."""
    ends = (files.NEW, files.LOCK, files.EARLIER, ".part")
    return [path.name for path in home.rglob("*") if path.name.endswith(ends)]


@pytest.mark.parametrize("name", CASES)
def test_a_target_in_use(whole, monkeypatch, capsys, name):
    """Refused in one message, before anything is computed."""
    case = CASES[name]
    monkeypatch.chdir(whole)
    words = case.words.replace("RUN", "a").split()
    monkeypatch.setattr(sys, "argv", ["maskcon", *words])
    target = Path(words[words.index("-o") + 1] if "-o" in words else case.writes[-1])
    with files.locked(target), pytest.raises(SystemExit, match="2"):
        cli.main()
    said = capsys.readouterr().err
    assert f"{target} is in use by process" in said
    assert len(said) < 300
    assert left(whole) == []
