"""What a kubelet does to forward a port of a pod over a websocket: for the model of an API server, and for the node of a real one."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping
from wsproto.utilities import LocalProtocolError

PROTOCOL = "v4.channel.k8s.io"


def serve(handler: BaseHTTPRequestHandler, port: int, targets: Mapping[int, int]) -> None:
    """One port, on channels 0 (data) and 1 (errors). `targets`: a pod's port -> a port of this computer."""
    accept = handler.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    offered = [one.strip() for one in handler.headers["Sec-WebSocket-Protocol"].split(",")]
    handler.send_response(101)
    handler.send_header("Upgrade", "websocket")
    handler.send_header("Connection", "Upgrade")
    handler.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(accept.encode()).digest()).decode())
    handler.send_header("Sec-WebSocket-Protocol", next(one for one in offered if one == PROTOCOL))
    handler.end_headers()
    handler.close_connection = True
    protocol, sending = Connection(ConnectionType.SERVER), threading.Lock()

    def send(event: Any) -> None:
        with sending:
            handler.connection.sendall(protocol.send(event))

    for channel in (0, 1):
        send(BytesMessage(bytes([channel]) + port.to_bytes(2, "little")))
    try:
        remote = socket.create_connection(("127.0.0.1", targets[port]), timeout=30)
    except (KeyError, OSError):
        send(BytesMessage(b"\1connection refused"))
        return
    with remote:
        threading.Thread(target=_down, args=(remote, send), daemon=True).start()
        whole = bytearray()
        with contextlib.suppress(OSError):
            while data := handler.connection.recv(65536):
                protocol.receive_data(data)
                for event in protocol.events():
                    if isinstance(event, BytesMessage):
                        whole += event.data
                        if event.message_finished:
                            remote.sendall(bytes(whole[1:]))
                            whole.clear()
                    elif isinstance(event, Ping):
                        send(event.response())
                    elif isinstance(event, CloseConnection):
                        send(event.response())
                        break
        with contextlib.suppress(OSError):
            remote.shutdown(socket.SHUT_RDWR)  # what waits for its answer would keep it open


def _down(remote: socket.socket, send: Callable[[Any], None]) -> None:
    with contextlib.suppress(OSError, LocalProtocolError):  # the client was faster
        while data := remote.recv(65536):
            send(BytesMessage(b"\0" + data))
        send(CloseConnection(1000))
