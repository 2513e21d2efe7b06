"""A service that is held, and what an engine rehearses meanwhile: it leaves nothing, and fails without consequences."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from coved import rehearsal
from coved.boot import held
from coved.boot.services import HOLD, LOADED
from coved.networks.nftables import Nftables

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="packet rules are root's")


def test_it_leaves_neither_files_nor_threads_nor_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(rehearsal, "RUN", str(tmp_path))
    nft = Nftables()
    before = nft.run("list tables"), threading.active_count()
    rehearsal.rehearse()
    rehearsal.rehearse()
    assert (nft.run("list tables"), threading.active_count()) == before
    assert [*tmp_path.iterdir()] == []
    assert caplog.messages == []
    nft.close()


def test_what_fails_is_told_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(rehearsal, "RUN", str(tmp_path / "missing"))
    rehearsal.rehearse()
    assert "missing" in caplog.text


def test_who_is_held_rehearses_when_told_and_begins_when_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held, "open_log", lambda name: os.open(tmp_path / name, os.O_WRONLY | os.O_CREAT))
    done_end, done = os.pipe()
    read_end, hold = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.dup2(read_end, 100)  # what is in the way of the two numbers
            os.dup2(done, 101)
            os.close(hold)
            os.dup2(100, HOLD)
            os.dup2(os.open(os.devnull, os.O_RDONLY), LOADED)
            held.wait("engine", lambda: os.write(101, b"rehearsed ") and None)
            os.write(101, b"begun")
        finally:
            os._exit(0)
    os.close(done)
    os.write(hold, b"\n")
    assert os.read(done_end, 100) == b"rehearsed "
    os.close(hold)
    assert os.read(done_end, 100) == b"begun"
    os.waitpid(child, 0)
    os.close(done_end)
    os.close(read_end)
