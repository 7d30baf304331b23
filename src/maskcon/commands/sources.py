"""What a command was given, as a configuration and as a set of pictures."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskcon.config import MACHINE_FIELDS, READING_FIELDS, Config, reading, resolve, with_recipe
from maskcon.data import Columns, DataSet, Found, data_sets, find, hold, load, settled
from maskcon.data.augment import with_named_views
from maskcon.data.augment.own import is_imported
from maskcon.data.augment.stages import stages
from maskcon.data.known import Known
from maskcon.data.table import Part, Split, as_one_level
from maskcon.errors import InputError
from maskcon.model.recommended import true_name
from maskcon.runs import folder as runs
from maskcon.runs import pictures
from maskcon.runtime.distributed import ALONE, Ranks
from maskcon.runtime.files import is_gone
from maskcon.runtime.progress import Progress
from maskcon.vectors import as_data as featured

# Of a run's options those that say which data were its own, and how they were split.
# A download is asked for by whoever types the command, never by a file.
OWN_DATA = tuple(
    name
    for name in ("data", "features", "test_share", "seed", *READING_FIELDS)
    if name != "download"
)


def inputs_of(config: Config, found: Found | None = None) -> Iterator[str]:
    """The files and folders that are read of what a configuration names, which none writes to.

    Args:
        config: of a command, its paths made absolute.
        found: the set, if it was looked for: the files of its pictures.
    """
    if config.data not in data_sets() and not config.data.startswith("("):
        yield config.data
    elif config.data_dir is not None:
        yield config.data_dir
    if config.features is not None:
        yield config.features
    if config.init not in ("scratch", "imagenet"):
        yield config.init
    yield from (table for table in (config.answers, config.known) if table is not None)
    for part in () if found is None else found.parts.values():
        yield from part.pictures.read_from()


def name_of(data: str | Path | Found) -> str:
    """What a configuration calls the data; arrays have a name that no path and no set has."""
    return f"({data.name})" if isinstance(data, Found) else str(data)


def resolved(options: Mapping[str, Any], recipe: str | Path | None) -> Config:
    """A configuration of options and perhaps a recipe: paths made absolute, names in full."""
    config = resolve(with_named_views(options), recipe=recipe)
    config = replace(config, backbone=true_name(config.backbone))
    # A run must find its files again from any folder.
    if config.data_dir is not None:
        config = replace(config, data_dir=_whole(config.data_dir))
    if config.features is not None:
        features = _whole(config.features)
        config = replace(config, features=features, data=features)
    if config.answers is not None:
        config = replace(config, answers=_whole(config.answers))
    if config.known is not None:
        config = replace(config, known=_whole(config.known))
    if config.data not in data_sets() and os.path.exists(config.data):  # noqa: PTH110
        config = replace(config, data=_whole(config.data))
    if config.init not in ("scratch", "imagenet"):
        config = replace(config, init=_whole(config.init))
    return config


def _whole(path: str) -> str:
    """A path with its folders, links followed; unlike pathlib's also of links in a circle."""
    try:
        return os.path.realpath(path)
    except ValueError as error:
        raise InputError(f"{path!r} is no path: {error}") from error


def own_data(trained: Mapping[str, Any], given: Mapping[str, Any]) -> Config:
    """How a run's own data are read again, by its configuration and what is given now.

    How it was trained is not looked at: its method may be one that is not there any more.
    """
    before = {name: trained[name] for name in OWN_DATA if name in trained}
    return resolved({**before, **given}, None)


def resumed(folder: Path, options: Mapping[str, Any], recipe: str | Path | None) -> Config:
    """The run's own configuration; options may repeat it, and change where it runs."""
    record = runs.read(folder)["config"]
    # no file says what to fetch
    before = {**record, "download": False}
    given = with_recipe(options, recipe)
    if given.get("method", before["method"]) != before["method"]:
        raise InputError(
            f"the run in {folder} is one of {before['method']} and cannot go on with "
            f"{given['method']}: start a new run"
        )
    _refuse_modules(folder, before, given)
    config = resolved({**before, **given}, None)
    moved = _moved(before, config)
    changed = [
        f"{name} is {then!r}, not {value!r}"
        for name, value in config.as_dict().items()
        if value != (then := before.get(name, getattr(Config, name, None)))
        and name not in {*MACHINE_FIELDS, *moved}
    ]
    if changed:
        raise InputError(
            f"the run in {folder} cannot go on with other options: {'; '.join(changed)}. "
            "Resume without them, or start a new run"
        )
    return config


def _refuse_modules(run: Path, before: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """A record imports no module: whoever types its name again has seen it."""
    for name in ("query_view", "key_view"):
        text = before.get(name) or ""
        if name in given or not any(is_imported(stage.kind) for stage in stages(name, text)):
            continue
        raise InputError(
            f"{run / runs.RUN_FILE} names a view of a module, {text!r}, which would run that "
            f"module's code: if you know it, say --{name.replace('_', '-')} {text} in this command"
        )


def _moved(before: Mapping[str, Any], config: Config) -> list[str]:
    """Fields whose files lie elsewhere now. If they are the same, their content tells."""

    def elsewhere(name: str) -> bool:
        paths = [os.fspath(before.get(name) or ""), os.fspath(getattr(config, name) or "")]
        return all(map(os.path.isabs, paths))

    gone = not os.path.exists(before.get("init") or "")  # noqa: PTH110 - it is text
    return [
        *filter(elsewhere, ("data", "features")),
        *filter(elsewhere, ("init",) if gone else ()),
    ]


def tell_of(named: str, run: Path, progress: Progress) -> None:
    """Say what a run's record calls its data, before they are opened."""
    progress.note(f"the data are {named}, as {run / runs.RUN_FILE} says")


def find_set(config: Config, progress: Progress, data: str | Path | Found | None = None) -> Found:
    """The set that a configuration names, nothing of it read yet but vectors.

    Args:
        config: how it is found and read.
        progress: told what is looked for.
        data: what a command was given: arrays are the set, anything else is in `config`.
    """
    found = data if isinstance(data, Found) else _found(config, progress)
    return as_one_level(found) if config.one_level else found


def _found(config: Config, progress: Progress) -> Found:
    if config.features is not None:
        progress.update(f"reading {config.features}")
        return featured.find(Path(config.features))
    progress.update(f"looking for {config.data}")
    columns = Columns(
        config.image_column, config.coarse_column, config.fine_column, config.split_column
    )
    known, path = Known(trusted=not config.reread), Path(config.data)
    if config.data not in data_sets() and featured.is_of_pictures(path):
        found = featured.with_pictures(path, columns, config.coarse_level)
        return settled(
            found, path, max_pixels=config.max_pixels, known=known, confine=config.confine
        )
    return find(
        config.data,
        data_dir=Path(config.data_dir) if config.data_dir else None,
        download=config.download,
        columns=columns,
        coarse_level=config.coarse_level,
        confine=config.confine,
        max_pixels=config.max_pixels,
        known=known,
        progress=progress,
    )


def split_set(found: Found, config: Config, progress: Progress) -> Found:
    """The set with a test split, perhaps one of validation, and what there is to say of them."""
    found = found.with_test(config.test_share, config.seed)
    found = found.with_validation(config.val_share, config.seed)
    for note in found.notes:
        progress.note(note)
    if found.made_split:
        progress.note(
            f"{found.name} has no test split: {len(found.parts['test']):,} images drawn from seed "
            f"{config.seed} are left out of training to test with"
        )
    if "validation" in found.parts:
        drawn = f", drawn from seed {config.seed}" if found.made_validation else ""
        progress.note(
            f"validation: the best epoch is chosen on {len(found.parts['validation']):,} images "
            f"that do not train{drawn}"
        )
    return found


def chosen_set(
    run: Path, data: str | Path | Found | None, options: Mapping[str, Any], progress: Progress
) -> tuple[Found, Config]:
    """The set that a command was given, or else the run's own; and how it is read.

    Args:
        run: a run folder, or the encoder.safetensors in it.
        data: a data set's name or path, or arrays; or None for the run's own.
        options: fields `READING_FIELDS` of Config.
        progress: told how it goes.

    Raises:
        InputError: no such data, or nothing says what the run's own were.
    """
    given = reading(options)
    if data is not None:
        config = resolved({"data": name_of(data), **given}, None)
        return find_set(config, progress, data), config
    folder = run.parent if run.suffix == ".safetensors" else run
    config = own_data(runs.read(folder)["config"], given)
    tell_of(config.features or config.data, folder, progress)
    return own_set(config, folder, progress), config


def own_set(
    config: Config, folder: Path, progress: Progress, data: str | Path | Found | None = None
) -> Found:
    """`find_set` of what a run was trained with; where that is not there any more, advice.

    Raises:
        InputError: there is no such set.
    """
    try:
        return find_set(config, progress, data)
    except InputError as error:
        if not is_gone(config.features or config.data):
            raise
        raise InputError(
            f"{error}. It is what {folder} was trained with: if it was moved, give its place now"
        ) from error


def judged_set(
    run: Path, data: str | Path | Found | None, options: Mapping[str, Any], progress: Progress
) -> tuple[Found, Config]:
    """`chosen_set`, to judge a run on: what it was trained on is told by content, and left out."""
    found, config = chosen_set(run, data, options, progress)
    known = pictures.read(run)
    if known is not None:
        return pictures.judged(found, known, progress, own=data is None), config
    if "test" not in found.parts:
        progress.note(
            f"{run} does not say which pictures it was trained on"
            + ("; they may be among those that are judged" if data is not None else "")
        )
    return (split_set(found, config, progress) if data is None else found), config


def own_split(found: Found, run: Path, config: Config, progress: Progress) -> Found:
    """All pictures of a run's own set, split as it was in training."""
    if "test" in found.parts:
        return found
    known = pictures.read(run)
    if known is None:
        return found.with_test(config.test_share, config.seed)
    return pictures.split_again(found, known, progress)


def hold_part(
    part: Part, image_size: int, config: Config, progress: Progress, ranks: Ranks = ALONE
) -> tuple[Split, list[str]]:
    """A part of a set, read; and the names of the pictures that were left out, which are told."""
    skip = config.skip_unreadable
    split, skipped = hold(part, image_size, config.readers, skip, progress, ranks)
    left_out = [name for name, _ in skipped]
    for name in left_out:
        progress.note(f"left out: {name}")
    return split, left_out


def load_set(found: Found, config: Config, progress: Progress, ranks: Ranks) -> DataSet:
    """Every picture of a set with both splits, read once."""
    data = load(
        found,
        image_size=config.image_size,
        workers=config.readers,
        skip_unreadable=config.skip_unreadable,
        progress=progress,
        ranks=ranks,
    )
    if data.skipped:
        progress.note(f"left out: {len(data.skipped):,} pictures that cannot be read")
    classes = f"{len(data.coarse_names)} coarse and {len(data.fine_names) or 'no'} fine classes"
    if data.one_level:
        classes = f"{len(data.fine_names)} classes of one level, which evaluation judges by"
    progress.note(
        f"{data.name}: {len(data.train):,} train and {len(data.test):,} test images, {classes}; "
        + data.train.images.described(config.image_size)
    )
    return data
