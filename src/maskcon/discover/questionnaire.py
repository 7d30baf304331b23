"""The parts of the page about trees: each class's merges to open and close, and its questions."""

import json
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from maskcon.discover.groups import Division
from maskcon.discover.naming import Group
from maskcon.discover.questions import Question

Show = Callable[[int], str]  # the img element of a row


def tree(division: Division, groups: Sequence[Group], show: Show, first: Sequence[int]) -> str:
    """The merges above the groups of a class, as lists that open and close; "" for one group.

    Where a number was given, groups need not be parts of the tree: a merge whose sides share a
    group is not opened.

    Args:
        division: of the class.
        groups: of it, in their order.
        show: a row as an img element.
        first: row of the most typical picture of each group.
    """
    t, n = division.grown.tree, division.grown.tree.leaves
    of = np.empty(n, np.int64)
    of[division.grown.leaf] = division.group
    held = [frozenset([int(g)]) for g in of]
    made = [""] * n
    for m, (a, b) in enumerate(t.joined.tolist()):
        held.append(held[a] | held[b])
        if len(held[-1]) == 1 or held[a] & held[b]:
            made.append("")
            continue
        sides = "".join(
            f"<li>{made[k] or _leaf(held[k], groups, show, first)}</li>" for k in (a, b)
        )
        made.append(
            f"<details><summary>{t.stop[n + m] - t.start[n + m]:,} images in {len(held[-1])} groups"
            f" · different kinds {division.strength[m]:.2f}</summary><ul>{sides}</ul></details>"
        )
    return f'<div class="tree">{made[-1]}</div>' if made[-1] else ""


def _leaf(held: frozenset[int], groups: Sequence[Group], show: Show, first: Sequence[int]) -> str:
    """Groups that are opened no further, each with its most typical picture."""
    return " ".join(
        f'<a href="#group-{groups[g].division}-{g}">{show(first[g])}{escape(groups[g].name)}</a>'
        for g in sorted(held)
    )


def asked(
    questions: Sequence[Question],
    before: Sequence[Sequence[str]],
    name: Callable[[int], str],
    coarse: Sequence[str],
    show: Show,
    command: str,
) -> str:
    """The questions, one at a time, with buttons and keys; "" where nothing is worth asking.

    Args:
        questions: in the order in which they are asked.
        before: left, right and answer of what was answered earlier, which the table has too.
        name: of a row.
        coarse: names of coarse labels.
        show: a row as an img element.
        command: that reads the table, up to its path.
    """
    if not questions:
        return ""
    ones = "".join(
        f'<div class="question" data-left="{escape(name(int(q.shown_left[0])))}" '
        f'data-right="{escape(name(int(q.shown_right[0])))}" hidden>'
        f'<p class="facts">{escape(coarse[q.coarse])}: {len(q.left):,} and {len(q.right):,} '
        "images</p>"
        f'<div class="pictures">{"".join(show(int(r)) for r in q.shown_left)}</div>'
        f'<div class="pictures">{"".join(show(int(r)) for r in q.shown_right)}</div></div>'
        for q in questions
    )
    buttons = "".join(
        f'<button type="button" data-say="{verdict}">{words} <kbd>{key}</kbd></button>'
        for verdict, words, key in (
            ("same", "Same", "S"), ("different", "Different", "D"), ("unsure", "Can't tell", "U"),
            ("back", "Back", "B"),
        )
    )  # fmt: skip
    return (
        f'<section id="questions" data-before="{escape(json.dumps([list(b) for b in before]))}">'
        '<h2>Are these two of the same kind?</h2><p class="facts"><output id="asked"></output> '
        f"The groups follow from your answers: <code>{escape(command)} <b>answers.csv</b></code>"
        "</p>"
        f'{ones}<div class="bar">{buttons}'
        '<button type="button" id="answers">Download answers.csv</button></div></section>\n'
    )
