"""Search over HTTP: by a picture of the index, by one that somebody sends, or by words.

Searches run in one thread and the encoder in another. Each does what has come meanwhile together,
so that many who ask at once cost one pass over the vectors, and an upload keeps no search waiting.
"""

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from starlette.datastructures import UploadFile

from maskcon.app.operations import JSON, Asked, Operation, Refused, Schema
from maskcon.app.thumbnails import ID, Photos
from maskcon.app.uploads import BYTES, Uploads
from maskcon.encoder import Encoder
from maskcon.errors import InputError
from maskcon.search.index import Index

AT_ONCE = 32  # that are done together
WAITING = 512  # that may wait; more are told to come again
MOST = 1000  # pictures that one search finds
COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": MOST}
WORDS: Schema = {"type": "string", "minLength": 1, "maxLength": 1000}
_T = TypeVar("_T")
_R = TypeVar("_R")


class Together(Generic[_T, _R]):
    """A thread that does what several have asked for in one go.

    Args:
        name: of the thread.
        work: answers to some items, in their order.
    """

    def __init__(self, name: str, work: Callable[[Sequence[_T]], Sequence[_R]]):
        self._work = work
        self._asked: queue.Queue[tuple[_T, Future[_R]] | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    async def ask(self, item: _T) -> _R:
        """The answer to one item.

        Raises:
            Refused: too many wait.
        """
        future: Future[_R] = Future()
        try:
            self._asked.put_nowait((item, future))
        except queue.Full:
            raise Refused(503, f"{WAITING} requests wait: ask again in a moment") from None
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """End the thread, when it has done what was asked for."""
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (first := self._asked.get()) is not None:
            some = [first]
            while len(some) < AT_ONCE and not self._asked.empty():
                following = self._asked.get()
                if following is None:
                    self._asked.put(None)
                    break
                some.append(following)
            # whoever has gone away is not waited for
            self._do([one for one in some if one[1].set_running_or_notify_cancel()])

    def _do(self, some: Sequence[tuple[_T, Future[_R]]]) -> None:
        if not some:
            return
        try:
            answers = self._work([item for item, _ in some])
        except Exception as error:
            if len(some) == 1:
                some[0][1].set_exception(error)
            else:  # one of them cannot be answered; the others can
                for one in some:
                    self._do([one])
            return
        for (_, future), answer in zip(some, answers, strict=True):
            future.set_result(answer)


@dataclass(frozen=True)
class Query:
    """What is looked for.

    Attributes:
        vector: float32 [F], unit length.
        index: that is searched, whose encoder the vector is of.
        count: pictures to find.
        without: the row of the query itself, if it is in the index.
    """

    vector: np.ndarray
    index: Index
    count: int
    without: int | None = None


@dataclass(frozen=True)
class Served:
    """An index, and the encoder that its vectors are of; None where nothing can be uploaded."""

    index: Index
    encoder: Encoder | None


class Searcher:
    """An index that many ask at once.

    Args:
        index: that is searched.
        encoder: that its vectors are of; None where nothing can be uploaded.
    """

    def __init__(self, index: Index, encoder: Encoder | None):
        self._served = Served(index, encoder)
        self._searches: Together[Query, list[tuple[int, float]]] = Together("search", self._found)
        self._vectors: Together[np.ndarray, tuple[np.ndarray, Index]] | None = None
        self._words: Together[str, tuple[np.ndarray, Index]] = Together("words", self._worded)
        self._uploads: Uploads | None = None
        if encoder is not None:
            self._vectors = Together("encoder", self._embedded)
            self._uploads = Uploads(encoder.preprocessing.image_size)
            self._uploads.start()

    def turn_to(self, index: Index, encoder: Encoder) -> None:
        """Go on with another index of the same pictures, and its encoder.

        What was asked before is searched in the index of the encoder that it went through.
        """
        self._served = Served(index, encoder)
        if self._uploads is not None:
            self._uploads.turn_to(encoder.preprocessing.image_size)

    async def like(self, row: int, count: int) -> list[tuple[int, float]]:
        """Rows that are nearest to one of the index, which is left out, and their similarities."""
        index = self._served.index
        return await self._searches.ask(Query(np.array(index.vectors[row]), index, count, row))

    async def like_upload(
        self, content: Callable[[], Awaitable[bytes]], count: int
    ) -> list[tuple[int, float]]:
        """Rows that are nearest to a picture.

        Args:
            content: brings the content of an image file; asked when there is a place for it.
            count: rows to find.

        Raises:
            Refused: it cannot be decoded, there is no encoder, or too many come at once.
        """
        if self._uploads is None or self._vectors is None:
            raise Refused(
                409,
                "this index is served without its encoder: search by the number of a picture, or "
                "start the server with --run",
            )
        with self._uploads.place():
            square = await self._uploads.square(await content())
            vector, index = await self._vectors.ask(square)
        return await self._searches.ask(Query(vector, index, count))

    async def like_words(self, words: str, count: int) -> list[tuple[int, float]]:
        """Rows that are nearest to words.

        Raises:
            Refused: the encoder has no text side, or too many ask.
        """
        encoder = self._served.encoder
        if encoder is None or not encoder.has_words:
            raise Refused(
                409,
                "this index is served without an encoder that has a text side: search by a "
                "picture, or serve one of maskcon index open_clip/MODEL@WEIGHTS PICTURES",
            )
        vector, index = await self._words.ask(words)
        return await self._searches.ask(Query(vector, index, count))

    def close(self) -> None:
        """End the threads and the process."""
        self._words.close()
        if self._uploads is not None and self._vectors is not None:
            self._uploads.close()
            self._vectors.close()
        self._searches.close()

    def _embedded(self, squares: Sequence[np.ndarray]) -> list[tuple[np.ndarray, Index]]:
        served = self._served
        assert served.encoder is not None
        vectors = served.encoder.embed(np.stack(squares), workers=1)
        return [(vector, served.index) for vector in vectors]

    def _worded(self, words: Sequence[str]) -> list[tuple[np.ndarray, Index]]:
        served = self._served
        assert served.encoder is not None
        try:
            return [(vector, served.index) for vector in served.encoder.embed_words(words)]
        except InputError as error:
            raise Refused(409, str(error)) from error

    def _found(self, queries: Sequence[Query]) -> list[list[tuple[int, float]]]:
        index = queries[0].index
        if any(query.index is not index for query in queries):  # it was changed meanwhile
            return [found for query in queries for found in self._found([query])]
        count = index.bounded(max(query.count for query in queries))
        without = [
            np.array([] if query.without is None else [query.without], np.int64)
            for query in queries
        ]
        found = index.search(np.stack([query.vector for query in queries]), count, without)
        return [
            [pair for pair in zip(ids, scores, strict=True) if pair[0] >= 0][: query.count]
            for query, ids, scores in zip(
                queries, found.ids.tolist(), found.scores.tolist(), strict=True
            )
        ]


FOUND: Schema = {
    "type": "object",
    "properties": {
        "found": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "id": {"type": "integer"},
                    "name": {"type": "string"},
                    "similarity": {"type": "number"},
                },
                "required": ["id", "name", "similarity"],
            },
        }
    },
    "required": ["found"],
}


def _asking(**what: Schema) -> Schema:
    """A JSON body that asks by one thing."""
    return {"type": "object", "properties": {**what, "count": COUNT}, "required": [*what]}


def operations(searcher: Searcher, photos: Photos) -> list[Operation]:
    """What can be asked of an index."""

    async def search(asked: Asked) -> Any:
        if asked.body is not None:
            count = asked.body.get("count", asked.values["count"])
            if "words" in asked.body:
                found = await searcher.like_words(asked.body["words"], count)
            else:
                found = await searcher.like(photos.check(asked.body["picture"]), count)
        else:
            found = await searcher.like_upload(lambda: _content(asked), asked.values["count"])
        return {
            "found": [
                {"id": row, "name": photos.names[row], "similarity": score} for row, score in found
            ]
        }

    picture: Schema = {"type": "string", "contentMediaType": "image/*", "maxLength": BYTES}
    return [
        Operation(
            "POST",
            "/api/search",
            "the pictures that are most like one, of the index or sent, or that words describe",
            search,
            {
                "count": {
                    **COUNT,
                    "default": 10,
                    "description": "pictures to find; a JSON body's own count goes before it",
                }
            },
            {
                JSON: {"oneOf": [_asking(picture=ID), _asking(words=WORDS)]},
                "image/*": {},
                "multipart/form-data": {
                    "type": "object",
                    "properties": {"picture": picture},
                    "required": ["picture"],
                },
            },
            (JSON, FOUND),
            (404, 408, 409, 503),
        )
    ]


async def _content(asked: Asked) -> bytes:
    """The picture that a request brings, as its body or in a form."""
    request = asked.request
    if not request.headers["content-type"].lower().startswith("multipart/"):
        return await request.body()
    async with request.form(max_files=2, max_fields=8) as form:
        files = [value for value in form.values() if isinstance(value, UploadFile)]
        if len(files) != 1:
            raise Refused(422, f"the form has {len(files)} files: expected one, the picture")
        return await files[0].read(BYTES + 1)
