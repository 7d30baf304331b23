"""From a trained encoder to vectors in a file."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskcon import __version__
from maskcon.commands.labelled import Labelled, labelled
from maskcon.data import Found
from maskcon.data.pictures import Pictures, choose
from maskcon.encoder import BATCH, Encoder
from maskcon.errors import InputError, unreadable
from maskcon.runs import folder as runs
from maskcon.runtime import distributed
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.files import check_apart, output
from maskcon.runtime.progress import Progress, Silent
from maskcon.vectors import file as embeddings
from maskcon.vectors.journal import KEPT, KEY, Journal


def embed(
    run: str | Path,
    data: str | Path | Found | None = None,
    *,
    out: str | Path,
    split: str = "all",
    overwrite: bool = False,
    batch_size: int = BATCH,
    device: str = "auto",
    precision: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write the vectors of pictures to a file, which `maskcon.vectors.read` reads.

    The vectors go to OUT.part first. Where that was broken off, the same call goes on with it:
    pictures whose name, size and time are the same are not embedded again.

    Args:
        run: a run folder, or the encoder.safetensors in it.
        data: a data set's name or path, a folder of pictures without labels, a picture, or
            arrays; by default the run's own data, split as it was in training.
        out: the file, .parquet, .npz or .csv.
        split: the pictures to take: "all", or those of "train", "test" or "validation".
        overwrite: replace the file.
        batch_size: pictures that go through the network together.
        device: as `Encoder.load` takes it.
        precision: as `Encoder.load` takes it.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; with skip_unreadable,
            pictures that cannot be read are left out.

    Returns:
        "images" in the file, "width" of a vector, "resumed" (images of an earlier call),
        "skipped" ((name, reason) of pictures left out), "bytes" of the file.

    Raises:
        InputError: no encoder or data there, the file exists, OUT.part is another encoder's, or
            pictures cannot be read; what was embedded is kept for the next call.
        TrainingError: the disk is full.
    """
    with distributed.process_group() as ranks, ExitStack() as stack:
        told = progress if progress and ranks.is_main else Silent()

        def claim() -> None:
            file = Path(out)
            place = output(
                file,
                suffixes=embeddings.SUFFIXES,
                earlier=embeddings.written(file),
                overwrite=overwrite,
                inputs=runs.written(folder_of(run)),
            )
            stack.enter_context(place)

        ranks.main_only(claim)
        encoder = Encoder.load(run, device=device, precision=precision)
        given = labelled(data, folder_of(run), split, options, told)
        ranks.main_only(lambda: check_apart(embeddings.written(Path(out)), given.inputs))
        return _embed(Path(out), encoder, given, folder_of(run), batch_size, ranks, told)


def _embed(
    out: Path,
    encoder: Encoder,
    given: Labelled,
    run: Path,
    batch_size: int,
    ranks: Ranks,
    progress: Progress,
) -> dict[str, Any]:
    """As `embed`; nothing of processes that are not the first: they share the embedding."""
    made_with = {"identity": encoder.identity, "precision": encoder.precision.name}
    with ExitStack() as stack:
        stack.callback(progress.close)
        journals: list[Journal] = []

        def begin() -> None:
            path = out.with_name(out.name + ".part")
            journals.append(Journal(path, made_with, encoder.width))
            stack.callback(journals[0].close)

        ranks.main_only(begin)
        if not ranks.is_main:
            rest = ranks.broadcast_object(np.empty(0, np.int64))  # of the first process
            for _ in _made(rest, given, encoder, batch_size, ranks, progress):
                pass
            return {}
        journal = journals[0]
        places, resumed = _resumed(journal, given.pictures, progress)
        errors = []
        rest = ranks.broadcast_object(np.flatnonzero(places < 0))
        for part in _made(rest, given, encoder, batch_size, ranks, progress):
            journal.add(part.keys, part.vectors)
            places[part.rows] = [journal.places[key] for key in part.keys]
            for name, reason in part.errors:
                progress.note(reason)
                errors.append((name, reason))
        all_readable(errors, len(places), given.config.skip_unreadable, f"; {KEPT}")
        kept = np.flatnonzero(places >= 0)
        given, places = given.take(kept), places[kept]
        progress.update(f"writing {out}")
        about = {
            "identity": encoder.identity,
            "width": encoder.width,
            "image_size": encoder.preprocessing.image_size,
            "maskcon": __version__,
            "run": str(run),
            "data": given.name,
            "rows": len(kept),
        }
        embeddings.stream(
            out, dict(given.columns), about, lambda a, b: journal.vectors(places[a:b])
        )
        journal.close(delete=True)
    return {
        "images": len(kept),
        "width": encoder.width,
        "resumed": resumed,
        "skipped": errors,
        "bytes": out.stat().st_size,
    }


def _resumed(journal: Journal, pictures: Pictures, progress: Progress) -> tuple[np.ndarray, int]:
    """Where the vector of each picture is in the journal, -1 if nowhere; and how many are there."""
    places = np.full(len(pictures), -1, np.int64)
    if journal.places:
        progress.update("looking for what is embedded already")
        for row in range(len(pictures)):
            places[row] = journal.places.get(key_of(pictures, row), -1)
        count = int((places >= 0).sum())
        progress.note(
            f"going on with {journal.path}: {count:,} of {len(pictures):,} images are embedded"
        )
    return places, int((places >= 0).sum())


def key_of(pictures: Pictures, row: int) -> bytes:
    """Tells a picture from others: its name, and its file's size and time, or its content.

    Files are not read, so that going on with many costs little. A picture that cannot be read has
    a key, too.
    """
    name = pictures.name(row)
    try:
        there = Path(name).stat()
        mark = f"{there.st_size} {there.st_mtime_ns}".encode()
    except (OSError, ValueError):
        try:
            mark = pictures.digest(row)
        except InputError:
            mark = b""
    return hashlib.blake2b(name.encode() + b"\0" + mark, digest_size=KEY).digest()


@dataclass(frozen=True)
class _Made:
    """A batch of vectors.

    Attributes:
        rows: of the pictures [n].
        keys: of the journal [n].
        vectors: float32 [n, F].
        errors: (name, reason) of pictures that cannot be read.
    """

    rows: np.ndarray
    keys: list[bytes]
    vectors: np.ndarray
    errors: list[tuple[str, str]]


def _made(
    rest: np.ndarray,
    given: Labelled,
    encoder: Encoder,
    batch_size: int,
    ranks: Ranks,
    progress: Progress,
) -> Iterator[_Made]:
    """The vectors of some rows, which several processes share: all of them in the first."""
    own, pictures = rest[ranks.part(len(rest))], given.pictures

    def of_own() -> Iterator[_Made]:
        if not len(own):
            return
        pending = choose(pictures, own) if len(own) < len(pictures) else pictures
        for part in encoder.stream(
            pending, batch_size=batch_size, progress=progress, workers=given.config.workers
        ):
            rows = own[part.rows]
            keys = [key_of(pictures, int(row)) for row in rows]
            errors = [(pending.name(row), reason) for row, reason in part.errors]
            yield _Made(rows, keys, part.vectors, errors)

    return ranks.gather_to_main(of_own())


def all_readable(errors: Sequence[tuple[str, str]], count: int, skip: bool, kept: str = "") -> None:
    """Raise `InputError` where pictures cannot be read and it was not said to go on without."""
    if len(errors) == count == 1:
        raise InputError(errors[0][1])
    if len(errors) == count:
        raise InputError(f"none of {count:,} pictures can be read: {errors[0][1]}")
    if errors and not skip:
        raise unreadable(
            [reason for _, reason in errors],
            count,
            f"mend or remove them, or go on without them with --skip-unreadable{kept}",
        )


def folder_of(run: str | Path) -> Path:
    """The folder of a run, or of an encoder.safetensors."""
    path = Path(run)
    return (path.parent if path.suffix == ".safetensors" else path).absolute()
