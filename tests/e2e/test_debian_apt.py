"""A base image is there to be built upon: its own apt installs packages, through the machine's network.

It is made by this computer's engine, as it is where tests/engine/test_base_images.py looks at it: making it moves three times 80 MB into
and out of the VM and runs the packages' scripts there, which under emulation takes minutes. COVE_TEST_BUILD_APPS=1 has the VM make it.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from base_image import NAME

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]


def call(*words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    host = os.environ["COVE_TEST_DOCKER_HOST"]
    return subprocess.run(
        words, env=os.environ | {"DOCKER_HOST": host, "COVE_HOST": host}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=timeout_s,
    )  # fmt: skip


def test_packages_can_be_installed_and_leave_neither_packages_nor_caches(images: None) -> None:
    name = "covetest-apt"
    script = "apt-get update && apt-get install -y --no-install-recommends hello && hello && dpkg --audit"
    try:
        done = call("docker", "run", "--name", name, NAME, "sh", "-c", script, timeout_s=500)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert done.stdout.endswith("Hello, world!\n")
        changed = [line.split()[1] for line in call("docker", "diff", name).stdout.splitlines()]
        assert "/usr/bin/hello" in changed
        assert not [path for path in changed if path.endswith((".deb", ".bin"))]
        # The slim image leaves documentation out of what is installed in it as well, but no licence.
        assert [path for path in changed if path.startswith("/usr/share/doc/hello/")] == [
            "/usr/share/doc/hello/copyright"
        ]
        assert not [path for path in changed if path.startswith("/usr/share/man/")]
    finally:
        call("docker", "rm", "--force", name)
