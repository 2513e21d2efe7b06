"""What of the user's computer a path means, and that nothing else is ever reached by it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from coved.shares import Share, Table
from coved.shares.resolve import NotShared, Place, resolve

HOME = Share("folder0", "/home/me")
DATA = Share("folder1", "/data", read_only=True)
INNER = Share("folder2", "/data/mine")
UNIX = Table((HOME, DATA, INNER))
WINDOWS = Table((Share("folder0", "C:\\Users\\Me"), Share("folder1", "D:\\")), windows=True, fold_case=True)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/home/me", (HOME, "")),
        ("/home/me/", (HOME, "")),
        ("//home/./me/x/../y", (HOME, "y")),
        ("/home/meandyou", None),
        ("/home/me/../you", None),
        ("/home", None),
        ("/", None),
        ("/data/mine/a/b", (INNER, "a/b")),
        ("/data/miner", (DATA, "miner")),
        ("/HOME/me", None),
        ("/proc/1", None),
        ("/var/run/docker.sock", None),
        ("home/me", None),
    ],
)
def test_the_innermost_folder_is_found(path: str, found: tuple[Share, str] | None) -> None:
    assert UNIX.find(path) == found


@pytest.mark.parametrize(
    "path", ["C:\\Users\\me\\a b", "c:/Users/Me/a b", "/c/users/me/a b", "//c/Users/me/a b", "C:/Users/x/../me/a b"]
)
def test_windows_paths_are_one_path(path: str) -> None:
    found = WINDOWS.find(path)
    assert found is not None
    assert (found[0].tag, found[1]) == ("folder0", "a b")


COMPOSED, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"


@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED, COMPOSED.upper(), DECOMPOSED.lower()])
@pytest.mark.parametrize("shared", [COMPOSED, DECOMPOSED])
def test_macos_takes_all_ways_to_write_a_name_for_one(shared: str, asked: str) -> None:
    """And what is below keeps the form that it was asked in: the file system of the Mac finds it."""
    folder = Share("folder0", f"/Users/{shared}")
    table = Table((folder,), fold_case=True)
    for below in ("", "src", COMPOSED, DECOMPOSED):
        assert table.find(f"/Users/{asked}/{below}") == (folder, below)
    assert table.find(f"/Users/{asked}s") is None


def test_elsewhere_they_are_two_names() -> None:
    for windows in (True, False):
        table = Table((Share("folder0", f"/c/{COMPOSED}"),), windows=windows, fold_case=windows)
        assert table.find(f"/c/{COMPOSED}/x") is not None
        assert table.find(f"/c/{DECOMPOSED}/x") is None


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("D:", ("folder1", "")),
        ("d:\\x\\y", ("folder1", "x/y")),
        ("/d/x", ("folder1", "x")),
        ("C:\\Users", None),
        ("E:\\", None),
    ],
)
def test_a_drive_can_be_shared(path: str, found: tuple[str, str] | None) -> None:
    at = WINDOWS.find(path)
    assert (at and (at[0].tag, at[1])) == found


def test_the_root_can_be_shared_and_the_vms_own_stays_its_own() -> None:
    table = Table((Share("folder0", "/"),))
    assert table.find("/etc/passwd") == (table.shares[0], "etc/passwd")
    assert table.find("/run/docker.sock") is None
    assert table.find("/sys/kernel") is None


class Host:
    """A computer's folders, lying elsewhere: what a link names means nothing where they lie."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for share in UNIX.shares:
            (root / share.tag).mkdir()

    def mounted_at(self, share: Share) -> Path:
        return self.root / share.tag

    def resolve(self, path: str, *, create: bool = False) -> Place:
        return resolve(UNIX, path, self.mounted_at, create=create)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_links_lead_where_they_lead_on_that_computer(host: Host) -> None:
    home, data = host.root / "folder0", host.root / "folder1"
    (home / "src/deep").mkdir(parents=True)
    (data / "set").mkdir()
    (home / "absolute").symlink_to("/home/me/src")
    (home / "relative").symlink_to("src/./deep/..")
    (home / "src/up").symlink_to("../absolute/deep")
    (home / "over").symlink_to("/data/set")
    (home / "twice").symlink_to("over")
    for path, tag, below in (
        ("/home/me/absolute/deep", "folder0", "src/deep"),
        ("/home/me/relative", "folder0", "src"),
        ("/home/me/src/up", "folder0", "src/deep"),
        ("/home/me/over", "folder1", "set"),
        ("/home/me/twice", "folder1", "set"),
    ):
        place = host.resolve(path)
        assert (place.share.tag, place.below) == (tag, below)


@pytest.mark.parametrize(
    "target",
    [
        "/var/lib/cove",
        "/etc",
        "../../etc",
        "/proc/self/root",
        "/run/cove/host/folder1",
        "/home",
        "..",
        "//etc",
        "/dev/../etc",
    ],
)
def test_a_link_never_leads_into_the_vm(host: Host, target: str) -> None:
    (host.root / "folder0/evil").symlink_to(target)
    for path in ("/home/me/evil", "/home/me/evil/passwd"):
        with pytest.raises(NotShared):
            host.resolve(path)
        with pytest.raises(NotShared):
            host.resolve(path, create=True)


def test_a_link_to_itself_is_no_end(host: Host) -> None:
    (host.root / "folder0/a").symlink_to("b")
    (host.root / "folder0/b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        host.resolve("/home/me/a")


def test_what_is_missing_is_made_only_where_it_may_be(host: Host) -> None:
    with pytest.raises(FileNotFoundError):
        host.resolve("/home/me/new/er")
    assert host.resolve("/home/me/new/er", create=True).below == "new/er"
    assert (host.root / "folder0/new/er").is_dir()
    (host.root / "folder0/dangling").symlink_to("/home/me/target")
    assert host.resolve("/home/me/dangling", create=True).below == "target"
    (host.root / "folder0/file").write_text("x")
    assert host.resolve("/home/me/file").below == "file"
    with pytest.raises(NotADirectoryError):
        host.resolve("/home/me/file/below")
    with pytest.raises(FileNotFoundError):
        host.resolve("/home/me/nul\0", create=True)


def test_what_is_found_is_opened_without_following_what_came_meanwhile(host: Host) -> None:
    """A container that may write swaps the directory for a link between finding and mounting."""
    from coved.runtime import mounts

    (host.root / "folder0/mine").mkdir()
    place = host.resolve("/home/me/mine")
    (host.root / "folder0/mine").rmdir()
    (host.root / "folder0/mine").symlink_to("/etc")
    with pytest.raises(OSError, match=r"cross-device|Cross-device|Invalid"):
        os.close(
            mounts.open_bind(str(host.mounted_at(place.share)), mounts.parse_options(["rbind"]), below=place.below)
        )
