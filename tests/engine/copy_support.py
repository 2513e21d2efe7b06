"""What the tests of copying share: archives made member by member, and containers that say when they are ready."""

from __future__ import annotations

import io
import tarfile
from typing import Any


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for member, data in members:
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return output.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, **values: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, 0o755 if kind == tarfile.DIRTYPE else 0o644
    for key, value in values.items():
        setattr(info, key, value)
    return info


def up(one: Any) -> Any:
    for line in one.logs(stream=True, follow=True):
        if b"up" in line:
            return one
    raise AssertionError("the container ended")
