#!/usr/bin/env python3
"""Constraints for pip: of what pyproject.toml depends on, the lowest versions that it allows.

Tools of development are not part of the promise.
"""

import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
TOOLS = ("dev", "docs", "fuzz")
extras = project["optional-dependencies"]
lists = [project["dependencies"], *(extras[name] for name in extras if name not in TOOLS)]
for needed in sorted({line for some in lists for line in some}):
    print(needed.replace(">=", "=="))
