"""The groups after edits: beside an oracle that goes picture by picture through plain sets."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maskcon.app.actions import ACTIONS, content_of
from maskcon.app.edits import KINDS, Edit, effective
from maskcon.app.state import Ground, folded
from maskcon.discover import Questions, discover
from maskcon.discover.groups import nodes_of
from maskcon.discover.naming import coded, groups_of
from maskcon.discover.tree import grow
from maskcon.errors import InputError

NAMES = ("birds", "cats", "dogs")


def a_ground(seed: int = 0, kinds: int = 3, each: int = 14) -> Ground:
    """Three coarse classes of a few kinds."""
    random = np.random.default_rng(seed)
    x, coarse = [], []
    for c in range(len(NAMES)):
        for _ in range(kinds):
            middle = random.normal(size=12) * 2 + np.eye(12)[c] * 6
            x.append(middle + random.normal(size=(each, 12)))
            coarse += [c] * each
    rows = np.concatenate(x).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = random.permutation(len(rows))
    rows, label = rows[order], np.array(coarse)[order]
    grown = grow(torch.from_numpy(rows), torch.from_numpy(label))
    return Ground(rows, label, NAMES, grown, 0, (label, np.zeros(len(label), np.int64)))


GROUND = a_ground()


class Log:
    """Edits as a project makes them, without a file."""

    def __init__(self, ground=GROUND):
        self.ground, self.lines, self.numbers = ground, [], {}
        self.state = self.fold()

    def fold(self):
        state = folded(self.ground, effective(self.lines), self.numbers)
        self.numbers = dict(state.numbers)
        return state

    def add(self, **body):
        kind, content = content_of(self.state, body)
        return self.put(kind, content)

    def put(self, kind, content):
        self.lines.append(Edit(len(self.lines) + 1, "now", kind, content))
        if "made" in content:
            made = content["made"]
            self.numbers[made["coarse"], -len(self.lines)] = made["number"]
        self.state = self.fold()
        return self.lines[-1]

    def undo(self, edit):
        self.put("undo", {"edit": edit.id})

    def redo(self, edit):
        self.put("redo", {"edit": edit.id})

    def group_of(self, row):
        return self.state.groups[self.state.group[row]]


def placed_names(edits):
    """{place: name}, the last one last."""
    names = {}
    for e in edits:
        for place in e.content["places"] if e.kind == "name" else ():
            names.pop(tuple(place), None)
            if e.content["name"]:
                names[tuple(place)] = e.content["name"]
    return names


def trees_of(ground, edits):
    """{picture: ("node", class, node)}: where each lies by what was answered and named."""
    questions = Questions(ground.grown)
    beside = {row: name for (kind, row), name in placed_names(edits).items() if kind == "beside"}
    if beside:
        questions.name(coded(beside, len(ground)), apart=True)
    for e in edits:
        if e.kind == "answer":
            questions.tell(e.content["left"], e.content["right"], e.content["verdict"])
    cut = {e.content["coarse"]: e.content["value"] for e in edits if e.kind == "granularity"}
    return {
        row: ("node", c, node)
        for c, nodes in enumerate(nodes_of(questions, cut))
        for node in nodes.tolist()
        for row in ground.grown[c].beneath(node).tolist()
    }


def after(edit, row, where, tree, made):
    """Where a picture lies after an edit that was about it."""
    if edit.kind == "coarse":
        return tree[edit.content["beside"][edit.content["pictures"].index(row)]]
    if "made" in edit.content:
        return ("made", edit.id)
    kind, value = edit.content["to"]
    if kind == "beside":
        return tree[value]
    return ("made", value) if value in made else where


def oracle(ground, edits):
    """{picture: what its group is}: ("node", class, node) or ("made", edit), and names of these.

    Each picture is asked what was said of it, one edit after the other.
    """
    tree, made = trees_of(ground, edits), {e.id for e in edits if "made" in e.content}
    group = dict(tree)
    for e in edits:
        for row in e.content.get("pictures", ()) if e.kind != "outlier" else ():
            group[row] = after(e, row, group[row], tree, made)
    called = {}
    for (kind, value), name in placed_names(edits).items():
        if kind == "beside":
            called[tree[value]] = name
        elif value in made:
            called["made", value] = name
    return group, called


def agrees(log):
    edits = effective(log.lines)
    group, called = oracle(log.ground, edits)
    state = log.state
    by_key = {}
    for row, key in group.items():
        by_key.setdefault(key, set()).add(row)
    assert {frozenset(rows) for rows in by_key.values()} == {
        frozenset(g.rows.tolist()) for g in state.groups
    }
    for key, rows in by_key.items():
        mine = {state.group[row] for row in rows}
        assert len(mine) == 1
        found = state.groups[mine.pop()]
        assert found.name == called.get(key)
        assert found.node == (key[2] if key[0] == "node" else None)
    assert len({g.id for g in state.groups}) == len(state.groups)
    assert [g.id for g in state.groups] == sorted(
        (g.id for g in state.groups), key=lambda name: (name.split()[0], int(name.split()[1]))
    )


def random_body(draw, state):
    """Something that a person may do now."""
    groups = [g.id for g in state.groups]
    rows = st.lists(st.integers(0, len(state.ground) - 1), min_size=1, max_size=5, unique=True)
    kind = draw(st.sampled_from(KINDS))
    body = {"kind": kind}
    if kind == "answer":
        question = state.questions.next()
        if question is None:
            return None
        sides = question.shown_left.tolist(), question.shown_right.tolist()
        verdict = draw(st.sampled_from(["same", "different", "unsure"]))
        body |= {"left": sides[0], "right": sides[1], "verdict": verdict}
    elif kind == "name":
        name = draw(st.sampled_from(["Fuji", "Gala", "Tabby", ""]))
        body |= {"group": draw(st.sampled_from(groups)), "name": name}
    elif kind == "move":
        body |= {"pictures": draw(rows), "group": draw(st.sampled_from([None, *groups]))}
    elif kind == "merge":
        body["groups"] = draw(st.lists(st.sampled_from(groups), min_size=2, max_size=3))
    elif kind == "split":
        body["group"] = draw(st.sampled_from(groups))
    elif kind == "outlier":
        body |= {"pictures": draw(rows), "on": draw(st.booleans())}
    elif kind == "coarse":
        body |= {"pictures": draw(rows), "coarse": draw(st.sampled_from(NAMES))}
    else:
        value = draw(st.sampled_from(["finer", "coarser", "usual", 1, 4]))
        body |= {"coarse": draw(st.sampled_from(NAMES)), "value": value}
    return body


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_groups_are_those_of_an_oracle(data):
    log = Log()
    for _ in range(data.draw(st.integers(1, 8))):
        edits = [line for line in log.lines if line.kind in KINDS]
        what = data.draw(st.sampled_from(["edit", "edit", "edit", "take back", "bring back"]))
        if what == "edit" or not edits:
            body = random_body(data.draw, log.state)
            try:
                if body is not None:
                    log.add(**body)
            except InputError:
                pass  # one coarse class was asked for, or a group cannot be split
        else:
            (log.undo if what == "take back" else log.redo)(data.draw(st.sampled_from(edits)))
        agrees(log)


def test_without_edits_they_are_those_of_discover():
    state = folded(GROUND, [], {})
    x, coarse = torch.from_numpy(GROUND.x), torch.from_numpy(GROUND.coarse)
    divisions = discover(x, coarse)
    expected = {}
    for group in groups_of(divisions, NAMES):
        division = divisions[group.division]
        expected[group.id] = sorted(division.rows[division.members(group.place)].tolist())
    assert {g.id: g.rows.tolist() for g in state.groups} == expected


def test_what_is_undone_leaves_no_trace():
    log = Log()
    before = [(g.id, g.name, g.rows.tolist()) for g in log.state.groups]
    cats = [g for g in log.state.groups if g.id.startswith("cats")]
    edits = [
        log.add(kind="name", group=cats[0].id, name="Tabby"),
        log.add(kind="move", pictures=cats[0].rows[:3].tolist(), group=None),
        log.add(kind="granularity", coarse="dogs", value=5),
        log.add(kind="coarse", pictures=[int(cats[0].rows[4])], coarse="dogs"),
    ]
    assert [(g.id, g.name, g.rows.tolist()) for g in log.state.groups] != before
    for edit in edits:  # in any order
        log.undo(edit)
    assert [(g.id, g.name, g.rows.tolist()) for g in log.state.groups] == before


def test_ids_stay_and_are_never_given_again():
    log = Log()
    first = {g.id: g.rows.tolist() for g in log.state.groups}
    rows = log.state.groups[0].rows[:2].tolist()
    made = log.add(kind="move", pictures=rows, group=None)
    new = log.group_of(rows[0]).id
    assert new not in first
    assert new.startswith("birds ")
    log.undo(made)
    again = log.add(kind="move", pictures=rows, group=None)
    assert log.group_of(rows[0]).id not in {*first, new}
    log.undo(again)
    log.redo(made)
    assert log.group_of(rows[0]).id == new
    log.undo(made)
    log.add(kind="granularity", coarse="birds", value=6)
    kept = {g.id: g.rows.tolist() for g in log.state.groups}
    assert all(first[name] == rows for name, rows in kept.items() if name in first)
    assert new not in kept


def test_a_name_is_changed_and_taken_away():
    log = Log()
    group = log.state.groups[0].id
    log.add(kind="name", group=group, name=" Blue  tit ")
    assert log.state.by_id[group].name == "Blue tit"
    log.add(kind="name", group=group, name="Great tit")
    assert log.state.by_id[group].name == "Great tit"
    log.add(kind="name", group=group, name="")
    assert log.state.by_id[group].name is None


def test_groups_of_people_outlast_what_is_answered():
    log = Log()
    cats = [g for g in log.state.groups if g.id.startswith("cats")]
    some = cats[0].rows[::3].tolist()
    log.add(kind="move", pictures=some, group=None)
    made = log.group_of(some[0]).id
    log.add(kind="name", group=made, name="Manx")
    for value in (1, 7, "coarser", "finer"):
        log.add(kind="granularity", coarse="cats", value=value)
        assert log.state.by_id[made].rows.tolist() == some
        assert log.state.by_id[made].name == "Manx"


def test_a_merge_takes_the_name_and_a_split_parts_at_the_tree():
    log = Log()
    log.add(kind="granularity", coarse="dogs", value=3)
    a, b, c = (g for g in log.state.groups if g.id.startswith("dogs"))
    log.add(kind="name", group=b.id, name="Pug")
    log.add(kind="merge", groups=[a.id, b.id])
    assert sorted([*a.rows, *b.rows]) == log.state.by_id[b.id].rows.tolist()
    assert log.state.by_id[b.id].name == "Pug"
    assert a.id not in log.state.by_id
    log.add(kind="split", group=b.id)
    parts = {frozenset(g.rows.tolist()) for g in log.state.groups if g.id.startswith("dogs")}
    assert parts == {frozenset(g.rows.tolist()) for g in (a, b, c)}


def test_nobody_is_asked_of_what_was_moved_by_hand():
    log = Log()
    question = log.state.open[0]
    rows = question.left.tolist()
    log.add(kind="move", pictures=rows, group=None)
    for q in log.state.open:
        assert {int(q.shown_left[0]), int(q.shown_right[0])}.isdisjoint(rows)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "no object"),
        ({}, "kind is None"),
        ({"kind": "undo"}, "expected one of"),
        ({"kind": "split"}, "lacks group"),
        ({"kind": "split", "group": "birds 1", "x": 1}, "it takes group"),
        ({"kind": "split", "group": "apes 1"}, "look at the groups again"),
        ({"kind": "split", "group": ["birds 1"]}, "look at the groups again"),
        ({"kind": "name", "group": "birds 1", "name": 3}, "expected text"),
        ({"kind": "name", "group": "birds 1", "name": "x" * 201}, "up to 200"),
        ({"kind": "name", "group": "birds 1", "name": "a\x00b"}, "can be seen"),
        ({"kind": "move", "pictures": [], "group": None}, "one picture or more"),
        ({"kind": "move", "pictures": "12", "group": None}, "one picture or more"),
        ({"kind": "move", "pictures": [True], "group": None}, "ids go from 0"),
        ({"kind": "move", "pictures": [10**9], "group": None}, "ids go from 0"),
        ({"kind": "move", "pictures": [-1], "group": None}, "ids go from 0"),
        ({"kind": "merge", "groups": ["birds 1"]}, "two groups or more"),
        ({"kind": "merge", "groups": ["birds 1", "birds 1"]}, "with itself"),
        ({"kind": "merge", "groups": ["birds 1", "cats 1"]}, "different coarse classes"),
        ({"kind": "outlier", "pictures": [1], "on": 1}, "true or false"),
        ({"kind": "coarse", "pictures": [1], "coarse": "apes"}, "birds, cats, dogs"),
        ({"kind": "granularity", "coarse": "cats", "value": 0}, "from 1"),
        ({"kind": "granularity", "coarse": "cats", "value": True}, "from 1"),
        ({"kind": "granularity", "coarse": "cats", "value": []}, "from 1"),
        ({"kind": "answer", "left": 1, "right": 1, "verdict": "same"}, "with itself"),
        ({"kind": "answer", "left": 1, "right": 2, "verdict": "yes"}, "same, different, unsure"),
        ({"kind": "answer", "left": {}, "right": 2, "verdict": "same"}, "no picture"),
    ],
)
def test_what_cannot_be_done_is_told(body, words):
    with pytest.raises(InputError, match=words):
        content_of(folded(GROUND, [], {}), body)


def test_every_kind_can_be_done():
    assert tuple(ACTIONS) == KINDS
