"""Engines that a host has already: where they listen, for the user that we are there."""

from __future__ import annotations

from cove.errors import RemoteError
from cove.remote.host import Host

LOOK_S = 30.0
_PLACES = {
    "docker": ("/var/run/docker.sock", "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock"),
    "podman": ("/run/podman/podman.sock", "${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/podman/podman.sock"),
}
_HINTS = {
    "docker": "it is to listen at /var/run/docker.sock, and your user there to be in the group docker",
    "podman": "have its API served: systemctl enable --now podman.socket (systemctl --user for your user alone)",
}


def find(host: Host, engine: str) -> str:
    """The socket of "docker" or "podman", which our user may open; "" when there is none. Raises `RemoteError`."""
    places = " ".join(f'"{place}"' for place in _PLACES[engine])
    script = f'for place in {places}; do if [ -S "$place" ] && [ -w "$place" ]; then echo "$place"; exit; fi; done'
    ran = host.run(["sh", "-c", script], timeout_s=LOOK_S)
    if ran.status:
        raise RemoteError(f"the host has no usable sh: {ran.err.decode('utf-8', 'replace').strip()[:200]}")
    return ran.out.decode("utf-8", "replace").strip()


def missing(host: str, engine: str) -> RemoteError:
    return RemoteError(f"{host} has no {engine} that your user there may use", _HINTS[engine])
