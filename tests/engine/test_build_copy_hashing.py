"""Digests of what is copied: they change with everything that the copy shows, and with nothing else."""

from __future__ import annotations

import os
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from coved.build.errors import BuildError
from coved.build.files import hashing
from coved.build.files.hash_memory import HashMemory
from coved.build.files.hashing import digest

from build_copy_support import link, make_source, stamp, write

pytestmark = pytest.mark.root


def of(root: Path, *sources: str, **options: Any) -> str:
    return digest(sources or (".",), directory=root, ref="context", **options)


def capability(path: Path) -> None:
    os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "dir/one.txt").write_text("7"),
    "mode": lambda root: (root / "dir/one.txt").chmod(0o644),
    "owner": lambda root: os.chown(root / "dir/one.txt", 1, 0),
    "group": lambda root: os.chown(root / "dir/one.txt", 0, 1),
    "capability": lambda root: capability(root / "dir/one.txt"),
    "name": lambda root: (root / "dir/one.txt").rename(root / "dir/two.txt"),
    "new": lambda root: (root / "dir/new").write_text(""),
    "new folder": lambda root: (root / "dir/new").mkdir(),
    "gone": lambda root: (root / "dir/link").unlink(),
    "moved": lambda root: (root / "dir/sub/two.txt").rename(root / "dir/sub/deep/two.txt"),
    "mode of a folder": lambda root: (root / "dir/sub").chmod(0o700),
    "owner of a folder": lambda root: os.chown(root / "dir/sub", 1, 0),
    "attribute of a folder": lambda root: os.setxattr(root / "dir/sub", "user.x", b"y"),
    "link": lambda root: ((root / "dir/link").unlink(), link(root, "dir/link", "else")),
    "link to a file": lambda root: ((root / "dir/link").unlink(), write(root, "dir/link", "one.txt", 0o777)),
    "device": lambda root: os.mknod(root / "dir/null", stat.S_IFCHR, os.makedev(1, 3)),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "times": lambda root: stamp(root, 5),
    "beside": lambda root: write(root, "beside", "x"),
    "mode of what is named": lambda root: (root / "dir").chmod(0o711),
    "no hard link": lambda root: ((root / "dir/one.txt").unlink(), write(root, "dir/one.txt", "1", 0o600)),
    "attribute of the kernel's": lambda root: os.setxattr(root / "dir/one.txt", "trusted.x", b"y"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("remembered", [False, True])
def test_what_changes_it(change: str, remembered: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_FEW", 0)
    root = make_source(tmp_path / "s")
    options: dict[str, Any] = {"memory": HashMemory(tmp_path / "m"), "tree": "t"} if remembered else {}
    settle(root)
    before = of(root, "dir", **options)
    assert of(root, "dir", **options) == before
    CHANGES[change](root)
    assert of(root, "dir", **options) != before
    assert of(root, "dir", **options) == of(root, "dir")


@pytest.mark.parametrize("change", NO_CHANGES)
def test_what_changes_nothing(change: str, tmp_path: Path) -> None:
    root = make_source(tmp_path / "s")
    before = of(root, "dir")
    NO_CHANGES[change](root)
    assert of(root, "dir") == before


def settle(root: Path) -> None:
    """Waits until the last change is long enough ago to be told from another."""
    last = max(path.lstat().st_ctime_ns for path in root.rglob("*"))
    while time.time_ns() <= last + hashing._TICK_NS:
        time.sleep(0.01)


def test_only_what_is_taken_counts(tmp_path: Path) -> None:
    root = make_source(tmp_path / "s")
    selections: list[tuple[tuple[str, ...], dict[str, Any], str, str]] = [
        (("dir",), {"excludes": ["sub"]}, "dir/sub/two.txt", "dir/one.txt"),
        (("*.sh",), {}, "a.txt", "run.sh"),
        (("dir*/*.md",), {}, "dir/one.txt", "dir2/b.md"),
        (("dir/*.txt",), {"parents": True}, "dir/sub/two.txt", "dir/one.txt"),
        (("dir/./sub",), {"parents": True}, "dir/one.txt", "dir/sub/two.txt"),
        (("link",), {}, "run.sh", "a.txt"),
        (("linkdir/sub",), {}, "dir/one.txt", "dir/sub/deep/three.md"),
    ]
    for sources, options, without, taken in selections:
        before = of(root, *sources, **options)
        write(root, without, "changed")
        assert of(root, *sources, **options) == before, sources
        write(root, taken, "changed")
        assert of(root, *sources, **options) != before, sources
        write(root, without, "a")
        write(root, taken, "a")


def test_a_folder_counts_when_something_in_it_is_taken(tmp_path: Path) -> None:
    root = make_source(tmp_path / "s")
    options: dict[str, Any] = {"parents": True}
    with_file, without = of(root, "dir*/b.md", **options), of(root, "dir*/none", **options)
    (root / "dir2").chmod(0o700)
    assert of(root, "dir*/b.md", **options) != with_file
    assert of(root, "dir*/none", **options) == without


def test_names_run_into_nothing(tmp_path: Path) -> None:
    """No two trees have one digest because the ends of names and contents are not told apart."""
    one, other = tmp_path / "one", tmp_path / "other"
    write(one, "a", "b")
    write(one, "c", "")
    write(other, "a", "")
    write(other, "bc", "")
    link(one, "l", "xy")
    link(other, "lx", "y")
    assert of(one) != of(other)
    assert of(one, "a", "c") != of(one, "a")
    assert of(one, "a", "c") != of(one, "c", "a")


@pytest.mark.parametrize(
    ("source", "options", "said"),
    [
        ("nothing", {}, '"/nothing": not found'),
        ("dir/../nothing/x", {}, '"/nothing/x": not found'),
        ("dangling", {}, '"/dangling": not found'),
        ("loop", {}, "too many links"),
        ("a[", {}, "syntax error in pattern"),
        ("dir/none", {"parents": True}, '"/dir/none": not found'),
        ("dir/./none", {"parents": True}, '"/dir/none": not found'),
        ("dir/one.txt", {"parents": True, "excludes": ["**/*.txt"]}, '"/dir/one.txt": not found'),
    ],
)
def test_what_is_not_there(source: str, options: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        of(make_source(tmp_path / "s"), source, **options)
    assert str(caught.value) == f"failed to compute cache key: failed to calculate checksum of ref context: {said}"


def test_a_wildcard_may_match_nothing(tmp_path: Path) -> None:
    """BuildKit copies nothing then; so two that match nothing are the same."""
    root = make_source(tmp_path / "s")
    assert of(root, "*.none") == of(root, "*.nothing") != of(root, "*.sh")


def test_layers_are_hashed_as_they_look_together(tmp_path: Path) -> None:
    top, bottom, flat = tmp_path / "top", tmp_path / "bottom", tmp_path / "flat"
    write(bottom, "d/gone", "")
    write(bottom, "d/both", "bottom")
    write(top, "d/both", "top")
    os.mknod(top / "d/gone", stat.S_IFCHR, 0)
    write(flat, "d/both", "top")
    assert digest(["d"], layers=[top, bottom], ref="") == of(flat, "d")


def test_what_is_remembered_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_source(tmp_path / "s")
    big = write(root, "big", bytes(3 << 20))
    monkeypatch.setattr(hashing, "_FEW", 0)
    settle(root)
    memory = HashMemory(tmp_path / "m")
    first = of(root, memory=memory, tree="one")
    reads: list[int] = []
    real = hashing._body
    monkeypatch.setattr(hashing, "_body", lambda fd: (reads.append(fd), real(fd))[1])
    assert of(root, memory=memory, tree="one") == first
    assert reads == []
    assert of(root, memory=memory, tree="other") == first
    assert len(reads) > 10
    reads.clear()
    big.write_bytes(b"x" + bytes((3 << 20) - 1))
    assert of(root, memory=memory, tree="one") != first
    assert len(reads) == 1


def test_layers_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they are mounted anew each time."""
    monkeypatch.setattr(hashing, "_FEW", 0)
    layers = [make_source(tmp_path / "top"), make_source(tmp_path / "bottom")]
    for layer in layers:
        settle(layer)
    options: dict[str, Any] = {"layers": layers, "ref": "", "memory": HashMemory(tmp_path / "m"), "tree": "t"}
    first = digest(["."], **options)
    monkeypatch.setattr(hashing, "_body", lambda fd: pytest.fail("it is remembered"))
    assert digest(["."], **options) == first


def test_what_has_just_been_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its times could be the same after another change."""
    monkeypatch.setattr(hashing, "_FEW", 0)
    monkeypatch.setattr(hashing, "_TICK_NS", 3600 * 10**9)
    root = tmp_path / "s"
    write(root, "a", "a")
    of(root, memory=HashMemory(tmp_path / "m"), tree="t")
    assert not (tmp_path / "m").exists()


def test_a_damaged_memory_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_FEW", 0)
    root = make_source(tmp_path / "s")
    settle(root)
    memory = HashMemory(tmp_path / "m")
    first = of(root, memory=memory, tree="t")
    (file,) = (tmp_path / "m").iterdir()
    for damaged in (b"", b"nonsense", file.read_bytes()[:-7]):
        file.write_bytes(damaged)
        assert of(root, memory=memory, tree="t") == first


def test_a_memory_has_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "_FEW", 0)
    monkeypatch.setattr("coved.build.files.hash_memory.TREES_MAX", 3)
    monkeypatch.setattr("coved.build.files.hash_memory.ENTRIES_MAX", 4)
    root = make_source(tmp_path / "s")
    settle(root)
    for number in range(6):
        of(root, memory=HashMemory(tmp_path / "m"), tree=f"t{number}")
    sizes = [path.stat().st_size for path in (tmp_path / "m").iterdir()]
    assert sizes == [16 + 4 * 48] * 3


def test_many_big_files(tmp_path: Path) -> None:
    """More than are open at a time, among small ones, in any order of their ends."""
    root = tmp_path / "s"
    for number in range(80):
        write(root, f"{number:03}", os.urandom((1 << 20) + number if number % 2 else number))
    first = of(root)
    write(root, "079", b"x" * (1 << 20))
    assert of(root) != first
    open_before = len(os.listdir("/proc/self/fd"))
    assert of(root) == of(root)
    assert len(os.listdir("/proc/self/fd")) == open_before
