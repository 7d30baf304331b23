"""Fuzz a reader with atheris: coverage of this package and of the readers it uses guides it.

    pip install -e '.[fuzz]'
    python -m tests.fuzz.fuzz READER --seconds 300

Inputs that are findings lie in findings/READER afterwards. `--list` lists the readers.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=["maskcon", "tomllib", "tarfile", "zipfile", "PIL", "numpy.lib", "scipy.io", "csv"]
):
    from tests.fuzz.readers import CORPUS, READERS, attempt, prepared

MEGABYTES = 4096  # of memory; more is a finding
SECONDS = 20  # for one input; more is a finding


def main() -> None:
    """Fuzz for a time; libFuzzer prints what it did and ends the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reader", nargs="?", choices=list(READERS))
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list or given.reader is None:
        print("\n".join(READERS))
        return
    name = given.reader
    folder = prepared(name, Path(tempfile.mkdtemp(prefix="fuzz-")))
    grown, findings = Path(tempfile.mkdtemp(prefix="corpus-")), Path("findings") / name
    findings.mkdir(parents=True, exist_ok=True)
    (grown / "seed").write_bytes(READERS[name].seed())
    atheris.Setup(
        [
            sys.argv[0],
            str(grown),
            *([str(CORPUS / name)] if (CORPUS / name).is_dir() else []),
            f"-max_total_time={given.seconds}",
            f"-artifact_prefix={findings}/",
            f"-rss_limit_mb={MEGABYTES}",
            f"-timeout={SECONDS}",
            "-max_len=65536",
            "-print_final_stats=1",
        ],
        lambda content: attempt(name, content, folder) and None,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
