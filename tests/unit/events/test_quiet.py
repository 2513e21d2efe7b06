"""When the VM's caches are dropped, and when not."""

import asyncio
from pathlib import Path

import pytest
from coved.events import quiet
from coved.events.quiet import WORTH, GivesBack

PATIENCE_S = 0.01
"""Between two looks whether it has come to rest."""


class Proc:
    """A /proc of a VM; `busy` is the part of the time in which it works."""

    def __init__(self, folder: Path, cached: int, busy: float = 0.0) -> None:
        self.folder, self.busy, self.now = folder, busy, 0.0
        (folder / "sys/vm").mkdir(parents=True)
        (folder / "meminfo").write_text(
            f"MemTotal: 9 kB\nMemFree: 1000 kB\nMemAvailable: {1000 + (cached >> 10)} kB\nHugePages_Total: 0\n"
        )
        self.tick(0)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        work, rest = int(self.now * 200 * self.busy), int(self.now * 200 * (1 - self.busy))
        (self.folder / "stat").write_text(f"cpu  {work} 0 0 {rest} 0 0 0 0 0 0\ncpu0 0\n")

    @property
    def dropped(self) -> bool:
        return (self.folder / "sys/vm/drop_caches").exists() and (self.folder / "sys/vm/compact_memory").exists()


def looked_at(monkeypatch: pytest.MonkeyPatch, proc: Proc, times: int) -> list[float]:
    """After an event; what was waited for until the VM was looked at no more, or `times` times."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        proc.tick(seconds)

    async def run() -> None:
        one, loop = GivesBack(proc.folder), asyncio.get_running_loop()
        real = loop.call_later
        over = loop.create_future()

        def call_later(seconds: float, *words: object) -> asyncio.TimerHandle:
            if seconds == PATIENCE_S:
                return real(seconds, *words)  # type: ignore[arg-type]
            waits.append(seconds)
            if len([wait for wait in waits if wait >= quiet.QUIET_S]) > times:
                over.set_result(None)
            return real(0, *words)  # type: ignore[arg-type]

        monkeypatch.setattr(loop, "call_later", call_later)
        monkeypatch.setattr(quiet.asyncio, "sleep", sleep)
        one.happened()
        one.happened()  # while a timer runs nothing more is armed
        while not over.done() and (one._timer is not None or one._work is not None):
            await asyncio.wait([over], timeout=PATIENCE_S)
        await one.close()

    asyncio.run(run())
    return waits


def test_an_idle_vm_gives_back_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = Proc(tmp_path, WORTH + (1 << 20))
    assert looked_at(monkeypatch, proc, 9) == [60.0, 10.0]
    assert proc.dropped


def test_little_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = Proc(tmp_path, WORTH)
    assert looked_at(monkeypatch, proc, 9) == [60.0]
    assert not proc.dropped


def test_a_vm_that_works_keeps_what_it_has_and_is_looked_at_ever_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proc = Proc(tmp_path, WORTH * 2, busy=0.1)
    waits = looked_at(monkeypatch, proc, 6)
    assert [wait for wait in waits if wait != 10.0] == [60.0, 120.0, 240.0, 480.0, 960.0, 960.0, 960.0]
    assert not proc.dropped
