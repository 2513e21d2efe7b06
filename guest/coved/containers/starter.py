"""The start of a container: its files, its network, its spec, and the shim that runs it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from coved.containers import config, log_options, spec
from coved.containers.container import Container
from coved.containers.log_attributes import Subject
from coved.containers.mountpoints import MountPoint, ensure_source
from coved.containers.registry import Registry
from coved.containers.seccomp_profile import DEFAULT_PATH
from coved.errors import Conflict
from coved.images import Images
from coved.networks import Networks, Sandbox
from coved.runtime.client import ExitCallback, SpawnerClient
from coved.runtime.paths import open_in_root
from coved.runtime.spec import Attachment, LogTarget, Stdio
from coved.store.trees import is_empty
from coved.volumes import Volumes

PROFILE_VARIABLE = "COVE_SECCOMP_PROFILE"
"""Environment variable that names another default seccomp profile."""


class Starter:
    """Knows how the parts of a container come together."""

    def __init__(
        self,
        root: Path,
        images: Images,
        volumes: Volumes,
        networks: Networks,
        spawner: SpawnerClient,
        registry: Registry,
    ) -> None:
        self._root = root
        self._images = images
        self._volumes = volumes
        self._networks = networks
        self._spawner = spawner
        self._registry = registry
        self._profile = Path(os.environ.get(PROFILE_VARIABLE) or DEFAULT_PATH)

    def layout(self, container: Container) -> spec.Layout:
        return spec.Layout(self._root / container.id, self._images.lower_dirs(self._images.get(container.image_id)))

    def log_path(self, container: Container) -> Path:
        return log_options.path(self._root / container.id, container.id, container.host["LogConfig"])

    def exit_file(self, container: Container) -> Path:
        return self._root / container.id / "exit.json"

    def source(self, mount: MountPoint) -> str:
        """The path that a mount comes from; "" for a tmpfs."""
        return str(self._volumes.path(mount.source)) if mount.kind == "volume" else mount.source

    async def start(self, container: Container, attach: Sequence[Attachment], on_exit: ExitCallback) -> None:
        """Start ``container``, which then has its shim, state and times.

        Raises EngineError and the runtime's errors; then nothing is left but the sandbox, which the caller closes.
        """
        layout = self.layout(container)
        layout.prepare()
        with contextlib.suppress(FileNotFoundError):
            self.exit_file(container).unlink()
        for mount in container.mounts:
            if mount.kind == "bind":
                ensure_source(mount)
            elif mount.kind == "volume" and mount.copy:
                await self._populate(layout, mount)
        mode = self._network_mode(container)
        sandbox = await self._networks.open_sandbox(
            container.id, config.sandbox_request(container.name, container.request, mode)
        )
        self._write_files(container, layout, sandbox)
        around = spec.Surroundings(
            sandbox.netns_path,
            self._joined(container),
            [(mount, self.source(mount)) for mount in container.mounts],
            container.hostname,
        )
        oci = spec.build(container.id, container.config, container.host, layout, around, self._profile)
        shim = await self._spawner.create(
            container.id, oci, stdio=self._stdio(container), log=await self._log(container),
            exit_file=self.exit_file(container), attach=attach,
        )  # fmt: skip
        try:
            await shim.start()
        except BaseException:
            await shim.delete()
            raise
        state = container.state
        state.status, state.started_at, state.error = "running", time.time_ns(), ""
        state.exit_code, state.oom_killed = 0, False
        container.shim = shim
        shim.on_exit(on_exit)

    def _write_files(self, container: Container, layout: spec.Layout, sandbox: Sandbox) -> None:
        own = "".join(f"{endpoint.address}\t{container.hostname}\n" for endpoint in sandbox.endpoints)
        for name, text in (
            ("resolv.conf", sandbox.resolv_conf),
            ("hosts", sandbox.hosts + own),
            ("hostname", f"{container.hostname}\n"),
        ):
            path = layout.directory / name
            path.write_text(text)
            path.chmod(0o644)

    def _network_mode(self, container: Container) -> str:
        mode: str = container.host["NetworkMode"]
        if not mode.startswith("container:"):
            return mode
        return f"container:{self._running(mode).id}"

    def _running(self, mode: str) -> Container:
        reference = mode.partition(":")[2]
        other = self._registry.get(reference)
        if not other.state.running or other.shim is None:
            raise Conflict(f"cannot join the namespace of a non running container: {reference}")
        return other

    def _joined(self, container: Container) -> dict[str, str]:
        joined: dict[str, str] = {}
        for kind, field in (("pid", "PidMode"), ("ipc", "IpcMode")):
            if container.host[field].startswith("container:"):
                other = self._running(container.host[field])
                assert other.shim is not None
                joined[kind] = f"/proc/{other.shim.pid}/ns/{kind}"
                if kind == "ipc":
                    joined["shm"] = f"/proc/{other.shim.pid}/root/dev/shm"
        return joined

    def _stdio(self, container: Container) -> Stdio:
        height, width = container.host["ConsoleSize"]
        wanted = container.config
        return Stdio(wanted["Tty"], wanted["OpenStdin"], wanted["StdinOnce"], height, width)

    async def _log(self, container: Container) -> LogTarget | None:
        wanted = container.config
        subject = Subject(
            container.id, container.name, container.image_id, container.image_name,
            (*(wanted["Entrypoint"] or ()), *(wanted["Cmd"] or ())), wanted["Labels"], tuple(wanted["Env"]),
        )  # fmt: skip
        return await log_options.target(self.log_path(container), container.host["LogConfig"], subject)

    async def _populate(self, layout: spec.Layout, mount: MountPoint) -> None:
        """Give a volume that is still empty what the image has at its place."""
        from coved.files import view  # for volumes that are new

        if not await asyncio.to_thread(is_empty, self._volumes.path(mount.source)):
            return
        with view.of_image(layout.lower) as image:
            try:
                directory = open_in_root(image, mount.destination, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                return  # the image has no directory there
            try:
                await self._volumes.populate(mount.source, directory)
            finally:
                os.close(directory)
