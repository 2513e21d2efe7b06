"""What was ignored where the engine was started, and what Python and the shim ignore, is not ignored in containers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator

import pytest
from coved.runtime.spec import Stdio

from runtime_support import TIMEOUT_S, Client, frames, harness, process

pytestmark = pytest.mark.root

IGNORED = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


@pytest.fixture
def careless_starter() -> Iterator[None]:
    """As nohup, and a script's ``&``, start programs."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in IGNORED}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_no_signal_is_ignored(careless_starter: None) -> None:
    async def run() -> None:
        look = process("grep", "-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status")
        nothing = dict.fromkeys(("SigBlk:", "SigIgn:", "SigCgt:"), "0" * 16)
        async with harness() as made, asyncio.timeout(TIMEOUT_S):
            _, out, _ = await made.run(look)
            assert dict(line.split() for line in out.decode().splitlines()) == nothing
            shim = await made.create(process("sleep", "100"))
            await shim.start()
            client = Client()
            await shim.exec("one", look, stdio=Stdio(), attach=[client.attachment()])
            client.handed_over()
            out = frames(await client.read_all())[1]
            assert dict(line.split() for line in out.decode().splitlines()) == nothing
            client.close()

    asyncio.run(run())
