"""One engine's connection to a shim: requests in, answers and news out. Engines come and go."""

import binascii
import os
import socket
from typing import TYPE_CHECKING, Any

from coved.runtime import wire
from coved.runtime.cgroups import CgroupError
from coved.runtime.errors import Refused
from coved.runtime.loop import READ, WRITE

if TYPE_CHECKING:
    from coved.runtime.shim import Shim

# An engine that takes no answers is stuck; it is cut off rather than waited for.
_MAX_WAITING = 4 * 1024 * 1024


class Connection:
    """Answers carry the request's ``id``; news carry ``event``."""

    def __init__(self, shim: "Shim", sock: socket.socket) -> None:
        self._shim = shim
        self._sock = sock
        self._reader = wire.FrameReader()
        self._out = bytearray()
        self._closed = False
        sock.setblocking(False)
        self._watch()

    def send(self, message: wire.Message) -> None:
        if self._closed:
            return
        self._out += wire.encode(message)
        if len(self._out) > _MAX_WAITING:
            self.close()
        else:
            self._flush()

    def reply(self, number: int, **values: Any) -> None:
        self.send({"id": number, **values})

    def refuse(self, number: int, error: Refused) -> None:
        self.send({"id": number, "error": error.payload})

    def flush_and_close(self) -> None:
        """The last answer: small, and the engine is waiting for it."""
        if not self._closed and self._out:
            self._sock.settimeout(2.0)
            try:
                self._sock.sendall(self._out)
            except OSError:
                self._out.clear()
        self.close()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._shim.loop.unwatch(self._sock.fileno())
        self._sock.close()
        self._reader.close()
        if self in self._shim.connections:
            self._shim.connections.remove(self)
            self._shim.on_left(self)

    def _watch(self) -> None:
        self._shim.loop.watch(self._sock.fileno(), READ | (WRITE if self._out else 0), self._on_event)

    def _flush(self) -> None:
        try:
            sent = self._sock.send(self._out)
            del self._out[:sent]
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close()
            return
        self._watch()

    def _on_event(self, events: int) -> None:
        if events & WRITE:
            self._flush()
        if self._closed or not events & ~WRITE:
            return
        try:
            more = self._reader.receive(self._sock)
            while not self._closed and (item := self._reader.next_message()) is not None:
                self._handle(*item)
        except BlockingIOError:
            return
        except (OSError, wire.ProtocolError):
            more = False
        if not more:
            self.close()

    def _handle(self, message: wire.Message, fds: list[int]) -> None:
        number = message.get("id", 0)
        try:
            self._perform(number, message, fds)
        except Refused as error:
            self.refuse(number, error)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            self.refuse(number, Refused("invalid", f"not a valid request: {error!r}"))
        except OSError as error:
            self.refuse(number, Refused("invalid", f"{message.get('op')} failed: {error.strerror}"))
        finally:
            for fd in fds:  # what was taken over has been removed from the list
                os.close(fd)

    def _perform(self, number: int, message: wire.Message, fds: list[int]) -> None:
        shim = self._shim
        operation = message["op"]
        process_id = message.get("process_id", "")
        if operation == "start":
            shim.start(self, number)
            return
        if operation == "exec":
            attachments = list(zip(fds, _attachments(message), strict=True))
            shim.exec(self, number, process_id, message["process"], message["stdio"], attachments)
            fds.clear()
            return
        if operation == "delete":
            shim.delete(self, number)
            return
        values: dict[str, Any] = {}
        if operation == "attach":
            (options,) = _attachments(message)
            fd, gate = fds if len(fds) > 1 else (fds[0], -1)
            process = shim.find(process_id)
            fds.clear()
            values["log"] = process.stdio.attach(fd, options, gate)
        elif operation == "resize":
            shim.find(process_id).stdio.resize(int(message["height"]), int(message["width"]))
        elif operation == "kill":
            shim.kill(int(message["signal"]), process_id, bool(message["all"]))
        elif operation in ("pause", "resume"):
            shim.find("")
            if not shim.cgroup.freeze(operation == "pause"):
                raise Refused("timeout", f"the container's processes did not {operation} in time")
        elif operation == "update":
            try:
                values["warnings"] = shim.cgroup.apply(message["resources"])
            except CgroupError as error:
                raise Refused("invalid", str(error)) from None
        else:
            raise Refused("invalid", f"unknown operation '{operation}'")
        self.reply(number, **values)


def _attachments(message: wire.Message) -> list[dict[str, Any]]:
    return [
        {
            **one,
            "detach_keys": binascii.a2b_base64(one["detach_keys"]),
            "pending": binascii.a2b_base64(one["pending"]),
        }
        for one in message["attach"]
    ]
