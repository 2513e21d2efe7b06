"""What the history says of a build: that which BuildKit records, and nothing that is secret."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import secrets
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from coved.build.request import Result
from coved.buildkit.errors import to_grpc, vertex_detail
from coved.buildkit.messages import BuildHistoryRecord, Descriptor, Exporter
from coved.dockerfile.instructions import Location
from coved.grpc.status import Code, Status
from coved.outside import masked, without_credentials

CANCELED = "context canceled"
ERROR_TYPE = "application/vnd.googeapis.google.rpc.status+proto"
"""Spelt as BuildKit spells it."""
_INTERNAL = "internal error, see the engine's log"
_ID_LETTERS = string.digits + string.ascii_lowercase
_ID_LENGTH = 25
_PROXY = re.compile(r"build-arg:(?!NO_)\w+_PROXY", re.IGNORECASE)
"""Its value is one address, which needs no scheme."""
_IMPORTS = "cache-imports"
_SHOWN_OF_IMPORTS = ("ref", "scope")


def new_ref() -> str:
    """For a build whose client gives it none; as BuildKit's are."""
    return "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))


def attributes(given: Mapping[str, str]) -> dict[str, str]:
    """A frontend's, without names and passwords in addresses, and without what opens caches. Build arguments are in it, as in BuildKit."""
    found = {name: (masked if _PROXY.fullmatch(name) else without_credentials)(value) for name, value in given.items()}
    if _IMPORTS in found:
        found[_IMPORTS] = _imports(found[_IMPORTS])
    return found


def _imports(text: str) -> str:
    """Caches of some kinds are asked for with keys, which are among their attributes."""
    try:
        every = [
            {"Type": one["Type"], "Attrs": {key: one["Attrs"][key] for key in _SHOWN_OF_IMPORTS if key in one["Attrs"]}}
            for one in json.loads(text)
        ]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return json.dumps(every)


def begun(
    ref: str, frontend: str, given: Mapping[str, str], exporters: Sequence[Exporter], created_ns: int
) -> BuildHistoryRecord:
    return BuildHistoryRecord(
        ref=ref,
        frontend=frontend,
        frontend_attrs=attributes(given),
        exporters=[*exporters],
        created_at=created_ns,
    )


def response(result: Result) -> dict[str, str]:
    """What the exporters answer."""
    if not result.image_id:
        return {}
    found = {"containerimage.config.digest": result.image_id, "containerimage.digest": result.image_id}
    if result.names:
        found["image.name"] = ",".join(result.names)
    return found


def as_clients_have_it(record: BuildHistoryRecord) -> tuple[BuildHistoryRecord, bytes]:
    """The details of an error are in the content store, as clients look for them there; this gives them, too."""
    if record.error is None or not record.error.details:
        return record, b""
    data = record.error.encode()
    where = Descriptor(ERROR_TYPE, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    return replace(record, error=Status(record.error.code, record.error.message), external_error=where), data


def canceled() -> Status:
    return Status(Code.CANCELLED, CANCELED)


def state(record: BuildHistoryRecord) -> str:
    """running, completed, failed or canceled."""
    if not record.completed_at:
        return "running"
    if record.error is None:
        return "completed"
    return "canceled" if record.error.code == Code.CANCELLED else "failed"


@dataclass(frozen=True)
class Lines:
    """Of the Dockerfile, whose text is all of it."""

    filename: str
    text: str
    location: Location


def failed_lines(error: Status) -> Lines | None:
    """Those that went wrong, if the error tells."""
    for detail in error.details:
        if not detail.type_url.endswith("errdefs.Source+json"):
            continue
        with contextlib.suppress(
            ValueError, LookupError, TypeError, OverflowError, RecursionError
        ):  # it may be a client's
            told = json.loads(detail.value)
            lines = told["ranges"][0]
            return Lines(
                str(told["info"]["filename"]),
                base64.b64decode(told["info"]["data"]).decode("utf-8", "replace"),
                Location(int(lines["start"]["line"]), int(lines["end"]["line"])),
            )
    return None


def failure(error: BaseException, vertex: str = "") -> Status:
    """Why a build failed; ``vertex`` is the step that did."""
    told = to_grpc(error)
    if told is None:
        return Status(Code.UNKNOWN, _INTERNAL)
    details = [*told.details, vertex_detail(vertex)] if vertex else [*told.details]
    return Status(int(told.code), without_credentials(told.message), details)
