"""The pictures of a run folder: curves, a map, and queries with their neighbours."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskcon.data import DataSet, Split
from maskcon.eval.projection import places
from maskcon.eval.retrieval import nearest_others
from maskcon.report import palette
from maskcon.runs.results import without_learning
from maskcon.runtime.files import replacing
from maskcon.runtime.progress import printable
from maskcon.runtime.seeds import generator, seed_of

MAP_POINTS = 2000  # t-SNE of more takes minutes
NAMED = 40  # coarse classes that the map names
QUERIES = 10
NEIGHBOURS = 10
THUMBNAIL = 96  # pixels, of pictures that are not small
RIGHT, NEAR, WRONG = "#2a7f3f", "#e0a100", "#c23b22"  # same fine, same coarse only, other


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def curves(run: Mapping[str, Any], folder: Path) -> Any:
    """Loss, and recall over the steps beside that without learning."""
    lines = [
        json.loads(line)
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    loss = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    evaluations = [line for line in lines if "epoch" in line]
    level = "coarse" if any("recall@1/coarse" in line for line in evaluations) else "fine"
    figure = _figure(10, 3.6)
    axes = figure.subplots(1, 2 if evaluations else 1, squeeze=False)[0]
    axes[0].plot(*zip(*loss, strict=True), color=palette.colour(0))
    axes[0].set(xlabel="step", ylabel="loss", title="training loss")
    if evaluations:
        beside, known = next(iter(without_learning(run).items()))
        names = [key for key in evaluations[0] if key.startswith("recall@")]
        for place, name in enumerate(names):
            points = [(line["step"], 100 * line[name]) for line in evaluations]
            colour = palette.colour(place)
            how: dict[str, Any] = {"marker": "o", "markersize": 3, "color": colour}
            axes[1].plot(*zip(*points, strict=True), label=name, **how)
            axes[1].axhline(100 * known[name], color=colour, linestyle=":", linewidth=1)
        axes[1].plot([], [], color="grey", linestyle=":", linewidth=1, label=beside)
        axes[1].set(
            xlabel="step", ylabel="per cent", title=f"recall of {level} classes, test images"
        )
        axes[1].set_ylim(0, 100)
        axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def label_distances(results: Mapping[str, Any]) -> Any:
    """How far soft labels are from the fine classes' over tau, beside methods without tau.

    Args:
        results: as `maskcon.eval.soft_labels.soft_labels` returns them.
    """
    figure = _figure(7.5, 4.2)
    ax = figure.subplots()
    curves = {name: curve for name, curve in results.items() if name.startswith("over_tau/")}
    for place, (name, curve) in enumerate(curves.items()):
        points = [(float(tau), 100 * value) for tau, value in curve.items()]
        label = f"maskcon, {name.partition('/')[2].replace('=', ' ')}"
        how: dict[str, Any] = {"marker": "o", "markersize": 3, "color": palette.colour(place)}
        ax.plot(*zip(*points, strict=True), label=label, **how)
    for name, style in (
        ("selfcon", ":"),
        ("coins", (0, (1, 4))),
        ("grafit", "-."),
        ("supcon", "--"),
    ):
        level = 100 * results[f"label_distance/{name}"]
        ax.axhline(level, linestyle=style, color="grey", linewidth=1.2, label=name)
    ax.set(
        xscale="log",
        xlabel="tau",
        ylabel="per cent of a label",
        title="soft labels: total variation from those of the fine classes",
    )
    ax.set_ylim(0, 100)
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return figure


def draw(figure: Any, path: Path) -> None:
    """Write a figure as what its name ends in.

    Raises:
        TrainingError: the disk is full or read-only; an earlier file is untouched.
    """
    with replacing(path) as file:
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=110)


def tsne_map(run: Mapping[str, Any], data: DataSet, features: Tensor) -> Any:
    """t-SNE of test features, coloured by coarse class, with names of fine ones."""
    seed = run["config"]["seed"]
    drawn = torch.randperm(len(features), generator=generator(seed, "map"))[:MAP_POINTS]
    points = places(features[drawn].numpy(), "tsne", seed_of(seed, "map"))
    coarse = data.test.coarse[drawn].numpy()
    figure = _figure(10, 7)
    ax = figure.subplots()
    there, counts = np.unique(coarse, return_counts=True)
    named = set(there[np.argsort(-counts, kind="stable")[:NAMED]].tolist())
    for index in there.tolist():
        mine, colour = points[coarse == index], palette.colour(index)
        label = _shown(data.coarse_names[index]) if index in named else None
        ax.scatter(*mine.T, s=9, color=colour, label=label, linewidths=0)
    ax.set(xticks=[], yticks=[], title=f"{len(drawn):,} test images, coloured by coarse class")
    ax.spines[:].set_visible(False)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper", markerscale=2.5)
    if data.test.fine is not None:
        _name_classes(figure, points, data.test.fine[drawn].numpy(), data.fine_names)
    return figure


def _shown(name: str) -> str:
    """A name that a legend shows: matplotlib leaves out those that begin with "_"."""
    name = printable(name)
    return f" {name}" if name.startswith("_") else name


def _name_classes(figure: Any, points: np.ndarray, fine: np.ndarray, names: Sequence[str]) -> None:
    """Write class names at the middle of their points, the tightest first, none over another."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # lays the figure out, so that the extent of a text is known
    (ax,) = figure.axes
    classes = []
    for index in np.unique(fine):
        mine = points[fine == index]
        middle = np.median(mine, axis=0)
        spread = np.median(np.abs(mine - middle).sum(1))
        classes.append((spread, printable(names[index].rpartition("/")[2]), middle))
    written: list[Any] = []
    for _, name, middle in sorted(classes, key=lambda entry: entry[0]):
        text = ax.annotate(
            name,
            middle,
            ha="center",
            va="center",
            fontsize=7 if len(name) > 1 else 11,
            bbox={"boxstyle": "round,pad=0.15", "color": "white", "alpha": 0.6},
        )
        extent = text.get_window_extent(canvas.get_renderer())
        if any(extent.overlaps(other) for other in written):
            text.remove()
        else:
            written.append(extent)


def neighbours(data: DataSet, features: Tensor) -> Any:
    """Queries, each with its nearest other test images, right and wrong marked."""
    split = data.test
    count = min(NEIGHBOURS, len(split) - 1)
    found = nearest_others(features, count).ids
    queries = _spread(split.coarse, QUERIES)
    figure = _figure(1.0 * (count + 1.6), 1.12 * len(queries) + 0.5)
    ax = figure.subplots()  # one for all: a hundred of them take seconds to lay out
    for row, query in enumerate(queries):
        _picture(ax, (row, 0), split, query, "black", 1)
        ax.text(-0.05, row, _name(data, query), ha="right", va="center", fontsize=8)
        for column, neighbour in enumerate(found[query].tolist(), 1):
            same_coarse = bool(split.coarse[neighbour] == split.coarse[query])
            if split.fine is None:
                mark, colour = ("✓", NEAR) if same_coarse else ("✗", WRONG)
            elif split.fine[neighbour] == split.fine[query]:
                mark, colour = "✓", RIGHT
            else:
                mark, colour = ("~", NEAR) if same_coarse else ("✗", WRONG)
            _picture(ax, (row, column), split, neighbour, colour, 2.5)
            name = f"{mark} {_name(data, neighbour)}"
            at = (column + 0.47, row - 0.45)
            ax.text(*at, name, ha="center", va="bottom", fontsize=6.5, color=colour)
    ax.set(xlim=(0, count + 1), ylim=(len(queries) - 0.5, -0.62), aspect=1.12)
    ax.set_axis_off()
    key = (
        "✓ same coarse class"
        if split.fine is None
        else "✓ same fine class   ~ same coarse class only"
    )
    figure.suptitle(f"test images and their nearest others:   {key}   ✗ neither", fontsize=10)
    return figure


def _spread(coarse: Tensor, count: int) -> list[int]:
    """Rows of as many coarse classes as possible: the first of each, then the second, ..."""
    order = torch.argsort(coarse, stable=True)
    sizes = torch.bincount(coarse)
    first = torch.cumsum(sizes, 0) - sizes
    rank = torch.arange(len(coarse)) - first[coarse[order]]
    return order[torch.argsort(rank, stable=True)][:count].tolist()


def _picture(
    ax: Any, place: tuple[int, int], split: Split, index: int, colour: str, width: float
) -> None:
    """A picture, whole and in its own shape, in its place (row, column) of the grid, framed."""
    from matplotlib.patches import Rectangle

    row, column = place
    sides = split.images.sizes[index]
    high, wide = (sides / sides.max()).tolist()
    left, top = column + 0.47 * (1 - wide), row - 0.42 * high
    right, bottom = left + 0.94 * wide, row + 0.42 * high
    image = split.images.picture(index, THUMBNAIL).permute(1, 2, 0).numpy()
    ax.imshow(image, interpolation="nearest", extent=(left, right, bottom, top))
    size = (right - left, top - bottom)
    ax.add_patch(Rectangle((left, bottom), *size, fill=False, color=colour, linewidth=width))


def _name(data: DataSet, row: int) -> str:
    if data.test.fine is None:
        return printable(data.coarse_names[int(data.test.coarse[row])])
    return printable(data.fine_names[int(data.test.fine[row])].rpartition("/")[2])
