"""A node of a real control plane without a kubelet: pods are put on it, and said to run, end or fail, as a test has it.

What a kubelet would do is all that is pretended: objects, their validation, fields' owners, controllers and the way to a pod's port are
the control plane's own.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import port_forwarding
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.watch import Watch

Object = dict[str, Any]

NAME = "node-1"
WORKLOAD = "app.kubernetes.io/name"
THEN = "2026-01-01T00:00:00Z"


def runs(pod: Object) -> Object:
    state = {"running": {"startedAt": THEN}}
    return _status(pod, "Running", "True", state, ready=True)


def ends(code: int) -> Callable[[Object], Object]:
    def status(pod: Object) -> Object:
        state = {
            "terminated": {
                "exitCode": code,
                "reason": "Error" if code else "Completed",
                "startedAt": THEN,
                "finishedAt": THEN,
            }
        }
        return _status(pod, "Failed" if code else "Succeeded", "False", state, ready=False)

    return status


def waits(reason: str, message: str) -> Callable[[Object], Object]:
    def status(pod: Object) -> Object:
        return _status(pod, "Pending", "False", {"waiting": {"reason": reason, "message": message}}, ready=False)

    return status


def _status(pod: Object, phase: str, ready_condition: str, state: Object, *, ready: bool) -> Object:
    (container,) = pod["spec"]["containers"]
    mine = {
        "name": container["name"], "image": container["image"], "imageID": "", "ready": ready, "restartCount": 0, "state": state,
    }  # fmt: skip
    conditions = [
        {"type": kind, "status": ready_condition, "lastTransitionTime": THEN} for kind in ("Ready", "ContainersReady")
    ]
    return {"phase": phase, "conditions": conditions, "containerStatuses": [mine], "startTime": THEN}


class Node:
    def __init__(self, kubeconfig: Path, port: int, targets: dict[int, int], logs: dict[str, str]) -> None:
        self.behaviour: dict[str, Callable[[Object], Object]] = {}
        """Workload -> what becomes of its pods, other than that they run, or end well when they are a Job's."""
        self.targets = targets
        """A pod's port -> a port of this computer."""
        self.logs = logs
        """Workload -> what its containers have said."""
        self._api = config.new_client_from_config(str(kubeconfig))
        self._core = client.CoreV1Api(self._api)
        self._watch = Watch()
        self._ended = threading.Event()
        node = {"metadata": {"name": NAME}}
        self._core.create_node(node)
        address = {"type": "InternalIP", "address": "127.0.0.1"}
        endpoint = {"kubeletEndpoint": {"Port": port}}
        status = {
            "addresses": [address],
            "daemonEndpoints": endpoint,
            "conditions": [{"type": "Ready", "status": "True"}],
        }
        self._core.patch_node_status(NAME, {"status": status})
        # Nodes are tainted until their kubelet says that they are ready.
        self._core.patch_node(NAME, {"spec": {"taints": None}})
        self._thread = threading.Thread(target=self._follow, name=NAME, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._watch.stop()

    def _follow(self) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(ApiException):  # a watch of long ago
                for event in self._watch.stream(self._core.list_pod_for_all_namespaces, timeout_seconds=600):
                    if self._ended.is_set():
                        return
                    if event["type"] != "DELETED":
                        self._see(event["raw_object"])

    def _see(self, pod: Object) -> None:
        name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
        # The control plane may have changed it since, or removed it: then there is another event.
        with contextlib.suppress(ApiException):
            if pod["metadata"].get("deletionTimestamp"):
                self._core.delete_namespaced_pod(name, namespace, grace_period_seconds=0)
            elif not pod["spec"].get("nodeName"):
                target = {"apiVersion": "v1", "kind": "Node", "name": NAME}
                binding = {"metadata": {"name": name}, "target": target}
                # The client cannot read the answer, for what it is of has no name.
                self._core.create_namespaced_pod_binding(name, namespace, binding, _preload_content=False).read()
            elif (status := self._status(pod))["phase"] != pod["status"]["phase"] or "containerStatuses" not in pod[
                "status"
            ]:
                self._core.patch_namespaced_pod_status(name, namespace, {"status": status})

    def _status(self, pod: Object) -> Object:
        usual = ends(0) if pod["metadata"]["ownerReferences"][0]["kind"] == "Job" else runs
        return self.behaviour.get(pod["metadata"]["labels"].get(WORKLOAD, ""), usual)(pod)


@contextlib.contextmanager
def running(kubeconfig: Path, folder: Path) -> Iterator[Node]:
    """With the kubelet's server, of which the API server asks logs and forwarded ports."""
    targets: dict[int, int] = {}
    logs: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            kind, *words = parts.path.strip("/").split("/")
            if kind == "portForward":
                port_forwarding.serve(self, int(query.get("port") or query["ports"]), targets)
            elif kind == "containerLogs" and len(words) == 3:
                said = logs.get(words[2], "").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain")
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)
            else:
                self.send_error(404)

        def log_message(self, *words: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trust.load_cert_chain(_certificate(folder))
    server.socket = trust.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    node = Node(kubeconfig, server.server_address[1], targets, logs)
    try:
        yield node
    finally:
        node.close()
        server.shutdown()
        server.server_close()
        thread.join(10)


def _certificate(folder: Path) -> Path:
    """As a kubelet makes itself, which the API server takes when it has been told of no authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "kubelet.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(private + made.public_bytes(pem))
    return file
