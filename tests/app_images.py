"""The images of the applications in tests/e2e/apps that docker compose runs, and the Debian that they are built on, as an archive.

They are built once, by an engine on this computer, and kept: under emulation apt and dpkg take minutes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from base_image import NAME, have_base_image

sys.path.append(str(Path(__file__).with_name("engine")))  # of this computer's engine

from debian_files import compose_program, docker_config
from engines import Engine
from uplink import uplink

APPS = Path(__file__).parent / "e2e" / "apps"
APPLICATIONS = {
    "notes": ("notes-web", "notes-database", "notes-cache"),
    "balanced": ("balanced-web", "balanced-proxy"),
    "udp-log": ("udp-log-collector", "udp-log-sender"),
}
"""Folder, which is the project's name as well, and its images."""
BUILD_S = 2400


def archive() -> Path:
    """What ``docker load`` takes. Needs root, and a Debian mirror when it is not there yet."""
    digest = hashlib.sha256(NAME.encode())
    for name in APPLICATIONS:
        for path in sorted((APPS / name).rglob("*")):
            if path.is_file() and path.name not in ("compose.yaml", ".env"):  # those say how they are run
                digest.update(f"{path.relative_to(APPS)}\0".encode() + path.read_bytes())
    cache = Path(tempfile.gettempdir()) / f"cove-test-cache-{os.getuid()}"
    cache.mkdir(mode=0o700, exist_ok=True)
    kept = cache / f"apps-{digest.hexdigest()[:16]}.tar"
    with (cache / "apps.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # both parts of the tests want it, and one of them builds it
        if not kept.exists():
            begun = time.monotonic()
            with tempfile.TemporaryDirectory(dir=cache) as made:
                _build(Path(made) / "images.tar", docker_config(Path(made) / "config"))
                (Path(made) / "images.tar").rename(kept)
            print(f"images of the applications built in {time.monotonic() - begun:.0f} s")
    return kept


def build(host: str, config: Path) -> None:
    """In the engine at the address `host`, whose containers must reach a Debian mirror."""
    have_base_image(host)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "COMPOSE_"))},
        "DOCKER_HOST": host, "DOCKER_CONFIG": str(config), "BUILDKIT_PROGRESS": "plain",
    }  # fmt: skip
    for name in APPLICATIONS:
        done = subprocess.run(
            [compose_program(), "--profile", "*", "build"], cwd=APPS / name, env=environment, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=BUILD_S,
        )  # fmt: skip
        assert done.returncode == 0, f"{name}\n{done.stdout[-5000:]}"


def _build(target: Path, config: Path) -> None:
    engine = Engine(Path(tempfile.mkdtemp(prefix="cove-a", dir="/tmp")))
    with contextlib.closing(engine):
        engine.start()
        with uplink(engine):
            build(engine.url, config)
        images = [NAME, *(image for names in APPLICATIONS.values() for image in names)]
        subprocess.run(["docker", "--host", engine.url, "save", "--output", target, *images], check=True, timeout=300)
