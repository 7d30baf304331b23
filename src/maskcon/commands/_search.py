"""The pictures of an index that are most like others, or that words describe."""

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from maskcon import __version__
from maskcon.commands._embed import all_readable
from maskcon.commands._index import opened, same_encoder
from maskcon.data.image_file import is_picture
from maskcon.data.pictures import Files, Pictures
from maskcon.data.readers import folder
from maskcon.data.readers.arrays import one_or_several
from maskcon.data.thumbnails import Seen, thumbnail
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.model.hub import is_named, located
from maskcon.runs import folder as runs
from maskcon.runtime.files import check_apart, output, write, write_json
from maskcon.runtime.hub import is_of_hub
from maskcon.runtime.progress import Progress, follower
from maskcon.search import sheet
from maskcon.search.index import About, Index

LARGE = 168  # side of a query's thumbnail on a sheet, in pixels
SHEET = 500  # queries on a sheet


def search(  # longer than a screen for the sake of what it says of its options
    index: str | Path,
    queries: Any,
    *,
    k: int = 10,
    run: str | Path | None = None,
    keep_self: bool = False,
    html: str | Path | None = None,
    json: str | Path | None = None,
    overwrite: bool = False,
    skip_unreadable: bool = False,
    device: str = "auto",
    precision: str | None = None,
    backend: str | None = None,
    workers: int = 0,
    download: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """The k pictures of an index that are nearest to each query, a picture or words.

    A query that is itself in the index is left out of its own hits: the picture of the same path,
    and pictures of exactly the same pixels under other paths.

    Args:
        index: a file of `index`.
        queries: a picture's path, a folder (all pictures below it), several of either; or arrays
            or Pillow images, as `Encoder.embed` takes them. A text that is no file there and has
            no ending of a picture's is words, where the index has an encoder with a text side.
        k: hits of each query; all pictures of an index that holds fewer.
        run: the run folder with the encoder, or hf:OWNER/NAME[@REVISION]; by default the one that
            the index was made with.
        keep_self: do not leave the query out.
        html: a page with thumbnails to write.
        json: a file to write the result to.
        overwrite: replace these files.
        skip_unreadable: go on without queries that cannot be read.
        device: as `Encoder.load` takes it.
        precision: as `Encoder.load` takes it.
        backend: as `Encoder.load` takes it.
        workers: threads that read pictures; 0 is one for each core.
        download: fetch the encoder, hf:OWNER/NAME, where it is not on this machine.
        progress: told how it goes.

    Returns:
        {"index", "pictures" (in it), "k", "queries": [{"path", "hits": [{"rank", "score" (cosine
        similarity), "coarse", "fine", "path"}, ...], "left_out": paths}, ...], "skipped"}; of
        words, which come after the pictures, "path" is None and "words" are they.

    Raises:
        InputError: something given cannot be used.
        TrainingError: a file could not be written.
    """
    progress = follower(progress)
    outputs = {o: Path(f) for o, f in (("--html", html), ("--json", json)) if f is not None}
    if html is not None and json is not None and Path(html).absolute() == Path(json).absolute():
        raise InputError(f"{html} is given to --html and to --json: give two names")
    with ExitStack() as stack:
        stack.callback(progress.close)
        for option, file in outputs.items():
            stack.enter_context(output(file, option, overwrite=overwrite, inputs=[index]))
        there = opened(Path(index), progress)
        k = there.bounded(k)
        asked, words = _queries(queries)
        own = _files_of(run or there.about.run)
        shown = there.rows["path"].to_pylist() if outputs else []  # of which hits are pictures
        for option, file in outputs.items():
            check_apart([file], [*asked.read_from(), *own, *shown], option)
        machine: dict[str, Any] = {"device": device, "precision": precision, "backend": backend}
        machine["download"] = download
        encoder = encoder_of(there, Path(index), run, machine)
        texts = _vectors_of(words, encoder)
        known = _embedded(asked, encoder, LARGE if html is not None else 0, workers, progress)
        if len(asked):
            all_readable(known.skipped, len(asked), skip_unreadable)
        without = _itself(there, known) + [np.empty(0, np.int64)] * len(words)
        known = known.also(words, texts)
        if keep_self:
            without = [np.empty(0, np.int64)] * len(without)
        progress.update(f"searching {len(there):,} pictures")
        found = there.search(known.vectors, k, without)
        hits = [
            [(row, score) for row, score in zip(*pair, strict=True) if row >= 0]
            for pair in zip(found.ids.tolist(), found.scores.tolist(), strict=True)
        ]
        result = {
            "index": str(index),
            "pictures": len(there),
            "k": k,
            "queries": _told(there, known, hits, without),
            "skipped": known.skipped,
        }
        if json is not None:
            write_json(Path(json), result)
        if html is not None:
            page = _page(there, known, hits, result, progress)
            write(Path(html), page.encode())
        return result


def _files_of(run: str | Path) -> list[Path]:
    """What a run writes; of one of the hub, which nothing is written to, none."""
    return [] if is_named(run) else runs.written(located(run).folder)


@dataclass(frozen=True)
class _Asked:
    """Queries that could be read; words are the last.

    Attributes:
        names: of the pictures, or the words themselves [Q].
        vectors: float32 [Q, F].
        digests: of their pixels [Q].
        thumbnails: JPEG [Q].
        skipped: (name, reason) of those that could not.
        words: how many are words.
    """

    names: list[str]
    vectors: np.ndarray
    digests: list[bytes]
    thumbnails: list[bytes | None]
    skipped: list[tuple[str, str]]
    words: int = 0

    def also(self, words: Sequence[str], vectors: np.ndarray) -> "_Asked":
        """With words after the pictures."""
        return _Asked(
            [*self.names, *words],
            np.concatenate([self.vectors, vectors]),
            [*self.digests, *(b"" for _ in words)],
            [*self.thumbnails, *(None for _ in words)],
            self.skipped,
            len(words),
        )


def _queries(queries: Any) -> tuple[Pictures, list[str]]:
    """Whatever `search` takes, as pictures and as words."""
    if isinstance(queries, str | Path):
        queries = [queries]
    sequence = isinstance(queries, Sequence) and not isinstance(queries, bytes)
    if not sequence or not all(isinstance(query, str | Path) for query in queries):
        return one_or_several(queries, "the queries"), []
    words = [query for query in queries if isinstance(query, str) and _is_words(query)]
    paths: list[Path] = []
    for query in (Path(query) for query in queries if query not in words):
        if query.is_dir():
            below, _ = folder.loose(query)
            if not below:
                raise InputError(f"the folder {query} has no pictures to search with")
            paths += below
        else:
            paths.append(query)
    if not paths and not words:
        raise InputError("there is nothing to search with: give a picture or a folder of pictures")
    return Files(paths), words


def _is_words(query: str) -> bool:
    """Whether a text is no file that is there, and none that is meant to be."""
    return not os.path.exists(query) and not is_picture(Path(query))  # noqa: PTH110 - it may be long


def _vectors_of(words: Sequence[str], encoder: Encoder) -> np.ndarray:
    """Vectors of words, float32 [n, F].

    Raises:
        InputError: the encoder has no text side.
    """
    if not words:
        return np.empty((0, encoder.width), np.float32)
    try:
        return encoder.embed_words(words)
    except InputError as error:
        raise InputError(
            f"there is no picture or folder {words[0]!r}; as words, {error}"
        ) from error


def encoder_of(
    index: Index, file: Path, run: str | Path | None, machine: Mapping[str, Any]
) -> Encoder:
    """The encoder that the index was made with."""
    try:
        encoder = Encoder.load(run or index.about.run, **machine)
    except InputError as error:
        if run is not None or (Path(index.about.run) / "encoder.json").exists():
            raise
        raise InputError(
            f"{file} was made with the encoder of {index.about.run}, which is not there: "
            + (
                "say --download to fetch it, or give its folder with --run"
                if is_of_hub(index.about.run)
                else "give the folder where it is now with --run"
            )
        ) from error
    size = encoder.preprocessing.image_size
    same_encoder(index.about, About(encoder.identity, encoder.source, size, __version__), file)
    return encoder


def _embedded(
    pictures: Pictures, encoder: Encoder, side: int, workers: int, progress: Progress
) -> _Asked:
    seen = Seen(pictures, side)
    made = encoder.embed_readable(seen, progress=progress, workers=workers)
    rows = made.rows.tolist()
    seen.see(rows, workers or 1, progress)
    looked = [seen.pop(row) for row in rows]
    return _Asked(
        [seen.name(row) for row in rows],
        made.vectors,
        [digest for digest, _ in looked],
        [small for _, small in looked],
        [(seen.name(row), reason) for row, reason in made.errors],
    )


def _itself(index: Index, asked: _Asked) -> list[np.ndarray]:
    """Rows of the index that are the query: of its path, or of exactly its pixels."""
    paths = [os.path.abspath(name) for name in asked.names]  # noqa: PTH100
    same: dict[str | bytes, list[int]] = {}
    for name, values in (("path", paths), ("digest", asked.digests)):
        column = index.rows[name]
        among = pc.is_in(column, value_set=pa.array(list(set(values)), column.type))
        rows = np.flatnonzero(among.to_numpy())
        for row, value in zip(rows.tolist(), column.take(rows).to_pylist(), strict=True):
            same.setdefault(value, []).append(row)
    return [
        np.unique(np.array([*same.get(path, ()), *same.get(digest, ())], np.int64))
        for path, digest in zip(paths, asked.digests, strict=True)
    ]


def _told(
    index: Index,
    asked: _Asked,
    hits: Sequence[Sequence[tuple[int, float]]],
    without: Sequence[np.ndarray],
) -> list[dict[str, Any]]:
    """Queries with their hits, as plain values."""
    columns = ["coarse", "fine", "path"]
    rows = [row for of_query in hits for row, _ in of_query]
    told = iter(index.rows.select(columns).take(pa.array(rows, pa.int64())).to_pylist())
    paths, pictures = index.rows["path"], len(asked.names) - asked.words
    return [
        {
            "path": name if place < pictures else None,
            "words": None if place < pictures else name,
            "hits": [
                {"rank": rank, "score": score, **next(told)}
                for rank, (_, score) in enumerate(of_query, 1)
            ],
            "left_out": [paths[int(row)].as_py() for row in left_out],
        }
        for place, (name, of_query, left_out) in enumerate(
            zip(asked.names, hits, without, strict=True)
        )
    ]


def _page(
    index: Index,
    asked: _Asked,
    hits: Sequence[Sequence[tuple[int, float]]],
    result: dict[str, Any],
    progress: Progress,
) -> str:
    """The sheet of a result."""
    count = len(asked.names)
    if count > SHEET:
        progress.note(f"the page shows the first {SHEET} of {count:,} queries")
    small = index.rows["thumbnail"]
    found = []
    for told, of_query, shown in zip(
        result["queries"][:SHEET], hits[:SHEET], asked.thumbnails[:SHEET], strict=True
    ):
        cards = [
            sheet.Card(
                path=displayed(hit["path"]),
                thumbnail=small[row].as_py() or _made(hit["path"]),
                label=hit["fine"] or hit["coarse"] or "",
                score=score,
            )
            for hit, (row, score) in zip(told["hits"], of_query, strict=True)
        ]
        words = told["words"]
        asked_for = sheet.Card(displayed(words or told["path"]), shown, is_words=words is not None)
        found.append((asked_for, cards))
    about = (
        f"{min(count, SHEET):,} of {count:,} queries, each with its {result['k']} nearest of "
        f"{len(index):,} pictures; scores are cosine similarities"
    )
    return sheet.page(f"Search in {Path(result['index']).name}", about, found)


def _made(path: str) -> bytes | None:
    """The thumbnail of a picture that the index keeps none of."""
    try:
        return thumbnail(Files([path]).decode(0), LARGE)
    except InputError:
        return None


def displayed(path: str) -> str:
    """A path for people: from here, where it lies below; nothing that moves a terminal's cursor."""
    here = str(Path.cwd()) + os.sep
    text = path.removeprefix(here).replace(f" of {here}", " of ")  # "row 3 of /a/b.parquet"
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
