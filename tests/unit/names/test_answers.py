"""What is said to queries, and the zones that it is looked up in."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence

import pytest
from coved.names import message
from coved.names.message import Query
from coved.names.responder import Responder
from coved.names.zone import Host, Zone

WEB, TWIN = (ipaddress.IPv4Address(f"10.0.0.{n}").packed for n in (2, 3))
ZONE = Zone(
    "Net.a", [Host(("10.0.0.2",), ("Web", "store", "dotted.name", "é")), Host(("10.0.0.3",), ("twin", "store", ""))]
)


def asked(name: str, type: int = message.A, class_: int = message.IN) -> Query:
    return Query(1, 0x0100, name, type, class_, b"\3any\0" + struct.pack("!HH", type, class_), 512, False)


class View:
    forwards = True
    dotless = True

    def addresses(self, name: str) -> Sequence[bytes] | None:
        return ZONE.addresses(name) or None

    def name_of(self, address: str) -> str:
        return ZONE.name_of(address)


def code(reply: bytes | None) -> int:
    assert reply is not None
    return message.code(reply)


def count(reply: bytes | None) -> int:
    assert reply is not None
    return int.from_bytes(reply[6:8], "big")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("web", [WEB]),
        ("web.net.a", [WEB]),
        ("store", [WEB, TWIN]),
        ("dotted.name", [WEB]),
        ("dotted.name.net.a", [WEB]),
        ("é".encode().decode("latin-1"), [WEB]),
        ("web.net", []),
        ("web.net.a.net.a", []),
        ("net.a", []),
        ("", []),
        (".net.a", []),
    ],
)
def test_names_have_their_network_behind_them_or_not(name: str, found: list[bytes]) -> None:
    assert [*ZONE.addresses(name)] == found


def test_an_address_has_the_first_name() -> None:
    assert ZONE.name_of("10.0.0.2") == "Web.Net.a"
    assert ZONE.name_of("10.0.0.9") == ""


def test_addresses_come_in_turns() -> None:
    responder = Responder(View())
    replies = [responder.answer(asked("store")) for _ in range(4)]
    firsts = [reply[-20:-16] if reply else b"" for reply in replies]
    assert sorted({*firsts}) == [WEB, TWIN]
    assert firsts[:2] == firsts[2:]


@pytest.mark.parametrize("type", [message.AAAA, 15, 16, 33, 65])
def test_a_known_name_has_nothing_but_addresses(type: int) -> None:
    reply = Responder(View()).answer(asked("web", type))
    assert (code(reply), count(reply)) == (message.NO_ERROR, 0)


def test_each_family_has_its_own_type_of_records() -> None:
    zone = Zone("net", [Host(("10.0.0.2", "fd00::2"), ("both",)), Host(("fd00::3",), ("six", "both"))])

    class Both(View):
        def addresses(self, name: str) -> Sequence[bytes] | None:
            return zone.addresses(name) or None

    responder = Responder(Both())
    second, third = (ipaddress.IPv6Address(f"fd00::{n}").packed for n in (2, 3))
    for name, type, found in (
        ("both", message.A, {ipaddress.IPv4Address("10.0.0.2").packed}),
        ("both", message.AAAA, {second, third}),
        ("both", message.ANY, {ipaddress.IPv4Address("10.0.0.2").packed, second, third}),
        ("six", message.A, set()),
        ("six", message.AAAA, {third}),
    ):
        reply = responder.answer(asked(name, type))
        assert reply is not None
        assert (code(reply), count(reply)) == (message.NO_ERROR, len(found))
        assert all(one in reply for one in found)
    assert zone.name_of("fd00::2") == "both.net"
    # 28 octets a record: 17 of them, and no 18th, fit into what every client takes.
    many = [bytes(14) + number.to_bytes(2, "big") for number in range(40)]
    reply = message.addresses(asked("both", message.AAAA), many, 512)
    assert (count(reply), reply[2] & 2, len(reply)) == (17, 2, 12 + 9 + 17 * 28)


def test_a_known_address_has_a_name() -> None:
    reply = Responder(View()).answer(asked("2.0.0.10.in-addr.arpa", message.PTR))
    assert reply is not None
    assert reply.endswith(b"\3Web\3Net\1a\0")
    assert Responder(View()).answer(asked("9.0.0.10.in-addr.arpa", message.PTR)) is None


def test_all_else_is_asked_elsewhere_or_is_a_failure() -> None:
    view = View()
    assert Responder(view).answer(asked("example.com")) is None
    assert Responder(view).answer(asked("nosuch")) is None
    assert Responder(view).answer(asked("web", class_=3)) is None
    view.forwards = False
    assert code(Responder(view).answer(asked("example.com"))) == message.SERVER_FAILURE
    assert code(Responder(view).answer(asked("web"))) == message.NO_ERROR


def test_one_label_is_not_asked_for_elsewhere_when_domains_are_appended_first() -> None:
    view = View()
    view.dotless = False
    reply = Responder(view).answer(asked("nosuch"))
    assert (code(reply), count(reply)) == (message.NO_ERROR, 0)
    assert Responder(view).answer(asked("nosuch.example")) is None
    assert Responder(view).answer(asked("nosuch", 15)) is None
