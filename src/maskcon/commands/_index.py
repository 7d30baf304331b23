"""An index of pictures: made, changed, described."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from maskcon import __version__
from maskcon.commands._embed import all_readable
from maskcon.commands.labelled import Labelled, labelled
from maskcon.commands.sources import resolved
from maskcon.config import reading
from maskcon.data import Found, confine
from maskcon.data.pictures import Files
from maskcon.data.scan import each
from maskcon.data.thumbnails import SIDE, Seen
from maskcon.encoder import BATCH, Encoder
from maskcon.errors import InputError
from maskcon.model.hub import is_named, located
from maskcon.runs import folder as runs
from maskcon.runtime.files import check_apart, locked, output
from maskcon.runtime.progress import Progress, Silent, follower
from maskcon.search import file as index_file
from maskcon.search.index import KINDS, About, Index, table
from maskcon.search.ivf import QUANTIZATIONS
from maskcon.vectors import file as embeddings
from maskcon.vectors.as_data import check_unchanged
from maskcon.vectors.store import Store

UNSEEN = (None, None)  # digest and thumbnail of a picture that was not looked at
Entries = tuple[np.ndarray, pa.Table, list[tuple[str, str]]]  # vectors, rows, what was left out


def index(  # longer than a screen for the sake of what it says of its options
    source: str | Path,
    data: str | Path | Found | None = None,
    *,
    out: str | Path | None = None,
    split: str = "all",
    add: bool = False,
    remove: Sequence[str] = (),
    kind: str | None = None,
    quantization: str | None = None,
    thumbnails: bool = True,
    overwrite: bool = False,
    batch_size: int = BATCH,
    device: str = "auto",
    precision: str | None = None,
    backend: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Make an index of pictures, add to one, remove from one, or say what is in it.

        index("runs/x", "photos", out="shop.index")
        index("runs/x", "more", out="shop.index", add=True)
        index("shop.index", "more", add=True)  # with the run that it was made with
        index("shop.index", remove=["old/*"])
        index("shop.index")

    Args:
        source: a run folder, the encoder.safetensors in it, or hf:OWNER/NAME[@REVISION]; a network
            with a text side, as `Encoder.load` takes it; or an index.
        data: as `embed` takes it, or a file that `embed` wrote, of the same encoder.
        out: the index; by default `source`, if that is one.
        split: the pictures to take: "all", or those of "train", "test" or "validation".
        add: add to the index; pictures whose path is there already take its place.
        remove: paths, or patterns such as "old/*" (`Index.remove`).
        kind: exact; ivf (approximate, with FAISS); or auto: exact up to 200,000 pictures, or
            without FAISS. An index keeps its kind until another is given.
        quantization: what an approximate search keeps a vector as: int8 (by default) or half;
            the nearest of what it finds are chosen with the vectors themselves.
        thumbnails: keep a small JPEG of each picture.
        overwrite: replace the index.
        batch_size: pictures that go through the network together.
        device: as `Encoder.load` takes it.
        precision: as `Encoder.load` takes it.
        backend: as `Encoder.load` takes it.
        progress: told how it goes.
        options: how to read the data, as for `embed`.

    Returns:
        "index" (its path), "pictures", "kind", "recall" (recall@10 of ivf against exact),
        "width", "identity", "run", "bytes"; "added", "replaced", "removed" (paths), "skipped".

    Raises:
        InputError: something given cannot be used.
        TrainingError: the disk is full; an earlier index is untouched.
    """
    progress = follower(progress)
    there = Path(source)
    _known(kind, quantization)
    is_index = _is_index(there, named=out is not None)
    file = Path(source if out is None else out)
    with ExitStack() as stack:
        stack.callback(progress.close)
        if is_index and data is None and not add:
            given = {"split": split != "all", "no-thumbnails": not thumbnails}
            given |= {"batch-size": batch_size != BATCH, "device": device != "auto"}
            _refuse_idle({**given, "precision": precision, "backend": backend, **reading(options)})
            if file != there or remove or kind is not None or quantization is not None:
                stack.enter_context(output(file, overwrite=overwrite or file == there))
            return _changed(there, file, remove, kind, quantization, progress)
        if remove:
            raise InputError(
                "to remove pictures, give the index alone: "
                f"maskcon index {file} --remove {remove[0]!r}"
            )
        if is_index and (not add or file != there):
            raise InputError(f"{source} is an index: give --add, and no --out, to add to it")
        at = None if is_index else located(source, download=options.get("download") or False)
        own = [] if at is None or add else runs.written(at.folder)
        place = output(file, overwrite=overwrite or add, instead="--add to add to it", inputs=own)
        stack.enter_context(place)
        before = opened(file, progress) if add else None
        run = at.name if at is not None else str(before and before.about.run)
        if is_index and data is None:
            raise InputError(f"there is nothing to add: maskcon index {source} DATA --add")
        encoder = Encoder.load(
            run, device=device, precision=precision, backend=backend, store=Store()
        )
        about = About(
            encoder.identity, encoder.source, encoder.preprocessing.image_size, __version__
        )
        if before is not None:
            same_encoder(before.about, about, file)
        side = SIDE if thumbnails else 0
        made = _entries(encoder, about, data, split, file, side, batch_size, options, progress)
        about = _searched(about, None if before is None else before.about, kind, quantization)
        return _written(before, about, made, file, progress)


def _refuse_idle(given: Mapping[str, Any]) -> None:
    """Raise `InputError` where something is given that belongs to pictures, and none are."""
    for name in (name for name, value in given.items() if value):
        raise InputError(
            f"--{name.replace('_', '-')} has no effect: no pictures were given; leave it out, or "
            "give pictures and --add"
        )


def _known(kind: str | None, quantization: str | None) -> None:
    """Raise `InputError` where one of them is of no kind that there is."""
    if kind is not None and kind not in KINDS:
        instead = " (ivf takes the place of hnsw)" if kind == "hnsw" else ""
        raise InputError(f"kind is {kind!r}: expected {', '.join(KINDS)}{instead}")
    if quantization is not None and quantization not in QUANTIZATIONS:
        raise InputError(f"quantization is {quantization!r}: expected {', '.join(QUANTIZATIONS)}")


def _searched(
    about: About, before: About | None, kind: str | None, quantization: str | None
) -> About:
    """What an index says of itself, searched as is asked for, or else as before.

    Raises:
        InputError: the quantization of another kind of search is asked for.
    """
    before = before or about
    wanted = kind or before.kind
    if quantization is not None and wanted != "ivf":
        raise InputError(
            f"quantization is {quantization}, and kind is {wanted}: it belongs to --kind ivf; give "
            "that as well, or leave it out"
        )
    return replace(about, kind=wanted, quantization=quantization or before.quantization)


def _is_index(source: Path, *, named: bool) -> bool:
    """Whether the source is an index, and not a run.

    Raises:
        InputError: it is neither, or an index to make has no name.
    """
    if is_named(source):
        if not named:
            raise InputError(f"what is made of {source} needs a name: give --out shop.index")
        return False
    found = index_file.there(source)
    if source.is_file() and source.suffix != ".safetensors" and not found:
        raise InputError(
            f"{source} is no index, or is damaged: expected a run folder, the encoder.safetensors "
            "in it, or an index"
        )
    if not source.exists():
        raise InputError(f"{source} is not there: expected a run folder or an index")
    if not named and not found:
        raise InputError(f"what is made of {source} needs a name: give --out shop.index")
    return found


def opened(file: Path, progress: Progress) -> Index:
    """The index in a file, what there is to say of it told."""
    found, notes = index_file.read(file)
    for note in notes:
        progress.note(note)
    return found


def same_encoder(index: About, run: About, file: Path) -> None:
    """Raise `InputError` where an index holds the vectors of another encoder than a run has."""
    if index.identity != run.identity:
        raise InputError(
            f"{file} was made with the encoder {index.identity[:8]} of {index.run}, and {run.run} "
            f"has {run.identity[:8]}: their vectors cannot be compared. Give the run that the "
            f"index was made with, or index the pictures anew with this one"
        )


def _written(
    before: Index | None, about: About, made: Entries, file: Path, progress: Progress
) -> dict[str, Any]:
    """Put entries into an index, new or old, and write it."""
    vectors, rows, skipped = made
    _tell(about, len(rows) + (len(before) if before is not None else 0), progress)
    if before is None:
        after = Index.of(about, vectors, rows)
        replaced = len(rows) - len(after)
    else:
        after = replace(before, about=about).add(vectors, rows)
        replaced = len(rows) - (len(after) - len(before))
    index_file.write(after, file)
    counts = {"added": len(rows) - replaced, "replaced": replaced}
    return _described(after, file) | counts | {"skipped": skipped}


def _changed(
    source: Path,
    file: Path,
    remove: Sequence[str],
    kind: str | None,
    quantization: str | None,
    progress: Progress,
) -> dict[str, Any]:
    """An index without some pictures, or searched in another way; or as it is."""
    before = opened(source, progress)
    about = _searched(before.about, None, kind, quantization)
    if not remove and about == before.about and file == source:
        if before.anew:
            with locked(file):  # and read again: another process may have added to it
                index_file.write(opened(file, Silent()), file)
        return _described(before, file)
    _tell(about, len(before), progress)
    after, removed = replace(before, about=about).remove(remove)
    index_file.write(after, file)
    return _described(after, file) | {"removed": removed}


def _tell(about: About, count: int, progress: Progress) -> None:
    progress.update(
        f"listing {count:,} pictures" if about.kind == "ivf" else f"writing {count:,} pictures"
    )


def _described(index: Index, file: Path) -> dict[str, Any]:
    small = len(index) - index.rows["thumbnail"].null_count
    return {
        "index": str(file),
        "pictures": len(index),
        "thumbnails": small,
        "kind": index.kind,
        "recall": index.about.recall,
        "width": index.vectors.shape[1],
        "identity": index.about.identity,
        "run": index.about.run,
        "bytes": file.stat().st_size,
        "added": 0,
        "replaced": 0,
        "removed": [],
        "skipped": [],
    }


def _entries(
    encoder: Encoder,
    about: About,
    data: str | Path | Found | None,
    split: str,
    file: Path,
    side: int,
    batch_size: int,
    options: Mapping[str, Any],
    progress: Progress,
) -> Entries:
    """The vectors and rows of data: embedded now, or in a file of embeddings."""
    if isinstance(data, str | Path) and Path(data).suffix.lower() in embeddings.SUFFIXES:
        path = Path(data)
        check_apart([file], [path])
        identity = embeddings.identity(path)
        if identity is not None:
            if split != "all":
                raise InputError(f"{path} has the vectors already: give --split to `maskcon embed`")
            there = replace(about, identity=identity)
            same_encoder(there, about, path)
            config = resolved(reading(options), None)
            return _from_file(path, side, config.confine, progress)
        if path.suffix.lower() == ".npz":
            raise InputError(
                f"{path} does not say which encoder made its vectors, so no picture can be "
                "compared with them: give a file of `maskcon embed`, or the pictures"
            )
    given = labelled(data, Path(about.run), split, options, progress)
    check_apart([file], given.inputs)
    return entries_of(encoder, given, side, batch_size, progress)


def entries_of(
    encoder: Encoder, given: Labelled, side: int, batch_size: int, progress: Progress
) -> Entries:
    """The vectors and rows of pictures, embedded now.

    Args:
        encoder: that embeds.
        given: the pictures and their labels.
        side: of thumbnails in pixels; 0 for none.
        batch_size: pictures that go through the network together.
        progress: told how it goes.

    Raises:
        InputError: none can be read, or some cannot and it was not said to go on without.
    """
    seen = Seen(given.pictures, side)
    made = encoder.embed_readable(
        seen, batch_size=batch_size, progress=progress, workers=given.config.workers
    )
    skipped = [(seen.name(row), reason) for row, reason in made.errors]
    all_readable(skipped, len(seen), given.config.skip_unreadable)
    seen.see(made.rows.tolist(), given.config.readers, progress)
    columns = given.take(made.rows).columns
    rows = _table(columns, [seen.pop(row) for row in made.rows.tolist()])
    return made.vectors, rows, skipped


def _from_file(path: Path, side: int, confined: bool, progress: Progress) -> Entries:
    """Entries of a file of embeddings; thumbnails and digests where the pictures are files."""
    known = embeddings.read(path)
    if known.paths is None:
        raise InputError(f"{path} has no column of paths: embed the pictures again")
    check_unchanged(known, path)
    pictures = Files(list(known.paths))
    if confined:
        confine.check([pictures], path.parent)
    seen = Seen(pictures, side)
    looked: list[tuple[bytes | None, bytes | None]] = []

    def look(row: int) -> None:
        seen.decode(row)

    for row, error in each(look, len(seen), 1, progress, "looking at pictures"):
        looked.append(UNSEEN if isinstance(error, InputError) else seen.pop(row))
    lost = sum(found is UNSEEN for found in looked)
    if lost:
        progress.note(
            f"{lost:,} of {len(looked):,} pictures are no files that can be read, and get no "
            "thumbnail: index the data themselves to have them"
        )
    columns = {"paths": known.paths, "coarse": known.coarse, "fine": known.fine}
    return known.unit(), _table(columns, looked), []


def _table(
    columns: Mapping[str, np.ndarray | None],
    looked: Sequence[tuple[bytes | None, bytes | None]],
) -> pa.Table:
    none = [None] * len(looked)
    paths, coarse, fine = (columns[name] for name in ("paths", "coarse", "fine"))
    assert paths is not None
    return table(
        list(paths),
        none if coarse is None else list(coarse),
        none if fine is None else list(fine),
        [digest for digest, _ in looked],
        [small for _, small in looked],
    )
