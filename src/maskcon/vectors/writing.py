"""Writing embeddings block by block, in each format."""

import json
import zipfile
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from maskcon.vectors.reading import ABOUT, LEVELS

Columns = dict[str, np.ndarray | None]
Blocks = Iterable[tuple[int, int, np.ndarray]]  # (first row, end, float32 [end - first, F])
# what the columns are called
TEXT = {"paths": "path", **{level: level for level in LEVELS}, "stamps": "picture_state"}


def _texts(columns: Columns, start: int, end: int) -> list[pa.Array]:
    """The text columns of some rows; nothing but nulls where there are none."""
    texts = []
    for name in TEXT:
        column = columns.get(name)
        values = [None] * (end - start) if column is None else list(column[start:end])
        texts.append(pa.array(values, pa.string()))
    return texts


def parquet(file: BinaryIO, columns: Columns, about: dict[str, Any], blocks: Blocks) -> None:
    """Columns path, coarse, fine, split, picture_state, vector; a row group for each block."""
    vector = pa.list_(pa.float32(), about["width"])
    schema = pa.schema(
        [*((name, pa.string()) for name in TEXT.values()), ("vector", vector)],
        metadata={ABOUT: json.dumps(about)},
    )
    writer = pq.ParquetWriter(
        file, schema, compression="zstd", use_dictionary=[*LEVELS], write_statistics=False
    )
    with writer:
        for start, end, vectors in blocks:
            flat = pa.array(np.ascontiguousarray(vectors, np.float32).reshape(-1))
            lists = pa.FixedSizeListArray.from_arrays(flat, about["width"])
            rows = [*_texts(columns, start, end), lists]
            writer.write_batch(pa.record_batch(rows, schema=schema))


def npz(file: BinaryIO, columns: Columns, about: dict[str, Any], blocks: Blocks) -> None:
    """Fields vector and `TEXT` (those that there are), and the description."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        _member(archive, ABOUT, np.array(json.dumps(about)))
        for name, field in TEXT.items():
            column = columns.get(name)
            if column is not None and any(value is not None for value in column):
                _member(archive, field, np.array(["" if v is None else v for v in column], str))
        entry = zipfile.ZipInfo("vector.npy")  # stored: numbers like these do not shrink
        with archive.open(entry, "w", force_zip64=True) as member:
            shape = (about["rows"], about["width"])
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for _, _, vectors in blocks:
                member.write(np.ascontiguousarray(vectors, "<f4").tobytes())


def _member(archive: zipfile.ZipFile, name: str, array: np.ndarray) -> None:
    with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
        np.lib.format.write_array(file, array, allow_pickle=False)


def comma_separated(
    file: BinaryIO, columns: Columns, about: dict[str, Any], blocks: Blocks
) -> None:
    """Columns of `TEXT`, v0, v1, ...; the description is a file of its own."""
    names = [*TEXT.values(), *(f"v{i}" for i in range(about["width"]))]
    types = [pa.string()] * len(TEXT) + [pa.float32()] * about["width"]
    schema = pa.schema(list(zip(names, types, strict=True)))
    plain = pa.csv.WriteOptions(include_header=False)
    file.write((",".join(names) + "\n").encode())
    with pa.csv.CSVWriter(file, schema, write_options=plain) as writer:
        for start, end, vectors in blocks:
            numbers = [pa.array(column) for column in np.ascontiguousarray(vectors.T)]
            rows = [*_texts(columns, start, end), *numbers]
            writer.write(pa.record_batch(rows, schema=schema))


WRITERS: dict[str, Callable[[BinaryIO, Columns, dict[str, Any], Blocks], None]] = {
    ".parquet": parquet,
    ".npz": npz,
    ".csv": comma_separated,
}
