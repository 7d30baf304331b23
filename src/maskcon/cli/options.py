"""Flags that are read from elsewhere: the fields of Config, and the methods' signatures.

torch takes seconds to import, so nothing here imports it until a command runs: `--help` reads
the options of `train` from the fields of `Config`, and the hyper-parameters from `METHODS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.methods import METHODS
from maskcon.config import OPTION_GROUPS, READING_FIELDS, Config, option_type
from maskcon.methods.schedules import shown

PATH = click.Path(path_type=Path)


def hyper_parameters() -> dict[str, dict[str, float | str]]:
    """Hyper-parameters of each method and their defaults."""
    return {name: method.hyper_parameters for name, method in METHODS.items()}


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
    takers: dict[str, dict[float | str, list[str]]] = {}  # of each name, by their defaults
    for method, names in hyper_parameters().items():
        for name, default in names.items():
            takers.setdefault(name, {}).setdefault(default, []).append(method)
    for name, defaults in reversed(takers.items()):
        groups = (f"{', '.join(methods)} [{shown(value)}]" for value, methods in defaults.items())
        text = f"of {'; '.join(groups)}"
        command = click.option(flag(name), name, type=_Hyper(), help=text)(command)
    for field in reversed(fields(Config)):
        if field.name not in left_out:
            command = option(field)(command)
    return command


def data_options(command: Callable, more: Sequence[str] = ()) -> Callable:
    """Flags that say where and how to read a set, for commands other than `train`."""
    for field in reversed(fields(Config)):
        if field.name in (*READING_FIELDS, *more):
            command = option(field)(command)
    return command


def encoder_options(command: Callable) -> Callable:
    """Where and in what precision an encoder computes."""
    for flag, text in (
        ("--precision", "auto, fp32, bf16 or fp16 [the run's own]"),
        ("--device", "auto, cpu, cuda, cuda:1 [auto]"),
    ):
        command = click.option(flag, help=text)(command)
    return command


def panels() -> list[Any]:
    """The groups that the help of `train_options` has: titles, and the flags of each."""
    flags: dict[str, list[str]] = {group: [] for group in OPTION_GROUPS}
    flags["first"] += ["--out", "--recipe", "--resume"]
    flags["output"] += ["--overwrite"]
    for field in fields(Config):
        if field.name != "hyper":
            flags[field.metadata["group"]].append(flag(field.name))
    every = dict.fromkeys(n for names in hyper_parameters().values() for n in names)
    flags["method"] += map(flag, every)
    return [{"name": title, "options": flags[group]} for group, title in OPTION_GROUPS.items()]


def flag(name: str) -> str:
    """The flag of an option."""
    return f"--{name.replace('_', '-')}"


def option(field: Field) -> Callable:
    """The flag of a field of Config."""
    wanted, choices = option_type(field.type)
    text = field.metadata["help"]
    if wanted is bool:
        text += f" [{'yes' if field.default else 'no'}]"
    elif field.default is not None:
        text += f" [{field.default}]"
    return click.option(
        flag(field.name) + (f"/--no-{flag(field.name)[2:]}" if wanted is bool else ""),
        field.name,
        type=click.Choice(choices) if choices else wanted,
        default=None,
        help=text,
    )


def given(options: dict[str, Any]) -> dict[str, Any]:
    """The options that a person gave."""
    return {name: value for name, value in options.items() if value is not None}
