"""The lines of `cove machine status`: what is wrong is among them, with what to do. And questions of its kin."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from cove.cli.command import agreed
from cove.cli.machine import _rows

STOPPED = {
    "machine": "work", "state": "stopped", "images": {"used": None, "pinned": False, "failed": None, "before": None, "newest": None},
    "disk_used": None, "docker_socket": "/run/d.sock",
}  # fmt: skip


def lines(**told: Any) -> str:
    return "\n".join(f"{key}|{shown}" for key, shown in _rows({**STOPPED, **told}))


def test_lost_ports() -> None:
    lost = [
        {"port": "127.0.0.1:80/tcp", "container": "web", "reason": "nginx (process 1) has it"},
        {"port": "127.0.0.1:81/tcp", "container": "", "reason": ""},
    ]
    shown = lines(lost_ports=lost)
    assert "lost ports|127.0.0.1:80/tcp of web: nginx (process 1) has it\n" in shown
    assert "|127.0.0.1:81/tcp: another program has it\n|end what has it; each is published again" in shown


def test_a_crash_is_told_for_a_day_and_how_often_it_was() -> None:
    last = {"at": time.time() - 60, "count": 2, "text": "the VM ended by itself at 09:12: QEMU ended", "see": "cove x"}
    assert "last crash|the VM ended by itself at 09:12: QEMU ended\n|what was said: cove x" in lines(last_crash=last)
    assert "last crash" not in lines(last_crash=last | {"at": time.time() - 90000})
    shown = lines(last_crash=last, crash={"how": "QEMU ended", "words": ["oh"]})
    assert "ended|QEMU ended, without being told to\nlast words|oh\n|2 times within 30 days" in shown
    assert "last crash" not in shown
    assert "ended|with this computer, which was restarted" in lines(ended_with_computer=True)


def test_folders_that_are_not_shared() -> None:
    shown = lines(folders_not_shared=["/data is not shared: there is no such folder"])
    assert "not shared|/data is not shared: there is no such folder\n|when the folders, or the settings (" in shown
    assert "cove machine restart work" in shown


@pytest.mark.parametrize(("answer", "said"), [("y\n", True), ("n\n", False), ("", False)])
def test_what_follows_a_question_begins_a_line(
    answer: str, said: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert agreed("Remove it?") is said
    assert capsys.readouterr().out == "Remove it? [y/N] \n"
