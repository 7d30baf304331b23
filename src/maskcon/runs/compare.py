"""Several runs side by side: a record of rows, as text, Markdown, CSV, LaTeX and a picture."""

import csv
import io
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from maskcon.config import MACHINE_FIELDS
from maskcon.errors import InputError
from maskcon.runs import folder as runs
from maskcon.runs.ledger import cell, name_of
from maskcon.runs.results import figures, own_evaluation
from maskcon.runtime.files import replacing

FORMATS = (".png", ".svg", ".pdf")
# Figures that are no shares of anything, and are shown as they are.
PLAIN = (
    "effective_rank",
    "uniformity",
    "alignment",
    "clusters",
    "label_distance/maskcon/best_tau",
    *(f"clusters/estimated{end}" for end in ("", "/low", "/high")),
)
LOWER = "label_distance/"  # what figures begin with of which the lowest is best
SHOWN = ("recall@1", "recall@2", "recall@5", "recall@10")  # in the picture and first in a table


@dataclass(frozen=True)
class Row:
    """Runs that differ in nothing but their seed.

    Attributes:
        name: method and hyper-parameters, and whatever else differs from the other rows.
        seeds: of the runs.
        runs: their folders.
        metrics: {metric: value of each seed}.
        intervals: {metric: (low, high)} of the first run, where it was evaluated.
        curves: (step, recall@1) of the first run's evaluations.
    """

    name: str
    seeds: list[int]
    runs: list[str]
    metrics: dict[str, list[float]]
    intervals: dict[str, Sequence[float]] = field(default_factory=dict)
    curves: list[tuple[int, float]] = field(default_factory=list)

    def mean(self, metric: str) -> float:
        """Mean over the seeds."""
        return statistics.mean(self.metrics[metric])

    def rank(self, metric: str) -> float:
        """The mean, or its opposite: higher is better."""
        return -self.mean(metric) if metric.startswith(LOWER) else self.mean(metric)

    def std(self, metric: str) -> float | None:
        """Standard deviation over the seeds (n - 1); None where there is one."""
        values = self.metrics[metric]
        return statistics.stdev(values) if len(values) > 1 else None

    def as_dict(self) -> dict[str, Any]:
        """Plain data, with "mean" and "std" of each metric."""
        return {
            **asdict(self),
            "mean": {metric: self.mean(metric) for metric in self.metrics},
            "std": {metric: self.std(metric) for metric in self.metrics},
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> "Row":
        """The row that `as_dict` made plain data of."""
        return cls(**{part.name: plain[part.name] for part in fields(cls)})


def rows(folders: Sequence[Path], metrics: Sequence[str] = ()) -> list[Row]:
    """The rows of some runs, the best by the first metric first.

    Args:
        folders: of the runs.
        metrics: by default those that all runs have.

    Raises:
        InputError: no finished run there, or one has no such metric.
    """
    if not folders:
        raise InputError("no runs to compare: give one run folder or more")
    read = [(folder, runs.read(folder)) for folder in folders]
    for folder, run in read:
        if run.get("status") != "finished":
            raise InputError(
                f"the run in {folder} is {run.get('status')}: finish it first, with --resume"
            )
    seen: dict[str, Path] = {}
    for folder, run in read:
        if run.get("id") and (other := seen.setdefault(run["id"], folder)) is not folder:
            raise InputError(f"{folder} is the same run as {other}: give each run once")
    values = [_metrics(run) for _, run in read]
    common = [m for m in values[0] if all(m in other for other in values)]
    for metric in metrics:
        for (folder, _), known in zip(read, values, strict=True):
            if metric not in known:
                raise InputError(
                    f"the run in {folder} has no {metric}: it has {', '.join(known)}; `maskcon "
                    f"eval {folder} --protocol all` measures more"
                )
    names = _names([run["config"] for _, run in read])
    grouped: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        grouped.setdefault(name, []).append(place)
    found = []
    for name, places in grouped.items():
        folder, first = read[places[0]]
        found.append(
            Row(
                name,
                [read[p][1]["config"]["seed"] for p in places],
                [str(read[p][0]) for p in places],
                {m: [values[p][m] for p in places] for m in metrics or common},
                own_evaluation(first).get("intervals", {}),
                _curve(folder),
            )
        )
    if not found[0].metrics:
        raise InputError("these runs have no metric in common: give --metrics")
    leading = next(iter(found[0].metrics))
    return sorted(found, key=lambda row: -row.rank(leading))


def of_seeds(folder: Path) -> list[Path]:
    """The runs that `maskcon train --seeds` made in a folder; itself where it is no such folder."""
    if (folder / runs.RUN_FILE).exists():
        return [folder]
    made = [path for path in folder.glob("seed-*") if (path / runs.RUN_FILE).exists()]
    return sorted(made, key=lambda path: (len(path.name), path.name)) or [folder]


def _metrics(run: dict[str, Any]) -> dict[str, float]:
    """Every figure of a run, those of `SHOWN` first."""
    numbers = figures(run)
    first = {name: numbers[name] for name in SHOWN if name in numbers}
    return {**first, **numbers}


def _names(configs: Sequence[dict[str, Any]]) -> list[str]:
    """Names that tell the runs apart, with whatever options differ among them."""
    apart = {"seed", "method", "label", "hyper", "mixup", "ce_weight", *MACHINE_FIELDS}
    base = [name_of(config) for config in configs]
    known = {key for config in configs for key in config} - apart
    of_hyper = {key for config in configs for key in config if f"{key} " in " ".join(base)}
    differing = [
        key
        for key in sorted(known - of_hyper)
        if all(key in config for config in configs)
        and len({json.dumps(config[key]) for config in configs}) > 1
    ]
    return [
        ", ".join([name, *(f"{key} {config[key]}" for key in differing)])
        for name, config in zip(base, configs, strict=True)
    ]


def _curve(folder: Path) -> list[tuple[int, float]]:
    lines = runs.metrics(folder)
    return [(int(line["step"]), line["recall@1"]) for line in lines if "recall@1" in line]


def shown(metric: str, values: Sequence[float]) -> str:
    """A cell: per cent for shares, with the deviation of several seeds."""
    if metric in PLAIN or metric.endswith("/strength"):
        return f"{statistics.mean(values):.4g}"
    return cell(values)


MANY = 6  # metrics; of more each is a line, and of as many a column


def text_tables(rows: Sequence[Row]) -> list[tuple[list[list[str]], tuple[int, ...]]]:
    """Tables for the screen: cells, the head first, and which columns are text.

    Many metrics become a line each; then a letter stands for each row, and a table before says
    which is which, so that neither names nor metrics are cut.
    """
    metrics = list(rows[0].metrics)
    seeds = [",".join(map(str, row.seeds)) for row in rows]
    if len(metrics) <= MANY:
        table = [["", "seeds", *metrics]]
        table += [
            [row.name, own, *_cells(row, metrics)] for row, own in zip(rows, seeds, strict=True)
        ]
        return [(table, (0, 1))]
    letters = [_letters(place) for place in range(len(rows))]
    legend = [["", "", "seeds"]]
    legend += [
        [letter, row.name, own] for letter, row, own in zip(letters, rows, seeds, strict=True)
    ]
    columns = [_cells(row, metrics) for row in rows]
    body = [[metric, *cells] for metric, *cells in zip(metrics, *columns, strict=True)]
    return [(legend, (0, 1, 2)), ([["", *letters], *body], (0,))]


def markdown_table(rows: Sequence[Row]) -> str:
    """A table as GitHub's Markdown has them; many metrics become a line each."""
    metrics = list(rows[0].metrics)
    columns = [
        [metric, *(shown(metric, row.metrics[metric]) for row in rows)] for metric in metrics
    ]
    head = ["", *(row.name for row in rows)]
    table = [head, *columns]
    if len(metrics) <= MANY:
        table = [[*line] for line in zip(*table, strict=True)]
    ruled = [table[0], ["---", *["---:"] * (len(table[0]) - 1)], *table[1:]]
    places = ("| " + " | ".join(map(_in_markdown, line)) + " |" for line in ruled)
    return "\n".join(places) + "\n"


def _in_markdown(text: str) -> str:
    """A cell that says what the text says: no mark-up, no new column and no new line."""
    special = "".join(f"\\{c}" if c in "\\|*_`<[~" else c for c in text)
    return " ".join(special.split())


def _letters(place: int) -> str:
    """A, B, ... Z, AA, AB, ..."""
    return (_letters(place // 26 - 1) if place >= 26 else "") + chr(ord("A") + place % 26)


def _cells(row: Row, metrics: Sequence[str]) -> list[str]:
    return [shown(metric, row.metrics[metric]) for metric in metrics]


def csv_table(rows: Sequence[Row]) -> str:
    """A line for each run, its values as measured; of several seeds also "mean" and "std".

    These two stand where other lines have the seed, and have no run.
    """
    metrics = list(rows[0].metrics)
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["name", "seed", "run", *metrics])
    for row in rows:
        for place, seed in enumerate(row.seeds):
            values = [row.metrics[m][place] for m in metrics]
            writer.writerow([row.name, seed, row.runs[place], *values])
        if len(row.seeds) > 1:
            for word, over in (("mean", row.mean), ("std", row.std)):
                writer.writerow([row.name, word, "", *map(over, metrics)])
    return out.getvalue()


def latex_table(rows: Sequence[Row]) -> str:
    """A tabular of the booktabs package; shares in per cent, the best of each column bold."""
    metrics = list(rows[0].metrics)
    lines = [
        "% needs \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * len(metrics)}}}",
        "\\toprule",
        " & ".join(["", *map(_escaped, metrics)]) + " \\\\",
        "\\midrule",
    ]
    best = {m: max(row.rank(m) for row in rows) for m in metrics}
    for row in rows:
        cells = []
        for m in metrics:
            entry = shown(m, row.metrics[m]).replace("±", "$\\pm$")
            bold = m not in PLAIN and row.rank(m) == best[m] and len(rows) > 1
            cells.append(f"\\textbf{{{entry}}}" if bold else entry)
        lines.append(" & ".join([_escaped(row.name), *cells]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", ""])


def _escaped(text: str) -> str:
    special = {"\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}"}
    return "".join(special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)


def draw(rows: Sequence[Row], path: Path) -> None:
    """Recall@1 over the steps, and the metrics of each row with their intervals.

    Raises:
        InputError: the file's name has another ending than .png, .svg or .pdf.
    """
    import matplotlib
    from matplotlib.figure import Figure

    if path.suffix not in FORMATS:
        raise InputError(f"{path} ends in {path.suffix!r}: expected {', '.join(FORMATS)}")
    shares = [m for m in rows[0].metrics if m not in PLAIN and not m.endswith("/strength")]
    metrics = [m for m in SHOWN if m in shares] or shares[:4]
    colours = matplotlib.colormaps["tab10" if len(rows) <= 10 else "tab20"]
    height = max(3.6, 0.34 * len(rows) + 1.4)
    figure = Figure((11, height), layout="constrained")
    curves, dots = figure.subplots(1, 2, width_ratios=(2, 3))
    for place, row in enumerate(rows):
        colour = colours(place % colours.N)
        if row.curves:
            steps, values = zip(*row.curves, strict=True)
            curves.plot(steps, [100 * v for v in values], marker="o", markersize=3, color=colour)
        for marker, metric in zip("osD^", metrics, strict=False):
            mean = 100 * row.mean(metric)
            dots.plot(mean, place, marker, color=colour, markersize=6, linestyle="")
            if metric in row.intervals:
                low, high = (100 * v for v in row.intervals[metric])
                dots.plot([low, high], [place, place], color=colour, linewidth=1.5)
    curves.set(xlabel="step", ylabel="per cent", title="recall@1 of test images")
    dots.set(yticks=range(len(rows)), xlabel="per cent", title="last epoch")
    dots.set_yticklabels([f"{row.name}" for row in rows], fontsize=8)
    dots.invert_yaxis()
    for marker, metric in zip("osD^", metrics, strict=False):
        dots.plot([], [], marker, color="grey", linestyle="", label=metric)
    dots.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    for ax in (curves, dots):
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    with replacing(path) as file, matplotlib.rc_context({"text.parse_math": False}):
        figure.savefig(file, format=path.suffix[1:], dpi=110)
