"""Streams over vsock, with real sockets of that kind: the machine speaks to itself (vsock_loopback), both the guest's end and the host's
run in it. What is between them on a host with vhost-vsock, or under Hyper-V, is the kernel's."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from pathlib import Path
from typing import Any

import cove
import pytest

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]

HOSTS = (
    "__init__.py",
    "errors.py",
    "transport/__init__.py",
    "transport/base.py",
    "transport/serial.py",
    "transport/vsock.py",
)
SCRIPT = """
import base64, socket, subprocess, sys, threading
with open("/tmp/cove-host.zip", "wb") as file:
    file.write(base64.b64decode(ARCHIVE))
sys.path[:0] = ["/tmp/cove-host.zip", "/usr/lib/cove"]
subprocess.run(["modprobe", "vsock_loopback"], check=True)

from cove.transport.serial import SerialTransport
from cove.transport.vsock import GuestSocket
from coved.streams import knock, vsock
from coved.streams.key import KEY_SIZE

class Here(vsock.VsockStreams):
    def is_host(self, address):
        return address[0] == 1  # VMADDR_CID_LOCAL

KEY = b"k" * KEY_SIZE
listener = socket.socket(socket.AF_VSOCK)
listener.bind((socket.VMADDR_CID_ANY, knock.PORT))
listener.listen(8)
strict = len(sys.argv) > 1
threading.Thread(target=(vsock.VsockStreams if strict else Here)(listener, KEY).run, daemon=True).start()
transport = SerialTransport(GuestSocket(1, KEY).dial)
try:
    stream = transport.open_stream("/run/docker.sock")
except Exception as error:
    print("refused:", error)
    raise SystemExit
stream.sendall(b"GET /_ping HTTP/1.0\\r\\n\\r\\n")
stream.shutdown_write()
said = b""
while data := stream.recv(1 << 16):
    said += data
print(said.decode().split("\\r\\n\\r\\n")[-1])
"""


def run(machine: Any, *words: str) -> str:
    assert cove.__file__ is not None
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in HOSTS:
            file.write(Path(cove.__file__).parent / name, f"cove/{name}")
    script = SCRIPT.replace("ARCHIVE", repr(base64.b64encode(archive.getvalue())))
    packed = base64.b64encode(zlib.compress(script.encode())).decode()
    line = f"python3 -c 'import base64,zlib;exec(zlib.decompress(base64.b64decode(\"{packed}\")))' {' '.join(words)}"
    done = machine.cove("machine", "ssh", line, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return str(done.stdout).strip()


def test_the_engine_answers_by_vsock(machine: Any) -> None:
    assert run(machine) == "OK"


def test_the_machine_itself_is_not_its_host(machine: Any) -> None:
    """What runs in it cannot come in by the host's door."""
    assert run(machine, "strict").startswith("refused: ")
