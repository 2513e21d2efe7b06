"""The sockets that clients connect to outlive an agent that failed, and go when one has ended."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.agent.service import Service
from cove.agent.supervisor import Listeners
from cove.machine.paths import MachinePaths


@pytest.fixture
def paths(monkeypatch: pytest.MonkeyPatch) -> Iterator[MachinePaths]:
    with tempfile.TemporaryDirectory(prefix="cove-s", dir="/tmp") as folder:
        monkeypatch.setenv("COVE_HOME", folder)
        places = MachinePaths("default")
        places.folder.mkdir(parents=True)
        places.make_run_dir()
        yield places


def reaches(listener: socket.socket, path: Path) -> bool:
    """Whether who connects to `path` comes to `listener`."""
    listener.settimeout(30)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        accepted, _ = listener.accept()
        accepted.close()
    return True


def run(paths: MachinePaths, listeners: Listeners, failure: Exception | None) -> None:
    """An agent whose life is over at once; its sockets are copies, as in a forked process."""

    async def live(started_once: bool) -> None:
        if failure:
            raise failure

    async def agent() -> None:
        copies = Listeners.__new__(Listeners)
        copies.__dict__.update(listeners.__dict__, agent=listeners.agent.dup(), docker=listeners.docker.dup())
        service = Service(paths, copies)
        service._live = live  # type: ignore[method-assign]
        await service.run(lambda: None, again=True)

    asyncio.run(agent())


def test_an_agent_that_failed_leaves_the_sockets_to_the_next(paths: MachinePaths) -> None:
    listeners = Listeners(paths)
    with pytest.raises(ZeroDivisionError):
        run(paths, listeners, ZeroDivisionError())
    assert paths.agent_socket.exists()
    assert paths.docker_socket.exists()
    assert paths.down.exists()
    listeners.renew()
    assert reaches(listeners.agent, paths.agent_socket)


def test_an_agent_that_has_ended_leaves_none(paths: MachinePaths) -> None:
    run(paths, Listeners(paths), None)
    assert not any(path.exists() for path in (paths.agent_socket, paths.docker_socket, paths.down))


def test_the_folder_of_the_sockets_is_made_anew_when_it_was_removed(paths: MachinePaths) -> None:
    listeners = Listeners(paths)
    shutil.rmtree(paths.run_dir.parent)
    listeners.renew()
    assert paths.down.exists()
    assert reaches(listeners.agent, paths.agent_socket)
    assert reaches(listeners.docker, paths.docker_socket)


def test_both_sockets_are_made_anew_when_the_agent_died_after_it_had_removed_them(paths: MachinePaths) -> None:
    listeners = Listeners(paths)
    run(paths, listeners, None)
    listeners.renew()
    assert paths.down.exists()
    assert reaches(listeners.agent, paths.agent_socket)
    assert reaches(listeners.docker, paths.docker_socket)
