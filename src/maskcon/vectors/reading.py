"""Reading embeddings in each format, from this program or others."""

import csv
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from maskcon.data.readers.columns import USUAL, usual
from maskcon.errors import InputError, brief
from maskcon.runtime.files import check_unpacked, parse_json

ABOUT = "maskcon"  # key of Parquet's metadata, and field of npz, that say which encoder it was
LEVELS = ("coarse", "fine", "split")
ROLES = ("vector", "paths", *LEVELS, "stamps")
BATCH = 8192  # rows that are decoded together
Read = tuple[dict[str, np.ndarray], dict[str, Any]]  # "vector" and the others; the description


def parquet(path: Path) -> Read:
    """Columns of a Parquet file; the vectors go straight into one array."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} is damaged or no Parquet file: {error}") from error
    picked = _pick(schema.names, path)
    texts = {
        role: name
        for role, name in picked.items()
        if role == "vector" or _is_text(schema.field(name).type)
    }
    vectors = np.empty((0, 0), np.float32)
    columns: dict[str, list[np.ndarray]] = {role: [] for role in texts if role != "vector"}
    row = 0
    try:
        for batch in file.iter_batches(BATCH, columns=[*texts.values()]):
            block = _vectors(batch[texts["vector"]], f"{path}, column {texts['vector']!r}", row)
            if not row:
                check_unpacked(path, 4 * file.metadata.num_rows * block.shape[1])
                vectors = np.empty((file.metadata.num_rows, block.shape[1]), np.float32)
            elif block.shape[1] != vectors.shape[1]:
                raise _uneven(f"{path}, column {texts['vector']!r}", row, block, vectors)
            vectors[row : row + len(block)] = block
            row += len(block)
            for role, blocks in columns.items():
                blocks.append(_text(batch[texts[role]]))
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} is damaged: {error}") from error
    if row != len(vectors):
        raise InputError(f"{path} is damaged: {row:,} of its {len(vectors):,} rows are there")
    return _joined(vectors, columns), _about((schema.metadata or {}).get(ABOUT.encode()), path)


def npz(path: Path) -> Read:
    """Fields of an npz file."""
    try:
        with _fields(path) as file:
            picked = _pick(file.files, path)
            fields = {role: _field(file, name, path) for role, name in picked.items()}
            about = str(_field(file, ABOUT, path)) if ABOUT in file.files else None
    except InputError:
        raise
    except Exception as error:  # a damaged archive can raise anything
        raise InputError(f"{path} is damaged or no npz file: {error}") from error
    vectors = fields.pop("vector")
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(
            f"{path}, field {picked['vector']!r} is {vectors.dtype} {list(vectors.shape)}: "
            "expected numbers [N, F]"
        )
    columns = {}
    for role, field in fields.items():
        if field.ndim == 1 and field.dtype.kind in "USiu":
            columns[role] = _text(pa.array(field.astype(str).tolist(), pa.string()))
    return {"vector": vectors.astype(np.float32, copy=False), **columns}, _about(about, path)


def _fields(path: Path) -> Any:
    """An npz file, opened; what would unpack to far more than it is has raised `InputError`."""
    with zipfile.ZipFile(path) as archive:
        check_unpacked(path, sum(entry.file_size for entry in archive.infolist()))
    return np.load(path, allow_pickle=False)


def _field(file: Any, name: str, path: Path) -> np.ndarray:
    try:
        return file[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise InputError(
            f"{path}, field {name!r} holds Python objects, which could execute code and are not "
            "read: save text as numpy.array(names, dtype=str) and vectors as one array [N, F]"
        ) from error


def comma_separated(path: Path) -> Read:
    """Columns of a csv file, v0, v1, ... being the vectors."""
    names = _header(path)
    numbers = [name for name in names if name[:1] == "v" and name[1:].isdecimal()]
    if not numbers or numbers != [f"v{i}" for i in range(len(numbers))]:
        raise InputError(
            f"{path} has columns {_some(names)}: expected v0, v1, ... for the numbers of a vector, "
            "as `maskcon embed` writes them"
        )
    picked = _pick([*(name for name in names if name not in numbers), "vector"], path)
    texts = {role: name for role, name in picked.items() if role != "vector"}
    types = {**dict.fromkeys(numbers, pa.float32()), **dict.fromkeys(texts.values(), pa.string())}
    options = pa.csv.ConvertOptions(
        column_types=types,
        include_columns=[*types],
        null_values=[""],
        strings_can_be_null=True,
    )
    blocks, columns, row = [], {role: [] for role in texts}, 0  # type: ignore[var-annotated]
    try:
        parse = pa.csv.ParseOptions(newlines_in_values=True)
        for batch in pa.csv.open_csv(path, parse_options=parse, convert_options=options):
            for name in numbers:
                if batch[name].null_count:
                    empty = row + batch[name].is_null().to_pylist().index(True)
                    raise InputError(f"{path}: row {empty} has nothing in column {name!r}")
            blocks.append(np.stack([batch[name].to_numpy() for name in numbers], axis=1))
            for role, name in texts.items():
                columns[role].append(_text(batch[name]))
            row += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path} cannot be read as embeddings: {error}") from error
    vectors = np.concatenate(blocks) if blocks else np.empty((0, len(numbers)), np.float32)
    return _joined(vectors, columns), about_of(path)


def _header(path: Path) -> list[str]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a csv file: {error}") from error


READERS: dict[str, Callable[[Path], Read]] = {
    ".parquet": parquet,
    ".npz": npz,
    ".csv": comma_separated,
}


def about_of(path: Path) -> dict[str, Any]:
    """What a file says of its encoder; nothing where it says nothing, or is no such file."""
    try:
        if path.suffix.lower() == ".csv":
            beside = described(path)
            return _about(beside.read_text(encoding="utf-8") if beside.is_file() else None, beside)
        if path.suffix.lower() == ".npz":
            with _fields(path) as file:
                return _about(str(file[ABOUT]) if ABOUT in file.files else None, path)
        return _about((pq.read_schema(path).metadata or {}).get(ABOUT.encode()), path)
    except InputError:
        raise
    except Exception:  # a damaged file can raise anything; told by whoever reads it
        return {}


def _about(text: str | bytes | None, path: Path) -> dict[str, Any]:
    return {} if text is None else parsed(text, str(path))


def _pick(there: Sequence[str], path: Path) -> dict[str, str]:
    """The column of each role that a file has: {"vector": "embedding", ...}."""
    picked = usual(there, {role: USUAL[role] for role in ROLES})
    if "vector" not in picked:
        raise InputError(
            f"{path} has {_some(there)}: expected a column or field `vector` or `embedding`"
        )
    return picked


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10]) or "no columns"
    return shown + (f" and {len(names) - 10:,} more" if len(names) > 10 else "")


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_integer(kind)


def _vectors(column: pa.Array, where: str, start: int) -> np.ndarray:
    """A column of lists as float32 [n, F]."""
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not lists and not pa.types.is_fixed_size_list(kind):
        raise InputError(f"{where} is of {kind}: expected lists of numbers")
    number = kind.value_type
    if not (pa.types.is_floating(number) or pa.types.is_integer(number)):
        raise InputError(f"{where} is of lists of {number}: expected numbers")
    if column.null_count:
        row = start + column.is_null().to_pylist().index(True)
        raise InputError(f"{where}: row {row} has no vector")
    if lists and len(column):
        lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        wrong = lengths != lengths[0]
        if wrong.any():
            row = int(wrong.argmax())
            raise InputError(
                f"{where}: row {start + row} has {lengths[row]} numbers, and row {start} has "
                f"{lengths[0]}: expected as many"
            )
    flat = column.flatten()
    if flat.null_count:
        raise InputError(f"{where}: a vector of rows {start:,} and on lacks a number")
    values = flat.to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    return values.reshape(len(column), len(values) // max(1, len(column)))


def _uneven(where: str, row: int, block: np.ndarray, vectors: np.ndarray) -> InputError:
    return InputError(
        f"{where}: row {row} has {block.shape[1]} numbers, and row 0 has {vectors.shape[1]}: "
        "expected as many"
    )


def _text(column: pa.Array) -> np.ndarray:
    """A column as text, objects [n]; what is empty is None. Equal texts are one object."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    texts = [str(v) if v not in ("", None) else None for v in column.dictionary.to_pylist()]
    texts.append(None)
    codes = pc.fill_null(column.indices.cast(pa.int64()), len(texts) - 1)
    return np.array(texts, object)[codes.to_numpy()]


def _joined(vectors: np.ndarray, columns: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    """The columns whole; without those that have nothing in any row."""
    whole = {role: np.concatenate(blocks) for role, blocks in columns.items() if blocks}
    kept = {r: c for r, c in whole.items() if any(value is not None for value in c)}
    return {"vector": vectors, **kept}


def described(path: Path) -> Path:
    """Where a csv file's description lies."""
    return path.with_name(path.name + ".json")


def parsed(text: str | bytes, where: str) -> dict[str, Any]:
    """A description of a file of embeddings.

    Raises:
        InputError: it is none.
    """
    try:
        about = parse_json(text)
    except ValueError as error:
        raise InputError(f"the description in {where} is damaged: {error}") from error
    if not isinstance(about, dict):
        raise InputError(f"the description in {where} is damaged: it is no JSON object")
    for name in ("identity", "maskcon", "run", "data"):
        value = about.get(name)
        if value is not None and not isinstance(value, str):
            raise InputError(f"the description in {where} is damaged: {name} is {brief(value)}")
    if type(about.get("image_size")) not in (int, type(None)):
        raise InputError(f"the description in {where} is damaged: image_size is no whole number")
    return about
