"""Tables of Arrow: Parquet files, the Hugging Face layout of shards, sets saved to disk.

A row is an image, as the bytes of an image file (or {bytes, path}), or as a path. The bytes
stay on the disk: those of a saved set where they are, those of Parquet in a scratch file,
because Parquet has no way to a single row.
"""

import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from maskcon.data.pictures import Files, Pictures, Slices
from maskcon.data.readers.columns import Columns, Labels, assemble
from maskcon.data.table import SPLITS, Found
from maskcon.errors import InputError
from maskcon.runtime.files import check_unpacked, parse_json

_T = TypeVar("_T")
METADATA = "metadata.parquet"  # a table of pictures that lie beside it, no shard


def found(path: Path) -> bool:
    """Whether the path is a Parquet file, a folder of shards, or a set saved to disk."""
    return bool(_shards(path)) or (path.is_dir() and bool(_saved(path)))


def read(path: Path, columns: Columns) -> Found:
    """Read the columns; rows keep the order of the shards, and shards that of their names.

    Class names come from the metadata that Hugging Face writes; without them, classes are
    named by their labels. Files are of the split that their names begin with.

    Raises:
        InputError: a file is damaged, or lacks a column, or a row lacks an image or a label.
    """
    shards = _shards(path)
    if shards:
        return _assembled(path, columns, [_ParquetTable(file, part) for part, file in shards])
    return _assembled(path, columns, [_ArrowTable(file, part) for part, file in _saved(path)])


def rows(path: Path) -> list[dict]:
    """The rows of a Parquet file, as a mapping of the columns' names each.

    Raises:
        InputError: it is damaged.
    """
    table = _ParquetTable(path, None)
    names = table.schema().names
    columns = zip(*(table.column(name) for name in names), strict=True)
    return [dict(zip(names, row, strict=True)) for row in columns]


def _shards(path: Path) -> list[tuple[str | None, Path]]:
    """(split, file) of Parquet files: one file; a folder of them, or its data/ folder."""
    if path.is_file():
        return [(None, path)] if path.suffix.lower() == ".parquet" else []
    parts = _shards_in(path) or _shards_in(path / "data")
    if not parts:  # the hub converts every configuration into a folder of its own
        configurations = {f: _shards_in(f) for f in _folders(path)}
        there = [f for f, shards in configurations.items() if shards]
        if len(there) > 1:
            raise InputError(
                f"{path} has several configurations ({', '.join(f.name for f in there)}): give "
                "the folder of one"
            )
        parts = configurations[there[0]] if there else []
    named = [part for part in parts if part[0] is not None]
    return sorted(named, key=lambda part: part[0] != "train") if named else parts


def _shards_in(path: Path) -> list[tuple[str | None, Path]]:
    """(split, file) of the shards of a folder, or of its folders of splits: train/0000.parquet."""
    files = sorted(f for f in path.glob("*.parquet") if f.name != METADATA)
    if files:
        return [(_split_of(file.stem), file) for file in files]
    splits = [(_split_of(f.name.removeprefix("partial-")), f) for f in _folders(path)]
    return [
        (part, file)
        for part, f in splits
        if part
        for file in sorted(f.glob("*.parquet"))
        if file.name != METADATA
    ]


def _folders(path: Path) -> list[Path]:
    return sorted(f for f in path.iterdir() if f.is_dir()) if path.is_dir() else []


def _split_of(stem: str) -> str | None:
    for name, part in SPLITS.items():
        if stem.lower() == name or stem.lower().startswith((f"{name}-", f"{name}_", f"{name}.")):
            return part
    return None


def _saved(path: Path) -> list[tuple[str | None, Path]]:
    """(split, file) of a Dataset or DatasetDict that was saved to disk."""
    state = path / "state.json"
    if state.is_file():
        try:
            entries = parse_json(state.read_text(encoding="utf-8"))["_data_files"]
            files = [entry["filename"] for entry in entries]
            elsewhere = next((name for name in files if Path(name).name != name), None)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{state} is damaged: {error}") from error
        if elsewhere is not None:
            raise InputError(
                f"{state} names a file {elsewhere!r}: expected files beside it, without folders"
            )
        return [(_split_of(path.name), path / name) for name in files]
    if (path / "dataset_dict.json").is_file():
        parts = [folder for folder in sorted(path.iterdir()) if (folder / "state.json").is_file()]
        unknown = [folder.name for folder in parts if _split_of(folder.name) is None]
        if unknown:
            raise InputError(
                f"{path} has a split {unknown[0]!r}: expected names of {', '.join(SPLITS)}; "
                "give the folder of the one to read"
            )
        every = [entry for folder in parts for entry in _saved(folder)]
        return sorted(every, key=lambda entry: entry[0] != "train")
    return []


class _Table:
    """One file of rows: its column names, class names, columns, and where its images lie."""

    form = ""

    def __init__(self, file: Path, part: str | None):
        self.file, self.part = file, part

    def schema(self) -> pa.Schema:
        raise NotImplementedError

    def column(self, name: str) -> list:
        raise NotImplementedError

    def images(self, name: str, scratch: "_Scratch") -> "_Places":
        raise NotImplementedError

    def _try(self, work: Callable[[], _T]) -> _T:
        try:
            return work()
        except InputError:
            raise
        except Exception as error:  # a damaged file can raise anything
            raise InputError(f"{self.file} cannot be read as {self.form}: {error}") from error


class _ParquetTable(_Table):
    form = "Parquet"

    def schema(self) -> pa.Schema:
        return self._try(self._checked_schema)

    def _checked_schema(self) -> pa.Schema:
        metadata = pq.read_metadata(self.file)
        check_unpacked(self.file, 8 * metadata.num_rows)  # a reference for each row, at least
        return metadata.schema.to_arrow_schema()

    def column(self, name: str) -> list:
        # Read as a dictionary, a text is in memory once, however many rows have it.
        return self._try(
            lambda: _values(pq.read_table(self.file, columns=[name], read_dictionary=[name])[name])
        )

    def images(self, name: str, scratch: "_Scratch") -> "_Places":
        places = _Places(None)

        def copy() -> None:
            for batch in pq.ParquetFile(self.file).iter_batches(64, columns=[name]):
                data, starts, lengths = _contents(batch.column(0), str(self.file), places)
                for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                    places.add(scratch.write(data.slice(start, length)), length)

        self._try(copy)
        return places


class _ArrowTable(_Table):
    form = "Arrow"

    def __init__(self, file: Path, part: str | None):
        super().__init__(file, part)
        self._map, self._table = self._try(self._opened)

    def _opened(self) -> tuple[pa.MemoryMappedFile, pa.Table]:
        mapped = pa.memory_map(str(self.file))
        table = pa.ipc.open_stream(mapped).read_all()
        table.validate(full=True)  # its offsets are used to find text and pictures
        return mapped, table

    def schema(self) -> pa.Schema:
        return self._table.schema

    def column(self, name: str) -> list:
        return self._try(lambda: _values(self._table[name]))

    def images(self, name: str, scratch: "_Scratch") -> "_Places":
        return self._try(lambda: self._images(name))

    def _images(self, name: str) -> "_Places":
        places = _Places(self.file)
        self._map.seek(0)
        whole = self._map.read_buffer()  # the map itself, not a copy
        for chunk in self._table[name].chunks:
            data, starts, lengths = _contents(chunk, str(self.file), places)
            begins = data.address - whole.address
            if len(starts) and not 0 <= begins <= whole.size - data.size:
                raise InputError(f"the images of {self.file} are compressed: save them as they are")
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                places.add(begins + start, length)
        return places


def _values(column: pa.ChunkedArray) -> list:
    """The values of a column; equal texts of a dictionary are one object."""
    values: list = []
    for chunk in column.chunks:
        if not pa.types.is_dictionary(chunk.type):
            values += chunk.to_pylist()
            continue
        known = [*chunk.dictionary.to_pylist(), None]
        codes = pc.fill_null(chunk.indices.cast(pa.int64()), len(known) - 1)
        values += [known[code] for code in codes.to_pylist()]
    return values


class _Places:
    """Where the images of one file's rows lie: bytes of a file, or of the scratch; or paths."""

    def __init__(self, file: Path | None):
        self.file = file
        self.start: list[int] = []
        self.length: list[int] = []
        self.paths: list[str] = []

    def add(self, start: int, length: int) -> None:
        self.start.append(start)
        self.length.append(length)


def _contents(
    column: pa.Array, where: str, places: _Places
) -> tuple[pa.Buffer, np.ndarray, np.ndarray]:
    """A buffer with the image files of a column, where each begins, and how long it is.

    Paths are added to the places instead.
    """
    none = pa.py_buffer(b""), np.zeros(0, np.int64), np.zeros(0, np.int64)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind, path = column.type, None
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:  # {bytes, path}
        if kind.get_field_index("path") >= 0:
            path = column.field("path")
        column = column.field("bytes")
        if path is not None and column.null_count == len(column) > 0:
            column = path
    if pa.types.is_string_view(column.type):
        column = column.cast(pa.large_string())
    if pa.types.is_binary_view(column.type):
        column = column.cast(pa.large_binary())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        if column.null_count:
            raise InputError(f"{column.null_count} rows of {where} have no image")
        places.paths += column.to_pylist()
        return none
    if not (pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)):
        raise InputError(
            f"images of {where} are of type {kind}: expected paths, the bytes of image files, or "
            "a struct with a field of that name"
        )
    if column.null_count:
        raise InputError(f"{column.null_count} rows of {where} have no image")
    if not len(column):
        return none
    _, offsets, data = column.buffers()
    kind = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    ends = np.frombuffer(offsets, kind, column.offset + len(column) + 1)[column.offset :]
    return data, ends[:-1].astype(np.int64), np.diff(ends)


class _Scratch:
    """A file for the bytes of Parquet rows, deleted with its owner."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self.path, self.end = Path(), 0

    def write(self, content: pa.Buffer) -> int:
        """Append; return where it begins."""
        if self._file is None:
            handle, name = tempfile.mkstemp(prefix="maskcon-")
            self._file, self.path = open(handle, "wb"), Path(name)  # noqa: SIM115
            weakref.finalize(self, Path.unlink, self.path, missing_ok=True)
        start = self.end
        try:
            self._file.write(content)
        except OSError as error:
            raise InputError(
                f"the images of Parquet files need room in {self.path.parent}, and there is none "
                f"({error}): make room, or set TMPDIR to a folder that has it"
            ) from error
        self.end += content.size
        return start

    def close(self) -> None:
        """Nothing more will be written."""
        if self._file is not None:
            self._file.close()


def _assembled(path: Path, columns: Columns, tables: Sequence[_Table]) -> Found:
    picked = columns.pick(tables[0].schema().names, str(tables[0].file))
    values: dict[str, list] = {role: [] for role in picked if role != "image"}
    names: dict[str, tuple[str, ...]] = {}
    places, parts = [], []
    scratch = _Scratch()
    for table in tables:
        there = table.schema().names
        missing = [name for name in picked.values() if name not in there]
        if missing:
            raise InputError(
                f"{table.file} has no column {missing[0]!r}, which {tables[0].file} has: it has "
                f"{', '.join(there)}"
            )
        for level, mine in _class_names(table.schema(), picked).items():
            if names.setdefault(level, mine) != mine:
                raise InputError(
                    f"{table.file} numbers its {level} classes in another order than "
                    f"{tables[0].file}: write both with the same class names"
                )
        for role in values:
            values[role] += table.column(picked[role])
        here = table.images(picked["image"], scratch)
        places.append(here)
        parts += [table.part] * (len(here.start) + len(here.paths))
    scratch.close()
    labels: dict[str, Labels] = {
        level: Labels(values[level], names.get(level))
        for level in ("coarse", "fine")
        if level in values
    }
    split = values.get("split") or (parts if None not in parts else None)
    pictures = _pictures(path, [str(table.file) for table in tables], places, scratch)
    return assemble(path.stem if path.is_file() else path.name, pictures, labels, split, str(path))


def _pictures(
    path: Path, sources: Sequence[str], places: Sequence[_Places], scratch: _Scratch
) -> Pictures:
    if any(place.paths for place in places):
        if any(place.start for place in places):
            raise InputError(f"{path} has images as bytes and as paths: expected one of them")
        folder = path.parent if path.is_file() else path
        return Files([folder / name for place in places for name in place.paths])
    files = [place.file or scratch.path for place in places]
    return Slices(
        files,
        np.repeat(np.arange(len(places)), [len(place.start) for place in places]),
        np.array([start for place in places for start in place.start], np.int64),
        np.array([length for place in places for length in place.length], np.int64),
        sources,
        owner=scratch,
    )


def _class_names(schema: pa.Schema, picked: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    try:
        features = parse_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, TypeError, ValueError):
        return {}
    names = {}
    for level in ("coarse", "fine"):
        feature = features.get(picked.get(level, "")) if isinstance(features, dict) else None
        if isinstance(feature, dict) and isinstance(feature.get("names"), list):
            names[level] = tuple(map(str, feature["names"]))
    return names
