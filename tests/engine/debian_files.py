"""Files of Debian packages that an engine on this computer needs, and the VM's image has."""

from __future__ import annotations

import contextlib
import fcntl
import lzma
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from cove.debian import index, releases
from cove.image import archive, inputs, mirror
from cove.image.download import Downloader, Wanted
from cove.machine.paths import cache_dir
from cove.progress import ignore

NEXT_RELEASE = "forky"


def seccomp_profile() -> Path:
    """Docker's default profile as Debian packages it, fetched when this system does not have it."""
    return _packaged(Path("/usr/share/containers/seccomp.json"), "golang-github-containers-common")


def init_folder() -> Path:
    """Where tini is, for --init."""
    return _packaged(Path("/usr/bin/tini-static"), "tini").parent


def crun_folder() -> Path:
    """Where crun is, the other runtime."""
    program = _packaged(Path("/usr/bin/crun"), "crun")
    if program == Path("/usr/bin/crun"):
        return program.parent
    library = _packaged(Path("/usr/lib/x86_64-linux-gnu/libyajl.so.2"), "libyajl2")
    folder = program.parents[2] / "wrapped"
    folder.mkdir(exist_ok=True)
    wrapper = folder / "crun"
    wrapper.write_text(f'#!/bin/sh\nLD_LIBRARY_PATH={library.parent} exec {program} "$@"\n')
    wrapper.chmod(0o755)
    return folder


def registry_program() -> Path:
    """Docker's own registry; not installed, so that it is no service of this computer."""
    return _packaged(Path("/usr/bin/docker-registry"), "docker-registry")


def sshd_program() -> tuple[Path, Path]:
    """An SSH server, and where it finds a library; not installed, so that it is no service of this computer."""
    program = _packaged(Path("/usr/sbin/sshd"), "openssh-server")
    return program, _packaged(Path("/usr/lib/x86_64-linux-gnu/libwrap.so.0"), "libwrap0").parent


def slirp4netns_program() -> Path:
    """What leads the connections of a network namespace on."""
    return _packaged(Path("/usr/bin/slirp4netns"), "slirp4netns")


def buildx_program() -> Path:
    """docker's plugin for builds by BuildKit. Debian has it since 13, whatever release this computer has."""
    return _of_newest_release("docker-buildx", "usr/libexec/docker/cli-plugins/docker-buildx")


def newer_buildx_program() -> Path:
    """The same of Debian's next release, for what stable's does not have yet (``history``); one file that needs no other."""
    folder = _cache() / f"docker-buildx-{NEXT_RELEASE}-amd64"
    with _alone():
        if not folder.exists():
            mirrors = mirror.find()
            downloader = Downloader(cache_dir() / "packages", lambda count: None)
            offer = _next_release(mirrors, downloader).newest("docker-buildx")
            assert offer
            _unpack(downloader.fetch(offer.wanted(mirrors)), folder)
    return folder / "usr/libexec/docker/cli-plugins/docker-buildx"


def _next_release(mirrors: mirror.Mirrors, downloader: Downloader) -> index.Index:
    """Signed by Debian, but possibly some weeks old, which ``index.fetch`` would refuse: not every mirror keeps up with a release that
    is not out yet. For a test any will do whose files the mirror has."""
    base = f"{mirrors.base('debian')}/dists/{NEXT_RELEASE}"
    signed = downloader.get_small(f"the index of {NEXT_RELEASE}", f"{base}/InRelease", archive.MAX_RELEASE)
    (stable, *_) = releases.RELEASES[0].suites
    keys = archive.load_keys(inputs.recipe_dir() / "keys", stable.keys)
    release = archive.verify_release(signed, NEXT_RELEASE, keys, now=datetime(1970, 1, 1, tzinfo=UTC))
    size, sha256 = release.files[stable.index]
    wanted = Wanted(f"the packages' index of {NEXT_RELEASE}", f"{base}/{stable.index}", sha256, size)
    packages = downloader.fetch(wanted)
    found = index.Index()
    found.add(lzma.decompress(packages.read_bytes()).decode("utf-8"), stable.archive)
    packages.unlink()
    return found


def compose_program() -> Path:
    """docker's plugin for projects of several containers, version 2."""
    return _of_newest_release("docker-compose", "usr/libexec/docker/cli-plugins/docker-compose")


def busybox_of(architecture: str) -> Path:
    """Debian's static busybox for another of its architectures."""
    return _of_newest_release("busybox-static", "usr/bin/busybox", architecture)


def docker_config(folder: Path, buildx: Path | None = None) -> Path:
    """Makes `folder` a DOCKER_CONFIG with both plugins and nothing else; ``buildx`` is another than Debian's stable one."""
    plugins = folder / "cli-plugins"
    plugins.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for program in (buildx or buildx_program(), compose_program()):
        (plugins / program.name).symlink_to(program)
    return folder


def _cache() -> Path:
    made = Path(tempfile.gettempdir()) / f"cove-test-cache-{os.getuid()}"
    made.mkdir(mode=0o700, exist_ok=True)
    return made


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Two sessions of tests may go on at a time (see the Makefile), and want the same files."""
    with (_cache() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _of_newest_release(package: str, path: str, architecture: str = "amd64") -> Path:
    """A file of a package of the newest stable Debian, fetched once."""
    release = releases.RELEASES[0]
    folder = _cache() / f"{package}-{release.codename}-{architecture}"
    suites = [replace(one, index=f"main/binary-{architecture}/Packages.xz") for one in release.suites]
    indexes = cache_dir() / ("debian-indexes" if architecture == "amd64" else f"debian-indexes-{architecture}")
    with _alone():
        if folder.exists():
            return folder / path
        mirrors = mirror.find()
        offer = index.fetch(suites, mirrors, indexes, ignore).newest(package)
        assert offer, package
        _unpack(Downloader(cache_dir() / "packages", lambda count: None).fetch(offer.wanted(mirrors)), folder)
    return folder / path


def _unpack(deb: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=_cache()) as made:
        subprocess.run(["dpkg", "-x", deb, f"{made}/all"], check=True, timeout=60)
        Path(made, "all").rename(folder)


def _packaged(path: Path, package: str) -> Path:
    """A file of a Debian package: the machine's own, or that of the package, fetched once."""
    if path.exists():
        return path
    cache = _cache()
    found = cache / package / path.relative_to("/")
    with _alone():
        if found.exists():
            return found
        subprocess.run(["apt-get", "-qq", "download", package], cwd=cache, check=True, timeout=120)
        (deb,) = cache.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", deb, cache / package], check=True, timeout=60)
        deb.unlink()
    return found
