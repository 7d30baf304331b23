"""--json of every command: the output is one JSON value, the same that the function returns."""

import json
from collections.abc import Iterator

import click
import pytest

from maskcon import commands
from maskcon.cli import cli
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.runs import folder as runs
from tests.conftest import FAST, typed, write_tree


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with pictures, two runs and an index."""
    folder = tmp_path_factory.mktemp("home")
    write_tree(folder / "photos", glyphs.make(train=48, test=24))
    for seed in (0, 1):
        out = folder / f"run{seed}"
        commands.train(data=folder / "photos", out=out, method="maskcon", seed=seed, **FAST)
    commands.index(folder / "run0", folder / "photos", out=folder / "a.index")
    return folder


def every(group: click.Group = cli, words: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command, as it is typed."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from every(command, (*words, name))
        else:
            yield (*words, name)


# what is typed after each command; nobody waits for those that are None, which take minutes
SMALL = "--backbone resnet10w8 --image-size 16 --projection 8 --bank-size 32 --epochs 1"
SMALL += " --warmup-epochs 0 --batch-size 16 --device cpu --precision fp32"
TYPED = {
    "train": f"--data photos --method maskcon --out trained {SMALL}",
    "demo": None,
    "reproduce": "",
    "eval": "run0",
    "compare": "run0 run1",
    "report": "run0 -o report.html --points 8",
    "discover": "run0 -o groups",
    "embed": "run0 photos -o vectors.npz",
    "index": "a.index",
    "search": "a.index photos/test -k 2",
    "export": "run0 --to safetensors",
    "data check": "photos --method maskcon",
    "data pack": "photos photos.pack",
    "datasets": "",
    "methods": "",
    "backbones": "",
    "vectors": "",
    "benchmark step": None,
    "benchmark views": None,
    "benchmark loader": None,
    "benchmark recall": None,
    "benchmark embed": None,
    "benchmark answer": None,
    "benchmark all": None,
}


SERVERS = ("explore", "serve")  # which have no result


def test_every_command_has_it():
    told = [words for words in every() if words[0] not in SERVERS]
    assert sorted(map(" ".join, told)) == sorted(TYPED)
    for words in told:
        command = cli
        for word in words:
            command = command.commands[word]
        assert [p.opts for p in command.params].count(["--json"]) == 1, words
        assert any("--overwrite" in p.opts for p in command.params), words


@pytest.mark.parametrize("command", [name for name, rest in TYPED.items() if rest is not None])
def test_the_output_is_the_json(command, home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    cli([*command.split(), *TYPED[command].split(), "--json", "-"], standalone_mode=False)
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found
    assert isinstance(found, dict | list)
    assert err.strip()  # what a person reads


def test_it_is_what_the_function_returns(home, monkeypatch, capsys):
    monkeypatch.chdir(home)
    for words, expected in (
        (["compare", "run0", "run1"], commands.compare(["run0", "run1"])),
        (["eval", "run0"], commands.eval("run0")),
        (["search", "a.index", "photos/test"], commands.search("a.index", ["photos/test"])),
        (["index", "a.index"], commands.index("a.index")),
        (["methods"], commands.methods()),
        (["datasets"], commands.datasets()),
        (["reproduce"], commands.reproduce()),
    ):
        for file in ("-", "result.json"):
            cli([*words, "--json", file, *["--overwrite"][: file != "-"]], standalone_mode=False)
        assert json.loads((home / "result.json").read_text()) == json.loads(json.dumps(expected))
        assert capsys.readouterr().out.startswith(json.dumps(expected, indent=2) + "\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("embed run0 photos -o a.npz --json a.npz", "given to --json and for something else"),
        ("report run0 -o b.html --json run0/run.json --overwrite", "is read and would be over"),
        ("discover run0 photos -o c --json photos.txt --overwrite", "photos.txt holds no JSON"),
        ("eval run0 --json photos.txt --overwrite", "photos.txt holds no JSON"),
        ("eval run0 --protocol all,recal", "there is no protocol 'recal'"),
        ("compare run0 run1 run0", "run0 is the same run as run0: give each run once"),
        ("reproduce flat", "no row is of 'flat': rows are of "),
        ("methods --json there.json", "there.json exists: give another --json, or --overwrite"),
        ("methods --json no/there.json", "no is no folder: make it, or give another --json"),
    ],
)
def test_what_it_does_not_overwrite(words, message, home, monkeypatch):
    monkeypatch.chdir(home)
    (home / "photos.txt").write_text("path,coarse\n")
    (home / "there.json").write_text("{}\n")
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=message):
        cli(words.split(), standalone_mode=False)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


def test_other_data_of_the_same_name_do_not_take_the_place_of_the_runs_own(home):
    commands.eval(home / "run1")
    own = commands.compare([home / "run1"])
    write_tree(home / "other" / "photos", glyphs.make(train=24, test=40))
    commands.eval(home / "run1", data=home / "other" / "photos")
    assert commands.compare([home / "run1"]) == own
    noted = runs.read(home / "run1")["evaluations"]
    assert [*noted] == ["photos", str(home / "other" / "photos")]


def test_exit_codes(home):
    """The table of docs/scripts.md; those of signals are shown in test_cli.py."""
    torn = home / "torn" / "a" / "x.jpg"
    torn.parent.mkdir(parents=True)
    torn.write_text("no picture")
    for words, code in (
        (("methods",), 0),
        (("compare", "run0", "run1", "--json", "-"), 0),
        (("data", "check", "torn"), 1),
        (("compare", "nowhere"), 2),
        (("compare",), 2),
        (("nope",), 2),
    ):
        done = typed(*words, cwd=home)
        assert done.returncode == code, (words, done.stdout, done.stderr)
        assert bool(done.stdout) == (code < 2)
        assert bool(done.stderr) == (code == 2 or "--json" in words)
