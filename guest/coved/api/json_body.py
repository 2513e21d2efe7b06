"""JSON as clients send it, read and refused as Docker's daemon (Go's encoding/json) does."""

import json
import re
from typing import Any

from coved.errors import InvalidParameter

EMPTY = "invalid JSON: got EOF while reading request body"

MAX_DEPTH = 100

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
# Where Python's decoder says that it expected something else, and how Go's says it.
_PLACES = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Invalid control character at": "in string literal",
}


def decode(data: bytes) -> Any:
    """The one JSON document in ``data``; raises ``InvalidParameter`` with Docker's words for anything else.

    Bytes that are no UTF-8 and halves of surrogate pairs become U+FFFD, as in Go; NaN and Infinity are refused.
    """
    text = data.decode("utf-8", "replace")
    if not text.strip(" \t\r\n"):
        raise InvalidParameter(EMPTY)
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InvalidParameter(_words(error)) from None
    except RecursionError:
        raise InvalidParameter("invalid JSON: exceeded max depth") from None
    except ValueError:
        raise InvalidParameter("invalid JSON: number out of range") from None
    _check_depth(document)
    return _without_halves(document) if _SURROGATE.search(text) else document


def _check_depth(document: Any) -> None:
    """No request needs more; what is stored and shown again must not exhaust a deeper stack than this one."""
    level, depth = [document], 0
    while level := [
        item
        for value in level
        if isinstance(value, (dict, list))
        for item in (value.values() if isinstance(value, dict) else value)
        if isinstance(item, (dict, list))
    ]:
        depth += 1
        if depth >= MAX_DEPTH:
            raise InvalidParameter("invalid JSON: exceeded max depth")


def _refuse_constant(name: str) -> Any:
    raise InvalidParameter(f"invalid JSON: invalid character '{name.lstrip('-')[0]}' looking for beginning of value")


def _words(error: json.JSONDecodeError) -> str:
    if error.msg == "Extra data":
        return "unexpected content after JSON"
    character = error.doc[error.pos : error.pos + 1]
    if error.msg.startswith("Unterminated string") or not character:
        return "invalid JSON: unexpected EOF"
    place = _PLACES.get(error.msg)
    if place is None and error.msg == "Expecting ',' delimiter":
        place = "after array element or object key:value pair"
    if place is None:
        return f"invalid JSON: {error}"
    return f"invalid JSON: invalid character {_quoted(character)} {place}"


def _quoted(character: str) -> str:
    if character == "'":
        return r"'\''"
    return f"'{character}'" if character.isprintable() else f"'{json.dumps(character)[1:-1]}'"


def _without_halves(document: Any) -> Any:
    text = json.dumps(document, ensure_ascii=False)
    return json.loads(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
