"""Base images of Debian, made by `cove image bootstrap` from the archive itself: needs a Debian mirror in reach.

On this computer's engine in both cases: each moves three times a hundred megabytes, which under emulation takes minutes.
What an image's own apt gets from the network is in tests/e2e.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import docker
import pytest

NAME = "debian:13-slim"
LEFT_OUT = re.compile(r"/usr/share/(?:doc|info|lintian|locale|man)/")

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def environment(native_engine: Any) -> dict[str, str]:
    """Downloads are kept in the user's own cache, as the VM image's are."""
    return {**os.environ, "COVE_HOST": native_engine.url}


@pytest.fixture(scope="module")
def client(native_engine: Any) -> Iterator[Any]:
    made = docker.DockerClient(native_engine.url, timeout=120)
    yield made
    made.close()


def bootstrap(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cove", "image", "bootstrap", *words],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=400,
    )  # fmt: skip


@pytest.fixture(scope="module")
def image(environment: dict[str, str], client: Any) -> Any:
    done = bootstrap(environment, NAME)
    assert done.returncode == 0, done.stderr
    made = client.images.get(NAME)
    assert done.stdout == f"{made.id}\n"
    return made


def inside(client: Any, image: Any, script: str) -> str:
    output = client.containers.run(image.id, ["bash", "-ec", script], remove=True, network_mode="none", stderr=True)
    return str(output.decode())


def leftovers(client: Any) -> list[str]:
    containers = [each.name for each in client.containers.list(all=True) if "bootstrap" in each.name]
    return containers + [tag for each in client.images.list(all=True) for tag in each.tags if "bootstrap" in tag]


def test_it_is_one_layer_with_a_command_and_nothing_else(client: Any, image: Any) -> None:
    assert len(image.attrs["RootFS"]["Layers"]) == 1
    assert len(image.history()) == 1
    assert image.attrs["Config"]["Cmd"] == ["bash"]
    assert 70e6 < image.attrs["Size"] < 90e6
    assert leftovers(client) == []


def test_every_package_is_configured(client: Any, image: Any) -> None:
    states = inside(client, image, "dpkg-query -f '${db:Status-Abbrev}${Package}\\n' -W").splitlines()
    assert len(states) > 70
    assert [line for line in states if not line.startswith("ii ")] == []
    assert inside(client, image, "dpkg --audit") == ""
    assert "0 upgraded, 0 newly installed, 0 to remove" in inside(client, image, "apt-get check; apt-get -s autoremove")
    # Files are the packages' own, but for what the slim image leaves out.
    differing = [line for line in inside(client, image, "dpkg --verify || :").splitlines() if not LEFT_OUT.search(line)]
    assert differing == []


def test_what_maintainer_scripts_make_is_there(client: Any, image: Any) -> None:
    assert "libc.so.6" in inside(client, image, "ldconfig -p")
    assert inside(client, image, "getent passwd _apt; getent group shadow").splitlines() == [
        "_apt:x:42:65534::/nonexistent:/usr/sbin/nologin", "shadow:x:42:"
    ]  # fmt: skip
    assert inside(client, image, "stat -c '%a %G' /etc/shadow") == "640 shadow\n"
    assert inside(client, image, "echo 1 2 | awk '{print $2}'; readlink /etc/alternatives/awk") == "2\n/usr/bin/mawk\n"
    assert "tzdata/Areas: Etc" in inside(client, image, "debconf-show tzdata")
    assert (
        inside(client, image, "find / -xdev -newermt '1 hour ago' -type f -not -path '/etc/*' -not -path '/dev/*'")
        == ""
    )
    assert inside(client, image, "ls /etc/machine-id /.dockerenv /var/log/dpkg.log 2>/dev/null || :") == ""


def test_the_same_packages_give_the_same_image(environment: dict[str, str], image: Any) -> None:
    again = bootstrap(environment, "--quiet", NAME)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout == f"{image.id}\n"


@pytest.mark.parametrize(
    ("moment", "number", "status"),
    [("into a container", signal.SIGINT, 130), ("configuring", signal.SIGTERM, 143)],
)
def test_an_interrupt_leaves_nothing_behind(
    environment: dict[str, str], client: Any, image: Any, moment: str, number: int, status: int
) -> None:
    words = [sys.executable, "-m", "cove", "image", "bootstrap", "debian:trixie-slim"]
    with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if moment in line:
                process.send_signal(number)
                break
        said = process.stderr.read()
        assert process.wait(60) == status, said
    assert "Traceback" not in said
    assert leftovers(client) == []
    assert not [each for each in client.images.list() if "debian:trixie-slim" in each.tags]


def test_no_network_is_told(environment: dict[str, str], client: Any) -> None:
    done = bootstrap(environment, "--mirror", "http://127.0.0.1:9/debian", NAME)
    assert done.returncode == 1
    assert "the index of trixie could not be downloaded" in done.stderr
    assert "check the connection" in done.stderr
    assert leftovers(client) == []
