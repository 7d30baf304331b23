"""A page about a run, in one file."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from maskcon.commands.sources import hold_part, inputs_of, judged_set
from maskcon.config import Config
from maskcon.data import Found, Split
from maskcon.errors import InputError
from maskcon.eval.projection import MAPS
from maskcon.eval.recall import recall_of
from maskcon.model.graph import computing
from maskcon.model.hub import located, writable
from maskcon.model.network import Network, without_head
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.saved import load_encoder
from maskcon.report.album import Album, short_names
from maskcon.report.build import build
from maskcon.runs import folder as runs
from maskcon.runs.record import Record
from maskcon.runtime.files import check_apart, output, write
from maskcon.runtime.progress import Progress, follower
from maskcon.vectors.once import embed
from maskcon.vectors.store import Store

POINTS = 10_000  # on the map; more make a larger file


def report(  # longer than a screen for the sake of what it says of its options
    run: str | Path,
    data: str | Path | Found | None = None,
    out: str | Path | None = None,
    *,
    points: int = POINTS,
    map: str = "tsne",
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Write one HTML file about a run that needs no network: curves, recall, a map, findings.

    Args:
        run: a run folder, or hf:OWNER/NAME[@REVISION].
        data: a data set's name or path, or arrays; by default the run's own. All of its images
            are judged where it has no test split.
        out: the file, .html; by default report.html in the run folder, which is replaced.
        points: pictures on the map, at most; all are judged.
        map: how they are placed: "tsne", "umap" (needs umap-learn) or "pca".
        overwrite: replace the file that `out` names.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; device; backend; and
            precision, which is the run's own unless given.

    Returns:
        "path" and "bytes" of the file, "images" judged, "points" on the map, "pictures" in the
        file, and "results": {"recall@1": share, ..., "pixels": {...}, "diagnostics": {...}}.

    Raises:
        InputError: no run or no data there, or options that cannot be used.
        TrainingError: the file cannot be written.
    """
    progress = follower(progress)
    at = located(run, download=options.get("download") or False)
    folder = writable(at, out, "the page")
    trained = runs.read(folder)
    path = Path(out) if out is not None else folder / "report.html"
    _check(points, map)
    with ExitStack() as stack:
        stack.callback(progress.close)
        place = output(
            path,
            suffixes=(".html", ".htm"),
            overwrite=overwrite or (out is None and (path.exists() or not path.is_symlink())),
            inputs=runs.written(folder),
        )
        stack.enter_context(place)
        return _report(folder, trained, data, path, points, map, options, progress)


def _report(
    folder: Path,
    trained: Record,
    data: str | Path | Found | None,
    path: Path,
    points: int,
    map: str,
    options: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """As `report`, with a file that is this process's."""
    network, description = load_encoder(folder)
    asked = [options.pop(name, None) for name in ("precision", "device", "backend")]
    own = trained["config"].get("backend", "torch")
    precision = computing(trained["precision"], *asked, own_backend=own)
    found, config = judged_set(folder, data, options, progress)
    check_apart([path], inputs_of(config, found))
    split, names = _read(found, description["image_size"], config, progress)
    preprocessing, network = Preprocessing.of(description), network.to(precision.device)
    store = Store()

    def embedded(encoder: Network, split: Split) -> Tensor:
        how = preprocessing, precision, config.readers, progress
        return embed(encoder, split, *how, store=store).cpu()

    frozen = trained.get("results", {}).get("frozen") if data is None else None
    if frozen is None and trained["config"].get("freeze"):
        frozen = recall_of(embedded(without_head(network), replace(split, computed=None)), split)
    album = Album(
        split.images,
        embedded(network, split),
        split.coarse,
        split.fine,
        short_names(names),
        found.coarse_names,
        found.fine_names,
        config.readers,
        trained["config"]["seed"],
    )
    page = build(
        trained,
        runs.metrics(folder),
        found.name,
        album,
        frozen=frozen and {name.removesuffix("/coarse"): share for name, share in frozen.items()},
        points=points,
        how=map,
        progress=progress,
    )
    content = page.html.encode(errors="replace")
    write(path, content)
    return {
        "path": str(path),
        "bytes": len(content),
        "images": len(album),
        "points": page.points,
        "pictures": page.pictures,
        "results": page.figures.as_dict(),
    }


def _read(
    found: Found, image_size: int, config: Config, progress: Progress
) -> tuple[Split, list[str]]:
    """The pictures that are judged, and their names."""
    part = found.parts.get("test") or found.parts["train"]
    split, left_out = hold_part(part, image_size, config, progress)
    if not split.images.has_pictures:
        raise InputError(
            f"{found.name} has vectors in place of pictures, and a report shows pictures: give "
            "data with pictures, or use `maskcon eval`"
        )
    unreadable = set(left_out)
    names = (part.pictures.name(row) for row in range(len(part)))
    return split, [name for name in names if name not in unreadable]


def _check(points: int, how: str) -> None:
    """Raise `InputError` before any work is done in vain."""
    if points < 2:
        raise InputError(f"points is {points}: expected 2 or more")
    if how not in MAPS:
        raise InputError(f"map is {how!r}: expected one of {', '.join(MAPS)}")
