"""An index alone over HTTP: what it is, what is in it, what is like what. Nothing can change."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette

from maskcon.app import searching, thumbnails
from maskcon.app.guard import Access
from maskcon.app.operations import JSON, Asked, Operation, Schema
from maskcon.app.server import application
from maskcon.app.thumbnails import ID, STATES, Photos
from maskcon.encoder import Encoder
from maskcon.search.index import Index

MOST = 1000  # pictures that are told at once
TEXT: Schema = {"type": ["string", "null"]}
PICTURE: Schema = {
    "type": "object",
    "properties": {"id": ID, "name": {"type": "string"}, "coarse": TEXT, "fine": TEXT},
    "required": ["id", "name", "coarse", "fine"],
}


def serving(index: Index, encoder: Encoder | None, access: Access, name: str) -> Starlette:
    """The application that serves an index.

    Args:
        index: that is served.
        encoder: that its vectors are of; None where pictures can only be named, not sent.
        access: who may ask.
        name: what the index is called.
    """
    photos, searcher = Photos(index), searching.Searcher(index, encoder)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        searcher.close()
        photos.close()

    operations = [
        *_told(index, encoder, photos, name),
        *searching.operations(searcher, photos),
        *thumbnails.operations(photos),
    ]
    return application(operations, access, title=f"maskcon: {name}", lifespan=lifespan)


def _told(index: Index, encoder: Encoder | None, photos: Photos, name: str) -> list[Operation]:
    """What an index says of itself and of its pictures."""

    def shown(start: int, count: int) -> list[dict[str, Any]]:
        rows = index.rows.select(["coarse", "fine"]).slice(start, count).to_pylist()
        return [{"id": i, "name": photos.names[i], **row} for i, row in enumerate(rows, start)]

    async def about(asked: Asked) -> Any:
        return {
            "name": name,
            "pictures": len(index),
            "width": index.vectors.shape[1],
            "kind": index.kind,
            "recall": index.about.recall,
            "encoder": index.about.identity,
            "image_size": index.about.image_size,
            "words": encoder is not None and encoder.has_words,
            "description": "/openapi.json",
        }

    async def some(asked: Asked) -> Any:
        start = asked.values["offset"]
        return {"pictures": shown(start, asked.values["limit"]), "count": len(index)}

    async def one(asked: Asked) -> Any:
        row = photos.check(asked.values["id"])
        return {**shown(row, 1)[0], "state": await photos.seen(row)}

    limit: Schema = {"type": "integer", "minimum": 1, "maximum": MOST, "default": 100}
    pictures: Schema = {
        "type": "object",
        "properties": {
            "pictures": {"type": "array", "items": PICTURE},
            "count": {"type": "integer"},
        },
        "required": ["pictures", "count"],
    }
    state: Schema = {"type": "string", "enum": list(STATES)}
    picture = {**PICTURE, "properties": {**PICTURE["properties"], "state": state}}
    return [
        Operation("GET", "/", "what is served", about),
        Operation(
            "GET",
            "/api/pictures",
            "the pictures of the index, some at a time",
            some,
            {"offset": {**ID, "default": 0}, "limit": limit},
            answer=(JSON, pictures),
        ),
        Operation(
            "GET",
            "/api/picture",
            "a picture, and whether its file is here, missing or changed",
            one,
            {"id": ID},
            answer=(JSON, picture),
            refusals=(404,),
        ),
    ]
