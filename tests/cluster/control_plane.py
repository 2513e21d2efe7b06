"""Kubernetes' own control plane on this computer: etcd, kube-apiserver, and kube-controller-manager where there is one, each a process."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

PROGRAMS = ("etcd", "kube-apiserver")
MANAGER = "kube-controller-manager"
START_S = 240.0
"""Within which each of them is ready, on a computer that has other things to do."""
AGAIN_S = 0.2
TOKEN = "of-the-administrator"
CONTROLLERS = (
    "deployment", "replicaset", "job", "garbagecollector", "namespace", "resourcequota", "root-ca-cert-publisher", "serviceaccount",
    "endpoint", "endpointslice", "pvc-protection",
)  # fmt: skip
"""By the names that all versions know. Without those of nodes: the one node here has no kubelet that would tell of itself."""


def has(folder: Path, name: str) -> bool:
    return os.access(folder / name, os.X_OK)


@contextlib.contextmanager
def running(programs: Path, folder: Path) -> Iterator[Path]:
    """The kubeconfig of its administrator. What the processes say is in `folder`."""
    key, tokens, kubeconfig = folder / "accounts.pem", folder / "tokens.csv", folder / "kubeconfig"
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    key.write_bytes(made.private_bytes(*pem))
    tokens.write_text(f"{TOKEN},admin,admin,system:masters\n")
    certificates = folder / "certificates"
    authority = certificates / "apiserver.crt"
    with contextlib.ExitStack() as processes:
        etcd, peer, secure, inner = (processes.enter_context(_own_port()) for _ in range(4))

        def start(name: str, *words: str) -> subprocess.Popen[bytes]:
            return processes.enter_context(_process([str(programs / name), *words], folder / f"{name}.log"))

        store = start(
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
            "--socket-reuse-port",
            "--unsafe-no-fsync",
        )
        _wait(store, folder / "etcd.log", lambda: _answers(f"http://127.0.0.1:{etcd}/health"))
        server = start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{etcd}",
            f"--cert-dir={certificates}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            f"--secure-port={secure}",
            "--permit-port-sharing",
            f"--token-auth-file={tokens}",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--service-cluster-ip-range=10.0.0.0/24",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--service-account-issuer=https://127.0.0.1:{secure}",
        )
        url = f"https://127.0.0.1:{secure}"
        _wait(server, folder / "kube-apiserver.log", lambda: _answers(f"{url}/readyz", authority))
        kubeconfig.write_text(json.dumps(_kubeconfig(url, authority)))
        if has(programs, MANAGER):
            manager = start(
                MANAGER,
                f"--kubeconfig={kubeconfig}",
                "--bind-address=127.0.0.1",
                f"--secure-port={inner}",
                "--permit-port-sharing",
                f"--cert-dir={folder / 'manager'}",
                "--leader-elect=false",
                f"--controllers={','.join(CONTROLLERS)}",
                f"--service-account-private-key-file={key}",
                f"--root-ca-file={authority}",
            )
            of_manager = folder / "manager" / "kube-controller-manager.crt"
            _wait(
                manager,
                folder / "kube-controller-manager.log",
                lambda: _answers(f"https://127.0.0.1:{inner}/healthz", of_manager),
            )
        yield kubeconfig


def _kubeconfig(url: str, authority: Path) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "here",
        "clusters": [{"name": "c", "cluster": {"server": url, "certificate-authority": str(authority)}}],
        "users": [{"name": "u", "user": {"token": TOKEN}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
    }


@contextlib.contextmanager
def _own_port() -> Iterator[int]:
    """Of localhost, for one of these processes: they share it with who holds it here, so nobody else comes to have it before them."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))  # it does not listen: connections are the other's
        yield held.getsockname()[1]


@contextlib.contextmanager
def _process(command: Sequence[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait(process: subprocess.Popen[bytes], log: Path, is_ready: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(int(START_S / AGAIN_S)):
        if is_ready():
            return
        assert process.poll() is None, f"it has ended with status {process.returncode}:\n{_end(log)}"
        pause.wait(AGAIN_S)
    raise AssertionError(f"it is not ready after {START_S:.0f} s:\n{_end(log)}")


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _answers(url: str, authority: Path | None = None) -> bool:
    """Whether it is ready, as it tells everybody."""
    try:
        trust = ssl.create_default_context(cafile=authority) if authority else None
        with urllib.request.urlopen(url, timeout=10, context=trust) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
