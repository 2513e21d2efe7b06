"""From a container's export to the layer of an image, and the archive that an engine loads."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from typing import Any

import pytest
from cove.debian import layer
from debian_archive import BUILT, directory, member, tar

FILES = [
    directory("usr"),
    directory("usr/bin", mtime=BUILT + 99),
    member("usr/bin/b", b"program", 0o4755, mtime=BUILT - 7, uname="root", gname="staff", gid=50),
    member("usr/bin/a", "usr/bin/b", type=tarfile.LNKTYPE),
    member("usr/bin/c", "usr/bin/b", type=tarfile.LNKTYPE),
    directory("etc"),
    member("etc/new", b"now", mtime=BUILT + 1000),
    member("etc/link", "new", mtime=BUILT + 1000),
    member(".dockerenv", b""),
    member("etc/hostname", b"3f2a\n"),
    member("etc/resolv.conf", b"nameserver 10.0.2.3\n"),
    directory("dev"),
    directory("dev/pts"),
    member("dev/console", b""),
    directory("run"),
    directory("run/lock", 0o1777),
    member("run/lock/x", b""),
    directory("var/log"),
    member("var/log/dpkg.log", b"2026-11-25 startup"),
    member("var/log/wtmp", b""),
    directory("var/cache/apt/archives"),
    directory("var/cache/apt/archives/partial", 0o700, uid=42),
    member("var/cache/apt/pkgcache.bin", b"cache"),
    member("var/cache/ldconfig/aux-cache", b"stat"),
]


def normalised(members: list[Any]) -> tuple[layer.Layer, tarfile.TarFile, bytes]:
    output = io.BytesIO()
    made = layer.normalise(io.BytesIO(tar(members)), output, BUILT)
    return made, tarfile.open(fileobj=io.BytesIO(output.getvalue())), output.getvalue()


def test_what_the_engine_and_the_clock_left_is_gone() -> None:
    _, archive, _ = normalised(FILES)
    assert archive.getnames() == [
        "dev", "etc", "etc/link", "etc/new", "run", "run/lock", "usr", "usr/bin", "usr/bin/a", "usr/bin/b", "usr/bin/c",
        "var/cache/apt/archives", "var/cache/apt/archives/partial", "var/log", "var/log/wtmp",
    ]  # fmt: skip
    assert max(entry.mtime for entry in archive) == BUILT
    assert archive.getmember("usr/bin/a").mtime == BUILT  # its own: links have one each in an archive
    assert archive.getmember("run/lock").mode == 0o1777
    assert archive.getmember("var/cache/apt/archives/partial").uid == 42


def test_a_file_of_several_names_is_written_at_the_first() -> None:
    made, archive, _ = normalised(FILES)
    stream = archive.extractfile("usr/bin/a")
    assert stream is not None and stream.read() == b"program"
    assert archive.getmember("usr/bin/a").isreg()
    for name in ("usr/bin/b", "usr/bin/c"):
        assert archive.getmember(name).linkname == "usr/bin/a"
    assert made.content == len(b"program") + len(b"now")


def test_the_same_files_are_the_same_bits() -> None:
    # An export's order is the file system's.
    plain = [each for each in FILES if not each[0].islnk()]
    made, _, content = normalised(plain)
    shuffled = list(plain)
    random.Random(1).shuffle(shuffled)
    for entry, _ in shuffled:
        entry.uname = "somebody"
    again, _, same = normalised(shuffled)
    assert content == same
    assert made.diff_id == again.diff_id == hashlib.sha256(content).hexdigest()
    assert made.size == len(content)


def test_capabilities_of_files_stay() -> None:
    entry, content = member("usr/bin/ping", b"ping")
    entry.pax_headers = {"SCHILY.xattr.security.capability": "\x01", "SCHILY.xattr.trusted.overlay.origin": "x"}
    _, archive, _ = normalised([(entry, content)])
    assert archive.getmember("usr/bin/ping").pax_headers == {"SCHILY.xattr.security.capability": "\x01"}


def test_what_is_no_archive_is_told() -> None:
    with pytest.raises(tarfile.TarError):
        layer.normalise(io.BytesIO(b"<html>" * 200), io.BytesIO(), BUILT)


@pytest.mark.parametrize("size", [0, 511, 512, 513])
def test_an_image_is_what_docker_save_writes(size: int) -> None:
    one = layer.as_it_is(io.BytesIO(b"x" * size))
    written = b"".join(layer.image(one, "debian:13", {"Cmd": ["bash"]}, BUILT, "made by a test", "with a comment"))
    assert written == b"".join(
        layer.image(one, "debian:13", {"Cmd": ["bash"]}, BUILT, "made by a test", "with a comment")
    )
    with tarfile.open(fileobj=io.BytesIO(written)) as archive:

        def read(name: str) -> bytes:
            stream = archive.extractfile(name)
            assert stream is not None
            return stream.read()

        (manifest,) = json.loads(read("manifest.json"))
        assert manifest["RepoTags"] == ["debian:13"]
        (path,) = manifest["Layers"]
        assert read(path) == b"x" * size
        config = json.loads(read(manifest["Config"]))
        assert hashlib.sha256(read(manifest["Config"])).hexdigest() + ".json" == manifest["Config"]
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(b'x' * size).hexdigest()}"]
    assert config["config"] == {"Env": [layer.PATH], "Cmd": ["bash"]}
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert len(config["history"]) == 1
