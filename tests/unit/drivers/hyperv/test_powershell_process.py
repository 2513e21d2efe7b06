"""Scripts in processes: what comes back, and what becomes of the process. Another program stands for PowerShell."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import sys
from typing import Any

import pytest
from cove.drivers.hyperv.powershell import PowerShell, ScriptError, parsed
from cove.errors import DriverError, HypervisorMissing

ECHO = """
import base64, json, sys
words = sys.argv[1:]
script = base64.b64decode(words[words.index("-EncodedCommand") + 1]).decode("utf-16-le", "surrogatepass")
print("a warning of somebody")
answer = {"ok": True, "answer": {"script": script.encode("utf-16", "surrogatepass").hex(), "words": words[:-1]}}
print("cove:" + base64.b64encode(json.dumps(answer).encode()).decode())
"""
HANG = """
import socket, sys, time
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
time.sleep(3600)
"""
"""Its connection ends with it, whatever the system."""


def answer(**said: Any) -> bytes:
    return b"noise\r\ncove:" + base64.b64encode(json.dumps(said).encode()) + b"\r\n"


def echo() -> PowerShell:
    return PowerShell([sys.executable, "-c", ECHO])


@pytest.mark.parametrize("text", ["Get-VM", "'\u2019 ü \U0001f4a9'", "'\ud800'", "a\nb"])
def test_a_script_arrives_as_it_is(text: str) -> None:
    for said in (asyncio.run(echo().run(text)), echo().run_blocking(text)):
        script = bytes.fromhex(said["script"]).decode("utf-16", "surrogatepass")
        assert f"\n{text}\n" in script
        assert said["words"] == ["-NoLogo", "-NoProfile", "-NonInteractive", "-EncodedCommand"]


def test_a_script_that_is_too_long_for_windows_is_refused() -> None:
    with pytest.raises(DriverError, match="too long"):
        echo().run_blocking("x" * 20_000)


def test_an_error_comes_with_its_identifiers() -> None:
    said = answer(ok=False, message="„minikube“ …\r\n", id="OutOfMemory,X", category="NotSpecified", code="0x80131500")
    with pytest.raises(ScriptError) as caught:
        parsed(said)
    error = caught.value
    assert (error.message, error.identifier, error.code) == ("„minikube“ …", "OutOfMemory,X", "0x80131500")


@pytest.mark.parametrize("value", [None, [], ["a"], "a", {"state": "Off"}])
def test_an_answer_is_what_the_script_gave(value: Any) -> None:
    assert parsed(answer(ok=True, answer=value)) == value


@pytest.mark.parametrize(
    "output", [b"cove:!!!", b"cove:" + base64.b64encode(b"{"), b"cove:" + base64.b64encode(b"{}"), b"cove:MQ=="]
)
def test_an_answer_that_is_none_is_an_error(output: bytes) -> None:
    with pytest.raises(DriverError, match="cannot be read"):
        parsed(output)


def test_silence_is_no_success() -> None:
    """So do a stub of PowerShell that does nothing, and one that may run no scripts."""
    with pytest.raises(DriverError, match="gave no answer: this is forbidden"):
        parsed(b"", b"this is\r\n forbidden")
    with pytest.raises(DriverError, match=r"gave no answer$"):
        PowerShell([sys.executable, "-c", ""]).run_blocking("Get-VM")


def test_no_powershell() -> None:
    shell = PowerShell(["/nonexistent/powershell.exe"])
    with pytest.raises(HypervisorMissing, match="powershell"):
        asyncio.run(shell.run("Get-VM"))
    with pytest.raises(HypervisorMissing, match="powershell"):
        shell.run_blocking("Get-VM")


def test_who_is_cancelled_ends_the_process() -> None:
    async def cancel() -> bytes:
        connected: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda reader, _: connected.set_result(reader), "127.0.0.1", 0)
        async with server:
            port = str(server.sockets[0].getsockname()[1])
            running = asyncio.ensure_future(PowerShell([sys.executable, "-c", HANG, port]).run("x"))
            reader = await connected
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return await reader.read()

    with contextlib.suppress(ConnectionResetError):  # which is Windows' way
        assert asyncio.run(cancel()) == b""


def test_a_script_that_does_not_end_is_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        words = [sys.executable, "-c", HANG, str(server.getsockname()[1])]
        with pytest.raises(DriverError, match="in time"):
            asyncio.run(PowerShell(words).run("x", timeout_s=0.1))
        with pytest.raises(DriverError, match="in time"):
            PowerShell(words, timeout_s=0.1).run_blocking("x")
