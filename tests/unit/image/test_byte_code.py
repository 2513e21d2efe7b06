"""What a guest has compiled becomes nothing but byte code, whatever it gives."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from cove.errors import BootError
from cove.image import byte_code, cpio
from cove.image.store import VmImage
from cove.image.tree import Tree, file
from cove.machine.architecture import AMD64


@pytest.fixture
def image(tmp_path: Path) -> VmImage:
    made = VmImage("0" * 64, AMD64, tmp_path, tmp_path, tmp_path / "initramfs", tmp_path, "", True)
    made.initramfs.write_bytes(b"own")
    return made


def archive(*members: tuple[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, kind in (("./usr/", tarfile.DIRTYPE), *members):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/init"
            member.size = 4 if kind == tarfile.REGTYPE else 0
            tar.addfile(member, io.BytesIO(b"code"))
    return made.getvalue()


def test_it_lies_over_the_images_own(image: VmImage) -> None:
    byte_code.keep(image, archive(("./usr/lib/python3.13/enum.cpython-313.pyc", tarfile.REGTYPE)))
    wanted, tree = io.BytesIO(), Tree()
    tree.add("pycache/usr/lib/python3.13/enum.cpython-313.pyc", file(b"code"))
    cpio.write(tree, wanted)
    assert image.compiled.read_bytes() == b"own\0" + wanted.getvalue()


@pytest.mark.parametrize(
    "name",
    [
        "init",
        "./usr/lib/init.py",
        "../init.pyc",
        "./usr/../../init.pyc",
        "/init.pyc",
        ".pyc",
        "./usr/a\nb.pyc",
        "a/.b/c.pyc",
    ],
)
def test_a_name_that_is_none_of_byte_code_is_refused(image: VmImage, name: str) -> None:
    with pytest.raises(BootError, match="the guest gave"):
        byte_code.keep(image, archive((name, tarfile.REGTYPE)))
    assert not image.compiled.exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_what_is_no_file_is_refused(image: VmImage, kind: bytes) -> None:
    with pytest.raises(BootError, match="the guest gave"):
        byte_code.keep(image, archive(("./usr/init.pyc", kind)))


@pytest.mark.parametrize("data", [b"no archive", archive(("./usr/a.pyc", tarfile.REGTYPE))[:1026]])
def test_what_is_no_archive_is_refused(image: VmImage, data: bytes) -> None:
    with pytest.raises(BootError, match="the guest gave no archive"):
        byte_code.keep(image, data)
