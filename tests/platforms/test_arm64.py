"""A machine of arm64 processors, as on Apple's computers: here QEMU emulates them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.debian import index, releases
from cove.image import mirror, starter
from cove.image.deb import files
from cove.image.download import Downloader
from cove.machine.paths import cache_dir
from cove.progress import ignore
from machine_support import Machine, running_machine

pytestmark = pytest.mark.timeout(1200)
STARTS_S = 600


@pytest.fixture(scope="module")
def arm64() -> Iterator[Machine]:
    with running_machine(architecture="arm64") as made:
        yield made


def busybox() -> bytes:
    """Debian's static one for amd64."""
    mirrors = mirror.find()
    offer = index.fetch(releases.RELEASES[0].suites, mirrors, cache_dir() / "debian-indexes", ignore).newest(
        "busybox-static"
    )
    assert offer
    package = Downloader(cache_dir() / "packages", lambda count: None).fetch(offer.wanted(mirrors))
    ((_, node),) = files(package, lambda name: name == "usr/bin/busybox")
    return node.data


@pytest.mark.smoke
def test_containers_run_on_its_processors(arm64: Machine) -> None:
    assert arm64.docker("version", "--format", "{{.Server.Arch}}").stdout == "arm64\n"
    assert arm64.docker("run", "--rm", "busybox", "uname", "-m", timeout_s=120).stdout == "aarch64\n"


def test_containers_of_others_run_by_interpreter(arm64: Machine, tmp_path: Path) -> None:
    archive = tmp_path / "amd64.tar"
    archive.write_bytes(starter.archive("amd64", busybox(), b""))
    arm64.docker("load", "-i", str(archive), timeout_s=120)
    assert (
        arm64.docker("run", "--rm", "--platform", "linux/amd64", "busybox", "uname", "-m", timeout_s=120).stdout
        == "x86_64\n"
    )


def test_it_has_a_power_button_stops_in_order_and_starts_from_a_template(arm64: Machine) -> None:
    assert "gpio-keys" in arm64.cove("machine", "ssh", "cat /proc/bus/input/devices").stdout
    assert "has no power button" not in (arm64.folder / "console.log").read_text()
    told = arm64.cove("machine", "stop", timeout_s=180).stderr
    assert "killing" not in told
    assert "switching it off" not in told
    arm64.cove("machine", "start", timeout_s=STARTS_S)
    assert '"start": "template"' in arm64.cove("machine", "status", "--json").stdout
    assert arm64.docker("run", "--rm", "cove/starter", "busybox", "echo", "there", timeout_s=120).stdout == "there\n"
