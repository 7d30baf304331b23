"""Files: the one way to write them, to have them to oneself, and to believe what they say.

A file is written under a random name beside its target, flushed to the disk and then renamed, so
that under the target's name there is the earlier file or the whole new one, whatever happens. The
temporary file is created exclusively, and the rename replaces a link at the target's name: nothing
is ever written through a link.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from filelock import FileLock, Timeout

from maskcon.errors import InputError, TrainingError

NEW, LOCK = ".new", ".lock"  # what the names of temporary files and of locks end in
EARLIER = ".earlier"  # a folder whose place another has taken, with what is yet to be brought there
STEM = 40  # letters of a file's name that its temporary file's name begins with
HELD = b"process "  # what a lock file that is held begins with
WAIT, FOREVER = 60.0, -1.0  # seconds to wait for another process: for a short change, for work
GRACE = 0.5  # seconds for a process that was killed to be gone
WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # file systems that have none
UNPACKED = 100  # times its own size that a file may unpack to; deflate does 1,000 with zeros
ALWAYS = 2**26  # bytes that any file may unpack to


# --- writing -------------------------------------------------------------------------------------


@dataclass
class _New:
    """A file that is being written: its target, and the names that the old and the new one have."""

    path: Path
    beside: Path
    file: BinaryIO
    earlier: Path | None
    old: Path | None = None


class Together:
    """Files that are written side by side and take their places together; see `together`."""

    def __init__(self, *, told_by_last: bool = False) -> None:
        self.paths: list[Path] = []
        self._files: list[_New] = []
        self._told_by_last = told_by_last

    def open(self, path: Path, *, earlier: Path | None = None) -> BinaryIO:
        """A new file to write to; it gets its name when all are whole.

        Args:
            path: the name.
            earlier: the name that the file which is there now gets; by default it is gone.
        """
        self.paths.append(path)
        beside = _unused(path)
        file = open(beside, "xb")  # noqa: SIM115 - closed by `together`
        self._files.append(_New(path, beside, file, earlier))
        return file

    def write(self, path: Path, *content: bytes | memoryview, earlier: Path | None = None) -> None:
        """Write a file of known content: its parts, one after the other."""
        file = self.open(path, earlier=earlier)
        for part in content:
            file.write(part)

    def write_json(self, path: Path, content: Any) -> None:
        """Write plain values as indented JSON."""
        self.write(path, (json.dumps(content, indent=2) + "\n").encode())

    def _finish(self) -> None:
        """Flush every file, and only then rename one after the other."""
        for new in self._files:
            flush(new.file)
            new.file.close()
        several = len(self._files) > 1
        if self._told_by_last and several:
            last = self._files[-1]
            last.old = _second_name(last.path)
            last.path.unlink(missing_ok=True)
            flush_folder(last.path.parent)
        for new in self._files:
            if new.old is None and (new.earlier is not None or several):
                new.old = _second_name(new.path)
            os.replace(new.beside, new.path)
            if new.old is not None and new.earlier is not None:
                os.replace(new.old, new.earlier)
        for folder in dict.fromkeys(new.path.parent for new in self._files):
            flush_folder(folder)

    def _undo(self) -> None:
        """Give back the names of the files that were there."""
        for new in self._files:
            renamed = not new.beside.exists()
            with contextlib.suppress(OSError):  # the first error matters
                if new.old is not None:
                    os.replace(new.old, new.path)
                elif renamed and len(self._files) > 1:
                    new.path.unlink()

    def _clean(self) -> None:
        for new in self._files:
            with contextlib.suppress(OSError):
                new.file.close()
            for path in (new.beside, new.old):
                with contextlib.suppress(OSError):
                    if path is not None:
                        path.unlink(missing_ok=True)


@contextmanager
def together(*, told_by_last: bool = False) -> Iterator[Together]:
    """Write a set of files that appears whole or not at all.

        with together() as new:
            new.write(folder / "weights", content)
            new.write_json(folder / "weights.json", about)

    Args:
        told_by_last: the last file says what the others are: it goes before the first of them
            changes, so that a process that is killed in between leaves files that nothing
            describes, and none that another one's description seems to fit.

    Raises:
        TrainingError: the disk is full or read-only; the earlier files are untouched.
    """
    new = Together(told_by_last=told_by_last)
    try:
        yield new
        new._finish()
    except BaseException as error:
        new._undo()
        if not isinstance(error, OSError):
            raise
        kept = any(path.exists() for path in new.paths)
        raise TrainingError(
            f"{' and '.join(map(str, new.paths))} could not be written: {error}; "
            f"{'the earlier one is kept' if kept else 'there is no earlier one'}"
        ) from error
    finally:
        new._clean()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to bit by bit, which takes the place of `path` when all is written.

    Raises:
        TrainingError: the disk is full or read-only; the earlier file is untouched.
    """
    with together() as new:
        yield new.open(path)


def write(path: Path, *content: bytes | memoryview, earlier: Path | None = None) -> None:
    """Write a file whole.

    Args:
        path: the file.
        content: what goes into it, one after the other.
        earlier: the name that the earlier file gets; by default it is gone.

    Raises:
        TrainingError: the disk is full or read-only; the earlier file is untouched.
    """
    with together() as new:
        new.write(path, *content, earlier=earlier)


def write_json(path: Path, content: Any) -> None:
    """Write plain values as indented JSON, whole; errors are those of `write`."""
    with together() as new:
        new.write_json(path, content)


@contextmanager
def replacing_folder(folder: Path, ours: Callable[[str], object] = bool) -> Iterator[Path]:
    """A folder to fill, which takes the place of `folder` when it is whole.

    It is this process's alone (`locked`). What a process that was killed had not brought from an
    earlier folder yet is brought first.

    Args:
        folder: where. Files in an earlier one that are not `ours`, and folders, come into the new.
        ours: whether a file of this name was written by whoever fills the folder; by default all.

    Raises:
        TrainingError: it cannot be written; an earlier one is kept.
    """
    folder = folder.absolute()  # so that "." has a name
    beside, old = _unused(folder), folder.with_name(f".{_stem(folder)}{EARLIER}")
    try:
        clear_left(folder)
        if os.path.lexists(old):
            _bring(old, folder, ours)
        beside.mkdir()
        yield beside
        for path in (*beside.rglob("*"), beside):
            if path.is_dir():
                flush_folder(path)
            else:
                with appending(path) as file:
                    flush(file)
        if os.path.lexists(folder):
            os.replace(folder, old)
        os.replace(beside, folder)
        _bring(old, folder, ours)
        flush_folder(folder.parent)
    except OSError as error:
        if os.path.lexists(old) and not folder.exists():
            os.replace(old, folder)
        raise TrainingError(f"{folder} could not be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def filling(folder: Path) -> Iterator[Path]:
    """A new folder, of folders and links too, which gets its name when it is whole.

    Args:
        folder: where; there is nothing of this name, and it is this process's alone (`locked`).

    Raises:
        TrainingError: it cannot be written; there is nothing of its name then.
    """
    beside = _unused(folder)
    try:
        clear_left(folder)
        beside.mkdir()
        yield beside
        for path in (*beside.rglob("*"), beside):
            if path.is_dir() and not path.is_symlink():
                flush_folder(path)
        os.replace(beside, folder)
        flush_folder(folder.parent)
    except OSError as error:
        raise TrainingError(f"{folder} could not be written: {error}") from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _bring(old: Path, folder: Path, ours: Callable[[str], object]) -> None:
    """Move what is not ours from a folder's earlier state to the new one, and delete the rest."""
    if not os.path.lexists(folder):  # a process was killed between the two names
        os.replace(old, folder)
    elif old.is_symlink():  # what it leads to stays
        old.unlink()
    elif old.is_dir():
        for path in sorted(old.iterdir()):
            if not (path.is_dir() and not path.is_symlink()) and ours(path.name):
                path.unlink()
            else:
                os.replace(path, folder / path.name)
        old.rmdir()


def appending(path: Path, *, size: int | None = None, buffering: int = -1) -> BinaryIO:
    """Open a file to go on with; it is made where there is none, and a link is refused.

    Args:
        path: the file.
        size: bytes of it that stay; None is all.
        buffering: as `open` takes it.

    Raises:
        OSError: it cannot be written, or is a link.
    """
    file = open(path, "ab", buffering=buffering, opener=_no_link)  # noqa: SIM115 - given away
    if size is not None:
        file.truncate(size)
        file.seek(size)
    return file


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and those above it; return those that were not there, the innermost first.

    Raises:
        OSError: it cannot be made.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in made:
        flush_folder(path.parent)
    return made


def rename(path: Path, target: Path) -> None:
    """Give a file that was appended to, and is whole now, the name that is read.

    Raises:
        OSError: it cannot be flushed to the disk or renamed.
    """
    with appending(path) as file:
        flush(file)
    os.replace(path, target)
    flush_folder(target.parent)


def flush(file: IO[Any]) -> None:
    """See that what was written to a file is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def flush_folder(folder: Path) -> None:
    """See that the names of a folder's files are on the disk, not only the files."""
    directory = getattr(os, "O_DIRECTORY", None)
    if directory is None:  # on Windows folders cannot be opened, and need not be
        return
    number = os.open(folder, os.O_RDONLY | directory)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def is_temporary(path: Path) -> bool:
    """Whether a file is a lock, or was left by a process that was killed while it wrote."""
    return path.name.endswith(LOCK) or _UNUSED.fullmatch(path.name) is not None


def clear_temporary(folder: Path) -> None:
    """Delete what processes that were killed while they wrote have left in a folder."""
    for path in folder.glob(f".*{NEW}"):
        if is_temporary(path) and not path.is_dir():
            path.unlink(missing_ok=True)


def clear_left(path: Path) -> None:
    """Delete what killed processes have left of a file or folder that is this process's now."""
    name = re.compile(rf"\.{re.escape(_stem(path))}\.[0-9a-f]{{16}}{re.escape(NEW)}")
    with contextlib.suppress(OSError):  # it is in nobody's way
        for found in [p for p in path.absolute().parent.iterdir() if name.fullmatch(p.name)]:
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found, ignore_errors=True)
            else:
                found.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    """A name beside a file that nobody can guess."""
    return path.with_name(f".{_stem(path)}.{secrets.token_hex(8)}{NEW}")


_UNUSED = re.compile(rf"\..*\.[0-9a-f]{{16}}{re.escape(NEW)}", re.DOTALL)  # names of `_unused`


def _stem(path: Path) -> str:
    """What tells a file from others in its folder, and is no longer than a name may be."""
    if len(path.name) <= STEM:
        return path.name
    digest = hashlib.blake2b(os.fsencode(path.name), digest_size=4).hexdigest()
    return f"{path.name[: STEM - len(digest)]}{digest}"


def _second_name(path: Path) -> Path | None:
    """Another name for a file that is about to be replaced; None where there is no file."""
    if not os.path.lexists(path) or (path.is_dir() and not path.is_symlink()):
        return None  # a folder's place is not taken, and renaming says so
    second = _unused(path)
    try:
        os.link(path, second, follow_symlinks=False)  # the file is never missing
    except (OSError, NotImplementedError):  # a file system without links
        os.replace(path, second)
    return second


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def is_gone(place: str) -> bool:
    """Whether what a record calls its data was a path, and nothing is there any more."""
    return os.path.isabs(place) and not os.path.exists(place)  # noqa: PTH110, PTH117 - text


# --- one at a time -------------------------------------------------------------------------------


@contextmanager
def locked(path: Path, what: str = "", *, wait: float = 0.0) -> Iterator[None]:
    """Have a file or folder to oneself: around all that reads it, changes it and writes it.

    The system holds the lock and not the lock file's being there: what a killed process leaves is
    no obstacle. A file system without locks is used without.

    Args:
        path: what is locked; the lock file is beside it, and is removed at the end.
        what: the words for it, such as "the run folder x"; by default the path.
        wait: seconds to wait for another process; less than 0 is without end.

    Raises:
        InputError: another process has it; the message says which.
        TrainingError: the lock file cannot be written, or a file of somebody else has its name.
    """
    named = path if path.name not in ("", "..") else Path(os.path.realpath(path))
    file = Path(f"{named}{LOCK}")
    if not file.absolute().parent.is_dir():  # which the lock would make in silence
        raise TrainingError(f"{what or path} cannot be written: {file.parent} is no folder")
    if not _may_lock(file):
        raise TrainingError(
            f"{what or path} cannot be written: {file} is no lock of maskcon; rename it"
        )
    lock = FileLock(file, fallback_to_soft=False)
    try:
        try:
            lock.acquire(timeout=max(wait, GRACE) if wait >= 0 else wait)
        except Timeout:
            if not _is_dead(file):
                raise
            lock.acquire(timeout=WAIT)  # processes that it started have its files open still
    except Timeout as error:
        raise InputError(
            f"{what or path} is in use by {_holder(file)}: wait for it to end, or stop it first"
        ) from error
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise TrainingError(f"{what or path} cannot be written: {error}") from error
    try:
        with contextlib.suppress(OSError):  # on Windows nobody writes to a locked file
            now = datetime.now().astimezone().isoformat(timespec="seconds")
            with appending(file, size=0) as note:
                who = f"{os.getpid()} on {socket.gethostname()}, since {now}"
                note.write(HELD + who.encode())
        yield
    finally:
        with contextlib.suppress(OSError):  # on Windows a file that is open stays
            file.unlink()  # while it is held: who has opened it meanwhile sees that it is gone
        lock.release()


def _is_dead(file: Path) -> bool:
    """Whether the process that a lock file names was on this machine, and is no more."""
    found = re.match(r"process (\d+) on (.*), since ", _holder(file))
    if os.name == "nt" or found is None or found[2] != socket.gethostname():
        return False  # on Windows asking for a process would end it
    try:
        os.kill(int(found[1]), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:  # somebody else's
        return False
    return False


def _may_lock(file: Path) -> bool:
    """Whether a name is free for a lock, or a lock has it."""
    if not os.path.lexists(file):
        return True
    if file.is_symlink() or not file.is_file():
        return False
    with contextlib.suppress(OSError):  # on Windows nobody reads a locked file
        return file.read_bytes()[: len(HELD)] in (b"", HELD)
    return True


def _holder(file: Path) -> str:
    with contextlib.suppress(OSError):
        return file.read_bytes()[:200].decode(errors="replace").strip() or "another process"
    return "another process"


# --- where to write ------------------------------------------------------------------------------


def check_output(
    path: str | Path,
    option: str = "--out",
    *,
    suffixes: Sequence[str] = (),
    folder: bool = False,
    earlier: Sequence[Path] | None = None,
    overwrite: bool = False,
    instead: str = "",
    inputs: Iterable[str | Path] = (),
) -> Path:
    """See that something can be written, before anything is computed; change nothing.

    Args:
        path: of the file or folder.
        option: by which it was given.
        suffixes: that a file may have; any by default.
        folder: it is to be a folder, not a file.
        earlier: files or folders that are not overwritten unawares; by default the path.
        overwrite: they may be.
        instead: what else can be done where they are there, such as "--resume to go on".
        inputs: files and folders that are read, and are never overwritten (`check_apart`).

    Raises:
        InputError: another ending, a file in place of a folder or a folder in place of a file, no
            folder to put it into, one that is there already (a link that leads nowhere, too), or
            an input.
    """
    path = Path(path)
    if suffixes and path.suffix.lower() not in suffixes:
        raise InputError(
            f"{path} ends in {path.suffix!r}: give {option} a name in {', '.join(suffixes)}"
        )
    if folder and os.path.lexists(path) and not path.is_dir():
        raise InputError(f"{path} is a file: give {option} a folder")
    if not folder and path.is_dir():
        raise InputError(f"{path} is a folder: give {option} the name of a file")
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path.parent} is no folder: make it, or give another {option}")
    blocked = next((f for f in earlier or () if not folder and f.is_dir()), None)
    if blocked is not None:
        raise InputError(
            f"{blocked} is a folder, and a file of this name is to be written: move it"
        )
    there = [file for file in (earlier if earlier is not None else [path]) if os.path.lexists(file)]
    if there and not overwrite:
        ways = ", ".join([f"give another {option}", *([instead] if instead else [])])
        raise InputError(f"{there[0]} exists: {ways}, or --overwrite")
    check_apart([path, *(earlier or ())], inputs, option)
    return path


@contextmanager
def reserved(places: Iterable[Path], check: Callable[[], object]) -> Iterator[None]:
    """Places to write to, which nobody else writes to meanwhile.

    They are checked again when they are this process's: another may have been quicker. What
    processes that were killed there have left is deleted.

    Args:
        places: files and folders.
        check: raises `InputError` where they cannot be written to.

    Raises:
        InputError: as `check` and `locked` do.
    """
    check()
    with ExitStack() as stack:
        for place in sorted(set(places)):
            stack.enter_context(locked(place))
            clear_left(place)
        check()
        yield


@contextmanager
def output(path: str | Path, option: str = "--out", **how: Any) -> Iterator[Path]:
    """A place to write to, which nobody else writes to meanwhile; see `reserved`.

    Args:
        path: of the file or folder.
        option: by which it was given.
        how: as `check_output` takes it; its `earlier` files are reserved too.

    Raises:
        InputError: as `check_output` and `locked` do.
    """
    path = Path(path)
    places = [path, *(how.get("earlier") or ())]
    with reserved(places, lambda: check_output(path, option, **how)):
        yield path


def check_apart(
    outputs: Iterable[str | Path], inputs: Iterable[str | Path], option: str = "--out"
) -> None:
    """See that what is written neither is nor holds what is read, links followed.

    Args:
        outputs: files and folders.
        inputs: files and folders.
        option: by which the outputs were given.

    Raises:
        InputError: an input is an output, or lies inside of one.
    """
    # nothing lies in what is not there
    written = {os.path.realpath(path): path for path in outputs if os.path.lexists(path)}
    if not written:
        return
    # hard links, and names on a disk where capitals do not matter
    same = {identity for path in written if (identity := _identity(path)) is not None}
    followed: dict[str, str] = {}
    for given in inputs:
        place = place_of(given, followed)
        around = place
        while around not in written and around != os.path.dirname(around):  # noqa: PTH120 - text
            around = os.path.dirname(around)  # noqa: PTH120
        if around not in written and _identity(place) in same:
            raise InputError(f"{given} is read and would be overwritten: give another {option}")
        if around in written:
            how = "is read and would be overwritten" if around == place else "is read, and lies in"
            raise InputError(
                f"{given} {how}{'' if around == place else f' {written[around]}'}: give another "
                f"{option}"
            )


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from all others, whatever its names; None of what is not there."""
    try:
        found = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if found.st_ino else None


def place_of(file: str | Path, followed: dict[str, str]) -> str:
    """Where a file is, links followed; its folder is followed once for all of its files.

    Args:
        file: a path.
        followed: folders and where they are; added to.
    """
    folder, name = os.path.split(file)
    try:
        if folder not in followed:
            followed[folder] = os.path.realpath(folder)
        return os.path.realpath(os.path.join(followed[folder], name))  # noqa: PTH118
    except ValueError:  # a name that no file can have
        return os.sep


# --- reading what others wrote -------------------------------------------------------------------
# A few bytes can claim anything: a table of 10^12 numbers, a text nested a million times, an
# archive that unpacks to more than there is memory.


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is none, or nested deeper than can be followed.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None


def check_unpacked(path: Path, claimed: int) -> None:
    """See that a file does not claim to hold far more than its own bytes can say.

    Args:
        path: of the file.
        claimed: bytes of memory that its content would take, as its header has it.

    Raises:
        InputError: it does.
    """
    size = path.stat().st_size
    if claimed > max(UNPACKED * size, ALWAYS):
        raise InputError(
            f"{path} has {size:,} bytes and says that it holds {claimed:,}: it is damaged, or made "
            "to fill memory; write it anew with less compression if it is yours"
        )
