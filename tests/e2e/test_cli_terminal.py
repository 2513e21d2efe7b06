"""cove on a real terminal: raw mode, window size, Ctrl-C, detaching; and signals where there is no terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress

import pytest

pytestmark = pytest.mark.vm


def engine_host() -> str:
    """The engine that the session's fixture has put into the environment."""
    return os.environ["COVE_TEST_DOCKER_HOST"]


PATIENCE_S = 60.0


class Terminal:
    """A cove command on a terminal of its own."""

    def __init__(self, *words: str, rows: int = 30, columns: int = 100) -> None:
        self.master, slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(slave)
        self._slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-m", "cove", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=os.environ | {"COVE_HOST": engine_host()},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self.output = ""

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, pattern: str) -> re.Match[str]:
        """Read until `pattern` appears; what came before it is forgotten."""
        deadline = time.monotonic() + PATIENCE_S
        while (match := re.search(pattern, self.output)) is None:
            ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
            assert ready, f"{pattern!r} did not come; there was {self.output!r}"
            self.output += os.read(self.master, 65536).decode(errors="replace")
        self.output = self.output[match.end() :]
        return match

    def wait(self) -> int:
        return self.process.wait(PATIENCE_S)

    @property
    def attributes(self) -> list[object]:
        return termios.tcgetattr(self._slave)

    def close(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


def cove(*words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"COVE_HOST": engine_host()}
    return subprocess.run(
        [sys.executable, "-m", "cove", *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def name() -> Iterator[str]:
    name = f"coveterm{uuid.uuid4().hex[:8]}"
    yield name
    cove("rm", "-f", name)


@pytest.fixture
def shell(name: str) -> Iterator[Terminal]:
    terminal = Terminal("run", "-it", "--name", name, "busybox", "sh")
    terminal.expect(r"# ")
    yield terminal
    terminal.close()


def test_an_interactive_shell_and_its_status(shell: Terminal) -> None:
    shell.type("echo $((6*7)); tty\n")
    shell.expect(r"42\r\n/dev/pts/\d+")
    shell.type("exit 5\n")
    assert shell.wait() == 5
    assert shell.attributes == shell.before


def test_the_window_size_follows(shell: Terminal) -> None:
    shell.type("stty size\n")
    shell.expect(r"30 100")
    shell.type("trap 'stty size' WINCH; echo re''ady\n")
    shell.expect(r"ready")
    shell.resize(41, 77)
    # busybox's shell runs a trap when its read of the line is over.
    shell.process.send_signal(signal.SIGWINCH)
    for _ in range(20):
        shell.type("stty size\n")
        if shell.expect(r"(41 77|30 100)")[1] == "41 77":
            break
    else:
        pytest.fail("the container never saw the new size")


def test_ctrl_c_reaches_the_foreground_process_only(shell: Terminal) -> None:
    # One process says it and sleeps: between two, the shell alone would be interrupted, and wait for the second.
    shell.type("trap 'echo caught' INT; sh -c 'echo go; exec sleep 100'\n")
    shell.expect(r"\ngo")
    shell.type("\x03")
    shell.expect(r"# ")
    shell.type("echo al''ive\n")
    shell.expect(r"alive")


def test_detach_keys_leave_it_running(shell: Terminal, name: str) -> None:
    shell.type("\x10\x11")
    assert shell.wait() == 0
    assert shell.attributes == shell.before
    assert cove("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"
    again = Terminal("attach", name)
    try:
        again.expect(r"# ")  # without a key: the window seems to change its size
        again.type("exit 4\n")
        assert again.wait() == 4
    finally:
        again.close()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("start", "-ai"), 0, ""),
        (("attach",), 1, "read escape sequence"),
        (("exec", "-it"), 1, "read escape sequence"),
    ],
)
def test_detach_keys_elsewhere(words: tuple[str, ...], status: int, said: str, name: str) -> None:
    made = cove(*(("create",) if words[0] == "start" else ("run", "-d")), "-it", "--name", name, "busybox", "sh")
    assert made.returncode == 0
    terminal = Terminal(*words, name, *(("sh",) if words[0] == "exec" else ()))
    try:
        terminal.expect(r"# ")
        terminal.type("\x10\x11")
        assert terminal.wait() == status
        if said:
            terminal.expect(f"{said}\r\n$")
        assert terminal.attributes == terminal.before
    finally:
        terminal.close()
    assert cove("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"


def test_a_part_of_the_detach_keys_is_typed_on(shell: Terminal) -> None:
    shell.type("cat -v\n")
    shell.expect(r"cat -v")
    shell.type("a\x10b\n")
    shell.expect(r"a\^Pb")
    shell.type("\x04")
    shell.expect(r"# ")


def test_exec_on_a_terminal(name: str) -> None:
    assert cove("run", "-d", "--name", name, "busybox", "sleep", "1000").returncode == 0
    terminal = Terminal("exec", "-it", name, "sh", rows=20, columns=90)
    try:
        terminal.expect(r"# ")
        terminal.type("stty size; exit 9\n")
        terminal.expect(r"20 90")
        assert terminal.wait() == 9
        assert terminal.attributes == terminal.before
    finally:
        terminal.close()


@pytest.mark.parametrize(
    ("number", "text"), [(signal.SIGINT, "INT"), (signal.SIGTERM, "TERM"), (signal.SIGUSR1, "USR1")]
)
def test_signals_are_passed_on(number: signal.Signals, text: str, name: str) -> None:
    script = f"trap 'echo got {text}; exit 42' {text}; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        [sys.executable, "-m", "cove", "run", "--name", name, "busybox", "sh", "-c", script],
        env=os.environ | {"COVE_HOST": engine_host()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.read() == f"got {text}\n"
    assert process.wait(PATIENCE_S) == 42


@pytest.mark.parametrize("words", [("run",), ("run", "--sig-proxy=false"), ("start", "-a"), ("attach",)])
def test_the_third_ctrl_c_ends_the_command_and_not_the_container(words: tuple[str, ...], name: str) -> None:
    stubborn = ("--name", name, "busybox", "sh", "-c", "trap 'echo caught' INT; while :; do echo on; sleep 0.1; done")
    if words[0] == "run":
        words = (*words, *stubborn)
    else:
        assert cove(*(("create",) if words[0] == "start" else ("run", "-d")), *stubborn).returncode == 0
        words = (*words, name)
    process = subprocess.Popen(
        [sys.executable, "-m", "cove", *words],
        env=os.environ | {"COVE_HOST": engine_host()},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    wanted = "on\n" if "--sig-proxy=false" in words else "caught\n"
    assert process.stdout.readline() == "on\n"
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        while process.stdout.readline() != wanted:
            pass
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 1
    assert process.stderr.read() == "\ngot 3 SIGTERM/SIGINTs, forcefully exiting\n"
    assert cove("inspect", "-f", "{{.State.Running}}", name).stdout == "true\n"


def test_ctrl_c_in_a_command_that_waits_is_quiet(name: str) -> None:
    assert cove("run", "-d", "--name", name, "busybox", "sh", "-c", "echo ready; sleep 1000").returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "cove", "logs", "-f", name],
        env=os.environ | {"COVE_HOST": engine_host()},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == ""
    assert process.wait(PATIENCE_S) == 130
