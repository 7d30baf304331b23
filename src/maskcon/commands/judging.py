"""What a trained encoder is worth."""

from pathlib import Path
from typing import Any

from maskcon import checkpoint, runs
from maskcon.commands.sources import find_set, name_of, resolved, split_set
from maskcon.config import reading
from maskcon.data import Found, hold
from maskcon.device import Precision, pick_device
from maskcon.errors import InputError
from maskcon.evaluate import Preparation, embed, pixel_recall, recall_of
from maskcon.progress import Progress, Silent


def eval(
    run: str | Path,
    *,
    data: str | Path | Found | None = None,
    json: str | Path | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Recall@1, 2, 5, 10 of a run's encoder on a test split's fine labels.

    Args:
        run: a run folder.
        data: a data set's name or path, or arrays; by default the run's own. All of its images
            are tested with where it has no test split.
        json: a file to write the results to.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; device, and precision,
            which is the run's own unless given, so that the run's own recall comes out again.

    Returns:
        {"recall@1": share in [0, 1], ..., "pixels": the same of raw pixels, "images": count};
        "recall@1/coarse" and so on where there are no fine labels.

    Raises:
        InputError: no run there, or no such data.
    """
    progress = progress or Silent()
    folder = Path(run)
    trained = runs.read(folder)
    before = trained["config"]
    encoder, description = checkpoint.load_encoder(folder)
    given = reading({k: v for k, v in options.items() if k not in ("device", "precision")})
    where = pick_device(options.get("device", "auto"))
    numbers = Precision.pick(options.get("precision", trained["precision"]), where)
    if json is not None and not Path(json).absolute().parent.is_dir():
        raise InputError(f"{Path(json).parent} is no folder: make it, or give another --json")
    if data is None:
        config = resolved({**before, **given}, None)
        found = split_set(find_set(config, progress), config, progress)
    else:
        config = resolved({"data": name_of(data), **given}, None)
        found = data if isinstance(data, Found) else find_set(config, progress)
    part = found.parts.get("test") or found.parts["train"]
    split, skipped = hold(
        part, description["image_size"], config.readers, config.skip_unreadable, progress
    )
    for name, _ in skipped:
        progress.note(f"left out: {name}")
    preparation = Preparation.of(description)
    readers = config.readers
    features = embed(encoder.to(where), split.images, preparation, numbers, readers, progress)
    progress.close()
    results = {
        **recall_of(features, split),
        "pixels": pixel_recall(split, config.readers),
        "images": len(split),
    }
    if json is not None:
        checkpoint.write_json(Path(json), results)
    return results
