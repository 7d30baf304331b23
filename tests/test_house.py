"""The house: what is where, how large a part may be, and that docs/design.md is its map."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import maskcon

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "maskcon"
MODULES = sorted(SOURCE.rglob("*.py"))
LONGEST_FUNCTION, LONGEST_CLASS = 60, 300  # lines, without their docstrings
REASON = re.compile(r"# longer than a screen for the sake of \w+")


def definitions():
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                doc = ast.get_docstring(node, clean=False)
                length = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 1 if doc else 0)
                head = "\n".join(lines[node.lineno - 1 : node.body[0].lineno])
                yield f"{path.relative_to(SOURCE)}:{node.name}", node, length, head


def test_the_root_has_what_everybody_knows():
    loose = {path.name for path in SOURCE.glob("*.py")}
    expected = {"__init__", "__main__", "config", "errors", "encoder", "estimator"}
    assert loose == {f"{name}.py" for name in expected}


def test_functions_and_classes_fit_a_screen():
    for name, node, length, head in definitions():
        longest = LONGEST_CLASS if isinstance(node, ast.ClassDef) else LONGEST_FUNCTION
        assert length <= longest or REASON.search(head), f"{name} has {length} lines"


def test_the_public_surface():
    from maskcon.methods import METHODS, Output, Step

    assert METHODS["maskcon"]
    assert Step(query=Output()).query.z is None
    assert maskcon.Encoder.load
    assert maskcon.CoarseToFine
    assert maskcon.commands.train


@pytest.mark.parametrize("module", ["maskcon.methods", "maskcon.cli", "maskcon.commands"])
def test_what_help_needs_has_no_torch(module):
    code = f"import {module}, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_the_map_is_true():
    """Every module is named in docs/design.md under its room, and nothing that is not there."""
    text = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    block = text.split("<!-- map: begin -->")[1].split("<!-- map: end -->")[0]
    named, room = set(), ""
    for line in block.splitlines():
        found = re.match(r"^( *)([a-z0-9_]+)(/?)  ", line + "  ")
        if found is None or len(found[1]) > 10:  # a second line of words
            continue
        indent, name, is_room = found.groups()
        if len(indent) == 4:
            room = name if is_room else ""
            named |= set() if is_room else {name}
        elif is_room:
            room = f"{room.split('/')[0]}/{name}"
        else:
            inner = len(indent) > 8
            named.add(f"{room if inner else room.split('/')[0]}/{name}")
    there = {
        str(path.relative_to(SOURCE).with_suffix(""))
        for path in MODULES
        if not path.name.startswith("__")
    }
    assert named == there


def test_three_clicks_from_the_readme():
    """To the loop, the loss, the bank, a reader and an evaluation: each is linked."""
    linked = set()
    for page in ("README.md", "docs/design.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        linked |= {Path(link).name for link in re.findall(r"\]\([^)]*?([\w/.]+\.py)\)", text)}
    assert {"loop.py", "step.py", "family.py", "bank.py", "cifar.py", "protocols.py"} <= linked
