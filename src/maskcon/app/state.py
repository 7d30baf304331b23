"""The groups as they are now: trees of coarse classes, and every edit that counts.

A group is a node of a tree, or one that a person made. What an edit says it says of pictures, never
of nodes, so that it holds when the trees are cut elsewhere or grown anew: a picture that was put
into a group lies beside a certain picture, wherever the tree has that one; a name belongs to the
part of the tree around a picture. So the order of edits matters only where two say something of
one picture or one name, and then the later counts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from maskcon.app.edits import Edit, Numbers
from maskcon.discover.groups import nodes_of
from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.naming import coded
from maskcon.discover.questions import Question, Questions
from maskcon.discover.tree import Grown

NOBODY = -1  # of pictures that no edit has put anywhere
Place = tuple[str, int]  # ("beside", row of a picture) or ("made", id of the edit that made it)


@dataclass(frozen=True)
class Ground:
    """What edits are made to.

    Attributes:
        x: vectors, float32 [N, F] of unit length.
        coarse: label of each picture, int64 [N].
        names: of coarse labels.
        grown: the trees of the coarse classes.
        generation: 0 for the first trees; those after learning have a number of their own.
        votes: label that most of the nearest others of each picture have, and how many [N], [N].
        moves: contents of edits that move pictures which came later, so that they lie where
            they were placed (`maskcon.app.arrivals`).
    """

    x: np.ndarray
    coarse: np.ndarray
    names: tuple[str, ...]
    grown: Sequence[Grown]
    generation: int
    votes: tuple[np.ndarray, np.ndarray]
    moves: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.x)

    @cached_property
    def class_of(self) -> np.ndarray:
        """Index of each picture's coarse class among the trees, int64 [N]."""
        found = np.empty(len(self.coarse), np.int64)
        for c, g in enumerate(self.grown):
            found[g.rows] = c
        return found


@dataclass(frozen=True)
class Group:
    """One group that has pictures.

    Attributes:
        id: coarse class and number, such as cats 3; it stays.
        coarse: index of its class among the trees.
        name: that a person gave; None without.
        named: places of the names that it has, the last one first.
        place: where it lies.
        node: of the class's tree; None where a person made the group.
        rows: of its pictures, ascending.
    """

    id: str
    coarse: int
    name: str | None
    named: tuple[Place, ...]
    place: Place
    node: int | None
    rows: np.ndarray


class Said(NamedTuple):
    """What edits say, all together.

    Attributes:
        beside: the picture that each lies beside, `NOBODY` where it lies where its tree has it,
            int64 [N].
        into: id of the edit that made the group it was put into, or `NOBODY` [N].
        answers: left, right and verdict.
        names: by place, the last one last.
        granularity: by coarse label.
        outlier: what was said of pictures, by row.
        made: index of the coarse class, and number, of groups that people made, by edit.
    """

    beside: np.ndarray
    into: np.ndarray
    answers: list[tuple[int, int, Any]]
    names: dict[Place, str]
    granularity: dict[int, int | str]
    outlier: dict[int, bool]
    made: dict[int, tuple[int, int]]


def said(count: int, edits: Sequence[Edit]) -> Said:
    """Everything that edits say of so many pictures.

    What was put into a group whose making does not count any more is where it was before.
    """
    found = Said(np.full(count, NOBODY), np.full(count, NOBODY), [], {}, {}, {}, {})
    for edit in edits:
        _say(found, edit.kind, edit.id, edit.content)
    return found


def _say(found: Said, kind: str, edit: int, content: Mapping[str, Any]) -> None:
    if kind == "answer":
        found.answers.append((content["left"], content["right"], content["verdict"]))
    elif kind == "name":
        for place in content["places"]:
            found.names.pop((place[0], place[1]), None)
            if content["name"]:
                found.names[place[0], place[1]] = content["name"]
    elif kind == "granularity":
        found.granularity[content["coarse"]] = content["value"]
    elif kind == "outlier":
        found.outlier.update(dict.fromkeys(content["pictures"], content["on"]))
    elif kind == "coarse":
        rows = np.array(content["pictures"], np.int64)
        found.beside[rows], found.into[rows] = content["beside"], NOBODY
    else:
        _put(found, edit, content)


def _put(found: Said, edit: int, content: Mapping[str, Any]) -> None:
    """Move pictures: to a place, or into a new group."""
    rows = np.array(content["pictures"], np.int64)
    if "made" in content:
        made = content["made"]
        found.made[edit] = made["coarse"], made["number"]
        found.beside[rows], found.into[rows] = NOBODY, edit
        return
    kind, value = content["to"]
    if kind == "beside":
        found.beside[rows], found.into[rows] = value, NOBODY
    elif value in found.made:  # else whoever made it has taken it back
        found.beside[rows], found.into[rows] = NOBODY, value


@dataclass(frozen=True)
class State:
    """The groups of a project.

    Attributes:
        ground: what edits are made to.
        said: by all edits that count.
        questions: after what was answered and named.
        groups: that have pictures, by coarse class and number.
        group: index of each picture's group among them, int64 [N].
        numbers: of all nodes that have ever been groups.
        base: index of the node that each picture lies in where no edit has put it [N].
        nodes: index of the coarse class, and node, of each of these.
    """

    ground: Ground
    said: Said
    questions: Questions
    groups: tuple[Group, ...]
    group: np.ndarray
    numbers: Numbers
    base: np.ndarray
    nodes: Sequence[tuple[int, int]]
    by_id: Mapping[str, Group] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_id", {group.id: group for group in self.groups})

    @cached_property
    def coarse(self) -> np.ndarray:
        """Index of each picture's coarse class among the trees, as it is after all edits."""
        return np.array([group.coarse for group in self.groups], np.int64)[self.group]

    @cached_property
    def open(self) -> list[Question]:
        """What is worth asking, the question that matters most first.

        Nobody is asked of pictures that were put somewhere by hand.
        """
        by_hand = (self.said.beside != NOBODY) | (self.said.into != NOBODY)
        count = sum(g.tree.leaves for g in self.ground.grown)
        return [
            q
            for q in self.questions.worth(count)
            if not by_hand[[int(q.shown_left[0]), int(q.shown_right[0])]].any()
        ]


def folded(ground: Ground, edits: Sequence[Edit], numbers: Numbers) -> State:
    """The groups after all edits: a function of these alone, and of the numbers that groups have.

    Args:
        ground: what edits are made to.
        edits: that count, in order.
        numbers: of nodes that were groups before, and of groups that people made (-1 times the
            edit in place of a node), whether they count or not; other nodes get the next ones
            of their class, the largest first.
    """
    told = said(len(ground), edits)
    questions = Questions(ground.grown)
    names = {row: name for (kind, row), name in told.names.items() if kind == "beside"}
    if names:
        questions.name(coded(names, len(ground)), apart=True)
    for left, right, verdict in told.answers:
        questions.tell(left, right, verdict)
    base, nodes, group = np.empty(len(ground), np.int64), list[tuple[int, int]](), 0
    for c, chosen in enumerate(nodes_of(questions, told.granularity)):
        g = ground.grown[c]
        base[g.rows] = group + g.groups(chosen)
        nodes += [(c, int(node)) for node in chosen]
        group += len(chosen)
    made = {(c, -edit): number for edit, (c, number) in told.made.items()}
    numbers = numbered(nodes, np.bincount(base, minlength=group), {**numbers, **made})
    # groups that people made come after the nodes
    places = {edit: group + i for i, edit in enumerate(told.made)}
    where = base.copy()
    lies = told.beside != NOBODY
    where[lies] = base[told.beside[lies]]
    put = told.into != NOBODY
    where[put] = [places[edit] for edit in told.into[put].tolist()]
    groups, index = _groups(ground, told, nodes, where, base, numbers)
    return State(ground, told, questions, groups, index[where], numbers, base, nodes)


def last_numbers(numbers: Numbers) -> dict[int, int]:
    """The highest number that any group of each coarse class ever had."""
    last: dict[int, int] = {}
    for (c, _), number in numbers.items():
        last[c] = max(last.get(c, 0), number)
    return last


def numbered(nodes: Sequence[tuple[int, int]], sizes: np.ndarray, numbers: Numbers) -> Numbers:
    """The numbers, and for nodes without one the next of their class, the largest node first."""
    last, found = last_numbers(numbers), dict(numbers)
    for at in np.argsort(-sizes, kind="stable").tolist():
        c, node = nodes[at]
        if (c, node) not in found:
            found[c, node] = last[c] = last.get(c, 0) + 1
    return found


def _groups(
    ground: Ground,
    told: Said,
    nodes: Sequence[tuple[int, int]],
    where: np.ndarray,
    base: np.ndarray,
    numbers: Numbers,
) -> tuple[tuple[Group, ...], np.ndarray]:
    """The groups that have pictures, and the index among them of each node and made group."""
    made = list(told.made)
    named: dict[int, list[Place]] = {}
    for place in reversed(told.names):
        kind, value = place
        if kind == "beside":
            named.setdefault(int(base[value]), []).append(place)
        elif value in told.made:
            named.setdefault(len(nodes) + made.index(value), []).append(place)
    order = np.argsort(where, kind="stable")
    sizes = np.bincount(where, minlength=len(nodes) + len(made))
    rows = np.split(order, np.cumsum(sizes)[:-1])
    found = []
    for at in np.flatnonzero(sizes).tolist():
        if at < len(nodes):
            c, node = nodes[at]
            tree = ground.grown[c]
            number = numbers[c, node]
            place = "beside", int(tree.images[tree.tree.typical[node]])
        else:
            node = None
            c, number = told.made[made[at - len(nodes)]]
            place = "made", made[at - len(nodes)]
        places = tuple(named.get(at, ()))
        name = told.names[places[0]] if places else None
        label = ground.names[ground.grown[c].label]
        group = Group(f"{label} {number}", c, name, places, place, node, rows[at])
        found.append((c, number, at, group))
    found.sort(key=lambda item: item[:2])
    index = np.full(len(sizes), UNKNOWN)
    index[[at for _, _, at, _ in found]] = np.arange(len(found))
    return tuple(group for *_, group in found), index
