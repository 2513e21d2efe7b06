"""SOURCE_DATE_EPOCH (reproducible-builds.org/specs/source-date-epoch): the time that a build's image and history are to have."""

from __future__ import annotations

import re
from collections.abc import Mapping

from coved.build.errors import BadDockerfile
from coved.times import go_rfc3339

_NAME = "SOURCE_DATE_EPOCH"
_SECONDS = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


def asked_for(build_args: Mapping[str, str | None], defaults: Mapping[str, str]) -> str:
    """In RFC 3339's words, "" when it is not.

    Args:
        defaults: values of the ARGs before the first FROM.

    Raises BadDockerfile in BuildKit's words.
    """
    text = build_args.get(_NAME) or defaults.get(_NAME) or ""
    if not text:
        return ""
    wrong = BadDockerfile(f"invalid {_NAME}: {text}")
    if not _SECONDS.fullmatch(text):
        raise wrong
    try:
        return go_rfc3339(int(text) * 1_000_000_000)
    except (ValueError, OverflowError, OSError):  # no year that RFC 3339 could say
        raise wrong from None
