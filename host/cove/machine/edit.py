"""Changing a settings file and nothing of it but one key: comments, order and line ends are its owner's (decision 0042)."""

from __future__ import annotations

import re

_MARK = "cove-marks-this-value"


def with_key(text: str, name: str, value: str, below: str = "") -> str:
    """`text` with the top-level key `name` set to `value`, which is TOML.

    A key that is not there takes the place of a comment that says `# NAME = ...`, else it stands at the beginning, after the
    line `below` when the file begins with it: a key after a table's header would belong to the table.
    Raises `tomlkit.exceptions.TOMLKitError` for a text that is not TOML.
    """
    import tomlkit

    document = tomlkit.parse(text)
    if name in document:
        document[name] = tomlkit.value(value)
        return tomlkit.dumps(document)
    line, end = f"{name} = {value}", "\r\n" if "\r\n" in text else "\n"
    table = re.search(r"^[ \t]*\[", text, re.MULTILINE)
    place = re.search(rf"^#[ \t]*{re.escape(name)}[ \t]*=[^\r\n]*", text, re.MULTILINE)
    if place is not None and (table is None or place.start() < table.start()):
        return text[: place.start()] + line + text[place.end() :]
    start = len(below) if below and text.startswith(below) else 0
    return f"{text[:start]}{end}{line}{end}{text[start:]}" if start else f"{line}{end}{text}"


def without_key(text: str, name: str, default: str) -> str:
    """`text` without the top-level key `name`; where it stood, a comment says `default`, so that `with_key` finds the place again.

    Raises as `with_key` does.
    """
    import tomlkit

    document = tomlkit.parse(text)
    if name not in document:
        return text
    document[name] = _MARK
    pattern = rf"^[ \t]*[^\r\n=]*=[ \t]*[\"']{_MARK}[\"']"
    return re.sub(pattern, lambda _: f"# {name} = {default}", tomlkit.dumps(document), count=1, flags=re.MULTILINE)


def removed(text: str, name: str) -> str:
    """`text` without a top-level key or table, whatever it is. Raises as `with_key` does."""
    import tomlkit

    document = tomlkit.parse(text)
    del document[name]
    return tomlkit.dumps(document)
