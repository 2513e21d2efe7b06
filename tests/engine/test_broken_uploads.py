"""Archives that break off on their way to the engine: whoever still listens is told, in the stream and in Docker's form."""

from __future__ import annotations

import json
import os
import socket
import tarfile
from typing import Any

import pytest

from image_archives import docker_archive, special, tar
from raw_client import connect

pytestmark = [pytest.mark.root, pytest.mark.native]


def answer_to(engine: Any, head: str, body: bytes, *, leaves: bool = False) -> tuple[int, bytes]:
    """The status and the body; ``leaves``: the client says that it will send no more."""
    with connect(str(engine.socket)) as client:
        lines = ["POST " + head, "Host: d", "Content-Type: application/x-tar", "", ""]
        client.sendall("\r\n".join(lines).encode() + body)
        if leaves:
            client.shutdown(socket.SHUT_WR)
        told = b""
        while chunk := client.recv(65536):
            told += chunk
    start, _, rest = told.partition(b"\r\n\r\n")
    return int(start.split()[1]), rest


def last_message(chunked: bytes) -> dict[str, Any]:
    """Of a stream that came to its end as HTTP has it."""
    assert chunked.endswith(b"0\r\n\r\n")
    found: dict[str, Any] = json.loads(chunked.removesuffix(b"0\r\n\r\n").strip().split(b"\r\n")[-1])
    return found


def archive() -> bytes:
    layer = tar([("etc", special(tarfile.DIRTYPE)), ("etc/noise", os.urandom(300_000))])
    return docker_archive([layer], ["test/broken:1"])


@pytest.mark.parametrize("way", ["the client stops", "the archive stops", "the chunks are none", "it is none"])
def test_a_load_that_breaks_off_ends_with_an_error(engine: Any, way: str) -> None:
    whole = archive()
    part = whole[: len(whole) // 2]
    head = "/images/load HTTP/1.1\r\nConnection: close\r\n"
    log = engine.log()
    if way == "the client stops":
        status, told = answer_to(engine, f"{head}Content-Length: {len(whole)}", part, leaves=True)
        words = "unexpected EOF"
    elif way == "the archive stops":
        status, told = answer_to(engine, f"{head}Content-Length: {len(part)}", part)
        words = "unexpected EOF: the archive ends in the middle of a file"
    elif way == "the chunks are none":
        body = f"{len(part):x}\r\n".encode() + part + b"\r\nno length\r\n"
        status, told = answer_to(engine, f"{head}Transfer-Encoding: chunked", body)
        words = "malformed request body: illegal chunk header"
    else:
        status, told = answer_to(engine, f"{head}Content-Length: 600", b"x" * 600)
        words = "archive/tar: invalid tar header: this is not a tar archive, or it is damaged"
    assert status == 200
    message = last_message(told)
    assert set(message) == {"errorDetail", "error"}
    assert message["error"].startswith(words)
    assert message["errorDetail"] == {"message": message["error"]}
    assert "Traceback" not in engine.log()[len(log) :]


def test_an_import_that_breaks_off_is_refused(engine: Any) -> None:
    whole = tar([("file", os.urandom(300_000))])
    head = f"/images/create?fromSrc=- HTTP/1.1\r\nConnection: close\r\nContent-Length: {len(whole)}"
    status, told = answer_to(engine, head, whole[:100_000], leaves=True)
    assert (status, json.loads(told)) == (400, {"message": "unexpected EOF"})
