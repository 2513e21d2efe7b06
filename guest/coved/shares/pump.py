"""``python3 -I -S pump.py PORT SOCKET``: carries bytes between a port of the VM and a socket, until one of them ends.

The kernel's 9p client reads and writes descriptors, but not those of a virtio port, whose driver has no such calls
(drivers/char/virtio_console.c: no read_iter). A process of its own, since mounts outlive the engine; it imports next to nothing.
"""

import os
import sys
import threading

MARK = b"\xff" * 8
"""Begins a session in either direction: no message of 9p has such a size. What comes before it is of another session."""
CHUNK = 1 << 18


def carry(source: int, target: int, buffer: memoryview) -> None:
    """Until ``source`` is at its end. Raises OSError."""
    while count := os.readv(source, [buffer]):
        done = 0
        while done < count:
            done += os.write(target, buffer[done:count])


def after_mark(port: int) -> bytes:
    """What follows the host's mark of what has been read so far. Raises OSError when the host's end is closed."""
    seen = b""
    while MARK not in seen:
        data = os.read(port, CHUNK)
        if not data:
            raise ConnectionError
        seen = seen[-len(MARK) :] + data
    return seen[seen.rindex(MARK) + len(MARK) :]


def main() -> None:
    """Does not return."""
    port, socket = int(sys.argv[1]), int(sys.argv[2])

    def inwards() -> None:
        try:
            first = after_mark(port)
            if first:
                os.write(socket, first)
            carry(port, socket, memoryview(bytearray(CHUNK)))
        except OSError:
            pass
        os._exit(0)

    os.write(port, MARK)
    threading.Thread(target=inwards, daemon=True).start()
    try:  # noqa: SIM105 - contextlib takes longer to load than all of this
        carry(socket, port, memoryview(bytearray(CHUNK)))
    except OSError:
        pass
    os._exit(0)


if __name__ == "__main__":
    main()
