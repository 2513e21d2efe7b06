"""Files of a container in /etc that change while it runs, because its networks do: /etc/hosts and /etc/resolv.conf."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from coved.containers import config
from coved.containers.registry import Registry
from coved.networks import Networks

if TYPE_CHECKING:
    from coved.containers.container import Container

log = logging.getLogger(__name__)

_LIMIT = 1 << 20
"""Bytes; the container can write these files, and one that has grown beyond this is left alone."""


def change(container: Container, path: Path, changed: Callable[[str], str]) -> None:
    """Gives a file of a container that runs the text that ``changed`` makes of what is in it.

    A file that is not there is one whose container has not started yet. What cannot be written is logged.
    """
    try:
        with path.open("r+", encoding="utf-8", errors="surrogateescape", newline="") as file:
            text = file.read(_LIMIT + 1)
            new = changed(text)
            if len(text) > _LIMIT or new == text:
                return
            file.seek(0)  # in place: the container has this very file
            file.write(new)
            file.truncate()
    except FileNotFoundError:
        return
    except OSError as error:
        log.warning("%s of container %s is not up to date: %s", path.name, container.short_id, error)


class EtcFiles:
    """Args: folder: where a container's files lie on this machine."""

    def __init__(self, registry: Registry, networks: Networks, folder: Callable[[Container], Path]) -> None:
        self._registry = registry
        self._networks = networks
        self._folder = folder

    def refresh(self, container_id: str) -> None:
        """A container has joined or left networks: its name has an address on each, and other servers know their names."""
        container = self._registry.find(container_id)
        if container is None or not container.state.running or container.starting:
            return  # its start writes the files anew
        sandboxes = self._networks.sandboxes
        addresses = sandboxes.addresses(container_id)
        if not addresses and container.host_config["NetworkMode"] in ("host", "none"):
            return
        from coved.networks import resolver

        request = config.sandbox_request(container.name, container.request, container.host_config["NetworkMode"])
        folder = self._folder(container)
        change(container, folder / "hosts", lambda text: resolver.with_own_lines(text, request, addresses))
        if sandboxes.has_names(container_id):
            before = resolver.resolv_conf(request, host_mode=False)
            after = resolver.resolv_conf(request, host_mode=False, names=True)
            # One that the container has changed is its own affair, as in dockerd.
            change(container, folder / "resolv.conf", lambda text: after if text == before else text)
