"""The ``filters`` argument of list, prune and events calls.

Docker's clients send a JSON map of lists, ``{"label": ["a=b"]}``; those older than API 1.22 send a map of maps,
``{"label": {"a=b": true}}`` (Engine API, "filters"). Both come in here and are the same thing afterwards.
"""

import json
from collections.abc import Collection, Mapping

from coved.errors import InvalidParameter


class Filters:
    """An immutable map from filter name to the values asked for; an absent name puts no condition."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, list[str]] | None = None) -> None:
        self._values: dict[str, list[str]] = {name: list(wanted) for name, wanted in (values or {}).items()}

    @classmethod
    def parse(cls, text: str) -> "Filters":
        """Reads the query argument; raises ``InvalidParameter`` for anything but the two forms above."""
        if not text:
            return cls()
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise InvalidParameter("invalid filter") from None
        if document is None:
            return cls()
        if not isinstance(document, dict):
            raise InvalidParameter("invalid filter")
        values: dict[str, list[str]] = {}
        for name, wanted in document.items():
            if isinstance(wanted, dict):
                if not all(isinstance(on, bool) for on in wanted.values()):
                    raise InvalidParameter("invalid filter")
                wanted = [value for value, on in wanted.items() if on]
            if not isinstance(wanted, list) or not all(isinstance(value, str) for value in wanted):
                raise InvalidParameter("invalid filter")
            # A lone half of a surrogate pair cannot be written out again; Go reads it as U+FFFD.
            values[_clean(name)] = [_clean(value) for value in wanted]
        return cls(values)

    def __bool__(self) -> bool:
        return any(self._values.values())

    def __contains__(self, name: str) -> bool:
        return bool(self._values.get(name))

    def get(self, name: str) -> list[str]:
        """The values asked for, [] when there is no such condition."""
        return self._values.get(name, [])

    def adding(self, name: str, value: str) -> "Filters":
        """These conditions and one more value."""
        return Filters({**self._values, name: [*self.get(name), value]})

    def names(self) -> Collection[str]:
        return self._values.keys()

    def validate(self, allowed: Collection[str]) -> None:
        """Refuses a filter that the call does not know, rather than listing or pruning more than was meant."""
        for name in self._values:
            if name not in allowed:
                raise InvalidParameter(f"invalid filter '{name}'")

    def flag(self, name: str, default: bool = False) -> bool:
        """A filter whose value is a boolean, such as ``dangling``."""
        wanted = self.get(name)
        if not wanted:
            return default
        values = {_TRUTH.get(value) for value in wanted}
        if len(values) != 1 or None in values:
            raise InvalidParameter(f"invalid filter '{name}=[{' '.join(wanted)}]'")
        return values == {True}

    def found_in(self, name: str, text: str) -> bool:
        """Whether a value of the filter is ``text``, or a regular expression that is found in it, as dockerd has it."""
        wanted = self.get(name)
        return not wanted or text in wanted or any(found(pattern, text) for pattern in wanted)

    def matches_labels(self, labels: Mapping[str, str]) -> bool:
        """All of ``label=`` (key, or key=value) and none of ``label!=`` hold for ``labels``."""
        return all(_has_label(labels, wanted) for wanted in self.get("label")) and not any(
            _has_label(labels, unwanted) for unwanted in self.get("label!")
        )


def found(pattern: str, text: str) -> bool:
    """Whether a regular expression is found in ``text``; what is none is found nowhere."""
    import re  # few calls ask for it

    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False


_TRUTH = {"1": True, "true": True, "True": True, "t": True, "0": False, "false": False, "False": False, "f": False}


def _clean(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def _has_label(labels: Mapping[str, str], wanted: str) -> bool:
    key, equals, value = wanted.partition("=")
    return key in labels and (not equals or labels[key] == value)
