"""--json: the result of any command for programs, in a file or as all that the output holds."""

import json as encoding
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, redirect_stdout
from functools import wraps
from pathlib import Path
from typing import Any

import rich_click as click

from maskcon.cli.options import PATH
from maskcon.errors import InputError

OUTPUT = Path("-")  # of the file's name: the standard output


def json_option(
    *, own: bool = False, overwrite: bool = False, failed: Callable[[Any], bool] | None = None
) -> Callable[[Callable], Callable]:
    """Give a command `--json FILE`, which takes what its function returns, as plain values.

    With "-" for FILE the standard output holds the JSON and nothing else; tables and notes that a
    person reads go to the standard error. A command that returns None (in processes that are not
    the first of several) writes nothing.

    Args:
        own: the command's function writes a file itself, as it alone knows what it reads; it gets
            `json`, None where the output takes the result.
        overwrite: give the command `--overwrite`, which it has not for another file.
        failed: whether a result makes the exit code 1.
    """

    def decorate(command: Callable) -> Callable:
        @wraps(command)
        def run(*, json: Path | None, **options: Any) -> None:
            given = dict(options)
            replace = given.pop("overwrite") if overwrite else given.get("overwrite", False)
            with ExitStack() as stack:
                printed = json == OUTPUT
                if printed:
                    stack.enter_context(redirect_stdout(sys.stderr))
                elif json is not None and os.environ.get("RANK", "0") == "0":
                    if replace:
                        _check_replaced(json)
                    if not own:
                        stack.enter_context(_place(json, replace, options))
                if own:
                    given["json"] = None if printed else json
                result = command(**given)
                if json is not None and not printed and not own and result is not None:
                    from maskcon.runtime.files import write_json

                    write_json(json, result)
            if printed and result is not None:
                click.echo(encoding.dumps(result, indent=2))
            if failed is not None and failed(result):
                sys.exit(1)

        if overwrite:
            run = click.option("--overwrite", is_flag=True, help="replace the file of --json")(run)
        text = "write the result to this file; - prints it, and nothing else"
        return click.option("--json", type=PATH, help=text)(run)

    return decorate


def _place(json: Path, overwrite: bool, options: Mapping[str, Any]) -> Any:
    """The file of `--json`, reserved: not what the command reads or writes.

    Raises:
        InputError: it is, or it exists and may not be replaced.
    """
    from maskcon.runs import folder as runs
    from maskcon.runtime.files import output

    named = list(_paths(options))
    if json.absolute() in {path.absolute() for path in named}:
        raise InputError(f"{json} is given to --json and for something else: give two names")
    read = [*named, *(file for path in named for file in runs.written(path))]
    return output(json, "--json", overwrite=overwrite, inputs=filter(os.path.lexists, read))


def _check_replaced(json: Path) -> None:
    """See that a file which `--overwrite` replaces holds JSON."""
    try:
        if json.is_file():
            encoding.loads(json.read_bytes())
    except (OSError, ValueError):
        raise InputError(
            f"{json} holds no JSON, so --overwrite does not replace it: give another --json"
        ) from None


def _paths(options: Mapping[str, Any]) -> Iterator[Path]:
    """The files and folders among the options of a command, whatever these are called."""
    for value in options.values():
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, str | Path):
                yield Path(one)
