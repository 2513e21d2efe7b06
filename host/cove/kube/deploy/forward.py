"""Services of a cluster on localhost: each connection goes to a pod that is ready, through the API's port forwarding."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from cove.errors import CoveError
from cove.kube.deploy.cluster import Cluster, Object
from cove.kube.generate.manifests import APPLICATION, NAME
from cove.kube.shown import inset

LOCALHOST = "127.0.0.1"
CHUNK = 1 << 16
LINGER_S = 10.0
"""How long the answer may be silent to a client that has ended what it sends: it may only listen, or be gone, which looks the same."""
CONNECT_S = 60.0

Report = Callable[[str], None]


class Forward(NamedTuple):
    """A port of a workload, and where it is to be on localhost: 0 for one that is free."""

    workload: str
    port: int
    local: int


class Forwarder:
    """Listens from its making until `close`."""

    def __init__(self, cluster: Cluster, application: str, forwards: list[Forward], report: Report) -> None:
        import websocket

        websocket.setdefaulttimeout(CONNECT_S)  # the client has no other way to bound it
        self._cluster = cluster
        self._application = application
        self._report = report
        self._listening: list[socket.socket] = []
        self.places: list[Forward] = []
        """Where they are."""
        try:
            for one in forwards:
                listener = self._listen(one)
                self._listening.append(listener)
                self.places.append(one._replace(local=listener.getsockname()[1]))
        except BaseException:
            self.close()
            raise
        for one, listener in zip(self.places, self._listening, strict=True):
            threading.Thread(
                target=self._accept, args=(one, listener), name=f"forward {one.local}", daemon=True
            ).start()

    def close(self) -> None:
        for listener in self._listening:
            _shut(listener)  # closing alone wakes nobody who accepts
            listener.close()

    def _listen(self, one: Forward) -> socket.socket:
        try:
            return socket.create_server((LOCALHOST, one.local))
        except OSError as error:
            if not one.local or error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise CoveError(f"{LOCALHOST}:{one.local}: {error.strerror}") from error
            listener = socket.create_server((LOCALHOST, 0))
            number = listener.getsockname()[1]
            self._report(
                f"{LOCALHOST}:{one.local} cannot be had ({error.strerror}): {one.workload} is on port {number}"
            )
            return listener

    def _accept(self, one: Forward, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return  # closed
            threading.Thread(target=self._serve, args=(one, client), name=f"forwarded {one.local}", daemon=True).start()

    def _serve(self, one: Forward, client: socket.socket) -> None:
        with client:
            try:
                remote = self._connect(one)
            except CoveError as error:
                self._report(f"{one.workload}:{one.port}: {error.message}")
                return
            with contextlib.closing(remote):
                _Connection(client, remote).run()

    def _connect(self, one: Forward) -> Any:
        from kubernetes.client import ApiClient, CoreV1Api
        from kubernetes.client.exceptions import ApiException
        from kubernetes.stream import portforward

        pod = self._ready(one.workload)
        # Forwarding changes its ApiClient while it connects: each has its own.
        pods = CoreV1Api(ApiClient(configuration=self._cluster.api.configuration))
        try:
            forwarded = portforward(
                pods.connect_get_namespaced_pod_portforward, pod, self._cluster.namespace, ports=str(one.port)
            )
        except ApiException as error:
            raise CoveError(inset(f"the cluster does not forward to {pod}: {error.reason}")) from error
        return forwarded.socket(one.port)

    def _ready(self, workload: str) -> str:
        selector = f"{APPLICATION}={self._application},{NAME}={workload}"
        ready = sorted(str(pod["metadata"]["name"]) for pod in self._cluster.pods(selector) if _is_ready(pod))
        if not ready:
            raise CoveError("none of its pods is ready")
        return ready[0]


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
    return ready and not pod["metadata"].get("deletionTimestamp")


class _Connection:
    """Bytes between a client and a pod. The protocol cannot say that only one side has ended."""

    def __init__(self, client: socket.socket, remote: Any) -> None:
        self._client = client
        self._remote = remote
        self._answers = 0
        self._ended = threading.Event()

    def run(self) -> None:
        threading.Thread(target=self._up, name="forwarded up", daemon=True).start()
        try:
            while data := _received(self._remote):
                self._client.sendall(data)
                self._answers += 1
        except OSError:
            pass  # the client is gone
        finally:
            self._ended.set()
            _shut(self._client)

    def _up(self) -> None:
        try:
            while data := _received(self._client):
                self._remote.sendall(data)
        except OSError:
            pass  # the pod is gone
        else:
            before = -1
            while self._answers != before and not self._ended.is_set():
                before = self._answers
                self._ended.wait(LINGER_S)
        _shut(self._remote)


def _received(source: Any) -> bytes:
    try:
        return bytes(source.recv(CHUNK))
    except OSError:
        return b""


def _shut(one: Any) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
