"""An index as one file that is mapped into memory.

A zip archive whose members are stored as they are: about.json, vectors.npy [N, F], rows.arrow, and
perhaps hnsw.faiss, whose SHA-256 is in about.json. A search reads what it needs of it, and other
programs can open it. Nothing in it is executed.
"""

import hashlib
import json
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
from maskcon.search.hnsw import Graph, installed
from maskcon.search.index import KINDS, SCHEMA, About, Index

FORMAT = 1
ALIGNED = 64  # bytes; where members begin, so that numbers can be used where they lie
CHECKSUM = "hnsw_sha256"  # in about.json
PIECE = 2**22  # bytes of vectors that are written together
_LOCAL = struct.Struct("<26xHH")  # a member's own header: lengths of its name and its extra field
_EXTRA = struct.Struct("<HH")  # an extra field: its kind and length


def write(index: Index, path: Path) -> None:
    """Write the file, and take the place of an earlier one when it is whole.

    Raises:
        TrainingError: the disk is full or read-only; the earlier file is untouched.
    """
    about = {"maskcon index": FORMAT, "pictures": len(index), **asdict(index.about)}
    graph = None if index.graph is None else index.graph.dump().data
    if graph is not None:
        about[CHECKSUM] = hashlib.sha256(graph).hexdigest()
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
        if graph is not None:
            with _member(archive, "hnsw.faiss") as file:
                file.write(graph)


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


def read(path: Path, *, graph: bool = True) -> tuple[Index, tuple[str, ...]]:
    """Open an index; vectors and thumbnails stay on the disk until they are looked at.

    Args:
        path: the file.
        graph: load its graph, where it has one. A graph without a valid checksum, such as those
            of 0.1, is not given to FAISS, but built anew of the vectors.

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
        index = Index(about, vectors, rows)
        if not graph or "hnsw.faiss" not in members:
            return index, ()
        if not installed():
            return index, (f"{path} has a graph, and FAISS is not installed: searched exactly",)
        content = members["hnsw.faiss"]
        if hashlib.sha256(content).hexdigest() == checksum:
            loaded = Graph.loaded(np.frombuffer(content, np.uint8), vectors)
            return replace(index, graph=loaded), ()
        anew = replace(index.linked(), anew=True)
        return anew, (
            f"the graph in {path} has no valid checksum, and was built anew of its vectors; "
            f"`maskcon index {path}` keeps it",
        )
    except InputError:
        raise
    except Exception as error:  # a damaged file can raise anything
        raise InputError(f"{path} is damaged, or no index: {error}; index anew") from error


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
    known = About(**{field.name: about[field.name] for field in fields(About)})
    if not isinstance(known.kind, str) or known.kind not in KINDS:
        raise ValueError(f"kind {brief(known.kind)}")
    texts = (known.identity, known.run, known.version)
    if any(not isinstance(text, str) or len(text) > LONGEST for text in texts):
        raise ValueError(f"identity, run and version are {brief(texts)}")
    if type(known.image_size) is not int or type(known.recall) not in (float, int, type(None)):
        raise ValueError(f"image_size {brief(known.image_size)}, recall {brief(known.recall)}")
    return known, about.get(CHECKSUM)


def _array(content: memoryview) -> np.ndarray:
    """A float32 array [N, F] where it lies; a copy where it lies awry."""
    header = BytesIO(bytes(content[:128]))
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError("its vectors are of another version of npy")
    shape, fortran, kind = np.lib.format.read_array_header_1_0(header)
    if kind != np.dtype("<f4") or fortran or len(shape) != 2:
        raise ValueError(f"its vectors are {kind} {shape}")
    values = np.frombuffer(content[header.tell() :], kind, count=shape[0] * shape[1])
    return np.require(values, requirements="A").reshape(shape)
