"""A small Debian archive on localhost, signed by a key of its own, and a recipe for it: whole image builds in a second."""

from __future__ import annotations

import hashlib
import io
import lzma
import struct
import tarfile
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pysequoia
from cove.image.archive import Package
from cove.image.recipe import dump_lock

# As busybox has it in its binary: applets(), which names what it answers to.
BUSYBOX = b"not really\0[\0[[\0httpd\0sh\0\0"
KERNEL = "linux-image-6.0.0-test"

RECIPE = """
debian = 13
kernel = "linux-image-test"
command_line = "quiet"
packages = ["busybox-static", "tool"]
packages_drop = {}
packages_keep = {}
modules = { initramfs = [], boot = [], others = [] }
architectures = { amd64 = { command_line = "", modules = [], interpreters = [] } }
files = { "etc/motd" = "made by a test", "etc/os-release" = "ID=test" }
links = { "bin" = "usr/bin" }
[[suites]]
name = "trixie"
archive = "debian"
index = "main/binary-@arch@/Packages.xz"
keys = ["test.asc"]
[drop]
every = ["usr/share/man/*"]
[directories]
modes = {}
paths = ["proc"]
[boot_disk]
package = "boot-stub"
stub = "usr/lib/stub.efi"
modules = []
command_line = "console=ttyS0"
"""


def efi_stub(content: bytes, headers: int = 1024, sections: int = 1) -> bytes:
    """A small EFI program: headers of the form that matters, and one section more than once."""
    optional = bytearray(240)
    struct.pack_into("<H", optional, 0, 0x20B)
    struct.pack_into("<II", optional, 32, 4096, 512)
    struct.pack_into("<III", optional, 56, 0x3000, headers, 0x1234)
    start = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    coff = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, sections, 0, 0, 0, len(optional), 0x22E)
    table = b"".join(
        struct.pack("<8sIIIIIIHHI", b".text", 0x1234, 0x1000 + 0x2000 * index, 0x1400, headers, 0, 0, 0, 0, 0x60000020)
        for index in range(sections)
    )
    return (start.ljust(0x80, b"\0") + coff + optional + table).ljust(headers, b"\0") + content.ljust(0x1400, b"\xcc")


def deb(files: dict[str, bytes]) -> bytes:
    """A binary package (deb(5)) with these files."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    result = b"!<arch>\n"
    for name, content in (("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar", data.getvalue())):
        result += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        result += content + b"\n" * (len(content) % 2)
    return result


class Mirror:
    """Serves `files` by path. `short` are paths that always break off half way; `asked` is what was asked for."""

    def __init__(self, folder: Path) -> None:
        self.files: dict[str, bytes] = {}
        self.short: set[str] = set()
        self.asked: list[str] = []
        self.recipe = folder / "recipe"
        (self.recipe / "keys").mkdir(parents=True)
        (self.recipe / "recipe.toml").write_text(RECIPE)
        (self.recipe / "init").write_text("#!/bin/sh\n")
        (self.recipe / "starter.html").write_text("<p>Cove works</p>\n")
        self.key = pysequoia.Tsk.generate("Test archive <archive@test.invalid>")
        (self.recipe / "keys/test.asc").write_text(str(self.key.extract_certificate()))
        self._packages: dict[str, Package] = {}
        self._serve()

    def add(self, name: str, version: str, files: dict[str, bytes], depends: str = "") -> Package:
        """Put a version into the pool; an earlier one of that name leaves it, as Debian's does."""
        if old := self._packages.get(name):
            del self.files[f"/debian/{old.filename}"]
        content = deb(files)
        filename = f"pool/{name}_{version}_amd64.deb"
        self.files[f"/debian/{filename}"] = content
        package = Package(name, version, "debian", filename, len(content), hashlib.sha256(content).hexdigest(), depends)
        self._packages[name] = package
        return package

    def add_all(self) -> None:
        self.add("linux-image-test", "6.0", {}, f"{KERNEL} (= 6.0)")
        self.add(
            KERNEL, "6.0",
            {"boot/vmlinuz-6.0.0-test": b"the kernel", "usr/lib/modules/6.0.0-test/modules.builtin": b""},
        )  # fmt: skip
        self.add("busybox-static", "1.37", {"usr/bin/busybox": BUSYBOX})
        self.add("tool", "1.0-1", {"usr/bin/tool": b"one", "usr/share/man/tool.1": b"unwanted"})
        self.add("boot-stub", "1.0", {"usr/lib/stub.efi": efi_stub(b"one"), "usr/lib/other.efi": b""})

    def pin(self) -> None:
        """Write the recipe's lock: what is in the pool now."""
        apart = {"linux-image-test", "boot-stub"}
        pinned = [package for name, package in self._packages.items() if name not in apart]
        (self.recipe / "lock-amd64.json").write_bytes(dump_lock(pinned))
        (self.recipe / "lock-boot-disk.json").write_bytes(dump_lock([self._packages["boot-stub"]]))

    def publish(self, *, key: Any = None, valid: timedelta = timedelta(days=7), codename: str = "trixie") -> None:
        """Make the index of what is in the pool now and sign it."""
        stanzas = [
            f"Package: {p.name}\nVersion: {p.version}\nFilename: {p.filename}\nSize: {p.size}\nSHA256: {p.sha256}\n"
            + (f"Depends: {p.depends}\n" if p.depends else "")
            for p in self._packages.values()
        ]
        index = lzma.compress("\n".join(stanzas).encode())
        now = datetime.now(UTC)
        release = (
            f"Codename: {codename}\nDate: {format_datetime(now)}\nValid-Until: {format_datetime(now + valid)}\n"
            f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} main/binary-amd64/Packages.xz\n"
        )
        self.files["/debian/dists/trixie/main/binary-amd64/Packages.xz"] = index
        self.files["/debian/dists/trixie/InRelease"] = pysequoia.sign(
            (key or self.key).signer(), release.encode(), mode=pysequoia.SignatureMode.CLEAR
        )

    def path(self, name: str) -> str:
        return f"/debian/{self._packages[name].filename}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self) -> None:
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.asked.append(self.path)
                body = mirror.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2] if self.path in mirror.short else body)
                self.close_connection = True

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/debian"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
