"""The container image that every new machine already has: busybox, with a page to serve.

One archive as `docker save` writes them, with two images of the same layer: `busybox:latest` and `cove/starter:latest`.
"""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
from typing import Any

from cove.image.tree import Tree, directory, file, symlink

_CREATED = "2026-11-24T00:00:00Z"
"""When this starter was designed: a fixed time, so that its bits are the same wherever it is built."""
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = """root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
tty:x:5:
disk:x:6:
mail:x:8:
wheel:x:10:root
www-data:x:33:
users:x:100:
nobody:x:65534:
"""


def applets(busybox: bytes) -> list[str]:
    """The names that a busybox binary answers to, from its own table: sorted, each ended by a zero byte.

    Raises `ValueError` when there is no such table.
    """
    start = busybox.find(b"[\0[[\0")
    end = busybox.find(b"\0\0", start)
    names = busybox[start:end].split(b"\0")
    if start < 0 or names != sorted(names) or b"sh" not in names or b"httpd" not in names:
        raise ValueError("this busybox has no table of applets, or not all that is needed")
    return [name.decode() for name in names]


def archive(architecture: str, busybox: bytes, page: bytes) -> bytes:
    """The `docker save` archive. `page` is served by cove/starter at /."""
    layer = _tar(_layer(busybox, page))
    layer_id = hashlib.sha256(layer).hexdigest()
    result = Tree()
    result.add(f"{layer_id}/layer.tar", file(layer))
    manifest = []
    for tag, config in (
        ("busybox:latest", {"Cmd": ["sh"]}),
        (
            "cove/starter:latest",
            {
                "Cmd": ["busybox", "httpd", "-f", "-v", "-p", "80", "-h", "/www"],
                "ExposedPorts": {"80/tcp": {}},
                # As pid 1 it would ignore SIGTERM, and it has nothing to tidy up.
                "StopSignal": "SIGKILL",
                "Labels": {"org.opencontainers.image.title": "Cove's starter: one page, served by busybox"},
            },
        ),
    ):
        document = _config(architecture, config, f"sha256:{layer_id}")
        name = f"{hashlib.sha256(document).hexdigest()}.json"
        result.add(name, file(document))
        manifest.append({"Config": name, "RepoTags": [tag], "Layers": [f"{layer_id}/layer.tar"]})
    result.add("manifest.json", file(json.dumps(manifest).encode()))
    return _tar(result)


def _config(architecture: str, config: dict[str, Any], layer: str) -> bytes:
    document = {
        "architecture": architecture,
        "os": "linux",
        "created": _CREATED,
        "config": {"Env": [_PATH], "WorkingDir": "/", **config},
        "rootfs": {"type": "layers", "diff_ids": [layer]},
        "history": [{"created": _CREATED, "created_by": "cove: busybox of Debian, with a page"}],
    }
    return json.dumps(document, sort_keys=True).encode()


def _layer(busybox: bytes, page: bytes) -> Tree:
    tree = Tree()
    # Not Tree.add: this root has its own directories, not Debian's links into /usr.
    for path in ("bin", "dev", "etc", "home", "root", "tmp", "usr", "usr/bin", "usr/sbin", "var", "var/spool", "www"):
        tree.nodes[path] = directory({"tmp": 0o1777, "root": 0o700}.get(path, 0o755))
    tree.nodes["bin/busybox"] = file(busybox, 0o755)
    for applet in applets(busybox):
        if applet != "busybox":
            tree.nodes[f"bin/{applet}"] = symlink("busybox")
    tree.nodes["usr/bin/env"] = symlink("../../bin/env")
    tree.nodes["etc/passwd"] = file(_PASSWD.encode())
    tree.nodes["etc/group"] = file(_GROUP.encode())
    tree.nodes["etc/shadow"] = file(b"root:*:::::::\nnobody:*:::::::\n", 0o600)
    tree.nodes["etc/nsswitch.conf"] = file(b"passwd: files\ngroup: files\nhosts: files dns\n")
    tree.nodes["www/index.html"] = file(page)
    return tree


def _tar(tree: Tree) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, node in tree.walk():
            member = tarfile.TarInfo(path)
            member.mode = stat.S_IMODE(node.mode)
            if node.is_dir:
                member.type = tarfile.DIRTYPE
            elif node.is_symlink:
                member.type = tarfile.SYMTYPE
                member.linkname = node.data.decode()
            else:
                member.size = len(node.data)
            archive.addfile(member, io.BytesIO(node.data) if node.is_file else None)
    return output.getvalue()
