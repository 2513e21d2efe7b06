"""Filters as containerd has them (containerd, filters package), for what the build cache holds: ``type==regular,inuse``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from coved.errors import InvalidParameter

_CONDITION = re.compile(r"([a-z]+)(?:(==|!=|~=)(.*))?", re.DOTALL)


def matches(filters: Sequence[str], fields: Mapping[str, str]) -> bool:
    """Whether one of the filters fits, or there is none; within a filter all conditions have to. Raises InvalidParameter."""
    wanted = [each for each in filters if each]
    return not wanted or any(all(_fits(condition, fields) for condition in each.split(",")) for each in wanted)


def _fits(condition: str, fields: Mapping[str, str]) -> bool:
    match = _CONDITION.fullmatch(condition.strip())
    if match is None:
        raise InvalidParameter(f"failed to parse prune filters [{condition}]")
    name, operator, value = match.groups()
    value = (value or "").strip('"')
    here = fields.get(name, "")
    if operator is None:
        return bool(here)
    if operator == "~=":
        if len(value) > 1000:
            raise InvalidParameter("a filter is too long")
        return value in here  # no expressions of strangers: they can take for ever
    return (here == value) is (operator == "==")
