"""A project: one folder beside the pictures, which has all that was done and never touches them.

project.json     what it is of, and which generation counts
edits.sqlite     every edit
0, 1, ...        a generation each: the encoder (run), the pictures' vectors (pictures.index),
                 their trees (ground.npz) and their map (map.f32); learning makes another
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from maskcon import __version__
from maskcon.errors import InputError, TrainingError, brief
from maskcon.runtime import files
from maskcon.search import file as index_file

FACTS, EDITS, ENDING = "project.json", "edits.sqlite", ".maskcon"
FORMAT = "maskcon project"  # a key of project.json, whose value is its version
VERSION = 1


@dataclass(frozen=True)
class Facts:
    """What project.json says.

    Attributes:
        name: of the project.
        data: a data set's name, or the path of a folder or table.
        options: how the data are read.
        generation: that counts.
        version: of maskcon, that made the project.
    """

    name: str
    data: str
    options: Mapping[str, Any] = field(default_factory=dict)
    generation: int = 0
    version: str = __version__


@dataclass(frozen=True)
class Generation:
    """Where one encoder and what it said of the pictures lie.

    Attributes:
        folder: of the project.
        number: 0 for the first.
    """

    folder: Path
    number: int

    @property
    def home(self) -> Path:
        """The folder of the generation."""
        return self.folder / str(self.number)

    @property
    def run(self) -> Path:
        """The encoder's folder."""
        return self.home / "run"

    @property
    def index(self) -> Path:
        """The pictures and their vectors."""
        return self.home / "pictures.index"

    @property
    def ground(self) -> Path:
        """Their trees."""
        return self.home / "ground.npz"

    @property
    def map(self) -> Path:
        """Where they lie on the map."""
        return self.home / "map.f32"

    @property
    def learned_from(self) -> Path:
        """A table of the pictures that it learned from and their labels, if it is not the first."""
        return self.home / "pictures.csv"

    @property
    def whole(self) -> bool:
        """Whether the pictures have vectors, without which there is nothing to show."""
        return index_file.there(self.index)


def beside(data: str) -> Path:
    """Where the project of some data lies, if nobody says it: beside a folder or table."""
    path = Path(os.path.realpath(data))
    if not path.exists():
        return Path(f"{data}{ENDING}")  # a data set's name: in the folder that one is in
    return path.with_name(path.name + ENDING)


def is_project(folder: Path) -> bool:
    """Whether a folder is a project."""
    return (folder / FACTS).is_file()


def read(folder: Path) -> Facts:
    """What project.json says.

    Raises:
        InputError: there is none, it is damaged, or a later version wrote it.
    """
    path = folder / FACTS
    try:
        content = files.parse_json(path.read_bytes())
        version = content[FORMAT]
        if not isinstance(version, int) or version < 1:
            raise ValueError(f"its version is {brief(version)}")
    except FileNotFoundError as error:
        raise InputError(
            f"{folder} is no project: it has no {FACTS}; `maskcon explore PHOTOS` makes one"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}; bring it back from a copy") from error
    if version > VERSION:
        raise InputError(
            f"{path} was written by a later version of maskcon (its format is {version}, known is "
            f"{VERSION}): upgrade maskcon"
        )
    try:
        known = {name: content[name] for name in Facts.__dataclass_fields__ if name in content}
        facts = Facts(**known)
        if not isinstance(facts.generation, int) or facts.generation < 0:
            raise ValueError(f"its generation is {brief(facts.generation)}")
        return replace(facts, options=dict(facts.options), name=str(facts.name))
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} is damaged: {error}; bring it back from a copy") from error


def write(folder: Path, facts: Facts) -> None:
    """Write project.json.

    Raises:
        TrainingError: the disk is full or read-only.
    """
    said = {name: getattr(facts, name) for name in Facts.__dataclass_fields__}
    files.write_json(folder / FACTS, {FORMAT: VERSION, **said})


@contextmanager
def held(folder: Path, *, read_only: bool = False) -> Iterator[None]:
    """Have a project to oneself; whoever only reads it needs not.

    Raises:
        InputError: another process has it; the message says which.
        TrainingError: nothing can be written there.
    """
    if read_only:
        yield
        return
    with ExitStack() as stack:
        try:
            stack.enter_context(files.locked(folder, f"the project {folder}"))
        except TrainingError as error:
            raise TrainingError(
                f"{error}. Give --project a folder on a disk that can be written; a project that "
                "is there can be looked at with --read-only"
            ) from error
        yield


def begin(folder: Path, facts: Facts) -> Facts:
    """Make a project, or read the one that is there.

    One that is whole, and whose data are not where they were, is taken for one of the data that
    are given; project.json says so once its pictures were found there (`commands.following`).

    Raises:
        InputError: the folder has something else in it, a project of other data, or lies among
            the pictures.
        TrainingError: it cannot be made.
    """
    if is_project(folder):
        known = read(folder)
        if known.data != facts.data:
            whole = Generation(folder, known.generation).whole
            if not whole or not files.is_gone(known.data):
                raise InputError(
                    f"{folder} is a project of {known.data}, not of {facts.data}: give another "
                    "--project"
                )
        return replace(known, data=facts.data)
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there, and is no project of maskcon: give another --project")
    data, home = os.path.realpath(facts.data), os.path.realpath(folder)
    if os.path.isdir(data) and os.path.commonpath((data, home)) == data:  # noqa: PTH112 - text
        raise InputError(
            f"{folder} lies among the pictures in {facts.data}: give --project a folder elsewhere"
        )
    files.make_folder(folder)
    write(folder, facts)
    return facts
