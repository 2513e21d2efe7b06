"""The first stage: the tree that packages are unpacked into, and dpkg's database of it."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cove.debian.filters import NOTHING, SLIM, PathFilter
from cove.debian.unpack import Tree, in_order
from cove.errors import CoveError
from debian_archive import BUILT, directory, member, package

Unpack = Callable[..., dict[str, tarfile.TarInfo]]


class Result(dict[str, tarfile.TarInfo]):
    """The tree's members by path; `read` is a file's content."""

    def __init__(self, written: bytes) -> None:
        self._archive = tarfile.open(fileobj=io.BytesIO(written))  # noqa: SIM115
        entries = self._archive.getmembers()
        super().__init__({entry.name: entry for entry in entries})
        assert len(self) == len(entries), "a path is there twice"

    def read(self, path: str) -> bytes:
        stream = self._archive.extractfile(self[path])
        assert stream is not None
        return stream.read()


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[..., Result]:
    def unpack(*packages: tuple[dict[str, str], bytes], paths: PathFilter = NOTHING, **more: Any) -> Result:
        output = io.BytesIO()
        tree = Tree(output, paths)
        for fields, content in packages:
            path = tmp_path / f"{fields['Package']}.deb"
            path.write_bytes(content)
            tree.unpack(path, more.get("archived", {}))
        tree.finish(more.get("files", {}))
        return Result(output.getvalue())

    return unpack


def test_owners_modes_times_and_links_are_the_packages(unpack: Any) -> None:
    made = unpack(
        package(
            "a",
            directory(""),
            directory("usr"),
            directory("usr/bin"),
            member("usr/bin/su", b"set", 0o4755),
            member("usr/bin/su2", "./usr/bin/su", 0o4755, type=tarfile.LNKTYPE),
            member("usr/bin/wall", b"tty", 0o2755, gid=5, mtime=BUILT - 5),
            member("usr/bin/sh", "dash"),
            directory("var"),
            directory("var/mail", 0o2775, gid=8),
        )
    )
    assert made["usr/bin/su"].mode == 0o4755
    assert (made["usr/bin/su2"].type, made["usr/bin/su2"].linkname) == (tarfile.LNKTYPE, "usr/bin/su")
    assert (made["usr/bin/wall"].mode, made["usr/bin/wall"].gid, made["usr/bin/wall"].mtime) == (0o2755, 5, BUILT - 5)
    assert (made["usr/bin/sh"].type, made["usr/bin/sh"].linkname) == (tarfile.SYMTYPE, "dash")
    assert (made["var/mail"].mode, made["var/mail"].gid) == (0o2775, 8)
    assert {entry.mtime for entry in made.values()} == {BUILT, BUILT - 5}


def test_a_directory_is_whose_package_comes_first(unpack: Any) -> None:
    assert in_order(["zlib", "base-passwd", "apt", "base-files"]) == ["base-files", "base-passwd", "apt", "zlib"]
    made = unpack(package("a", directory("srv", 0o750, gid=50)), package("b", directory("srv"), member("srv/x", b"x")))
    assert (made["srv"].mode, made["srv"].gid) == (0o750, 50)


def test_files_go_where_usr_is_merged(unpack: Any) -> None:
    made = unpack(
        package("old", directory("bin"), member("bin/x", b"x"), member("bin/y", "./bin/x", type=tarfile.LNKTYPE)),
        package("new", directory("usr/bin"), member("usr/bin/z", b"z")),
    )
    assert made.read("usr/bin/x") == b"x"
    assert made["usr/bin/y"].linkname == "usr/bin/x"
    assert (made["bin"].type, made["bin"].linkname) == (tarfile.SYMTYPE, "usr/bin")
    assert "lib64" not in made
    assert made.read("var/lib/dpkg/info/old.list").decode().splitlines() == ["/bin", "/bin/x", "/bin/y"]


def test_a_package_may_bring_the_merged_links(unpack: Any) -> None:
    made = unpack(package("base-files", member("bin", "usr/bin"), directory("usr/bin"), member("usr/bin/x", b"")))
    assert made["bin"].linkname == "usr/bin"


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (member("../etc/passwd", b""), "leads out"),
        (member("dev/null", b"", type=tarfile.CHRTYPE), "special file"),
        (member("x", "./y", type=tarfile.LNKTYPE), "which is not there"),
        (member("x", "../../y", type=tarfile.LNKTYPE), "leads out"),
    ],
)
def test_packages_that_cannot_be(unpack: Any, bad: Any, said: str) -> None:
    with pytest.raises(CoveError, match=rf"bad\.deb cannot be read.*{said}"):
        unpack(package("bad", bad))


def test_two_packages_may_not_own_a_file(unpack: Any) -> None:
    with pytest.raises(CoveError, match="/x is in another package too"):
        unpack(package("a", member("x", b"1")), package("b", member("x", b"1")))
    with pytest.raises(CoveError, match="/x is a directory here"):
        unpack(package("a", member("x", b"1")), package("b", directory("x")))


def test_a_truncated_package_is_told(unpack: Any) -> None:
    fields, content = package("a", member("x", b"1" * 5000))
    with pytest.raises(CoveError, match=r"a\.deb cannot be read"):
        unpack((fields, content[:-300]))
    with pytest.raises(CoveError, match="not an ar archive"):
        unpack((fields, b"<html>"))


def test_the_database_is_that_of_unpacked_packages(unpack: Any) -> None:
    made = unpack(
        package(
            "libx1",
            directory(""),
            directory("etc"),
            member("etc/x.conf", b"setting"),
            control={
                "postinst": (0o755, b"#!/bin/sh\n"),
                "conffiles": (0o644, b"/etc/x.conf\nremove-on-upgrade /etc/old\n"),
                "triggers": (
                    0o644,
                    b"# ours\ninterest-noawait /usr/lib/x\ninterest update\nactivate-noawait ldconfig\n",
                ),
            },
            Multi_Arch="same",
            Priority="optional",
            Description="a library\n of lines\n .\n and more",
        ),
        package("tool", directory(""), control={"triggers": (0o644, b"interest-await update\n")}, Architecture="all"),
        archived={"Priority": "required"},
    )
    assert made.read("var/lib/dpkg/status").decode() == (
        "Package: libx1\nStatus: install ok unpacked\nVersion: 1.0-1\nArchitecture: amd64\nMulti-Arch: same\n"
        "Priority: required\nDescription: a library\n of lines\n .\n and more\n"
        f"Conffiles:\n /etc/x.conf {hashlib.md5(b'setting').hexdigest()}\n\n"
        "Package: tool\nStatus: install ok unpacked\nVersion: 1.0-1\nArchitecture: all\n"
    )
    info = "var/lib/dpkg/info"
    assert made.read(f"{info}/format") == b"1\n"
    assert made.read(f"{info}/libx1:amd64.list") == b"/.\n/etc\n/etc/x.conf\n"
    assert made[f"{info}/libx1:amd64.postinst"].mode == 0o755
    assert f"{info}/libx1:amd64.control" not in made
    assert made.read("var/lib/dpkg/triggers/File") == b"/usr/lib/x libx1:amd64/noawait\n"
    assert made.read("var/lib/dpkg/triggers/update") == b"libx1:amd64\ntool\n"
    assert "var/lib/dpkg/triggers/ldconfig" not in made


def test_documentation_is_left_out_but_no_licence(unpack: Any) -> None:
    doc = "usr/share/doc"
    made = unpack(
        package(
            "a",
            directory("usr"),
            directory("usr/share"),
            directory(doc),
            directory(f"{doc}/a", 0o750),
            member(f"{doc}/a/changelog.gz", b"c"),
            member(f"{doc}/a/copyright", b"free"),
            directory(f"{doc}/a/examples"),
            member(f"{doc}/a/examples/x", b"x"),
            member(f"{doc}/b", "a"),
            member(f"{doc}/c", "gone"),
            directory("usr/share/man"),
            directory("usr/share/man/man1"),
            directory("usr/share/man/de/man1"),
            member("usr/share/man/man1/a.1.gz", b"m"),
            member("usr/share/man/man1/b.1.gz", "a.1.gz"),
            directory("usr/share/locale"),
            member("usr/share/locale/de/LC_MESSAGES/a.mo", b"d"),
            member("usr/share/locale/locale.alias", b"l"),
        ),
        paths=SLIM,
    )
    there = [path for path in made if path.startswith("usr/share/")]
    assert sorted(there) == [
        doc, f"{doc}/a", f"{doc}/a/copyright", f"{doc}/b", "usr/share/locale", "usr/share/locale/locale.alias",
        "usr/share/man", "usr/share/man/man1",
    ]  # fmt: skip
    assert made[f"{doc}/a"].mode == 0o750
    # dpkg remembers what it left out, as it does when it leaves it out itself.
    assert f"/{doc}/a/changelog.gz" in made.read("var/lib/dpkg/info/a.list").decode().splitlines()


def test_parents_come_before_what_is_in_them(unpack: Any) -> None:
    made = unpack(
        package("a", member("opt/a/b/c", b"")), files={"etc/apt/x": (0o640, b"y")}, paths=PathFilter(("/nothing",))
    )
    seen: set[str] = set()
    for path in made:
        assert "/" not in path or path.rpartition("/")[0] in seen
        seen.add(path)
    assert (made.read("etc/apt/x"), made["etc/apt/x"].mode, made["etc/apt/x"].mtime) == (b"y", 0o640, BUILT)
