"""A project that is open: its groups now, and every change to them, on the disk first."""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskcon.app.actions import content_of
from maskcon.app.edits import (
    KINDS,
    LEARN,
    REDO,
    UNDO,
    Edit,
    Edits,
    effective,
    to_redo,
    to_undo,
    undone,
)
from maskcon.app.state import Ground, Group, State, folded
from maskcon.discover.groups import typical
from maskcon.discover.outliers import MOST, NEAREST
from maskcon.errors import InputError

KEPT = 64 * 2**20  # bytes of orders of groups that are remembered
EACH = 500  # bytes that one takes beside its numbers, about


class Live:
    """The groups of a project, which several threads read and change.

    A change is folded first, which shows that it can be made; then it is written; then it
    counts. So what was acknowledged is on the disk, and what is on the disk can be folded.

    Args:
        ground: what edits are made to.
        edits: the log.
        read_only: nothing is changed.

    Attributes:
        edits: the log.
        state: the groups now.
        lock: whoever holds it changes the groups alone, and alone uses the log.
    """

    def __init__(self, ground: Ground, edits: Edits, *, read_only: bool = False):
        self.edits, self.read_only = edits, read_only
        self.lock = threading.RLock()
        self._orders: dict[tuple[int, bytes], tuple[np.ndarray, np.ndarray]] = {}
        self._bytes = 0  # of these
        self._outliers: tuple[State | None, dict[int, dict[str, Any]]] = None, {}
        self.state = self._settled(ground)

    def _settled(self, ground: Ground) -> State:
        """The groups of a ground; their numbers are kept from now on."""
        numbers = self.edits.numbers(ground.generation)
        state = folded(ground, effective(self.edits.lines), numbers)
        known = self.edits.classes() == ground.names and not _new(state, numbers)
        if not self.read_only and not known:
            self.edits.number(ground.generation, state.numbers, ground.names)
        return state

    @property
    def revision(self) -> int:
        """It grows with each change."""
        return self.edits.revision

    def do(self, body: Any) -> Edit:
        """Make the edit that a client asks for.

        Raises:
            InputError: it cannot be made; nothing was changed.
            TrainingError: it could not be written; nothing was changed.
        """
        with self.lock:
            self._refuse()
            kind, content = content_of(self.state, body)
            return self._append(kind, content)

    def undo(self) -> Edit:
        """Undo the last edit that counts."""
        with self.lock:
            edit = to_undo(self.edits.lines)
            if edit is None:
                raise InputError("there is no edit to undo")
            return self._about(UNDO, edit)

    def redo(self) -> Edit:
        """Make the edit that was undone last count again, where nothing was done since."""
        with self.lock:
            edit = to_redo(self.edits.lines)
            if edit is None:
                raise InputError("there is no edit to redo: none was undone, or others came since")
            return self._about(REDO, edit)

    def take_back(self, number: int) -> Edit:
        """Undo one edit, whenever it was made; all others still count."""
        with self.lock:
            edit = next((e for e in effective(self.edits.lines) if e.id == number), None)
            if edit is None:
                raise InputError(f"there is no edit {number} that counts: look at the history")
            return self._about(UNDO, edit)

    def arrange(self, moves: Sequence[Mapping[str, Any]]) -> None:
        """Make the moves of pictures that came later, those that were never made before."""
        if self.read_only:
            return
        with self.lock:
            said = {row for line in self.edits.lines for row in line.content.get("pictures", ())}
            for move in moves:
                if not said.intersection(move["pictures"]):
                    self._append("move", move)

    def _about(self, kind: str, edit: Edit) -> Edit:
        self._refuse()
        word = "taken back" if kind == UNDO else "done again"
        words = f"{word}: {edit.content.get('words', edit.kind)}"
        return self._append(kind, {"edit": edit.id, "words": words})

    def _append(self, kind: str, content: Mapping[str, Any]) -> Edit:
        edit = self.edits.planned(kind, content)
        numbers = dict(self.state.numbers)
        if "made" in content:
            numbers[content["made"]["coarse"], -edit.id] = content["made"]["number"]
        ground = self.state.ground
        state = folded(ground, effective([*self.edits.lines, edit]), numbers)
        self.edits.append(edit, ground.generation, _new(state, self.state.numbers))
        self.state = state
        return edit

    def _refuse(self) -> None:
        if self.read_only:
            raise InputError("the project was opened with --read-only: nothing can be changed")

    def turn_to(self, ground: Ground) -> None:
        """Go on with other trees, whose groups have their numbers already; it is a line, too."""
        with self.lock:
            self._refuse()
            self.state = self._settled(ground)
            self._orders, self._bytes = {}, 0  # nobody asks for those of other vectors any more
            words = "kept what was learned"
            edit = self.edits.planned(LEARN, {"generation": ground.generation, "words": words})
            self.edits.append(edit, ground.generation, {})

    def history(self) -> list[dict[str, Any]]:
        """Every edit, the last one first."""
        lines = self.edits.lines
        gone = undone(lines)
        return [
            {
                "id": line.id,
                "time": line.time,
                "kind": line.kind,
                "words": line.content.get("words", line.kind),
                "undone": line.id in gone,
            }
            for line in reversed(lines)
            if line.kind in KINDS
        ]

    def order(self, group: Group) -> tuple[np.ndarray, np.ndarray]:
        """Pictures of a group, the most typical first, and whether each is far from the others."""
        ground = self.state.ground
        key = ground.generation, group.rows.tobytes()
        found = self._orders.get(key)
        if found is None:
            x = ground.x[group.rows]
            rank, far = typical(np.ascontiguousarray(x), np.zeros(len(x), np.int64))
            order = np.argsort(rank)
            found = group.rows[order], far[order]
            self._remember(key, found)
        return found

    def _remember(self, key: tuple[int, bytes], found: tuple[np.ndarray, np.ndarray]) -> None:
        """Keep the order of a group, and forget the oldest as long as all take too much."""

        def size(key: tuple[int, bytes]) -> int:
            return EACH + len(key[1]) + sum(part.nbytes for part in self._orders[key])

        with self.lock:
            if key not in self._orders:
                self._orders[key] = found
                self._bytes += size(key)
            while self._bytes > KEPT:
                oldest = next(iter(self._orders))
                self._bytes -= size(oldest)
                del self._orders[oldest]

    def outliers(self) -> dict[int, dict[str, Any]]:
        """Pictures to look at first, and why, by their rows.

        Those whose label may be wrong come first. What a person said is no outlier, or gave
        another coarse label, is none.
        """
        state = self.state
        if self._outliers[0] is not state:
            self._outliers = state, self._looked_for(state)
        return self._outliers[1]

    def _looked_for(self, state: State) -> dict[int, dict[str, Any]]:
        ground, said = state.ground, state.said
        far = np.zeros(len(ground), bool)
        for group in state.groups:
            rows, is_far = self.order(group)
            far[rows[is_far]] = True
        label, count = ground.votes
        now = np.array([g.label for g in ground.grown])[state.coarse]
        other = (label != now) & (count >= MOST) & (now == ground.coarse)
        marked = np.isin(np.arange(len(far)), [*said.outlier])
        rows = np.flatnonzero(far | other | marked)
        found = {}
        for row in rows[np.lexsort((rows, -count[rows], ~other[rows]))].tolist():
            by_hand = said.outlier.get(row)
            if by_hand is False:
                continue
            reasons = ["marked by a person"] if by_hand else []
            reasons += ["far from all others of its group"] if far[row] else []
            nearer = ground.names[int(label[row])] if other[row] else None
            reasons += [f"{count[row]} of the {NEAREST} nearest are {nearer}"] if nearer else []
            found[row] = {"picture": row, "reason": "; ".join(reasons), "nearer": nearer}
        return found


def _new(state: State, known: Mapping[tuple[int, int], int]) -> dict[tuple[int, int], int]:
    """Numbers that were not known before."""
    return {key: number for key, number in state.numbers.items() if key not in known}
