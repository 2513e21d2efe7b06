"""A base image is there to be built upon: its own apt installs packages, through the machine's network.

Making it moves three times 80 MB into and out of the VM and runs the packages' scripts there, which under emulation takes minutes.
The image itself is looked at in tests/engine/test_base_images.py, on this computer's engine.
"""

from __future__ import annotations

import os
import subprocess

import pytest
from base_image import have_base_image

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]


def call(*words: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    host = os.environ["COVE_TEST_DOCKER_HOST"]
    return subprocess.run(
        words, env=os.environ | {"DOCKER_HOST": host, "COVE_HOST": host}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=timeout_s,
    )  # fmt: skip


@pytest.fixture(scope="module")
def image() -> str:
    """It stays for the tests of builds."""
    return have_base_image(os.environ["COVE_TEST_DOCKER_HOST"])


def test_packages_can_be_installed(image: str) -> None:
    script = "apt-get update && apt-get install -y --no-install-recommends hello && hello && dpkg --audit"
    done = call("docker", "run", "--rm", image, "sh", "-c", script, timeout_s=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert done.stdout.endswith("Hello, world!\n")


def test_a_layer_with_packages_has_neither_packages_nor_caches_in_it(image: str) -> None:
    name = "covetest-apt"
    script = "apt-get update -qq && apt-get install -qq -y --no-install-recommends hello >/dev/null 2>&1"
    try:
        done = call("docker", "run", "--name", name, image, "sh", "-c", script, timeout_s=500)
        assert done.returncode == 0, done.stdout + done.stderr
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
