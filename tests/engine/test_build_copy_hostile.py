"""Copying from and into trees whose maker means harm, and what a file has beside its content."""

from __future__ import annotations

import os
import socket
import stat
import struct
import tarfile
from pathlib import Path

import pytest
from coved.build.errors import BuildError
from coved.build.files.copying import copy
from coved.build.orders import CopyOrder, Files
from coved.runtime import view
from coved.store.trees import remove_tree

from build_copy_support import Target, archive, link, make_base, make_source, write

pytestmark = pytest.mark.root


def order(source: Path, *sources: str, destination: str = "/x/", unpack: bool = False) -> CopyOrder:
    return CopyOrder((), destination, Files(source), sources, unpack=unpack)


def test_no_source_leads_out_of_its_tree(tmp_path: Path) -> None:
    write(tmp_path, "secret", "of the machine")
    source = tmp_path / "s"
    link(source, "up", "../secret")
    link(source, "absolute", str(tmp_path / "secret"))
    link(source, "folder", "..")
    link(source, "kernel", "/proc/self/root" + str(tmp_path))
    target = Target(tmp_path / "t", None)
    for name in ("up", "absolute", "folder/secret", "folder/../../secret", "../secret", "kernel/secret"):
        with pytest.raises(BuildError, match=r'^"/.*": not found$'):
            target.copy(order(source, name))
    target.copy(order(source, "folder"))
    assert sorted(path.name for path in (target.upper / "x").iterdir()) == ["absolute", "folder", "kernel", "up"]
    assert all(path.is_symlink() for path in (target.upper / "x").iterdir())


@pytest.mark.parametrize("unpack", [False, True])
def test_no_link_in_the_image_leads_out_of_it(unpack: bool, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    base = tmp_path / "base"
    for name, text in {"up": "../outside", "absolute": str(outside), "deep": "a/../../../outside"}.items():
        link(base, name, text)
    write(base, "a/b", "")
    source = make_source(tmp_path / "s")
    for index, name in enumerate(("up", "absolute", "deep", "up/more", "../../outside")):
        target = Target(tmp_path / str(index), base)
        target.copy(order(source, "x.tar" if unpack else "a.txt", destination=f"/{name}/", unpack=unpack))
        assert target.changes()
    assert [*outside.iterdir()] == []


def test_no_archive_leads_out_of_its_folder(tmp_path: Path) -> None:
    outside = write(tmp_path, "outside/file", "safe")
    source = tmp_path / "s"
    source.mkdir()
    with tarfile.open(source / "evil.tar", "w") as tar:
        for name, text in (("l", str(outside.parent)), ("m", "../../outside")):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, text
            tar.addfile(info)
        for name in ("l/file", "m/file"):
            tar.addfile(tarfile.TarInfo(name))
    target = Target(tmp_path / "t", make_base(tmp_path / "base"))
    with pytest.raises(BuildError, match="cannot unpack 'l/file'"):
        target.copy(order(source, "evil.tar", unpack=True))
    assert outside.read_text() == "safe"
    with tarfile.open(source / "evil.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../../escaped"))
    with pytest.raises(BuildError, match=r'"\.\./\.\./escaped" is outside of "/"'):
        target.copy(order(source, "evil.tar", unpack=True))


def test_a_damaged_archive_fails(tmp_path: Path) -> None:
    source = tmp_path / "s"
    write(source, "cut.tar", archive()[:1200])
    with pytest.raises(BuildError, match="unexpected EOF"):
        Target(tmp_path / "t", None).copy(order(source, "cut.tar", unpack=True))


def test_files_keep_their_capabilities_attributes_and_links(tmp_path: Path) -> None:
    source = tmp_path / "s"
    capability = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    os.setxattr(write(source, "d/ping", "#!", 0o755), "security.capability", capability)
    os.setxattr(source / "d/ping", "user.note", b"kept")
    os.setxattr(source / "d", "user.note", b"of the folder")
    os.setxattr(source / "d", "trusted.overlay.opaque", b"y")
    target = Target(tmp_path / "t", make_base(tmp_path / "base"))
    target.copy(CopyOrder((), "/x/", Files(source), ["."], chown="app:staff", chmod="755"))
    copied = target.upper / "x/d/ping"
    assert os.getxattr(copied, "security.capability") == capability
    assert (copied.stat().st_uid, copied.stat().st_gid) == (1001, 50)
    assert os.getxattr(copied, "user.note") == b"kept"
    assert os.getxattr(target.upper / "x/d", "user.note") == b"of the folder"
    with view.of_image([target.upper, *target.lower]) as root:
        assert os.getxattr(f"/proc/self/fd/{root}/x/d", "user.note") == b"of the folder"
    assert "trusted.overlay.opaque" not in os.listxattr(target.upper / "x/d")


def test_special_files(tmp_path: Path) -> None:
    source = tmp_path / "s"
    source.mkdir()
    os.mkfifo(source / "fifo", 0o640)
    os.mknod(source / "null", stat.S_IFCHR | 0o622, os.makedev(1, 3))
    (source / "null").chmod(0o622)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(source / "socket"))
    target = Target(tmp_path / "t", make_base(tmp_path / "base"))
    target.copy(order(source, "."))
    copied = {path.name: path.lstat() for path in (target.upper / "x").iterdir()}
    assert stat.filemode(copied["fifo"].st_mode) == "prw-r-----"
    assert stat.filemode(copied["null"].st_mode) == "crw--w--w-"
    assert copied["null"].st_rdev == os.makedev(1, 3)
    assert stat.S_ISREG(copied["socket"].st_mode)
    assert copied["socket"].st_size == 0


@pytest.mark.parametrize("scratch", [False, True])
def test_a_whiteout_is_no_file_to_copy(scratch: bool, tmp_path: Path) -> None:
    """It would take away what is below; a layer alone may have some."""
    source = tmp_path / "s"
    write(source, "a", "a")
    os.mknod(source / "file", stat.S_IFCHR | 0o600, 0)
    target = Target(tmp_path / "t", None if scratch else make_base(tmp_path / "base"))
    target.copy(order(source, ".", destination="/"))
    assert [line for line in target.changes() if not line.startswith("/a ")] == []
    with pytest.raises(BuildError, match="failed to create device: mknod /file: operation not permitted"):
        target.copy(order(source, "file", destination="/"))
    assert "- /file" not in target.changes()


def test_from_a_stage_of_several_layers(tmp_path: Path) -> None:
    """What an upper layer takes away is not copied, and what both have is the upper one's."""
    top, bottom = tmp_path / "top", tmp_path / "bottom"
    write(bottom, "d/gone", "")
    write(bottom, "d/both", "bottom")
    write(bottom, "d/below", "below")
    write(top, "d/both", "top")
    os.mknod(top / "d/gone", stat.S_IFCHR, 0)
    target = Target(tmp_path / "t", make_base(tmp_path / "base"))
    target.copy(CopyOrder((), "/x", Files(refs=("bottom", "top")), ["d"]), [top, bottom])
    assert {path.name: path.read_text() for path in (target.upper / "x").iterdir()} == {"both": "top", "below": "below"}


def test_the_target_can_be_mounted_again(tmp_path: Path) -> None:
    """As the next step does, above the same snapshot, or the same step with another source."""
    source = make_source(tmp_path / "s")
    target = Target(tmp_path / "t", make_base(tmp_path / "base"))
    target.copy(order(source, "a.txt"))
    target.copy(order(source, "run.sh"))
    assert {path.name for path in (target.upper / "x").iterdir()} == {"a.txt", "run.sh"}
    assert "- " not in str(target.changes())


def test_a_file_in_the_way_of_the_names(tmp_path: Path) -> None:
    """A FIFO in the place of /etc/passwd does not hold up the build."""
    base = tmp_path / "base"
    (base / "etc").mkdir(parents=True)
    os.mkfifo(base / "etc/passwd")
    link(base, "etc/group", "/proc/self/environ")
    target = Target(tmp_path / "t", base)
    source = make_source(tmp_path / "s")
    with pytest.raises(BuildError, match="/etc/passwd is not a regular file"):
        target.copy(CopyOrder((), "/x", Files(source), ["a.txt"], chown="app"))
    target.copy(CopyOrder((), "/x", Files(source), ["a.txt"], chown="1:app"))
    assert target.changes() == ["/x f 644 1:1 <a> T"]


def test_it_ends_when_nobody_wants_it_any_more(tmp_path: Path) -> None:
    source = tmp_path / "s"
    for number in range(50):
        write(source, f"{number}", "")
    asked = iter([True] * 10)
    target = Target(tmp_path / "t", make_base(tmp_path / "base"))
    with pytest.raises(BuildError, match="context canceled"):
        copy(order(source, "."), target.lower, target.upper, target.work, wanted=lambda: next(asked, False))
    assert len([*(target.upper / "x").iterdir()]) == 10


def test_a_big_file_is_copied_whole(tmp_path: Path) -> None:
    source = tmp_path / "s"
    data = os.urandom(1 << 20) * 20
    write(source, "big", data)
    for name, base in (("plain", None), ("overlay", make_base(tmp_path / "base"))):
        target = Target(tmp_path / name, base)
        target.copy(order(source, "big"))
        assert (target.upper / "x/big").read_bytes() == data


def test_directories_nested_too_deep(tmp_path: Path) -> None:
    """Deeper than a path can name; each level takes a descriptor."""
    source = tmp_path / "s"
    source.mkdir()
    fd = os.open(source, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("d", dir_fd=fd)
        child = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)
    with pytest.raises(BuildError, match="nested more than 512 deep"):
        Target(tmp_path / "t", None).copy(order(source, "."))
    for path in (source, tmp_path / "t"):
        remove_tree(path)  # which pytest cannot, for it goes by paths


def test_downloads(tmp_path: Path) -> None:
    """A file has its name, a repository's tree comes by its contents."""
    file = write(tmp_path, "kept/0123", "data", 0o600)
    packed = write(tmp_path, "kept/4567", archive(), 0o600)
    tree = make_source(tmp_path / "tree")
    base = make_base(tmp_path / "base")

    def changes(destination: str, *downloads: tuple[str, Path], unpack: bool = False, **options: str) -> list[str]:
        target = Target(tmp_path / f"t{len([*tmp_path.iterdir()])}", base)
        target.copy(CopyOrder((), destination, downloads=downloads, unpack=True, unpack_downloads=unpack, **options))
        return target.changes()

    assert changes("/x", ("name", file)) == ["/x f 600 0:0 <data>"]
    assert changes("/x/", ("name", file)) == ["/x d 755 0:0", "/x/name f 600 0:0 <data>"]
    assert changes("/todir", ("name", file), chown="app", chmod="644") == ["/existing/name f 644 1001:1002 <data>"]
    assert changes("/x/", ("p.tar", packed)) == ["/x d 755 0:0", "/x/p.tar f 600 0:0 10240 bytes"]
    assert "/x/td/in.txt f 640 7:8 <in> T" in changes("/x/", ("p.tar", packed), unpack=True)
    for destination in ("/x", "/x/"):
        copied = changes(destination, ("x.git", tree), ("name", file))
        assert "/x/dir/sub/two.txt f 644 0:0 <2> T" in copied
        assert "/x/name f 600 0:0 <data>" in copied
    assert "/existing/a.txt f 644 0:0 <a> T" in changes("/existing", ("x.git", tree))
