"""The engine's side of the spawner (asyncio): containers are made, and those that outlived the engine are found again."""

import asyncio
import contextlib
import json
import logging
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coved.runtime import payloads, wire
from coved.runtime.errors import CreateError, RuntimeFailure, RuntimeTimeout, ShimGone, SpawnerGone
from coved.runtime.shim_client import CREATE_TIMEOUT_S, REQUEST_TIMEOUT_S, ShimClient
from coved.runtime.spec import Attachment, LogTarget, Spec, Stdio

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0


class SpawnerClient:
    """Makes shims, and finds those that outlived the engine."""

    def __init__(self, socket_path: Path, shims_dir: Path) -> None:
        self.socket_path = socket_path
        self.shims_dir = shims_dir
        self._profile: tuple[Any, bytes] = None, b""
        """The last seccomp profile and its JSON: nearly all containers have the same one."""

    async def create(
        self,
        container_id: str,
        spec: Spec,
        *,
        stdio: Stdio,
        log: LogTarget | None,
        exit_file: Path,
        attach: Sequence[Attachment] = (),
        runtime: str = "",
        start: bool = False,
        after: "asyncio.Future[Any] | None" = None,
    ) -> ShimClient:
        """Fork a shim; the container's process then waits just before execve.

        ``runtime``: path of another OCI runtime that is to make the container; "" for this one. ``start``: it need not
        wait, for :meth:`ShimClient.start` comes next in any case. ``after``: makes what the container joins, while the shim
        makes what it can without that.

        Raises CreateError (nothing is left behind), SpawnerGone, ShimGone (it was killed, and is not made once more, for its
        process may have been executed), RuntimeTimeout, and what ``after`` raises.
        """
        if after is not None and after.done():
            after.result()
            after = None
        linux = spec.get("linux", {})
        seccomp = None if runtime else linux.get("seccomp")
        # The profile travels apart from the spec: the spawner compiles each distinct one once, and a shim never
        # has to parse it.
        slim = {**spec, "linux": {key: value for key, value in linux.items() if runtime or key != "seccomp"}}
        request = {
            "container_id": container_id,
            "spec": slim,
            "stdio": payloads.of_stdio(stdio),
            "log": None if log is None else payloads.of_log(log),
            "exit_file": str(exit_file),
            "runtime": runtime,
            "start": start,
            "hold": after is not None,
        }
        if seccomp is not self._profile[0]:
            encoded = json.dumps(seccomp, separators=(",", ":"), sort_keys=True).encode() if seccomp else b""
            self._profile = seccomp, encoded
        profile = self._profile[1]
        try:
            data = wire.encode(request) + wire.frame(profile)
        except (wire.ProtocolError, TypeError, ValueError) as error:
            raise CreateError(f"the container's configuration cannot be sent to the runtime: {error}") from None
        try:
            return await self._ask(container_id, data, attach, start, after)
        except SpawnerGone:  # before there was a shim: the next one is asked
            return await self._ask(container_id, data, attach, start, after)

    async def _ask(
        self,
        container_id: str,
        data: bytes,
        attach: Sequence[Attachment],
        start: bool,
        after: "asyncio.Future[Any] | None",
    ) -> ShimClient:
        sock = await self._connect(self.socket_path, "spawner")
        shim = ShimClient(container_id, sock)
        attaching: list[asyncio.Task[Any]] = []
        try:
            async with asyncio.timeout(CREATE_TIMEOUT_S) as timeout:
                try:
                    await shim.send(data)
                except OSError as error:
                    raise SpawnerGone(f"the container spawner ended while it was asked: {error.strerror}") from None
                if after is not None:
                    await shim.hold(after)
                attaching = shim.ask_early(attach, start=start)
                try:
                    await shim.first_message(CREATE_TIMEOUT_S)
                except ShimGone as error:
                    shim.close()
                    if (self.shims_dir / container_id).exists():
                        # Not to be asked for again: its process may have been executed.
                        await self._undo(container_id)
                        raise ShimGone(
                            f"the shim of container {container_id} ended before it answered: {error}"
                        ) from None
                    raise SpawnerGone(f"the container spawner ended before it answered: {error}") from None
            for one in attaching:
                await one
        except BaseException as error:
            shim.close()
            early = [*attaching, shim.starting] if shim.starting is not None else attaching
            await asyncio.gather(*early, return_exceptions=True)  # they fail with the connection
            if not isinstance(error, TimeoutError) or not timeout.expired():
                raise
            await self._undo(container_id)  # nobody waits for its start any more, which it may have been asked for
            raise RuntimeTimeout(f"container {container_id} was not made within {CREATE_TIMEOUT_S:.0f} s") from None
        return shim

    async def reconnect(self, container_id: str, timeout_s: float = REQUEST_TIMEOUT_S) -> ShimClient | None:
        """Connect to a shim that outlived the engine. None when there is none (any more): the container has ended.

        One that gives no answer within ``timeout_s`` is killed: nobody could ever tell of its container's end, nor bring it
        about. What a killed shim left behind (processes, cgroup, folder) is cleaned up.
        """
        return (await self._reconnect(container_id, timeout_s))[0]

    async def clear(self, container_id: str) -> None:
        """Take away what there still is of a container that does not run; a shim that does not do so itself is killed."""
        if not (self.shims_dir / container_id).exists():
            return
        shim, pid = await self._reconnect(container_id, CONNECT_TIMEOUT_S)
        if shim is None:
            return
        try:
            await shim.delete()
        except RuntimeFailure as error:
            await self._end(container_id, pid, error)
        finally:
            shim.close()

    async def _reconnect(self, container_id: str, timeout_s: float) -> tuple[ShimClient | None, int]:
        """Along with the shim's pid."""
        path, pid = self.shims_dir / container_id / "shim.sock", 0
        try:
            sock = await self._connect(path, f"shim of {container_id}")
            # unix(7): of who called listen(2), which each shim does for itself.
            (pid, _, _) = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            shim = ShimClient(container_id, sock)
            await shim.first_message(timeout_s)
        except (SpawnerGone, ShimGone):
            from coved.runtime.leftovers import clean_up  # rare: only after a shim was killed

            await asyncio.to_thread(clean_up, self.shims_dir / container_id)
            return None, 0
        except RuntimeTimeout as error:
            await self._end(container_id, pid, error)
            return None, 0
        return shim, pid

    async def _end(self, container_id: str, pid: int, why: RuntimeFailure) -> None:
        from coved.runtime.leftovers import end

        _log.error("%s; it is killed", why)
        await asyncio.to_thread(end, self.shims_dir / container_id, container_id, pid)

    def shims(self) -> set[str]:
        """Ids of the containers that have a shim, or had one that was killed."""
        try:
            return {entry.name for entry in os.scandir(self.shims_dir)}
        except FileNotFoundError:
            return set()

    async def _undo(self, container_id: str) -> None:
        """Take away what is left of a container whose shim has ended before it was complete."""
        with contextlib.suppress(RuntimeFailure):
            await self.clear(container_id)

    async def _connect(self, path: Path, what: str) -> socket.socket:
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            # A path may be longer than sockaddr_un allows (107 bytes): go through an O_PATH descriptor of its folder.
            folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    await loop.sock_connect(sock, f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
        except TimeoutError:
            sock.close()
            raise RuntimeTimeout(f"the {what} accepted no connection within {CONNECT_TIMEOUT_S:.0f} s") from None
        except OSError as error:
            sock.close()
            raise SpawnerGone(f"the {what} does not answer on {path}: {error.strerror}") from None
        return sock
