"""The commands as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
from ast import literal_eval
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import maskcon
from maskcon import commands
from maskcon.cli import cli
from maskcon.cli.options import panels, train_options
from maskcon.commands import COMMANDS
from maskcon.commands.sources import resolved
from maskcon.config import NEEDS, OPTION_GROUPS, Config, refuse_idle, resolve
from maskcon.data.sets import glyphs
from maskcon.errors import InputError
from maskcon.methods import METHODS
from maskcon.methods.method import Method
from tests import command_worker, kills_worker
from tests.conftest import MASKCON, begun, typed, write_tree


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> tuple[str, ...]:
    """Options of a run of seconds, on a folder tree of a few glyphs."""
    folder = tmp_path_factory.mktemp("glyphs")
    write_tree(folder, glyphs.make(train=200, test=60))
    return (
        *("--data", str(folder), "--backbone", "resnet10w16", "--image-size", "8"),
        *("--batch-size", "8", "--bank-size", "64", "--epochs", "2", "--warmup-epochs", "1"),
        *("--precision", "fp32"),
    )


def refused(*words: str | Path, cwd: Path | None = None) -> str:
    """What a command that must fail says; one line, no traceback."""
    done = typed(*words, cwd=cwd)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["eval"], ["methods"], ["datasets"]])
def test_help_does_not_wait_for_torch(command):
    code = (
        "import sys; from maskcon.cli import main\n"
        f"sys.argv = ['maskcon', *{command!r}, '--help']\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, 'matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[:2] == ["Usage:", "maskcon"]
    assert done.stdout.splitlines()[-1] == "False False"


def test_every_option_has_a_flag_in_a_group():
    flags = {name for param in cli.commands["train"].params for name in param.opts}
    shown = [flag for panel in panels() for flag in panel["options"]]
    assert len(shown) == len(set(shown))
    assert set(shown) == flags
    for name in [*Config.__dataclass_fields__, *METHODS["maskcon"].hyper_parameters]:
        assert name == "hyper" or f"--{name.replace('_', '-')}" in flags
    assert len(panels()[0]["options"]) == 10


def test_help_of_train_is_in_groups():
    text = typed("train", "--help").stdout
    places = [text.index(f"─ {title} ─") for title in OPTION_GROUPS.values()]
    assert places == sorted(places)
    assert text.index("─ Method ─") < text.index("│ --tau ") < text.index("─ Network ─")
    help_of_tau = next(p.help for p in cli.commands["train"].params if "--tau" in p.opts)
    assert help_of_tau == "of maskcon, ascl [0.05]; ressl [0.04]"


def test_commands_are_those_of_the_table():
    listed = [name for names in COMMANDS.values() for name in names]
    assert sorted(cli.commands) == sorted(listed)
    assert [c for c in listed if c not in commands.__all__] == ["data", "benchmark"]
    assert all(getattr(commands, name).__name__ == name for name in commands.__all__)
    text = typed("--help").stdout
    places = [text.index(f"─ {title} ─") for title in COMMANDS]
    assert places == sorted(places)


def test_version_methods_and_datasets():
    assert typed("--version").stdout == f"maskcon, version {maskcon.__version__}\n"
    methods = CliRunner().invoke(cli, ["methods"]).output
    assert all(name in methods for name in METHODS)
    assert "--w 1  --tau 0.05  --t 0.1" in methods
    assert "cifar100" in CliRunner().invoke(cli, ["datasets"]).output


def test_train_eval_resume(tmp_path, quick):
    # the installed program itself; other tests type in processes that have torch already
    words = [MASKCON, "train", "--out", "x", "--method", "grafit", "--w", "0.5", *quick]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("epoch 2/2: recall@1 ") for line in lines)
    assert [line.split()[0] for line in lines[-4:]] == ["recall@1", "last", "best", "raw"]
    run = json.loads((tmp_path / "x" / "run.json").read_text())
    assert run["config"]["w"] == 0.5
    assert run["command"].startswith("maskcon train --out x --method grafit")

    done = typed("eval", "x", "--json", "r.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "r.json").read_text())
    assert results["recall@1"] == run["results"]["recall@1"]
    assert f"{results['recall@1']:.2%}" in done.stdout

    assert "x exists: give another --out" in refused("train", "--out", "x", cwd=tmp_path)
    done = typed("train", "--out", "x", "--resume", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed after step 50 of 50" in done.stdout


def test_recipes(tmp_path):
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('method = "grafit"\nw = 0.3\nepoch = 3\n')
    said = refused("train", "--out", tmp_path / "x", "--recipe", recipe)
    assert "unknown option 'epoch' (did you mean epochs" in said
    recipe.write_text('method = "grafit"\ntau = 0.3\n')
    said = refused("train", "--out", tmp_path / "x", "--recipe", recipe)
    assert "method grafit does not take tau: it takes w, t" in said
    recipe.write_text('epochs = "many"\n')
    said = refused("train", "--out", tmp_path / "x", "--recipe", recipe)
    assert "epochs is 'many': expected int" in said
    recipe.write_text("epochs = \n")
    assert "cannot be read as a TOML" in refused(
        "train", "--out", tmp_path / "x", "--recipe", recipe
    )
    assert "there is no recipe file" in refused("train", "--out", "x", "--recipe", "none.toml")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "selfcon", "--tau", "0.1"], "method selfcon does not take tau: it takes t"),
        (["--method", "supce", "--w", "1"], "it takes no hyper-parameters"),
        (["--method", "maskcom"], "there is no method 'maskcom' (did you mean maskcon"),
        (["--epochs", "0"], "epochs is 0: expected a value above 0"),
        (["--epochs", "3", "--warmup-epochs", "5"], "warmup_epochs is 5.0 of 3 epochs"),
        (["--tau", "-1"], "tau is -1.0: expected a temperature above 0"),
        (["--data", "nowhere"], "'nowhere' is no data set that maskcon knows"),
        (["--label", "middle"], "'middle' is not one of 'coarse', 'fine'"),
        (["--resume"], "x is no run folder: it has no run.json"),
        (["--frobnicate"], "No such option"),
    ],
)
def test_nonsense(words, message, tmp_path, quick):
    data = quick[:2]  # another set takes seconds to make before a temperature is looked at
    assert message in refused("train", "--out", "x", *data, *words, cwd=tmp_path)
    assert not (tmp_path / "x").exists()


def test_every_option_says_its_group_and_what_it_needs():
    needed = set()
    for name, field in Config.__dataclass_fields__.items():
        if name != "hyper":
            assert field.metadata["group"] in OPTION_GROUPS, name
            assert set(field.metadata["needs"]) <= set(NEEDS), name
            needed |= set(field.metadata["needs"])
    assert needed == set(NEEDS)


IDLE = [  # options, and what is said of the last one
    ("method=supce ema=0.1", "supce has no key encoder"),
    ("method=wcl ema=0.1", "wcl has no key encoder"),
    ("method=supce bank_size=17", "supce has no bank"),
    ("method=wcl bank_size=17", "wcl has no bank"),
    ("method=supce key_view=weak", "supce has no key: it looks at one view"),
    ("method=supce projection=8", "supce has no projection"),
    ("method=supce projection_hidden=8", "supce has no projection"),
    ("method=selfcon label=fine", "selfcon reads no labels"),
    ("mixup_alpha=1.0", "no images are mixed"),
    ("feature_noise=9.0", "no head is trained on vectors"),
    ("feature_dropout=0.1", "no head is trained on vectors"),
    ("components=7", "no head is trained on vectors"),
    ("head_hidden=7", "no head is trained on vectors"),
    ("head_scale=7.0", "no head is trained on vectors"),
    ("head_belief=0.5", "no head is trained on vectors"),
    ("features=v.npz head_belief=0.5", "maskcon trains no linear classifier of the labels"),
    ("layers=5", "no vectors of a frozen backbone are computed"),
    ("mirrored=yes", "no vectors of a frozen backbone are computed"),
    ("frozen_views=2", "no vectors of a frozen backbone are computed"),
    ("features=v.npz layers=1", "no vectors of a frozen backbone are computed"),
    ("features=v.npz backbone=resnet50", "--features has the vectors"),
    ("features=v.npz data=glyphs", "--features has the vectors"),
    ("features=v.npz image_size=32", "--features has the vectors"),
    ("features=v.npz flip=no", "--features has the vectors"),
    ("init=. backbone=resnet50", "--init is a run"),
    ("features=v.npz init=. head_scale=9.0", "--init is a run"),
    ("init=. stem=small", "--init is a run"),
    ("data_dir=x", "glyphs is no set that lies in a folder"),
    ("data=. method=supce download=yes", "is no set that lies in a folder"),
    ("fine_column=x", "glyphs has no columns"),
    ("data=cifar100 image_column=x", "cifar100 has no columns"),
]
USEFUL = [
    "method=ancor ema=0.1 bank_size=17 key_view=weak projection=8 projection_hidden=9",
    "method=wcl_crops bank_size=17 key_view=weak",
    "method=supce label=fine query_view=weak",
    "method=selfcon ce_weight=0.1 label=fine",
    "mixup=0.5 mixup_alpha=1.0",
    "method=sane mixup_alpha=1.0",
    "freeze=yes init=imagenet layers=1 frozen_views=2 flip=no mirrored=yes head_scale=1.0",
    "features=v.npz components=7 head_hidden=8",
    "features=v.npz feature_noise=0.1 init=.",
    "features=v.npz ce_weight=0.3 head_belief=0.5",
    "features=v.npz method=coins head_belief=0.5",
    "data=cifar100 data_dir=x download=yes",
    "data=. fine_column=x",
    "method=supce download=no ema=none freeze=no",
]


def test_a_hyper_parameter_may_be_a_flag_or_a_word(monkeypatch):
    hyper = {"sharp": True, "kind": "soft", "mu": "0:1:cosine"}
    monkeypatch.setitem(METHODS, "own", Method("maskcon.methods.family:supce", hyper))
    assert resolve({"method": "own"}).hyper == hyper
    given = {"sharp": False, "kind": "hard", "mu": 0.5}
    assert resolve({"method": "own", **given}).hyper == given
    for name, value, message in (
        ("sharp", "yes", "sharp is 'yes': expected bool"),
        ("kind", 3, "kind is 3: expected str"),
        ("mu", "soft", "mu is 'soft': expected a number, or a schedule"),
    ):
        with pytest.raises(InputError, match=message):
            resolve({"method": "own", name: value})
    command = train_options(click.command()(lambda **options: print(options["sharp"])))
    assert CliRunner().invoke(command, ["--no-sharp"]).output == "False\n"
    assert CliRunner().invoke(command, []).output == "None\n"


def options_of(text: str) -> dict:
    """The options of one line of a table above."""
    words = {"yes": True, "no": False, "none": None}

    def value(word: str) -> Any:
        return words[word] if word in words else literal_eval(word) if word[0].isdigit() else word

    return {name: value(word) for name, word in (part.split("=") for part in text.split())}


@pytest.mark.parametrize(("text", "why"), IDLE)
def test_an_option_without_effect_is_refused(text, why, tmp_path):
    given = options_of(text)
    flag = f"--{[*given][-1].replace('_', '-')} has no effect: "
    with pytest.raises(InputError) as error:
        commands.train(out=tmp_path / "x", **given)
    assert str(error.value).startswith(flag)
    assert why in str(error.value)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", USEFUL)
def test_an_option_with_an_effect_is_not_refused(text):
    given = options_of(text)
    config = resolved({k: v for k, v in given.items() if v is not None}, None)
    refuse_idle(given, config)


def test_the_options_of_a_recipe_are_not_refused(tmp_path):
    said = refused("train", "--out", tmp_path / "x", *["--method", "supce", "--ema", "0.1"])
    assert "--ema has no effect: supce has no key encoder; leave it out. It belongs to" in said
    words = ["--recipe", "cifar100_paper", "--method", "supce", "--data-dir", tmp_path]
    assert "cifar100 is not in" in refused("train", "--out", tmp_path / "x", *words)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (signal.SIGINT, 130, "stopped by SIGINT; a checkpoint is written; go on with --resume"),
        (signal.SIGHUP, 129, "stopped by SIGHUP; a checkpoint is written; go on with --resume"),
        (signal.SIGTERM, 143, "stopped by SIGTERM; a checkpoint is written; go on with --resume"),
    ],
)
def test_interrupt_and_resume(number, status, message, tmp_path, quick):
    """Ctrl-C, or a cluster's SIGTERM: a checkpoint; the resumed run ends like the unbroken one."""
    words = ["train", *quick, "--log-every", "10"]
    log = tmp_path / "log"
    running = begun(command_worker.command, [*words, "--out", "parts"], tmp_path, log)
    metrics = tmp_path / "parts" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(running.pid, number)
    running.join()
    assert running.exitcode == status, log.read_text()
    assert message in log.read_text()
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["status"] == "interrupted"
    assert typed("train", "--out", "parts", "--resume", cwd=tmp_path).returncode == 0
    assert typed(*words, "--out", "whole", cwd=tmp_path).returncode == 0
    for file in ("metrics.jsonl", "encoder.safetensors"):
        whole, parts = (tmp_path / name / file for name in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_a_full_disk(tmp_path, quick):
    """A limit on the size of files is a full disk for the command."""
    home = tmp_path / "home"
    home.mkdir()
    words = ["train", "--out", "x", *quick]
    process = begun(kills_worker.typed, words, home, 1000 * 1024, "small")
    process.join()
    assert process.exitcode == 1
    said = (tmp_path / "home.log").read_text()
    assert "could not be written" in said
    assert "Make room, then go on with --resume" in said
    assert "Traceback" not in said
    assert (home / "x" / "run.json").exists()
