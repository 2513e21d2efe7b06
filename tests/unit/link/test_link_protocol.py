"""The link's wire format: whatever arrives is either a message or refused, and never kept without bound."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import pytest
from coved.link.protocol import (
    MAX_FRAME,
    MAX_PORTS,
    Activity,
    FrameDecoder,
    Hello,
    News,
    PortForward,
    ProtocolError,
    Publish,
    Ready,
    Reply,
    Shared,
    SharedFolder,
    Shares,
    Shutdown,
    Stopping,
    Sync,
    Time,
    Unpublish,
    WantShares,
    encode,
    parse_guest_message,
    parse_host_message,
)
from coved.outside import Outside

FOLDER = SharedFolder("folder0", "/home/me \u00fc", False, "9p")
PORT = PortForward("udp", 49001, "127.0.0.1", 53)
OUTSIDE = Outside("http://a:1", "http://b:2", "c", "-----BEGIN", proxies_in_containers=True)


def frame(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


@pytest.mark.parametrize(
    "message",
    [
        Hello(1, 1_700_000_000_000_000_000),
        Hello(1, 1_700_000_000_000_000_000, OUTSIDE),
        News(OUTSIDE),
        Reply(7, ok=True, ports=(PORT, PortForward("tcp", 1))),
        Reply(8, ok=False, error="nginx (process 12) has it", in_use=True),
        Time(5),
        Shutdown(10),
        Shares(1, ()),
        Shares(2, (FOLDER, SharedFolder("folder1", "C:\\Users", True, "agent", "ab12")), True, True, ("folder0",)),
        Shares(3, (), sockets=("/run/user/1000/cove/default/docker.sock",)),
        Shares(4, (), machine="far", listed=("~/src", "/data:ro")),
    ],
)
def test_what_the_host_says_arrives(message: Any) -> None:
    (raw,) = FrameDecoder().feed(encode(message.to_json()))
    assert parse_host_message(raw) == message


@pytest.mark.parametrize(
    "message",
    [
        Ready("a" * 32, "1.0 \u00fc", "1.51"),
        Sync(1, ()),
        Sync(2, (PORT,)),
        Publish(3, PORT),
        Unpublish(4, PortForward("tcp", 65535)),
        Stopping(),
        Activity("running"),
        WantShares(),
        Shared(1, {}),
        Shared(2, {"folder0": "Invalid argument"}, ("web", "db")),
    ],
)
def test_what_the_guest_says_arrives(message: Any) -> None:
    (raw,) = FrameDecoder().feed(encode(message.to_json()))
    assert parse_guest_message(raw) == message


def test_a_refusal_is_cut_to_what_is_taken() -> None:
    (raw,) = FrameDecoder().feed(encode(Reply(8, ok=False, error="x" * 5000).to_json()))
    assert parse_host_message(raw) == Reply(8, ok=False, error="x" * 4096)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_frames_may_come_in_any_pieces(size: int) -> None:
    messages = [Sync(number, (PORT,) * number).to_json() for number in range(5)]
    stream = b"".join(encode(message) for message in messages)
    decoder = FrameDecoder()
    arrived = [one for start in range(0, len(stream), size) for one in decoder.feed(stream[start : start + size])]
    assert arrived == messages
    assert decoder.pending == 0


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (struct.pack("!I", 0), "frame of 0 bytes"),
        (struct.pack("!I", MAX_FRAME + 1), "frame of 1048577 bytes"),
        (b"\xff\xff\xff\xff", "frame of 4294967295 bytes"),
        (b"GET / HTTP/1.1\r\n\r\n", "frame of"),
        (frame(b"{"), "not UTF-8 JSON"),
        (frame(b"\xff\xfe{}"), "not UTF-8 JSON"),
        (frame(b"[" * 100_000), "not UTF-8 JSON"),
        (frame(b'{"type":' + b"[" * 100_000), "not UTF-8 JSON"),
        (frame(b"9" * 5000), "frame is not"),
        (frame(b"[]"), "not a JSON object with a type"),
        (frame(b"{}"), "not a JSON object with a type"),
        (frame(b'{"type": 3}'), "not a JSON object with a type"),
        (frame(b"null"), "not a JSON object with a type"),
    ],
)
def test_hostile_frames_are_refused(data: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        FrameDecoder().feed(data)


def test_a_frame_as_long_as_allowed_is_taken_and_a_longer_one_not_made() -> None:
    shell = len(json.dumps({"type": "x", "pad": ""}, separators=(",", ":")))
    (message,) = FrameDecoder().feed(encode({"type": "x", "pad": "a" * (MAX_FRAME - shell)}))
    assert len(message["pad"]) == MAX_FRAME - shell
    with pytest.raises(ProtocolError, match="longer than"):
        encode({"type": "x", "pad": "a" * (MAX_FRAME - shell + 1)})


def test_the_most_ports_fit_into_one_frame() -> None:
    longest = "1111:2222:3333:4444:5555:6666:7777:8888"
    ports = tuple(PortForward("tcp", 65535, longest, 65535) for _ in range(MAX_PORTS))
    (raw,) = FrameDecoder().feed(encode(Sync(1 << 52, ports).to_json()))
    assert parse_guest_message(raw) == Sync(1 << 52, ports)


def test_a_new_stream_forgets_half_a_frame() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(encode(Stopping().to_json())[:-1]) == []
    assert decoder.pending > 0
    decoder.reset()
    assert decoder.feed(encode(Stopping().to_json())) == [{"type": "stopping"}]


_PUBLISH = {"type": "publish", "id": 1, "proto": "tcp", "host_ip": "", "host_port": 0, "guest_port": 80}


@pytest.mark.parametrize(
    "change",
    [
        {"id": -1}, {"id": True}, {"id": 1.0}, {"id": "1"}, {"id": 1 << 60}, {"id": None},
        {"proto": "sctp"}, {"proto": None}, {"proto": ["tcp"]}, {"proto": {}},
        {"host_ip": "localhost"}, {"host_ip": 5}, {"host_ip": "1.2.3.4\n"}, {"host_ip": "1.2.3.4,hostfwd"}, {"host_ip": None},
        {"host_ip": "fe80::1%eth0"}, {"host_ip": "fe80::1%" + "a" * 4000}, {"host_ip": "::1%,hostfwd=tcp::80-:80"},
        {"host_port": -1}, {"host_port": 65536}, {"host_port": "80"}, {"host_port": False},
        {"guest_port": 0}, {"guest_port": 65536}, {"guest_port": None},
        {"type": "reply"}, {"type": "hello"}, {"type": ""}, {"type": "publish\0"},
    ],
)  # fmt: skip
def test_fields_that_are_not_right_are_refused(change: dict[str, Any]) -> None:
    assert parse_guest_message(_PUBLISH) == Publish(1, PortForward("tcp", 80))
    with pytest.raises(ProtocolError):
        parse_guest_message(_PUBLISH | change)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "ready", "boot_id": "x" * 5000, "engine_version": "", "api_version": ""},
        {"type": "ready", "boot_id": "x", "engine_version": "1"},
        {"type": "sync", "id": 1, "ports": [_PUBLISH] * (MAX_PORTS + 1)},
        {"type": "sync", "id": 1, "ports": {"0": _PUBLISH}},
        {"type": "sync", "id": 1, "ports": [1]},
        {"type": "activity", "level": "bored"},
        {"type": "activity", "level": ["idle"]},
        {"type": "idle", "idle": 1},
        {"type": "idle"},
    ],
)
def test_messages_of_a_hostile_guest_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_guest_message(message)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "hello", "version": 0, "unix_ns": 1},
        {"type": "hello", "version": 1, "unix_ns": -1},
        {"type": "hello", "version": 1, "unix_ns": 1 << 64},
        {"type": "reply", "id": 1, "ok": "yes", "ports": []},
        {"type": "reply", "id": 1, "ok": True},
        {"type": "reply", "id": 1, "ok": False, "error": 3},
        {"type": "reply", "id": 1, "ok": False, "error": "x" * 5000},
        {"type": "shutdown", "timeout_s": 1e9},
        {"type": "shutdown", "timeout_s": 3601},
        {"type": "outside"},
        {"type": "outside", "outside": {"proxies": {}}},
        {"type": "hello", "version": 1, "unix_ns": 1, "outside": None},
        {"type": "ready", "boot_id": "", "engine_version": "", "api_version": ""},
    ],
)
def test_messages_of_a_hostile_host_are_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_host_message(message)


def test_noise_does_nothing_worse_than_being_refused() -> None:
    randomness = random.Random(1)
    good = encode(Publish(1, PORT).to_json())
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(randomness.randint(1, 4)):
            data[randomness.randrange(len(data))] = randomness.randrange(256)
        decoder = FrameDecoder()
        try:
            for message in decoder.feed(bytes(data)):
                parse_guest_message(message)
        except ProtocolError:
            continue
        assert decoder.pending <= len(data)


@pytest.mark.parametrize(
    "change",
    [
        {"errors": None}, {"errors": []}, {"errors": {"folder0": 3}}, {"errors": {str(one): "" for one in range(1000)}},
        {"in_use": "web"}, {"in_use": [3]}, {"in_use": ["x"] * 65}, {"in_use": ["x" * 5000]}, {"id": None},
    ],
)  # fmt: skip
def test_a_hostile_guest_says_nothing_of_folders(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        parse_guest_message(Shared(1, {}).to_json() | change)


@pytest.mark.parametrize(
    "change",
    [
        {"tag": "../x"},
        {"tag": ""},
        {"tag": "a" * 32},
        {"driver": "nfs"},
        {"path": None},
        {"read_only": "no"},
        {"token": 1},
    ],
)
def test_a_folder_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        SharedFolder.from_json(FOLDER.to_json() | change)
