"""What PID 1 does about data that the engine cannot use, a VM that died before, and what other system images have left."""

from __future__ import annotations

import os
import signal
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from coved.boot import disk, init, power, services
from coved.boot.init import Init
from coved.boot.services import Service
from coved.errors import UNFIT


class PoweredOff(Exception):
    pass


@pytest.mark.parametrize("status", [UNFIT, 1])
def test_an_engine_that_cannot_use_the_data_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], status: int
) -> None:
    def down(engine: int, command: int) -> None:
        assert (engine, command) == (0, power.RB_POWER_OFF)
        raise PoweredOff

    monkeypatch.setattr(services, "LOGS", str(tmp_path))
    monkeypatch.setattr(power, "down", down)
    (tmp_path / "engine.log").write_text("coved: the data was written by a newer Cove\n")
    engine = Service("engine", "coved")
    monkeypatch.setattr(init, "Ssh", lambda: SimpleNamespace(children=set()))
    one = Init(engine, Service("spawner", "coved"), Service("streams", "coved"))
    engine.pid = os.fork()
    if not engine.pid:
        os._exit(status)
    os.waitid(os.P_PID, engine.pid, os.WEXITED | os.WNOWAIT)
    one._wake_writer.send(bytes([signal.SIGCHLD]))
    if status == UNFIT:
        with pytest.raises(PoweredOff):
            one._signals()
        assert "cove: cannot go on: coved: the data was written by a newer Cove\n" in capfd.readouterr().err
    else:
        one._signals()
        assert [*one._due] == [engine]


def test_a_journal_that_is_to_be_replayed_tells_that_the_vm_died() -> None:
    head = bytearray(1 << 16)
    struct.pack_into("<I", head, 1024 + 96, 0x42)
    assert not disk._died(bytes(head))
    struct.pack_into("<I", head, 1024 + 96, 0x46)
    assert disk._died(bytes(head))


def test_what_other_images_have_kept_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("0123", "4567", "89ab"):
        (tmp_path / "system" / name / "pycache").mkdir(parents=True)
    removed: list[tuple[str, ...]] = []
    monkeypatch.setattr(disk, "DATA", str(tmp_path))
    monkeypatch.setattr(disk, "spawn", lambda words, _: removed.append(words))
    disk.tidy()  # whose it is is not known
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", f"{tmp_path}/system/4567/pycache")
    disk.tidy()
    assert [sorted(words[2:]) for words in removed] == [[f"{tmp_path}/system/0123", f"{tmp_path}/system/89ab"]]
    assert init.MODULES.count("virtio_balloon") == 1
