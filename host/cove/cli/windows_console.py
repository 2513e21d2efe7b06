"""The modes of a Windows console (SetConsoleMode, "High-Level Console Modes" in Microsoft's console documentation)."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STD_INPUT_HANDLE = -10
STD_OUTPUT_HANDLE = -11
STD_ERROR_HANDLE = -12
ENABLE_PROCESSED_INPUT = 0x0001
ENABLE_LINE_INPUT = 0x0002
ENABLE_ECHO_INPUT = 0x0004
ENABLE_VIRTUAL_TERMINAL_INPUT = 0x0200
ENABLE_VIRTUAL_TERMINAL_PROCESSING = 0x0004
DISABLE_NEWLINE_AUTO_RETURN = 0x0008


@contextmanager
def raw_mode() -> Iterator[None]:
    """Keys arrive at once as VT sequences, and VT sequences in the output are obeyed, for the length of the `with`."""
    cooked = ENABLE_PROCESSED_INPUT | ENABLE_LINE_INPUT | ENABLE_ECHO_INPUT
    output = ENABLE_VIRTUAL_TERMINAL_PROCESSING | DISABLE_NEWLINE_AUTO_RETURN
    with _modes((STD_INPUT_HANDLE, cooked, ENABLE_VIRTUAL_TERMINAL_INPUT), (STD_OUTPUT_HANDLE, 0, output)):
        yield


@contextmanager
def unechoed() -> Iterator[None]:
    """What is typed is not shown for the length of the `with`."""
    with _modes((STD_INPUT_HANDLE, ENABLE_ECHO_INPUT, 0)):
        yield


@contextmanager
def drawing() -> Iterator[None]:
    """VT sequences in the output are obeyed for the length of the `with`."""
    added = ENABLE_VIRTUAL_TERMINAL_PROCESSING
    with _modes((STD_OUTPUT_HANDLE, 0, added), (STD_ERROR_HANDLE, 0, added)):
        yield


@contextmanager
def _modes(*wanted: tuple[int, int, int]) -> Iterator[None]:
    """Change each (handle, bits to clear, bits to set) where it is a console, for the length of the `with`."""
    if sys.platform != "win32":
        raise RuntimeError("there is no Windows console here")
    kernel32: Any = ctypes.windll.kernel32
    before: list[tuple[Any, int]] = []
    try:
        for which, cleared, added in wanted:
            handle = kernel32.GetStdHandle(which)
            mode = ctypes.c_ulong()
            if kernel32.GetConsoleMode(handle, ctypes.byref(mode)):
                before.append((handle, mode.value))
                kernel32.SetConsoleMode(handle, mode.value & ~cleared | added)
        yield
    finally:
        for handle, value in reversed(before):  # both outputs are mostly of one console, with one mode
            kernel32.SetConsoleMode(handle, value)
