"""What a finished run shows to people: pictures and a model card."""

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from torch import Tensor

from maskcon.data import DataSet, Features
from maskcon.data.plans import picture
from maskcon.eval.retrieval import nearest_others
from maskcon.methods.family import METHODS
from maskcon.methods.schedules import shown
from maskcon.runs.checkpoint import write_atomically
from maskcon.runtime.progress import Progress, duration, printable
from maskcon.runtime.seeds import generator, seed_of

MAP_POINTS = 2000  # t-SNE of more takes minutes
NAMED = 40  # coarse classes that the map and the card name
QUERIES = 10
NEIGHBOURS = 10
THUMBNAIL = 96  # pixels, of pictures that are not small
RIGHT, NEAR, WRONG = "#2a7f3f", "#e0a100", "#c23b22"  # same fine, same coarse only, other


def write(
    folder: Path, run: Mapping[str, Any], data: DataSet, features: Tensor, progress: Progress
) -> None:
    """Draw curves.png, map.png and neighbours.png and write README.md, the model card.

    Args:
        folder: the run folder, with metrics.jsonl.
        run: the content of run.json.
        data: the data set; its test split belongs to the features.
        features: float32 [N, F] of unit length.
        progress: told what is drawn.
    """
    write_atomically(folder / "README.md", _card(run).encode())
    matplotlib.use("Agg")
    pictures = (
        ("curves.png", lambda: _curves(run, folder)),
        ("map.png", lambda: _map(run, data, features)),
        ("neighbours.png", lambda: _neighbours(data, features)),
    )
    with matplotlib.rc_context({"text.parse_math": False}):  # a class may be called $x$
        for name, draw in pictures:
            if name == "neighbours.png" and isinstance(data.test.images, Features):
                continue  # of vectors there is nothing to look at
            progress.update(f"drawing {name}")
            content = io.BytesIO()
            draw().savefig(content, dpi=110)
            write_atomically(folder / name, content.getvalue())
    progress.close()
    progress.note(f"{folder}: encoder, results, pictures and README.md are written")


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure((width, height), layout="constrained")


def _curves(run: Mapping[str, Any], folder: Path) -> Any:
    """Loss and, where there are fine labels, recall over the steps beside that of raw pixels."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    loss = [(line["step"], line["loss"]) for line in lines if "loss" in line]
    evaluations = [line for line in lines if "epoch" in line]
    level = "coarse" if any("recall@1/coarse" in line for line in evaluations) else "fine"
    figure = _figure(10, 3.6)
    axes = figure.subplots(1, 2 if evaluations else 1, squeeze=False)[0]
    axes[0].plot(*zip(*loss, strict=True), color="#30507a")
    axes[0].set(xlabel="step", ylabel="loss", title="training loss")
    if evaluations:
        for name in (key for key in evaluations[0] if key.startswith("recall@")):
            points = [(line["step"], 100 * line[name]) for line in evaluations]
            drawn = axes[1].plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
            pixels = 100 * run["results"]["pixels"][name]
            axes[1].axhline(pixels, color=drawn[0].get_color(), linestyle=":", linewidth=1)
        axes[1].plot([], [], color="grey", linestyle=":", linewidth=1, label=_untrained(run))
        axes[1].set(
            xlabel="step", ylabel="per cent", title=f"recall of {level} classes, test images"
        )
        axes[1].set_ylim(0, 100)
        axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    return figure


def _map(run: Mapping[str, Any], data: DataSet, features: Tensor) -> Any:
    """t-SNE of test features, coloured by coarse class, with names of fine ones."""
    from sklearn.manifold import TSNE

    seed = run["config"]["seed"]
    drawn = torch.randperm(len(features), generator=generator(seed, "map"))[:MAP_POINTS]
    tsne = TSNE(
        perplexity=min(30.0, (len(drawn) - 1) / 3), init="pca", random_state=seed_of(seed, "map")
    )
    points = tsne.fit_transform(features[drawn].numpy())
    coarse = data.test.coarse[drawn].numpy()
    figure = _figure(10, 7)
    ax = figure.subplots()
    colours = matplotlib.colormaps["tab20" if len(data.coarse_names) > 10 else "tab10"]
    there, counts = np.unique(coarse, return_counts=True)
    named = set(there[np.argsort(-counts, kind="stable")[:NAMED]].tolist())
    for index in there.tolist():
        mine, colour = points[coarse == index], colours(index % colours.N)
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


def _neighbours(data: DataSet, features: Tensor) -> Any:
    """Queries, each with its nearest other test images, right and wrong marked."""
    split = data.test
    count = min(NEIGHBOURS, len(split) - 1)
    found = nearest_others(features, count).ids
    queries = _spread(split.coarse, QUERIES)
    figure = _figure(1.0 * (count + 1.6), 1.12 * len(queries) + 0.5)
    grid = figure.subplots(len(queries), count + 1, squeeze=False)
    for row, query in zip(grid, queries, strict=True):
        _picture(row[0], picture(split.images, query, THUMBNAIL))
        row[0].set_ylabel(
            _name(data, query), rotation=0, ha="right", va="center", fontsize=8, labelpad=6
        )
        for ax, neighbour in zip(row[1:], found[query].tolist(), strict=True):
            _picture(ax, picture(split.images, neighbour, THUMBNAIL))
            same_coarse = bool(split.coarse[neighbour] == split.coarse[query])
            if split.fine is None:
                mark, colour = ("✓", NEAR) if same_coarse else ("✗", WRONG)
            elif split.fine[neighbour] == split.fine[query]:
                mark, colour = "✓", RIGHT
            else:
                mark, colour = ("~", NEAR) if same_coarse else ("✗", WRONG)
            for spine in ax.spines.values():
                spine.set(color=colour, linewidth=2.5)
            ax.set_title(f"{mark} {_name(data, neighbour)}", fontsize=6.5, color=colour, pad=2)
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


def _picture(ax: Any, image: Tensor) -> None:
    ax.imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
    ax.set(xticks=[], yticks=[])


def _name(data: DataSet, row: int) -> str:
    if data.test.fine is None:
        return printable(data.coarse_names[int(data.test.coarse[row])])
    return printable(data.fine_names[int(data.test.fine[row])].rpartition("/")[2])


def _untrained(run: Mapping[str, Any]) -> str:
    """What the recall without any learning is of."""
    return "raw pixels" if run["config"].get("features") is None else "vectors as given"


def _verdict(verdict: Mapping[str, Any]) -> str:
    before, after = verdict["frozen"], verdict["learned"]
    return (
        f"The head was {'kept' if verdict['kept'] else 'LEFT OUT, since it is worse'}: of train "
        f"images that it was not trained on, {before['coarse']:.1%} have a nearest neighbour of "
        f"their coarse class by the frozen vectors, {after['coarse']:.1%} with the head; "
        f"{before['stable']:.1%} and {after['stable']:.1%} have, within their class, the same "
        "nearest neighbour by another view of themselves."
    )


def _in_markdown(name: str) -> str:
    """A name as text of a card, whatever is in it."""
    return re.sub(r"([\\`*\[\]<>|&])", r"\\\1", printable(" ".join(name.split())))


def _classes(names: Sequence[str]) -> str:
    shown = ", ".join(map(_in_markdown, names[:NAMED]))
    return shown + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")


def _card(run: Mapping[str, Any]) -> str:
    """The model card: what it is, how good, how it was made, how to use it."""
    config, results, data = run["config"], run["results"], run["data"]
    known = METHODS[config["method"]].hyper_parameters
    hyper = ", ".join(
        [
            *(f"{n} = {shown(config[n])}" for n in known),
            *(f"{n} = {config[n]:g}" for n in ("mixup", "ce_weight") if config[n]),
        ]
    )
    lines = [
        f"# {config['backbone']} trained on {_in_markdown(data['name'])} with {config['method']}",
        "",
        f"An image encoder trained with [maskcon](https://pypi.org/project/maskcon/) on "
        f"{data['train']:,} images "
        + (
            f"that carried only their **coarse** label ({len(data['coarse'])} coarse classes: "
            f"{_classes(data['coarse'])})."
            if config["label"] == "coarse"
            else f"with their **fine** labels ({data['fine']} classes): an upper bound."
        ),
        "",
    ]
    ks = [key for key in results if key.startswith("recall@")]
    rows = (
        ("last epoch", results),
        ("best epoch", results["best"]),
        *((("frozen backbone", results["frozen"]),) if "frozen" in results else ()),
        (_untrained(run), results["pixels"]),
    )
    if data["fine"]:
        lines.append(
            f"Recall of the {data['fine']} fine classes: each of {data['test']:,} test images "
            "queries all the others, by cosine similarity of the features."
        )
    else:
        lines.append(
            "The data have no fine labels, so the recall of fine classes is unknown. What can be "
            f"known is that of the {len(data['coarse'])} coarse classes, which training saw: each "
            f"of {data['test']:,} test images queries all the others."
        )
    if data["made_split"]:
        lines.append(
            "The set came without a test split: one was drawn, "
            f"{data['made_split']['share']:.0%} of each class, from seed "
            f"{data['made_split']['seed']}; split.csv has it."
        )
    if data["skipped"]:
        lines.append(
            f"{data['skipped']:,} pictures could not be read and were left out: skipped.csv."
        )
    lines += [
        "",
        "| | " + " | ".join(ks) + " |",
        "|---|" + "---|" * len(ks),
        *(f"| {name} | " + " | ".join(f"{row[k]:.2%}" for k in ks) + " |" for name, row in rows),
        "",
        f"The best epoch was {results['best']['epoch']} of {config['epochs']}, chosen on these "
        "very test images: quote the last one. The last row is what learning must beat.",
        "",
    ]
    verdict = run["training"].get("head")
    if verdict is not None:
        lines += [_verdict(verdict), ""]
    lines += [
        "![recall](curves.png)",
        "![map](map.png)",
        *(["![neighbours](neighbours.png)"] if config.get("features") is None else []),
        "",
        "## How it was made",
        "",
        f"- method {config['method']}" + (f" ({hyper})" if hyper else ""),
        f"- initial weights: {config['init']}; seed {config['seed']}",
        f"- {config['epochs']} epochs, batch {config['batch_size']}, "
        f"learning rate {config['lr']:g}, precision {run['precision']}",
        f"- {duration(run['training']['seconds'])} of training on {run['hardware']['device']} "
        f"({run['hardware']['cpu']}, {run['hardware']['threads']} threads), "
        f"{run['training']['images_per_second']:,.0f} images/s",
        f"- {run['started']}, maskcon {run['versions']['maskcon']} "
        f"(commit {run['commit'] or 'of the release'}), torch {run['versions']['torch']}",
        "",
        "All of it, and every option, is in run.json; the losses are in metrics.jsonl.",
        "",
        "## How to use it",
        "",
        "```python",
        "import maskcon",
        "",
        'encoder = maskcon.Encoder.load(".")  # this folder',
        "# images: paths, arrays, a folder or a table; vectors: float32 [N, F], unit length",
        "vectors = encoder.embed(images)",
        "```",
        "",
    ]
    return "\n".join(lines)
