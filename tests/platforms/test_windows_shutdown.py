"""Windows' end of a session waits for what the agent has to do, as far as Wine ends sessions: `wineboot --end-session`."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import windows_python
from platforms_wine import Wine

WAITING = """
import asyncio, ctypes
from cove.agent import shutdown

async def settled(there):
    async with asyncio.timeout(30):
        while bool(ctypes.windll.user32.FindWindowW(None, "Cove")) != there:
            await asyncio.sleep(0.05)

async def main():
    coming = asyncio.Event()
    waiting = shutdown.of_this_computer(coming.set)
    {await_it}
    print("waits", flush=True)
    try:
        async with asyncio.timeout(30):
            await coming.wait()
        print("is told", flush=True)
        await asyncio.sleep(2)
        print("is done", flush=True)
    except TimeoutError:
        print("was not told", flush=True)
    waiting.close()

asyncio.run(main())
"""
ONCE = "waiting.await_it(); await settled(True)"
LET_GO = f"{ONCE}; waiting.close(); await settled(False)"
AGAIN = f"{LET_GO}; {ONCE}"
BOUND_S = 120

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def windows(wine: Wine) -> None:
    wine.have_windows()


@pytest.mark.parametrize("way", [ONCE, AGAIN])
def test_a_session_ends_when_the_agent_is_done(way: str, installers: Path, wine: Wine) -> None:
    assert ended_session(installers, wine, way) == ["waits", "is told", "is done"]


def test_a_session_does_not_wait_for_an_agent_without_a_vm(installers: Path, wine: Wine) -> None:
    said = ended_session(installers, wine, LET_GO)
    assert said[0] == "waits" and "is told" not in said


def ended_session(installers: Path, wine: Wine, way: str) -> list[str]:
    """What the program has said when the session is over."""
    python, folders = windows_python.make(installers)
    environment = wine.environment(**windows_python.importing(*folders))
    with subprocess.Popen(
        ["wine", str(python), "-c", WAITING.format(await_it=way)], env=environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said = [process.stdout.readline().strip()]
        subprocess.run(["wine", "wineboot", "--end-session"], env=environment, timeout=BOUND_S, check=True)
        rest, _ = process.communicate(timeout=BOUND_S)
    return said + rest.splitlines()
