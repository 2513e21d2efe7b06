"""How a machine starts: from a template when there is one that fits, and from the beginning otherwise."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cove.machine import templates


def saved(cove: Any) -> list[Path]:
    folder = cove.home / "cache" / "templates"
    return sorted(folder.iterdir()) if folder.exists() else []


def restart(cove: Any, faults: str = "") -> str:
    cove.run("machine", "stop")
    cove.faults = faults
    return cove.run("machine", "start").stderr


def test_the_first_start_saves_a_template_and_the_next_goes_on_from_it(cove: Any) -> None:
    cove.make()
    first = cove.run("machine", "start").stderr
    assert "the next start takes a moment" in first
    assert cove.status()["start"] == "cold"
    (template,) = saved(cove)
    assert stat.S_IMODE(template.stat().st_mode) == 0o600
    assert "loading the system" not in restart(cove)
    assert cove.status()["start"] == "template"
    assert saved(cove) == [template]


def test_machines_of_a_kind_start_from_the_same_template(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    cove.make("other")
    cove.run("machine", "start", "other")
    assert cove.status("other")["start"] == "template"


def test_other_processors_or_memory_want_another_template(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    for name, value in (("cpus", "1"), ("memory", "1GiB")):
        cove.run("machine", "config", "set", name, value)
        assert "loading the system" in restart(cove)
        assert cove.status()["start"] == "cold"
        restart(cove)
        assert cove.status()["start"] == "template"
    assert len(saved(cove)) == templates.KEEP


def test_a_larger_disk_wants_no_other_template(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    cove.run("machine", "config", "set", "disk", "80GiB")
    restart(cove)
    assert cove.status()["start"] == "template"


def test_a_template_that_cannot_be_used_is_told_and_made_again(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    (template,) = saved(cove)
    template.write_bytes(b"spoilt")
    said = restart(cove, "bad-template")
    assert "its template cannot be used, so it boots from the beginning: " in said
    assert "load of migration failed: the fake was told to" in said
    assert cove.status()["start"] == "cold"
    assert saved(cove) == [template]
    assert template.read_bytes() != b"spoilt"


def test_a_template_that_does_not_come_up_is_not_waited_for_for_long(
    cove: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cove.wait_less(monkeypatch, 0.5, "RESTORED_TIMEOUT_S")
    cove.make()
    cove.run("machine", "start")
    assert "its engine did not answer within" in restart(cove, "mute-template")
    assert cove.status()["start"] == "cold"


def test_a_machine_that_cannot_be_saved_starts_all_the_same(cove: Any) -> None:
    cove.make()
    cove.faults = "no-save"
    cove.run("machine", "start")
    assert cove.status()["state"] == "running"
    assert saved(cove) == []
    assert "loading the system" in restart(cove, "no-save")


def test_a_vm_whose_agent_died_before_its_seed_is_begun_anew(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    status = cove.status()
    paths.run_state.unlink()  # as it is until the seed was given
    os.kill(status["agent_pid"], signal.SIGKILL)
    cove.run("machine", "start")
    assert cove.status()["pid"] != status["pid"]
    assert cove.status()["state"] == "running"


def test_a_guest_that_serves_no_streams_is_reached_over_ssh(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cove.make()
    cove.faults = "no-streams"
    cove.wait_less(monkeypatch, 0.2, "STREAMS_S")
    cove.run("machine", "start")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(paths.docker_socket))
        client.sendall(b"ping")
        assert client.recv(4) == b"ping"
    assert "SSH has to do" in paths.agent_log.read_text()


def test_what_the_first_boot_has_compiled_is_given_to_those_that_follow(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    assert not booted_with_byte_code(cove)
    (kept,) = (cove.home / "data" / "images").glob("*/initramfs-compiled")
    assert kept.read_bytes().startswith(b"initramfs" + bytes(3) + b"070701")
    made = kept.stat().st_mtime_ns
    cove.run("machine", "config", "set", "cpus", "1")
    restart(cove)
    assert cove.status()["start"] == "cold"
    assert booted_with_byte_code(cove)
    assert kept.stat().st_mtime_ns == made  # nobody asked again


def test_a_boot_that_comes_to_nothing_is_tried_once_more_without_byte_code(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    (kept,) = (cove.home / "data" / "images").glob("*/initramfs-compiled")
    kept.write_bytes(b"spoilt")
    (paths.folder / "boots").unlink()
    cove.run("machine", "config", "set", "cpus", "1")
    assert "trying once more" in restart(cove, "ends-booting=1")
    assert not booted_with_byte_code(cove)
    assert kept.read_bytes() != b"spoilt"


def test_a_guest_that_gives_by_half_what_it_has_compiled_is_booted_anew_and_not_asked(cove: Any) -> None:
    cove.faults = "half-compiled"
    cove.make()
    cove.run("machine", "start")
    assert cove.status()["state"] == "running"
    assert not list((cove.home / "data" / "images").glob("*/initramfs-compiled"))
    log = cove.home / "data" / "machines" / "default" / "agent.log"
    assert "the guest does not tell what it has compiled" in log.read_text()


def test_a_vsock_that_qemu_refuses_is_done_without(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    site = cove.home / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(
        "import sys\nif 'cove.agent' in sys.orig_argv:\n    from cove.agent import hypervisor\n"
        "    hypervisor.Qemu.vsock_cid = lambda self: 77\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    cove.faults = "no-vsock"
    cove.make()
    told = cove.run("machine", "start").stderr
    assert "vsock cannot be used, so it boots without it" in told
    assert cove.status()["state"] == "running"


def booted_with_byte_code(cove: Any) -> bool:
    """As the command line of the VM that runs has it."""
    return b"/initramfs-compiled\0" in Path(f"/proc/{cove.status()['pid']}/cmdline").read_bytes()


@pytest.mark.parametrize("way", ["ends", "hangs"])
def test_a_boot_that_comes_to_nothing_is_tried_once_more(cove: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cove.make()
    if way == "hangs":
        cove.wait_less(monkeypatch, 0.5, "FIRST_TRY_S")
    cove.faults = f"{way}-booting=1"
    said = cove.run("machine", "start").stderr
    assert said.count("the machine did not boot; trying once more") == 1
    assert cove.status()["start"] == "cold"
    assert (paths.folder / "boots").read_text() == "xx"
    assert ("did not start: it did not boot within" if way == "hangs" else "it ended") in paths.agent_log.read_text()


@pytest.mark.parametrize("way", ["ends", "hangs"])
def test_a_boot_is_not_tried_a_third_time(
    cove: Any, way: str, monkeypatch: pytest.MonkeyPatch, eventually: Callable[..., None]
) -> None:
    paths = cove.make()
    if way == "hangs":
        cove.wait_less(monkeypatch, 0.5, "FIRST_TRY_S", "BOOT_TIMEOUT_S")
    cove.faults = f"{way}-booting=9"
    said = cove.run("machine", "start", status=1).stderr
    assert said.count("trying once more") == 1
    assert ("it did not boot within" if way == "hangs" else "did not start: it ended") in said
    assert (paths.folder / "boots").read_text() == "xx"
    eventually(lambda: cove.status()["state"] == "stopped")  # the agent ends a moment after it has told why


def test_what_qemu_knows_of_a_boot_that_hangs_is_in_the_agents_log(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cove.make()
    cove.wait_less(monkeypatch, 0.5, "FIRST_TRY_S")
    cove.faults = "hangs-booting=1"
    cove.run("machine", "start")
    (told,) = [line for line in paths.agent_log.read_text().splitlines() if "the VM has not come up" in line]
    assert "VM status: running" in told and "RIP=ffffffff81000000" in told
    assert "XMM" not in told


def test_a_guest_that_says_why_it_powers_off_is_not_booted_again(cove: Any) -> None:
    paths = cove.make()
    cove.faults = "gives-up-booting=1"
    said = cove.run("machine", "start", status=1).stderr
    assert "there is no network card" in said and "trying once more" not in said
    assert (paths.folder / "boots").read_text() == "x"
