"""An engine with the parts that run a build's steps, in a process of its own that has a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import tempfile
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from coved.build.orders import AnyMount, RunOrder
from coved.build.run.execution import Executor
from coved.containers.launcher import PROFILE_VARIABLE
from coved.engine import Config, Engine
from coved.networks import Sandbox, SandboxRequest
from coved.runtime import syscalls

import busybox_image
from debian_files import seccomp_profile

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT_S = 60


class Parts:
    """In the engine's process: what a build has of it."""

    def __init__(self, folder: Path) -> None:
        os.environ[PROFILE_VARIABLE] = str(seccomp_profile())
        self.folder = folder
        self.root, self.state = folder / "root", folder / "run"
        self.engine = Engine(Config(self.root, self.state, folder / "docker.sock", None, "test", folder / "none"))
        self.snapshots = self.engine.snapshots
        self.executor = Executor(
            self.engine.database,
            self.snapshots,
            self.engine.networks,
            self.engine.spawner,
            self.engine.proxies_and_certificates,
        )
        self.base: tuple[str, ...] = ()
        self._note_names()

    async def __aenter__(self) -> Parts:
        await self.engine.start(lambda: None)
        await self.executor.start()
        with contextlib.suppress(Exception):
            self.base = self.engine.images.get("busybox").diff_ids
            return self

        async def chunks() -> AsyncIterator[bytes]:
            yield busybox_image.archive()

        self.base = (await self.engine.images.import_(chunks(), repository="busybox")).diff_ids
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.executor.close()
        await self.engine.close()

    def _note_names(self) -> None:
        """Keeps the names that commands have in the kernel, for the next engine too."""
        begin = self.engine.networks.sandboxes.begin

        async def noting(name: str, request: SandboxRequest) -> tuple[Sandbox, asyncio.Task[Sandbox]]:
            with (self.folder / "names").open("a") as file:
                file.write(f"{name}\n")
            return await begin(name, request)

        self.engine.networks.sandboxes.begin = noting  # type: ignore[method-assign]

    def _names(self) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / "names").read_text().split()
        return []

    async def run(self, *command: str, base: tuple[str, ...] | None = None, **order: Any) -> tuple[str, str, str]:
        """Runs a command, one word of it by a shell; gives standard output, standard error and the snapshot's ref."""
        streams = {1: b"", 2: b""}

        def take(stream: int, data: bytes) -> None:
            streams[stream] += data

        args = ["/bin/sh", "-c", *command] if len(command) == 1 else [*command]
        try:
            async with self.snapshots.draft() as draft:
                wanted = RunOrder(self.base if base is None else base, args, [PATH], **order)
                await self.executor.run(wanted, draft, take)
                ref = await self.snapshots.seal(draft)
        except Exception as error:
            error.add_note((streams[1] + streams[2]).decode())
            raise
        return streams[1].decode(), streams[2].decode(), ref

    async def mounting(self, script: str, *mounts: AnyMount, **order: Any) -> str:
        return (await self.run(script, mounts=mounts, **order))[0]

    def files(self, ref: str) -> list[str]:
        """What a snapshot has, by paths."""
        if not ref:
            return []
        (tree,) = self.snapshots.lower_dirs((ref,))
        return sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))

    async def leftovers(self) -> dict[str, Any]:
        """What there still is of commands, on the disk and in the kernel, once all that goes on has ended."""
        await self.executor.close()
        await self.snapshots.close()
        await self.engine.networks.close()
        with contextlib.suppress(TimeoutError):  # the kernel ends a namespace, and its pair, when it likes
            await until(lambda: not any(self._left().values()))
        return self._left()

    def _left(self) -> dict[str, Any]:
        links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
        return {
            "drafts": os.listdir(self.root / "build" / "drafts"),
            "shims": os.listdir(self.state / "shims"),
            "sandboxes": os.listdir(self.state / "sandboxes"),
            "namespaces": [name for name in os.listdir(self.state / "netns") if name.startswith("build-")],
            "pairs": [line for line in links.splitlines() if "master" in line],
            "mounts": [line for line in Path("/proc/mounts").read_text().splitlines() if "/drafts/" in line],
            # Others may be building on this computer.
            "cgroups": [
                path
                for name in self._names()
                for parent in ("cove", "cove-b-parent")
                if (path := Path(cgroups()) / parent / name).exists()
            ],
            "processes": [line for line in processes("shim:build-") if str(self.folder) in line],
        }


NOTHING: dict[str, Any] = {
    name: [] for name in ("drafts", "shims", "sandboxes", "namespaces", "pairs", "mounts", "cgroups", "processes")
}


async def until(condition: Callable[[], object]) -> None:
    """Of what nobody tells a test. Raises TimeoutError."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def cgroups() -> str:
    with open("/proc/mounts") as file:
        return next(line.split()[1] for line in file if line.split()[2] == "cgroup2")


def processes(words: str) -> list[str]:
    """Command lines in which these words are, of shims too."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (path / "cmdline").read_bytes() + (path / "comm").read_bytes()
            if (path / "stat").read_text().rpartition(")")[2].split()[0] == "Z":
                continue  # ended, and whoever is to be told has not looked yet
            if words.encode() in line and int(path.name) != os.getpid():
                found.append(line.decode(errors="replace"))
    return found


Work = Callable[[Parts], Coroutine[Any, Any, Any]]


class Session:
    """A folder and a network namespace, for engines one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._holder = subprocess.Popen(
            ["unshare", "-n", "sh", "-c", "ip link set lo up; echo; exec sleep 7200"], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()

    def run(self, *works: Work) -> Any:
        """What the last one of them gives, of an engine each. Raises AssertionError with the traceback of what it raised."""
        for work in works:
            pid, read_end = self.begin(work)
            with os.fdopen(read_end, "rb") as file:
                data = file.read()
            os.waitpid(pid, 0)
            assert data, "the engine has died"
            fine, result = pickle.loads(data)
            if not fine:
                pytest.fail(result)
        return result

    def begin(self, work: Work) -> tuple[int, int]:
        """An engine's process, and what its result can be read from."""
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid:
            os.close(write_end)
            return pid, read_end
        try:
            os.setpgid(0, 0)
            signal.alarm(LIMIT_S)
            namespace = os.open(f"/proc/{self._holder.pid}/ns/net", os.O_RDONLY)
            syscalls.setns(namespace, syscalls.CLONE_NEWNET)

            async def whole() -> Any:
                async with Parts(self.folder) as parts:
                    return await work(parts)

            try:
                result = True, asyncio.run(whole())
            except BaseException:
                result = False, traceback.format_exc()
            with os.fdopen(write_end, "wb") as file:
                file.write(pickle.dumps(result))
        finally:
            os._exit(0)


@contextlib.contextmanager
def session() -> Iterator[Session]:
    with tempfile.TemporaryDirectory(prefix="cove-b", dir="/tmp") as folder:
        made = Session(Path(folder))
        try:
            yield made
        finally:
            made.close()
