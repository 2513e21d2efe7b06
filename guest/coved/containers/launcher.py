"""The start of a container: its files, its network, its spec, and the shim that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import stat
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from coved.containers import config, modes, runtimes, spec, userns
from coved.containers.binds import Binds
from coved.containers.container import Container
from coved.containers.etc_files import EtcFiles
from coved.containers.linked import Linked
from coved.containers.logs import options as log_options
from coved.containers.logs.attributes import Subject
from coved.containers.mountpoints import MountPoint
from coved.containers.proxies_and_certificates import ProxiesAndCertificates
from coved.containers.registry import Registry
from coved.containers.seccomp_profile import DEFAULT_PATH
from coved.errors import EngineError, InvalidParameter, NotFound
from coved.images import Images
from coved.networks import Networks, Sandbox
from coved.runtime import syscalls
from coved.runtime.errors import RuntimeFailure
from coved.runtime.ids import Remap
from coved.runtime.paths import open_in_root
from coved.runtime.shim_client import ExitCallback, ShimClient
from coved.runtime.spawner_client import SpawnerClient
from coved.runtime.spec import Attachment, LogTarget, Mount, Stdio
from coved.volumes import Volumes

log = logging.getLogger(__name__)

PROFILE_VARIABLE = "COVE_SECCOMP_PROFILE"
"""Environment variable that names another default seccomp profile."""


MOUNTPOINTS = {"/etc": ("hostname", "hosts", "resolv.conf")}
"""What containers have mounted there: a read-only volume has to have it before, and gets it as from dockerd's layer for that."""


def default_profile() -> Path:
    """The seccomp profile of containers that ask for no other."""
    return Path(os.environ.get(PROFILE_VARIABLE) or DEFAULT_PATH)


class Launcher:
    """Knows how the parts of a container come together."""

    def __init__(
        self,
        root: Path,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        spawner: SpawnerClient,
        registry: Registry,
        proxies_and_certificates: ProxiesAndCertificates,
        binds: Binds,
        remap: Remap | None = None,
    ) -> None:
        self.proxies_and_certificates = proxies_and_certificates
        self._root = root
        self._images = images
        self._volumes = volumes
        self._networks = networks
        self._spawner = spawner
        self._registry = registry
        self._binds = binds
        self._remap = remap
        self.linked = Linked(registry, networks, lambda container: self._root / container.id / "hosts")
        self._etc_files = EtcFiles(registry, networks, lambda container: self._root / container.id)
        networks.sandboxes.on_change = self._networks_changed
        self._profile = default_profile()

    def _networks_changed(self, container_id: str) -> None:
        self.linked.refresh_hosts(container_id)
        self._etc_files.refresh(container_id)

    def layout(self, container: Container) -> spec.Layout:
        return spec.Layout(self._root / container.id, self._images.lower_dirs(self._images.get(container.image_id)))

    def files_folder(self, container: Container) -> Path:
        """Where /etc/hosts and its like lie: the container's own folder, or that of the one whose network it joins."""
        mode: str = container.host_config["NetworkMode"]
        if mode.startswith("container:"):
            with contextlib.suppress(NotFound):
                return self._root / self._registry.get(mode.removeprefix("container:")).id
        return self._root / container.id

    def log_path(self, container: Container) -> Path:
        return log_options.path(self._root / container.id, container.id, container.host_config["LogConfig"])

    def exit_file(self, container: Container) -> Path:
        return self._root / container.id / "exit.json"

    def _image_mount(self, container: Container, mount: MountPoint) -> Mount:
        from coved.containers import image_mounts  # for those who mount images

        lower = self._images.lower_dirs(self._images.get(mount.image_id))
        return image_mounts.of(mount, lower, self._root / container.id)

    async def start(self, container: Container, attach: Sequence[Attachment], on_exit: ExitCallback) -> None:
        """Start ``container``, which then has its shim, state and times.

        Raises EngineError and the runtime's errors; then nothing is left but the sandbox, which the caller closes.
        """
        await self._volumes.mount(volumes_of(container), container.id)
        try:
            await self._start(container, attach, on_exit)
        except BaseException:
            await self.release(container)
            raise

    async def _start(self, container: Container, attach: Sequence[Attachment], on_exit: ExitCallback) -> None:
        layout = self.layout(container)
        layout.prepare()
        await self.clear(container.id)
        with contextlib.suppress(FileNotFoundError):
            self.exit_file(container).unlink()
        mounted = await self._binds.ready(container.mounts)
        await self._binds.begin(container.id, mounted)
        for mount, source in mounted:
            if mount.subpath and mount.kind == "volume":
                await asyncio.to_thread(_must_be_within, source, mount.subpath)
        joined = modes.joined(container.host_config, self._registry.get)
        mode = modes.network(container.host_config, self._registry.get)
        files = self.files_folder(container)
        if mode.startswith("container:"):
            other = self._registry.get(mode.removeprefix("container:"))
            for field in ("Hostname", "Domainname"):
                container.config[field] = other.config[field]
        request = config.sandbox_request(container.name, container.request, mode)
        if container.first_start:
            request = replace(request, keep_ports=True)
        image, linked = container.config, self.linked.environment(container)
        if linked:
            image = {**image, "Env": [*linked, *image["Env"]]}
            request = replace(request, linked=self.linked.hosts(container))
        if more := self.proxies_and_certificates.environment(image["Env"]):
            image = {**image, "Env": [*more, *image["Env"]]}
        remap = self._remap if userns.applies(self._remap, container.host_config) else None
        opening: asyncio.Task[Sandbox] | None = None
        if remap is None:  # the network is made while the shim makes all that needs none
            sandbox, opening = await self._networks.sandboxes.begin(container.id, request)
        else:  # the network namespace is to be the user namespace's, which is not there yet
            sandbox = Sandbox(container.id, None, (), (), "", "")
        try:
            if files == layout.directory:
                self._write_files(container, layout, sandbox)
            around = spec.Surroundings(
                sandbox.netns_path,
                joined,
                mounted,
                container.hostname,
                files,
                remap,
                [self._image_mount(container, mount) for mount in container.mounts if mount.kind == "image"],
            )
            oci = spec.build(container.id, image, container.host_config, layout, around, self._profile)
            oci["mounts"] += self.proxies_and_certificates.mounts()
            shim = await self._spawner.create(
                container.id, oci, stdio=self._stdio(container), log=await self._log(container),
                exit_file=self.exit_file(container), attach=attach, after=opening,
                runtime=runtimes.program(container.host_config["Runtime"]), start=remap is None,
            )  # fmt: skip
        except BaseException:
            if opening is not None:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
            raise
        try:
            if remap is not None:
                request = replace(request, namespace=f"/proc/{shim.pid}/ns/net")
                self._write_files(container, layout, await self._networks.sandboxes.open(container.id, request))
            await shim.start()
        except BaseException:
            await self.discard(shim)
            raise
        state = container.state
        state.status, state.started_at, state.error = "running", time.time_ns(), ""
        state.exit_code, state.oom_killed = 0, False
        container.began = time.monotonic_ns()
        container.shim = shim
        shim.on_exit(on_exit)

    async def discard(self, shim: ShimClient) -> None:
        """Takes a container's shim away with all that it holds. What cannot be had is logged: it is a matter of the runtime."""
        try:
            await shim.delete()
        except RuntimeFailure as error:
            log.warning("the shim of container %s: %s", shim.container_id[:12], error)
            shim.close()
            await self.clear(shim.container_id)

    async def clear(self, container_id: str) -> None:
        """Takes away what there still is of an ended container's shim, which would be in the next one's way."""
        try:
            await self._spawner.clear(container_id)
        except RuntimeFailure as error:
            log.error("the shim of container %s stays for now: %s", container_id[:12], error)

    def _write_files(self, container: Container, layout: spec.Layout, sandbox: Sandbox) -> None:
        for name, text in (
            ("resolv.conf", sandbox.resolv_conf),
            ("hosts", sandbox.hosts),
            ("hostname", f"{container.hostname}\n"),
        ):
            with open(f"{layout.directory}/{name}", "wb") as file:  # noqa: PTH123 - on the path of every start
                file.write(text.encode())
                os.fchmod(file.fileno(), 0o644)

    def _stdio(self, container: Container) -> Stdio:
        height, width = container.host_config["ConsoleSize"]
        wanted = container.config
        return Stdio(wanted["Tty"], wanted["OpenStdin"], wanted["StdinOnce"], height, width)

    async def _log(self, container: Container) -> LogTarget | None:
        wanted = container.config
        subject = Subject(
            container.id, container.name, container.image_id, container.image_name,
            (*(wanted["Entrypoint"] or ()), *(wanted["Cmd"] or ())), wanted["Labels"], tuple(wanted["Env"]),
        )  # fmt: skip
        return await log_options.target(self.log_path(container), container.host_config["LogConfig"], subject)

    async def populate(self, container: Container) -> None:
        """Gives volumes that are still empty what the image has at their places. Raises EngineError.

        At the container's creation, as dockerd does it: others may take its volumes before it is ever started.
        """
        with contextlib.ExitStack() as stack:
            image = -1
            for mount in container.mounts:
                if mount.kind != "volume" or not mount.copy or await self._volumes.is_filled(mount.source):
                    continue
                if image < 0:
                    from coved.runtime import view  # for volumes that are new

                    image = stack.enter_context(view.of_image(self.layout(container).lower))
                try:
                    # Only looked at: what an image has at a volume's place may be a device, whose opening does something.
                    place = open_in_root(image, mount.destination, os.O_PATH)
                except OSError:
                    continue  # the image has nothing there
                try:
                    if not stat.S_ISDIR(os.fstat(place).st_mode):
                        path = f"{self._root / container.id}/root{mount.destination}"
                        raise EngineError(f"source {path} is not directory")
                    directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
                finally:
                    os.close(place)
                try:
                    async with self._volumes.opened([mount.source]):
                        empty = MOUNTPOINTS.get(mount.destination, ())
                        await self._volumes.populate(mount.source, directory, empty, made_for=container.id)
                finally:
                    os.close(directory)

    async def found(self, running: Iterable[Container]) -> None:
        """At the engine's start: the containers that outlived an earlier one use their volumes."""
        users: dict[str, list[str]] = {}
        for container in running:
            for name in volumes_of(container):
                users.setdefault(name, []).append(container.id)
        await self._volumes.found(users)

    async def release(self, container: Container) -> None:
        """The container has ended: volumes that are mounted for it alone are taken off, and its binds are watched no more."""
        self._binds.end(container.id)
        await self._volumes.unmount(volumes_of(container), container.id)


def volumes_of(container: Container) -> list[str]:
    """Names of a container's volumes."""
    return [mount.source for mount in container.mounts if mount.kind == "volume"]


def _must_be_within(source: str, subpath: str) -> None:
    """Tells in dockerd's words what is wrong with a subpath; the shim looks it up again for itself. Raises EngineError."""
    base = os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(syscalls.openat2(base, subpath, os.O_PATH, syscalls.RESOLVE_BENEATH | syscalls.RESOLVE_NO_MAGICLINKS))
    except OSError as error:
        if error.errno == errno.EXDEV:
            words = f"path concatenation escapes the base directory, base: {source}, subpath: {subpath}"
            raise InvalidParameter(words) from None
        path = f"{source}/{os.path.normpath(subpath)}"
        raise NotFound(f"cannot access path {path}: lstat {path}: {os.strerror(error.errno or 0).lower()}") from None
    finally:
        os.close(base)
