"""Runs a step's command (RUN): a container without a name, on the layers below it, that nobody but the build knows of."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from coved.build.cache.cache_mounts import CacheMounts
from coved.build.cache.snapshots import Draft, Snapshots
from coved.build.errors import BuildError
from coved.build.orders import CacheMount, RunOrder
from coved.build.run import stubs
from coved.build.run.mounts import RunMounts
from coved.build.run.output import Output, Take
from coved.containers import config, spec
from coved.containers.launcher import default_profile
from coved.containers.proxies_and_certificates import ProxiesAndCertificates
from coved.errors import EngineError
from coved.finishing import to_the_end
from coved.networks import Networks, Sandbox, SandboxRequest
from coved.runtime.errors import CREATE_REFUSED, RuntimeFailure
from coved.runtime.shim_client import ShimClient
from coved.runtime.spawner_client import SpawnerClient
from coved.runtime.spec import Attachment, Exit, Spec, Stdio
from coved.store.database import Database

log = logging.getLogger(__name__)

_FAILED = 'process "{}" did not complete successfully: {}'
_RUNC_FAILED = 1
"""The exit status of runc, where BuildKit runs that, when it cannot run the command."""
_KILLED = 137
_SHORT = 12


class Executor:
    """Belongs to the event loop; blocking work is done in threads."""

    def __init__(
        self, database: Database, snapshots: Snapshots, networks: Networks, spawner: SpawnerClient,
        proxies_and_certificates: ProxiesAndCertificates,
    ) -> None:  # fmt: skip
        self._snapshots = snapshots
        self._networks = networks
        self._spawner = spawner
        self._proxies_and_certificates = proxies_and_certificates
        self._profile = default_profile()
        self._ending: set[asyncio.Task[None]] = set()
        self.caches = CacheMounts(database, snapshots)

    async def start(self) -> None:
        """Removes what interrupted work has left; containers' own start has ended commands that outlived an engine."""
        await self.caches.start()

    async def close(self) -> None:
        """Waits for what goes on in the background."""
        for outcome in await asyncio.gather(*self._ending, return_exceptions=True):
            if isinstance(outcome, Exception):  # what else is to be closed must be
                log.error("what a build's command leaves stays until the next start", exc_info=outcome)

    async def run(self, order: RunOrder, draft: Draft, output: Take) -> None:
        """Runs a command; what it changes is in the draft's upper directory then. Cancelled, it leaves nothing running.

        Args:
            output: told of what the command prints, which waits for it.

        Raises BuildError in BuildKit's words when it fails, EngineError when it cannot be run at all.
        """
        words = " ".join(order.args)
        try:
            shim, ended = await self._run(order, draft, output)
        except RuntimeFailure as error:
            reason = str(error)
            if order.container:
                raise BuildError(reason) from error
            start, _, end = CREATE_REFUSED.partition("{}")
            if not reason.startswith(start):
                raise BuildError(_FAILED.format(words, reason)) from error
            output(2, f"runc run failed: {reason.removeprefix(start).removesuffix(end)}\n".encode())
            raise BuildError(_FAILED.format(words, f"exit code: {_RUNC_FAILED}"), exit_code=_RUNC_FAILED) from error
        if ended.code == _KILLED and ended.oom_killed:
            raise BuildError(_FAILED.format(words, "cannot allocate memory"), exit_code=ended.code)
        if ended.code:
            raise BuildError(_FAILED.format(words, f"exit code: {ended.code}"), exit_code=ended.code)
        if shim.made:
            lower = self._snapshots.lower_dirs(order.lower)
            await asyncio.to_thread(stubs.remove, draft.upper, lower, shim.made)

    async def _run(self, order: RunOrder, draft: Draft, output: Take) -> tuple[ShimClient, Exit]:
        caches = {place: mount for place, mount in enumerate(order.mounts) if isinstance(mount, CacheMount)}
        request = _request(order)
        async with self.caches.taken([*caches.values()]) as folders:
            taken = {place: folders[number] for number, place in enumerate(caches)}
            made = RunMounts(order, draft, self._snapshots, taken).make
            mounts = await asyncio.to_thread(made) if order.mounts else []
            name = f"build-{secrets.token_hex(16)}"
            async with self._network(name, order) as (sandbox, opening):
                oci = self._spec(name, order, request, draft, sandbox)
                oci["mounts"] += [*self._proxies_and_certificates.mounts(), *mounts]
                oci["process"]["env"] += self._proxies_and_certificates.bundle_variables(order.env)
                with Output(output) as printed:
                    async with self._process(name, oci, draft, printed, opening) as shim:
                        ended = await shim.wait()
                        await printed.end()
                    return shim, ended

    @contextlib.asynccontextmanager
    async def _network(self, name: str, order: RunOrder) -> AsyncIterator[tuple[Sandbox, asyncio.Task[Sandbox]]]:
        """What it will be, and the task at whose end it is there."""
        request = SandboxRequest(
            container_name=name,
            mode=order.network or "default",
            hostname=order.container[:_SHORT],
            extra_hosts=tuple(f"{host}:{address}" for host, address in order.add_hosts),
            quiet=True,
        )
        sandbox, opening = await self._networks.sandboxes.begin(name, request)

        async def close() -> None:
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            await self._networks.sandboxes.forget(name)

        async with self._afterwards(close):
            yield sandbox, opening

    @contextlib.asynccontextmanager
    async def _process(
        self, name: str, oci: Spec, draft: Draft, printed: Output, opening: asyncio.Task[Sandbox]
    ) -> AsyncIterator[ShimClient]:
        """The command, running."""
        attachment = Attachment(printed.far_end)
        made: list[ShimClient] = []

        async def make() -> None:
            shim = await self._spawner.create(
                name, oci, stdio=Stdio(), log=None, exit_file=draft.directory / "exit.json", attach=[attachment],
                start=True, after=opening,
            )  # fmt: skip
            made.append(shim)

        async def delete() -> None:
            for shim in made:
                try:
                    await shim.delete()
                except RuntimeFailure as error:
                    log.warning("the shim of %s: %s", name, error)
                    shim.close()
            await self._spawner.clear(name)

        async with self._afterwards(delete):
            # Whoever is cancelled in the middle could not know whether there will be a process.
            await to_the_end(make())
            printed.handed_over()
            await made[0].start()
            yield made[0]

    @contextlib.asynccontextmanager
    async def _afterwards(self, work: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
        """Does ``work`` at the end. When all went well, the command has ended, and with it all that it has begun, and all of
        its mounts: nobody need wait for the rest of it."""

        async def run() -> None:
            try:
                await work()
            except (RuntimeFailure, EngineError, OSError) as error:
                log.error("what a build's command leaves stays until the next start: %s", error)

        try:
            yield
        except BaseException:
            await to_the_end(run())
            raise
        task = asyncio.get_running_loop().create_task(run())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    def _spec(self, name: str, order: RunOrder, request: config.Request, draft: Draft, sandbox: Sandbox) -> Spec:
        files = draft.directory / "files"
        files.mkdir(mode=0o755)
        hostname = order.container[:_SHORT] or order.hostname
        texts = {"resolv.conf": sandbox.resolv_conf, "hosts": sandbox.hosts, "hostname": f"{hostname}\n"}
        if not order.container:
            del texts["hostname"]
            local = "127.0.0.1\tlocalhost"
            texts["hosts"] = sandbox.hosts.replace(f"{local}\n", f"{local} {hostname}\n", 1)
        for file, text in texts.items():
            (files / file).write_text(text)
            (files / file).chmod(0o644)
        layout = spec.Layout(draft.directory, self._snapshots.lower_dirs(order.lower))
        around = spec.Surroundings(sandbox.netns_path, {}, [], hostname, files)
        oci = spec.build(name, request.config, request.host, layout, around, self._profile)
        for mount in oci["mounts"] if not order.container else ():
            if mount["destination"].startswith("/etc/"):
                mount["options"] = [*mount["options"], "ro", "nosuid", "nodev", "noexec"]  # as BuildKit has them
        # Whatever this kernel does by itself: all that has changed must be in the upper directory, and not only named in it.
        oci["mounts"][0]["options"] += ["redirect_dir=off", "metacopy=off"]
        oci["reportMade"] = True
        return oci


def _request(order: RunOrder) -> config.Request:
    """What a container would have been asked for to be like this. Raises InvalidParameter, EngineError in dockerd's words."""
    limits = order.limits
    host = {
        **limits.host_config,
        "Privileged": order.insecure,
        "ShmSize": limits.shm_size,
        "Ulimits": [{**one} for one in limits.ulimits],
        "CgroupParent": limits.cgroup_parent,
    }
    body = {
        "Hostname": order.container[:_SHORT] or order.hostname,
        "Cmd": [*order.args], "Env": [*order.env], "User": order.user, "WorkingDir": order.cwd,
        "HostConfig": host,
    }  # fmt: skip
    request = config.parse(body, {})
    if not order.container:
        request.config["Hostname"] = ""  # it is the sandbox's alone: BuildKit's commands have no variable of it
    return request
