"""The parts of a page as HTML. Whatever people named is escaped by `text`."""

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from maskcon.eval.recall import KS, WITHIN
from maskcon.report.album import Album
from maskcon.report.drawing import Line, bar, chart
from maskcon.report.figures import Figures
from maskcon.report.findings import Confusion, Query
from maskcon.report.near_duplicates import NearDuplicates
from maskcon.runs.results import hyper_parameters
from maskcon.runtime.progress import duration

MARKS = {"right": "✓", "near": "~", "wrong": "✗"}
HEALTH = {  # what each figure says
    "map@r": ("MAP@R", "mean average precision among as many neighbours as the class has", True),
    "r_precision": ("R-precision", "share of the own class among as many neighbours", True),
    "coarse_accuracy": ("coarse accuracy", "neighbours' vote for the coarse class", True),
    "effective_rank": ("effective rank", "directions that the features use", False),
    "alignment": ("alignment", "mean squared distance in a fine class; 0 is a point", False),
    "uniformity": ("uniformity", "lower is more even; 0 where all features are equal", False),
}


class Pictures:
    """Numbers of the pictures that a page holds, and their HTML.

    Args:
        album: all pictures.
        index: the number on the page of each row that is on it.
        mapped: how many of them are on the map; these have the first numbers.
    """

    def __init__(self, album: Album, index: Mapping[int, int], mapped: int):
        self.album, self.index, self.mapped = album, index, mapped
        self.classes = album.class_names

    def class_of(self, row: int) -> str:
        """The name of a picture's class."""
        return self.classes[int(self.album.label[row])]

    def draw(self, row: int, verdict: str = "") -> str:
        """A small picture with its class under it; its name when pointed at."""
        coarse = self.album.coarse_names[int(self.album.coarse[row])]
        about = f"{self.class_of(row)} ({coarse}), {self.album.names[row]}"
        mark = f'<span class="mark">{MARKS[verdict]}</span> ' if verdict else ""
        said = f"{verdict}: {about}" if verdict else about
        return (
            f'<figure class="small {verdict}"><button type="button" class="enlarge" '
            f'data-enlarge="{self.index[row]}" aria-label="enlarge {escape(said)}" '
            f'title="{escape(about)}"><canvas width="152" height="152" '
            f'data-picture="{self.index[row]}"></canvas></button>'
            f"<figcaption>{mark}{text(self.class_of(row))}</figcaption></figure>"
        )

    def find(self, row: int) -> str:
        """A button that goes to a picture on the map, where it is there."""
        number = self.index[row]
        if number >= self.mapped:
            return ""
        label = escape(f"show {self.class_of(row)}, {self.album.names[row]}, on the map")
        return (
            f'<button type="button" data-select="{number}" aria-label="{label}">on the map</button>'
        )


def text(name: str) -> str:
    """A name that somebody gave, as text that runs its own way and may break after "_"."""
    return f"<bdi>{escape(name).replace('_', '_<wbr>')}</bdi>"


def per_cent(share: float | None) -> str:
    """A share as people read it."""
    return "–" if share is None or math.isnan(share) else f"{100 * share:.2f} %"


def header(run: Mapping[str, Any], album: Album, data: str, figures: Figures) -> str:
    """What, when, of which data, how, and how good."""
    config = run["config"]
    hyper = hyper_parameters(config)
    trained = [f"{config['epochs']} epochs", f"batch {config['batch_size']}"]
    trained += [f"learning rate {config['lr']:g}", f"seed {config['seed']}"]
    if seconds := run.get("training", {}).get("seconds"):
        trained.append(f"{duration(seconds)} on {run['hardware']['device']}")
    facts = [
        ("Data", f"{text(data)}, {len(album):,} pictures judged"),
        ("Coarse classes", _names(album.coarse_names)),
        ("Fine classes", f"{len(album.fine_names):,}" if album.fine is not None else "unknown"),
        ("Method", text(config["method"] + (f" ({hyper})" if hyper else ""))),
        ("Network", text(f"{config['backbone']}, initial weights {Path(config['init']).name}")),
        ("Training", text(", ".join(trained))),
        ("Labels seen", text(f"{config['label']} ones")),
        ("Started", text(f"{run.get('started', 'unknown')} ({run.get('status', 'unknown')})")),
    ]
    listed = "".join(f"<div><dt>{name}</dt><dd>{fact}</dd></div>" for name, fact in facts)
    level = "" if album.fine is not None else " of coarse classes"
    big = [("recall@1" + level, "recall@1", "among all pictures")]
    if "recall@1" + WITHIN in figures.recall:
        big.append(("recall@1 within", "recall@1" + WITHIN, "among the own coarse class"))
    numbers = []
    for name, key, about in big:
        beside = [(what, row[key]) for what, row in figures.without_learning.items() if key in row]
        known = "".join(f"; {what} {per_cent(share)}" for what, share in beside[:1])
        numbers.append(
            f'<div class="big"><b>{per_cent(figures.recall.get(key))}</b><span>{name}</span>'
            f"<small>{about}{known}</small></div>"
        )
    return f'<div class="bigs">{"".join(numbers)}</div><dl class="facts">{listed}</dl>'


def _names(names: Sequence[str]) -> str:
    listed = ", ".join(map(text, names))
    if len(names) <= 12:
        return f"{len(names)}: {listed}"
    return f"<details><summary>{len(names):,} of them</summary>{listed}</details>"


def curves(
    metrics: Sequence[Mapping[str, Any]], without_learning: Mapping[str, Mapping[str, float]]
) -> str:
    """Loss and recall over the steps.

    Args:
        metrics: lines of metrics.jsonl.
        without_learning: recall that learning must beat, the hardest to beat first, by what it
            is of; drawn is the first.
    """
    beside, known = next(iter(without_learning.items()), ("", {}))
    loss = _series(metrics, "loss", 1)
    names = [
        key for line in metrics if "epoch" in line for key in line if key.startswith("recall@")
    ]
    recall = {name: _series(metrics, name, 100) for name in dict.fromkeys(names)}
    lines = [
        Line(name.removesuffix("/coarse"), points, _times(known.get(name), 100))
        for name, points in recall.items()
        if points
    ]
    parts = []
    if loss:
        drawn = chart([Line("loss", loss)], "training loss over the steps", "")
        parts.append(_figure(drawn, "Training loss", "loss", loss))
    if lines:
        coarse = any(name.endswith("/coarse") for name in recall)
        drawn = chart(lines, "recall of the test images over the steps", " %", 100)
        title = f"Recall of {'coarse' if coarse else 'fine'} classes, test images"
        dotted = f"; dotted: {beside}" if any(line.level is not None for line in lines) else ""
        parts.append(_figure(drawn, title + dotted, lines[0].name, lines[0].points))
    if not parts:
        return "<p>The run has no metrics.jsonl, or nothing is in it yet.</p>"
    return f'<div class="charts">{"".join(parts)}</div>'


def _series(metrics: Sequence[Mapping[str, Any]], name: str, by: float) -> list:
    """(step, value) of the lines that have it, finite ones alone."""
    found = [(line["step"], line.get(name)) for line in metrics if "step" in line]
    return [(s, v * by) for s, v in found if isinstance(v, int | float) and math.isfinite(v)]


def _times(value: float | None, by: float) -> float | None:
    return None if value is None else value * by


def _figure(drawn: str, title: str, name: str, points: Sequence[tuple[float, float]]) -> str:
    """A chart with its title, and the numbers behind its first line for those who want them."""
    kept = points[:: max(1, len(points) // 20)]
    if kept[-1] != points[-1]:
        kept = [*kept, points[-1]]
    rows = "".join(f"<tr><td>{step:,}</td><td>{value:,.4g}</td></tr>" for step, value in kept)
    return (
        f"<figure><figcaption>{title}</figcaption>{drawn}<details><summary>Numbers</summary>"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}: numbers">'
        f'<table><thead><tr><th scope="col">step</th><th scope="col">{escape(name)}</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div></details></figure>"
    )


def recall(figures: Figures, album: Album) -> str:
    """Recall@K beside that without learning, and recall@1 of each coarse class."""
    ks = [k for k in KS if any(name.startswith(f"recall@{k}/") or name == f"recall@{k}"
                               for name in figures.recall)]  # fmt: skip
    head = "".join(f'<th scope="col">@{k}</th>' for k in ks)
    rows = []
    for where, suffix in (("all pictures", ""), ("own coarse class", WITHIN)):
        for who, found in (("features", figures.recall), *figures.without_learning.items()):
            values = [found.get(f"recall@{k}{suffix}") for k in ks]
            if any(value is not None for value in values):
                cells = "".join(f"<td>{per_cent(value)}</td>" for value in values)
                rows.append(f'<tr><th scope="row">{who}, among {where}</th>{cells}</tr>')
    about = (
        "Each picture asks for another of its fine class; within, candidates are of its coarse "
        "class only, which is what coarse labels do not give away."
        if album.fine is not None
        else "There are no fine labels, so this is the recall of coarse classes, which training "
        "saw: the recall of fine classes is unknown."
    )
    return (
        f'<p>{about}</p><div class="scroll" tabindex="0" role="region" aria-label="Recall@K">'
        f'<table><thead><tr><th scope="col">Recall</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{_by_coarse(figures, album)}"
    )


def _by_coarse(figures: Figures, album: Album) -> str:
    """Bars of recall@1, the worst coarse class first."""
    counts = album.coarse.bincount(minlength=len(album.coarse_names)).tolist()
    within = any("recall@1" + WITHIN in found for found in figures.by_coarse.values())
    columns = [("among all", "recall@1"), ("within", "recall@1" + WITHIN)][: 1 + within]
    head = "".join(f'<th scope="col">{name}</th>' for name, _ in columns)
    rows = []
    for label, found in sorted(figures.by_coarse.items(), key=lambda item: item[1]["recall@1"]):
        cells = "".join(
            f"<td>{bar(found[key], colour)}<span>{per_cent(found[key])}</span></td>"
            for colour, (_, key) in enumerate(columns)
        )
        name = text(album.coarse_names[label])
        rows.append(f'<tr><th scope="row">{name}</th><td>{counts[label]:,}</td>{cells}</tr>')
    return (
        "<h3>Recall@1 of each coarse class, the worst first</h3>"
        '<div class="scroll tall" tabindex="0" role="region" '
        'aria-label="Recall@1 of each coarse class"><table class="bars"><thead><tr>'
        f'<th scope="col">Coarse class</th><th scope="col">pictures</th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def queries(pictures: Pictures, best: Sequence[Query], worst: Sequence[Query]) -> str:
    """Queries with their neighbours, right and wrong ones marked."""
    fine = pictures.album.fine is not None
    key = " ".join(
        f'<span class="key {verdict}"><span class="mark">{MARKS[verdict]}</span> {about}</span>'
        for verdict, about in (
            ("right", "same fine class" if fine else "same coarse class"),
            ("near", "same coarse class only"),
            ("wrong", "another coarse class" if fine else "another class"),
        )
        if fine or verdict != "near"
    )

    def row(query: Query) -> str:
        said = (
            f"average precision {per_cent(query.precision)}"
            if query.place == 1
            else f"first right picture at place {query.place:,}"
        )
        neighbours = "".join(
            f"<li>{pictures.draw(other, pictures.album.verdict(query.row, other))}</li>"
            for other in query.neighbours
        )
        return (
            f'<li class="query"><div class="asks">{pictures.draw(query.row)}<p>{said}</p>'
            f"{pictures.find(query.row)}</div><ol>{neighbours}</ol></li>"
        )

    parts = [
        "<p>A query at the left, its nearest pictures after it, nearest first; at most one query "
        f'of each class.</p><p class="keys">{key}</p>'
    ]
    for name, about, some in (
        ("Worst", "the first picture of the own class is farthest away", worst),
        ("Best", "the own class is nearest, as a whole", best),
    ):
        rows = "".join(map(row, some)) or "<li>None.</li>"
        parts.append(f'<h3>{name}: {about}</h3><ul class="queries">{rows}</ul>')
    return "".join(parts)


def confused(pictures: Pictures, found: Sequence[Confusion], k: int) -> str:
    """Pairs of classes among each other's neighbours, with the pictures that are nearest."""
    fine = pictures.album.fine is not None
    parts = [
        f"<p>Of the {k} nearest pictures of a class's pictures, so many are of the other class. "
        "The pairs of pictures are the most similar ones.</p>"
    ]
    for within, title in ((True, "Within a coarse class"), (False, "Across coarse classes")):
        if within and not fine:
            continue
        rows = "".join(_confusion(pictures, pair) for pair in found if pair.within == within)
        parts.append(f'<h3>{title}</h3><ul class="pairs">{rows or "<li>None.</li>"}</ul>')
    return "".join(parts)


def _confusion(pictures: Pictures, pair: Confusion) -> str:
    first, second = pictures.classes[pair.first], pictures.classes[pair.second]
    label = escape(f"show {first} and {second} on the map", quote=True)
    examples = "".join(
        f'<div class="pair">{pictures.draw(query)}{pictures.draw(other)}</div>'
        for query, other in pair.examples
    )
    return (
        f'<li class="confusion"><div><p><b>{text(first)}</b> and <b>{text(second)}</b></p>'
        f"<p>{text(first)} → {text(second)} {per_cent(pair.there)}<br>"
        f"{text(second)} → {text(first)} {per_cent(pair.back)}</p>"
        f'<button type="button" data-classes="{pair.first} {pair.second}" aria-label="{label}">'
        f'on the map</button></div><div class="examples">{examples}</div></li>'
    )


def duplicates(pictures: Pictures, found: Sequence[NearDuplicates]) -> str:
    """Pairs of pictures that may be the same; two labels of one picture are pointed out."""
    album = pictures.album
    parts = [
        "<p>Compared are the judged pictures among themselves: as grey pictures of 16 px, also "
        "mirrored, and by their features. Nothing was removed. <code>maskcon data check</code> "
        "compares the train and the test split.</p>"
    ]
    for alike, title in (
        ("pixels", "Nearly the same pixels"),
        ("features", "Alike to the encoder, and light and dark in the same places"),
    ):
        rows = []
        for pair in found:
            if pair.alike != alike:
                continue
            a, b = pair.rows()
            mirrored = ", mirrored" if pair.mirrored else ""
            verdict = album.verdict(a, b)
            note = "" if verdict == "right" else '<p class="warning">⚠ different labels</p>'
            rows.append(
                f'<li><div class="pair">{pictures.draw(a)}{pictures.draw(b)}</div>'
                f"<p>difference {pair.difference:.1f} of 255{mirrored}<br>"
                f"similarity {pair.similarity:.3f}</p>{note}{pictures.find(a)}</li>"
            )
        listed = "".join(rows) or "<li>None.</li>"
        parts.append(f'<h3>{title}</h3><ul class="twins">{listed}</ul>')
    return "".join(parts)


def diagnostics(figures: Figures, count: int) -> str:
    """Whether the space of so many pictures is in order."""
    sample = (
        "<p>Precision, coarse accuracy, uniformity and the recall of raw pixels above are those "
        f"of {figures.asked:,} of the {count:,} pictures, drawn at random, each compared with "
        "all.</p>"
        if figures.asked < count
        else ""
    )
    rows = []
    for key, (name, about, share) in HEALTH.items():
        if key in figures.diagnostics:
            value = figures.diagnostics[key]
            said = per_cent(value) if share else f"{value:,.3f}"
            rows.append(f'<tr><th scope="row">{name}</th><td>{said}</td><td>{about}</td></tr>')
    return (
        f'{sample}<div class="scroll" tabindex="0" role="region" '
        'aria-label="Figures of the space"><table>'
        '<thead><tr><th scope="col">Figure</th><th scope="col">value</th><th scope="col">what it '
        f"tells</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def data_block(content: Mapping[str, Any]) -> str:
    """JSON that nothing in it can end: it holds no "<"."""
    packed = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return packed.replace("<", "\\u003c")
