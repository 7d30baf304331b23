"""Keep the ledger of measured runs, and the tables of RESULTS.md that come from it.

python benchmarks/ledger.py add RUN...     # append finished run folders to ledger.jsonl
python benchmarks/ledger.py tables         # write their tables into RESULTS.md
python benchmarks/ledger.py tables --check # fail if RESULTS.md differs from the ledger
"""

import argparse
import sys
from pathlib import Path

from maskcon.runs import folder as runs
from maskcon.runs import ledger

HERE = Path(__file__).parent
LEDGER = HERE / "ledger.jsonl"
RESULTS = HERE.parent / "RESULTS.md"
BEGIN, END = "<!-- ledger: begin -->", "<!-- ledger: end -->"


def write_tables(check: bool) -> None:
    """Put the tables between the markers of RESULTS.md; or see that they are there."""
    text = RESULTS.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    new = f"{before}{BEGIN}\n{ledger.tables(LEDGER)}\n{END}{after}"
    if check and new != text:
        sys.exit("RESULTS.md differs from the ledger: run `python benchmarks/ledger.py tables`")
    if not check:
        RESULTS.write_text(new)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("add").add_argument("runs", nargs="+", type=Path)
    commands.add_parser("tables").add_argument("--check", action="store_true")
    given = parser.parse_args()
    if given.command == "add":
        ledger.add(LEDGER, [runs.read(folder) for folder in given.runs])
    else:
        write_tables(given.check)
