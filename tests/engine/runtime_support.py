"""What the runtime's tests share: a busybox root, a spawner, and containers that clean up after themselves."""

import asyncio
import atexit
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from coved.runtime.errors import RuntimeFailure
from coved.runtime.keeper import start_spawner
from coved.runtime.shim_client import ShimClient
from coved.runtime.spawner_client import SpawnerClient
from coved.runtime.spec import Attachment, LogTarget, Mount, Process, Spec, Stdio

DEFAULT_CAPABILITIES = [
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL"),
    "CAP_AUDIT_WRITE",
]
TIMEOUT_S = 30.0
_CACHE = Path(tempfile.gettempdir()) / f"cove-test-cache-{os.getuid()}"


def busybox() -> Path:
    """A static busybox: the machine's own, or Debian's, fetched once."""
    for candidate in (Path("/bin/busybox"), Path("/usr/bin/busybox"), _CACHE / "busybox"):
        if candidate.exists() and b"static" in _description(candidate):
            return candidate
    _CACHE.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_CACHE) as folder:
        subprocess.run(["apt-get", "download", "-q", "busybox-static"], cwd=folder, check=True, timeout=120)
        (package,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package.name, "tree"], cwd=folder, check=True, timeout=60)
        found = next(one for one in Path(folder, "tree").glob("**/bin/busybox"))
        found.replace(_CACHE / "busybox")
    return _CACHE / "busybox"


def _description(path: Path) -> bytes:
    # A static program has no interpreter: there is no PT_INTERP name in its first page.
    return b"dynamic" if b"ld-linux" in path.read_bytes()[:4096] else b"static"


@functools.cache
def rootfs() -> Path:
    """A small root file system, made once per test process; used as an overlay's lower directory only."""
    root = Path(tempfile.mkdtemp(prefix="cove-rootfs-"))
    atexit.register(shutil.rmtree, root, True)
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp", "root", "home/ann"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    shutil.copy(busybox(), root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    applets = subprocess.run([root / "bin/busybox", "--list"], capture_output=True, text=True, check=True, timeout=30)
    for applet in applets.stdout.split():
        if applet != "busybox":
            (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\nann:x:1001:\nstaff:x:50:root,ann\n")
    return root


def process(*args: str, terminal: bool = False, **values: Any) -> Process:
    capabilities = DEFAULT_CAPABILITIES
    made: Process = {
        "terminal": terminal,
        "args": list(args),
        "env": ["PATH=/bin:/usr/bin"],
        "cwd": "/",
        "user": {"uid": 0, "gid": 0},
        "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
        "rlimits": [],
    }
    made.update(values)  # type: ignore[typeddict-item]
    return made


def default_mounts() -> list[Mount]:
    safe = ["nosuid", "noexec", "nodev"]
    return [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": safe},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*safe, "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": [*safe, "ro"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": safe},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*safe, "mode=1777", "size=65536k"]},
    ]


class Client:
    """The other end of an attachment."""

    def __init__(self) -> None:
        self.sock, self._given = socket.socketpair()
        self.sock.setblocking(False)

    def attachment(self, **values: Any) -> Attachment:
        return Attachment(self._given.fileno(), **values)

    def handed_over(self) -> None:
        self._given.close()

    async def send(self, data: bytes) -> None:
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self.sock, data), TIMEOUT_S)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    async def read(self, size: int = 65536) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, size), TIMEOUT_S)

    async def read_until(self, needle: bytes) -> bytes:
        data = b""
        while needle not in data:
            chunk = await self.read()
            assert chunk, f"the stream ended before {needle!r}: {data!r}"
            data += chunk
        return data

    async def read_all(self) -> bytes:
        chunks = []
        while chunk := await self.read(1024 * 1024):
            chunks.append(chunk)
        return b"".join(chunks)

    def close(self) -> None:
        self._given.close()
        self.sock.close()


def frames(data: bytes) -> dict[int, bytes]:
    """Docker's frames, put together by stream."""
    streams: dict[int, list[bytes]] = {1: [], 2: []}
    position = 0
    while position < len(data):
        assert data[position + 1 : position + 4] == b"\0\0\0"
        length = int.from_bytes(data[position + 4 : position + 8], "big")
        streams[data[position]].append(data[position + 8 : position + 8 + length])
        position += 8 + length
    assert position == len(data), "the last frame was cut short"
    return {stream: b"".join(parts) for stream, parts in streams.items()}


async def gone(pid: int) -> None:
    """Wait until a process that is not ours has ended, by its pidfd."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.add_reader(fd, lambda: done.done() or done.set_result(None))
    try:
        await asyncio.wait_for(done, TIMEOUT_S)
    finally:
        loop.remove_reader(fd)
        os.close(fd)


class Harness:
    """A spawner and the containers made through it, below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "spawner.sock"
        self.shims = folder / "shims"
        self.spawner = start_spawner(self.socket, self.shims)
        self.client = SpawnerClient(self.socket, self.shims)
        self.made: dict[str, ShimClient] = {}

    def spec(self, init: Process, container_id: str, **linux: Any) -> Spec:
        home = self.folder / container_id
        for name in ("upper", "work", "merged"):
            (home / name).mkdir(parents=True, exist_ok=True)
        options = [f"lowerdir={rootfs()}", f"upperdir={home}/upper", f"workdir={home}/work"]
        kinds = ("mount", "pid", "network", "ipc", "uts", "cgroup")
        return {
            "ociVersion": "1.2.0",
            "root": {"path": str(home / "merged")},
            "hostname": "testhost",
            "process": init,
            "mounts": [{"destination": "/", "type": "overlay", "options": options}, *default_mounts()],
            "linux": {
                "namespaces": [{"type": kind} for kind in kinds],
                "cgroupsPath": f"/cove-test/{container_id}",
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
                "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/acpi", "/sys/firmware"],
                "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
                **linux,  # type: ignore[typeddict-item]
            },
        }

    def new_id(self) -> str:
        return uuid.uuid4().hex

    def exit_file(self, container_id: str) -> Path:
        return self.folder / f"{container_id}.exit"

    def stdio(self, init: Process) -> Stdio:
        return Stdio(terminal=bool(init.get("terminal")))

    def leaves_nothing(self, shim: ShimClient) -> None:
        """Neither folder nor cgroup of a container whose shim has ended."""
        assert not (self.shims / shim.container_id).exists()
        assert shim.cgroup.startswith("/")
        assert not Path(shim.cgroup).exists()

    async def create(
        self,
        init: Process,
        *,
        stdio: Stdio | None = None,
        change: Callable[[Spec], None] | None = None,
        log: LogTarget | None = None,
        container_id: str | None = None,
        **linux: Any,
    ) -> ShimClient:
        container_id = container_id or self.new_id()
        spec = self.spec(init, container_id, **linux)
        if change is not None:
            change(spec)
        shim = await self.client.create(
            container_id,
            spec,
            stdio=stdio or self.stdio(init),
            log=log or LogTarget(self.folder / f"{container_id}.log"),
            exit_file=self.exit_file(container_id),
        )
        self.made[container_id] = shim
        return shim

    async def run(self, init: Process, **values: Any) -> tuple[int, bytes, bytes]:
        """Run to the end: exit code, stdout, stderr."""
        shim = await self.create(init, **values)
        client = Client()
        await shim.attach("", client.attachment())
        client.handed_over()
        await shim.start()
        data = await client.read_all()
        ended = await asyncio.wait_for(shim.wait(), TIMEOUT_S)
        await shim.delete()
        client.close()
        streams = frames(data)
        return ended.code, streams[1], streams[2]

    async def attach(self, shim: ShimClient, process_id: str = "", **values: Any) -> Client:
        client = Client()
        await shim.attach(process_id, client.attachment(**values))
        client.handed_over()
        return client

    async def close(self) -> None:
        for container_id, shim in self.made.items():
            with contextlib.suppress(RuntimeFailure):
                if shim.gone:
                    found = await self.client.reconnect(container_id)
                    if found is None:
                        continue
                    shim = found
                await shim.delete()
        self.spawner.kill()
        self.spawner.wait(10)


@contextlib.asynccontextmanager
async def harness() -> AsyncIterator[Harness]:
    """Everything made in it is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="cove-runtime-"))
    made = Harness(folder)
    try:
        yield made
    finally:
        await made.close()
        shutil.rmtree(folder, ignore_errors=True)


def with_harness(test: Callable[[Harness], Awaitable[None]]) -> Callable[[], None]:
    """Run an async test with a harness, within a bound."""

    def run() -> None:
        async def inner() -> None:
            async with harness() as made:
                async with asyncio.timeout(120):
                    await test(made)

        asyncio.run(inner())

    # Not functools.wraps: pytest would take the harness for a fixture.
    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    run.__module__ = test.__module__
    return run
