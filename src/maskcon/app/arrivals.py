"""Pictures that came to a project later: in the groups that they are near, or called new.

The trees of a project stay as they are, with all that was said of them. A picture that came later
has the place in its class's tree of one that is there already. What places it is that of `discover
--assign`: the group whose pictures it is nearest to, of its own coarse class. Where that is no
group of the tree, or none is near enough, an edit moves it, which can be taken back like any other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from maskcon.app.actions import called, counted, new_group
from maskcon.app.ground import labels_of, photos_of
from maskcon.app.state import NOBODY, Ground, Group, State
from maskcon.config import Config
from maskcon.discover.kmeans import UNKNOWN
from maskcon.discover.outliers import votes
from maskcon.discover.place import taken
from maskcon.discover.placing import placed
from maskcon.discover.tree import Grown, between_classes, grow_one
from maskcon.runtime.progress import Progress
from maskcon.search.index import Index

NEW = "came later and are far from all groups: a new group"
Moves = list[Mapping[str, Any]]


def taken_in(state: State, index: Index, progress: Progress) -> Ground:
    """What edits are made to, with all pictures of an index.

    Args:
        state: the groups now, of the first pictures of the index.
        index: of all of them.
        progress: told what is done.
    """
    ground, first = state.ground, len(state.ground)
    progress.update(f"placing {len(index) - first:,} pictures that came later")
    x = np.asarray(index.vectors)
    given = index.rows["coarse"].to_pylist()[first:]
    names, label = labels_of(given, ground.names)
    coarse = np.concatenate([ground.coarse, label])
    number = {g.label: c for c, g in enumerate(ground.grown)}
    class_of = np.array([number.get(one, UNKNOWN) for one in label.tolist()], np.int64)
    here, moves = _among(state, x, class_of)
    fresh = _new_classes(x, coarse, sorted({*label.tolist()} - {*number}), index, progress)
    return Ground(
        x, coarse, names, [*here, *fresh], ground.generation, votes(x, coarse, 0), tuple(moves)
    )


def _among(state: State, x: np.ndarray, class_of: np.ndarray) -> tuple[list[Grown], Moves]:
    """The trees of classes that were there with what came later, and the moves that this takes.

    Args:
        state: the groups of the first n rows.
        x: vectors of all N rows.
        class_of: index of the class of each later row among the trees, or `UNKNOWN` [N - n].
    """
    ground, first = state.ground, len(state.ground)
    late = np.flatnonzero(class_of != UNKNOWN)
    if not len(late):
        return list(ground.grown), []
    of_group = np.array([group.coarse for group in state.groups])
    allowed = class_of[late][:, None] == of_group  # [M, k]
    found = placed(x[first + late], ground.x, state.group, allowed)
    group = np.where(found.new, UNKNOWN, found.group)  # a class may have no group any more, too
    stays = (state.said.beside == NOBODY) & (state.said.into == NOBODY)
    leaf = np.empty(len(late), np.int64)
    to, far = list[tuple[Group, list[int]]](), dict[int, list[int]]()
    for c, at in sorted({*zip(class_of[late].tolist(), group.tolist(), strict=True)}):
        lot = np.flatnonzero((class_of[late] == c) & (group == at))
        rows = (first + late[lot]).tolist()
        grown, near = ground.grown[c], np.empty(0, np.int64)
        if at == UNKNOWN:
            far[c] = rows
        else:
            near = np.flatnonzero(stays & (state.group == at) & (ground.class_of == c))
            if not len(near):  # people made it, or moved all that it has
                to.append((state.groups[at], rows))
        if not len(near):
            near = np.flatnonzero(stays & (ground.class_of == c))
        near = near if len(near) else grown.rows
        leaf[lot] = _leaves(grown, near, x[near], x[rows])
    later = [
        replace(
            grown,
            rows=np.concatenate([grown.rows, first + late[class_of[late] == c]]),
            leaf=np.concatenate([grown.leaf, leaf[class_of[late] == c]]),
        )
        for c, grown in enumerate(ground.grown)
    ]
    return later, _moves(state, to, far)


def _leaves(grown: Grown, near: np.ndarray, members: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The place in a tree of the nearest of some of its pictures, of each of other rows."""
    nearest = [(part @ members.T).argmax(1) for part in np.array_split(x, -(-len(x) // 1000))]
    return grown.leaf[np.searchsorted(grown.rows, near[np.concatenate(nearest)])]


def _moves(
    state: State, to: Sequence[tuple[Group, list[int]]], far: Mapping[int, list[int]]
) -> Moves:
    """Contents of edits: into groups that are none of a tree, and into new ones."""
    found: Moves = []
    for group, rows in to:
        words = f"{counted(rows)} that came later placed in {called(group)}"
        move = {"pictures": rows, "to": list(group.place), "group": group.id}
        found.append({**move, "words": words})
    return found + [new_group(state, rows, c, f"{counted(rows)} {NEW}") for c, rows in far.items()]


def _new_classes(
    x: np.ndarray, coarse: np.ndarray, labels: Sequence[int], index: Index, progress: Progress
) -> list[Grown]:
    """Trees of classes that were not there before."""
    if not labels:
        return []
    scale = between_classes(x, [np.flatnonzero(coarse == one) for one in np.unique(coarse)])
    grown, when = [], np.full(len(x), np.nan)
    for label in labels:
        rows = np.flatnonzero(coarse == label)
        when[rows] = taken(photos_of(index).take(rows), Config().readers, progress)
        grown.append(grow_one(x, label, rows, scale, when))
    return grown
