"""Lists in MATLAB's files (level 5, "-v6" and "-v7"): structs and cells of text and numbers.

SciPy reads more of the format, in compiled code that a damaged file can crash.
"""

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from maskcon.errors import InputError

LARGEST = 2**26  # bytes of a file and of what it unpacks to; the lists of Stanford Cars have 4 MB
DEEPEST = 8  # arrays inside of each other
# How numbers are stored, and the classes of arrays.
NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 9: "d", 12: "q", 13: "Q"}
CODES = {1: "utf-8", 2: "utf-8", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, TEXT, NUMERIC = 1, 2, 4, range(6, 16)


def read(path: Path) -> dict[str, Any]:
    """The variables of a file.

    Returns:
        For each name a list in MATLAB's order: numbers, what a cell array holds, or for a struct
        array dicts of its fields; a text as one str.

    Raises:
        InputError: it cannot be read; the message says why.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        content = path.read_bytes()
        order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
        if order is None:
            raise ValueError("it is of another level than 5")
        return dict(_variables(memoryview(content)[128:], order))
    except Exception as error:  # a damaged file can raise anything
        reason = str(error) or type(error).__name__
        raise InputError(f"{path} cannot be read as a MATLAB file: {reason}") from error


def _variables(content: memoryview, order: str) -> Iterator[tuple[str, Any]]:
    room = LARGEST
    for kind, data in _elements(content, order):
        if kind == COMPRESSED:
            unpacked = zlib.decompressobj().decompress(data, room + 1)
            room -= len(unpacked)
            if room < 0:
                raise ValueError(f"it unpacks to more than {LARGEST:,} bytes")
            kind, data = next(_elements(memoryview(unpacked), order))
        if kind == MATRIX:
            yield _array(data, order, 0)


def _elements(content: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """(type, data) of each element; numbers up to 4 bytes lie in the tag itself."""
    while len(content):
        (first,) = struct.unpack_from(f"{order}I", content)
        small = first >> 16
        kind, start = first & 0xFFFF, 4 if small else 8
        size = small or struct.unpack_from(f"{order}I", content, 4)[0]
        data = content[start : start + size]
        if len(data) < size or small > 4:
            raise ValueError("it is cut off")
        yield kind, data
        whole = start + size
        content = content[whole if kind == COMPRESSED else -(-whole // 8) * 8 :]


def _array(content: memoryview, order: str, depth: int) -> tuple[str, Any]:
    """Name and value of an array."""
    if not len(content):
        return "", []
    if depth > DEEPEST:
        raise ValueError("it is nested too deep")
    parts = _elements(content, order)
    flags, shape, (_, name) = (
        _numbers(next(parts), order),
        _numbers(next(parts), order),
        next(parts),
    )
    return bytes(name).decode(), _value(parts, flags[0] & 0xFF, math.prod(shape), order, depth)


def _value(
    parts: Iterator[tuple[int, memoryview]], kind: int, count: int, order: str, depth: int
) -> Any:
    if kind == TEXT:
        code, data = next(parts, (1, memoryview(b"")))
        ends = {"<": "-le", ">": "-be"}[order] if CODES[code] != "utf-8" else ""
        return bytes(data).decode(CODES[code] + ends)
    if kind in NUMERIC:
        return list(_numbers(next(parts, (1, memoryview(b""))), order))
    if kind == CELL:
        return [_array(data, order, depth + 1)[1] for _, data in parts]
    if kind != STRUCT:
        raise ValueError(f"it has an array of class {kind}: expected structs, cells, text, numbers")
    (width,) = _numbers(next(parts), order)
    (_, text) = next(parts)
    names = [
        bytes(text[i : i + width]).partition(b"\0")[0].decode() for i in range(0, len(text), width)
    ]
    values = [_array(data, order, depth + 1)[1] for _, data in parts]
    if len(values) != count * len(names):
        raise ValueError("it has structs that are not whole")
    return [
        dict(zip(names, values[i : i + len(names)], strict=True))
        for i in range(0, len(values), max(1, len(names)))
    ]


def _numbers(element: tuple[int, memoryview], order: str) -> tuple:
    kind, data = element
    letter = NUMBERS[kind]
    return struct.unpack(f"{order}{len(data) // struct.calcsize(f'{order}{letter}')}{letter}", data)
