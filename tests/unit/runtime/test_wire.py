import os
import socket

import pytest
from coved.runtime import wire


def test_messages_and_their_descriptors_stay_together_however_they_are_cut() -> None:
    left, right = socket.socketpair()
    read_end, write_end = os.pipe()
    data = wire.encode({"id": 1}) + wire.encode({"id": 2, "fds": 1})
    left.sendall(data[:3])
    left.sendall(data[3:11])
    socket.send_fds(left, [data[11:]], [write_end])
    left.close()
    reader = wire.FrameReader()
    messages = []
    while reader.receive(right):
        while (item := reader.next_message()) is not None:
            messages.append(item)
    (first, none), (second, (received,)) = messages
    assert (first["id"], none, second["id"]) == (1, [], 2)
    assert not os.get_inheritable(received)
    os.write(received, b"through")
    assert os.read(read_end, 100) == b"through"
    for fd in (received, read_end, write_end):
        os.close(fd)
    right.close()


@pytest.mark.parametrize(
    "data", [b"\xff\xff\xff\xff", b"\0\0\0\2[]", b"\0\0\0\1{", wire.encode({"fds": 1}), wire.encode({"fds": -1})]
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.sendall(data)
        reader = wire.FrameReader()
        reader.receive(right)
        with pytest.raises(wire.ProtocolError):
            reader.next_message()
