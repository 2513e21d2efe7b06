"""The codec against Google's own, with the same messages described at run time."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from coved.grpc import codec
from coved.grpc.codec import Message, WireError
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""Other processes may have the processors."""


@dataclass
class Leaf(Message):
    name: str = codec.string(1)
    size: int = codec.int64(2)


@dataclass
class Every(Message):
    a: int = codec.int32(1)
    b: int = codec.int64(2)
    c: int = codec.uint32(3)
    e: bool = codec.boolean(5)
    f: str = codec.string(6)
    g: bytes = codec.raw(7)
    leaf: Leaf | None = codec.message(8, Leaf)
    again: Every | None = codec.message(9, lambda: Every)
    names: list[str] = codec.strings(10)
    blobs: list[bytes] = codec.raws(11)
    leaves: list[Leaf] = codec.messages(13, Leaf)
    words: dict[str, str] = codec.string_map(14)
    things: dict[str, bytes] = codec.raw_map(15)
    trees: dict[str, Leaf] = codec.message_map(200, Leaf)
    when: int = codec.time(17)
    one_text: str | None = codec.optional_string(18, oneof="one")
    one_leaf: Leaf | None = codec.message(20, Leaf, oneof="one")


def google() -> type[Any]:
    """The same as ``Every``, by Google's runtime."""
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="every.proto", package="t", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    leaf = file.message_type.add(name="Leaf")
    leaf.field.add(name="name", number=1, type=proto.TYPE_STRING, label=proto.LABEL_OPTIONAL)
    leaf.field.add(name="size", number=2, type=proto.TYPE_INT64, label=proto.LABEL_OPTIONAL)
    every = file.message_type.add(name="Every")
    every.oneof_decl.add(name="one")

    def add(name: str, number: int, kind: Any, type_name: str = "", repeated: bool = False, one: bool = False) -> None:
        label = proto.LABEL_REPEATED if repeated else proto.LABEL_OPTIONAL
        field = every.field.add(name=name, number=number, type=kind, label=label)
        if type_name:
            field.type_name = type_name
        if one:
            field.oneof_index = 0

    def add_map(name: str, number: int, kind: Any, type_name: str = "") -> None:
        entry = every.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=proto.TYPE_STRING, label=proto.LABEL_OPTIONAL)
        value = entry.field.add(name="value", number=2, type=kind, label=proto.LABEL_OPTIONAL)
        if type_name:
            value.type_name = type_name
        add(name, number, proto.TYPE_MESSAGE, f".t.Every.{entry.name}", repeated=True)

    add("a", 1, proto.TYPE_INT32)
    add("b", 2, proto.TYPE_INT64)
    add("c", 3, proto.TYPE_UINT32)
    add("e", 5, proto.TYPE_BOOL)
    add("f", 6, proto.TYPE_STRING)
    add("g", 7, proto.TYPE_BYTES)
    add("leaf", 8, proto.TYPE_MESSAGE, ".t.Leaf")
    add("again", 9, proto.TYPE_MESSAGE, ".t.Every")
    add("names", 10, proto.TYPE_STRING, repeated=True)
    add("blobs", 11, proto.TYPE_BYTES, repeated=True)
    add("leaves", 13, proto.TYPE_MESSAGE, ".t.Leaf", repeated=True)
    add_map("words", 14, proto.TYPE_STRING)
    add_map("things", 15, proto.TYPE_BYTES)
    add_map("trees", 200, proto.TYPE_MESSAGE, ".t.Leaf")
    add("when", 17, proto.TYPE_MESSAGE, ".google.protobuf.Timestamp")
    add("one_text", 18, proto.TYPE_STRING, one=True)
    add("one_leaf", 20, proto.TYPE_MESSAGE, ".t.Leaf", one=True)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Every"))


GOOGLE = google()

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
int64s = st.integers(-(1 << 63), (1 << 63) - 1)
leaves = st.builds(Leaf, name=text, size=int64s)
MANY = 4


def everies(again: st.SearchStrategy[Every | None]) -> st.SearchStrategy[Every]:
    one = st.one_of(
        st.just({}),
        text.map(lambda each: {"one_text": each}),
        leaves.map(lambda each: {"one_leaf": each}),
    )
    rest = st.fixed_dictionaries(
        {},
        optional={
            "a": st.integers(-(1 << 31), (1 << 31) - 1),
            "b": int64s,
            "c": st.integers(0, (1 << 32) - 1),
            "e": st.booleans(),
            "f": text,
            "g": st.binary(),
            "leaf": st.none() | leaves,
            "again": again,
            "names": st.lists(text, max_size=MANY),
            "blobs": st.lists(st.binary(), max_size=MANY),
            "leaves": st.lists(leaves, max_size=MANY),
            "words": st.dictionaries(text, text, max_size=MANY),
            "things": st.dictionaries(text, st.binary(), max_size=MANY),
            "trees": st.dictionaries(text, leaves, max_size=MANY),
            "when": st.integers(-62_135_596_800 * 10**9, 253_402_300_799 * 10**9 + 999_999_999),
        },
    )
    return st.builds(lambda some, one: Every(**some, **one), rest, one)


every = st.recursive(everies(st.none()), everies, max_leaves=3)


def to_google(message: Every) -> Any:
    other = GOOGLE()
    for name in ("a", "b", "c", "e", "f", "g"):
        setattr(other, name, getattr(message, name))
    for name in ("leaf", "one_leaf"):
        if (leaf := getattr(message, name)) is not None:
            getattr(other, name).SetInParent()
            getattr(other, name).name, getattr(other, name).size = leaf.name, leaf.size
    if message.again is not None:
        other.again.CopyFrom(to_google(message.again))
    for name in ("names", "blobs"):
        getattr(other, name).extend(getattr(message, name))
    for leaf in message.leaves:
        other.leaves.add(name=leaf.name, size=leaf.size)
    other.words.update(message.words)
    other.things.update(message.things)
    for key, leaf in message.trees.items():
        other.trees[key].name, other.trees[key].size = leaf.name, leaf.size
    if message.when:
        other.when.seconds, other.when.nanos = divmod(message.when, 10**9)
    if message.one_text is not None:
        other.one_text = message.one_text
    return other


@UNHURRIED
@given(every)
def test_google_reads_what_we_write(message: Every) -> None:
    assert GOOGLE.FromString(message.encode()) == to_google(message)


@UNHURRIED
@given(every)
def test_we_read_what_google_writes(message: Every) -> None:
    assert Every.decode(to_google(message).SerializeToString()) == message


def timeless(message: Every) -> Every:
    again = None if message.again is None else timeless(message.again)
    return dataclasses.replace(message, when=0, again=again)


@UNHURRIED
@given(every, every)
def test_messages_that_come_in_parts_are_joined_as_google_joins_them(first: Every, second: Every) -> None:
    data = (
        timeless(first).encode() + second.encode()
    )  # of two times the last is right, whole: nobody sends one in parts
    assert to_google(Every.decode(data)) == GOOGLE.FromString(data)


@UNHURRIED
@given(st.binary(max_size=200))
def test_of_what_is_no_message_there_is_one_error(data: bytes) -> None:
    try:
        Every.decode(data).encode()
    except WireError:
        return
    GOOGLE.FromString(data)  # what we take, Google's takes


@UNHURRIED
@given(every, st.data())
def test_a_message_that_is_cut_short_raises_or_is_a_shorter_message(message: Every, data: st.DataObject) -> None:
    whole = message.encode()
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    try:
        Every.decode(cut)
    except WireError:
        with pytest.raises(DecodeError):
            GOOGLE.FromString(cut)


@UNHURRIED
@given(every)
def test_fields_nobody_knows_are_passed_over(message: Every) -> None:
    assert Leaf.decode(Leaf("x", 3).encode() + b"\xfa\x01\x03abc" + b"\xf5\x01abcd" + b"\xf3\x01\x08\x05\xf4\x01") == (
        Leaf("x", 3)
    )

    @dataclass
    class Nothing(Message):
        pass

    assert Nothing.decode(message.encode()) == Nothing()


def test_the_last_of_those_that_exclude_one_another_is_there() -> None:
    found = Every.decode(Every(one_leaf=Leaf("x")).encode() + Every(one_text="").encode())
    assert (found.one_leaf, found.one_text) == (None, "")


def nested(depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        size = bytearray()
        codec._put(size, len(data))
        data = b"\x4a" + bytes(size) + data
    return data


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x08", id="number cut short"),
        pytest.param(b"\x08" + b"\xff" * 10 + b"\x01", id="number too long"),
        pytest.param(b"\x32\x05abc", id="string cut short"),
        pytest.param(b"\x32\xff\xff\xff\xff\xff\xff\xff\xff\x7f", id="length beyond all bytes"),
        pytest.param(b"\x32\x01\xff", id="no UTF-8"),
        pytest.param(b"\x0a\x01a", id="bytes for a number"),
        pytest.param(b"\x30\x01", id="number for a string"),
        pytest.param(b"\x35abcd", id="32 bits for a string"),
        pytest.param(b"\x00\x01", id="field 0"),
        pytest.param(b"\xff\xff\xff\xff\x7f\x01", id="field beyond 29 bits"),
        pytest.param(b"\xfb\x01\xf4\x02", id="end of another group"),
        pytest.param(b"\xfb\x01", id="group without end"),
        pytest.param(b"\xfc\x01", id="end of no group"),
        pytest.param(b"\xfe\x01", id="wire type 6"),
        pytest.param(b"\xf9\x01abc", id="64 bits cut short"),
        pytest.param(b"\xfb\x01" * 1000, id="groups without end"),
        pytest.param(nested(101), id="nested too deep"),
        pytest.param(b"\x8a\x01\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x10\x00", id="time beyond all years"),
        pytest.param(b"\x8a\x01\x06\x10\xff\xff\xff\xff\x0f", id="nanoseconds beyond a second"),
        pytest.param(b"\x72\x02\x08\x01", id="number as a map's key"),
        pytest.param(b"\x6a\x00" * (codec.ELEMENTS + 1), id="list without end"),
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(WireError):
        Every.decode(data)


def test_depth_that_is_allowed() -> None:
    found: Every | None = Every.decode(nested(99))
    depth = 0
    while found is not None and found.again is not None:
        found = found.again
        depth += 1
    assert depth == 99


def test_text_that_is_none_is_written_all_the_same() -> None:
    assert Leaf.decode(Leaf(name="a\udc80").encode()).name == "a?"


def test_paths_keep_their_bytes() -> None:
    @dataclass
    class File(Message):
        name: str = codec.path(1)

    assert File.decode(b"\x0a\x02a\x80") == File("a\udc80")
    assert File("a\udc80").encode() == b"\x0a\x02a\x80"
