"""The table of mounts is read as the kernel writes it, whatever names are in it."""

from __future__ import annotations

import os
from pathlib import Path

from coved.runtime import mountinfo
from coved.runtime.mountinfo import Entry

TABLE = b"""\
22 1 8:1 / / rw,relatime shared:1 master:2 - overlay overlay rw,lowerdir=/a:/b,upperdir=/with\\040space\\054comma,userxattr
23 22 0:50 /sub\\134dir /a\\040b\\011c\\012d\\134e\\043f ro,nosuid - fuse.some\\040thing what\\040ever rw
24 22 0:51 / /\r\x0b\x85\xe2\x80\xa8\xff rw -  none ro
"""


def test_lines_and_names_are_what_the_kernel_means(tmp_path: Path) -> None:
    path = tmp_path / "mountinfo"
    path.write_bytes(TABLE)
    root, escaped, odd = mountinfo.entries(str(path))
    assert root == Entry(
        "8:1", "/", "/", ("rw", "relatime"), "overlay",
        ("rw", "lowerdir=/a:/b", "upperdir=/with space,comma", "userxattr"),
    )  # fmt: skip
    assert (escaped.root, escaped.point, escaped.options) == ("/sub\\dir", "/a b\tc\nd\\e#f", ("ro", "nosuid"))
    assert os.fsencode(odd.point) == b"/\r\x0b\x85\xe2\x80\xa8\xff" and odd.of_all == ("ro",)


def test_it_is_that_of_the_process_that_is_asked_for() -> None:
    proc = os.open("/proc", os.O_PATH)
    try:
        own = mountinfo.entries("thread-self/mountinfo", proc)
    finally:
        os.close(proc)
    assert own == mountinfo.entries()
    assert [one.kind for one in own if one.point == "/proc"][-1] == "proc"
