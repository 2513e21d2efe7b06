"""Entries of volumes as an archive."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable

from cove.kube.play.plan import Entry


def pack(entries: Iterable[Entry]) -> bytes:
    """In the order given, which has folders before what is in them."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mode, member.gid = entry.mode, entry.gid
            if entry.data is None:
                member.type = tarfile.DIRTYPE
                tar.addfile(member)
            else:
                member.size = len(entry.data)
                tar.addfile(member, io.BytesIO(entry.data))
    return output.getvalue()
