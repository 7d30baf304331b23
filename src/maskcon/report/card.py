"""What a finished run shows to people: pictures, and README.md, the model card."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from torch import Tensor

from maskcon.data import DataSet
from maskcon.eval.stability import NAME as STABLE
from maskcon.report import plots
from maskcon.runs.results import (
    chosen_by_validation,
    compared,
    hyper_parameters,
    without_learning,
)
from maskcon.runtime import files
from maskcon.runtime.progress import Progress, duration, printable
from maskcon.train.best import PREFIX

NAMED = 40  # coarse classes that the card names
USE = "## How to use it"
_WORDS = re.compile(r"[^\W_]+(?:[ '-][^\W_]+)*")


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
    files.write(folder / "README.md", card(run).encode())
    matplotlib.use("Agg")
    pictures = {
        "curves.png": lambda: plots.curves(run, folder),
        "map.png": lambda: plots.tsne_map(run, data, features),
        "neighbours.png": lambda: plots.neighbours(data, features),
    }
    if not data.test.images.has_pictures:
        del pictures["neighbours.png"]  # of vectors there is nothing to look at
    with matplotlib.rc_context({"text.parse_math": False}):  # a class may be called $x$
        for name, draw in pictures.items():
            progress.update(f"drawing {name}")
            with files.replacing(folder / name) as file:
                draw().savefig(file, dpi=110)
    progress.close()
    progress.note(f"{folder}: encoder, results, pictures and README.md are written")


def card(run: Mapping[str, Any]) -> str:
    """The model card: what it is, how good, how it was made, how to use it.

    It may be published with the folder, so that it has no path of the machine it was made on.
    """
    config = run["config"]
    pictures = ["![recall](curves.png)", "![map](map.png)"]
    if config.get("features") is None:
        pictures.append("![neighbours](neighbours.png)")
    parts = (
        f"# {title(run)}",
        _what(run),
        _worth(run),
        "\n".join(pictures),
        _made(run),
        usage(".", vectors=config.get("features") is not None),
    )
    return "\n\n".join(parts)


def title(run: Mapping[str, Any]) -> str:
    """What was trained on what, how."""
    config = run["config"]
    network = config["backbone"]
    if config.get("features") is not None:
        network = "A head on vectors"
    elif config.get("freeze"):
        network = f"A head on a frozen {network},"
    data = Path(run["data"]["name"]).name  # which arrays may have been given a path for
    return f"{network} trained on {in_markdown(data)} with {config['method']}"


def _what(run: Mapping[str, Any]) -> str:
    config, data = run["config"], run["data"]
    if config["label"] == "fine":
        labels = f"with their **fine** labels ({data['fine']} classes): an upper bound."
    elif data["fine"] and len(data["coarse"]) == 1:
        labels = "without labels."
    else:
        labels = (
            f"that carried only their **coarse** label ({len(data['coarse'])} coarse classes: "
            f"{_classes(data['coarse'])})."
        )
    return (
        "An image encoder trained with [maskcon](https://pypi.org/project/maskcon/) on "
        f"{data['train']:,} images {labels}"
    )


def _worth(run: Mapping[str, Any]) -> str:
    """Recall beside what it is without learning; whether a head was kept."""
    results, data = run["results"], run["data"]
    ks = [key for key in results if key.startswith("recall@")]
    if data["fine"]:
        about = [
            f"Recall of the {data['fine']} fine classes: each of {data['test']:,} test images "
            "queries all the others, by cosine similarity of the features."
        ]
    else:
        about = [
            "The data have no fine labels, so the recall of fine classes is unknown. What can be "
            f"known is that of the {len(data['coarse'])} coarse classes, which training saw: each "
            f"of {data['test']:,} test images queries all the others."
        ]
    if split := data["made_split"]:
        about.append(
            f"The set came without a test split: one was drawn, {split['share']:.0%} of each "
            f"class, from seed {split['seed']}; split.csv has it."
        )
    if data["skipped"]:
        about.append(
            f"{data['skipped']:,} pictures could not be read and were left out: skipped.csv."
        )
    rows = compared(run)
    table = [
        "| | " + " | ".join(ks) + " |",
        "|---|" + "---|" * len(ks),
        *(
            f"| {name} | " + " | ".join(f"{row[k]:.2%}" for k in ks) + " |"
            for name, row in rows.items()
        ),
    ]
    quoted = f"{_chosen(run)} Learning must beat {' and '.join(without_learning(run))}."
    parts = ["\n".join(about), "\n".join(table), quoted]
    if verdict := run["training"].get("head"):
        parts.append(_verdict(verdict))
    return "\n\n".join(parts)


def _chosen(run: Mapping[str, Any]) -> str:
    """Which epoch the encoder is of, and what chose it."""
    epoch, epochs = run["results"]["best"]["epoch"], run["config"]["epochs"]
    if not chosen_by_validation(run):
        return (
            f"The best epoch was {epoch} of {epochs}, chosen on these very test images: quote the "
            "last one."
        )
    stopped = run["training"].get("stopped")
    early = f", after {stopped} of which training was stopped" if stopped else ""
    by = "recall@1"
    if PREFIX + STABLE in run["results"]["best"]:
        by += (
            " of coarse labels times the share with the same nearest neighbour in their coarse "
            "class for another view,"
        )
    return (
        f"The encoder is that of epoch {epoch} of {epochs}{early}: the best by {by} of "
        f"{run['data']['validation']['images']:,} validation images, which did not train."
    )


def _verdict(verdict: Mapping[str, Any]) -> str:
    before, after = verdict["frozen"], verdict["learned"]
    return (
        f"The head was {'kept' if verdict['kept'] else 'LEFT OUT, since it is worse'}: of train "
        f"images that it was not trained on, {before['coarse']:.1%} have a nearest neighbour of "
        f"their coarse class by the frozen vectors, {after['coarse']:.1%} with the head; "
        f"{before['stable']:.1%} and {after['stable']:.1%} have, within their class, the same "
        "nearest neighbour by another view of themselves."
    )


def _made(run: Mapping[str, Any]) -> str:
    config, training, hardware = run["config"], run["training"], run["hardware"]
    hyper = hyper_parameters(config)
    # names alone: where these files lie says something of the machine and nothing of the encoder
    facts = [
        f"method {config['method']}" + (f" ({hyper})" if hyper else ""),
        f"initial weights: {in_markdown(Path(config['init']).name)}; seed {config['seed']}",
        f"{config['epochs']} epochs, batch {config['batch_size']}, learning rate "
        f"{config['lr']:g}, precision {run['precision']}",
        f"{duration(training['seconds'])} of training on {hardware['device']} "
        f"({hardware['cpu']}, {hardware['threads']} threads), "
        f"{training['images_per_second']:,.0f} images/s",
        f"{run['started']}, maskcon {run['versions']['maskcon']} "
        f"(commit {run['commit'] or 'of the release'}), torch {run['versions']['torch']}",
    ]
    listed = "\n".join(f"- {fact}" for fact in facts)
    return (
        f"## How it was made\n\n{listed}\n\n"
        "All of it, and every option, is in run.json; the losses are in metrics.jsonl."
    )


def usage(folder: str, *, vectors: bool = False) -> str:
    """How to use the encoder of a folder, in Markdown; its Python runs as it is.

    Args:
        folder: as Python is to name it.
        vectors: the encoder takes another model's vectors, not pictures.
    """
    embed = (
        'encoder.embed("vectors.npz")  # what the model before it said: float32 [N, F]'
        if vectors
        else 'encoder.embed(["a.jpg", "b.jpg"])  # float32 [2, F], unit length'
    )
    return (
        f"{USE}\n\n```python\nimport maskcon\n\n"
        f'encoder = maskcon.Encoder.load("{folder}")  # this folder\nvectors = {embed}\n```\n'
    )


def in_markdown(name: str) -> str:
    """A name as text of a card; as code where it is more than words.

    In code nothing is a link, a formula, a mention or a reference, however a site reads Markdown.
    """
    text = printable(" ".join(name.split()))
    if _WORDS.fullmatch(text):
        return text
    marks = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    inner = f" {text} " if text.startswith("`") or text.endswith("`") else text
    return f"{marks}{inner}{marks}" if text else "(no name)"


def _classes(names: Sequence[str]) -> str:
    some = ", ".join(map(in_markdown, names[:NAMED]))
    return some + (f" and {len(names) - NAMED:,} more" if len(names) > NAMED else "")
