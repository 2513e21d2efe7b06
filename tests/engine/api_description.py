"""The description of the Docker Engine API (Swagger 2.0) as something to hold answers against."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

PATH = Path(__file__).parent.parent / "data" / "docker-api-v1.51.yaml"

# Not in every operation's list, and yet what dockerd answers to a request that cannot be right.
ALWAYS_POSSIBLE = {400, 500}
# Null from dockerd (26.1 was looked at) although the description does not say so.
NULL_IN_DOCKERD = {"ExecInspectResponse.ExitCode", "Resources.MemorySwappiness", "Resources.OomKillDisable"}
# Answered by dockerd as well.
EXTRA = {"EventMessage.status", "EventMessage.id", "EventMessage.from"}
METHODS = ("get", "head", "post", "put", "delete")

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_KEPT = ("type", "required", "minimum", "maximum", "pattern", "minItems", "maxItems", "format")
_FORMATS = jsonschema.FormatChecker(formats=())


@_FORMATS.checks("date-time")
def _is_time(value: object) -> bool:
    return not isinstance(value, str) or value == "" or _RFC_3339.fullmatch(value) is not None


class Description:
    """``operations`` maps (method, path template) to the operation, ``seen`` to the statuses that it was answered with.

    ``never_answered`` are described fields of objects that came, which none of them had.
    """

    def __init__(self, path: Path = PATH) -> None:
        self.document: dict[str, Any] = yaml.load(path.read_text(), yaml.CSafeLoader)
        self.operations: dict[tuple[str, str], dict[str, Any]] = {
            (method.upper(), template): operation
            for template, operations in self.document["paths"].items()
            for method, operation in operations.items()
            if method in METHODS
        }
        self.seen: dict[tuple[str, str], set[int]] = {}
        self.never_answered: set[str] = set()
        self._answered: set[str] = set()
        self._definitions = {
            name: self._converted(schema, name) for name, schema in self.document["definitions"].items()
        }

    def check(self, method: str, template: str, status: int, content_type: str, body: bytes) -> list[str]:
        """What is wrong with an answer, [] when it is as described. A stream of JSON documents is checked one by one."""
        self.seen.setdefault((method, template), set()).add(status)
        operation = self.operations[method, template]
        response = operation["responses"].get(status)
        if response is None:
            if status not in ALWAYS_POSSIBLE:
                return [f"status {status} is not described"]
            response = {"schema": {"$ref": "#/definitions/ErrorResponse"}}
        if status >= 400:
            response = {"schema": {"$ref": "#/definitions/ErrorResponse"}}
            if content_type != "application/json":
                return [f"an error of type {content_type}"]
        schema = response.get("schema")
        if method == "HEAD" or status in (101, 204, 304):
            return [f"a body where there is none: {body[:80]!r}"] if body else []
        produces = operation.get("produces", self.document["produces"])
        if (
            schema is None
            or schema.get("type") == "string"
            or content_type.startswith(("application/vnd", "text/plain"))
        ):
            main_type = content_type.partition(";")[0]
            known = not body or not main_type or main_type in produces
            return [] if known else [f"type {content_type} is none of {produces}"]
        if content_type != "application/json":
            return [f"JSON of type {content_type}"]
        return [problem for document in _documents(body) for problem in self.problems(document, schema)]

    def problems(self, document: Any, schema: dict[str, Any]) -> list[str]:
        if document is None:
            return ["null instead of an answer"]
        converted = {**self._converted(schema, schema.get("title", "answer")), "definitions": self._definitions}
        validator = jsonschema.Draft4Validator(converted, format_checker=_FORMATS)
        wrong = [
            f"{'.'.join(map(str, error.path))}: {error.message[:300]}" for error in validator.iter_errors(document)
        ]
        strange = [name for name in self._strange(document, schema, schema.get("title", "answer")) if name not in EXTRA]
        return wrong + [f"{name} is not described" for name in strange]

    def _strange(self, document: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
        """Fields that are answered and that the description does not know."""
        while "$ref" in schema:
            where = schema["$ref"].rpartition("/")[2]
            schema = self.document["definitions"][where]
        if isinstance(document, list):
            for item in document:
                yield from self._strange(item, schema.get("items", {}), f"{where}[]")
        if not isinstance(document, dict):
            return
        properties = self._properties(schema)
        rest = schema.get("additionalProperties", {} if not properties else None)
        self._answered.update(f"{where}.{name}" for name in document)
        self.never_answered.update(f"{where}.{name}" for name in properties)
        self.never_answered -= self._answered
        for name, value in document.items():
            if name in properties:
                yield from self._strange(value, properties[name], f"{where}.{name}")
            elif rest is None:
                yield f"{where}.{name}"
            elif isinstance(rest, dict):
                yield from self._strange(value, rest, f"{where}.*")

    def _properties(self, schema: dict[str, Any]) -> dict[str, Any]:
        if "$ref" in schema:
            return self._properties(self.document["definitions"][schema["$ref"].rpartition("/")[2]])
        result = {**schema.get("properties", {})}
        for part in schema.get("allOf", ()):
            result.update(self._properties(part))
        return result

    def _converted(self, schema: dict[str, Any], where: str) -> dict[str, Any]:
        """As JSON Schema draft 4, which Swagger 2.0 is a dialect of.

        Go writes a list or a map that was never made as null. The description says so (``x-nullable``) only here and
        there, so null is taken for every array and object, and for what is marked.
        """
        if "$ref" in schema:
            return {"$ref": schema["$ref"]}
        result: dict[str, Any] = {key: schema[key] for key in _KEPT if key in schema}
        if result.get("format") not in ("date-time", "dateTime"):
            result.pop("format", None)
        elif "format" in result:
            result["format"] = "date-time"
        kind = schema.get("type") or ("object" if "properties" in schema else None)
        nullable = schema.get("x-nullable") or kind in ("array", "object") or where in NULL_IN_DOCKERD
        if kind:
            result["type"] = [kind, "null"] if nullable else kind
        if "enum" in schema:
            result["enum"] = [*schema["enum"], *([None] if nullable else [])]
        if "items" in schema:
            result["items"] = self._converted(schema["items"], f"{where}[]")
        if "allOf" in schema:
            result["allOf"] = [self._converted(part, where) for part in schema["allOf"]]
        if isinstance(schema.get("additionalProperties"), dict):
            result["additionalProperties"] = self._converted(schema["additionalProperties"], f"{where}.*")
        if "properties" in schema:
            result["properties"] = {
                name: self._converted(part, f"{where}.{name}") for name, part in schema["properties"].items()
            }
        return result


def _documents(body: bytes) -> Iterator[Any]:
    decoder, text = json.JSONDecoder(), body.decode()
    position = 0
    while position < len(text):
        document, position = decoder.raw_decode(text, position)
        yield document
        while position < len(text) and text[position].isspace():
            position += 1
