"""image files without their metadata, where these hinder the reading of sound pixels.

Pillow reads text, colour profiles and tags before pixels, and gives up on a file whose metadata are
damaged or large. What is needed for the pixels is kept here, whatever else there is left out.
"""

import re
import struct
import zlib

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_PIXELS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
# Of JPEG, APP0 (JFIF) and APP14 (Adobe) tell what its channels mean.
_JPEG_METADATA = (*range(0xE1, 0xEE), 0xEF, 0xFE)
# Tags of TIFF that say where pixels are and what they mean: layout, compression, palette.
_TIFF_PIXELS = frozenset(
    {
        *(*range(254, 260), 262, 266, 273, *range(277, 281), 284, *range(290, 294), 317, 320),
        *(*range(322, 326), 330, 332, 338, 339, 347, *range(529, 533)),
    }
)
_ORIENTATION = 274
_SHORT = 3  # a type of TIFF's values


def without(content: bytes) -> bytes | None:
    """The bytes of an image file without its metadata but a sound orientation.

    Args:
        content: of the file.

    Returns:
        None where nothing can be left out: another format, or one too damaged to tell.
    """
    try:
        if content.startswith(_PNG):
            return _png(content)
        if content.startswith(b"\xff\xd8"):
            return _jpeg(content)
        if content[:4] in (b"II*\0", b"MM\0*"):
            return _tiff(content)
        if content[4:12] in (b"ftypavif", b"ftypavis"):
            return re.sub(rb"(infe.{8})Exif", rb"\1skip", content, flags=re.DOTALL)
    except (IndexError, struct.error):
        pass
    return None


def _png(content: bytes) -> bytes:
    """Chunks of pixels, and an eXIf whose checksum is right."""
    kept, place = [_PNG], len(_PNG)
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4])
        kind, whole = content[place + 4 : place + 8], content[place : place + 12 + length]
        sound = zlib.crc32(whole[4:-4]) == int.from_bytes(whole[-4:])
        if kind in _PNG_PIXELS or (kind == b"eXIf" and sound):
            kept.append(whole)
        place += 12 + length
    return b"".join(kept)


def _jpeg(content: bytes) -> bytes:
    """Segments up to the first scan without those of metadata but EXIF; and all that follows."""
    kept, place = [content[:2]], 2
    while content[place] == 0xFF and content[place + 1] != 0xDA:
        if content[place + 1] == 0xFF:  # a byte that fills
            place += 1
            continue
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4])
        if content[place + 1] not in _JPEG_METADATA or content[place + 4 : end].startswith(b"Exif"):
            kept.append(content[place:end])
        place = end
    return b"".join((*kept, content[place:]))


def _tiff(content: bytes) -> bytes:
    """The first directory without tags of metadata; nothing else is moved."""
    order = "<" if content.startswith(b"II") else ">"
    (place,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, place)
    entries = [content[place + 2 + 12 * i : place + 14 + 12 * i] for i in range(count)]
    tags = [struct.unpack(f"{order}HHI", entry[:8]) for entry in entries]
    kept = [
        entry
        for entry, (tag, kind, values) in zip(entries, tags, strict=True)
        if tag in _TIFF_PIXELS or (tag == _ORIENTATION and (kind, values) == (_SHORT, 1))
    ]
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(kept) + bytes(4)
    return content[:place] + directory + content[place + len(directory) :]
