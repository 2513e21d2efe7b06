"""A Windows console's modes as `cove` sets them, on a terminal that Wine makes a console of."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest
import windows_python
from platforms_wine import Wine

pytestmark = pytest.mark.timeout(900)
SCRIPT = """
import ctypes, sys
from ctypes import wintypes
from cove.cli import terminal

kernel = ctypes.WinDLL("kernel32")
kernel.GetStdHandle.restype = wintypes.HANDLE

def modes(what):
    found = []
    for number in (-10, -11, -12):
        mode = wintypes.DWORD()
        assert kernel.GetConsoleMode(wintypes.HANDLE(kernel.GetStdHandle(number)), ctypes.byref(mode))
        found.append(mode.value)
    print(what, *found, file=said, flush=True)

with open(sys.argv[1], "w") as said:
    modes("before")
    with terminal.raw_mode(0):
        modes("raw")
    with terminal.unechoed(0):
        modes("unechoed")
    with terminal.drawing():
        modes("drawing")
    modes("after")
    print("terminal", terminal.is_terminal(0), terminal.is_terminal(1), file=said, flush=True)
"""
PROCESSED, LINE, ECHO, KEYS = 1, 2, 4, 0x200
DRAWN, NO_RETURN = 4, 8


def test_each_mode_is_set_and_the_one_before_comes_back(installers: Path, tmp_path: Path) -> None:
    wine = Wine(tmp_path / "prefix")
    wine.lay_primitives()
    python, folders = windows_python.make(installers)
    script, said = tmp_path / "modes.py", tmp_path / "said"
    script.write_text(SCRIPT)
    environment = wine.environment(**windows_python.importing(*folders))
    ours, theirs = pty.openpty()
    words = ["wine", python, windows_python.path(script), windows_python.path(said)]
    running = subprocess.Popen(
        words, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        assert running.wait(120) == 0
    finally:
        running.kill()
        running.wait(10)
        os.close(ours)
    found = {
        what: tuple(map(int, modes))
        for what, *modes in map(str.split, said.read_text().splitlines())
        if modes[0] != "True"
    }
    stdin, stdout, stderr = found["before"]
    assert stdin & PROCESSED and stdin & LINE and stdin & ECHO
    assert found["raw"] == (stdin & ~(PROCESSED | LINE | ECHO) | KEYS, stdout | DRAWN | NO_RETURN, found["raw"][2])
    assert found["unechoed"] == (stdin & ~ECHO, stdout, stderr)
    assert found["drawing"] == (stdin, stdout | DRAWN, stderr | DRAWN)
    assert found["after"] == (stdin, stdout, stderr)
    assert "terminal True True" in said.read_text()
