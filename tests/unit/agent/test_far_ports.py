"""Which ports of another computer's engine are to be here, by what it says of its containers."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from cove.agent.far_foreign import Foreign, published
from cove.errors import RemoteError
from cove.machine.remote import Address, Remote
from coved.link.protocol import PortForward


def port(number: Any, address: str = "0.0.0.0", proto: str = "tcp") -> dict[str, Any]:
    return {"IP": address, "PrivatePort": 80, "PublicPort": number, "Type": proto}


def test_a_port_is_had_once_at_the_machines_address() -> None:
    wanted, places, not_carried = published(
        [{"Ports": [port(8080), port(8080, "::"), {"PrivatePort": 81, "Type": "tcp"}]}]
    )
    assert wanted == [PortForward("tcp", 8080, "", 8080)]
    assert places == {8080: "127.0.0.1"}
    assert not not_carried


def test_where_it_answers_there_is_remembered() -> None:
    _, places, _ = published([{"Ports": [port(1, "192.0.2.7"), port(2, "127.0.0.1"), port(3, "10.0.0.1"), port(3)]}])
    assert places == {1: "192.0.2.7", 2: "127.0.0.1", 3: "127.0.0.1"}


def test_what_ssh_does_not_carry_is_told() -> None:
    wanted, _, not_carried = published([{"Ports": [port(53, proto="udp"), port(22), port(9, proto="sctp")]}])
    assert not wanted
    assert not_carried == ["22/tcp", "53/udp", "9/sctp"]


@pytest.mark.parametrize(
    "said",
    [
        None, {}, [None], [{"Ports": None}], [{"Ports": [3]}], [{"Ports": [port("x")]}], [{"Ports": [port(0), port(65536)]}],
        [{"Ports": [port(True)]}],
    ],
)  # fmt: skip
def test_what_is_not_as_it_should_be_is_nothing(said: Any) -> None:
    assert published(said) == ([], {}, [])


def test_what_is_to_be_typed_runs_nothing_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    def joined(*_given: object) -> Any:
        raise ConnectionRefusedError("nobody there")

    monkeypatch.setattr(Foreign, "_joined", joined)
    foreign = Foreign.__new__(Foreign)
    foreign.remote = Remote(Address("far", "ann", 2222), "ssh-ed25519 AAAA", "docker", "/x'; touch owned; '")
    with pytest.raises(RemoteError) as told:
        foreign._get(Any, "/info?a=1&b=2")  # type: ignore[arg-type]
    *here, there = shlex.split(told.value.hint.removeprefix("see whether this works: "))
    assert here == ["ssh", "-p", "2222", "ann@far"]
    assert shlex.split(there) == ["curl", "-s", "--unix-socket", foreign.remote.socket, "http://localhost/info?a=1&b=2"]
