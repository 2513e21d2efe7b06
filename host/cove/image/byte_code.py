"""What Python has compiled in the first boot of an image, for the boots of it that follow: more than half of such a boot is compiling.

A guest that waits for its seed gives it as a tar archive (`coved.boot.bytecode`). It is kept beside the image, as an initramfs with it in:
the kernel unpacks archives that follow each other one over the other, each at a multiple of four bytes. No machine has been begun in that
guest, and nothing but the image has run in it; all the same, what it gives can become nothing but byte code.
"""

from __future__ import annotations

import io
import re
import tarfile

from cove.errors import BootError
from cove.image import cpio
from cove.image.store import VmImage
from cove.image.tree import Tree, file
from cove.machine.files import write_whole

MAX = 32 << 20
"""Bytes of an archive; one has 5 MB."""
_FOLDER = "pycache"
"""Where vm-images/init looks for it."""
_NAME = re.compile(r"(?:\./)?((?:[\w+-][\w.+-]*/)*[\w+-][\w.+-]*\.pyc)", re.ASCII)


def keep(image: VmImage, archive: bytes) -> None:
    """For the boots that follow. Raises `BootError` for what is no archive of byte code, `OSError`."""
    tree = Tree()
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as members:
            for member in members:
                if member.isdir():
                    continue
                found, content = _NAME.fullmatch(member.name), members.extractfile(member) if member.isreg() else None
                if found is None or content is None:
                    raise BootError(f"the guest gave {member.name!r} for byte code")
                tree.add(f"{_FOLDER}/{found[1]}", file(content.read()))
    except (tarfile.TarError, EOFError) as error:
        raise BootError(f"the guest gave no archive: {error}") from error
    with_it = io.BytesIO(own := image.initramfs.read_bytes())
    with_it.seek(0, io.SEEK_END)
    with_it.write(bytes(-len(own) % 4))
    cpio.write(tree, with_it)
    write_whole(image.compiled, with_it.getvalue())
