"""What a process does in tests/train/test_crash.py: train, and die where it is told to."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any, Literal

import torch

from maskcon import commands
from maskcon.commands import _train as training

End = Literal["killed", "torn", "power cut"]
State = dict[str, bytes]  # the files of a folder
SETTINGS: dict[str, Any] = {
    "backbone": "resnet10w16",
    "image_size": 8,
    "epochs": 2,
    "batch_size": 16,
    "bank_size": 40,
    "log_every": 2,
    "eval_every": 1,
    "test_share": 0.4,
    "precision": "fp32",
}


class Disk:
    """Counts what makes files last, and knows what of a folder a loss of power would leave.

    Of a file that is what it held when it was last flushed; of the names in the folder, those
    that were there when the folder was. The process ends at a given call.

    Args:
        folder: that is looked at.
        last: number of the call at which the process ends; -1 is none.
        end: how. "killed": everything that was written stays. "torn": of the file that was to be
            flushed, half stays, and what was flushed before. "power cut": only what was flushed
            stays.
        left: a folder for what every end at every call would leave, each state once.
    """

    def __init__(self, folder: Path, last: int, end: End, left: Path | None = None):
        self.folder, self.last, self.end, self.left = folder, last, end, left
        self.seen: set[int] = set()
        self.calls = 0
        self.contents: dict[int, bytes] = {}  # by inode
        self.names: dict[str, int] = {}
        self.fsync, self.replace = os.fsync, os.replace
        os.fsync, os.replace = self.flush, self.rename  # type: ignore[assignment]

    def flush(self, number: int) -> None:
        """In place of os.fsync."""
        path = Path(f"/proc/self/fd/{number}").readlink()
        self._call(path)
        self.fsync(number)
        if path.is_dir():
            if path == self.folder:
                # but for locks: their inodes are used again, for files of other content
                found = [p for p in path.iterdir() if p.is_file() and p.suffix != ".lock"]
                self.names = {p.name: p.stat().st_ino for p in found}
        elif path.parent == self.folder:
            self.contents[path.stat().st_ino] = path.read_bytes()

    def rename(self, source: Any, target: Any) -> None:
        """In place of os.replace."""
        self._call(None)
        self.replace(source, target)

    def _call(self, flushed: Path | None) -> None:
        if self.calls == self.last:
            if self.end != "killed":
                state = self._states(flushed)[self.end]
                shutil.rmtree(self.folder)
                _write(self.folder, state)
            os.kill(os.getpid(), signal.SIGKILL)
        if self.left is not None and self.folder.exists():
            for end, state in self._states(flushed).items():
                known = hash(frozenset(state.items()))
                if known not in self.seen:
                    self.seen.add(known)
                    _write(self.left / f"{self.calls:03d} {end}", state)
        self.calls += 1

    def _states(self, flushed: Path | None) -> dict[End, State]:
        """What each end would leave here."""
        there = {p.name: p.read_bytes() for p in self.folder.iterdir() if p.is_file()}
        states: dict[End, State] = {"killed": there, "torn": there}
        if flushed is not None and flushed.is_file():
            before = len(self.contents.get(flushed.stat().st_ino, b""))  # is on the disk already
            whole = flushed.read_bytes()
            states["torn"] = {**there, flushed.name: whole[: max(before, len(whole) // 2)]}
        flushed_ones = {name: self.contents.get(i, b"") for name, i in self.names.items()}
        return {**states, "power cut": flushed_ones}


def _write(folder: Path, state: State) -> None:
    folder.mkdir(parents=True)
    for name, content in state.items():
        (folder / name).write_bytes(content)


def train(
    data: Path,
    out: Path,
    last: int,
    end: End,
    resume: bool,
    calls: Any = None,
    left: Path | None = None,
) -> None:
    """Train in a folder, perhaps to be killed; tell how often the disk was called."""
    torch.set_num_threads(1)
    training.card.write = lambda *args: None  # type: ignore[assignment]
    disk = Disk(out, last, end, left)
    commands.train(out=out, data=data, resume=resume, **SETTINGS)
    if calls is not None:
        calls.value = disk.calls
