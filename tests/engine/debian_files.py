"""Files of Debian packages that an engine on this computer needs, and the VM's image has."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path


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


def _packaged(path: Path, package: str) -> Path:
    """A file of a Debian package: the machine's own, or that of the package, fetched once."""
    if path.exists():
        return path
    cache = Path(tempfile.gettempdir()) / f"cove-test-cache-{os.getuid()}"
    found = cache / package / path.relative_to("/")
    if not found.exists():
        cache.mkdir(mode=0o700, exist_ok=True)
        subprocess.run(["apt-get", "-qq", "download", package], cwd=cache, check=True, timeout=120)
        (archive,) = cache.glob(f"{package}_*.deb")
        subprocess.run(["dpkg", "-x", archive, cache / package], check=True, timeout=60)
        archive.unlink()
    return found
