"""The commands as a user types them."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import maskcon
from maskcon.config import Config
from maskcon.data.sets import glyphs
from maskcon.methods import METHODS
from tests.conftest import MASKCON, typed, write_tree


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
    assert done.stdout.splitlines()[0].startswith("Usage: maskcon")
    assert done.stdout.splitlines()[-1] == "False False"


def test_every_option_has_a_flag():
    text = typed("train", "--help").stdout
    for name in [*Config.__dataclass_fields__, *METHODS["maskcon"].hyper_parameters]:
        if name != "hyper":
            assert f"--{name.replace('_', '-')} " in text
    assert "of maskcon, ascl [0.05]; ressl [0.04]" in " ".join(text.split())


def test_version_methods_and_datasets():
    assert typed("--version").stdout == f"maskcon, version {maskcon.__version__}\n"
    methods = typed("methods").stdout
    assert all(name in methods for name in METHODS)
    assert "--w 1  --tau 0.05  --t 0.1" in methods
    assert "cifar100" in typed("datasets").stdout


def test_train_eval_resume(tmp_path, quick):
    done = typed("train", "--out", "x", "--method", "grafit", "--w", "0.5", *quick, cwd=tmp_path)
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


@pytest.mark.heavy
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
def test_nonsense(words, message, tmp_path):
    assert message in refused("train", "--out", "x", *words, cwd=tmp_path)
    assert not (tmp_path / "x").exists()


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("number", "status", "message"),
    [
        (signal.SIGINT, 130, "stopped by SIGINT; a checkpoint is written; go on with --resume"),
        (signal.SIGTERM, 143, "stopped by SIGTERM; a checkpoint is written; go on with --resume"),
    ],
)
def test_interrupt_and_resume(number, status, message, tmp_path, quick):
    """Ctrl-C, or a cluster's SIGTERM: a checkpoint; the resumed run ends like the unbroken one."""
    words = ["train", *quick, "--log-every", "10"]
    running = subprocess.Popen(
        [MASKCON, *words, "--out", "parts"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    metrics = tmp_path / "parts" / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == status, said
    assert message in said
    assert json.loads((tmp_path / "parts" / "run.json").read_text())["status"] == "interrupted"
    assert typed("train", "--out", "parts", "--resume", cwd=tmp_path).returncode == 0
    assert typed(*words, "--out", "whole", cwd=tmp_path).returncode == 0
    for file in ("metrics.jsonl", "encoder.safetensors"):
        whole, parts = (tmp_path / name / file for name in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_a_full_disk(tmp_path, quick):
    """A limit on the size of files, set by the shell, is a full disk for the command."""
    line = f"trap '' XFSZ; ulimit -f 1000; exec {MASKCON} train --out x {' '.join(quick)}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 1
    assert "could not be written" in done.stderr
    assert "Make room, then go on with --resume" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "x" / "run.json").exists()
