"""What a client of an attach or exec has been told before the output, and what it may ask right after its end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import docker
import pytest
from coved.runtime.shim_client import ShimClient
from coved.runtime.spec import Stdio

from isolation_support import making
from raw_client import ask, connect
from runtime_support import Client, Harness, frames, process, with_harness

pytestmark = [pytest.mark.root, pytest.mark.native]

ANSWER = b"HTTP/1.1 101 UPGRADED\r\n\r\n"


class Answered(Client):
    """A client that has been sent the engine's answer, and has not read it."""

    def __init__(self) -> None:
        super().__init__()
        self._given.send(ANSWER)


async def attached(shim: ShimClient, **values: Any) -> Answered:
    client = Answered()
    await shim.attach("", client.attachment(**values))
    client.handed_over()
    return client


@with_harness
async def test_output_never_comes_in_one_read_with_the_answer(made: Harness) -> None:
    shim = await made.create(process("echo", "hi"))
    client = await attached(shim)
    await shim.start()
    await shim.wait()
    assert client.sock.recv(65536) == ANSWER
    assert frames(await client.read_all()) == {1: b"hi\n", 2: b""}


@with_harness
async def test_an_answer_that_is_read_in_pieces(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "echo hi; exec sleep 300"))
    client = await attached(shim)
    await shim.start()
    for number in range(len(ANSWER)):
        assert await client.read(1) == ANSWER[number : number + 1]
    assert frames(await client.read()) == {1: b"hi\n", 2: b""}


@with_harness
async def test_input_sent_before_the_answer_is_read_arrives(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "echo first; wc -c"), stdio=Stdio(open_stdin=True, stdin_once=True))
    client = await attached(shim, stdin=True)
    await shim.start()
    await client.send(b"x" * (3 << 20))
    client.half_close()
    assert (await shim.wait()).code == 0
    assert await client.read(len(ANSWER)) == ANSWER
    assert frames(await client.read_all())[1] == b"first\n3145728\n"


@pytest.mark.parametrize("stdin", [False, True])
def test_a_client_that_leaves_without_reading_the_answer_holds_nothing_up(stdin: bool) -> None:
    @with_harness
    async def run(made: Harness) -> None:
        # More than is kept for a slow client: the process would wait for ever if nobody noticed that it has gone.
        script = "echo; read go <&3; head -c 5000000 /dev/zero"
        shim = await made.create(
            process("sh", "-c", f"mkfifo /go; exec 3<>/go; {script}"), stdio=Stdio(open_stdin=True)
        )
        client = await attached(shim, stdin=stdin)
        await shim.start()
        await client.send(b"typed")
        client.close()
        watcher = Client()
        await shim.exec("go", process("sh", "-c", "echo > /go"), stdio=Stdio(), attach=[watcher.attachment()])
        watcher.handed_over()
        assert await watcher.read_all() == b""
        assert (await asyncio.wait_for(shim.wait(), 20)).code == 0

    run()


@with_harness
async def test_input_that_nobody_takes_is_no_error(made: Harness) -> None:
    shim = await made.create(process("sh", "-c", "read go; echo done"), stdio=Stdio(open_stdin=True, stdin_once=True))
    client = await made.attach(shim, stdin=True)
    await shim.start()
    sending = asyncio.create_task(client.send(b"go\n" + b"x" * (4 << 20)))
    await shim.wait()
    with contextlib.suppress(BrokenPipeError):
        await sending
    assert frames(await client.read_all())[1] == b"done\n"  # and then the end, not a reset


@with_harness
async def test_whoever_has_seen_a_stream_end_is_told_how(made: Harness) -> None:
    shim = await made.create(process("sleep", "300"))
    await shim.start()
    client = Client()
    await shim.exec("one", process("sh", "-c", "sleep 0.3; exit 7"), stdio=Stdio(), attach=[client.attachment()])
    client.handed_over()
    # The engine is busy with other things while the process ends.
    client.sock.settimeout(20)
    assert client.sock.recv(1) == b""
    assert "one" not in shim.exits
    shim.catch_up()
    assert shim.exits["one"].code == 7


@pytest.mark.parametrize("what", ["past output", "a failure"])
def test_what_the_engine_itself_says_never_comes_in_one_read_with_the_answer(native_engine: Any, what: str) -> None:
    """On its own socket: what lies between a VM and its host may put together what was sent apart."""
    path = str(native_engine.socket)
    with contextlib.closing(docker.DockerClient(native_engine.url, timeout=60)) as sdk, making(sdk) as make:
        container = make("echo", "hi", start=False)
        container.start()
        container.wait()
        target, body, end = f"/containers/{container.id}/attach?logs=1&stdout=1", "", b"\x01\0\0\0\0\0\0\x03hi\n"
        if what == "a failure":
            wanted = b'{"Cmd": ["/nope"], "AttachStdout": true}'
            json = {"Content-Type": "application/json"}
            made = ask(path, "POST", f"/containers/{make().id}/exec", wanted, json).json()["Id"]
            target, body, end = f"/exec/{made}/start", "{}", b"no such file or directory: unknown\r\n"
        with connect(path) as client:
            head = f"POST {target} HTTP/1.1\r\nHost: x\r\nUpgrade: tcp\r\nConnection: Upgrade\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            client.sendall(head.encode())
            for _ in range(20):  # time for the engine to say more than its answer
                ask(path, "GET", "/containers/json")
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 101 ")
            assert answer.endswith(b"\r\n\r\n")
            rest = b""
            while data := client.recv(65536):
                rest += data
        assert rest.endswith(end)


def test_an_exec_that_cannot_be_started_ends_without_a_reset(engine: Any, make: Any) -> None:
    path = str(engine.socket)
    wanted = b'{"Cmd": ["/nope"], "AttachStdin": true, "AttachStdout": true}'
    json = {"Content-Type": "application/json"}
    made = ask(path, "POST", f"/containers/{make().id}/exec", wanted, json).json()["Id"]
    with connect(path) as client:
        head = f"POST /exec/{made}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += "Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{}"
        with contextlib.suppress(BrokenPipeError):
            client.sendall(head.encode() + b"x" * 400_000)  # more than the engine takes from the socket at once
        answer = b""
        while data := client.recv(65536):  # raises when it is reset
            answer += data
    assert b"no such file or directory" in answer


def test_an_exec_is_over_when_its_stream_is(engine: Any, make: Any) -> None:
    container = make("sleep", "300")
    path = str(engine.socket)
    json = {"Content-Type": "application/json"}
    for _ in range(100):
        wanted = b'{"Cmd": ["sh", "-c", "echo hi; exit 7"], "AttachStdout": true}'
        made = ask(path, "POST", f"/containers/{container.id}/exec", wanted, json).json()["Id"]
        with connect(path) as client:
            head = f"POST /exec/{made}/start HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            client.sendall(f"{head}Upgrade: tcp\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            client.shutdown(socket.SHUT_WR)
            answer = b""
            while data := client.recv(65536):
                answer += data
        assert answer.endswith(b"\r\n\r\n\x01\0\0\0\0\0\0\x03hi\n")
        seen = ask(path, "GET", f"/exec/{made}/json").json()
        assert (seen["Running"], seen["ExitCode"]) == (False, 7)
