"""An application made of operations, and the process that serves it."""

import socket
import webbrowser
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any
from urllib.parse import quote

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.routing import BaseRoute

from maskcon.app.guard import Access, Guard
from maskcon.app.operations import Operation, Refused, routes, told
from maskcon.errors import InputError, TrainingError

CONNECTIONS = 256  # at once; more are told to come again
GRACE = 3  # seconds that open requests have when the server ends

Lifespan = Callable[[Starlette], AbstractAsyncContextManager[Any]]


def application(
    operations: Sequence[Operation],
    access: Access,
    *,
    title: str = "maskcon",
    more: Sequence[BaseRoute] = (),
    lifespan: Lifespan | None = None,
) -> Starlette:
    """An application that `run` serves.

    Args:
        operations: what can be asked; /openapi.json describes them.
        access: who may ask.
        title: of the description.
        more: routes beside them, such as a page's files; they must not change anything.
        lifespan: entered before the first request and left after the last.
    """
    reads = frozenset(one.path for one in operations if one.method == "POST" and not one.changes)
    kinds = (Refused, HTTPException, InputError, TrainingError, Exception)
    return Starlette(
        routes=[*routes(operations, title), *more],
        middleware=[Middleware(Guard, access=access, reads=reads)],
        exception_handlers=dict.fromkeys(kinds, told),
        lifespan=lifespan,
    )


def listening(access: Access) -> socket.socket:
    """A socket at the host and port of an `Access`.

    Raises:
        InputError: the port is taken, or the host is none of this machine's.
    """
    try:
        found = socket.getaddrinfo(access.host, access.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        made = socket.socket(family, kind, protocol)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(place)
            made.listen(CONNECTIONS)
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise InputError(
            f"the server cannot listen at {access.host}, port {access.port} ({error.strerror}): "
            "give another --port (0 is any that is free), or a --host of this machine"
        ) from error
    return made


def address(access: Access, at: socket.socket) -> str:
    """What a person opens, the token in it."""
    host = access.host if access.host not in ("0.0.0.0", "::") else socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{at.getsockname()[1]}/?token={quote(access.token, safe='')}"


def run(
    app: Starlette,
    access: Access,
    *,
    ready: Callable[[str], None],
    open_browser: bool = False,
) -> None:
    """Serve an application until the process is told to end.

    Args:
        app: that `application` made.
        access: that it was made with.
        ready: told the address, as soon as it can be asked.
        open_browser: open the address.

    Raises:
        InputError: it cannot listen where it should.
    """
    with listening(access) as at:
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def begun(starting: Starlette) -> AsyncIterator[Any]:
            async with inner(starting) as state:
                place = address(access, at)
                ready(place)
                if open_browser:
                    webbrowser.open(place)
                yield state

        app.router.lifespan_context = begun
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,  # an address has the token in it
            ws="none",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=CONNECTIONS,
            timeout_graceful_shutdown=GRACE,
            h11_max_incomplete_event_size=2**16,
        )
        uvicorn.Server(config).run(sockets=[at])
