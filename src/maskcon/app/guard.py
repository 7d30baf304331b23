"""Who may ask: a token, the names of this machine, one's own pages, and how much one may send."""

import asyncio
import ipaddress
import re
import secrets
import socket
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from maskcon.errors import InputError

LOOPBACK = "127.0.0.1"
SHORTEST = 16  # characters of a token that a person chose
BODY = 32 * 2**20  # bytes of a request
SECONDS = 60.0  # that a request may take to arrive
READING = ("GET", "HEAD")
_PLACE = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")  # name and port
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """Who may ask a server, and for what.

    Attributes:
        host: name or address that it listens at; others than this machine's own (127.0.0.1, ::1,
            localhost) let other machines ask.
        port: that it listens at; 0 is any that is free.
        token: that each request shows.
        read_only: nothing can be changed.
    """

    host: str = LOOPBACK
    port: int = 0
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    read_only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise InputError(f"port is {self.port}: expected 0 (any that is free) to 65535")
        if len(self.token) < SHORTEST or not self.token.isascii() or not self.token.isprintable():
            raise InputError(
                f"the token has {len(self.token)} characters: expected {SHORTEST} or more, of "
                "letters, digits and marks; without one a random one is made"
            )

    def knows(self, name: str) -> bool:
        """Whether a request may call this server so: `name` without its port.

        A page of a stranger can have a name of its own lead to this machine (DNS rebinding), but
        no number. So numbers are known, and of the names this machine's own alone.
        """
        return _is_known(name.strip("[]").lower(), self.host.lower(), self.local)

    @cached_property
    def local(self) -> bool:
        """Whether this machine alone can ask."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"


@lru_cache(maxsize=256)  # asked with every request
def _is_known(name: str, host: str, local: bool) -> bool:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name in ("localhost", host) or (not local and name in (own, own.partition(".")[0]))
    return not local or address.is_loopback


class Guard:
    """Stands before an application and lets through what `Access` allows; the rest is refused.

    A browser shows the token once, in the address, and gets a cookie that no script can read; other
    programs send `Authorization: Bearer TOKEN`. Each answer carries a content security policy.

    Args:
        app: the application.
        access: who may ask, and for what.
        reads: paths that may be posted to though nothing may be changed.
    """

    def __init__(self, app: ASGIApp, access: Access, reads: frozenset[str] = frozenset()):
        self.app, self.access, self.reads = app, access, reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # the application's start and end; no other kind is served
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        answer = self._stranger(scope) or self._shown(scope) or self._too_much(scope)
        app = self.app if answer is None else answer
        await app(scope, _bounded(receive), _with_headers(send))

    def _stranger(self, scope: Scope) -> Response | None:
        """The refusal of what comes by another name, or of another page."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        place = _PLACE.fullmatch(host)
        if place is None or not self.access.knows(place[1]):
            return refusal(
                403,
                f"the request calls this server {host[:100]!r}: expected {self.access.host} or "
                "localhost; open the address that maskcon printed",
            )
        origin = headers.get("origin")
        site = headers.get("sec-fetch-site", "none")
        followed = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in READING
        foreign = site not in ("none", "same-origin") and not followed
        if foreign or (origin is not None and _place_of(origin) != host.lower()):
            return refusal(
                403,
                f"the request comes from a page of {(origin or 'another server')[:100]!r}: only "
                "this server's own pages, and programs, may ask",
            )
        return None

    def _shown(self, scope: Scope) -> Response | None:
        """The refusal of a request without the token; a cookie for one with it in its address."""
        headers = Headers(scope=scope)
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        in_address = [value for key, value in given if key == "token"]
        cookie = self._cookie(scope)
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if in_address and scope["method"] in READING and self._is_token(in_address[0]):
            rest = urlencode([(key, value) for key, value in given if key != "token"])
            # one slash: with two, another server would be meant
            path = "/" + scope["path"].lstrip("/\\")
            found = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            found.set_cookie(cookie, self.access.token, httponly=True, samesite="strict", path="/")
            return found
        shown = cookie_parser(headers.get("cookie", "")).get(cookie, "")
        if scheme.lower() == "bearer":
            shown = bearer.strip()
        if not in_address and self._is_token(shown):
            return None
        words = "open the address that maskcon printed, or send 'Authorization: Bearer TOKEN'"
        wrong = bool(in_address or shown)
        response = refusal(401, f"{'a wrong' if wrong else 'no'} token was given: {words}")
        response.headers["WWW-Authenticate"] = "Bearer"
        return response

    def _cookie(self, scope: Scope) -> str:
        """The cookie's name: servers at several ports of a machine share its cookies."""
        return f"maskcon_{(scope.get('server') or ('', 0))[1]}"

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(
            text.encode("utf-8", "surrogateescape"), self.access.token.encode()
        )

    def _too_much(self, scope: Scope) -> Response | None:
        """The refusal of a change where nothing may be changed, and of a body that is too large."""
        changes = scope["method"] not in READING and scope["path"] not in self.reads
        if self.access.read_only and changes:
            return refusal(
                403, "this server is read-only: start it without --read-only to change something"
            )
        length = Headers(scope=scope).get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            return refusal(400, f"Content-Length is {length[:40]!r}: expected a number of bytes")
        if int(length[:20]) > BODY:
            return refusal(413, f"the request has {int(length[:20]):,} bytes: {_AT_MOST}")
        return None


_AT_MOST = f"expected {BODY:,} at most; make the picture smaller"


def refusal(status: int, words: str) -> Response:
    """What is answered to a request that cannot be met: {"error": words}."""
    return JSONResponse({"error": words}, status)


def _place_of(origin: str) -> str:
    """Host and port of an Origin, as a Host header has them; "" of what is none."""
    scheme, _, place = origin.partition("://")
    return place.lower() if scheme in ("http", "https") else ""


def _with_headers(send: Send) -> Send:
    """Answers with `HEADERS`, and not kept by anybody unless they say for how long."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers[name] = value
            headers.setdefault("Cache-Control", "no-store")
        await send(message)

    return sending


def _bounded(receive: Receive) -> Receive:
    """A request's body up to `BODY` bytes and for `SECONDS`, whatever its header says."""
    seen, whole = 0, False
    until: float | None = None

    async def receiving() -> Message:
        nonlocal seen, whole, until
        if whole:  # now it is waited for the end of the connection
            return await receive()
        until = until or asyncio.get_running_loop().time() + SECONDS
        try:
            async with asyncio.timeout_at(until):
                message = await receive()
        except TimeoutError:
            raise HTTPException(
                408, f"the request did not arrive in {SECONDS:.0f} seconds: send it again"
            ) from None
        seen += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if seen > BODY:
            raise HTTPException(413, f"the request has more than {BODY:,} bytes: {_AT_MOST}")
        return message

    return receiving
