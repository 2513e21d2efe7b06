"""YAML as Kubernetes reads it, each value with its line. What is read is bounded: an alias may stand for any number of values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from cove.kube.play.problems import ManifestError, Place

MAX_BYTES = 4 << 20
MAX_VALUES = 200_000
MAX_DEPTH = 64
MAX_TEXT = 32 << 20
"""Characters of all values, as often as an alias stands for them."""
MAX_NUMBER = 64
"""Characters of a number."""
_HALF = re.compile("[\ud800-\udfff]")
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

Value: TypeAlias = "bool | int | float | str | list[Node] | dict[str, Node] | None"


@dataclass(frozen=True, slots=True)
class Node:
    value: Value
    place: Place


def read(text: str, file: str) -> list[Node]:
    """The documents of a file, empty ones left out. Raises `ManifestError`."""
    import yaml

    if len(text) > MAX_BYTES:
        raise ManifestError(f"{file} is larger than {MAX_BYTES >> 20} MiB: that is no manifest")
    if "\t" in text and _is_json(text):
        text = text.replace("\t", " ")  # which JSON has between values alone, and PyYAML nowhere
    reader = _Reader(file)
    try:
        # SafeLoader in Python, not in C: that one ends the process when a document is nested deeply.
        found = [reader.node(node, 0) for node in yaml.compose_all(text, yaml.SafeLoader) if node is not None]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(f"{Place(file, mark.line + 1 if mark else 1)}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ManifestError(f"{file}: {error}") from None
    except RecursionError:
        raise ManifestError(f"{file} is nested too deeply") from None
    return [node for node in found if node.value is not None]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _Reader:
    def __init__(self, file: str) -> None:
        from yaml.constructor import SafeConstructor

        self._file = file
        self._count = 0
        self._text = 0
        self._scalars = SafeConstructor()

    def node(self, node: Any, depth: int) -> Node:
        from yaml import MappingNode, SequenceNode

        place = Place(self._file, node.start_mark.line + 1)
        self._count += 1
        if self._count > MAX_VALUES:
            raise ManifestError(f"{place}: more than {MAX_VALUES} values, by aliases perhaps: that is no manifest")
        if depth > MAX_DEPTH:
            raise ManifestError(f"{place}: nested more than {MAX_DEPTH} deep: that is no manifest")
        if isinstance(node, MappingNode | SequenceNode) and node.tag not in _COLLECTIONS:
            raise ManifestError(f"{place}: a value of type {node.tag} is not for Kubernetes")
        if isinstance(node, MappingNode):
            return Node(dict(self._mapping(node, place, depth)), place)
        if isinstance(node, SequenceNode):
            return Node([self.node(each, depth + 1) for each in node.value], place)
        self._text += len(node.value)
        if self._text > MAX_TEXT:
            raise ManifestError(f"{place}: more than {MAX_TEXT >> 20} MiB of text, by aliases: that is no manifest")
        return Node(self._scalar(node, place), place)

    def _mapping(self, node: Any, place: Place, depth: int) -> Iterator[tuple[str, Node]]:
        seen: set[str] = set()
        merged: dict[str, Node] = {}
        for key, value in node.value:
            where = Place(self._file, key.start_mark.line + 1)
            if key.tag == "tag:yaml.org,2002:merge":
                inner = self.node(value, depth + 1)
                for each in inner.value if isinstance(inner.value, list) else [inner]:
                    if not isinstance(each.value, dict):
                        raise ManifestError(f"{where}: << takes a mapping")
                    merged = {**each.value, **merged}
                continue
            if not isinstance(getattr(key, "value", None), str):
                raise ManifestError(f"{where}: a key must be a text")
            name = _whole(key.value, where)
            if name in seen:
                raise ManifestError(f"{where}: {name} is there twice")
            seen.add(name)
            yield name, self.node(value, depth + 1)
        yield from ((key, value) for key, value in merged.items() if key not in seen)

    def _scalar(self, node: Any, place: Place) -> bool | int | float | str | None:
        from yaml import YAMLError

        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        text = _whole(node.value, place)
        # JSON, which Kubernetes makes of it, has no times, and its reader of YAML no numbers to the base of sixty (8080:80).
        if kind in ("str", "timestamp") or (kind in ("int", "float") and ":" in node.value):
            return text
        if kind not in ("null", "bool", "int", "float"):
            raise ManifestError(f"{place}: a value of type {node.tag} is not for Kubernetes")
        if (
            kind in ("int", "float") and len(node.value) > MAX_NUMBER
        ):  # Python reads long ones in quadratic time, or not
            raise ManifestError(f"{place}: a number of more than {MAX_NUMBER} characters: put a text in quotes")
        try:
            made: bool | int | float | None = self._scalars.construct_object(node)
        except (ValueError, YAMLError):
            raise ManifestError(f"{place}: {node.value!r} is no {kind}") from None
        return made


def _whole(text: str, place: Place) -> str:
    """A text as it is meant: JSON has characters in two halves, each an escape of its own."""
    if "\0" in text:
        raise ManifestError(f"{place}: a text has a NUL, which no program can be given")
    if not _HALF.search(text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ManifestError(f"{place}: a text has half of a character") from None
