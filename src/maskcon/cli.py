"""The command line. It knows everything; nothing knows it.

torch takes seconds to import, so nothing here imports it until a command runs: `--help` reads
the options of `train` from the fields of `Config`, and the hyper-parameters from the source of
methods.py.
"""

import ast
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from maskcon.config import READING_FIELDS, Config, option_type
from maskcon.errors import InputError, Interrupted, TrainingError

PROGRAM = "maskcon"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(metadata.version("maskcon"), prog_name=PROGRAM)
def cli() -> None:
    """Learn fine-grained image embeddings from coarse labels."""


def hyper_parameters() -> dict[str, dict[str, float]]:
    """Hyper-parameters of each method and their defaults, read without importing torch.

    The functions' keyword-only arguments, found in the source of methods.py; the same as
    `Method.hyper_parameters`, which needs the import.
    """
    spec = find_spec("maskcon.methods")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    arguments = {
        node.name: {
            a.arg: ast.literal_eval(d)
            for a, d in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            if d is not None
        }
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
    }
    (table,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "METHODS"
    )
    assert isinstance(table, ast.Dict)
    return {
        ast.literal_eval(name): arguments[ast.unparse([*method.args, *_loss(method)][0])]
        for name, method in zip(table.keys, table.values, strict=True)
        if name is not None and isinstance(method, ast.Call)
    }


def _loss(method: ast.Call) -> list[ast.expr]:
    """The value of a call's keyword `loss`."""
    return [keyword.value for keyword in method.keywords if keyword.arg == "loss"]


def _train_options(command: Callable, left_out: Sequence[str] = ("hyper",)) -> Callable:
    """Flags for every hyper-parameter of any method and for every field of Config."""
    takers: dict[str, list[str]] = {}
    for method, names in hyper_parameters().items():
        for name, default in names.items():
            takers.setdefault(name, []).append(f"{method} [{default:g}]")
    for name, methods in reversed(takers.items()):
        text = f"of {', '.join(methods)}; see README"
        command = click.option(f"--{name}", type=float, help=text)(command)
    for field in reversed(fields(Config)):
        if field.name not in left_out:
            command = _option(field)(command)
    return command


_OUT = click.Path(path_type=Path)


def _data_options(command: Callable, more: Sequence[str] = ()) -> Callable:
    """Flags that say where and how to read a set, for commands other than `train`."""
    for field in reversed(fields(Config)):
        if field.name in (*READING_FIELDS, *more):
            command = _option(field)(command)
    return command


def _option(field: Field) -> Callable:
    """The flag of a field of Config."""
    wanted, choices = option_type(field.type)
    flag = "--" + field.name.replace("_", "-")
    text = field.metadata["help"]
    if wanted is bool:
        text += f" [{'yes' if field.default else 'no'}]"
    elif field.default is not None:
        text += f" [{field.default}]"
    return click.option(
        f"{flag}/--no-{flag[2:]}" if wanted is bool else flag,
        field.name,
        type=click.Choice(choices) if choices else wanted,
        default=None,
        help=text,
    )


@cli.command()
@click.option("--out", type=_OUT, required=True, help="the run folder to make")
@click.option("--recipe", help="a TOML file of options, or NAME of ours; flags win")
@click.option("--resume", is_flag=True, help="go on from the last checkpoint of --out")
@click.option("--overwrite", is_flag=True, help="delete the run that is in --out")
@_train_options
def train(out: Path, recipe: str | None, resume: bool, overwrite: bool, **options: Any) -> None:
    """Train an encoder on coarse labels; fill a run folder.

    Defaults, in brackets, are the paper's recipe for small images.
    """
    from maskcon import commands
    from maskcon.progress import screen

    with screen() as progress:
        run = commands.train(
            out=out,
            recipe=recipe,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            **_given(options),
        )
    _print_recall(run["results"])


@cli.command()
@click.argument("run", type=_OUT)
@click.option("--data", help="a data set's name, folder or table [the run's own]")
@_data_options
@click.option("--device", help="auto, cpu, cuda, cuda:1 [auto]")
@click.option("--precision", help="auto, fp32, bf16 or fp16 [the run's own]")
@click.option("--json", type=_OUT, help="write the results to this file")
def eval(run: Path, **options: Any) -> None:
    """Recall@K of a run's encoder on fine labels.

    RUN is a run folder; each test image queries all the others, for K = 1, 2, 5, 10.
    """
    from maskcon import commands
    from maskcon.progress import screen

    with screen() as progress:
        results = commands.eval(run, progress=progress, **_given(options))
    _print_recall(results)


@cli.command()
@click.option("--out", type=_OUT, default=Path("glyphs-demo"), help="run folder [glyphs-demo]")
@click.option("--resume", is_flag=True, help="go on from the last checkpoint of --out")
@click.option("--overwrite", is_flag=True, help="delete the run that is in --out")
def demo(out: Path, resume: bool, overwrite: bool) -> None:
    """Two minutes with drawn letters and digits.

    Trains on coarse labels, evaluates on fine ones, draws a map and a sheet of neighbours.
    """
    from maskcon import commands
    from maskcon.progress import screen

    with screen() as progress:
        run = commands.demo(out=out, resume=resume, overwrite=overwrite, progress=progress)
    _print_recall(run["results"])
    click.echo(
        f"\nThe encoder saw only {len(run['data']['coarse'])} coarse labels and learned to tell "
        f"{run['data']['fine']} characters apart.\nLook at {out / 'neighbours.png'} and "
        f"{out / 'map.png'}; {out / 'README.md'} tells the rest."
    )


@cli.command()
@click.argument("data", required=False)
@click.argument("method", required=False)
@click.option("--seeds", default="0", help="one run each, such as 0,1,2 [0]")
@click.option("--out", type=_OUT, default=Path("runs"), help="folder of the run folders [runs]")
@click.option("--upper-bound", help="what supfine trains with, supcon or supce [supcon]")
@click.option("--resume", is_flag=True, help="go on with runs that were broken off")
@click.option("--ledger", type=_OUT, help="file of finished runs [the source tree's]")
@partial(_train_options, left_out=("hyper", "data", "method", "label", "seed"))
def reproduce(
    data: str | None, method: str | None, seeds: str, out: Path, resume: bool, **options: Any
) -> None:
    """Run a row of the paper's tables again.

    Without arguments, lists the rows. With DATA and METHOD (and --w and --tau, where a method
    has several rows; else its best), trains with the paper's recipe and prints the published
    numbers, ours and the difference. Initial weights are ImageNet's, which torchvision
    downloads, unless --init says otherwise.
    """
    from maskcon import commands
    from maskcon.progress import screen

    if data is None:
        _print_rows(commands.reproduce()["rows"])
        return
    numbers = _whole_numbers(seeds)
    with screen() as progress:
        result = commands.reproduce(
            data,
            method,
            seeds=numbers,
            out=out,
            resume=resume,
            progress=progress,
            **_given(options),
        )
    _print_comparison(result)


def _whole_numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--seeds is {text!r}: expected whole numbers, such as 0,1,2") from error


def _print_rows(rows: list[dict[str, Any]]) -> None:
    ks = ("recall@1", "recall@2", "recall@5", "recall@10")
    source = None
    for row in rows:
        if (row["data"], row["source"]) != source:
            source = row["data"], row["source"]
            click.echo(
                f"\n{row['data']} ({row['source']})".ljust(33) + "".join(f"{k:>11}" for k in ks)
            )
        cells = (f"{row['recall'][k]:.2%}" if k in row["recall"] else "-" for k in ks)
        best = "  best" if row["best"] else ""
        click.echo(f"  {row['name']:30}" + "".join(map(_right, cells)) + best)
    click.echo(
        "\nAll start from ImageNet weights. To run one: maskcon reproduce DATA METHOD --w --tau"
    )


def _right(cell: str) -> str:
    return f"{cell:>11}"


def _print_comparison(result: dict[str, Any]) -> None:
    import statistics

    runs, published = result["runs"], result["row"]["recall"]
    ks = [key for key in runs[0]["results"] if key.startswith("recall@")]
    ours = {k: [run["results"][k] for run in runs] for k in ks}
    mean = {k: statistics.mean(values) for k, values in ours.items()}
    click.echo(f"\n{'':12}" + "".join(map(_right, ks)))
    for name, cells in (
        ("published", [f"{published[k]:.2%}" if k in published else "-" for k in ks]),
        ("ours", [f"{mean[k]:.2%}" for k in ks]),
        ("deviation", [f"{statistics.stdev(ours[k]):.2%}" for k in ks] if len(runs) > 1 else []),
        ("difference", [f"{mean[k] - published[k]:+.2%}" if k in published else "-" for k in ks]),
        ("raw pixels", [f"{runs[0]['results']['pixels'][k]:.2%}" for k in ks]),
    ):
        if cells:
            click.echo(f"{name:12}" + "".join(map(_right, cells)))
    first = runs[0]
    hardware = first["hardware"]
    seconds = statistics.mean(run["training"]["seconds"] for run in runs)
    click.echo(
        f"\n{len(runs)} run{'s' if len(runs) > 1 else ''}; initial weights: "
        f"{first['config']['init']}; {hardware['device']} ({hardware['cpu']}, "
        f"{hardware['threads']} threads), precision {first['precision']}; "
        f"{seconds / 60:.1f} minutes of training each"
    )
    if result["not_comparable"]:
        click.echo("NOT COMPARABLE with the published numbers:")
        for reason in result["not_comparable"]:
            click.echo(f"  {reason}")


@cli.group()
def data() -> None:
    """Look through a data set, or pack it."""


@data.command()
@click.argument("path")
@click.option("--json", type=_OUT, help="write the report to this file")
@partial(_data_options, more=("method", "image_size", "test_share", "seed"))
def check(path: str, json: Path | None, **options: Any) -> None:
    """Read everything once and report on it.

    PATH is a data set's name, folder or table. Exit code 1 where training would be wrong, 0
    otherwise; warnings are worth a look.
    """
    from maskcon import commands
    from maskcon.checkpoint import write_json
    from maskcon.progress import screen

    if json is not None and not json.absolute().parent.is_dir():
        raise InputError(f"{json.parent} is no folder: make it, or give another --json")
    with screen() as progress:
        report = commands.check(path, progress=progress, **_given(options))
    click.echo("\n".join([report.facts["name"], *report.lines]))
    for word, entries in (("warning", report.warnings), ("wrong", report.wrong)):
        for entry in entries:
            click.echo(f"{word + ':':11} {entry}")
    if not report.wrong and not report.warnings:
        click.echo("nothing wrong was found")
    if json is not None:
        write_json(json, report.as_dict())
    if report.wrong:
        sys.exit(1)


@data.command()
@click.argument("path")
@click.argument("out", type=_OUT)
@click.option("--size", type=int, default=256, help="short side of the packed pictures [256]")
@click.option("--overwrite", is_flag=True, help="replace the pack that is there")
@_data_options
def pack(path: str, out: Path, size: int, overwrite: bool, **options: Any) -> None:
    """Decode and shrink every picture once, into one file.

    PATH is a data set's name, folder or table; OUT is NAME.pack, which --data then takes. The
    file is mapped, so training reads crops without decoding. Views lose what is finer than the
    packed size: a crop of a fifth of a 256 px picture has 114 px to fill 224.
    """
    from maskcon import commands
    from maskcon.progress import screen

    with screen() as progress:
        done = commands.pack(
            path, out, size=size, overwrite=overwrite, progress=progress, **_given(options)
        )
    for reason in done["skipped"]:
        click.echo(f"left out: {reason}")
    click.echo(f"{out}: {done['images']:,} pictures, {done['bytes'] / 2**20:,.1f} MiB")


@cli.group()
def benchmark() -> None:
    """Measure speeds beside what people would otherwise run."""


_DEVICE = click.option("--device", default="auto", help="auto, cpu, cuda, cuda:1 [auto]")
_REPEATS = click.option("--repeats", type=int, default=5, help="turns of each side [5]")
_JSON = click.option("--json", type=_OUT, help="write the figures to this file")


@benchmark.command()
@click.option("--sides", help="some of the sides, with commas [all]")
@click.option("--backbone", default="resnet18", help="of all sides [resnet18]")
@click.option("--image-size", type=int, default=32, help="in pixels [32]")
@click.option("--batch-size", type=int, default=128, help="images of a step [128]")
@click.option("--bank-size", type=int, default=8192, help="keys of the bank [8192]")
@click.option("--steps", type=int, default=0, help="of a turn; 0 is 4, on a GPU 200 [0]")
@_REPEATS
@_DEVICE
@_JSON
def step(sides: str | None, **options: Any) -> None:
    """The training step, end to end with its data.

    Beside a step in plain PyTorch ("reference") and beside the bare networks ("floor"): the
    forward and backward pass of the query and the forward pass of the key. Takes some minutes.
    """
    if sides is not None:
        options["sides"] = [name.strip() for name in sides.split(",")]
    _benchmark(["step"], **options)


@benchmark.command()
@click.option("--image-size", type=int, default=32, help="in pixels [32]")
@click.option("--batch-size", type=int, default=128, help="images of a batch, for ours [128]")
@_REPEATS
@_DEVICE
@_JSON
def views(**options: Any) -> None:
    """Weak and strong views, beside image-by-image transforms.

    Those of torchvision on Pillow images, and its v2 on tensors; one thread of a processor each.
    """
    _benchmark(["views"], **options)


@benchmark.command()
@click.option("--data", type=_OUT, help="a folder tree of pictures [JPEGs made on the fly]")
@click.option("--images", type=int, default=1024, help="how many of those [1024]")
@click.option("--width", type=int, default=700, help="of those, in pixels [700]")
@click.option("--height", type=int, default=480, help="of those [480]")
@click.option("--workers", type=int, default=0, help="processes; 0 is one for each core [0]")
@_REPEATS
@_JSON
def loader(**options: Any) -> None:
    """Views of 224 px, beside torchvision's loader.

    From JPEG files and from a pack, with the same number of worker processes.
    """
    _benchmark(["loader"], **options)


@benchmark.command()
@_REPEATS
@_DEVICE
@_JSON
def recall(**options: Any) -> None:
    """Exact Recall@K, beside FAISS and beside a product with topk.

    On sets of 10,000 x 512 and 50,000 x 128; then how time and memory grow, up to the size of
    ImageNet's train split.
    """
    _benchmark(["recall"], **options)


@benchmark.command("all")
@_REPEATS
@_DEVICE
@_JSON
def every(device: str, **options: Any) -> None:
    """All four, one after the other; about half an hour on two cores.

    Close everything else first.
    """
    _benchmark(["step", "views", "loader", "recall"], device=device, **options)


def _benchmark(names: list[str], json: Path | None, **options: Any) -> None:
    """Run benchmarks, print their tables, and write one record or a mapping of several."""
    from maskcon.benchmark import BENCHMARKS, table
    from maskcon.checkpoint import write_json
    from maskcon.progress import screen

    if json is not None and not json.absolute().parent.is_dir():
        raise InputError(f"{json.parent} is no folder: make it, or give another --json")
    records = {}
    for name in names:
        taken = {k: v for k, v in options.items() if name != "loader" or k != "device"}
        with screen() as progress:
            records[name] = BENCHMARKS[name](progress=progress, **taken)
        click.echo("\n".join(table.lines(records[name])))
        if json is not None:
            write_json(json, records if len(names) > 1 else records[name])


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@cli.command()
def methods() -> None:
    """The losses, and what each takes."""
    from maskcon import commands

    taken = hyper_parameters()
    for name, summary in commands.methods().items():
        flags = "  ".join(f"--{n} {value:g}" for n, value in taken[name].items())
        click.echo(f"{name:10} {summary}\n{'':10} {flags or 'no hyper-parameters'}")


@cli.command()
def datasets() -> None:
    """The data sets that --data knows by name."""
    from maskcon import commands

    for name, summary in commands.datasets().items():
        click.echo(f"{name:14} " + summary.replace("\n", f"\n{'':15}"))
    click.echo(
        "\nYour own: a folder tree [train|test/]coarse/[fine/]image.jpg; a table (.csv, .tsv,\n"
        ".jsonl, .parquet) with a column of paths; a Hugging Face set, as Parquet shards or saved\n"
        "to disk; a pack. `maskcon data check PATH` looks through it."
    )


def _print_recall(results: dict[str, Any]) -> None:
    ks = [key for key in results if key.startswith("recall@")]
    if any(k.endswith("/coarse") for k in ks):
        click.echo("no fine labels: this is the recall of coarse classes")
    click.echo(f"{'':12}" + "".join(f"{k.removesuffix('/coarse'):>11}" for k in ks))
    for name, row in (
        ("last epoch" if "best" in results else "features", results),
        ("best epoch", results.get("best")),
        ("raw pixels", results["pixels"]),
    ):
        if row:
            click.echo(f"{name:12}" + "".join(f"{row[k]:>11.2%}" for k in ks))


def main() -> None:
    """Run the command line; errors that a person can cause are one message, no traceback."""
    # So that scratch files are removed; training, while it runs, has a handler of its own.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        cli(standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except (InputError, TrainingError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, InputError) else 1)
    except Interrupted as error:
        click.echo(f"{error}; go on with --resume", err=True)
        sys.exit(128 + error.number)
