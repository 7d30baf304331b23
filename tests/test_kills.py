"""Every command that writes: killed wherever it touches a name on the disk, and two at once."""

import shutil
import signal
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from maskcon import cli, commands
from maskcon.data.sets import glyphs
from maskcon.runs import folder as runs
from maskcon.runtime import files
from maskcon.search import file as index_file
from tests import kills_worker
from tests.conftest import FAST, begun, write_tree

MINE = "mine.txt"  # a file that maskcon did not write
EVERY = 6  # moments of each command at which it is killed; then at each fifth


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
            *("groups/outliers.csv", "groups/trees.npz", "groups/summary.json"),
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
    # with a method, as it says no time then, which is another one in each run
    "check": Case(
        "data check RUN.pictures --method maskcon --json c.json --overwrite", ("c.json",)
    ),
    "eval": Case("eval RUN --data RUN.pictures --json v.json --overwrite", ("v.json",)),
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
        write_tree(home / f"{run}.pictures", glyphs.make(train=16, test=8 + 8 * seed))
    commands.pack(home / "photos", home / "set.pack", size=16)
    return home


@pytest.fixture
def home(whole, tmp_path) -> Path:
    shutil.copytree(whole, tmp_path / "home")
    return tmp_path / "home"


def run(case: Case, which: str, home: Path, **end: Any) -> Any:
    words = [word.replace("RUN", which) for word in case.words.split()]
    return begun(kills_worker.typed, words, home, *end.values())


def content(path: Path) -> Any:
    """What a file or folder holds; None where there is none. Times in an archive do not count."""
    if path.is_dir():
        return {p.name: content(p) for p in path.iterdir() if p.name != MINE}
    if not path.exists():
        return None
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    return path.read_bytes()


def result(case: Case, home: Path) -> list[Any]:
    return [content(home / name) for name in case.writes]


def whole_result(case: Case, home: Path, old: list[Any], new: list[Any]) -> None:
    """The earlier result, the new one, or one of which nothing says that it is whole."""
    found = result(case, home)
    for name, now, *wanted in zip(case.writes, found, old, new, strict=True):
        assert now is None or now in wanted, f"{name} is neither"
    if case.told_by_last and found[-1] is not None:
        assert found in (old, new), "of two results"


def left(home: Path) -> list[str]:
    """What no command should leave."""
    ends = (files.NEW, files.LOCK, files.EARLIER)
    return [path.name for path in home.rglob("*") if path.name.endswith(ends)]


def both_results(case: Case, home: Path) -> tuple[list[Any], list[Any]]:
    """What the command writes with one run and with the other, which stays."""
    made = []
    for which in ("a", "b"):
        process = run(case, which, home)
        process.join()
        assert process.exitcode == 0, (home.parent / "home.log").read_text()
        made.append(result(case, home))
    assert None not in made[0] + made[1]
    assert made[0] != made[1]
    return made[1], made[0]


@pytest.mark.heavy
@pytest.mark.parametrize("name", CASES)
def test_kills_and_two_at_once(home, name):
    case = CASES[name]
    old, new = both_results(case, home)
    for folder in (home / "hf", home / "groups", home / "groups" / "pictures"):
        if folder.is_dir():
            (folder / MINE).write_text("not yours")
    mine = sorted(path.relative_to(home) for path in home.rglob(MINE))
    log = home.parent / "home.log"
    assert killed_everywhere(case, home, old, new) >= 2
    assert result(case, home) == new
    assert left(home) == []
    assert sorted(path.relative_to(home) for path in home.rglob(MINE)) == mine
    both = [run(case, which, home) for which in ("a", "b")]
    for process in both:
        process.join()
    codes = sorted(process.exitcode for process in both)
    assert codes in ([0, 0], [0, 2]), log.read_text()
    assert codes == [0, 0] or "is in use by process" in log.read_text()
    assert result(case, home) in (old, new)
    assert left(home) == []


@pytest.mark.heavy
def test_additions_to_an_index(home):
    """Killed, and two at once: none of those that were not refused is lost."""
    counts = {"a": 24, "b": 32}  # pictures that are added
    there = index_file.read(home / "a.index")[0]
    for moment in range(2):
        process = begun(
            kills_worker.typed, ["index", "a.index", "a.pictures", "--add"], home, moment
        )
        process.join()
        assert process.exitcode == -signal.SIGKILL
        assert len(index_file.read(home / "a.index")[0]) in (len(there), len(there) + counts["a"])
    (home / "a.index").unlink()
    shutil.copy(home / "b.index", home / "a.index")
    for turn in range(2):
        both = {
            which: begun(
                kills_worker.typed, ["index", "a.index", f"{which}.pictures", "--add"], home
            )
            for which in counts
        }
        for process in both.values():
            process.join()
        assert sorted(process.exitcode for process in both.values()) in ([0, 0], [0, 2])
        added = [which for which, process in both.items() if process.exitcode == 0]
        found = index_file.read(home / "a.index")[0]
        of_runs = "".join(found.rows["path"].to_pylist())
        assert all(f"{which}.pictures/" in of_runs for which in added)
        if turn == 0:
            assert len(found) == len(there) + sum(counts[which] for which in added)
    assert left(home) == []


@pytest.mark.heavy
@pytest.mark.parametrize("name", CASES)
def test_a_full_disk(home, name):
    """When a file is flushed, and in the middle of one: a message, and the earlier result."""
    case, log = CASES[name], home.parent / "home.log"
    old, new = both_results(case, home)
    before = run(case, "b", home)
    before.join()
    for how, last in (("full", 0), ("small", 1500)):
        log.unlink()
        process = run(case, "a", home, last=last, how=how)
        process.join()
        said = log.read_text()
        if process.exitcode == 0:  # its files are no larger
            assert how == "small"
            assert max((home / name).stat().st_size for name in case.writes) <= last
            continue
        assert process.exitcode == 1, said
        assert "No space left on device" in said or "File too large" in said
        assert len(said.partition("error: ")[2].splitlines()) == 1
        whole_result(case, home, old, new)
        assert how == "small" or result(case, home) == old
        assert left(home) == []


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


def killed_everywhere(case: Case, home: Path, old: list[Any], new: list[Any]) -> int:
    """Kill the command at one moment after the other, each beginning with what the last one left.

    Returns:
        How many times it was killed; then it went through.
    """
    moment = kills = 0
    while True:
        process = run(case, "a", home, last=moment)
        process.join()
        if process.exitcode == 0:
            return kills
        assert process.exitcode == -signal.SIGKILL, (home.parent / "home.log").read_text()
        whole_result(case, home, old, new)
        assert runs.read(home / "a")["status"] == "finished"
        kills += 1
        moment += 1 if moment < EVERY else 5
