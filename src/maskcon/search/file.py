"""An index as one file that is mapped into memory.

A zip archive whose members are stored as they are: about.json, vectors.npy [N, F], rows.arrow, and
perhaps ivf.faiss and keys.npy [N], whose SHA-256 is in about.json. A search reads what it needs of
it, and other programs can open it. Nothing in it is executed.
"""

import hashlib
import json
import math
import mmap
import struct
import zipfile
from dataclasses import asdict, fields, replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa

from maskcon.config import LONGEST
from maskcon.errors import InputError, brief
from maskcon.runtime.files import parse_json, replacing
from maskcon.search.index import KINDS, SCHEMA, About, Index
from maskcon.search.ivf import QUANTIZATIONS, Lists, installed

FORMAT = 1
ALIGNED = 64  # bytes; where members begin, so that numbers can be used where they lie
CHECKSUM = "ivf_sha256"  # in about.json
EARLIER = "hnsw"  # what 0.1 had for approximate searches: a kind, and a member hnsw.faiss
PIECE = 2**22  # bytes of vectors that are written together
_LOCAL = struct.Struct("<26xHH")  # a member's own header: lengths of its name and its extra field
_EXTRA = struct.Struct("<HH")  # an extra field: its kind and length


def write(index: Index, path: Path) -> None:
    """Write the file, and take the place of an earlier one when it is whole.

    Raises:
        TrainingError: the disk is full or read-only; the earlier file is untouched.
    """
    about = {"maskcon index": FORMAT, "pictures": len(index), **asdict(index.about)}
    lists = None if index.lists is None else index.lists.dump().data
    keys = b"" if index.lists is None else index.lists.keys.astype("<i8").tobytes()
    if lists is not None:
        about[CHECKSUM] = _checksum(lists, keys)
    with replacing(path) as new, zipfile.ZipFile(new, "w") as archive:
        archive.writestr("about.json", json.dumps(about, indent=2) + "\n")
        with _member(archive, "vectors.npy") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": index.vectors.shape}
            np.lib.format.write_array_header_1_0(file, header)
            step = max(1, PIECE // (4 * index.vectors.shape[1]))
            for start in range(0, len(index), step):
                file.write(np.ascontiguousarray(index.vectors[start : start + step], "<f4").data)
        with (
            _member(archive, "rows.arrow") as file,
            pa.ipc.new_file(pa.PythonFile(file, "w"), SCHEMA) as table,
        ):
            table.write_table(index.rows, max_chunksize=65536)
        if lists is not None:
            with _member(archive, "keys.npy") as file:
                header = {"descr": "<i8", "fortran_order": False, "shape": (len(index),)}
                np.lib.format.write_array_header_1_0(file, header)
                file.write(keys)
            with _member(archive, "ivf.faiss") as file:
                file.write(lists)


def _checksum(lists: Any, keys: Any) -> str:
    """Of the bytes of lists, and then of their keys."""
    digest = hashlib.sha256(lists)
    digest.update(keys)
    return digest.hexdigest()


def _member(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    """A member to write to, whose content begins at a multiple of `ALIGNED`."""
    entry = zipfile.ZipInfo(name)
    large = 20  # bytes that zipfile adds, for sizes of 64 bits
    begins = archive.start_dir + 30 + len(name) + large + _EXTRA.size
    padding = -begins % ALIGNED
    entry.extra = _EXTRA.pack(0xD935, padding) + bytes(padding)  # the kind that zipalign writes
    return archive.open(entry, "w", force_zip64=True)


def there(path: Path) -> bool:
    """Whether a file looks like an index; it may be damaged still."""
    try:
        with zipfile.ZipFile(path) as archive:
            return "about.json" in archive.namelist()
    except Exception:  # a damaged archive can raise anything
        return False


def read(path: Path) -> tuple[Index, tuple[str, ...]]:
    """Open an index; vectors and thumbnails stay on the disk until they are looked at.

    Lists without a valid checksum are not given to FAISS, but made anew of the vectors, and so are
    those that are to take the place of a graph of 0.1.

    Args:
        path: the file.

    Returns:
        The index, and what a person should know of how it was opened.

    Raises:
        InputError: it is missing, no index, damaged, or of a later version.
    """
    if not path.is_file():
        raise InputError(
            f"{path} is {'a folder' if path.is_dir() else 'not there'}: expected an index, one "
            "file that `maskcon index RUN DATA -o FILE` writes"
        )
    if not there(path):
        raise InputError(
            f"{path} is no index, or is damaged: expected a file that `maskcon index RUN DATA -o "
            "FILE` writes"
        )
    try:
        with open(path, "rb") as file:
            mapped = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        members = _members(path, mapped)
        about, checksum = _about(members["about.json"], path)
        vectors = _array(members["vectors.npy"])
        rows = pa.ipc.open_file(pa.py_buffer(members["rows.arrow"])).read_all()
        if rows.schema != SCHEMA or vectors.ndim != 2 or len(rows) != len(vectors):
            raise ValueError(f"{len(rows)} rows of {rows.schema.names}, {vectors.shape} vectors")
        rows.validate(full=True)  # its offsets are used to find text and pictures
        if rows["path"].null_count:
            raise ValueError("rows without a path")
        return _with_lists(Index(about, vectors, rows), members, checksum, path)
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} is damaged, or no index: {error}; index anew") from error


def _with_lists(
    index: Index, members: dict[str, memoryview], checksum: Any, path: Path
) -> tuple[Index, tuple[str, ...]]:
    """The index with what its file has for an approximate search, and what to say of that."""
    content = members.get("ivf.faiss")
    if content is None and "hnsw.faiss" not in members:
        return index, ()
    if not installed():
        return index, (f"{path} has lists, and FAISS is not installed: searched exactly",)
    if content is not None:
        keys = _array(members["keys.npy"], "<i8", 1)
        if _checksum(content, keys.data) == checksum:
            lists = Lists.loaded(np.frombuffer(content, np.uint8), keys, index.vectors.shape)
            return replace(index, lists=lists), ()
        reason = "the lists in it have no valid checksum"
    else:
        reason = "it has a graph of an earlier version"
    anew = replace(index.linked(), anew=True)
    return anew, (
        f"{path}: {reason}, and were made anew of its vectors; `maskcon index {path}` keeps them",
    )


def _members(path: Path, mapped: memoryview) -> dict[str, memoryview]:
    """Where the stored members of an archive lie."""
    members = {}
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            name, extra = _LOCAL.unpack_from(mapped, entry.header_offset)
            start = entry.header_offset + _LOCAL.size + name + extra
            content = mapped[start : start + entry.file_size]
            if entry.compress_type != zipfile.ZIP_STORED or len(content) != entry.file_size:
                raise ValueError(f"its member {entry.filename} is not whole, or compressed")
            members[entry.filename] = content
    return members


def _about(content: memoryview, path: Path) -> tuple[About, Any]:
    """What the index says of itself, and the checksum of its graph."""
    about = parse_json(bytes(content))
    if not isinstance(about, dict):
        raise ValueError("it does not say what it is")
    if about.get("maskcon index") != FORMAT:
        raise InputError(
            f"{path} is an index of format {brief(about.get('maskcon index'))}, made by maskcon "
            f"{brief(about.get('version'))}: this version reads format {FORMAT}; index anew"
        )
    about = {"quantization": "int8", **about}  # which 0.1 had not
    if about["kind"] == EARLIER:
        about["kind"] = "ivf"
    known = About(**{field.name: about[field.name] for field in fields(About)})
    if not isinstance(known.kind, str) or known.kind not in KINDS:
        raise ValueError(f"kind {brief(known.kind)}")
    if known.quantization not in QUANTIZATIONS:
        raise ValueError(f"quantization {brief(known.quantization)}")
    texts = (known.identity, known.run, known.version)
    if any(not isinstance(text, str) or len(text) > LONGEST for text in texts):
        raise ValueError(f"identity, run and version are {brief(texts)}")
    if type(known.image_size) is not int or type(known.recall) not in (float, int, type(None)):
        raise ValueError(f"image_size {brief(known.image_size)}, recall {brief(known.recall)}")
    return known, about.get(CHECKSUM)


def _array(content: memoryview, kind: str = "<f4", axes: int = 2) -> np.ndarray:
    """An array where it lies, such as float32 [N, F]; a copy where it lies awry."""
    header = BytesIO(bytes(content[:128]))
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError("it has an array of another version of npy")
    shape, fortran, found = np.lib.format.read_array_header_1_0(header)
    if found != np.dtype(kind) or fortran or len(shape) != axes:
        raise ValueError(f"it has an array of {found} {shape}: expected {kind}, {axes} axes")
    values = np.frombuffer(content[header.tell() :], kind, count=math.prod(shape))
    return np.require(values, requirements="A").reshape(shape)
