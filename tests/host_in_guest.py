"""The host's end of the streams, run in a machine: where it speaks to itself by real vsock (vsock_loopback), for want of a host with it."""

from __future__ import annotations

import base64
import io
import zipfile
import zlib
from pathlib import Path

import cove

HOSTS = (
    "__init__.py",
    "errors.py",
    "plain.py",
    "transport/__init__.py",
    "transport/base.py",
    "transport/serial.py",
    "transport/vsock.py",
)
BEGIN = """
import base64, socket, subprocess, sys, threading
with open("/tmp/cove-host.zip", "wb") as file:
    file.write(base64.b64decode(ARCHIVE))
sys.path[:0] = ["/tmp/cove-host.zip", "/usr/lib/cove"]
subprocess.run(["modprobe", "vsock_loopback"], check=True)

import cove.transport.vsock
from cove.transport.serial import SerialTransport
from cove.transport.vsock import GuestSocket
from coved.streams import vsock

class Here(vsock.VsockStreams):
    def is_host(self, address):
        return address[0] == 1  # VMADDR_CID_LOCAL

def served(kind, key, port):
    listener = socket.socket(socket.AF_VSOCK)
    listener.bind((socket.VMADDR_CID_ANY, port))
    listener.listen(8)
    threading.Thread(target=kind(listener, key).run, daemon=True).start()
    cove.transport.vsock.PORT = port
    return SerialTransport(GuestSocket(1, key).dial)

def asked(transport, target, request):
    stream = transport.open_stream(target)
    stream.sendall(request)
    stream.shutdown_write()
    said = b""
    while data := stream.recv(1 << 16):
        said += data
    return said.decode()
"""


def line(script: str, *words: str) -> str:
    """The command for a shell of the machine. In the script there are `Here`, `served` and `asked`."""
    assert cove.__file__ is not None
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in HOSTS:
            file.write(Path(cove.__file__).parent / name, f"cove/{name}")
    whole = BEGIN.replace("ARCHIVE", repr(base64.b64encode(archive.getvalue()))) + script
    packed = base64.b64encode(zlib.compress(whole.encode())).decode()
    return f"python3 -c 'import base64,zlib;exec(zlib.decompress(base64.b64decode(\"{packed}\")))' {' '.join(words)}"
