"""One page with the pictures of every group: to look at, and to name the groups on.

The page needs no network and no other file: pictures, style and script are in it.
"""

import io
import json
import shlex
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from maskcon.data.pictures import Pictures
from maskcon.data.scan import each
from maskcon.data.thumbnails import thumbnail
from maskcon.discover import questionnaire
from maskcon.discover.naming import Group
from maskcon.discover.outliers import Outlier
from maskcon.discover.place import Discovery, group_of
from maskcon.errors import InputError
from maskcon.runtime.pages import data_uri
from maskcon.runtime.pages import page as page_of
from maskcon.runtime.progress import Progress

TYPICAL, OUTLIERS = 12, 4  # pictures of each group
STRANGE = 60  # pictures at most that may carry a wrong coarse label
SIDE, GAP = 96, 12  # of a picture in pixels; between the lots of a question


def page(found: Discovery, command: str, asking: str, *, workers: int, progress: Progress) -> bytes:
    """The page, HTML in UTF-8.

    Args:
        found: what was found.
        command: that applies the names, up to the path of their table.
        asking: the command that reads answers, up to the path of their table.
        workers: threads that read pictures.
        progress: told how far it is.
    """
    shown = {group.id: _shown(found, group) for group in found.groups}
    strange = [o for o in found.outliers if o.nearer is not None][:STRANGE]
    of_groups = {row for typical, outlier in shown.values() for row in typical + outlier}
    shown_lots = {int(r) for q in found.questions for r in (*q.shown_left, *q.shown_right)}
    rows = sorted(of_groups | shown_lots | {o.row for o in strange})
    pictures = _encoded(found, rows, workers, progress)
    sections = [_section(found, d, shown, pictures) for d in range(len(found.divisions))]
    links = "".join(
        f'<a href="#class-{d}">{escape(found.coarse[division.label])}</a>'
        for d, division in enumerate(found.divisions)
    )
    here = Path(__file__)
    body = _BODY.format(
        name=escape(found.name),
        images=len(found.pictures),
        groups=len(found.groups),
        classes=len(found.divisions),
        example=escape(_example(found)),
        links=links,
        questions=questionnaire.asked(
            found.questions,
            found.answers,
            found.pictures.name,
            found.coarse,
            lambda row: _picture(found, row, pictures[row], "picture"),
            asking,
        ),
        sections="".join(sections) + _strange(found, strange, pictures),
        command=escape(command),
        key=escape(json.dumps([found.name, [_first(found, g) for g in found.groups]])),
    )
    style, script = (here.with_suffix(end).read_text("utf-8") for end in (".css", ".js"))
    return page_of(f"groups of {found.name}", body, style=style, script=script).encode()


def question(pictures: Pictures, left: Sequence[int], right: Sequence[int]) -> bytes:
    """A PNG of two lots of pictures, one in each row, with a line between.

    Raises:
        InputError: a picture cannot be read.
    """
    wide = max(len(left), len(right))
    page = Image.new("RGB", (wide * SIDE, 2 * SIDE + GAP), "white")
    for top, rows in ((0, left), (SIDE + GAP, right)):
        for i, row in enumerate(rows):
            small = Image.open(io.BytesIO(thumbnail(pictures.decode(row), SIDE)))
            page.paste(small, (i * SIDE, top))
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _example(found: Discovery) -> str:
    """How two groups more are asked for, in the largest class."""
    largest = max(found.divisions, key=lambda division: len(division.rows))
    return shlex.join(["--groups", f"{found.coarse[largest.label]}={largest.number + 2}"])


def _first(found: Discovery, group: Group) -> str:
    return found.pictures.name(int(found.typical(group)[0]))


def _shown(found: Discovery, group: Group) -> tuple[list[int], list[int]]:
    """Rows of a group's typical pictures and of its outliers, the farthest last."""
    rows = found.typical(group)
    division = found.divisions[group.division]
    outlier = rows[division.outlier[division.members(group.place)]][-OUTLIERS:]
    typical = rows[:TYPICAL]
    return typical.tolist(), [row for row in outlier.tolist() if row not in typical]


def _encoded(found: Discovery, rows: list[int], workers: int, progress: Progress) -> dict[int, str]:
    """Small pictures as data URIs, by row; "" where one cannot be read any more."""

    def encode(i: int) -> str:
        return data_uri(thumbnail(found.pictures.decode(rows[i]), SIDE))

    done = each(encode, len(rows), workers, progress, "drawing the sheet")
    return {rows[i]: "" if isinstance(uri, InputError) else uri for i, uri in done}


def _section(
    found: Discovery,
    d: int,
    shown: dict[str, tuple[list[int], list[int]]],
    pictures: dict[int, str],
) -> str:
    division = found.divisions[d]
    name = escape(found.coarse[division.label])
    count = f"{division.number} group{'s' if division.number > 1 else ''}"
    low, high = division.found.low, division.found.high
    between = f" ({low} to {high})" if low < high else ""
    words = {
        "clear": "different kinds, by answers and vectors",
        "uncertain": "some groups may be one kind: answer more questions",
        "kinds or visits": "kinds, or visits to one kind: only a person can tell",
        "none": "left whole",
        "given": "their number was given",
        "known": "as many names are known",
    }
    facts = f"{len(division.rows):,} images · {count}{between} · "
    facts += words.get(division.found.structure, division.found.structure)
    groups = found.of(d)
    first = [shown[group.id][0][0] for group in groups]
    facts += "</p>" + questionnaire.tree(
        division, groups, lambda row: _picture(found, row, pictures[row], "typical"), first
    )
    articles = "".join(_article(found, group, *shown[group.id], pictures) for group in found.of(d))
    return f'<section id="class-{d}"><h2>{name}</h2><p class="facts">{facts}{articles}</section>\n'


def _strange(found: Discovery, strange: Sequence[Outlier], pictures: dict[int, str]) -> str:
    """Pictures that may carry a wrong coarse label, each with the reason."""
    if not strange:
        return ""
    of = dict(group_of(found))
    ones = "".join(
        f"<figure>{_picture(found, o.row, pictures[o.row], 'perhaps a wrong label')}<figcaption>"
        f"{escape(of[o.row][0].id)}: {escape(o.reason(found.coarse))}</figcaption></figure>"
        for o in strange
    )
    return (
        '<section id="labels"><h2>Perhaps a wrong coarse label</h2><p class="facts">'
        f"outliers.csv has these and all that lie far from their group</p>{ones}</section>\n"
    )


def _article(
    found: Discovery, group: Group, typical: list[int], outlier: list[int], pictures: dict[int, str]
) -> str:
    division = found.divisions[group.division]
    inside = division.group == group.place
    sure = division.confidence[inside].mean()
    given = "" if group.name == group.id else escape(group.name)
    id_ = f"name-{group.division}-{group.place}"
    ones = "".join(_picture(found, row, pictures[row], "typical") for row in typical)
    outliers = "".join(_picture(found, row, pictures[row], "outlier") for row in outlier)
    if outliers:
        outliers = f'<span class="outlier" role="group" aria-label="outliers">{outliers}</span>'
    return (
        f'<article id="group-{group.division}-{group.place}">'
        f'<div class="head"><h3>{escape(group.id)}</h3>'
        f'<span class="facts">{inside.sum():,} images · confidence {sure:.2f} · '
        f"{division.outlier[inside].sum():,} outliers</span>"
        f'<span class="name"><label for="{id_}">name</label>'
        f'<input id="{id_}" value="{given}" data-group="{escape(group.id)}" '
        f'data-images="{inside.sum()}" data-typical="{escape(_first(found, group))}" '
        'autocomplete="off" spellcheck="false"></span></div>'
        f'<div class="pictures">{ones}{outliers}</div></article>'
    )


def _picture(found: Discovery, row: int, uri: str, kind: str) -> str:
    name = escape(found.pictures.name(row))
    return f'<img src="{uri}" alt="{kind}: {name}" title="{name}" loading="lazy">'


_BODY = """<header>
<h1>Groups of {name}</h1>
<p>{images:,} images in {classes:,} coarse classes fall into {groups:,} groups. Each shows its
most typical pictures first and its outliers last, in a frame. Write a name where you know one
(Enter goes on to the next); groups of one coarse class with the same name become one. Where a group
holds several kinds, run again with more: <code>{example}</code>.</p>
</header>
<div class="bar">
<output id="count"></output>
<button id="save" type="button">Download names.csv</button>
<span class="facts">then</span> <code>{command} <b>names.csv</b></code>
</div>
<nav aria-label="coarse classes">{links}</nav>
{questions}<main id="groups" data-key="{key}">
{sections}</main>"""
