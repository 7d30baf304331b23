"""What can be asked over HTTP: each operation declared once, checked and described by that.

An `Operation` says its parameters and its body as JSON Schema. What is asked is checked against
them before the work begins, and /openapi.json shows the same ones.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route

from maskcon import __version__
from maskcon.app.guard import refusal
from maskcon.errors import InputError, TrainingError, brief
from maskcon.runtime.files import parse_json

Schema = Mapping[str, Any]
JSON = "application/json"
ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
MEANINGS = {
    400: "what was sent cannot be understood",
    401: "no token, or a wrong one",
    403: "this may not be done",
    404: "there is no such thing",
    408: "the request took too long to arrive",
    409: "what is there now does not allow it",
    413: "too large",
    415: "of a kind that is not expected",
    422: "a value cannot be used",
    503: "busy: ask again in a moment",
}
ALWAYS = (400, 401, 403, 422)
WHOLE = re.compile(r"-?[0-9]{1,18}")


class Refused(Exception):  # noqa: N818 - an answer, no fault of the program
    """A request that cannot be met.

    Attributes:
        status: of HTTP.
    """

    def __init__(self, status: int, words: str):
        super().__init__(words)
        self.status = status


@dataclass(frozen=True)
class Asked:
    """A request whose parameters and JSON body are as its operation declares them.

    Attributes:
        values: of its parameters, by name; those that were left out have their schema's default,
            or are absent.
        body: the JSON; None where the body is of another kind, and is not read yet.
        request: Starlette's.
    """

    values: Mapping[str, Any]
    body: Any
    request: Request


@dataclass(frozen=True)
class Operation:
    """Something that can be asked.

    Attributes:
        method: GET or POST.
        path: such as "/thumb/{id}".
        does: a line for people.
        work: what answers it: plain values for JSON, or a Response; raises `Refused` or
            `InputError` (status 422) with words for the person who asked.
        parameters: of the path and of the query, by name. A schema without "default" and not in
            the path may be left out if it has "x-optional".
        body: what it takes, a schema for each media type; none for none. "image/*" is any picture.
        answer: media type and schema of what it gives.
        refusals: statuses beside `ALWAYS`.
        changes: whether it changes anything, and is refused where nothing may be.
    """

    method: str
    path: str
    does: str
    work: Callable[[Asked], Awaitable[Any]]
    parameters: Mapping[str, Schema] = field(default_factory=dict)
    body: Mapping[str, Schema] = field(default_factory=dict)
    answer: tuple[str, Schema] = (JSON, {"type": "object"})
    refusals: tuple[int, ...] = ()
    changes: bool = False

    def route(self) -> Route:
        """It as Starlette has it."""
        return Route(self.path, self._answer, methods=[self.method])

    async def _answer(self, request: Request) -> Response:
        made = await self.work(Asked(self._values(request), await self._json(request), request))
        return made if isinstance(made, Response) else JSONResponse(made)

    def _values(self, request: Request) -> dict[str, Any]:
        """The parameters of a request.

        Raises:
            Refused: one is unknown, is missing, or is not as its schema says.
        """
        given: dict[str, str] = {}
        for name, text in [*request.path_params.items(), *request.query_params.multi_items()]:
            if name not in self.parameters:
                there = ", ".join(self.parameters) or "none"
                raise Refused(422, f"{brief(name)} is given: expected of parameters {there}")
            if name in given:
                raise Refused(422, f"{name} is given twice: give it once")
            given[name] = text
        values = {}
        for name, schema in self.parameters.items():
            if name in given:
                values[name] = _parsed(given[name], schema, name)
            elif "default" in schema:
                values[name] = schema["default"]
            elif not schema.get("x-optional"):
                raise Refused(422, f"{name} is not given: expected {_expected(schema)}")
        return values

    async def _json(self, request: Request) -> Any:
        """The body, if it is JSON.

        Raises:
            Refused: it is of a kind that is not taken, is no JSON, or is not as its schema says.
        """
        if not self.body:
            return None
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in self.body and not (kind.startswith("image/") and "image/*" in self.body):
            expected = ", ".join(self.body)
            raise Refused(415, f"the body is of {kind or 'no kind'}: expected {expected[:200]}")
        if kind != JSON:
            return None
        try:
            value = parse_json(await request.body())
        except ValueError as error:
            raise Refused(400, f"the body is no JSON: {error}") from error
        check(value, self.body[JSON], "the body")
        return value


def _parsed(text: str, schema: Schema, name: str) -> Any:
    """A parameter of the address as its schema has it."""
    value: Any = text
    if schema["type"] == "integer":
        if not WHOLE.fullmatch(text):
            raise Refused(422, f"{name} is {brief(text)}: expected {_expected(schema)}")
        value = int(text)
    check(value, schema, name)
    return value


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "null": lambda value: value is None,
}


def check(value: Any, schema: Schema, where: str) -> None:
    """See that a value is as a schema says.

    Known of JSON Schema are type, enum, oneOf, properties, required, items, minimum, maximum,
    minItems, maxItems, minLength and maxLength; an object has no other fields than its properties.

    Raises:
        Refused: it is not; the words name the field.
    """
    if "oneOf" in schema:
        return _check_one(value, schema["oneOf"], where)
    kinds = schema.get("type", [*_TYPES])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    fits = any(_TYPES[kind](value) for kind in kinds)
    size: Any = value if isinstance(value, int | float) else 0
    length = len(value) if isinstance(value, str | list) else 0
    letters = "Length" if isinstance(value, str) else "Items"
    if (
        not fits
        or ("enum" in schema and value not in schema["enum"])
        or (isinstance(value, int | float) and size < schema.get("minimum", size))
        or (isinstance(value, int | float) and size > schema.get("maximum", size))
        or length < schema.get(f"min{letters}", 0)
        or length > schema.get(f"max{letters}", length)
    ):
        raise Refused(422, f"{where} is {brief(value)}: expected {_expected(schema)}")
    if isinstance(value, list) and "items" in schema:
        for place, item in enumerate(value):
            check(item, schema["items"], f"{where}[{place}]")
    if isinstance(value, dict) and "properties" in schema:
        _check_fields(value, schema, where)
    return None


def _check_fields(value: Mapping[str, Any], schema: Schema, where: str) -> None:
    properties = schema["properties"]
    for name, inner in value.items():
        if name not in properties:
            raise Refused(
                422, f"{where} has the field {brief(name)}: expected {', '.join(properties)}"
            )
        check(inner, properties[name], f"{where}: {name}")
    for name in schema.get("required", ()):
        if name not in value:
            raise Refused(422, f"{where} has no field {name}: expected {', '.join(properties)}")


def _check_one(value: Any, schemas: Sequence[Schema], where: str) -> None:
    """See that a value is as one of several schemas says; which one, its field `kind` may tell."""
    errors = []
    for schema in schemas:
        try:
            return check(value, schema, where)
        except Refused as error:
            errors.append(error)
    kinds = [
        kind
        for schema in schemas
        for kind in schema.get("properties", {}).get("kind", {}).get("enum", ())
    ]
    if not kinds:
        raise errors[0]
    kind = value.get("kind") if isinstance(value, dict) else None
    if kind not in kinds:
        raise Refused(422, f"{where}: kind is {brief(kind)}: expected {', '.join(kinds)}")
    raise errors[
        next(
            place
            for place, schema in enumerate(schemas)
            if kind in schema["properties"]["kind"]["enum"]
        )
    ]


def _expected(schema: Schema) -> str:
    """A schema in words."""
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    kinds = schema.get("type", "anything")
    words = kinds if isinstance(kinds, str) else " or ".join(kinds)
    bounds = [
        f"{word} {schema[key]:,}"
        for key, word in (
            *(("minimum", "from"), ("maximum", "up to")),
            *(("minLength", "of at least"), ("maxLength", "of at most")),
            *(("minItems", "of at least"), ("maxItems", "of at most")),
        )
        if key in schema
    ]
    return " ".join([words, *bounds])


def described(operations: Sequence[Operation], title: str) -> dict[str, Any]:
    """Operations as OpenAPI 3.1 describes them."""
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        refusals = sorted({*ALWAYS, *one.refusals, *((413, 415) if one.body else ())})
        answers = {
            "200": {"description": "done", "content": {one.answer[0]: {"schema": one.answer[1]}}},
            **{str(status): _refusal(status) for status in refusals},
        }
        entry: dict[str, Any] = {
            "summary": one.does,
            "operationId": re.sub(r"\W+", "_", f"{one.method.lower()}{one.path}").strip("_"),
            "parameters": [_parameter(one, *named) for named in one.parameters.items()],
            "responses": answers,
        }
        if one.body:
            content = {kind: {"schema": _closed(schema)} for kind, schema in one.body.items()}
            entry["requestBody"] = {"required": True, "content": content}
        paths.setdefault(one.path, {})[one.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _closed(schema: Any) -> Any:
    """A schema that says what `check` does: an object has no other fields."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), Mapping) and schema.get("type") == "object":
        closed["additionalProperties"] = False
    return closed


def _parameter(operation: Operation, name: str, schema: Schema) -> dict[str, Any]:
    in_path = f"{{{name}}}" in operation.path
    needed = in_path or not ("default" in schema or schema.get("x-optional"))
    shown = {key: value for key, value in schema.items() if key != "x-optional"}
    return {
        "name": name,
        "in": "path" if in_path else "query",
        "required": needed,
        "schema": shown,
    }


def _refusal(status: int) -> dict[str, Any]:
    content = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": MEANINGS[status], "content": content}


def routes(operations: Sequence[Operation], title: str) -> list[BaseRoute]:
    """Operations, and /openapi.json that describes them, as Starlette has them."""
    description = described(operations, title)

    async def answer(request: Request) -> Response:
        return JSONResponse(description)

    return [*(one.route() for one in operations), Route("/openapi.json", answer)]


def _known_methods(request: Request) -> list[str]:
    """The methods of all operations at an address; Starlette names those of the first alone."""
    there = [route for route in request.app.routes if isinstance(route, Route)]
    fits = [route for route in there if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in fits for method in route.methods or ()})


async def told(request: Request, error: Exception) -> Response:
    """The answer to a request that ended in an error; one of the program itself is logged too."""
    if isinstance(error, Refused):
        return refusal(error.status, str(error))
    if isinstance(error, HTTPException):
        words = str(error.detail)
        if error.status_code == 404:
            words = "there is nothing at this address: /openapi.json lists what there is"
        if error.status_code == 405:
            words = f"{request.method} is not known at this address: /openapi.json lists what is"
        response = refusal(error.status_code, words)
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(_known_methods(request))
        return response
    if isinstance(error, InputError):
        return refusal(422, str(error))
    if isinstance(error, TrainingError):
        return refusal(409, str(error))
    return refusal(500, f"the server made a mistake ({type(error).__name__}): its log has more")
