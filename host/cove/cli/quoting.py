"""Text in quotes, as Go's fmt prints it with %q."""

from __future__ import annotations

_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def quoted(text: str) -> str:
    """`text` as Go's %q prints it: nothing in it moves a terminal's cursor. Bytes that are not UTF-8 are `\\xff`."""
    return '"' + "".join(_ESCAPES.get(one) or (one if one.isprintable() else _escaped(ord(one))) for one in text) + '"'


def _escaped(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # how Python carries such bytes (PEP 383)
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
