"""From a trained encoder to vectors in a file."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskcon import __version__
from maskcon.commands.labelled import Labelled, labelled
from maskcon.data import Found
from maskcon.data.known import stamp
from maskcon.encoder import BATCH, Encoder, Vectors
from maskcon.errors import InputError, unreadable
from maskcon.model.hub import located
from maskcon.runs import folder as runs
from maskcon.runtime import distributed
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.files import check_apart, output
from maskcon.runtime.progress import Progress, Silent, follower
from maskcon.vectors import file as embeddings
from maskcon.vectors.store import Store

KEPT = "what was embedded is kept, and the same command goes on with it"


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
    backend: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write the vectors of pictures to a file, which `maskcon.vectors.read` reads.

    The vectors are kept in the store as they come (`maskcon.vectors.Store`): where a call was
    broken off, or another saw some of the pictures, nothing of that is computed again.

    Args:
        run: a run folder, the encoder.safetensors in it, or hf:OWNER/NAME[@REVISION].
        data: a data set's name or path, a folder of pictures without labels, a picture, or
            arrays; by default the run's own data, split as it was in training.
        out: the file, .parquet, .npz or .csv.
        split: the pictures to take: "all", or those of "train", "test" or "validation".
        overwrite: replace the file.
        batch_size: pictures that go through the network together.
        device: as `Encoder.load` takes it.
        precision: as `Encoder.load` takes it.
        backend: as `Encoder.load` takes it.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; with skip_unreadable,
            pictures that cannot be read are left out.

    Returns:
        "images" in the file, "width" of a vector, "known" (images whose vectors were kept),
        "skipped" ((name, reason) of pictures left out), "bytes" of the file.

    Raises:
        InputError: no encoder or data there, the file exists, or pictures cannot be read; what
            was embedded is kept for the next call.
        TrainingError: the disk is full.
    """
    with distributed.process_group() as ranks, ExitStack() as stack:
        told = follower(progress) if ranks.is_main else Silent()
        place = located(run, download=options.get("download") or False)

        def claim() -> None:
            file = Path(out)
            free = output(
                file,
                suffixes=embeddings.SUFFIXES,
                earlier=embeddings.written(file),
                overwrite=overwrite,
                inputs=runs.written(place.folder),
            )
            stack.enter_context(free)

        ranks.main_only(claim)
        encoder = Encoder.load(
            place.name, device=device, precision=precision, backend=backend, store=Store()
        )
        given = labelled(data, place.folder, split, options, told)
        ranks.main_only(lambda: check_apart(embeddings.written(Path(out)), given.inputs))
        return _embed(Path(out), encoder, given, batch_size, ranks, told)


def _embed(
    out: Path,
    encoder: Encoder,
    given: Labelled,
    batch_size: int,
    ranks: Ranks,
    progress: Progress,
) -> dict[str, Any]:
    """As `embed`; nothing of processes that are not the first: they share the embedding."""
    with ExitStack() as stack:
        stack.callback(progress.close)
        pictures = given.pictures
        stamps = _stamps(given) if ranks.is_main else None  # before the pictures are read
        own = np.arange(len(pictures))[ranks.part(len(pictures))]
        made = _made(own, given, encoder, batch_size, progress)
        vectors = np.empty((len(pictures) if ranks.is_main else 0, encoder.width), np.float32)
        there, known = np.zeros(len(vectors), bool), 0
        errors = []
        for part in ranks.gather_to_main(made):
            vectors[part.rows], there[part.rows] = part.vectors, True
            known += len(part.rows) if part.kept else 0
            for row, reason in part.errors:
                progress.note(reason)
                errors.append((pictures.name(row), reason))
        if not ranks.is_main:
            return {}
        kept = "" if encoder.store is None or encoder.store.trouble else f"; {KEPT}"
        all_readable(errors, len(there), given.config.skip_unreadable, kept)
        rows = np.flatnonzero(there)
        given = given.take(rows)
        progress.update(f"writing {out}")
        about = {
            "identity": encoder.identity,
            "width": encoder.width,
            "image_size": encoder.preprocessing.image_size,
            "maskcon": __version__,
            "run": encoder.source,
            "data": given.name,
            "rows": len(rows),
        }
        columns = {**given.columns, "stamps": None if stamps is None else stamps[rows]}
        embeddings.stream(out, columns, about, lambda a, b: vectors[rows[a:b]])
    return {
        "images": len(rows),
        "width": encoder.width,
        "known": known,
        "skipped": errors,
        "bytes": out.stat().st_size,
    }


def _stamps(given: Labelled) -> np.ndarray:
    """Length and time of change of each picture's file, as text [N]; None for what is no file."""
    paths = given.columns["paths"]
    assert paths is not None
    return np.array([stamp(path) for path in paths], object)


def _made(
    own: np.ndarray, given: Labelled, encoder: Encoder, batch_size: int, progress: Progress
) -> Iterator[Vectors]:
    """The vectors of some rows, told by their numbers among all."""
    if not len(own):
        return
    pictures, workers = given.pictures, given.config.workers
    chosen = pictures.take(own) if len(own) < len(pictures) else pictures
    for part in encoder.stream(chosen, batch_size=batch_size, progress=progress, workers=workers):
        errors = tuple((int(own[row]), reason) for row, reason in part.errors)
        yield replace(part, rows=own[part.rows], errors=errors)


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
