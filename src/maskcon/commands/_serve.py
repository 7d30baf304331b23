"""An index, or that of a project, over HTTP."""

import os
from collections.abc import Callable
from pathlib import Path

from maskcon.commands._index import opened
from maskcon.commands._search import encoder_of
from maskcon.errors import InputError
from maskcon.runtime.progress import Progress, follower

TOKEN = "MASKCON_TOKEN"


def serve(
    source: str | Path,
    *,
    run: str | Path | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    device: str = "auto",
    precision: str | None = None,
    backend: str | None = None,
    ready: Callable[[str], None] = print,
    progress: Progress | None = None,
) -> None:
    """Answer searches in an index over HTTP, until the process is told to end.

    Nothing can be changed. Each request shows a token: that of `$MASKCON_TOKEN`, or a random one.

    Args:
        source: a file of `index`; or a project of `explore`, of which the index is served, and
            not the page.
        run: the run folder with the encoder; by default the one that the index was made with.
        host: where to listen; 127.0.0.1 lets nobody but this machine ask.
        port: where to listen; 0 is any that is free.
        device: as `Encoder.load` takes it.
        precision: as `Encoder.load` takes it.
        backend: as `Encoder.load` takes it.
        ready: told the address, the token in it, when the server can be asked.
        progress: told how it goes.

    Raises:
        InputError: something given cannot be used, or the extra `app` is not installed.
    """
    try:
        from maskcon.app import project, uploads
        from maskcon.app.guard import Access
        from maskcon.app.indexed import serving
        from maskcon.app.server import run as run_server
    except ImportError as error:
        raise InputError(
            f"serving needs Starlette and uvicorn, which cannot be imported ({error}): pip install "
            "'maskcon[app]'"
        ) from error
    progress = follower(progress)
    access = Access(host, port, read_only=True, **token_given())
    file = Path(source)
    if project.is_project(file):
        here = project.Generation(file, project.read(file).generation)
        file, run = here.index, run or here.run
    index = opened(file, progress)
    index.bounded(1)
    machine = {"device": device, "precision": precision, "backend": backend}
    encoder = encoder_of(index, file, run, machine)
    progress.close()
    uploads.prepare()
    run_server(serving(index, encoder, access, Path(source).name), access, ready=ready)


def token_given() -> dict[str, str]:
    """The token that `$MASKCON_TOKEN` says, as `Access` takes it; nothing where it says none."""
    token = os.environ.get(TOKEN)
    return {} if token is None else {"token": token}
