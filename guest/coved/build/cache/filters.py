"""Filters for what the build cache holds: containerd's (filters package), ``type==regular,inuse``, and those of ``POST /build/prune``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coved.errors import InvalidParameter
from coved.filters import Filters

_CONDITION = re.compile(r"([a-z]+)(?:(==|!=|~=)(.*))?", re.DOTALL)
_FIELDS = ("id", "parent", "type", "description", "inuse", "shared", "private")
_LABELS = ("label", "label!")
"""Of ``docker system prune``. Nothing here has labels; dockerd would let them be, and remove what nobody asked for."""
_TIMES = ("until", "unused-for")


@dataclass(frozen=True)
class Condition:
    name: str
    operator: str = ""
    """"" asks whether there is such a field; else "==", "!=" or "~=" (contains)."""
    value: str = ""

    def fits(self, fields: Mapping[str, str]) -> bool:
        here = fields.get(self.name, "")
        if self.operator == "!=":
            return here != self.value
        if not self.operator or not here:
            return bool(here)
        # No expressions of strangers: they can take for ever.
        return here == self.value if self.operator == "==" else self.value in here


Filter = Sequence[Condition]
"""All of its conditions have to fit; of several filters, one has to."""


def parse(texts: Sequence[str]) -> list[Filter]:
    """containerd's; none for such as say nothing. Raises InvalidParameter."""
    return [[_condition(each) for each in text.split(",")] for text in texts if text]


def _condition(text: str) -> Condition:
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise InvalidParameter(f"failed to parse prune filters [{text}]")
    name, operator, value = match.groups()
    return Condition(name, operator or "", (value or "").strip('"'))


def of_api(given: Filters) -> tuple[list[Filter], str]:
    """Those of the API; and the time, or the age, since which nothing may have been used ("" for none).

    Raises InvalidParameter in dockerd's words (moby, builder/builder-next): for a filter that it does not know, above all.
    """
    given.validate({*_FIELDS, *_LABELS, *_TIMES})
    times = [name for name in _TIMES if name in given]
    if len(times) > 1:
        raise InvalidParameter('conflicting filters: "until" and "unused-for"')
    if any(len(given.get(name)) > 1 for name in (*_FIELDS, *_TIMES)):
        raise InvalidParameter("filters expect only one value")
    until = given.get(times[0])[0] if times else ""
    conditions = [Condition("label")] if "label" in given else []
    for name in _FIELDS:
        if name in given:
            conditions.append(Condition(name, "~=" if name == "id" else "==", given.get(name)[0]))
        elif name in given.names():
            conditions.append(Condition(name))
    return [conditions] if conditions else [], until


def matches(filters: Sequence[Filter], fields: Mapping[str, str]) -> bool:
    """Whether one of the filters fits, or there is none."""
    return not filters or any(all(condition.fits(fields) for condition in each) for each in filters)
