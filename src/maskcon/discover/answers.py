"""Answers of a person as a table with columns left, right, answer."""

from collections.abc import Sequence
from pathlib import Path

from maskcon.discover import spreadsheet
from maskcon.discover.known import Finder
from maskcon.discover.questions import VERDICTS, Answer
from maskcon.errors import InputError
from maskcon.runtime import files

HEAD = ("left", "right", "answer")
COLUMNS = {"left": ("left", "a"), "right": ("right", "b"), "answer": ("answer", "verdict")}
WAIT = 10.0  # seconds for another process that writes to the table


def read(
    path: Path, names: Sequence[str], coarse: Sequence[int]
) -> tuple[list[Answer], tuple[str, ...]]:
    """Read a table of answers; of several on one pair the last counts.

    Args:
        path: of the table, .csv or .tsv.
        names: what the pictures are called [N].
        coarse: label of each [N].

    Returns:
        the answers, and the paths that are no picture of the data, or that several could be.

    Raises:
        InputError: it cannot be read, or a row is no answer about two pictures of one class.
    """
    finder, found, unmatched = Finder(names), [], []
    for number, row in enumerate(spreadsheet.read(path, COLUMNS), 1):
        verdict = next((v for v in VERDICTS if v == row["answer"].lower()), None)
        if verdict is None:
            raise InputError(
                f"row {number} of {path} has the answer {row['answer']!r}: expected one of "
                f"{', '.join(VERDICTS)}"
            )
        places = [finder.find(row[side], path.parent) for side in ("left", "right")]
        a, b = places
        if a is None or b is None:
            unmatched += [row[s] for s, p in zip(HEAD, places, strict=False) if p is None]
        elif a == b or coarse[a] != coarse[b]:
            raise InputError(
                f"row {number} of {path} compares {row['left']} with {row['right']}: give two "
                "pictures of one coarse class"
            )
        else:
            found.append(Answer(a, b, verdict))
    return found, tuple(unmatched)


def append(path: Path, left: str, right: str, verdict: str) -> None:
    """Write one more answer, into the table's own columns; it is whole before and after.

    Raises:
        InputError: another process has it, or it is no table of answers.
        TrainingError: it cannot be written.
    """
    with files.locked(path, f"the answers {path}", wait=WAIT):
        row = (left, right, verdict)
        if path.exists():
            content = spreadsheet.longer(path, COLUMNS, dict(zip(HEAD, row, strict=True)))
        else:
            content = spreadsheet.write(HEAD, [row])
        files.write(path, content)


def take_back(path: Path) -> None:
    """Take the last answer out of the table."""
    with files.locked(path, f"the answers {path}", wait=WAIT):
        files.write(path, spreadsheet.shorter(path, COLUMNS))
