"""What the server gives up before it serves, so that a fault in it reaches no further than the folder.

On Linux the kernel itself then holds the process to the folder (Landlock, landlock(7)), where it can; elsewhere the server's own
care is all there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import sys
from pathlib import Path

_PR_SET_NO_NEW_PRIVS = 38
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_GET_VERSION = 1
_RULE_PATH_BENEATH = 1
_EXECUTE = 1 << 0
_READ = 1 << 2 | 1 << 3
_ALL_V1 = (1 << 13) - 1
_REFER = 1 << 13
_TRUNCATE = 1 << 14


def confine(root: Path, *, read_only: bool) -> None:
    """Never fails: what the system cannot do is left out."""
    with contextlib.suppress(OSError):
        os.chdir("/")
    with contextlib.suppress(OSError):
        _restrict(root, read_only=read_only)


def _restrict(root: Path, *, read_only: bool) -> None:
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)
    if version < 2:  # without REFER, nothing could be moved from one directory to another
        return
    handled = _ALL_V1 | _REFER | (_TRUNCATE if version >= 3 else 0)
    allowed = _READ if read_only else handled & ~_EXECUTE
    attributes = struct.pack("@Q", handled)
    ruleset = libc.syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return
    try:
        descriptor = os.open(root, os.O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", allowed, descriptor)
            if libc.syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0) < 0:
                return
        finally:
            os.close(descriptor)
        libc.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
