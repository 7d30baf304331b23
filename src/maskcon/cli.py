"""The command line. It knows everything; nothing knows it.

torch takes seconds to import, so nothing here imports it until a command runs: `--help` reads
the options of `train` from the fields of `Config`, and the hyper-parameters from the source of
methods.py.
"""

import ast
import sys
from collections.abc import Callable
from dataclasses import Field, fields
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


def _train_options(command: Callable) -> Callable:
    """Flags for every hyper-parameter of any method and for every field of Config."""
    takers: dict[str, list[str]] = {}
    for method, names in hyper_parameters().items():
        for name, default in names.items():
            takers.setdefault(name, []).append(f"{method} [{default:g}]")
    for name, methods in reversed(takers.items()):
        text = f"of {', '.join(methods)}; see README"
        command = click.option(f"--{name}", type=float, help=text)(command)
    for field in reversed(fields(Config)):
        if field.name == "hyper":
            continue
        command = _option(field)(command)
    return command


_OUT = click.Path(path_type=Path)


def _data_options(command: Callable) -> Callable:
    """Flags that say where and how to read a set, for commands other than `train`."""
    for field in reversed(fields(Config)):
        if field.name in READING_FIELDS:
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
@click.option("--recipe", type=_OUT, help="a TOML file of options; flags win over it")
@click.option("--resume", is_flag=True, help="go on from the last checkpoint of --out")
@click.option("--overwrite", is_flag=True, help="delete the run that is in --out")
@_train_options
def train(out: Path, recipe: Path | None, resume: bool, overwrite: bool, **options: Any) -> None:
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
@click.option("--precision", help="auto, fp32, bf16 or fp16 [auto]")
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


@cli.group()
def data() -> None:
    """Look through a data set, or pack it."""


@data.command()
@click.argument("path")
@click.option("--json", type=_OUT, help="write the report to this file")
@_data_options
def check(path: str, json: Path | None, **options: Any) -> None:
    """Read everything once and report on it.

    PATH is a data set's name, folder or table. Exit code 1 where training would be wrong, 0
    otherwise; warnings are worth a look.
    """
    from maskcon import commands
    from maskcon.checkpoint import write_json
    from maskcon.progress import screen

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
        click.echo(f"{name:10} {summary}")
    click.echo(
        "\nYour own: a folder tree [train|test/]coarse/[fine/]image.jpg; a table (.csv, .tsv,\n"
        ".jsonl, .parquet) with a column of paths; a Hugging Face set, as Parquet shards or saved\n"
        "to disk; a pack. `maskcon data check PATH` looks through it."
    )


def _print_recall(results: dict[str, Any]) -> None:
    ks = [key for key in results if key.startswith("recall@")]
    if any(k.endswith("/coarse") for k in ks):
        click.echo("no fine labels: this is the recall of coarse classes, which training saw")
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
