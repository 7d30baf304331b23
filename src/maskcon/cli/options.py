"""Flags that are read from elsewhere: the fields of Config, and the methods' records.

torch takes seconds to import, so nothing here imports it until a command runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.complete import FIELDS, LOG
from maskcon.config import OPTION_GROUPS, READING_FIELDS, Config, option_type
from maskcon.errors import InputError
from maskcon.methods import METHODS
from maskcon.methods.method import Hyper
from maskcon.methods.schedules import shown

PATH = click.Path(path_type=Path)


class _Hyper(click.ParamType):
    """A number, or whatever else it is, for `Config` to understand."""

    name = "number|schedule"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | str:
        try:
            return float(value)
        except ValueError:
            return str(value)


def train_options(command: Callable, left_out: Sequence[str] = ("hyper",)) -> Callable:
    """Flags for every hyper-parameter of any method and for every field of Config."""
    for name, takers in reversed(_takers().items()):
        kinds = {type(value) for value in takers}
        groups = (f"{', '.join(methods)} [{shown(value)}]" for value, methods in takers.items())
        command = click.option(
            _flags(name, kinds == {bool}),
            name,
            type=bool if kinds == {bool} else _Hyper(),
            default=None,
            help=f"of {'; '.join(groups)}",
        )(command)
    for field in reversed(fields(Config)):
        if field.name not in left_out:
            command = option(field)(command)
    return command


def _takers() -> dict[str, dict[Hyper, list[str]]]:
    """The methods that take each hyper-parameter, by its default."""
    takers: dict[str, dict[Hyper, list[str]]] = {}
    for method, record in METHODS.items():
        for name, default in record.hyper_parameters.items():
            takers.setdefault(name, {}).setdefault(default, []).append(method)
    return takers


def data_options(command: Callable, more: Sequence[str] = ()) -> Callable:
    """Flags that say where and how to read a set, for commands other than `train`."""
    for field in reversed(fields(Config)):
        if field.name in (*READING_FIELDS, *more):
            command = option(field)(command)
    return command


def encoder_options(command: Callable) -> Callable:
    """Where, in what precision and by what an encoder computes."""
    for flag, text in (
        ("--backend", "what runs the network: torch, onnx or openvino [the run's own]"),
        ("--precision", "auto, fp32, bf16 or fp16 [the run's own]"),
        ("--device", "auto, cpu, cuda, cuda:1, mps [auto]"),
    ):
        command = click.option(flag, help=text)(command)
    return command


def split_option(command: Callable) -> Callable:
    """Which pictures of a set a command takes that takes all."""
    return click.option("--split", help="of the data: all, train, test or validation [all]")(
        command
    )


def panels() -> list[Any]:
    """The groups that the help of `train_options` has: titles, and the flags of each."""
    flags: dict[str, list[str]] = {group: [] for group in OPTION_GROUPS}
    flags["first"] += ["--out", "--recipe", "--resume"]
    flags["output"] += ["--overwrite", "--log", "--json"]
    flags["optimisation"] += ["--seeds"]
    for field in fields(Config):
        if field.name != "hyper":
            flags[field.metadata["group"]].append(flag(field.name))
    flags["method"] += map(flag, _takers())
    return [{"name": title, "options": flags[group]} for group, title in OPTION_GROUPS.items()]


def flag(name: str) -> str:
    """The flag of an option."""
    return f"--{name.replace('_', '-')}"


def _flags(name: str, switch: bool) -> str:
    return flag(name) + (f"/--no-{flag(name)[2:]}" if switch else "")


def option(field: Field) -> Callable:
    """The flag of a field of Config."""
    wanted, choices = option_type(field.type)
    text = field.metadata["help"]
    if wanted is bool:
        text += f" [{'yes' if field.default else 'no'}]"
    elif field.default is not None:
        text += f" [{field.default}]"
    return click.option(
        _flags(field.name, wanted is bool),
        field.name,
        type=click.Choice(choices) if choices else FIELDS.get(field.name, wanted),
        default=None,
        help=text,
    )


def log_option(command: Callable) -> Callable:
    """The trackers that are told of a run."""
    return click.option(
        "--log",
        type=LOG,
        help="write the curves for tensorboard, wandb, mlflow or trackio, several with commas; "
        "nothing is sent unless their own settings say so",
    )(command)


def names_in(text: str | None) -> list[str]:
    """Names with commas between them."""
    return [name.strip() for name in text.split(",")] if text else []


def whole_numbers(text: str) -> list[int]:
    """Seeds as people type them, 0,1,2."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"--seeds is {text!r}: expected whole numbers, such as 0,1,2") from error


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that a person gave."""
    return {name: value for name, value in options.items() if value is not None}
