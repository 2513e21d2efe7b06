"""Layers as overlay lowers: what must be kept, and what must never happen. Real files, so that root is needed."""

import asyncio
import io
import os
import stat
import struct
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from coved.events import Events
from coved.images import Images
from coved.images.extract import Extractor
from coved.images.layers import Layer, LayerStore
from coved.images.loading import Progress
from coved.images.tar import BadArchive, TarReader
from coved.store.database import Database

from image_archives import Member, digest, docker_archive, special, tar

pytestmark = pytest.mark.root


def extract(root: Path, members: list[Member]) -> Extractor:
    return extract_raw(root, tar(members))


def extract_raw(root: Path, archive: bytes) -> Extractor:
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        extractor = Extractor(fd)
        extractor.extract(TarReader(io.BytesIO(archive)))
        return extractor
    finally:
        os.close(fd)


def test_everything_of_a_file_is_kept(tmp_path: Path) -> None:
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    members: list[Member] = [
        ("d", special(tarfile.DIRTYPE, mode=0o2750, uid=12, gid=34, mtime=1000)),
        ("d/f", b"content"),
        ("d/hard", special(tarfile.LNKTYPE, link="d/f")),
        ("d/soft", special(tarfile.SYMTYPE, link="../../etc/passwd", uid=5, gid=6)),
        ("d/fifo", special(tarfile.FIFOTYPE, mode=0o640)),
        ("d/null", special(tarfile.CHRTYPE, mode=0o666, devmajor=1, devminor=3)),
        ("d/suid", special(tarfile.REGTYPE, mode=0o4755, uid=99, gid=98, mtime=2000)),
        (
            "d/cap",
            special(
                tarfile.REGTYPE,
                pax_headers={
                    "SCHILY.xattr.security.capability": capability.decode("utf-8", "surrogateescape"),
                    "SCHILY.xattr.user.note": "hello",
                    "SCHILY.xattr.trusted.overlay.redirect": "/etc",
                },
            ),
        ),
        ("long/" + "n" * 200, b"x"),
    ]
    extractor = extract(tmp_path / "root", members)
    assert extractor.size == 8
    directory = tmp_path / "root/d"
    status = directory.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid, status.st_mtime) == (0o2750, 12, 34, 1000)
    assert (directory / "hard").stat().st_ino == (directory / "f").stat().st_ino
    assert (directory / "soft").readlink() == Path("../../etc/passwd")
    assert (directory / "soft").lstat().st_uid == 5
    assert stat.S_ISFIFO((directory / "fifo").stat().st_mode)
    assert (directory / "null").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_IMODE((directory / "suid").stat().st_mode) == 0o4755
    assert (directory / "suid").stat().st_mtime == 2000
    assert os.getxattr(directory / "cap", "security.capability") == capability
    assert os.getxattr(directory / "cap", "user.note") == b"hello"
    assert "trusted.overlay.redirect" not in os.listxattr(directory / "cap")
    assert (tmp_path / "root/long" / ("n" * 200)).read_bytes() == b"x"


def test_whiteouts_become_overlays_own(tmp_path: Path) -> None:
    extract(
        tmp_path / "root",
        [
            ("etc/.wh.gone", b""),
            ("opaque/.wh..wh..opq", b""),
            ("opaque/new", b"1"),
            ("both", special(tarfile.DIRTYPE)),
            (".wh.both", b""),
            ("etc/.wh..wh.plnk", b""),
        ],
    )
    gone = (tmp_path / "root/etc/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode) and gone.st_rdev == 0
    assert os.getxattr(tmp_path / "root/opaque", "trusted.overlay.opaque") == b"y"
    assert os.getxattr(tmp_path / "root/both", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(tmp_path / "root/etc")) == ["gone"]


@pytest.mark.parametrize(
    "members",
    [
        [("../escaped", b"x")],
        [("a/../../escaped", b"x")],
        [("link", special(tarfile.SYMTYPE, link="..")), ("link/escaped", b"x")],
        [("link", special(tarfile.SYMTYPE, link="/")), ("link/tmp/escaped", b"x")],
        [("d", special(tarfile.DIRTYPE)), ("d/l", special(tarfile.SYMTYPE, link="/")), ("d/l/.wh.escaped", b"")],
        [("hard", special(tarfile.LNKTYPE, link="../victim"))],
        [("s", special(tarfile.SYMTYPE, link="..")), ("hard", special(tarfile.LNKTYPE, link="s/victim"))],
        [("s", special(tarfile.SYMTYPE, link="..")), ("s/d", special(tarfile.DIRTYPE, mode=0o777))],
        [("file", b"x"), ("file/child", b"x")],
        [("a" * 300, b"x")],
        [("/".join("d" * 5000), b"x")],
        [(".wh...", b"")],
    ],
    ids=lambda members: members[-1][0][:24],
)
def test_hostile_layers_are_refused_and_touch_nothing_outside(tmp_path: Path, members: list[Member]) -> None:
    (tmp_path / "victim").write_text("untouched")
    with pytest.raises(BadArchive):
        extract(tmp_path / "root", members)
    assert sorted(os.listdir(tmp_path)) == ["root", "victim"]
    assert (tmp_path / "victim").stat().st_nlink == 1


def test_a_later_link_in_the_place_of_a_directory_is_not_followed_for_its_metadata(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o700)
    extract(
        tmp_path / "root",
        [("d", special(tarfile.DIRTYPE, mode=0o777)), ("d", special(tarfile.SYMTYPE, link=str(outside)))],
    )
    assert stat.S_IMODE(outside.stat().st_mode) == 0o700


def test_absolute_names_are_taken_from_the_layers_root(tmp_path: Path) -> None:
    extract(tmp_path / "root", [("/etc/x", b"1"), ("./etc/y", b"2")])
    assert sorted(os.listdir(tmp_path / "root/etc")) == ["x", "y"]


def test_the_last_of_several_entries_wins(tmp_path: Path) -> None:
    extract(tmp_path / "root", [("f", b"first"), ("f", special(tarfile.SYMTYPE, link="x")), ("f", b"last")])
    assert (tmp_path / "root/f").read_bytes() == b"last"


def unpack(store: LayerStore, archive: bytes, expected: str = "") -> Layer:
    """As a change of images does it: unpacked first, then taken over."""
    room = store.room()
    try:
        layer = store.unpack(io.BytesIO(archive), room, expected)
        store.publish(room, layer)
        return layer
    finally:
        store.discard([room])


def test_a_layer_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    store = LayerStore(tmp_path, lambda _: False)
    good = tar([("f", b"content")])
    layer = unpack(store, good, digest(good))
    assert (layer.diff_id, layer.size) == (digest(good), 7)
    assert (store.path(layer.diff_id) / "f").read_bytes() == b"content"
    with pytest.raises(BadArchive, match="layer verification failed"):
        unpack(store, tar([("f", b"other")]), digest(good))
    with pytest.raises(BadArchive):
        unpack(store, good[:700])
    assert os.listdir(tmp_path / "layers") == [digest(good).removeprefix("sha256:")]


def test_a_layer_in_use_is_not_replaced(tmp_path: Path) -> None:
    archive = tar([("f", b"content")])
    unpack(LayerStore(tmp_path, lambda _: False), archive)
    store = LayerStore(tmp_path, lambda diff_id: diff_id == digest(archive))
    inode = store.path(digest(archive)).stat().st_ino
    unpack(store, archive)
    assert store.path(digest(archive)).stat().st_ino == inode
    assert os.listdir(tmp_path / "layers") == [digest(archive).removeprefix("sha256:")]


def test_a_layer_that_goes_while_an_image_with_it_is_being_loaded_is_there_in_the_end(tmp_path: Path) -> None:
    shared, own = (tar([(name, os.urandom(600_000))]) for name in ("shared", "own"))

    async def scenario() -> None:
        images = Images(Database(tmp_path / "db"), Events(), tmp_path)

        async def load(archive: bytes, report: Progress) -> None:
            async def chunks() -> AsyncIterator[bytes]:
                yield archive

            await images.load(chunks(), report)

        removals: list[asyncio.Task[object]] = []

        def report(message: dict[str, Any]) -> None:
            if "progressDetail" in message and not removals:
                removals.append(asyncio.create_task(images.remove("first")))

        try:
            await load(docker_archive([shared], ["first"]), lambda _: None)
            await load(docker_archive([shared, own], ["second"]), report)
            (removal,) = removals
            await removal
            for path, name in zip(images.lower_dirs(images.get("second")), ("own", "shared"), strict=True):
                assert os.listdir(path) == [name]
        finally:
            await images.close()

    asyncio.run(scenario())


def test_sparse_files_are_refused(tmp_path: Path) -> None:
    archive = bytearray(tar([("f", b"x")]))
    archive[156] = ord("S")
    archive[148:156] = b"%06o\0 " % (sum(archive[:148]) + 8 * 32 + sum(archive[156:512]))
    with pytest.raises(BadArchive, match="sparse"):
        extract_raw(tmp_path / "root", bytes(archive))


def attributes(kind: bytes, **named: str) -> tarfile.TarInfo:
    headers = {f"SCHILY.xattr.{name.replace('__', '.')}": value for name, value in named.items()}
    return special(kind, pax_headers=headers)


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.REGTYPE])
def test_attributes_are_bounded_each(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(BadArchive, match="larger than 65536 bytes"):
        extract(tmp_path / "root", [("d", attributes(kind, user__big="x" * 65537))])
    # What is not taken over may be of any size.
    extract(tmp_path / "other", [("d", attributes(kind, trusted__big="x" * 65537))])


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.REGTYPE])
def test_attributes_are_bounded_together(tmp_path: Path, kind: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coved.images.extract.ATTRIBUTES_MAX", 10_000)
    extract(tmp_path / "root", [(f"d{n}", attributes(kind, user__one="x" * 1900)) for n in range(5)])
    with pytest.raises(BadArchive, match="attributes of the layer's files take more"):
        extract(tmp_path / "more", [(f"d{n}", attributes(kind, user__one="x" * 1900)) for n in range(6)])


def test_directories_are_remembered_in_bounded_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coved.images.extract.REMEMBERED_MAX", 5_000)
    with pytest.raises(BadArchive, match="too many directories"):
        extract(tmp_path / "root", [(f"d{number}", special(tarfile.DIRTYPE)) for number in range(20)])


@pytest.mark.parametrize(
    "member",
    [
        attributes(tarfile.DIRTYPE, **{"user." + "n" * 300: "x"}),
        attributes(tarfile.DIRTYPE, **{"user.n\0n": "x"}),
        attributes(tarfile.DIRTYPE, system__posix_acl_access="\2\0\0\0zzz"),
    ],
)
def test_what_a_directory_cannot_be_given_is_the_archives_fault(tmp_path: Path, member: tarfile.TarInfo) -> None:
    with pytest.raises(BadArchive, match="cannot unpack 'd'"):
        extract(tmp_path / "root", [("d", member)])


def test_an_acl_survives_owner_and_mode(tmp_path: Path) -> None:
    everyone = 0xFFFFFFFF
    rights = [(1, 7, everyone), (2, 6, 1000), (4, 5, everyone), (16, 7, everyone), (32, 0, everyone)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *right) for right in rights)
    headers = {"SCHILY.xattr.system.posix_acl_access": acl.decode("utf-8", "surrogateescape")}
    extract(
        tmp_path / "root",
        [
            ("d", special(tarfile.DIRTYPE, mode=0o700, uid=7, gid=8, pax_headers=headers)),
            ("f", special(tarfile.REGTYPE, mode=0o700, uid=7, gid=8, pax_headers=headers)),
        ],
    )
    for name in ("d", "f"):
        assert os.getxattr(tmp_path / "root" / name, "system.posix_acl_access") == acl
        assert (tmp_path / "root" / name).stat().st_uid == 7
