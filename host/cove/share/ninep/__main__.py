"""Serve a folder: ``python -m cove.share.ninep (--fd N | --port N --keys FOLDER) --root PATH [--read-only] [--owner UID:GID]
[--control PATH]``, on an inherited socket, or on a connection to 127.0.0.1 whose two ends know each other by keys (`cove.local.tls`).

Ends with the connection; the socket at the control's PATH stays, for a confined process cannot remove it.
What goes wrong is said on standard error, one line each.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
from pathlib import Path

from cove.local import sockets
from cove.share.ninep.confine import confine
from cove.share.ninep.host import host
from cove.share.ninep.server import serve
from cove.share.ninep.stream import Connection

CONNECT_S = 30.0
_BACKLOG = 8


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cove-folder")
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--fd", type=int)
    way.add_argument("--port", type=int)
    parser.add_argument("--keys", type=Path, default=Path())
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--owner", default="0:0")
    parser.add_argument("--control", type=Path)
    said = parser.parse_args(arguments)
    uid, _, gid = said.owner.partition(":")
    os.umask(0o077)
    try:
        control = None if said.control is None else sockets.listen(said.control, _BACKLOG)
        connection = _connection(said.fd, said.port, said.keys)
        host.raise_open_limit()
        confine(said.root, read_only=said.read_only)
        os.umask(0)
        serve(
            connection,
            said.root,
            read_only=said.read_only,
            control=control,
            owner=(int(uid), int(gid)),
        )
    except OSError as error:
        print(f"{said.root} cannot be served: {error.strerror or error}", file=sys.stderr)
        return 1
    return 0


def _connection(fd: int | None, port: int, keys: Path) -> Connection:
    """Raises `OSError`."""
    if fd is None:
        from cove.local import tls  # only where QEMU inherits no sockets

        return tls.open_stream(port, keys, CONNECT_S)
    connection = socket.socket(fileno=fd)
    connection.setblocking(True)
    return connection


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # an interpreter that ends in order aborts when the threads of `Control` run just then
