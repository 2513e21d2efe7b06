"""On a socket between host and guest, others may connect: they get nothing."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from cove.local.sockets import connect
from cove.transport import vsock
from cove.transport.vsock import GuestSocket, greet
from coved.streams.frames import HELLO, frame
from coved.streams.knock import NONCE_SIZE, PROOF_SIZE, guests_proof
from coved.streams.vsock import MOST, VsockStreams


def knock(way: Any) -> socket.socket:
    made = connect(way.guest.socket, 10)
    made.settimeout(30)
    return made


def is_shut(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_who_has_another_key_is_told_by_the_guests_proof(vsock_way: Any) -> None:
    with knock(vsock_way) as connection, pytest.raises(ConnectionRefusedError, match="not this machine"):
        greet(connection, bytes(32))


def test_who_cannot_answer_is_turned_away(vsock_way: Any) -> None:
    with knock(vsock_way) as connection:
        connection.sendall(bytes(NONCE_SIZE))
        answer = b""
        while len(answer) < NONCE_SIZE + PROOF_SIZE:
            answer += connection.recv(100)
        connection.sendall(answer[NONCE_SIZE:])  # the guest's own proof is not the host's
        assert is_shut(connection)


def test_frames_of_who_has_not_answered_are_no_frames(vsock_way: Any) -> None:
    with knock(vsock_way) as connection:
        connection.sendall(frame(HELLO, 0, bytes(16)) + bytes(64))
        seen = b""
        while len(seen) < NONCE_SIZE + PROOF_SIZE:
            seen += connection.recv(100)
        assert is_shut(connection)


def test_many_who_only_knock_keep_nobody_out(vsock_way: Any) -> None:
    vsock_way.serve(lambda client: client.sendall(b"here"))
    knocking = [knock(vsock_way) for _ in range(2 * MOST)]
    transport = vsock_way.transport()
    assert transport.open_stream(vsock_way.target).recv(9) == b"here"
    transport.close()
    for one in knocking:
        one.close()


def test_a_new_agent_takes_the_place_of_one_that_seems_to_be_there(vsock_way: Any) -> None:
    def echo(client: socket.socket) -> None:
        while data := client.recv(100):
            client.sendall(data)

    vsock_way.serve(echo)
    old, new = vsock_way.transport(), vsock_way.transport()
    before = old.open_stream(vsock_way.target)
    stream = new.open_stream(vsock_way.target)
    with pytest.raises(OSError, match="broke: another agent of this machine has taken its place"):
        before.recv(1)
    stream.sendall(b"mine")
    assert stream.recv(9) == b"mine"
    for one in (old, new):
        one.close()


def test_another_vm_in_the_machines_place_learns_nothing() -> None:
    """It has the context id, and no key: the host proves nothing to it."""
    ours, theirs = socket.socketpair()
    heard: list[bytes] = []

    def other() -> None:
        hosts = theirs.recv(NONCE_SIZE)
        theirs.sendall(bytes(NONCE_SIZE) + guests_proof(bytes(32), hosts, bytes(NONCE_SIZE)))
        heard.append(theirs.recv(100))

    thread = threading.Thread(target=other)
    thread.start()
    with ours, pytest.raises(ConnectionRefusedError):
        greet(ours, b"k" * 32)
    thread.join(30)
    theirs.close()
    assert heard == [b""]


def test_only_the_host_may_knock() -> None:
    with socket.socket() as listener:
        streams = VsockStreams(listener, b"k" * 32)
        assert streams.is_host((socket.VMADDR_CID_HOST, 1234))
        assert not streams.is_host((1, 1234))  # this system itself
        assert not streams.is_host((3, 1234))  # another guest


def test_the_address_is_all_that_differs() -> None:
    assert GuestSocket(77, b"").address == (77, 0xC07E)
    vm = "90db8b89-0d35-4f79-8ce9-49ea0ac8b7cd"
    assert GuestSocket(vm, b"").address == (vm, "0000c07e-facb-11e6-bd58-64006a7986d3")


def test_a_python_without_such_sockets_is_an_error_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_HYPERV", raising=False)
    with pytest.raises(OSError, match="AF_HYPERV"):
        GuestSocket("90db8b89-0d35-4f79-8ce9-49ea0ac8b7cd", b"k" * 32).dial(1)


def test_a_host_without_its_device_says_so(tmp_path: Path) -> None:
    assert vsock.unusable(tmp_path / "none") == f"{tmp_path / 'none'}: No such file or directory"
    (tmp_path / "there").touch()
    assert vsock.unusable(tmp_path / "there") == ""
    assert 3 <= vsock.any_cid() <= 0xFFFF_FFFE
