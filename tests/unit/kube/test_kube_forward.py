"""Services of a cluster on localhost, by the official client's port forwarding before a model of an API server."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cove.kube.deploy import forward
from cove.kube.deploy.cluster import connect
from cove.kube.deploy.forward import Forward, Forwarder
from cove.kube.generate import manifests
from model_cluster import Model, pod_status, serving

LIMIT_S = 60.0


class Said:
    def __init__(self) -> None:
        self.texts: list[str] = []
        self.came = threading.Event()

    def __call__(self, text: str) -> None:
        self.texts.append(text)
        self.came.set()


@contextmanager
def echoing() -> Iterator[int]:
    """A server that answers with what it got, and ends what its client ends."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(client: socket.socket) -> None:
        with client:
            while data := client.recv(65536):
                client.sendall(data)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Model, Path]]:
    with serving(tmp_path) as (model, kubeconfig):
        yield model, kubeconfig


@contextmanager
def forwarding(kubeconfig: Path, *forwards: Forward, said: Said | None = None) -> Iterator[Forwarder]:
    made = Forwarder(connect(str(kubeconfig), "", ""), "shop", list(forwards), said or Said())
    try:
        yield made
    finally:
        made.close()


def pod(model: Model, name: str, ready: bool = True) -> None:
    metadata = {"name": name, "labels": manifests.labels("shop", "web")}
    model.create({"kind": "Pod", "metadata": metadata, "spec": {}, "status": pod_status(ready)})


def client(forwarder: Forwarder) -> socket.socket:
    return socket.create_connection((forward.LOCALHOST, forwarder.places[0].local), timeout=LIMIT_S)


def received(one: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := one.recv(65536)):
        data += piece
    return data


def test_bytes_go_to_a_pod_that_is_ready_and_back(place: tuple[Model, Path]) -> None:
    model, kubeconfig = place
    pod(model, "web-1", ready=False)
    pod(model, "web-2")
    with echoing() as port, forwarding(kubeconfig, Forward("web", 80, 0)) as forwarder:
        model.targets[80] = port
        data = os.urandom(3 << 20)
        with client(forwarder) as one, client(forwarder) as other:
            other.sendall(b"beside")
            # Larger than what all buffers hold: it is sent while it comes back.
            threading.Thread(target=one.sendall, args=(data,), daemon=True).start()
            assert received(one, len(data)) == data
            assert received(other, 6) == b"beside"
    asked = [path for _, path in model.requests if "portforward" in path]
    assert len(asked) == 2
    assert all("/pods/web-2/portforward?ports=80" in path for path in asked)


def test_what_the_pod_ends_is_ended(place: tuple[Model, Path]) -> None:
    model, kubeconfig = place
    pod(model, "web-1")
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, forwarding(kubeconfig, Forward("web", 80, 0)) as forwarder:
        model.targets[80] = listener.getsockname()[1]
        with client(forwarder) as one:
            accepted, _ = listener.accept()
            accepted.sendall(b"bye")
            accepted.close()
            assert received(one, 100) == b"bye"


def test_an_answer_comes_after_the_client_has_ended_what_it_sends(place: tuple[Model, Path]) -> None:
    model, kubeconfig = place
    pod(model, "web-1")
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, forwarding(kubeconfig, Forward("web", 80, 0)) as forwarder:
        model.targets[80] = listener.getsockname()[1]
        with client(forwarder) as one:
            accepted, _ = listener.accept()
            one.sendall(b"question")
            one.shutdown(socket.SHUT_WR)
            assert received(accepted, 8) == b"question"
            accepted.sendall(b"answer")
            accepted.close()
            assert received(one, 100) == b"answer"


def test_a_client_that_has_gone_is_not_kept(place: tuple[Model, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "LINGER_S", 0.1)
    model, kubeconfig = place
    pod(model, "web-1")
    listener = socket.create_server(("127.0.0.1", 0))
    with listener, forwarding(kubeconfig, Forward("web", 80, 0)) as forwarder:
        model.targets[80] = listener.getsockname()[1]
        with client(forwarder) as one:
            one.sendall(b"x")
            accepted, _ = listener.accept()
            assert received(accepted, 1) == b"x"
        accepted.settimeout(LIMIT_S)
        assert accepted.recv(1) == b""
        accepted.close()


def test_no_pod_that_is_ready(place: tuple[Model, Path]) -> None:
    model, kubeconfig = place
    pod(model, "web-1", ready=False)
    said = Said()
    with forwarding(kubeconfig, Forward("web", 80, 0), said=said) as forwarder, client(forwarder) as one:
        assert one.recv(1) == b""
        assert said.came.wait(LIMIT_S)
        assert said.texts == ["web:80: none of its pods is ready"]


def test_a_port_where_nothing_listens_in_the_pod(place: tuple[Model, Path]) -> None:
    model, kubeconfig = place
    pod(model, "web-1")
    with forwarding(kubeconfig, Forward("web", 80, 0)) as forwarder, client(forwarder) as one:
        assert one.recv(1) == b""


def test_a_port_of_localhost_that_somebody_has_is_another(place: tuple[Model, Path]) -> None:
    said = Said()
    with socket.create_server((forward.LOCALHOST, 0)) as taken:
        number = taken.getsockname()[1]
        with forwarding(place[1], Forward("web", 80, number), said=said) as forwarder:
            (found,) = forwarder.places
            assert found.local not in (0, number)
            assert f"{forward.LOCALHOST}:{number} cannot be had" in said.texts[0]
            assert f"web is on port {found.local}" in said.texts[0]
