"""What the page asks of a project, and what it may change."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from maskcon.app import exporting
from maskcon.app.actions import LONGEST_NAME, MOST_GROUPS
from maskcon.app.learning import Learning
from maskcon.app.operations import JSON, Asked, Operation, Refused, Schema
from maskcon.app.state import Group, State
from maskcon.app.thumbnails import ID
from maskcon.app.workplace import Workplace
from maskcon.discover.questions import GRANULARITY, VERDICTS

PATIENCE = 25.0  # seconds that who waits for a change is kept waiting
OFTEN = 0.2  # seconds between two looks for one
PAGE = 500  # pictures of a group in an answer, if nobody asks for more
TYPICAL = 12  # pictures that stand for a group
BYTES = "application/octet-stream"
_T = TypeVar("_T")

TEXT: Schema = {"type": "string", "maxLength": 1000}
IDS: Schema = {"type": "array", "items": ID, "minItems": 1, "maxItems": 200_000}
GROUP: Schema = {"type": "string", "maxLength": 2000}


def _edit(kind: str, **fields: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {"kind": {"type": "string", "enum": [kind]}, **fields},
        "required": ["kind", *fields],
        "additionalProperties": False,
    }


NUMBER: Schema = {"type": "integer", "minimum": 1, "maximum": MOST_GROUPS}
EDIT: Schema = {
    "oneOf": [
        _edit("answer", left=ID, right=ID, verdict={"type": "string", "enum": list(VERDICTS)}),
        _edit("name", group=GROUP, name={"type": "string", "maxLength": LONGEST_NAME}),
        _edit("move", pictures=IDS, group={"type": ["string", "null"], "maxLength": 2000}),
        _edit("merge", groups={"type": "array", "items": GROUP, "minItems": 2, "maxItems": 1000}),
        _edit("split", group=GROUP),
        _edit("outlier", pictures=IDS, on={"type": "boolean"}),
        _edit("coarse", pictures=IDS, coarse=TEXT),
        _edit(
            "granularity",
            coarse=TEXT,
            value={"oneOf": [{"type": "string", "enum": list(GRANULARITY)}, NUMBER]},
        ),
    ]
}


def operations(work: Workplace, learning: Learning) -> list[Operation]:
    """What can be asked of a project that is open, and what can be changed."""
    return [*_whole(work), *_parts(work), *_changes(work), *_steps(work, learning)]


def _in_thread(act: Callable[[Asked], _T]) -> Callable[[Asked], Any]:
    """Work that takes a while, beside what others ask."""

    async def work(asked: Asked) -> Any:
        return await run_in_threadpool(act, asked)

    return work


def _get(
    path: str,
    does: str,
    act: Callable[[Asked], Any],
    refusals: tuple[int, ...] = (),
    **given: Schema,
) -> Operation:
    return Operation("GET", path, does, _in_thread(act), given, refusals=refusals)


def _bytes_of(path: str, does: str, act: Callable[[], bytes]) -> Operation:
    """An operation that answers numbers as bytes."""

    def answer(asked: Asked) -> Response:
        return Response(act(), media_type=BYTES)

    kind = (BYTES, {"type": "string", "contentMediaType": BYTES})
    return Operation("GET", path, does, _in_thread(answer), answer=kind)


def _whole(work: Workplace) -> list[Operation]:
    """What is asked of all pictures."""
    return [
        _get("/api/project", "what the project is of", lambda asked: project(work)),
        _bytes_of("/api/map", "x and y of each picture: float32, little-endian", lambda: work.map),
        _get(
            "/api/names",
            "what each picture is called",
            lambda asked: {"names": work.photos.names},
        ),
        _get("/api/groups", "the groups as they are now", lambda asked: groups(work)),
        _bytes_of(
            "/api/members",
            "the place in /api/groups of each picture's group: int32, little-endian",
            lambda: work.live.state.group.astype("<i4").tobytes(),
        ),
        _get(
            "/api/outliers",
            "pictures to look at first",
            lambda asked: {"outliers": [*work.live.outliers().values()]},
        ),
        _get(
            "/api/duplicates",
            "sets of pictures that hardly differ",
            lambda asked: {"sets": duplicates(work.live.state)},
        ),
        _get("/api/question", "what is best asked next", lambda asked: question(work.live.state)),
        _get("/api/edits", "the history", lambda asked: {"edits": work.live.history()}),
    ]


def _parts(work: Workplace) -> list[Operation]:
    """What is asked of one group, class or picture."""
    count: Schema = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1, "default": 0}
    limit: Schema = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1, "default": PAGE}
    return [
        _get(
            "/api/group",
            "pictures of a group, the most typical first",
            lambda asked: of_group(work, **asked.values),
            (404,),
            id=GROUP,
            offset=count,
            limit=limit,
        ),
        _get(
            "/api/tree",
            "how the groups of a coarse class join",
            lambda asked: tree(work.live.state, asked.values["coarse"]),
            (404,),
            coarse=TEXT,
        ),
        _get(
            "/api/picture",
            "what is known of a picture",
            lambda asked: picture(work, asked.values["id"]),
            (404,),
            id=ID,
        ),
    ]


def _changes(work: Workplace) -> list[Operation]:
    def post(path: str, does: str, act: Callable[[Asked], Any], **more: Any) -> Operation:
        return Operation("POST", path, does, _in_thread(act), changes=True, **more)

    def edited(act: Callable[[Asked], Any]) -> Callable[[Asked], Any]:
        def answer(asked: Asked) -> Any:
            edit = act(asked)
            return {"edit": edit.id, "revision": edit.id, "words": edit.content["words"]}

        return answer

    number: Schema = {"type": "integer", "minimum": 1, "maximum": 2**53}
    return [
        post(
            "/api/edits",
            "make an edit; it is on the disk when this answers",
            edited(lambda asked: work.live.do(asked.body)),
            body={JSON: EDIT},
            refusals=(409,),
        ),
        post("/api/undo", "undo the last edit", edited(lambda asked: work.live.undo())),
        post("/api/redo", "redo what was undone last", edited(lambda asked: work.live.redo())),
        post(
            "/api/edits/{id}/take-back",
            "undo one edit, whenever it was made",
            edited(lambda asked: work.live.take_back(asked.values["id"])),
            parameters={"id": number},
        ),
    ]


def _steps(work: Workplace, learning: Learning) -> list[Operation]:
    """Learning and exports: what takes longer, or writes more than an edit."""

    def post(path: str, does: str, act: Callable[[Asked], Any], **more: Any) -> Operation:
        work_of = _in_thread(act)
        return Operation("POST", path, does, work_of, changes=True, refusals=(409,), **more)

    kinds = {"type": "string", "enum": [*exporting.KINDS]}
    body = {
        "type": "object",
        "properties": {"kind": kinds},
        "required": ["kind"],
        "additionalProperties": False,
    }
    return [
        _get("/api/job", "how far learning is", lambda asked: learning.job()),
        Operation(
            "GET",
            "/api/changes",
            f"waits up to {PATIENCE:.0f} seconds for a revision other than the one that is known",
            lambda asked: changes(work, learning, asked.values["after"]),
            {"after": {"type": "integer", "minimum": -1, "maximum": 2**53, "default": -1}},
        ),
        post(
            "/api/learn",
            "learn again, with names and answers",
            lambda asked: {"job": learning.start()},
        ),
        post("/api/learn/keep", "go on with what was learned", lambda asked: learning.keep()),
        post("/api/learn/discard", "forget what was learned", lambda asked: learning.discard()),
        post(
            "/api/export",
            "write the groups for other programs, into the project's folder",
            lambda asked: {"path": str(exporting.export(work, asked.body["kind"]))},
            body={JSON: body},
        ),
    ]


def project(work: Workplace) -> dict[str, Any]:
    """What the project is of."""
    state = work.live.state
    counts = np.bincount(state.coarse, minlength=len(state.ground.grown)).tolist()
    cut = state.said.granularity
    classes = [
        {
            "name": state.ground.names[g.label],
            "count": count,
            "granularity": cut.get(g.label, "usual"),
        }
        for g, count in zip(state.ground.grown, counts, strict=True)
    ]
    return {
        "name": work.facts.name,
        "version": work.facts.version,
        "pictures": len(state.ground),
        "coarse": classes,
        "labelled": work.labelled,
        "read_only": work.live.read_only,
        "revision": work.live.revision,
        "encoder": work.index.about.identity,
        "learned": work.facts.generation > 0,
        "data": work.facts.data,
    }


def groups(work: Workplace) -> dict[str, Any]:
    """All groups; their order is that of the numbers in /api/members."""
    revision, state = work.live.revision, work.live.state
    found = []
    for group in state.groups:
        rows, far = work.live.order(group)
        found.append(
            {
                "id": group.id,
                "coarse": _coarse(state, group),
                "name": group.name or group.id,
                "named": group.name is not None,
                "count": len(group.rows),
                "outliers": int(_marked(state, rows, far).sum()),
                "typical": rows[:TYPICAL].tolist(),
            }
        )
    return {"revision": revision, "groups": found}


def _marked(state: State, rows: np.ndarray, far: np.ndarray) -> np.ndarray:
    """Which pictures of a group are outliers, after what people said."""
    said = state.said.outlier
    return np.array([said.get(r, bool(f)) for r, f in zip(rows.tolist(), far, strict=True)], bool)


def _coarse(state: State, group: Group) -> str:
    return state.ground.names[state.ground.grown[group.coarse].label]


def of_group(work: Workplace, id: str, offset: int, limit: int) -> dict[str, Any]:
    """Some pictures of a group, the most typical first.

    Raises:
        Refused: there is no such group.
    """
    group = work.live.state.by_id.get(id)
    if group is None:
        raise Refused(404, f"there is no group {id!r} now: look at the groups again")
    rows = work.live.order(group)[0][offset : offset + limit].tolist()
    return {"pictures": rows, "count": len(group.rows)}


def tree(state: State, coarse: str) -> dict[str, Any]:
    """The merges of a coarse class above its groups.

    Raises:
        Refused: there is no such class.
    """
    names = [state.ground.names[g.label] for g in state.ground.grown]
    if coarse not in names:
        raise Refused(404, f"there is no coarse class {coarse!r}: expected {', '.join(names)}")
    c = names.index(coarse)
    grown = state.ground.grown[c]
    n, joined = grown.tree.leaves, grown.tree.joined
    different = state.questions.different()[c]
    inside = np.bincount(grown.leaf, minlength=n)[grown.tree.order]
    total = np.concatenate([[0], np.cumsum(inside)])
    count = total[grown.tree.stop] - total[grown.tree.start]
    here = {group.node: group.id for group in state.groups if group.coarse == c}
    cut = {node for place, node in state.nodes if place == c}
    made: dict[int, dict[str, Any]] = {}
    order, stack = list[int](), [2 * n - 2]
    while stack:
        order.append(stack.pop())
        if order[-1] not in cut:
            stack += joined[order[-1] - n].tolist()
    for node in reversed(order):  # parts before what they make
        made[node] = {"node": node, "count": int(count[node])}
        if node not in cut:
            made[node]["different"] = float(different[node - n])
            made[node]["children"] = [made[part] for part in joined[node - n].tolist()]
        elif node in here:
            made[node]["group"] = here[node]
    return made[2 * n - 2]


def duplicates(state: State) -> list[list[int]]:
    """Sets of pictures that hardly differ, by their rows."""
    ground = state.ground
    return sorted(lot.tolist() for one in ground.grown for lot in one.near_duplicates(ground.x))


def picture(work: Workplace, row: int) -> dict[str, Any]:
    """What is known of a picture.

    Raises:
        Refused: there is no such picture.
    """
    state, row = work.live.state, work.photos.check(row)
    group = state.groups[state.group[row]]
    rows, far = work.live.order(group)
    is_far = bool(far[np.flatnonzero(rows == row)[0]])
    told = work.live.outliers().get(row)
    return {
        "name": work.photos.names[row],
        "coarse": _coarse(state, group),
        "group": group.id,
        "outlier": state.said.outlier.get(row, is_far),
        "reason": told and told["reason"],
        "nearer": told and told["nearer"],
        "state": work.photos.state(row),
    }


def question(state: State) -> dict[str, Any]:
    """What is best asked next, how much was answered, and how many answers are still worth it."""
    answered, found = len(state.said.answers), state.open
    if not found:
        return {"question": None, "answered": answered, "worth": 0}
    first = found[0]
    return {
        "question": {
            "left": first.shown_left.tolist(),
            "right": first.shown_right.tolist(),
            "coarse": state.ground.names[first.coarse],
            "different": first.different,
        },
        "answered": answered,
        "worth": len(found),
    }


async def changes(work: Workplace, learning: Learning, after: int) -> dict[str, Any]:
    """Wait until something has changed, or long enough."""
    until = time.monotonic() + PATIENCE
    job = learning.job()
    while work.revision == after and not learning.busy() and time.monotonic() < until:
        await asyncio.sleep(OFTEN)
        if learning.job() is not job:
            return {"revision": work.revision, "job": True}
    return {"revision": work.revision, "job": learning.busy()}
