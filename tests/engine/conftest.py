"""Engines for the engine's tests, with busybox imported: the one in the shared VM, or with ``--native`` `coved` on this
computer. A test that only the latter can serve in both cases takes `native_engine` or `engine_with`, and says why."""

from __future__ import annotations

import contextlib
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from busybox_image import import_busybox
from engines import Engine, VmEngine
from isolation_support import controllers, making


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Any:
    """The VM's, unless the module says that this computer's will do."""
    native = request.config.getoption("--native") or request.node.get_closest_marker("native")
    return request.getfixturevalue("native_engine" if native else "vm_engine")


@pytest.fixture(scope="session")
def vm_engine(machine: Any) -> Iterator[VmEngine]:
    made = VmEngine(machine)
    import_busybox(made.url)
    yield made
    made.close()


@pytest.fixture(scope="session")
def native_engine() -> Iterator[Engine]:
    with running_engine() as made:
        yield made


@pytest.fixture(scope="session")
def engine_with() -> Callable[..., contextlib.AbstractContextManager[Engine]]:
    """Starts further engines, with options of the command line."""
    return running_engine


@contextlib.contextmanager
def running_engine(*options: str, folder: Path | None = None) -> Iterator[Engine]:
    """An engine with these options of the command line, and busybox in it; ``folder``, for all that it has, goes with it."""
    made = Engine(folder or Path(tempfile.mkdtemp(prefix="cove-e", dir="/tmp")), *options)
    try:
        made.start()
        import_busybox(made.url)
        yield made
    finally:
        made.close()


@pytest.fixture
def docker_client(engine: Any) -> Iterator[Any]:
    client = docker.DockerClient(engine.url, timeout=60)
    yield client
    client.close()


@pytest.fixture
def scratch(engine: Any) -> Iterator[Path]:
    """A folder of this test's own on the engine's machine, which may be another than this computer."""
    made = Path(engine.sh("mktemp -d -p /tmp cove-s.XXXXXX").strip())
    yield made
    engine.sh(f"rm -rf {made}")


@pytest.fixture
def limiting(request: pytest.FixtureRequest, engine: Any) -> None:
    """For tests of what is only where there are all controllers of cgroup v2, as in the VM."""
    missing = {"memory", "cpu", "cpuset", "pids"} - controllers(engine)
    if missing and request.config.getoption("--native"):
        pytest.skip(f"this computer's cgroup v2 has no {', '.join(sorted(missing))}; the VM's has")
    assert not missing


@pytest.fixture
def disk(engine: Any, scratch: Path) -> Iterator[str]:
    """A block device of the engine's machine, 1 MiB of the byte x: what a container must not read."""
    device = engine.sh(
        f"modprobe loop 2>/dev/null; head -c 1048576 /dev/zero | tr '\\0' x >{scratch}/disk;"
        f"device=$(losetup -f) && losetup $device {scratch}/disk && echo $device"
    ).strip()
    yield device
    engine.sh(f"losetup -d {device}")


@pytest.fixture
def make(docker_client: Any) -> Iterator[Callable[..., Any]]:
    """Containers of busybox that are gone after the test."""
    with making(docker_client) as create:
        yield create


@pytest.fixture
def name(docker_client: Any) -> Iterator[str]:
    """A container's name of this test's own; the containers with it go afterwards."""
    made = f"t-{uuid.uuid4().hex[:12]}"
    yield made
    for container in docker_client.containers.list(all=True, filters={"name": made}):
        container.remove(force=True)


@pytest.fixture(scope="module")
def own_engine() -> Iterator[Engine]:
    """An engine for tests after which nobody can know what is left in it."""
    with running_engine() as made:
        yield made
