"""Parquet shards in the Hugging Face layout: one row an image, files named by split."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from maskcon.data.table import DataSet, Split, decode_all, whole_numbers
from maskcon.errors import InputError

IMAGE_COLUMNS = ("img", "image")


def found(path: Path) -> bool:
    """Whether the folder, or its data/ folder, holds train*.parquet."""
    return bool(_shards(path, "train"))


def read(path: Path, image_size: int, workers: int) -> DataSet:
    """Read columns img (or image), coarse_label and fine_label of the train and test shards.

    Rows keep the order of the shards, and shards that of their names. Class names come from
    the schema's metadata; without them, classes are named by their numbers.
    """
    shards = {part: _shards(path, part) for part in ("train", "test")}
    if not shards["test"]:
        raise InputError(f"{path} has train shards but no test*.parquet")
    names = _class_names(shards["train"][0])
    tables = {part: _table(files) for part, files in shards.items()}
    splits = {}
    for part, table in tables.items():
        items = [
            (content, f"row {row} of {path} ({part})")
            for row, content in enumerate(table["image"].to_pylist())
        ]
        splits[part] = Split(
            decode_all(items, size=None, workers=workers),
            whole_numbers(table["coarse_label"].to_pylist(), f"coarse_label of {path} ({part})"),
            whole_numbers(table["fine_label"].to_pylist(), f"fine_label of {path} ({part})"),
        )
    for level in ("coarse", "fine"):
        if level not in names:
            labels = torch.cat([getattr(split, level) for split in splits.values()])
            largest = int(labels.max()) if len(labels) else -1
            names[level] = tuple(map(str, range(largest + 1)))
    return DataSet(path.name, splits["train"], splits["test"], names["coarse"], names["fine"])


def _shards(path: Path, part: str) -> list[Path]:
    return sorted(path.glob(f"{part}*.parquet")) or sorted(path.glob(f"data/{part}*.parquet"))


def _table(files: list[Path]) -> dict[str, pa.ChunkedArray]:
    parts = []
    for file in files:
        try:
            table = pq.read_table(file)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file} cannot be read as Parquet: {error}") from error
        image = next((name for name in IMAGE_COLUMNS if name in table.column_names), None)
        missing = [n for n in ("coarse_label", "fine_label") if n not in table.column_names]
        if image is None or missing:
            raise InputError(
                f"{file} has columns {', '.join(table.column_names)}: expected img (or image), "
                "coarse_label and fine_label"
            )
        table = table.select([image, "coarse_label", "fine_label"])
        parts.append(table.rename_columns(["image", "coarse_label", "fine_label"]))
    table = pa.concat_tables(
        [part.replace_schema_metadata(None) for part in parts], promote_options="permissive"
    )
    columns = {name: table[name] for name in table.column_names}
    kind = columns["image"].type
    if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:  # {bytes, path}
        columns["image"] = pc.struct_field(columns["image"], "bytes")
    if not pa.types.is_binary(columns["image"].type):
        raise InputError(
            f"images of {files[0].parent} are of type {kind}: expected the bytes of image files, "
            "or a struct with a field of that name"
        )
    for name, column in columns.items():
        if column.null_count:
            raise InputError(f"{column.null_count} rows of {files[0].parent} have no {name}")
    return columns


def _class_names(file: Path) -> dict[str, tuple[str, ...]]:
    try:
        metadata = pq.read_schema(file).metadata or {}
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (pa.ArrowException, OSError, KeyError, json.JSONDecodeError):
        return {}  # an unreadable file is reported where its rows are read
    names = {}
    for level in ("coarse", "fine"):
        if "names" in features.get(f"{level}_label", {}):
            names[level] = tuple(features[f"{level}_label"]["names"])
    return names
