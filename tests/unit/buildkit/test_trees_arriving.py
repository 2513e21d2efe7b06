"""Trees that clients send, good and bad ones."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from coved.buildkit import filemode
from coved.buildkit.arriving import Arriving, BadTree
from coved.buildkit.departing import Departing
from coved.buildkit.messages import Stat
from hypothesis import given
from hypothesis import strategies as st

DIRECTORY, LINK, DEVICE, FIFO, SOCKET = 1 << 31, 1 << 27, 1 << 26, 1 << 25, 1 << 24
T = 1_600_000_000_123_456_789


def file(path: str, data: bytes = b"x", *, mode: int = 0o644, time: int = T, link: str = "") -> tuple[Stat, bytes]:
    return Stat(path, mode, size=len(data), mod_time=time, linkname=link), data


def folder(path: str, *, mode: int = 0o755) -> tuple[Stat, bytes]:
    return Stat(path, DIRECTORY | mode, mod_time=T), b""


def symlink(path: str, target: str) -> tuple[Stat, bytes]:
    return Stat(path, LINK | 0o777, mod_time=T, linkname=target), b""


class Place:
    def __init__(self, path: Path) -> None:
        self.tree = path / "tree"
        self.spare = path / "spare"
        self.tree.mkdir()
        self.spare.mkdir()

    def take(self, entries: Sequence[tuple[Stat, bytes]]) -> list[str]:
        """What was asked for."""
        root, spare = os.open(self.tree, os.O_RDONLY), os.open(self.spare, os.O_RDONLY)
        arriving = Arriving(root, spare)
        try:
            wanted = [number for entry, _ in entries if (number := arriving.entry(entry)) is not None]
            for number in wanted:
                for at in range(0, len(entries[number][1]), 1000):
                    arriving.data(number, entries[number][1][at : at + 1000])
                arriving.data(number, b"")
            assert arriving.waiting == 0
            arriving.finish()
        finally:
            arriving.close()
            os.close(root)
            os.close(spare)
        assert not [*self.spare.iterdir()]
        return [entries[number][0].path for number in wanted]

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.tree)) for path in self.tree.rglob("*"))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_tree_comes_as_it_is(place: Place) -> None:
    asked = place.take(
        [
            folder("a", mode=0o700),
            file("a/empty", b""),
            file("a/run", b"#!" * 5000, mode=0o755 | 1 << 23),
            symlink("b", "/etc/passwd"),
            file("c", b"hello", mode=0o600),
            (Stat("d", FIFO | 0o640, mod_time=T), b""),
        ]
    )
    assert asked == ["a/empty", "a/run", "c"]
    assert place.names() == ["a", "a/empty", "a/run", "b", "c", "d"]
    run = (place.tree / "a/run").stat()
    assert (stat.S_IMODE(run.st_mode), run.st_mtime_ns, run.st_size) == (0o4755, T, 10_000)
    assert os.readlink(place.tree / "b") == "/etc/passwd"  # noqa: PTH115
    assert (place.tree / "b").lstat().st_mtime_ns == T
    assert (place.tree / "a").stat().st_mtime_ns == T
    assert stat.S_IMODE((place.tree / "a").stat().st_mode) == 0o700
    assert stat.S_ISFIFO((place.tree / "d").stat().st_mode)
    assert (place.tree / "c").read_bytes() == b"hello"


def test_what_is_there_is_not_asked_for_again(place: Place) -> None:
    entries = [folder("a"), file("a/f", b"one"), file("g", b"two"), symlink("l", "g")]
    assert place.take(entries) == ["a/f", "g"]
    inode = (place.tree / "g").stat().st_ino
    assert place.take(entries) == []
    assert (place.tree / "g").stat().st_ino == inode


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(file("f", b"longer"), id="size"),
        pytest.param(file("f", b"one", time=T + 1), id="time"),
        pytest.param(file("f", b"one", mode=0o600), id="mode"),
    ],
)
def test_what_has_changed_is_asked_for(place: Place, changed: tuple[Stat, bytes]) -> None:
    place.take([file("f", b"one")])
    assert place.take([changed]) == ["f"]
    found = (place.tree / "f").stat()
    assert (found.st_size, found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (
        changed[0].size,
        changed[0].mod_time,
        changed[0].mode,
    )


def test_what_has_gone_is_removed(place: Place) -> None:
    place.take([folder("a"), folder("a/b"), file("a/b/f"), file("c"), file("d")])
    place.take([folder("a"), file("d")])
    assert place.names() == ["a", "d"]


def test_kinds_take_the_place_of_one_another(place: Place) -> None:
    place.take([folder("a"), file("a/f"), file("b"), symlink("c", "b")])
    place.take([file("a"), folder("b"), file("b/f"), folder("c"), file("c/f")])
    assert place.names() == ["a", "b", "b/f", "c", "c/f"]
    place.take([symlink("a", "x"), symlink("b", "y"), file("c", b"new")])
    assert place.names() == ["a", "b", "c"]
    assert os.readlink(place.tree / "b") == "y"  # noqa: PTH115


def test_hard_links(place: Place) -> None:
    entries = [file("a", b"one"), folder("b"), file("b/c", b"one", link="a"), file("d", b"one", link="a")]
    assert place.take(entries) == ["a"]
    inodes = {(place.tree / name).stat().st_ino for name in ("a", "b/c", "d")}
    assert len(inodes) == 1
    assert place.take(entries) == []
    changed = [file("a", b"other"), folder("b"), file("b/c", b"other", link="a"), file("d", b"one")]
    assert place.take(changed) == ["a"]
    assert [(place.tree / name).read_bytes() for name in ("a", "b/c", "d")] == [b"other", b"other", b"one"]


def test_a_hard_link_to_what_does_not_come_is_a_file(place: Place) -> None:
    assert place.take([file("b", b"one", link="a"), file("c", b"two", link="../../etc/passwd")]) == ["b", "c"]
    assert (place.tree / "c").read_bytes() == b"two"
    assert (place.tree / "c").stat().st_nlink == 1


@pytest.mark.parametrize(
    "entries",
    [
        pytest.param([file("")], id="no name"),
        pytest.param([file("/etc/x")], id="absolute"),
        pytest.param([file("..")], id="above"),
        pytest.param([file("../x")], id="above and away"),
        pytest.param([folder("a"), file("a/../x")], id="up in the middle"),
        pytest.param([file("./x")], id="dot"),
        pytest.param([folder("a"), file("a//x")], id="two slashes"),
        pytest.param([folder("a/")], id="slash at the end"),
        pytest.param([file("a\0b")], id="NUL"),
        pytest.param([file("x" * 256)], id="name too long"),
        pytest.param([file("x/" * 3000)], id="path too long"),
        pytest.param([file("a/x")], id="in no folder"),
        pytest.param([file("a"), file("a/x")], id="in a file"),
        pytest.param([symlink("a", "/etc"), file("a/x")], id="through a link"),
        pytest.param([symlink("a", "/etc"), folder("a"), file("a/x")], id="a link and then a folder"),
        pytest.param([folder("a"), symlink("a", "/etc")], id="a folder and then a link"),
        pytest.param([file("a"), file("a")], id="twice"),
        pytest.param([file("b"), file("a")], id="out of order"),
        pytest.param([symlink("a", "")], id="link to nothing"),
        pytest.param([symlink("a", "x\0y")], id="link with a NUL"),
        pytest.param([symlink("a", "x" * 5000)], id="link too long"),
        pytest.param([(Stat("a", DEVICE | 0o666, devmajor=8), b"")], id="device"),
        pytest.param([(Stat("a", SOCKET | 0o666), b"")], id="socket"),
        pytest.param([(Stat("a", DIRECTORY | LINK), b"")], id="two kinds"),
    ],
)
def test_what_leads_out_of_the_tree_or_is_none(place: Place, entries: list[tuple[Stat, bytes]]) -> None:
    outside = sorted(os.listdir("/etc"))  # noqa: PTH208
    with pytest.raises((BadTree, OSError)):
        place.take(entries)
    assert sorted(os.listdir("/etc")) == outside  # noqa: PTH208


def test_what_was_there_leads_nowhere(place: Place, tmp_path: Path) -> None:
    """Whatever an earlier transfer left, links in it are not followed."""
    (tmp_path / "outside").mkdir()
    place.take([symlink("a", str(tmp_path / "outside")), symlink("f", str(tmp_path / "outside/f"))])
    place.take([folder("a"), file("a/x"), file("f")])
    assert not [*(tmp_path / "outside").iterdir()]
    assert place.names() == ["a", "a/x", "f"]


def test_data_of_no_file(place: Place) -> None:
    root, spare = os.open(place.tree, os.O_RDONLY), os.open(place.spare, os.O_RDONLY)
    arriving = Arriving(root, spare)
    assert arriving.entry(file("a")[0]) == 0
    for number in (1, -1, 1 << 31):
        with pytest.raises(BadTree, match="invalid file request"):
            arriving.data(number, b"x")
    arriving.data(0, b"x")
    arriving.close()
    assert place.names() == []


def test_a_tree_deeper_than_descriptors_are_kept_open(place: Place) -> None:
    paths = ["/".join(["d"] * depth) for depth in range(1, 200)]
    entries = [folder(path) for path in paths] + [file(f"{paths[-1]}/f", b"deep")]
    place.take(entries)
    assert (place.tree / paths[-1] / "f").read_bytes() == b"deep"
    place.take([])
    assert place.names() == []


def test_attributes(place: Place) -> None:
    probe = place.spare / "probe"
    probe.touch()
    try:
        os.setxattr(probe, "user.x", b"1")
    except OSError:
        pytest.skip("the file system of the tests has no user attributes")
    probe.unlink()
    entry, data = file("a", b"one")
    entry.xattrs = {"user.mine": b"1", "trusted.overlay.opaque": b"y"}
    assert place.take([(entry, data)]) == ["a"]
    assert os.listxattr(place.tree / "a") == ["user.mine"]
    assert place.take([(entry, data)]) == []
    assert place.take([file("a", b"one")]) == ["a"]
    assert os.listxattr(place.tree / "a") == []


@given(st.integers(0, 0o7777), st.sampled_from([stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR]))
def test_modes_there_and_back(bits: int, kind: int) -> None:
    assert filemode.from_go(filemode.to_go(kind | bits)) == kind | bits


@given(st.integers(0, (1 << 32) - 1))
def test_modes_of_strangers(mode: int) -> None:
    try:
        filemode.from_go(mode)
    except ValueError:
        return
    assert mode & (DIRECTORY | LINK | DEVICE | FIFO | SOCKET | 1 << 21 | 1 << 19) in {
        0,
        DIRECTORY,
        LINK,
        DEVICE,
        DEVICE | 1 << 21,
        FIFO,
        SOCKET,
    }


def test_a_tree_that_departs_can_arrive(tmp_path: Path, place: Place) -> None:
    source = tmp_path / "source"
    (source / "a").mkdir(parents=True)
    (source / "a.b").write_text("after a in the order of texts")
    (source / "a" / "f").write_text("one")
    (source / "l").symlink_to("a/f")
    os.link(source / "a" / "f", source / "z")
    (source / "na\udcffme").write_text("no UTF-8")
    departing = Departing(source)
    entries = [*departing.entries()]
    assert [entry.path for entry in entries] == ["a", "a/f", "a.b", "l", "na\udcffme", "z"]
    assert entries[-1].linkname == "a/f"

    def content() -> Iterator[bytes]:
        for number, entry in enumerate(entries):
            if entry.mode & (DIRECTORY | LINK):
                yield b""
            else:
                with open(departing.open(number), "rb") as stream:  # noqa: PTH123
                    yield stream.read()

    place.take([*zip(entries, content(), strict=True)])
    assert (place.tree / "z").read_text() == "one"
    assert (place.tree / "na\udcffme").read_text() == "no UTF-8"
    with pytest.raises(KeyError):
        departing.open(0)


def test_trees_of_several_platforms(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "f").write_text(name)
    entries = Departing(tmp_path, {"linux_arm64": tmp_path / "two", "linux_amd64": tmp_path / "one"}).entries()
    assert [entry.path for entry in entries] == ["linux_amd64", "linux_amd64/f", "linux_arm64", "linux_arm64/f"]
