"""Protocol buffers, version 3 (protobuf.dev/programming-guides/encoding): messages as dataclasses.

    @dataclass
    class Person(Message):
        name: str = string(1)
        friends: list[Person] = messages(2, lambda: Person)

A message is made with its defaults, as the language has it. Fields that it does not know are passed over. Everything that comes
is a stranger's: whatever is wrong with it raises ``WireError``, and nothing else.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

M = TypeVar("M", bound="Message")
Lazy = type[M] | Callable[[], type[M]]
"""A type of messages, or what gives it when it is needed first (one that is yet to be defined)."""

DEPTH = 100
"""How deep messages may nest; the limit of Google's own implementations."""
ELEMENTS = 1 << 18
"""How many elements a list or a map may have: two bytes on the wire must not become hundreds in memory without end."""

_VARINT, _FIXED64, _LENGTH, _GROUP, _GROUP_END, _FIXED32 = range(6)
_NS = 1_000_000_000
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""Years 1 to 9999, all that a Timestamp may say."""


class WireError(ValueError):
    """The bytes are no message of that type."""


@dataclass(frozen=True)
class _Kind:
    """How one value is written and read: ``write`` and ``read`` for varints and lengths, whichever ``wire`` is."""

    wire: int
    default: Any
    write: Callable[[Any], Any]
    """To an unsigned number, or to bytes."""
    read: Callable[[Any, int], Any]
    """From an unsigned number, or from a view of bytes at a depth."""


@dataclass(frozen=True)
class _Field:
    number: int
    kind: _Kind
    shape: str = ""
    """"" is one value, left out when it is the default; optional, repeated or map."""
    oneof: str = ""
    message: Lazy[Any] | None = None

    def type(self) -> type[Message]:
        assert self.message is not None
        return self.message if isinstance(self.message, type) else self.message()


class Message:
    """Base of all messages, which are dataclasses with fields made by the functions below."""

    __slots__ = ()
    _plan: ClassVar[Any] = None

    def encode(self) -> bytes:
        out = bytearray()
        _write(self, out)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes | bytearray | memoryview) -> Self:
        """Raises ``WireError``."""
        message = cls()
        _merge(message, memoryview(data), 0)
        return message


# -- the kinds of values


def _signed(bits: int) -> Callable[[int, int], int]:
    mask, sign = (1 << bits) - 1, 1 << (bits - 1)
    return lambda value, _: ((value & mask) ^ sign) - sign


def _read_string(view: memoryview, _: int) -> str:
    try:
        return str(view, "utf-8")
    except UnicodeDecodeError:
        raise WireError("a string is not UTF-8") from None


def _write_time(value: int) -> bytes:
    seconds, nanos = divmod(value, _NS)
    out = bytearray()
    if seconds:
        out.append(1 << 3)
        _put(out, seconds & (1 << 64) - 1)
    if nanos:
        out.append(2 << 3)
        _put(out, nanos)
    return bytes(out)


def _read_time(view: memoryview, _: int) -> int:
    stamp = _Timestamp.decode(view)
    if not 0 <= stamp.nanos < _NS or not _FIRST_SECOND <= stamp.seconds <= _LAST_SECOND:
        raise WireError("a time is out of range")
    return stamp.seconds * _NS + stamp.nanos


_INT64 = _Kind(_VARINT, 0, lambda value: int(value) & (1 << 64) - 1, _signed(64))
_INT32 = _Kind(_VARINT, 0, lambda value: int(value) & (1 << 64) - 1, _signed(32))
_UINT32 = _Kind(_VARINT, 0, lambda value: int(value) & (1 << 32) - 1, lambda value, _: value & (1 << 32) - 1)
_BOOL = _Kind(_VARINT, False, int, lambda value, _: bool(value))
# What comes from elsewhere, such as a name in a message of the system, may hold what is no text.
_STRING = _Kind(_LENGTH, "", lambda value: value.encode("utf-8", "replace"), _read_string)
_PATH = _Kind(
    _LENGTH,
    "",
    lambda value: value.encode("utf-8", "surrogateescape"),
    lambda view, _: str(view, "utf-8", "surrogateescape"),
)
_BYTES = _Kind(_LENGTH, b"", bytes, lambda view, _: bytes(view))
_TIME = _Kind(_LENGTH, 0, _write_time, _read_time)
_MESSAGE = _Kind(_LENGTH, None, lambda value: value.encode(), lambda view, _: view)


# -- fields


def _scalar(number: int, kind: _Kind) -> Any:
    return dataclasses.field(default=kind.default, metadata={"proto": _Field(number, kind)})


def _list(number: int, kind: _Kind) -> Any:
    return dataclasses.field(default_factory=list, metadata={"proto": _Field(number, kind, "repeated")})


def int32(number: int) -> int:
    return _scalar(number, _INT32)  # type: ignore[no-any-return]


def int64(number: int) -> int:
    return _scalar(number, _INT64)  # type: ignore[no-any-return]


def uint32(number: int) -> int:
    return _scalar(number, _UINT32)  # type: ignore[no-any-return]


def boolean(number: int) -> bool:
    return _scalar(number, _BOOL)  # type: ignore[no-any-return]


def string(number: int) -> str:
    return _scalar(number, _STRING)  # type: ignore[no-any-return]


def path(number: int) -> str:
    """A string that may be any bytes, as names of files are (``os.fsdecode``)."""
    return _scalar(number, _PATH)  # type: ignore[no-any-return]


def raw(number: int) -> bytes:
    return _scalar(number, _BYTES)  # type: ignore[no-any-return]


def time(number: int) -> int:
    """A google.protobuf.Timestamp, as nanoseconds since the epoch; 0 is none."""
    return _scalar(number, _TIME)  # type: ignore[no-any-return]


def message(number: int, type: Lazy[M], *, oneof: str = "") -> M | None:
    """None is not there. Of the fields with the same ``oneof`` one at most is there."""
    field = _Field(number, _MESSAGE, "optional", oneof, type)
    return dataclasses.field(default=None, metadata={"proto": field})


def optional_string(number: int, *, oneof: str = "") -> str | None:
    field = _Field(number, _STRING, "optional", oneof)
    return dataclasses.field(default=None, metadata={"proto": field})


def strings(number: int) -> list[str]:
    return _list(number, _STRING)  # type: ignore[no-any-return]


def raws(number: int) -> list[bytes]:
    return _list(number, _BYTES)  # type: ignore[no-any-return]


def messages(number: int, type: Lazy[M]) -> list[M]:
    field = _Field(number, _MESSAGE, "repeated", message=type)
    return dataclasses.field(default_factory=list, metadata={"proto": field})


def string_map(number: int) -> dict[str, str]:
    return dataclasses.field(default_factory=dict, metadata={"proto": _Field(number, _STRING, "map")})


def raw_map(number: int) -> dict[str, bytes]:
    return dataclasses.field(default_factory=dict, metadata={"proto": _Field(number, _BYTES, "map")})


def message_map(number: int, type: Lazy[M]) -> dict[str, M]:
    field = _Field(number, _MESSAGE, "map", message=type)
    return dataclasses.field(default_factory=dict, metadata={"proto": field})


@dataclass
class _Timestamp(Message):
    seconds: int = int64(1)
    nanos: int = int32(2)


# -- writing


@dataclass(frozen=True)
class _Plan:
    """What there is to know of a type, found out once."""

    writers: tuple[tuple[str, int, bytes, _Field], ...]
    """Attribute, wire type and tag, by their numbers."""
    readers: Mapping[int, tuple[str, _Field]]
    oneofs: Mapping[str, tuple[str, ...]]


def _plan_of(type: type[Message]) -> _Plan:
    plan = type.__dict__.get("_plan")
    if plan is None:
        found: list[tuple[str, _Field]] = [(each.name, each.metadata["proto"]) for each in dataclasses.fields(type)]  # type: ignore[arg-type]
        found.sort(key=lambda pair: pair[1].number)
        writers = []
        oneofs: dict[str, tuple[str, ...]] = {}
        for name, field in found:
            wire = _LENGTH if field.shape == "map" else field.kind.wire
            tag = bytearray()
            _put(tag, field.number << 3 | wire)
            writers.append((name, wire, bytes(tag), field))
            if field.oneof:
                oneofs[field.oneof] = (*oneofs.get(field.oneof, ()), name)
        plan = _Plan(tuple(writers), {field.number: (name, field) for name, field in found}, oneofs)
        type._plan = plan
    assert isinstance(plan, _Plan)
    return plan


def _put(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _put_value(out: bytearray, tag: bytes, kind: _Kind, value: Any) -> None:
    out += tag
    written = kind.write(value)
    if kind.wire == _VARINT:
        _put(out, written)
    else:
        _put(out, len(written))
        out += written


def _write(message: Message, out: bytearray) -> None:
    for name, _, tag, field in _plan_of(type(message)).writers:
        value = getattr(message, name)
        shape, kind = field.shape, field.kind
        if not shape:
            if value:
                _put_value(out, tag, kind, value)
        elif shape == "optional":
            if value is not None:
                _put_value(out, tag, kind, value)
        elif not value:
            continue
        elif shape == "map":
            for key, each in value.items():
                entry = bytearray()
                _put_value(entry, b"\x0a", _STRING, key)
                _put_value(entry, b"\x12", kind, each)
                out += tag
                _put(out, len(entry))
                out += entry
        else:
            for each in value:
                _put_value(out, tag, kind, each)


# -- reading


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """The number at ``at``, and where it ends."""
    value = shift = 0
    while at < end:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
        if shift >= 70:
            raise WireError("a number is longer than ten bytes")
    raise WireError("a number is cut short")


def _tag(view: memoryview, at: int, end: int) -> tuple[int, int, int]:
    """Number and wire type of the field at ``at``, and where its value begins."""
    tag, at = _varint(view, at, end)
    if not 8 <= tag < 1 << 32:
        raise WireError("a field's number is out of range")
    return tag >> 3, tag & 7, at


def _length(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """Where the bytes begin whose length is at ``at``, and where they end."""
    size, at = _varint(view, at, end)
    if size > end - at:
        raise WireError("a field is cut short")
    return at, at + size


def _skip(view: memoryview, at: int, end: int, number: int, wire: int, depth: int) -> int:
    if wire == _VARINT:
        return _varint(view, at, end)[1]
    if wire == _LENGTH:
        return _length(view, at, end)[1]
    if wire in (_FIXED32, _FIXED64):
        at += 4 if wire == _FIXED32 else 8
        if at > end:
            raise WireError("a field is cut short")
        return at
    if wire != _GROUP:
        raise WireError(f"there is no wire type {wire} here")
    if depth >= DEPTH:
        raise WireError("groups nest too deep")
    while True:
        inner, wire, at = _tag(view, at, end)
        if wire == _GROUP_END:
            if inner != number:
                raise WireError("a group ends that did not begin")
            return at
        at = _skip(view, at, end, inner, wire, depth + 1)


def _merge(message: Message, view: memoryview, depth: int) -> None:
    """Reads ``view`` into a message: what comes twice is joined, or the last one is right, as the language has it."""
    if depth >= DEPTH:
        raise WireError("messages nest too deep")
    plan = _plan_of(type(message))
    readers = plan.readers
    at, end = 0, len(view)
    while at < end:
        number, wire, at = _tag(view, at, end)
        known = readers.get(number)
        if known is None:
            at = _skip(view, at, end, number, wire, depth)
            continue
        name, field = known
        shape, kind = field.shape, field.kind
        if wire == _VARINT and kind.wire == _VARINT:
            number, at = _varint(view, at, end)
            value: Any = kind.read(number, depth)
        elif wire != _LENGTH or kind.wire == _VARINT:
            raise WireError(f"field {number} has the wire type {wire}")
        else:
            start, at = _length(view, at, end)
            inner = view[start:at]
            if shape == "repeated":
                _append(getattr(message, name), field, inner, depth)
                continue
            if shape == "map":
                _put_entry(getattr(message, name), field, inner, depth)
                continue
            if field.message is not None:
                value = getattr(message, name)
                if value is None:
                    value = field.type()()
                _merge(value, inner, depth + 1)
            else:
                value = kind.read(inner, depth)
        if field.oneof:
            for other in plan.oneofs[field.oneof]:
                setattr(message, other, None)
        setattr(message, name, value)


def _append(values: list[Any], field: _Field, view: memoryview, depth: int) -> None:
    if len(values) >= ELEMENTS:
        raise WireError("a list is too long")
    if field.message is None:
        values.append(field.kind.read(view, depth))
        return
    element = field.type()()
    _merge(element, view, depth + 1)
    values.append(element)


def _put_entry(values: dict[str, Any], field: _Field, view: memoryview, depth: int) -> None:
    key = ""
    value: Any = field.kind.default if field.message is None else field.type()()
    at, end = 0, len(view)
    while at < end:
        number, wire, at = _tag(view, at, end)
        if number not in (1, 2):
            at = _skip(view, at, end, number, wire, depth)
            continue
        if wire != _LENGTH:
            raise WireError(f"a map's entry has the wire type {wire}")
        start, at = _length(view, at, end)
        if number == 1:
            key = _read_string(view[start:at], depth)
        elif field.message is None:
            value = field.kind.read(view[start:at], depth)
        else:
            _merge(value, view[start:at], depth + 1)
    if len(values) >= ELEMENTS:
        raise WireError("a map is too long")
    values[key] = value
