"""What a trained encoder is worth."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from maskcon.commands.sources import hold_part, inputs_of, judged_set
from maskcon.config import Config
from maskcon.data import Found
from maskcon.data.table import Part
from maskcon.errors import InputError
from maskcon.eval.few_shot import LEAST
from maskcon.eval.protocols import TAUGHT, Subject, check_protocols, judge
from maskcon.eval.soft_labels import Bank
from maskcon.model.graph import computing
from maskcon.model.hub import Located, located
from maskcon.model.network import without_head
from maskcon.model.preprocessing import Preprocessing
from maskcon.model.saved import load_encoder
from maskcon.report.plots import draw, label_distances
from maskcon.runs import folder as runs
from maskcon.runs import pictures
from maskcon.runs.compare import FORMATS
from maskcon.runs.own_bank import own_bank
from maskcon.runtime import distributed
from maskcon.runtime.distributed import Ranks
from maskcon.runtime.files import check_apart, output, write_json
from maskcon.runtime.progress import Progress, Silent, follower
from maskcon.runtime.seeds import kept_random_state
from maskcon.vectors.store import Store


def eval(
    run: str | Path,
    *,
    data: str | Path | Found | None = None,
    protocol: str | Sequence[str] = ("recall",),
    json: str | Path | None = None,
    picture: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Judge a run's encoder on the fine labels of a test split, and note it in its run.json.

    Args:
        run: a run folder; or hf:OWNER/NAME[@REVISION], where nothing is noted.
        data: a data set's name or path, or arrays; by default the run's own. All of its images
            are tested with where it has no test split.
        protocol: of `maskcon.eval.protocols.PROTOCOLS`: recall, knn, linear,
            semi-supervised, few-shot, cluster, diagnostics, soft-labels; several as a sequence or
            with commas; "all" for all that the data allow.
        json: a file to write the results to.
        picture: a .png, .svg or .pdf file for soft labels over tau.
        overwrite: replace these files.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config; device; backend; and
            precision, which is the run's own unless given, so that the run's own recall comes out
            again.

    Returns:
        {"recall@1": share in [0, 1], ..., "images": count}, as `maskcon.eval.protocols.judge`
        describes it; "recall@1/coarse" and so on where there are no fine labels. run.json has the
        same, under "evaluations" and the name of the data.

    Raises:
        InputError: no run there, no such data or protocol.
    """
    with distributed.process_group() as ranks, kept_random_state(), ExitStack() as stack:
        told = follower(progress) if ranks.is_main else Silent()
        place = located(run, download=options.get("download") or False)
        own = runs.written(place.folder)
        written = {"--json": json, "--picture": picture}

        def claim() -> None:
            for option, file in written.items():
                if file is not None:
                    suffixes = FORMATS if option == "--picture" else ()
                    how = {"suffixes": suffixes, "overwrite": overwrite, "inputs": own}
                    stack.enter_context(output(file, option, **how))

        ranks.main_only(claim)
        return _eval(place, data, protocol, written, options, ranks, told)


def _eval(
    place: Located,
    data: str | Path | Found | None,
    protocol: str | Sequence[str],
    written: Mapping[str, str | Path | None],
    options: dict[str, Any],
    ranks: Ranks,
    progress: Progress,
) -> dict[str, Any]:
    """As `eval`; nothing of processes that are not the first: they share the embedding."""
    folder, trained = place.folder, runs.read(place.folder)
    names = protocol.split(",") if isinstance(protocol, str) else list(protocol)
    names = [name.strip() for name in names]
    check_protocols(names)
    if written["--picture"] is not None and "soft-labels" not in names:
        raise InputError(
            "--picture has no effect: it shows soft labels over tau; leave it out, or add "
            "soft-labels to --protocol"
        )
    before = trained["config"]
    network, description = load_encoder(folder)
    asked = [options.pop(name, None) for name in ("precision", "device", "backend")]
    precision = computing(trained["precision"], *asked, own_backend=before.get("backend", "torch"))
    found, config = judged_set(folder, data, options, progress)
    for option, path in written.items():
        if path is not None:
            check_apart([path], inputs_of(config, found), option)
    part = found.parts.get("test") or found.parts["train"]
    bank, without = _bank(names, folder, trained, found, progress)
    chosen = _possible(names, part, without, progress)
    taught = bool(set(chosen) & set(TAUGHT)) and {"train", "test"} <= set(found.parts)
    size = description["image_size"]
    subject = Subject(
        network.to(precision.device),
        Preprocessing.of(description),
        precision,
        test=hold_part(part, size, config, progress, ranks)[0],
        train=hold_part(found.parts["train"], size, config, progress, ranks)[0] if taught else None,
        bare=without_head(network) if before.get("freeze") else None,
        bank=bank,
        coarse_names=found.coarse_names,
        crop_scale=before.get("crop_scale", config.crop_scale),
        flip=before.get("flip", config.flip),
        seed=before["seed"],
        workers=config.readers,
        progress=progress,
        ranks=ranks,
        store=Store(),
    )
    subject.embed()
    if not ranks.is_main:
        return {}
    noted_as = _noted_as(found, config, trained)

    def note(results: dict[str, Any]) -> None:
        if not place.of_hub:  # whose cache nobody else writes to
            runs.note_evaluation(folder, noted_as, results, trained)

    results = judge(subject, chosen, note)
    _write(results, written)
    return results


def _write(results: dict[str, Any], written: Mapping[str, str | Path | None]) -> None:
    """The files that were asked for."""
    if (path := written["--json"]) is not None:
        write_json(Path(path), results)
    if (path := written["--picture"]) is not None:
        draw(label_distances(results), Path(path))


def _noted_as(found: Found, config: Config, trained: Mapping[str, Any]) -> str:
    """The name of an evaluation in run.json; the run's own data alone have theirs.

    Others of the same name, as folders in two places, go by their path. What lies elsewhere than
    it did, and no longer there, are the run's own data that were moved.
    """
    before = trained["config"]["data"]
    elsewhere = config.data != before and Path(before).exists()
    return config.data if elsewhere and found.name == trained["data"]["name"] else found.name


def _bank(
    names: list[str], folder: Path, trained: Mapping[str, Any], found: Found, progress: Progress
) -> tuple[Bank | None, list[str]]:
    """The run's bank where soft labels are judged; and the protocols that "all" is without."""
    if not {"all", "soft-labels"} & set(names):
        return None, []
    train, known = found.parts.get("train"), pictures.read(folder)
    if train is not None and known is not None:  # without what was left out for validation
        train = pictures.trained_on(train, known, progress) or train
    try:
        return own_bank(folder, trained, train, progress), []
    except InputError as error:
        if "soft-labels" in names:
            raise
        progress.note(f"without soft-labels: {error}")
        return None, ["soft-labels"]


def _possible(
    names: list[str], part: Part, without: list[str], progress: Progress
) -> tuple[str, ...]:
    """The protocols that these data can be judged by; what "all" has to leave out is told."""
    if "all" in names and part.fine is not None:
        smallest = int(part.fine.unique(return_counts=True)[1].min())
        if smallest < LEAST:
            without = [*without, "few-shot"]
            progress.note(
                f"without few-shot: the smallest fine class has {smallest} images of the {LEAST} "
                "that an episode takes"
            )
    return check_protocols(names, fine=part.fine is not None, without=without)
