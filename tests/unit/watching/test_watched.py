"""Which folders the host is asked to watch, and where they lie."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from coved.link.protocol import (
    MAX_WATCHED,
    Change,
    Changes,
    ProtocolError,
    Watch,
    encode,
    parse_guest_message,
    parse_host_message,
    watchable,
)  # fmt: skip
from coved.watching import mounted
from coved.watching.mounted import Mounted
from coved.watching.watched import Watched

MOUNTINFO = """\
22 1 8:1 / / rw,relatime - overlay root rw
40 22 0:50 / /run/cove/host/folder0 rw,nosuid,nodev,relatime - 9p host rw,cache=0xf,access=client,trans=fd,rfd=7
41 22 0:51 / /run/cove/host/with\\040space ro,nosuid - 9p host ro,sync,trans=virtio
42 40 0:52 / /run/cove/host/folder0/inner rw - tmpfs tmpfs rw
43 22 0:53 / /run/cove/host/fs rw - virtiofs folder2 rw
44 22 0:50 /sub /bound rw - 9p host rw,trans=fd
"""


@pytest.fixture
def mountinfo(tmp_path: Path) -> str:
    path = tmp_path / "mountinfo"
    path.write_text(MOUNTINFO)
    return str(path)


def test_a_path_is_found_on_the_mount_that_it_lies_on(mountinfo: str) -> None:
    own = mounted.find("/run/cove/host/folder0/src/app", mountinfo)
    assert own == Mounted("/run/cove/host/folder0", "own", 2 | 4 | 1 << 21)
    assert own.below("/run/cove/host/folder0/src/app") == "src/app"
    assert own.below("/run/cove/host/folder0") == ""
    assert mounted.find("/run/cove/host/with space/a", mountinfo) == Mounted(
        "/run/cove/host/with space", "qemu", 1 | 2 | 16
    )
    assert mounted.find("/run/cove/host/fs", mountinfo) == Mounted("/run/cove/host/fs", "virtiofs", 0)


@pytest.mark.parametrize("path", ["/etc", "/run/cove/host/folder00", "/run/cove/host/folder0/inner/x", "/bound/x"])
def test_what_is_not_on_a_folder_of_the_users_computer_is_not_taken_for_one(mountinfo: str, path: str) -> None:
    assert mounted.find(path, mountinfo) is None


def test_what_containers_share_is_watched_until_the_last_of_them_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, ...]] = []
    forgotten: list[str] = []
    monkeypatch.setattr(mounted, "find", lambda path: Mounted("/h", "own", 0))
    monkeypatch.setattr(Mounted, "forget", lambda self: forgotten.append(self.point))

    async def run() -> None:
        watched = Watched(told.append)
        await watched.begin("one", ["/h/a", "/h/b"])
        await watched.begin("two", ["/h/a/deep"])
        assert forgotten == ["/h"], "what is watched already is not dropped again"
        await watched.begin("three", [])
        watched.end("one")
        watched.end("three")
        watched.end("one")
        watched.end("two")

    asyncio.run(run())
    assert told == [("/h/a", "/h/b"), ("/h/a", "/h/a/deep", "/h/b"), ("/h/a/deep",), ()]


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/./b", "a/", "..", "\0", "x" * 5000])
def test_a_change_that_leads_elsewhere_is_refused(path: str) -> None:
    for change in (Change("delete", path), Change("move", "a", to=path), Change("create", "a", real=path)):
        message = Changes(1, "/h", "t", (change,)).to_json()
        with pytest.raises(ProtocolError):
            parse_host_message(message)


def test_changes_come_out_as_they_went_in() -> None:
    changes = (
        Change("create", "a", "symlink", real=None),
        Change("move", "a", "dir", "b/c", real="d"),
        Change("modify", "a"),
        Change("attrib", "", "dir"),
    )
    message = Changes(7, "/h/x", "t", changes, True)
    assert parse_host_message(message.to_json()) == message


def test_paths_that_no_message_can_carry_are_left_out() -> None:
    long = [f"/h/{index}/" + "\x01" * 4000 for index in range(200)]
    kept = watchable(["/h/\udcff", "/h/" + "x" * 5000, "/h/a", *long])
    assert kept[0] == "/h/a"
    assert 10 < len(kept) < 100
    assert parse_guest_message(json.loads(encode(Watch(kept).to_json())[4:])) == Watch(kept)
    assert len(watchable(f"/h/{index}" for index in range(999))) == MAX_WATCHED
