"""Who else is told of a run while it trains: the events, and that each is told once."""

import re
import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskcon.runtime.progress import Progress


@dataclass(frozen=True)
class Begun:
    """A run that begins, or goes on.

    Attributes:
        folder: of the run.
        id: 16 hexadecimal digits, the same when it is resumed.
        config: its options and hyper-parameters, by name.
        step: after which it goes on; 0 where it is new.
        total_steps: that it will have.
    """

    folder: Path
    id: str
    config: Mapping[str, Any]
    step: int
    total_steps: int


class Callback:
    """What a listener may be told; inherit from it, and write what you need of it.

    Of several processes the first tells. Whatever a callback raises is noticed once, it is told
    nothing more, and the run goes on. What was told of a run before it was broken off is not told
    again when the same steps are computed again.
    """

    def begin(self, run: Begun) -> str | None:
        """Before the first step; what it returns is shown, such as where the curves are."""

    def step(self, step: int, figures: Mapping[str, float]) -> None:
        """Each `log_every` steps: "loss", the mean since the last time, and the rates ("lr", ...).

        Args:
            step: how many were done.
            figures: as in the lines of metrics.jsonl.
        """

    def evaluation(self, step: int, figures: Mapping[str, float]) -> None:
        """After each evaluation: "epoch", "recall@1" and so on, shares in [0, 1]."""

    def checkpoint(self, step: int, folder: Path) -> None:
        """A checkpoint was written to the run folder."""

    def notice(self, step: int, line: str) -> None:
        """A line that stays on the screen, such as that the loss has jumped."""

    def end(self, status: str, results: Mapping[str, Any]) -> None:
        """The run is "finished", "interrupted" or "failed"; its results, as far as it has any."""


def name_of(callback: Callback) -> str:
    """What a callback is called in messages and in run.json: its class."""
    return type(callback).__name__


def told_before(
    record: Mapping[str, Any], names: Iterable[str], lines: int
) -> dict[str, dict[str, Any]]:
    """How many lines of metrics.jsonl each callback was told, for the "told" of run.json.

    Those that the last process had were told all that is in the file, which has not been cut to
    what the checkpoint knows of yet.

    Args:
        record: "told" as the last process wrote it.
        names: of the callbacks now.
        lines: that the file has.
    """
    before = {n: max(t["lines"], lines if t["live"] else 0) for n, t in record.items()}
    here = set(names)
    return {n: {"lines": before.get(n, 0), "live": n in here} for n in sorted({*before, *here})}


class Callbacks:
    """All callbacks of a run: told each line of metrics.jsonl that they do not know yet.

    Args:
        callbacks: none in processes that are not the first.

    Attributes:
        id: of the run.
    """

    def __init__(self, callbacks: Sequence[Callback] = ()):
        self._callbacks, self.id = [*callbacks], ""
        self._known: dict[str, int] = {}  # lines that each was told before
        self._lines = self._step = 0
        self._note: Callable[[str], None] | None = None

    def enter(self, record: dict[str, Any], lines: int) -> None:
        """Note in a run's record who is told, and what they know.

        Args:
            record: the content of run.json: "id" and "told" are set.
            lines: of metrics.jsonl, before it is cut to what the checkpoint knows of.
        """
        known = record.get("id", "")  # others may have written it
        self.id = known if re.fullmatch("[0-9a-f]{16}", known) else secrets.token_hex(8)
        told = told_before(record.get("told", {}), map(name_of, self._callbacks), lines)
        record.update(id=self.id, told=told)
        self._known = {name: mark["lines"] for name, mark in told.items()}

    def begin(self, run: Begun, lines: Iterable[Mapping[str, float]], progress: Progress) -> None:
        """The run begins or goes on; `lines` are those of metrics.jsonl so far."""
        self._step, self._note = run.step, progress.note
        for callback in [*self._callbacks]:
            where = self._told(callback, "begin", run)
            if where:
                progress.note(f"{name_of(callback)}: {where}")
        for line in lines:
            self.line(line)

    def line(self, line: Mapping[str, float]) -> None:
        """A line that was added to metrics.jsonl."""
        self._lines += 1
        self._step = int(line["step"])
        figures = {name: value for name, value in line.items() if name != "step"}
        event = "evaluation" if "epoch" in figures else "step"
        for callback in [*self._callbacks]:
            if self._lines > self._known.get(name_of(callback), 0):
                self._told(callback, event, self._step, figures)

    def checkpoint(self, step: int, folder: Path) -> None:
        """A checkpoint was written."""
        for callback in [*self._callbacks]:
            self._told(callback, "checkpoint", step, folder)

    def notice(self, line: str) -> None:
        """A line stays on the screen."""
        for callback in [*self._callbacks] if self._note is not None else ():
            self._told(callback, "notice", self._step, line)

    def status(self, status: str, results: Mapping[str, Any]) -> None:
        """The run is "running"; or it has ended, and the callbacks are told nothing after that."""
        if status == "running":
            return
        for callback in [*self._callbacks] if self._note is not None else ():
            self._told(callback, "end", status, results)
        self._callbacks = []

    def _told(self, callback: Callback, event: str, *what: Any) -> Any:
        """What a callback returns; one that fails is left out from now on."""
        try:
            return getattr(callback, event)(*what)
        except Exception as error:  # whatever the code of others raises
            self._callbacks.remove(callback)
            assert self._note is not None
            self._note(
                f"notice: {name_of(callback)} failed and is told nothing more of this run, which "
                f"goes on: {type(error).__name__}: {error}"
            )
            return None


class Overheard:
    """A progress whose notes the callbacks hear as well.

    Args:
        progress: that shows them.
        callbacks: that hear them.
    """

    def __init__(self, progress: Progress, callbacks: Callbacks):
        self.update, self.close = progress.update, progress.close
        self._progress, self._callbacks = progress, callbacks

    def note(self, line: str) -> None:
        """Show the line, and tell it."""
        self._progress.note(line)
        self._callbacks.notice(line)
