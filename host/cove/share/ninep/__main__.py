"""Serve a folder on an inherited socket: ``python -m cove.share.ninep --fd N --root PATH [--read-only] [--owner UID:GID]
[--control PATH]``.

Ends with the connection; the socket at the control's PATH stays, for a confined process cannot remove it.
What goes wrong is said on standard error, one line each.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import sys
from pathlib import Path

from cove.share.ninep.confine import confine
from cove.share.ninep.control import listen
from cove.share.ninep.server import serve


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="cove-folder")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--read-only", action="store_true")
    parser.add_argument("--owner", default="0:0")
    parser.add_argument("--control", default="")
    said = parser.parse_args(arguments)
    uid, _, gid = said.owner.partition(":")
    os.umask(0o077)
    control = None
    if said.control:
        with contextlib.suppress(FileNotFoundError):
            Path(said.control).unlink()
        control = listen(said.control)
    connection = socket.socket(fileno=said.fd)
    connection.setblocking(True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS has limits of its own
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    confine(said.root, read_only=said.read_only)
    os.umask(0)
    try:
        serve(
            connection,
            said.root,
            read_only=said.read_only,
            control=control,
            owner=(int(uid), int(gid)),
        )
    except OSError as error:
        print(f"{said.root} cannot be served: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # an interpreter that ends in order aborts when the threads of `Control` run just then
