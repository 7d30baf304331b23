"""A folder tree: root/[train|test/]coarse/[fine/]image."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from maskcon.data.image_file import how_to_read, is_picture, is_unread_picture
from maskcon.data.pictures import Files
from maskcon.data.table import SPLITS, Found, Part, numbered, settle
from maskcon.errors import InputError

# Folders that machines make: thumbnails and snapshots of a NAS, recycle bins, what archives of a
# Mac hold beside the files. Hidden ones are passed over as well.
OF_MACHINES = frozenset(
    {
        *("@eadir", "@__thumb", "@recycle", "@recently-snapshot", "@snapshot", "@synoresource"),
        *("@synodrive", "@tmp", "@sharebin", "@sharesnap", "#recycle", "#snapshot", "~snapshot"),
        *("$recycle.bin", "recycler", "trashbox", "network trash folder", "temporary items"),
        *("system volume information", "lost+found", "found.000", "_vti_cnf"),
        *("__macosx", "__pycache__"),
    }
)
# Files by which a folder below the pictures is known as one that maskcon wrote: a run, an export,
# groups that were discovered. There are pictures in them that belong to no class.
OF_MASKCON = ({"run.json", "metrics.jsonl"}, {".maskcon-export"}, {"groups.csv", "summary.json"})
SHOWN = 3  # names in a message


@dataclass(frozen=True)
class _Row:
    file: Path
    folders: tuple[str, ...]  # in which it lies, below the root or its split


@dataclass
class _Below:
    """What lies below a folder.

    Attributes:
        rows: pictures.
        unread: what looks like pictures and is not read.
        written: folders that maskcon wrote.
    """

    rows: list[_Row] = field(default_factory=list)
    unread: list[Path] = field(default_factory=list)
    written: list[Path] = field(default_factory=list)


def found(path: Path) -> bool:
    """Whether the folder has class folders with images in them, under splits or not."""
    return any(
        row.folders[1:] if row.folders and row.folders[0].lower() in SPLITS else row.folders
        for row in _pictures(path)
    )


def flat(path: Path) -> bool:
    """Whether the folder has images, and no class folders that they lie in."""
    return not found(path) and next(_pictures(path), None) is not None


def read(path: Path, coarse_level: int = 0) -> Found:
    """Read class folders: coarse/fine/image, or coarse/image without fine labels.

    Classes are numbered in the order of their names and images lie in the order of their
    paths. A fine class belongs to its coarse one, so its name is "coarse/fine"; a coarse class
    without fine ones, beside others that have some, is one fine class of its own. Images that lie
    in no class folders at all are of one class, of the folder's name.

    Args:
        path: the root.
        coarse_level: the folder that is the coarse label, 1 for the first below the root or the
            split; the next one is the fine label, and deeper ones tell nothing. 0 is the first of
            a tree that is no deeper than coarse/fine.

    Raises:
        InputError: an image lies at no such folder, or a class has images beside its fine ones.
    """
    folders, notes = _parts(path)
    below = {name: _below(part) for name, part in folders.items()}
    every = [row for part in below.values() for row in part.rows]
    unread = [file for part in below.values() for file in part.unread]
    if list(folders.values()) == [path]:
        _refuse_splits_below(path, every)
    written = [folder for part in below.values() for folder in part.written]
    notes += (*passed_over(unread, path), *_told(written, path))
    coarse_of, fine_of = _labels(path, every, coarse_level)
    coarse, coarse_names = numbered(coarse_of)
    fine, fine_names = (None, ()) if fine_of is None else numbered(fine_of)
    plain = sorted(set(coarse_names) & set(fine_names))
    if plain:
        notes += (
            f"{len(plain):,} coarse classes have no fine folders, and are one fine class each: "
            + _some(plain),
        )
    parts, start = {}, 0
    for name, part in below.items():
        mine = slice(start, start + len(part.rows))
        start += len(part.rows)
        if part.rows:
            parts[name] = Part(
                Files([row.file for row in part.rows]),
                coarse[mine],
                None if fine is None else fine[mine],
            )
    return Found(path.name, parts, coarse_names, fine_names, notes)


def loose(path: Path) -> tuple[list[Path], tuple[str, ...]]:
    """Every picture anywhere below a folder, whatever its folders mean, in order; and notes."""
    below = _below(path)
    return (
        [row.file for row in below.rows],
        (*passed_over(below.unread, path), *_told(below.written, path)),
    )


def unread(path: Path) -> tuple[str, ...]:
    """A note on what looks like pictures below a folder and is not read; empty if nothing does."""
    return passed_over(_below(path).unread, path) if path.is_dir() else ()


def passed_over(unread: Sequence[Path], path: Path) -> tuple[str, ...]:
    """A note that counts and names files that look like pictures and are not read."""
    if not unread:
        return ()
    kinds = Counter(file.suffix.lower() or "no suffix" for file in unread)
    counted = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items()))
    advice = "; ".join(sorted({how_to_read(file) for file in unread}))
    named = _some([str(file.relative_to(path)) for file in unread])
    return (
        f"{len(unread):,} files that look like pictures are passed over, since their format is "
        f"not decoded ({counted}): {named}. What to do: {advice}",
    )


def _told(written: Sequence[Path], path: Path) -> tuple[str, ...]:
    """A note on folders of maskcon's among the pictures."""
    if not written:
        return ()
    named = _some([str(folder.relative_to(path)) for folder in written])
    return (f"{len(written):,} folders that maskcon wrote are passed over: {named}",)


def _labels(
    path: Path, rows: Sequence[_Row], coarse_level: int
) -> tuple[list[str], list[str] | None]:
    """The names of the coarse and of the fine class of each row; no fine ones where none has."""
    depths = {len(row.folders) for row in rows}
    if depths == {0} and coarse_level == 0:
        return [path.name or "images"] * len(rows), None
    level = coarse_level or 1
    above = [row for row in rows if len(row.folders) < level]
    if above and level == 1:
        raise InputError(
            f"{above[0].file} lies beside the class folders, and so has no label: put it into "
            "one, or move it away"
        )
    if above:
        raise InputError(
            f"{len(above):,} of {len(rows):,} images lie in fewer than {level} folders, such as "
            f"{above[0].file}: give a smaller --coarse-level, or move them"
        )
    if not coarse_level and max(depths, default=0) > 2:
        raise _too_deep(path, rows)
    names = _named({row.folders[:level] for row in rows})
    coarse = [names[row.folders[:level]] for row in rows]
    if max(depths, default=0) == level:
        return coarse, None
    fine = [
        f"{name}/{row.folders[level]}" if row.folders[level:] else name
        for name, row in zip(coarse, rows, strict=True)
    ]
    shallow = {name: row for name, of, row in zip(fine, coarse, rows, strict=True) if name == of}
    for name, row in zip(coarse, rows, strict=True):
        if name in shallow and row.folders[level:]:
            raise InputError(
                f"the class {name} has images on two levels, {shallow[name].file} and {row.file}: "
                "put all of them into fine folders, or all of them beside each other"
            )
    return coarse, fine


def _named(classes: set[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """What classes are called: as their own folder, with those above it where two are alike."""
    times = Counter(folders[-1] for folders in classes)
    return {
        folders: folders[-1] if times[folders[-1]] == 1 else "/".join(folders)
        for folders in classes
    }


def _too_deep(path: Path, rows: Sequence[_Row]) -> InputError:
    deepest = max(rows, key=lambda row: len(row.folders))
    choices = []
    for level in range(1, min(len(row.folders) for row in rows) + 1):
        names = sorted({row.folders[level - 1] for row in rows})
        choices.append(f"--coarse-level {level} has {len(names):,} ({_some(names)})")
    return InputError(
        f"{deepest.file} lies deeper than coarse/fine/image, {len(deepest.folders)} folders below "
        f"{path}: say which folder is the coarse label; {', '.join(choices)}"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def _parts(path: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The folders of the splits; the root alone as "train", where it has none; and notes."""
    folders = _visible(path)[1]
    splits = [folder for folder in folders if folder.name.lower() in SPLITS]
    if not splits:
        return {"train": path}, ()
    others = [f.name for f in folders if f not in splits and next(_pictures(f), None) is not None]
    if others:
        raise InputError(
            f"{path} has folders of splits ({', '.join(folder.name for folder in splits)}) and "
            f"others with images beside them ({', '.join(others)}): put all classes into the "
            "splits, or, if these are classes, all of them into a folder train/"
        )
    folders = splits
    parts: dict[str, Path] = {}
    for folder in folders:
        name = SPLITS[folder.name.lower()]
        if name in parts:
            raise InputError(
                f"{path} has two folders for its {name} split, {parts[name].name} and "
                f"{folder.name}: keep one"
            )
        parts[name] = folder
    return settle(parts)


def _refuse_splits_below(path: Path, rows: Sequence[_Row]) -> None:
    """Raise `InputError` where splits lie inside of a folder, and would be taken for classes."""
    inside: dict[str, set[str]] = {}
    for row in rows:
        if row.folders:
            inside.setdefault(row.folders[0], set()).add("".join(row.folders[1:2]))
    for name, names in inside.items():
        if len(names) > 1 and all(n.lower() in SPLITS for n in names):
            way = "put the splits above the classes, as in train/class/image.jpg"
            raise InputError(
                f"{path / name} has folders of splits in it ({', '.join(sorted(names))}), and "
                f"{path} has none: {f'give {path / name}' if len(inside) == 1 else way}"
            )


def _below(path: Path) -> _Below:
    below = _Below()
    for row in _files(path, below.written):
        if is_picture(row.file):
            below.rows.append(row)
        elif is_unread_picture(row.file):
            below.unread.append(row.file)
    return below


def _pictures(path: Path) -> Iterator[_Row]:
    return (row for row in _files(path) if is_picture(row.file))


def _files(path: Path, written: list[Path] | None = None) -> Iterator[_Row]:
    """Every file below a folder: those of a folder before those of the folders in it.

    Folders that maskcon wrote are passed over, and added to `written`.
    """
    ahead: list[tuple[Path, tuple[str, ...], tuple[str, ...]]] = [(path, (), _above(path))]
    while ahead:
        folder, names, within = ahead.pop()
        if folder.is_symlink() or not names:
            place = os.path.realpath(folder)
            above = (*_above(folder.parent / "x"), *within) if names else within
            if place in above:  # a link that leads in a circle
                continue
            within = (*above, place)
        files, folders = _visible(folder)
        if names and _is_ours(folder, {file.name for file in files}):
            if written is not None:
                written.append(folder)
            continue
        yield from (_Row(file, names) for file in files)
        ahead += [(f, (*names, f.name), within) for f in reversed(folders)]


def _is_ours(folder: Path, names: set[str]) -> bool:
    return any(
        all(name in names or (name[0] == "." and (folder / name).exists()) for name in mark)
        for mark in OF_MASKCON
    )


def _above(path: Path) -> tuple[str, ...]:
    """The folders that a folder really lies in."""
    return tuple(map(str, Path(os.path.realpath(path)).parents))


def _visible(path: Path) -> tuple[list[Path], list[Path]]:
    """The files and the folders of a folder, sorted, without what machines made."""
    files: list[Path] = []
    folders: list[Path] = []
    try:
        for entry in path.iterdir() if path.is_dir() else ():
            if not entry.name.startswith("."):
                (folders if entry.is_dir() else files).append(entry)
    except OSError as error:
        raise InputError(f"the folder {path} cannot be read: {error}") from error
    return sorted(files), sorted(f for f in folders if f.name.lower() not in OF_MACHINES)
