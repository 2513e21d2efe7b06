"""testcontainers/ryuk, which removes what programs that use testcontainers leave behind.

The real one is a program in Go that is not packaged in what these tests can reach. COVE_TEST_RYUK names a folder with those that somebody
has built (https://github.com/testcontainers/moby-ryuk), by their versions. Without it there is a stand-in: a shell script with docker's
client that takes filters, acknowledges them, and removes what they name when its clients have gone, as ryuk's README says.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

from busybox_image import archive

PROTOCOL = """#!/bin/sh
# One client: lines of filters (label=a&label=b), each acknowledged. When the last client has gone for a while, all that they named goes.
mkdir -p /ryuk/clients
: >/ryuk/clients/$$
while IFS= read -r line; do
    line=$(printf %s "$line" | tr -d '\\r')
    [ -z "$line" ] || { printf '%s\\n' "$line" >>/ryuk/filters; echo ACK; }
done
rm /ryuk/clients/$$
timeout=${RYUK_RECONNECTION_TIMEOUT:-10s}
(
    exec >/proc/1/fd/1 2>&1 </dev/null
    sleep "${timeout%s}"
    [ -z "$(ls /ryuk/clients)" ] || exit 0
    sort -u /ryuk/filters | while IFS= read -r filter; do
        set -- $(printf %s "$filter" | tr '&' '\\n' | sed 's/^/--filter /')
        for id in $(docker ps -aq "$@"); do
            [ "$id" = "$(hostname)" ] || docker rm -f -v "$id"
        done
        for id in $(docker network ls -q "$@"); do docker network rm "$id"; done
        for id in $(docker volume ls -q "$@"); do docker volume rm -f "$id"; done
        for id in $(docker image ls -q "$@"); do docker image rm -f "$id"; done
    done
    echo done
    kill 1
) &
"""
START = """#!/bin/sh
docker version --format '{{.Server.Version}}' || exit 1
echo "$(date '+%Y/%m/%d %H:%M:%S') Started!"
trap 'kill $!; exit 0' TERM
nc -ll -p 8080 -e /ryuk/protocol &
wait
"""


def image(version: str) -> tuple[bytes, tuple[str, ...]]:
    """What is imported, and the changes with which it is."""
    label = "LABEL org.testcontainers.ryuk=true"
    if given := os.environ.get("COVE_TEST_RYUK"):
        return _with(b"", {"bin/ryuk": Path(given, version).read_bytes()}), ('CMD ["/bin/ryuk"]', label)
    programs = {"ryuk/start": START.encode(), "ryuk/protocol": PROTOCOL.encode(), **_docker()}
    return _with(archive(), programs), ('CMD ["/ryuk/start"]', label)


def _with(base: bytes, files: dict[str, bytes]) -> bytes:
    output = io.BytesIO(base)
    with tarfile.open(fileobj=output, mode="a" if base else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return output.getvalue()


def _docker() -> dict[str, bytes]:
    """docker's client, and the libraries that it may need."""
    program = shutil.which("docker")
    assert program
    told = subprocess.run(["ldd", program], capture_output=True, text=True, timeout=60).stdout
    libraries = re.findall(r"(/\S+) \(0x", told)
    return {"bin/docker": Path(program).read_bytes()} | {name[1:]: Path(name).read_bytes() for name in libraries}
