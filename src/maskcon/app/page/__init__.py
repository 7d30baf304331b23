"""The page that a person works in: HTML, style and modules of JavaScript, served as they are.

index.html       all that is ever on the page; the rest fills it
app.css          its looks, on top of the report's page.css
main.js          the views by address, the keys
store.js, api.js what is known of the project; requests
tiles.js, viewer.js, keyed.js, chooser.js, actions.js, dropping.js   what several views are made of
side.js, mapview.js, cards.js, group.js, questions.js, search.js, lists.js, learn.js, history.js,
exporting.js     a view each
"""

from importlib import resources
from pathlib import PurePosixPath

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from maskcon.report import palette

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The report's looks and map, which this page has as well, by the names that it asks for them.
OF_THE_REPORT = {"report.css": "page.css", "parts.js": "parts.js", "map.js": "map.js"}


def files() -> dict[str, bytes]:
    """All files of the page by name."""
    own, report = resources.files("maskcon.app.page"), resources.files("maskcon.report")
    found = {
        file.name: file.read_bytes()
        for file in own.iterdir()
        if PurePosixPath(file.name).suffix in KINDS
    }
    found["palette.js"] = palette.script().encode()
    return found | {
        name: report.joinpath(there).read_bytes() for name, there in OF_THE_REPORT.items()
    }


def routes() -> list[Route]:
    """The page at /, and its files at /page/."""

    def route(path: str, name: str, content: bytes) -> Route:
        kind = KINDS[PurePosixPath(name).suffix]

        def answer(request: Request) -> Response:
            return Response(content, media_type=kind)

        return Route(path, answer)

    found = files()
    first = route("/", "index.html", found.pop("index.html"))
    return [first, *(route(f"/page/{name}", name, found[name]) for name in sorted(found))]
