"""The vectors that are kept."""

from typing import Any

from maskcon.data.known import Known
from maskcon.errors import InputError
from maskcon.vectors.store import Store


def vectors(*, keep: float | None = None, clear: bool = False) -> dict[str, Any]:
    """What the store of vectors holds, and perhaps less of it.

    The store is `vectors.1.sqlite` in the folder $MASKCON_VECTORS (~/.cache/maskcon/vectors);
    commands keep the vectors of pictures there and find them again. It is bounded by
    $MASKCON_VECTORS_GB (10).

    Args:
        keep: gigabytes that stay; what was not asked for longest goes first.
        clear: delete all of it, and what is known of files.

    Returns:
        "path" of the store's file (None where nothing is kept), "bytes" of it, "limit" in bytes,
        "gone" (vectors that were deleted; None of all of them), "trouble" (why nothing is kept, or
        None), and "networks":
        [{"name", "pictures", "bytes", "used" (seconds since 1970)}, ...].

    Raises:
        InputError: `keep` is less than 0, or not alone.
    """
    if keep is not None and (clear or keep < 0):
        raise InputError(f"keep is {keep}: expected gigabytes, and not together with clear")
    store = Store()
    gone: int | None = 0
    if clear:
        store.clear()
        Known().clear()
        gone = None
    elif keep is not None:
        gone = store.prune(int(keep * 1e9))
    lots = [] if clear else store.lots()
    store.close()
    path = store.path
    return {
        "path": None if path is None else str(path),
        "bytes": path.stat().st_size if path is not None and path.is_file() else 0,
        "limit": store.limit,
        "gone": gone,
        "trouble": store.trouble,
        "networks": [
            {
                "name": lot.source.name,
                "pictures": lot.pictures,
                "bytes": lot.bytes,
                "used": lot.used,
            }
            for lot in lots
        ],
    }
