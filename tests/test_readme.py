"""What the README says a person can do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) == 3


@pytest.mark.parametrize("block", [pytest.param(b, id=b.split("\n")[0]) for b in BLOCKS[1:]])
def test_python_blocks_run(block):
    exec(block, {})


@pytest.mark.heavy
def test_the_block_that_trains_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKS[0]], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "glyphs" / "README.md").exists()


def test_files_that_are_linked_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README) + re.findall(r"--recipe (\S+)", README)
    local = [link for link in links if "://" not in link]
    assert len(local) > 4
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_flags_in_the_text_exist():
    from maskcon.cli import cli

    known = {
        name
        for command in cli.commands.values()
        for option in command.params
        for name in [*option.opts, *option.secondary_opts]
    }
    assert set(re.findall(r"--[a-z][a-z-]*", README)) <= known


def test_the_tables_of_results_come_from_the_ledger():
    script = ROOT / "benchmarks" / "ledger.py"
    subprocess.run([sys.executable, script, "tables", "--check"], check=True)


def test_commands_of_the_package_are_real():
    from maskcon.cli import cli

    code = re.findall(r"```sh\n(.*?)```", README, re.DOTALL) + re.findall(r"`([^`\n]+)`", README)
    words = [word for part in code for word in re.findall(r"(?:^|[ /])maskcon ([a-z]+)", part)]
    assert words
    assert set(words) <= set(cli.commands)
