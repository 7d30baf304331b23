"""All of a run as one page that asks nothing of any network."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from string import Template
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.eval.projection import places
from maskcon.eval.retrieval import Retrieval, nearest_others
from maskcon.report import palette, sections
from maskcon.report.album import Album
from maskcon.report.figures import Figures, figures
from maskcon.report.findings import Confusion, Query, best_and_worst, confusions
from maskcon.report.near_duplicates import NearDuplicates, near_duplicates
from maskcon.report.sprites import Sheets, large, sheets
from maskcon.runs.results import without_learning
from maskcon.runtime import pages
from maskcon.runtime.progress import Progress
from maskcon.runtime.seeds import generator, seed_of

NEIGHBOURS = 10  # of each picture that a page shows
SCRIPTS = ("parts.js", "map.js", "page.js")  # in this order; the app has the first two as well
FOUND = ("right", "near", "wrong")  # what the nearest picture of each may be


@dataclass(frozen=True)
class Page:
    """A page and what is on it.

    Attributes:
        html: the page.
        points: pictures on the map.
        pictures: all pictures on the page.
        figures: the numbers.
    """

    html: str
    points: int
    pictures: int
    figures: Figures


@dataclass(frozen=True)
class _Findings:
    best: Sequence[Query]
    worst: Sequence[Query]
    confused: Sequence[Confusion]
    near_duplicates: Sequence[NearDuplicates]

    def rows(self) -> Iterable[int]:
        for kind in (self.best, self.worst, self.confused, self.near_duplicates):
            for finding in kind:
                yield from finding.rows()


def build(
    run: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    data: str,
    album: Album,
    *,
    frozen: Mapping[str, float] | None = None,
    points: int,
    how: str,
    progress: Progress,
) -> Page:
    """Make the page.

    Args:
        run: the content of run.json.
        metrics: the lines of metrics.jsonl.
        data: what people call the pictures' set.
        album: the pictures. All are judged.
        frozen: recall of the network alone, where only a head on it was trained.
        points: pictures on the map, at most; drawn from the album's seed.
        how: they are placed: "tsne", "umap" or "pca".
        progress: told what goes on.

    Raises:
        InputError: features that cannot be judged, or an unknown kind of map.
    """
    pixels = album.pixels()
    judged = figures(album, pixels, frozen, progress)
    progress.update("neighbours")
    near = nearest_others(album.features, min(NEIGHBOURS, len(album) - 1))
    best, worst = best_and_worst(album, near, judged.precision)
    progress.update("looking for duplicates")
    found = _Findings(best, worst, confusions(album, near), near_duplicates(album, pixels, near))
    del pixels
    # In random order, so that no class is drawn over the others.
    mapped = torch.randperm(len(album), generator=generator(album.seed, "map"))[:points]
    spots = places(album.features[mapped].numpy(), how, seed_of(album.seed, "map"), progress)
    more = sorted(set(found.rows()) - set(mapped.tolist()))
    rows = torch.cat([mapped, torch.tensor(more, dtype=torch.long)])
    progress.update("making small pictures")
    small = sheets(album.images, rows, album.workers)
    index = {row: number for number, row in enumerate(rows.tolist())}
    largest = sorted(set(found.rows())) if album.images.side > small.side else []
    enlarged = large(album.images, torch.tensor(largest, dtype=torch.long), album.workers)
    block = _block(album, judged, near, mapped, rows, spots, small)
    block["large"] = [index[row] for row in largest]
    block["largeSheet"] = enlarged.layout()
    shown = sections.Pictures(album, index, len(mapped))
    parts = _parts(run, metrics, data, album, judged, found, shown, near.ids.shape[1])
    html = assemble(parts, sections.data_block(block), small.uris, enlarged.uris)
    return Page(html, len(mapped), len(rows), judged)


def _parts(
    run: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    data: str,
    album: Album,
    judged: Figures,
    found: _Findings,
    shown: sections.Pictures,
    k: int,
) -> dict[str, str]:
    title = f"{run['config']['method']} on {data}"
    sample = "" if shown.mapped == len(album) else f" of {len(album):,}, drawn at random,"
    return {
        "title": title,
        "header": sections.header(run, album, data, judged),
        "curves": sections.curves(metrics, without_learning(run)),
        "recall": sections.recall(judged, album),
        "about_map": f"{shown.mapped:,} test pictures{sample} placed so that similar ones lie "
        "near each other. Distances between groups mean little.",
        "queries": sections.queries(shown, found.best, found.worst),
        "confusions": sections.confused(shown, found.confused, k),
        "duplicates": sections.duplicates(shown, found.near_duplicates),
        "diagnostics": sections.diagnostics(judged, len(album)),
        "made": f"Made by maskcon {run.get('versions', {}).get('maskcon', '')}.",
    }


def _block(
    album: Album,
    judged: Figures,
    near: Retrieval,
    mapped: Tensor,
    rows: Tensor,
    spots: np.ndarray,
    small: Sheets,
) -> dict[str, Any]:
    """What the scripts know: columns of the map's points as base64, and names as they are."""
    beside = _beside(album, near, mapped)
    nearest = near.ids[mapped, 0]
    same = album.coarse[nearest] == album.coarse[mapped]
    verdict = torch.where(judged.hit[mapped], 0, torch.where(same, 1, 2))
    spot = np.round(spots * 65535)
    return {
        "points": len(mapped),
        "k": beside.ids.shape[1],
        "x": _column(spot[:, 0], "<u2"),
        "y": _column(spot[:, 1], "<u2"),
        "coarse": _column(album.coarse[rows].numpy(), "<u4"),
        "label": _column(album.label[rows].numpy(), "<u4"),
        "found": _column(verdict.numpy(), "u1"),
        "neighbours": _column(beside.ids.numpy(), "<u4"),
        "similarity": _column((100 * beside.scores.numpy()).round().clip(-100, 100), "i1"),
        "names": [album.names[row] for row in rows.tolist()],
        "coarseNames": list(album.coarse_names),
        "classNames": album.class_names,
        "fine": album.fine is not None,
        "ratio": _column(album.ratio[rows].numpy(), "<f4"),
        "sheet": small.layout(),
    }


def _beside(album: Album, near: Retrieval, mapped: Tensor) -> Retrieval:
    """Neighbours of each picture on the map, of those on the map, by their numbers there."""
    if len(mapped) < len(album):
        return nearest_others(album.features[mapped], min(NEIGHBOURS, len(mapped) - 1))
    number = torch.empty_like(mapped)
    number[mapped] = torch.arange(len(mapped))
    return Retrieval(number[near.ids[mapped]], near.scores[mapped])


def _column(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(kind).tobytes()).decode()


def assemble(
    parts: Mapping[str, str], block: str, uris: Sequence[str], enlarged: Sequence[str] = ()
) -> str:
    """The frame, filled, as a page.

    Args:
        parts: HTML, by the frame's names; "title" is text.
        block: JSON without "<".
        uris: of the sheets of pictures.
        enlarged: of the sheets of larger ones.
    """
    folder = resources.files("maskcon.report")
    style = folder.joinpath("page.css").read_text("utf-8")
    scripts = [folder.joinpath(name).read_text("utf-8") for name in SCRIPTS]
    script = "\n".join([palette.script(), *scripts])
    images = "\n".join(
        f'<img class="{kind}" hidden alt="" src="{uri}">'
        for kind, some in (("sheet", uris), ("sheet of-large", enlarged))
        for uri in some
    )
    frame = Template(folder.joinpath("page.html").read_text("utf-8"))
    title, shown = parts["title"], {**parts, "title": escape(parts["title"])}
    body = frame.substitute(shown, block=block, images=images)
    return pages.page(title, body, style=style, script=script)
