"""How many pictures each command of README's walk decodes, and how many go through the network.

python benchmarks/once.py [DATA]    # grocery_small by default; a table in Markdown
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskcon import commands
from maskcon.data.pictures import Files
from maskcon.vectors.encode import _Inference

BACKBONE = {"backbone": "efficientnet-lite0", "init": "imagenet", "batch_size": 0}


def counted(owner: type, name: str, file: Path, many: Callable[..., int]) -> None:
    """Let a method count what it is given, in this process and those that it forks."""
    before = getattr(owner, name)

    def method(self: Any, *given: Any, **named: Any) -> Any:
        with file.open("ab", buffering=0) as counts:
            counts.write(b"." * many(*given))
        return before(self, *given, **named)

    setattr(owner, name, method)


def size(file: Path) -> int:
    """What was counted."""
    return file.stat().st_size if file.exists() else 0


def main() -> None:
    """Walk, and print."""
    data = sys.argv[1] if len(sys.argv) > 1 else "grocery_small"
    with tempfile.TemporaryDirectory() as scratch:
        decoded, embedded = Path(scratch) / "decoded", Path(scratch) / "embedded"
        counted(Files, "decode", decoded, lambda row, *_: 1)
        counted(_Inference, "__call__", embedded, lambda x: len(x) if x.ndim == 4 else 0)
        os.environ["MASKCON_VECTORS"] = str(Path(scratch) / "vectors")
        os.environ["XDG_CACHE_HOME"] = scratch
        run, out = Path(scratch) / "run", Path(scratch)
        steps: dict[str, Callable[[], Any]] = {
            "data check": lambda: commands.check(data),
            "train --recipe frozen": lambda: commands.train(
                data=data, out=run, recipe="frozen", **BACKBONE
            ),
            "eval": lambda: commands.eval(run, data=data),
            "discover": lambda: commands.discover(run, data, out=out / "groups"),
            "index": lambda: commands.index(run, data, out=out / "all.index"),
            "embed": lambda: commands.embed(run, data, out=out / "all.parquet"),
            "report": lambda: commands.report(run),
            "export --to onnx": lambda: commands.export(run, to="onnx", out=out / "x.onnx"),
            "discover, again": lambda: commands.discover(
                run, data, out=out / "groups", overwrite=True
            ),
        }
        print("| command | decoded | through the network |\n|---|---|---|")
        for name, step in steps.items():
            before = size(decoded), size(embedded)
            step()
            counts = size(decoded) - before[0], size(embedded) - before[1]
            print(f"| `{name}` | {counts[0]:,} | {counts[1]:,} |", flush=True)


if __name__ == "__main__":
    main()
