"""A small archive of Debian on localhost with all suites of a release, signed by keys of its own."""

from __future__ import annotations

import hashlib
import io
import lzma
import tarfile
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pysequoia
from cove.debian.releases import Release

BUILT = 1_700_000_000
"""When the packages were built, in seconds."""


def member(name: str, content: bytes | str = b"", mode: int = 0o644, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    """A member of an archive; `content` is a link's target as well, and a name that ends in / is a directory's."""
    entry = tarfile.TarInfo(f"./{name}")
    entry.mode, entry.mtime = mode, BUILT
    for field, value in more.items():
        setattr(entry, field, value)
    if name.endswith("/") or not name:
        entry.type = tarfile.DIRTYPE
    elif isinstance(content, str):
        entry.type, entry.linkname = more.get("type", tarfile.SYMTYPE), content
    else:
        entry.size = len(content)
        return entry, content
    return entry, b""


def directory(name: str, mode: int = 0o755, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(f"{name}/", mode=mode, **more)


def tar(members: list[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        for entry, content in members:
            archive.addfile(entry, io.BytesIO(content))
    return output.getvalue()


def deb(
    fields: dict[str, str],
    data: list[tuple[tarfile.TarInfo, bytes]],
    control: dict[str, tuple[int, bytes]] | None = None,
) -> bytes:
    """A binary package (deb(5)); its control archive has `control` (mode, content) beside what the fields say."""
    stanza = "".join(f"{name}: {value}\n" for name, value in fields.items())
    members = [member("control", stanza.encode())]
    members += [member(name, content, mode) for name, (mode, content) in (control or {}).items()]
    result = b"!<arch>\n"
    for name, content in (
        ("debian-binary", b"2.0\n"),
        ("control.tar.xz", lzma.compress(tar(members), preset=0)),
        ("data.tar.xz", lzma.compress(tar(data), preset=0)),
    ):
        result += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        result += content + b"\n" * (len(content) % 2)
    return result


def package(
    name: str, *data: tuple[tarfile.TarInfo, bytes], control: dict[str, tuple[int, bytes]] | None = None, **fields: str
) -> tuple[dict[str, str], bytes]:
    """A package's fields (`Pre_Depends` is Pre-Depends), and the package."""
    known = {"Package": name, "Version": "1.0-1", "Architecture": "amd64"}
    known |= {field.replace("_", "-"): value for field, value in fields.items()}
    return known, deb(known, list(data), control)


class Archive:
    """Serves `files` by path; `asked` is what was asked for. Its keys lie in `recipe`/keys, under their real names."""

    def __init__(self, folder: Path, release: Release) -> None:
        self.recipe = folder / "recipe"
        (self.recipe / "keys").mkdir(parents=True)
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.key = pysequoia.Tsk.generate("Test archive <archive@test.invalid>")
        self._release = release
        for suite in release.suites:
            for name in suite.keys:
                (self.recipe / "keys" / name).write_text(str(self.key.extract_certificate()))
        self._serve()

    def publish(self, packages: list[tuple[dict[str, str], bytes]], *, key: Any = None, until_days: int = 7) -> None:
        """Have `packages` in the release's first suite, and nothing in its others."""
        stanzas = []
        for fields, content in packages:
            filename = f"pool/{fields['Package']}_{fields['Version']}.deb"
            self.files[f"/debian/{filename}"] = content
            more = {"Filename": filename, "Size": len(content), "SHA256": hashlib.sha256(content).hexdigest()}
            stanzas.append("".join(f"{name}: {value}\n" for name, value in (fields | more).items()))
        now = datetime.now(UTC)
        for suite in self._release.suites:
            index = lzma.compress("\n".join(stanzas).encode())
            stanzas = []
            release = (
                f"Codename: {suite.name}\nDate: {format_datetime(now)}\n"
                f"Valid-Until: {format_datetime(now + timedelta(days=until_days))}\n"
                f"SHA256:\n {hashlib.sha256(index).hexdigest()} {len(index)} {suite.index}\n"
            )
            base = f"/{suite.archive}/dists/{suite.name}"
            self.files[f"{base}/{suite.index}"] = index
            self.files[f"{base}/InRelease"] = pysequoia.sign(
                (key or self.key).signer(), release.encode(), mode=pysequoia.SignatureMode.CLEAR
            )

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self) -> None:
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                archive.asked.append(self.path)
                body = archive.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/debian"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
