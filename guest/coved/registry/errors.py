"""What goes wrong with registries, in the words of dockerd and of Go's libraries, which clients and people know."""

from __future__ import annotations

import json

from coved.errors import EngineError

# Of the distribution project's registry/api/errcode and v2: an error with this message and no detail is its code alone.
_MESSAGES = {
    "UNKNOWN": "unknown error",
    "UNSUPPORTED": "The operation is unsupported.",
    "UNAUTHORIZED": "authentication required",
    "DENIED": "requested access to the resource is denied",
    "UNAVAILABLE": "service unavailable",
    "TOOMANYREQUESTS": "too many requests",
    "DIGEST_INVALID": "provided digest did not match uploaded content",
    "SIZE_INVALID": "provided length did not match content length",
    "NAME_INVALID": "invalid repository name",
    "TAG_INVALID": "manifest tag did not match URI",
    "NAME_UNKNOWN": "repository name not known to registry",
    "MANIFEST_UNKNOWN": "manifest unknown",
    "MANIFEST_INVALID": "manifest invalid",
    "MANIFEST_UNVERIFIED": "manifest failed signature verification",
    "MANIFEST_BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UNKNOWN": "blob unknown to registry",
    "BLOB_UPLOAD_UNKNOWN": "blob upload unknown to registry",
    "BLOB_UPLOAD_INVALID": "blob upload invalid",
    "PAGINATION_NUMBER_INVALID": "invalid number of results requested",
}
_STATUSES = {
    "UNSUPPORTED": 405, "UNAUTHORIZED": 401, "DENIED": 403, "UNAVAILABLE": 503, "TOOMANYREQUESTS": 429, "UNKNOWN": 500,
    "NAME_UNKNOWN": 404, "MANIFEST_UNKNOWN": 404, "BLOB_UNKNOWN": 404, "BLOB_UPLOAD_UNKNOWN": 404, "BLOB_UPLOAD_INVALID": 404,
}  # fmt: skip
_NOT_AGAIN = frozenset({"UNAUTHORIZED", "UNSUPPORTED", "DENIED", "TOOMANYREQUESTS", "NAME_UNKNOWN"})
_SHOWN_MAX = 4096
_ERRORS_MAX = 16


class RegistryError(EngineError):
    """A registry cannot be used, or does not do what it is asked (500).

    ``again``: it may do so the next time. ``spoke``: HTTP was spoken, so that its TLS settings are right.
    """

    def __init__(self, text: str, *, again: bool = True, spoke: bool = True, status: int = 500) -> None:
        super().__init__(text)
        self.again = again
        self.spoke = spoke
        self.status = status


class Refused(RegistryError):
    """A registry's own answer. ``code`` is the first of its error codes; ``bare`` when there is nothing beside the code."""

    def __init__(self, errors: list[tuple[str, str, bool]], http_status: int, *, listed: bool = True) -> None:
        """``errors``: code, message, and whether it has a detail. ``listed``: they came as the specification wants it."""
        self.listed = listed
        self.code = errors[0][0]
        self.message = errors[0][1]
        self.bare = not errors[0][2] and errors[0][1] in ("", _MESSAGES[self.code])
        self.http_status = http_status
        lines = [_line(*error) for error in errors]
        text = lines[0] if len(lines) == 1 else "errors:\n" + "".join(f"{line}\n" for line in lines)
        super().__init__(text, again=self.code not in _NOT_AGAIN, status=_STATUSES.get(self.code, 400))
        self.first = lines[0]


class BadStatus(RegistryError):
    """An answer that means nothing to a client of registries."""


class NotAuthorized(RegistryError):
    """What it takes to tell the registry who asks cannot be had; the cause is what went wrong with that."""


class PullRefused(RegistryError):
    """The image is not there, or not for whoever asks (404)."""


def _line(code: str, message: str, detailed: bool) -> str:
    words = code.lower().replace("_", " ")
    return words if not detailed and message in ("", _MESSAGES[code]) else f"{words}: {message or _MESSAGES[code]}"


def of_answer(
    status: int, reason: str, headers: dict[str, str], body: bytes, challenges: list[tuple[str, dict[str, str]]]
) -> RegistryError:
    """What an answer of another status than was hoped for means.

    Args:
        headers: with lower-case names.
        challenges: of WWW-Authenticate: scheme and parameters.
    """
    if not 400 <= status < 500:
        return BadStatus(f"received unexpected HTTP status: {status} {reason}", again=True)
    found = _parse(status, headers.get("content-type", ""), body)
    for scheme, parameters in challenges if status == 401 else ():
        code = {"invalid_token": "UNAUTHORIZED", "insufficient_scope": "DENIED"}.get(parameters.get("error", ""))
        if scheme == "bearer" and code is not None:
            first = (code, parameters.get("error_description") or _MESSAGES[code], True)
            return Refused([first, *_several(found)], status)
    if isinstance(found, list):
        return Refused(found, status)
    if isinstance(found, Refused):
        return found
    if status == 401:
        return Refused([("UNAUTHORIZED", _MESSAGES["UNAUTHORIZED"], True)], status)
    return found


def _several(found: list[tuple[str, str, bool]] | RegistryError) -> list[tuple[str, str, bool]]:
    if isinstance(found, list):
        return found
    return [(found.code, found.message, True)] if isinstance(found, Refused) else []


def _parse(status: int, content_type: str, body: bytes) -> list[tuple[str, str, bool]] | RegistryError:
    text = body[:_SHOWN_MAX].decode("utf-8", "replace")
    if content_type.partition(";")[0].strip().lower() not in ("application/json", "application/vnd.api+json"):
        code = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}.get(status, "UNKNOWN")
        return Refused([(code, text, True)], status, listed=False)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return BadStatus(
            f"error parsing HTTP {status} response body: invalid character: {json.dumps(text)}", again=False
        )
    if isinstance(document, dict) and isinstance(document.get("details"), str) and document["details"]:
        code = {401: "UNAUTHORIZED", 403: "DENIED", 429: "TOOMANYREQUESTS"}.get(status, "UNKNOWN")
        return Refused([(code, document["details"][:_SHOWN_MAX], True)], status, listed=False)
    items = document.get("errors") if isinstance(document, dict) else None
    found: list[tuple[str, str, bool]] = []
    for item in items[:_ERRORS_MAX] if isinstance(items, list) else []:
        if isinstance(item, dict):
            code = str(item.get("code"))
            code = code if code in _MESSAGES else "UNKNOWN"
            message = item.get("message")
            found.append(
                (code, message[:_SHOWN_MAX] if isinstance(message, str) else "", item.get("detail") is not None)
            )
    if not found:
        why = "no error details found in HTTP response body"
        return BadStatus(f"error parsing HTTP {status} response body: {why}: {json.dumps(text)}", again=False)
    return found


def pull_error(error: RegistryError, repository: str, name: str) -> RegistryError:
    """dockerd's translation of what a pull failed for: some answers mean that there is no such image (404).

    Args:
        repository: the familiar name without its tag.
        name: the familiar name.
    """
    if isinstance(error, Refused) and not error.bare:
        words = {
            "DENIED": f"pull access denied for {repository}, repository does not exist or may require 'docker login'",
            "MANIFEST_UNKNOWN": f"manifest for {name} not found",
            "NAME_UNKNOWN": f"repository {repository} not found",
        }.get(error.code)
        if words is not None:
            return PullRefused(f"{words}: {error.first}", status=404)
    return RegistryError(str(error))
