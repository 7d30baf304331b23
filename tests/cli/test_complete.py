"""What a shell completes."""

import os
import shutil
import subprocess
import sys

import pytest

from maskcon.cli import complete
from maskcon.config import recipes
from maskcon.data import DATA_SETS
from maskcon.eval import protocols
from maskcon.methods import METHODS
from maskcon.model.own import OWN
from maskcon.model.recommended import RECOMMENDED
from maskcon.model.resnet import RESNETS
from maskcon.runs.trackers import MADE
from tests.cli.test_startup import HEAVY
from tests.conftest import MASKCON


def completed(line: str) -> list[tuple[str, str]]:
    """What bash is told of a line whose last word is being typed: (kind, text)."""
    code = (
        (
            "import sys; from maskcon.cli import main\n"
            "try: main()\n"
            f"finally: print(*{sorted(HEAVY)!r} & sys.modules.keys(), file=sys.stderr)"
        )
        .replace("*[", "*{")
        .replace("] &", "} &")
    )
    words = line.split(" ")
    environment = {
        **os.environ,
        "_MASKCON_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert not done.stderr.split()  # nothing heavy was imported
    return [tuple(found.split(",", 1)) for found in done.stdout.splitlines()]


def test_names_are_those_that_there_are():
    assert sorted(complete.SETS) == sorted(DATA_SETS)
    assert sorted(complete.OWN_NETWORKS) == sorted([*OWN, *RESNETS])
    assert (*protocols.PROTOCOLS, "all") == complete.PROTOCOLS
    assert sorted(complete.TRACKERS) == sorted(MADE)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("maskcon tr", ["train"]),
        ("maskcon data ", ["check", "pack"]),
        ("maskcon train --data cifar", sorted(n for n in DATA_SETS if n.startswith("cifar"))),
        ("maskcon data check gl", ["glyphs"]),
        ("maskcon train --method wc", [n for n in METHODS if n.startswith("wc")]),
        ("maskcon train --backbone dino", sorted(n for n in RECOMMENDED if n.startswith("dino"))),
        ("maskcon train --recipe cifar100_", [n for n in recipes() if n.startswith("cifar100_")]),
        ("maskcon eval run --protocol knn,l", ["knn,linear"]),
        ("maskcon export run --to sa", ["safetensors"]),
        ("maskcon train --overw", ["--overwrite"]),
    ],
)
def test_what_is_offered(line, expected):
    assert [text for kind, text in completed(line) if kind == "plain"] == expected


def test_paths_too_where_there_may_be_one():
    assert ("file", "gl") in completed("maskcon train --data gl")
    assert completed("maskcon eval runs/") == [("file", "runs/")]


SHELLS = {
    "bash": 'compopt() { :; }; source "$1"; '
    "COMP_WORDS=(maskcon train --data cifar100); COMP_CWORD=3;"
    " _maskcon_completion maskcon; printf '%s\\n' \"${COMPREPLY[@]}\"",
    "zsh": "autoload -U compinit; compinit -u -d $HOME/dump; source $1; print $_comps[maskcon]",
    "fish": "source $argv[1]; complete -C 'maskcon train --data cifar100'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_reads_its_script(shell, tmp_path):
    program = shutil.which(shell)
    script = tmp_path / "script"
    environment = {**os.environ, "HOME": str(tmp_path)}
    environment["PATH"] = f"{MASKCON.parent}{os.pathsep}{environment['PATH']}"
    asked = {**environment, "_MASKCON_COMPLETE": f"{shell}_source"}
    script.write_text(subprocess.run([MASKCON], env=asked, capture_output=True, text=True).stdout)
    assert "maskcon" in script.read_text()
    if program is None:
        pytest.skip(f"needs {shell}")
    words = [program, *(["-c", SHELLS[shell]] if shell == "fish" else ["-c", SHELLS[shell], shell])]
    done = subprocess.run([*words, str(script)], env=environment, capture_output=True, text=True)
    expected = "_maskcon_completion" if shell == "zsh" else "cifar100"
    assert expected in done.stdout.split(), done.stderr
