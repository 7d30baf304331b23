"""What the README says a person can do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from maskcon.config import recipes

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
DOCS = [path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))]
TEXT = README + "".join(DOCS)
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_there_are_blocks():
    assert len(BLOCKS) == 4


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
    for page in (README, *DOCS):
        links = re.findall(r"\]\(([^)#]+)\)", page)
        local = [link for link in links if "://" not in link]
        home = ROOT if page is README else ROOT / "docs"
        assert [link for link in local if not (home / link).exists()] == []
    assert set(re.findall(r"--recipe (\w+)", README)) <= set(recipes())


def test_flags_in_the_text_exist():
    from maskcon.cli import cli

    known = {
        name
        for group in (cli, *(c for c in cli.commands.values() if hasattr(c, "commands")))
        for command in group.commands.values()
        for option in command.params
        for name in [*option.opts, *option.secondary_opts]
    }
    assert set(re.findall(r"--[a-z][a-z-]*", TEXT)) <= known | {"--help"}


def test_the_tables_of_results_come_from_the_ledger():
    script = ROOT / "benchmarks" / "ledger.py"
    subprocess.run([sys.executable, script, "tables", "--check"], check=True)


def test_the_tables_of_speeds_come_from_the_results():
    script = ROOT / "benchmarks" / "speeds.py"
    subprocess.run([sys.executable, script, "--check"], check=True)


def test_commands_of_the_package_are_real():
    from maskcon.cli import cli

    code = re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) + re.findall(r"`([^`\n]+)`", TEXT)
    words = [word for part in code for word in re.findall(r"(?:^|[ /])maskcon ([a-z]+)", part)]
    assert words
    assert set(words) <= set(cli.commands)
