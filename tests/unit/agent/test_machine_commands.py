"""`cove machine` on a stand-in for QEMU: what users see when things go well, and when they do not."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cove.agent.launch import ensure_running
from cove.drivers.qemu.qcow2 import virtual_size
from cove.errors import AgentError, CoveError
from cove.machine import files, settings

Eventually = Callable[[Callable[[], bool]], None]


def processes(home: Path) -> list[int]:
    """The stand-ins that run for this home: those that have a VM, not the trials of accelerators."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"-pidfile" in words and any(word.startswith(bytes(home)) for word in words):
                found.append(int(process.name))
    return found


def kill_both(agent_pid: int) -> None:
    """An agent and its supervisor: they are a session of their own."""
    os.killpg(os.getpgid(agent_pid), signal.SIGKILL)


def test_a_machine_starts_tells_of_itself_and_stops(cove: Any) -> None:
    cove.make()
    assert "docker socket is" in cove.run("machine", "start").stdout
    told = json.loads(cove.run("machine", "status", "--json").stdout)
    assert told["state"] == "running"
    assert told["accelerator"] == "tcg"
    assert told["accelerator_reason"]
    assert (told["engine_version"], told["api_version"], told["qemu_version"]) == ("9.8.7", "1.51", "9.9.9")
    assert told["memory"] == 2 << 30
    assert told["host_memory"] > 1 << 20
    assert 0 < told["uptime_seconds"] < 60
    assert told["pid"] in processes(cove.home)
    shown = cove.run("machine", "status").stdout
    for words in (
        "state          running",
        "accelerator    tcg (",
        "engine 9.8.7, API 1.51, QEMU 9.9.9",
        " MiB of this computer's, QEMU included; the machine has at most 2048 MiB",
    ):
        assert words in shown
    cove.run("machine", "stop")
    told = cove.status()
    assert told["state"] == "stopped"
    assert "crash" not in told
    assert processes(cove.home) == []


def test_a_qemu_whose_ports_were_taken_meanwhile_is_started_again_with_others(cove: Any) -> None:
    cove.make()
    cove.faults = "ports-taken=2"
    cove.run("machine", "start")
    assert cove.status()["state"] == "running"
    cove.run("machine", "stop")


def test_one_that_finds_no_port_says_so(cove: Any) -> None:
    cove.make()
    cove.faults = "ports-taken=1000"
    assert "Failed to find an available port: Address already in use" in cove.run("machine", "start", status=1).stderr


def test_starts_at_the_same_time_start_one_machine(cove: Any) -> None:
    cove.make()
    starts = [cove.spawn("machine", "start") for _ in range(3)]
    for process in starts:
        out, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert "is running" in out
    assert len(processes(cove.home)) == 1


def test_a_qemu_that_dies_is_seen_at_once_with_its_last_words(cove: Any) -> None:
    cove.make()
    assert "cove machine status tells it again" in cove.run("machine", "start").stderr  # why it is not faster
    os.kill(cove.status()["pid"], signal.SIGUSR1)
    # The stand-in needs a moment to die; from then on nobody says that it runs.
    deadline = time.monotonic() + 60
    while processes(cove.home):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    told = cove.status()
    assert told["state"] == "stopped"
    assert told["crash"]["words"] == ["qemu: fatal: the fake was told to crash"]
    shown = cove.run("machine", "status").stdout
    assert "last words     qemu: fatal: the fake was told to crash" in shown
    assert "tells it again" not in cove.run("machine", "start").stderr
    told = cove.status()
    assert "crash" not in told
    # Whoever has come first meanwhile, it is not forgotten.
    last = told["last_crash"]
    assert (last["what"], last["count"], last["words"]) == ("VM", 1, ["qemu: fatal: the fake was told to crash"])
    shown = cove.run("machine", "status").stdout
    assert "last crash     the VM ended by itself at " in shown
    assert "what was said: cove machine logs default" in shown


def test_a_vm_that_ended_while_nobody_saw_it_is_kept_in_mind(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    told = cove.status()
    kill_both(told["agent_pid"])
    os.kill(told["pid"], signal.SIGKILL)
    while processes(cove.home):
        time.sleep(0.005)
    cove.run("machine", "start")
    last = cove.status()["last_crash"]
    assert (last["what"], last["how"], last["count"]) == ("VM", "QEMU ended", 1)
    assert last["words"] == ["the kernel booted", "the guest is up"]


def test_how_a_qemu_died_is_told(cove: Any, eventually: Eventually) -> None:
    cove.make()
    cove.run("machine", "start")
    os.kill(cove.status()["pid"], signal.SIGKILL)
    eventually(lambda: cove.status().get("crash", {}).get("how") == "QEMU was killed by SIGKILL")
    # It said nothing itself, so the guest's console has the last word.
    assert cove.status()["crash"]["words"] == ["the kernel booted", "the guest is up"]


def test_a_machine_without_its_agent_is_still_a_running_one(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    before = cove.status()
    kill_both(before["agent_pid"])
    told = cove.status()
    assert (told["state"], told["agent_pid"]) == ("running", None)
    assert "agent          none" in cove.run("machine", "status").stdout
    done = cove.run("machine", "rm", status=1)
    assert "the machine default is running" in done.stderr
    cove.run("machine", "start")
    after = cove.status()
    assert (after["boot_id"], after["pid"]) == (before["boot_id"], before["pid"])
    assert after["agent_pid"] not in (None, before["agent_pid"])


def test_an_agent_whose_sockets_were_removed_is_told_with_the_way_out(
    cove: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    shutil.rmtree(paths.run_dir)
    assert "agent          lives, and cannot be reached" in cove.run("machine", "status").stdout
    monkeypatch.setattr("cove.agent.launch.AGENT_TIMEOUT_S", 0.2)
    with pytest.raises(AgentError, match="the agent of machine default lives, and does not answer at ") as raised:
        ensure_running("default")
    assert "end what that names (kill -9), then: cove machine start default" in raised.value.hint


def test_a_machine_whose_settings_broke_meanwhile_can_be_stopped(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    os.kill(cove.status()["agent_pid"], signal.SIGKILL)
    paths.settings.write_text("cpus = \n")
    cove.run("machine", "stop")
    assert processes(cove.home) == []
    assert cove.status()["state"] == "stopped"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cpus = \n", "machine.toml:1:8: not valid TOML"),
        ("cpus = 2\n\nmemory = '1 elephant'\n", "machine.toml:3:10: memory"),
        ("cpus = 2\ndisk = [\n", "machine.toml:2:9: not valid TOML"),
        ("colour = 'red'\n", "machine.toml:1:1: colour is not a setting"),
    ],
)
def test_broken_settings_are_named_and_nothing_is_lost(cove: Any, text: str, said: str) -> None:
    paths = cove.make()
    paths.settings.write_text(text)
    done = cove.run("machine", "start", status=1)
    assert str(paths.settings) in done.stderr
    assert said in done.stderr
    assert "\n      mend it with: cove config edit\n" in done.stderr
    assert paths.settings.read_text() == text
    assert processes(cove.home) == []
    assert cove.run("machine", "config", "list", status=1).stderr.count(said) == 1


def test_a_broken_setting_is_mended_by_setting_it(cove: Any) -> None:
    paths = cove.make()
    paths.settings.write_text("# mine\ncpus = 0\n")
    cove.run("machine", "config", "set", "cpus", "3")
    assert paths.settings.read_text() == "# mine\ncpus = 3\n"


@pytest.mark.parametrize(
    ("line", "words"), [("cpuz = 2", "cpuz is not a setting"), ('qemu = "/nowhere/qemu"', "/nowhere/qemu")]
)
def test_a_restart_that_could_not_start_leaves_it_running(cove: Any, line: str, words: str) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    file = paths.settings.read_text()
    key = line.partition(" ")[0]
    paths.settings.write_text("\n".join([line, *(one for one in file.split("\n") if not one.startswith(f"{key} "))]))
    assert words in cove.run("machine", "restart", status=None).stderr
    paths.settings.write_text(file)
    assert cove.status()["state"] == "running"


def test_a_disk_grows_at_the_next_start_and_never_becomes_smaller(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "config", "set", "disk", "20GiB")  # there is no disk yet
    cove.run("machine", "start")
    assert virtual_size(paths.disk) == 20 << 30
    for size in ("5GiB", "20479MiB"):
        done = cove.run("machine", "config", "set", "disk", size, status=1)
        assert f"the disk of machine default has 20GiB and cannot become smaller: {size}" in done.stderr
    assert cove.run("machine", "config", "get", "disk").stdout == '"20GiB"\n'
    done = cove.run("machine", "config", "set", "disk", "30GiB")
    assert done.stdout == 'machine default: disk = "30GiB", in effect after: cove machine restart default\n'
    assert virtual_size(paths.disk) == 20 << 30
    cove.run("machine", "restart")
    assert virtual_size(paths.disk) == 30 << 30
    cove.run("machine", "stop")
    done = cove.run("machine", "config", "set", "cpus", "3")
    assert done.stdout == "machine default: cpus = 3, in effect from its next start\n"
    paths.settings.write_text(paths.settings.read_text().replace("30GiB", "4GiB"))  # by an editor
    assert "has 30GiB and cannot become smaller: 4GiB" in cove.run("machine", "start", status=1).stderr


def test_a_qemu_that_is_not_there_is_named_with_its_setting(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "config", "set", "qemu", "/no/such/qemu", status=1)
    settings.set_value(paths.settings, "qemu", "/no/such/qemu")
    done = cove.run("machine", "start", status=1)
    assert "/no/such/qemu, which the setting qemu names, is not a program" in done.stderr
    assert "cove machine config set" in done.stderr
    assert cove.status()["state"] == "stopped"
    assert not paths.disk.exists()


def test_a_qemu_that_refuses_is_quoted(cove: Any) -> None:
    cove.make()
    cove.faults = "refuse"
    done = cove.run("machine", "start", status=1)
    assert "QEMU did not start: qemu: -m: the fake was told to refuse" in done.stderr
    told = cove.status()
    assert told["state"] == "stopped"
    assert "crash" not in told


def test_rm_of_a_running_machine_wants_force(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    done = cove.run("machine", "rm", status=1)
    assert "cove machine stop default" in done.stderr
    assert paths.settings.exists()
    cove.run("machine", "rm", "--force")
    assert processes(cove.home) == []
    assert not paths.folder.exists()
    assert not paths.run_dir.exists()
    told = cove.run("machine", "status", status=1).stderr
    assert told.startswith("cove: there is no machine default yet\n      the first command that needs one makes it")


def test_rm_asks_before_it_removes(cove: Any) -> None:
    paths = cove.make()
    done = cove.run("machine", "rm", status=1)  # nobody answers: standard input is empty
    assert done.stdout.startswith("Remove machine default with all its containers")
    assert done.stderr == (
        "the removal of machine default has been cancelled\n"
        "      to remove it without a question: cove machine rm --force default\n"
    )
    assert paths.settings.exists()


def test_rm_of_a_machine_that_is_not_there_names_those_that_are(cove: Any) -> None:
    assert cove.run("machine", "rm", "nosuch", status=1).stderr == (
        "cove: there is no machine nosuch\n      see those that exist with: cove machine list\n"
    )


@pytest.mark.parametrize("faults", ["no-shutdown no-button no-quit", "no-shutdown"])
def test_stop_goes_down_the_ladder(cove: Any, faults: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The waits of each step are for real guests; the ladder is the same with shorter ones.
    cove.wait_less(monkeypatch, 0.2, "POWER_OFF_S", "BUTTON_S", "QUIT_S")
    cove.make()
    cove.faults = faults
    cove.run("machine", "start")
    done = cove.run("machine", "stop")
    assert ("killing it" in done.stderr) == ("no-quit" in faults)
    assert "pressing the power button" in done.stderr
    assert processes(cove.home) == []


@pytest.mark.parametrize("words", [("machine", "rm"), ("machine", "reset"), ("uninstall",)])
def test_one_whose_data_are_to_go_is_not_waited_for_for_long(
    cove: Any, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its containers end all the same: some may have folders of this computer."""
    cove.wait_less(monkeypatch, 0.2, "FORCED_OFF_S")
    cove.make()
    cove.faults = "no-shutdown"
    cove.run("machine", "start")
    told = cove.run(*words, "--force").stderr
    assert "stopping containers and powering off" in told
    assert "switching it off" in told
    assert "power button" not in told
    assert processes(cove.home) == []


def test_a_start_takes_back_a_port_that_another_program_had(cove: Any) -> None:
    cove.make()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        cove.faults = f"published={port}"
        cove.run("machine", "start")
        assert [one["port"] for one in cove.status()["lost_ports"]] == [f"127.0.0.1:{port}/tcp"]
    cove.run("machine", "start")
    with socket.create_connection(("127.0.0.1", port), 10):
        pass
    assert "lost_ports" not in cove.status()


def test_a_machine_is_named_with_an_argument_or_with_m(cove: Any) -> None:
    cove.make("other")
    for words in (("status", "other", "--json"), ("status", "-m", "other", "--json")):
        assert json.loads(cove.run("machine", *words).stdout)["machine"] == "other"
    assert cove.run("machine", "config", "get", "-m", "other", "cpus").stdout == "2\n"
    assert cove.run("-m", "other", "machine", "config", "get", "cpus").stdout == "2\n"
    done = cove.run("machine", "status", "other", "-m", "another", status=1)
    assert "two machines are named" in done.stderr
    done = cove.run("machine", "init", "other", status=1)
    hint = done.stderr.partition("change it with: ")[2].split()
    assert hint[:5] == ["cove", "machine", "config", "set", "-m"]
    cove.run(*hint[1:6], "cpus", "5")
    assert cove.run("machine", "config", "get", "-m", "other", "cpus").stdout == "5\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (
            ("start", "--fast"),
            125,
            "unknown flag: --fast\n\nUsage:  cove machine start [OPTIONS] [NAME]\n\n"
            "Run 'cove machine start --help' for more information\n",
        ),
        (
            ("stop", "one", "two"),
            1,
            "cove: 'cove machine stop' requires at most 1 argument\n\nUsage:  cove machine stop [OPTIONS] [NAME]\n\n"
            "Run 'cove machine stop --help' for more information\n",
        ),
        (
            ("config", "set", "cpus"),
            1,
            "cove: 'cove machine config set' requires 2 arguments\n\n"
            "Usage:  cove machine config set [OPTIONS] KEY VALUE\n\n"
            "Run 'cove machine config set --help' for more information\n",
        ),
        (
            ("config", "put"),
            1,
            "cove: unknown command: cove machine config put\n\nUsage:  cove machine config COMMAND\n\n"
            "Run 'cove machine config --help' for more information\n",
        ),
        (
            ("init", "--cpus", "few"),
            125,
            'invalid argument "few" for "--cpus" flag: strconv.ParseInt: parsing "few": invalid syntax\n\n'
            "Usage:  cove machine init [OPTIONS] [NAME]\n\nRun 'cove machine init --help' for more information\n",
        ),
    ],
)
def test_a_wrong_command_line_is_told_as_dockers_verbs_tell_it(
    cove: Any, words: tuple[str, ...], status: int, said: str
) -> None:
    done = cove.run("machine", *words, status=status)
    assert (done.stdout, done.stderr) == ("", said)


def test_ssh_passes_the_commands_own_options_on(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (cove.home / "bin").mkdir()
    (cove.home / "bin" / "ssh").write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    (cove.home / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{cove.home}/bin{os.pathsep}{os.environ['PATH']}")
    cove.make("other")
    for words in (("-m", "other"), ("--machine=other",)):
        done = cove.run("machine", "ssh", *words, "free", "-m", "--", "-h", status=7)
        assert done.stdout.endswith(" root@127.0.0.1 free -m -- -h\n")
        assert 'HostKeyAlias="cove-other"' in done.stdout


def test_a_shell_whose_machine_ends_says_so(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    (cove.home / "bin").mkdir()
    # As ssh ends when its connection does: with the VM, which is gone as soon as nobody holds its lock.
    kill = f"kill -9 {cove.status()['pid']}; flock '{paths.vm_lock}' true; exit 255"
    (cove.home / "bin" / "ssh").write_text(f"#!/bin/sh\n{kill}\n")
    (cove.home / "bin" / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{cove.home}/bin{os.pathsep}{os.environ['PATH']}")
    said = cove.run("machine", "ssh", status=255).stderr
    assert "cove: the connection has ended\n      the VM of machine default ended by itself: QEMU was killed by" in said


def test_a_machine_whose_engine_does_not_start_stays_up_under_a_shell(
    cove: Any, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    cove.run("machine", "stop")
    there, leave, programs = cove.home / "there", cove.home / "leave", cove.home / "bin"
    programs.mkdir()
    (programs / "ssh").write_text(f"#!/bin/sh\ntouch {there}\nwhile [ ! -e {leave} ]; do sleep 0.05; done\n")
    (programs / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    cove.wait_less(monkeypatch, 3, "RESTORED_TIMEOUT_S", "BOOT_TIMEOUT_S")  # time to come in
    cove.wait_less(monkeypatch, 0.2, "HELD_S")
    cove.faults = "silent"
    with cove.spawn("machine", "ssh") as shell:
        try:
            eventually(there.exists)
            (vm,) = processes(cove.home)
            eventually(lambda: "it stays up while somebody is in it" in paths.agent_log.read_text())
            time.sleep(0.5)
            assert processes(cove.home) == [vm]
        finally:
            leave.touch()
        assert shell.wait(10) == 0
    eventually(lambda: vm not in processes(cove.home))


def test_logs_follow_what_is_added(cove: Any) -> None:
    paths = cove.make()
    paths.console_log.write_text("first\n")
    process = cove.spawn("machine", "logs", "-f")
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "first\n"
        with paths.console_log.open("a") as log:
            log.write("second\n")
        assert process.stdout.readline() == "second\n"
        paths.console_log.rename(paths.folder / "console.log.1")
        paths.console_log.write_text("after the rotation\n")
        assert process.stdout.readline() == "after the rotation\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
        process.communicate()


def test_what_a_guest_says_does_not_fill_the_disk(cove: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    with paths.console_log.open("a") as console:
        console.write("noise\n" * (files.MAX_CONSOLE // 6) + "the end of the noise\n")
    pid = cove.status()["pid"]
    assert paths.console_log.stat().st_size == 0
    earlier = paths.console_log.with_name("console.log.1")
    assert earlier.stat().st_size == files.MAX_CONSOLE
    assert earlier.read_text().endswith("the end of the noise\n")
    with paths.console_log.open("a") as console:
        console.write("its last words\n")
    os.kill(pid, signal.SIGKILL)
    paths.qemu_log.write_text("")
    cove.end()
    assert cove.status()["crash"]["words"] == ["its last words"]


def test_logs_of_a_machine_that_never_ran(cove: Any) -> None:
    cove.make()
    assert "has never run" in cove.run("machine", "logs", status=1).stderr


def test_a_full_disk_is_told_and_spoils_nothing(cove: Any) -> None:
    paths = cove.make()
    before = paths.settings.read_bytes()
    # A file system with no room at all, mounted over the machines' folder for this one command.
    script = (
        f"cp -a {paths.folder} {cove.home}/copy && mount -t tmpfs -o size=64k tmpfs {paths.folder} && "
        f"cp -a {cove.home}/copy/. {paths.folder} && (cat /dev/zero > {paths.folder}/filler || true) 2>/dev/null && "
        f"exec {sys.executable} -m cove machine start"
    )
    namespaces = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-r", "-m"]
    done = subprocess.run(
        [*namespaces, "sh", "-c", script], env=cove.environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the disk is full: there is no room in" in done.stderr
    assert "COVE_HOME" in done.stderr
    assert paths.settings.read_bytes() == before
    cove.run("machine", "start")
    assert cove.status()["state"] == "running"


def test_a_start_waits_for_an_engine_and_then_says_what_is_wrong(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cove.wait_less(monkeypatch, 0.5, "BOOT_TIMEOUT_S")
    cove.make()
    monkeypatch.setenv("COVE_FAKE", "silent")
    with pytest.raises(CoveError) as error:
        ensure_running("default")
    assert "did not start: its engine did not answer within" in error.value.message
    assert "the guest is up" in error.value.hint
    assert processes(cove.home) == []


def test_a_disk_that_fills_up_at_boot_is_told_at_once(cove: Any) -> None:
    paths = cove.make()
    (paths.folder / "full").touch()
    done = cove.run("machine", "start", status=1)
    assert "the disk is full: there is no room in" in done.stderr
    assert processes(cove.home) == []
    (paths.folder / "full").unlink()
    cove.run("machine", "start")


def test_a_machine_that_stands_still_for_want_of_room_says_so_and_goes_on(cove: Any, eventually: Eventually) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    before = cove.status()
    (paths.folder / "full").touch()
    os.kill(before["pid"], signal.SIGUSR2)
    eventually(lambda: cove.status()["state"] == "paused")
    shown = cove.run("machine", "status").stdout
    assert "trouble        the disk is full: there is no room in" in shown
    assert "make room, then: cove machine start default" in shown
    assert "the disk is full" in cove.run("machine", "start", status=1).stderr
    os.kill(cove.status()["agent_pid"], signal.SIGKILL)  # a new agent sees it as well
    (paths.folder / "full").unlink()
    cove.run("machine", "start")
    after = cove.status()
    assert (after["state"], after["boot_id"]) == ("running", before["boot_id"])
    assert "trouble" not in after


@pytest.mark.skipif(sys.platform != "linux", reason="entries of other systems are not where this looks")
def test_a_start_at_the_login_is_turned_on_renewed_and_off(
    cove: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    cove.make("web")

    def said(wish: str) -> str:
        return str(cove.run("machine", "autostart", wish, "web").stdout)

    is_on, is_off = "machine web is started when you log in", "machine web is not started when you log in\n"
    assert said("status") == is_off
    assert said("on") == f"{is_on}\n"
    (entry,) = (tmp_path / "autostart").iterdir()
    entry.write_text("[Desktop Entry]\nExec=/opt/earlier/cove machine start web\n")
    told = said("status")
    assert told.startswith(f"{is_on}, by what another Cove has made")
    assert told.endswith("cove machine autostart on web\n")
    found = json.loads(cove.run("machine", "autostart", "status", "web", "--json").stdout)
    assert found == {"machine": "web", "autostart": True, "current": False}
    assert said("on") == f"{is_on}\n"
    assert said("off") == is_off
    assert not entry.exists()
