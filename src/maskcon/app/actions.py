"""What a person does on the page: checked against the groups, and made the content of an edit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from maskcon.app.state import NOBODY, Group, State, last_numbers
from maskcon.discover.questions import GRANULARITY, LEAST, VERDICTS
from maskcon.errors import InputError

LONGEST_NAME = 200  # characters
MOST_GROUPS = 200  # that a number may ask a class to be cut into
_CHUNK = 256  # pictures that are compared at a time


def content_of(state: State, body: Any) -> tuple[str, dict[str, Any]]:
    """The kind and the content of the edit that a client asks for.

    "words" of the content say for people what was done.

    Args:
        state: the groups as they are.
        body: what was sent: an object with "kind" and what belongs to it.

    Raises:
        InputError: it is no edit, or none of these groups and pictures.
    """
    if not isinstance(body, Mapping):
        raise InputError("an edit was sent that is no object: expected {kind: ..., ...}")
    kind = body.get("kind")
    if not isinstance(kind, str) or kind not in ACTIONS:
        raise InputError(f"kind is {kind!r}: expected one of {', '.join(ACTIONS)}")
    takes, action = ACTIONS[kind]
    unknown = sorted(str(key) for key in set(body) - {"kind", *takes})
    if unknown:
        raise InputError(f"{kind} has {', '.join(unknown)}: it takes {', '.join(takes)}")
    missing = [key for key in takes if key not in body]
    if missing:
        raise InputError(f"{kind} lacks {', '.join(missing)}: it takes {', '.join(takes)}")
    return kind, action(state, body)


def _answer(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    (left,), (right,) = (_rows(state, side, [body[side]]) for side in ("left", "right"))
    verdict = body["verdict"]
    if verdict not in VERDICTS:
        raise InputError(f"verdict is {verdict!r}: expected one of {', '.join(VERDICTS)}")
    if left == right:
        raise InputError(f"picture {left} was compared with itself: give two pictures")
    classes = state.ground.class_of[[left, right]]
    if classes[0] != classes[1]:
        raise InputError(
            f"pictures {left} and {right} came with two coarse labels: give two of one"
        )
    words = {"same": "are the same kind", "different": "are different kinds"}
    said = words.get(verdict, "may be one kind or two")
    return {
        "left": left,
        "right": right,
        "verdict": verdict,
        "words": f"two lots of {_coarse_name(state, int(classes[0]))} {said}",
    }


def _name(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    group, name = _group(state, body["group"]), body["name"]
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        raise InputError(f"name is {name!r}: expected text of up to {LONGEST_NAME} characters")
    name = " ".join(name.split())
    if not name.isprintable():
        raise InputError(f"name is {name!r}: expected characters that can be seen")
    said = f"{group.id} is called {name}" if name else f"{group.id} has no name"
    # a name that the group has already is changed where it is, so that no part of the tree has two
    places = group.named or (group.place,)
    return {"group": group.id, "places": [list(p) for p in places], "name": name, "words": said}


def _move(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    rows = _rows(state, "pictures", body["pictures"])
    if body["group"] is None:
        classes = np.unique(state.coarse[rows])
        if len(classes) > 1:
            names = ", ".join(_coarse_name(state, int(c)) for c in classes)
            raise InputError(
                f"a new group was asked for of pictures of {len(classes)} coarse classes "
                f"({names}): give pictures of one"
            )
        return new_group(state, rows, int(classes[0]), f"{counted(rows)} became a new group")
    group = _group(state, body["group"])
    where = f"{counted(rows)} moved to {called(group)}"
    return {"pictures": rows, "to": list(group.place), "group": group.id, "words": where}


def _merge(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    given = body["groups"]
    if not isinstance(given, Sequence) or isinstance(given, str) or len(given) < 2:
        raise InputError(f"groups is {given!r}: expected the ids of two groups or more")
    groups = [_group(state, one) for one in given]
    if len({group.id for group in groups}) < len(groups):
        raise InputError("a group was to be merged with itself: give each id once")
    if len({group.coarse for group in groups}) > 1:
        raise InputError(
            f"{groups[0].id} and others are of different coarse classes: merge groups of one, or "
            "give their pictures another coarse label first"
        )
    # where one has a name, its name stays
    into = next((group for group in groups if group.name), groups[0])
    others = [group for group in groups if group is not into]
    return {
        "groups": [group.id for group in groups],
        "pictures": np.concatenate([group.rows for group in others]).tolist(),
        "to": list(into.place),
        "words": f"{', '.join(map(called, others))} merged into {called(into)}",
    }


def _split(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    group = _group(state, body["group"])
    part = parted(state, group)
    if part is None:
        raise InputError(
            f"{group.id} cannot be split: nothing tells its {len(group.rows)} pictures apart; move "
            "some of them to a new group"
        )
    words = f"{called(group)} split: {counted(part)} became a new group"
    return {"group": group.id, **new_group(state, part, group.coarse, words)}


def parted(state: State, group: Group) -> list[int] | None:
    """The pictures of a group that its tree parts from the others first, at least three if it can.

    From the merge at which all meet it goes down along the larger side until both sides have
    `LEAST` pictures of the group; else the first merge counts. None where nothing parts them.
    """
    c = int(np.bincount(state.ground.class_of[group.rows]).argmax())
    grown = state.ground.grown[c]
    tree, n = grown.tree, grown.tree.leaves
    own = group.rows[state.ground.class_of[group.rows] == c]
    leaf = grown.leaf[np.searchsorted(grown.rows, own)]
    inside = np.bincount(leaf, minlength=n)[tree.order]
    total = np.concatenate([[0], np.cumsum(inside)])
    count = total[tree.stop] - total[tree.start]  # pictures of the group beneath each node
    node, first = 2 * n - 2, NOBODY
    while node >= n:
        a, b = tree.joined[node - n].tolist()
        small, large = (a, b) if count[a] <= count[b] else (b, a)
        if count[small] and first == NOBODY:
            first = small
        if count[small] >= LEAST:
            first = small
            break
        node = large
    if first == NOBODY:
        return None
    found: list[int] = own[np.isin(leaf, tree.beneath(first))].tolist()
    return found


def _outlier(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    rows, on = _rows(state, "pictures", body["pictures"]), body["on"]
    if not isinstance(on, bool):
        raise InputError(f"on is {on!r}: expected true or false")
    words = f"{counted(rows)} {'marked as outliers' if on else 'marked as no outliers'}"
    return {"pictures": rows, "on": on, "words": words}


def _coarse(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    rows, wanted = _rows(state, "pictures", body["pictures"]), body["coarse"]
    c = _class(state, wanted)
    words = f"{counted(rows)} given the coarse label {wanted}"
    return {"pictures": rows, "coarse": c, "beside": _nearest(state, rows, c), "words": words}


def _nearest(state: State, rows: Sequence[int], c: int) -> list[int]:
    """The picture of a coarse class that each lies beside: the nearest; itself in its own."""
    x, of = state.ground.x, state.ground.class_of
    there = np.flatnonzero((of == c) & (state.coarse == c))
    if not len(there):
        there = np.flatnonzero(of == c)
    found = np.array(rows, np.int64)
    for part in np.array_split(np.arange(len(found)), -(-len(found) // _CHUNK)):
        found[part] = there[(x[found[part]] @ x[there].T).argmax(1)]
    own = of[np.array(rows)] == c
    return np.where(own, rows, found).tolist()


def _granularity(state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    c, value = _class(state, body["coarse"]), body["value"]
    number = isinstance(value, int) and not isinstance(value, bool)
    if not (1 <= value <= MOST_GROUPS if number else value in [*GRANULARITY]):
        raise InputError(
            f"value is {value!r}: expected {', '.join(GRANULARITY)}, or a number of groups from 1 "
            f"to {MOST_GROUPS:,}"
        )
    label = state.ground.grown[c].label
    words = f"{body['coarse']}: {value} groups" if number else f"{body['coarse']}: {value}"
    return {"coarse": label, "value": value, "words": words}


def new_group(state: State, rows: Sequence[int], c: int, words: str) -> dict[str, Any]:
    """The content of an edit that makes a group."""
    number = last_numbers(state.numbers).get(c, 0) + 1
    made = {"coarse": c, "number": number}
    return {
        "pictures": list(rows),
        "made": made,
        "words": f"{words}, {_coarse_name(state, c)} {number}",
    }


def _rows(state: State, what: str, given: Any) -> list[int]:
    """Pictures that were named: each once, in the order given."""
    if not isinstance(given, Sequence) or isinstance(given, str) or not given:
        raise InputError(f"{what} is {given!r}: expected the ids of one picture or more")
    for row in given:
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < len(state.ground):
            raise InputError(
                f"there is no picture {row!r}: ids go from 0 to {len(state.ground) - 1:,}"
            )
    return list(dict.fromkeys(given))


def _group(state: State, given: Any) -> Group:
    found = state.by_id.get(given) if isinstance(given, str) else None
    if found is None:
        raise InputError(f"there is no group {given!r} now: look at the groups again")
    return found


def _class(state: State, given: Any) -> int:
    names = [state.ground.names[g.label] for g in state.ground.grown]
    if given not in names:
        raise InputError(f"coarse is {given!r}: expected one of {', '.join(names)}")
    return names.index(given)


def _coarse_name(state: State, c: int) -> str:
    return state.ground.names[state.ground.grown[c].label]


def called(group: Group) -> str:
    """A group's name and number for people."""
    return f"{group.name} ({group.id})" if group.name else group.id


def counted(rows: Sequence[int]) -> str:
    """How many pictures these are, in words."""
    return "1 picture" if len(rows) == 1 else f"{len(rows):,} pictures"


Action = Callable[[State, Mapping[str, Any]], dict[str, Any]]
ACTIONS: Mapping[str, tuple[tuple[str, ...], Action]] = {
    "answer": (("left", "right", "verdict"), _answer),
    "name": (("group", "name"), _name),
    "move": (("pictures", "group"), _move),
    "merge": (("groups",), _merge),
    "split": (("group",), _split),
    "outlier": (("pictures", "on"), _outlier),
    "coarse": (("pictures", "coarse"), _coarse),
    "granularity": (("coarse", "value"), _granularity),
}
