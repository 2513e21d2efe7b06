"""DNS messages against whatever a container may send."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from coved.names import message
from coved.names.message import Malformed, addresses, answers, asking, failure, fitting, parse, pointer
from hypothesis import given
from hypothesis import strategies as st

LABEL = st.binary(min_size=1, max_size=63).filter(lambda label: b"." not in label)
LABELS = st.lists(LABEL, max_size=5).filter(lambda labels: sum(len(label) + 1 for label in labels) < 255)


def query(
    name: str, type: int = message.A, id: int = 7, flags: int = 0x0100, tail: bytes = b"", extra: int = 0
) -> bytes:
    encoded = b"".join(bytes((len(label),)) + label.encode() for label in name.split(".") if label) + b"\0"
    return struct.pack("!HHHHHH", id, flags, 1, 0, 0, extra) + encoded + struct.pack("!HH", type, 1) + tail


def records(reply: bytes) -> tuple[int, list[tuple[int, int, bytes]]]:
    """Flags, and type, time to live and data of the answers, read by RFC 1035 and not by the module's own code."""
    _, flags, questions, count, authorities, additional = struct.unpack_from("!HHHHHH", reply)
    assert (questions, authorities) == (1, 0)
    at = reply.index(b"\0", 12) + 5
    found = []
    for _ in range(count):
        pointer, type, class_, ttl, size = struct.unpack_from("!HHHIH", reply, at)
        assert (pointer, class_) == (0xC00C, 1)
        found.append((type, ttl, reply[at + 12 : at + 12 + size]))
        at += 12 + size
    assert len(reply) == at + 11 * additional
    return flags, found


def test_a_query_has_its_name_in_lower_case_and_its_question_as_it_came() -> None:
    asked = parse(query("Web.Example"))
    assert (asked.id, asked.name, asked.type, asked.class_) == (7, "web.example", 1, 1)
    assert asked.question == b"\3Web\7Example\0\0\1\0\1"
    assert (asked.limit, asked.extended) == (512, False)


@pytest.mark.parametrize(("size", "limit"), [(0, 512), (1232, 1232), (65535, 4096)])
def test_a_client_that_takes_more_is_given_more(size: int, limit: int) -> None:
    asked = parse(query("a", tail=struct.pack("!BHHIH", 0, 41, size, 0, 0), extra=1))
    assert (asked.limit, asked.extended) == (limit, True)
    reply = addresses(asked, [b"\1\2\3\4"], asked.limit)
    assert reply[10:12] == b"\0\1"
    assert reply.endswith(struct.pack("!BHHIH", 0, 41, 4096, 0, 0))
    assert records(reply) == (0x8180, [(1, 600, b"\1\2\3\4")])


def test_answers() -> None:
    asked = parse(query("web", id=0xFFFF))
    assert records(addresses(asked, [b"\1\2\3\4", b"\5\6\7\x08"])) == (
        0x8180,
        [(1, 600, b"\1\2\3\4"), (1, 600, b"\5\6\7\x08")],
    )
    assert records(addresses(asked, [])) == (0x8180, [])
    assert records(failure(asked, message.SERVER_FAILURE)) == (0x8182, [])
    assert records(pointer(asked, "web.net"))[1] == [(12, 600, b"\3web\3net\0")]
    for name in ("x" * 64, "", "a..b", ".".join(["x" * 60] * 5)):
        assert records(pointer(asked, name)) == (0x8182, [])


def test_what_does_not_fit_is_left_out_and_the_answer_says_so() -> None:
    asked = parse(query("web"))
    many = [ipaddress.IPv4Address(number).packed for number in range(200)]
    reply = addresses(asked, many, 512)
    flags, found = records(reply)
    assert flags & 0x0200
    assert [data for _, _, data in found] == many[: len(found)]
    assert 512 - 16 < len(reply) <= 512
    assert len(records(addresses(asked, many))[1]) == 200
    assert fitting(asked, b"x" * 512, 512) == b"x" * 512
    assert records(fitting(asked, b"x" * 513, 512)) == (0x8380, [])
    assert fitting(asked, b"x" * 513, 0) == b"x" * 513


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (query("a", flags=0x8100), None),  # an answer
        (query("a", flags=0x2800), message.NOT_IMPLEMENTED),  # an update
        (struct.pack("!HHHHHH", 7, 0, 0, 0, 0, 0), message.FORMAT_ERROR),
        (struct.pack("!HHHHHH", 7, 0, 2, 0, 0, 0) + query("a")[12:] * 2, message.FORMAT_ERROR),
        (struct.pack("!HHHHHH", 7, 0, 1, 1, 0, 0) + query("a")[12:], message.FORMAT_ERROR),
        (query("a")[:-1], message.FORMAT_ERROR),
        (query("a")[:12] + b"\xc0\x0c\0\1\0\1", message.FORMAT_ERROR),  # a name that points to itself
        (query("a")[:12] + b"\1a\xc0\x0c\0\1\0\1", message.FORMAT_ERROR),
        (query("a")[:12] + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", message.FORMAT_ERROR),
        (query(".".join(["x" * 63] * 4)), message.FORMAT_ERROR),  # 257 octets
    ],
)
def test_what_is_no_query(data: bytes, code: int | None) -> None:
    with pytest.raises(Malformed) as error:
        parse(data)
    if code is None:
        assert error.value.reply is None
    else:
        assert error.value.reply is not None
        assert len(error.value.reply) == 12
        assert error.value.reply[:2] == data[:2]
        assert error.value.reply[2] & 0x80
        assert message.code(error.value.reply) == code


@given(st.binary(max_size=600))
def test_any_bytes_are_a_query_or_are_refused(data: bytes) -> None:
    try:
        asked = parse(data)
    except Malformed as error:
        assert error.reply is None or (error.reply[:2] == data[:2] and len(error.reply) == 12)
    else:
        assert data[12:].startswith(asked.question)
        assert 512 <= asked.limit <= 4096
        assert records(failure(asked, message.REFUSED))[0] & 0x800F == 0x8005


@given(LABELS, st.integers(0, 65535), st.integers(0, 65535), st.binary(max_size=40), st.integers(0, 2))
def test_every_question_is_read_and_repeated(labels: list[bytes], id: int, type: int, tail: bytes, extra: int) -> None:
    question = b"".join(bytes((len(one),)) + one for one in labels) + b"\0" + struct.pack("!HH", type, 1)
    asked = parse(struct.pack("!HHHHHH", id, 0x0110, 1, 0, 0, extra) + question + tail)
    assert asked.question == question
    assert asked.name == b".".join(labels).lower().decode("latin-1")
    sent = asking(asked, 0x1234)
    assert sent[:2] == b"\x12\x34"
    assert sent[12:].startswith(question)
    again = parse(sent)
    assert (again.name, again.type, again.limit, again.extended) == (asked.name, type, asked.limit, asked.extended)


def test_an_answer_belongs_to_its_query() -> None:
    asked = parse(query("Web", id=1))
    reply = failure(asked, message.NO_DOMAIN)
    assert answers(reply, 1, asked.question)
    assert answers(reply.replace(b"Web", b"wEB"), 1, asked.question)
    assert not answers(reply, 2, asked.question)
    assert not answers(reply.replace(b"Web", b"Wes"), 1, asked.question)
    assert not answers(query("Web", id=1), 1, asked.question)
    assert not answers(reply[:11], 1, asked.question)
    refused = reply[:3] + b"\x05" + b"\0" * 8
    assert answers(refused, 1, asked.question)
    assert not answers(reply[:3] + b"\0" * 9, 1, asked.question)


@given(st.binary(max_size=100), st.binary(max_size=30))
def test_any_bytes_are_an_answer_or_none(data: bytes, question: bytes) -> None:
    answers(data, 7, question)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.18.172.in-addr.arpa", "172.18.0.2"),
        ("0.18.172.in-addr.arpa", ""),
        ("1.2.0.18.172.in-addr.arpa", ""),
        ("256.0.18.172.in-addr.arpa", ""),
        ("02.0.18.172.in-addr.arpa", ""),
        ("\u00b2.0.18.172.in-addr.arpa", ""),
        ("a.0.18.172.in-addr.arpa", ""),
        ("2.0.18.172", ""),
        ("x.ip6.arpa", ""),
        (f"7.{'0.' * 27}0.0.d.f.ip6.arpa", "fd00::7"),
        (f"{'0.' * 27}0.0.d.f.ip6.arpa", ""),
        (f"77.{'0.' * 27}0.0.d.f.ip6.arpa", ""),
        (f"g.{'0.' * 27}0.0.d.f.ip6.arpa", ""),
    ],
)
def test_addresses_of_reverse_names(name: str, address: str) -> None:
    assert message.address_of_pointer(name) == address
