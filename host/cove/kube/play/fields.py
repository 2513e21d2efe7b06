"""Reads the fields of an object, and knows afterwards which nobody has read: those are named, and not passed over."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from cove.kube.play.documents import Node
from cove.kube.play.problems import Place, Problems

ALIKE = 0.85
"""How much of two names is the same, of 1, when one is taken for the other mistyped.
No field that Kubernetes has and nobody reads here is so near to one that is read."""
LONGEST_NAME = 64


def meant(name: str, known: Iterable[str]) -> str:
    """Which of `known` is mistyped as `name`; "" for none."""
    if len(name) > LONGEST_NAME:
        return ""
    spelled = {each.lower(): each for each in sorted(known)}
    found = difflib.get_close_matches(name.lower(), spelled, 1, ALIKE)
    return spelled[found[0]] if found else ""


class Reading:
    """One reading of manifests: the problems, and all objects that have been looked into."""

    def __init__(self) -> None:
        self.problems = Problems()
        self._open: list[Fields] = []

    def fields(self, node: Node, about: str, path: str = "") -> Fields:
        made = Fields(self, node, about, path)
        self._open.append(made)
        return made

    def finish(self) -> None:
        """Name the fields that nobody has read."""
        for fields in self._open:
            for name, node in fields.unread():
                if wanted := fields.meant(name):
                    # Never left out: what the user has said there would not be so.
                    fields.wrong(f"there is no {fields.below(name)}: {wanted} is meant?", node.place)
                else:
                    fields.cannot(f"{fields.below(name)} is not supported", node.place)
        self._open.clear()


class Fields:
    """The fields of one object. `about` is what a user knows it by; `path` is where in it this is."""

    def __init__(self, reading: Reading, node: Node, about: str, path: str) -> None:
        self.reading = reading
        self.problems = reading.problems
        self.place = node.place
        self.about = about
        self.path = path
        self._values = node.value if isinstance(node.value, dict) else {}
        self._read: set[str] = set()
        self._inner: dict[str, list[Fields]] = {}
        if not isinstance(node.value, dict) and node.value is not None:
            self.wrong(f"{path or 'the document'} must be an object")

    def below(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name

    def wrong(self, text: str, place: Place | None = None) -> None:
        self.problems.refuse(place or self.place, f"{self.about}: {text}")

    def cannot(self, text: str, place: Place | None = None) -> None:
        self.problems.cannot(place or self.place, f"{self.about}: {text}")

    def note(self, text: str, place: Place | None = None) -> None:
        self.problems.note(place or self.place, f"{self.about}: {text}")

    def unread(self) -> Iterator[tuple[str, Node]]:
        return (
            (name, node) for name, node in self._values.items() if name not in self._read and node.value is not None
        )

    def meant(self, name: str) -> str:
        """The field that is known here and mistyped as `name`; "" for none."""
        return meant(name, self._read)

    def ignore(self, *names: str) -> None:
        """Fields without a meaning for one engine that is there already."""
        self._read.update(names)

    def names(self) -> list[str]:
        return [name for name, node in self._values.items() if node.value is not None]

    def take(self, name: str) -> Node | None:
        """A field's value; None when it is not there, or null, which is the same to Kubernetes."""
        self._read.add(name)
        node = self._values.get(name)
        return None if node is None or node.value is None else node

    def has(self, name: str) -> bool:
        node = self._values.get(name)
        return node is not None and node.value is not None

    def text(self, name: str, default: str = "", *, needed: bool = False) -> str:
        node = self.take(name)
        if node is None:
            if needed:
                self.wrong(f"{self.below(name)} is missing")
            return default
        if not isinstance(node.value, str):
            self.wrong(f"{self.below(name)} must be a text: put it in quotes", node.place)
            return default
        if needed and not node.value:
            self.wrong(f"{self.below(name)} is empty", node.place)
        return node.value

    def integer(self, name: str, default: int | None = None, least: int = 0, most: int = 2**63 - 1) -> int | None:
        node = self.take(name)
        value = None if node is None else self._integer(node, self.below(name), least, most)
        return default if value is None else value

    def _integer(self, node: Node, path: str, least: int, most: int) -> int | None:
        if isinstance(node.value, bool) or not isinstance(node.value, int) or not least <= node.value <= most:
            self.wrong(f"{path} must be a number from {least} to {most}", node.place)
            return None
        return node.value

    def integers(self, name: str, least: int = 0, most: int = 2**63 - 1) -> list[int]:
        """A list of numbers."""
        found = (
            self._integer(node, f"{self.below(name)}[{index}]", least, most)
            for index, node in enumerate(self.items(name))
        )
        return [each for each in found if each is not None]

    def number(self, name: str, default: int, least: int = 0, most: int = 2**31 - 1) -> int:
        value = self.integer(name, default, least, most)
        return default if value is None else value

    def flag(self, name: str) -> bool | None:
        node = self.take(name)
        if node is None:
            return None
        if not isinstance(node.value, bool):
            self.wrong(f"{self.below(name)} must be true or false", node.place)
            return None
        return node.value

    def one_of(self, name: str, known: tuple[str, ...], default: str = "") -> str:
        value = self.text(name, default)
        if value != default and value not in known:
            self.wrong(f"{self.below(name)} must be one of {', '.join(known)}, not {value!r}", self._values[name].place)
            return default
        return value

    def inner(self, name: str) -> Fields | None:
        """An object in this one, the same each time."""
        node = self.take(name)
        if node is None:
            return None
        if name not in self._inner:
            self._inner[name] = [self.reading.fields(node, self.about, self.below(name))]
        return self._inner[name][0]

    def items(self, name: str) -> list[Node]:
        node = self.take(name)
        if node is None:
            return []
        if not isinstance(node.value, list):
            self.wrong(f"{self.below(name)} must be a list", node.place)
            return []
        return node.value

    def each(self, name: str) -> list[Fields]:
        """The objects of a list, the same each time."""
        if name not in self._inner:
            self._inner[name] = [
                self.reading.fields(node, self.about, f"{self.below(name)}[{index}]")
                for index, node in enumerate(self.items(name))
            ]
        self.ignore(name)
        return self._inner[name]

    def texts(self, name: str) -> list[str] | None:
        """A list of texts; None when it is not there."""
        if not self.has(name):
            self.ignore(name)
            return None
        found = []
        for index, node in enumerate(self.items(name)):
            if isinstance(node.value, str):
                found.append(node.value)
            else:
                self.wrong(f"{self.below(name)}[{index}] must be a text: put it in quotes", node.place)
        return found

    def strings(self, name: str) -> dict[str, str]:
        """An object of texts, as labels are."""
        node = self.take(name)
        found: dict[str, str] = {}
        if node is None:
            return found
        if not isinstance(node.value, dict):
            self.wrong(f"{self.below(name)} must be an object", node.place)
            return found
        for key, each in node.value.items():
            if isinstance(each.value, str):
                found[key] = each.value
            else:
                self.wrong(f"{self.below(name)}.{key} must be a text: put it in quotes", each.place)
        return found
