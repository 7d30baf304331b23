"""How a person follows a run: one moving line on a terminal or in a notebook, else plain lines."""

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

NOTEBOOK_EVERY = 0.5  # seconds between two changes of a notebook's line
PLAIN_EVERY = 30.0  # seconds before the first plain line, and between two


class Progress(Protocol):
    """What the loop tells of itself."""

    def update(self, line: str) -> None:
        """The current state of long work, in place of the one before."""

    def note(self, line: str) -> None:
        """Something that stays on the screen."""

    def close(self) -> None:
        """The work has ended."""


class Silent:
    """Says nothing."""

    def update(self, line: str) -> None:
        """Ignore the line."""

    note = update

    def close(self) -> None:
        """Nothing to end."""


class Screen:
    """Writes to the terminal, or plain lines where the output is none."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._last = time.monotonic()

    def update(self, line: str) -> None:
        """Redraw the moving line; without a terminal, print one each half minute of work."""
        if self._console.is_terminal:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, transient=True)
                self._live.start()
            self._live.update(
                Text(printable(line), no_wrap=True, overflow="ellipsis"), refresh=True
            )
        elif time.monotonic() - self._last >= PLAIN_EVERY:
            self._last = time.monotonic()
            self.note(line)

    def note(self, line: str) -> None:
        """Print a line above the moving one."""
        self._console.print(Text(printable(line)))
        sys.stdout.flush()

    def close(self) -> None:
        """Remove the moving line."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class Notebook:
    """One line below a notebook's cell that changes, and lines that stay."""

    def __init__(self) -> None:
        from IPython.display import display

        self._display, self._line = display, None
        self._last = -math.inf

    def update(self, line: str) -> None:
        """Change the line, at most twice a second: each change goes to a browser."""
        if time.monotonic() - self._last >= NOTEBOOK_EVERY:
            self._last = time.monotonic()
            self._put(line)

    def note(self, line: str) -> None:
        """Print a line."""
        print(printable(line), flush=True)

    def close(self) -> None:
        """Empty the line."""
        if self._line is not None:
            self._put("")

    def _put(self, line: str) -> None:
        shown = {"text/plain": printable(line)}
        if self._line is None:
            self._line = self._display(shown, raw=True, display_id=True)
        else:
            self._line.update(shown, raw=True)


def follower(progress: Progress | None) -> Progress:
    """Who is told where nobody was named: the notebook that runs, and nobody elsewhere."""
    if progress is not None:
        return progress
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return Notebook() if hasattr(shell, "kernel") else Silent()


def printable(text: str) -> str:
    """Text for a terminal: what would move its cursor or change its colours is written out."""
    return "".join(
        letter
        if letter.isprintable() or letter in "\n\t"
        else letter.encode("unicode_escape").decode()
        for letter in text
    )


@contextmanager
def screen() -> Iterator[Screen]:
    """A `Screen` that gives the terminal back, whatever happens."""
    progress = Screen()
    try:
        yield progress
    finally:
        progress.close()


def duration(seconds: float) -> str:
    """Seconds as 42s, 3m10s or 2h05m."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
