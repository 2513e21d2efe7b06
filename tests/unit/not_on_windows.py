"""What of the client's tests Windows leaves out, and why: all of a file, or tests by their names. (The tests of the engine are
Linux's, all of them; tests/platforms/test_windows_units.py says which folders are meant for Windows.)"""

from __future__ import annotations

from pathlib import Path

UNIT = Path(__file__).parent
SHELLS = "a completion is what a Unix shell makes of it"
PROGRAMS = "the programs that it calls are shell scripts of the test's own"
COPIES = "what is copied are links, modes and special files of a Unix"
PROCESSES = "some hundred processes, minutes under Wine, for words that are the same on each system; test_credentials.py has some"
SOCKETS = "the test's own engine is on a unix socket; local/test_named_pipes.py has what is in its place"
TERMINALS = "on a terminal of a Unix; tests/platforms/test_windows_console.py has a console"
PROC = "who has a port is told on Linux alone"
LIMITS = "Windows has no limit of open files that a process could raise"
GUEST = "the guest's side of it, which is Linux's"
FOLDERS = "folders of a Windows computer are not shared yet (docs/platforms.md)"
MODES = "modes and owners of files are a Unix's"
LEFT_OUT: dict[str, str | dict[str, str]] = {
    "cli/test_completion.py": SHELLS,
    "cli/test_compose.py": PROGRAMS,
    "cli/test_cp.py": COPIES,
    "cli/test_earlier.py": PROCESSES,
    "cli/test_ended_machine.py": SOCKETS,
    "cli/test_hello.py": PROCESSES,
    "cli/test_jsonmessage.py": TERMINALS,
    "cli/test_list_formats.py": PROCESSES,
    "cli/test_lost_engine.py": SOCKETS,
    "cli/test_network_options.py": PROCESSES,
    "cli/test_registry_commands.py": PROCESSES,
    "cli/test_upload.py": SOCKETS,
    "forward/test_docker_socket.py": SOCKETS,
    "forward/test_port_holders.py": PROC,
    "machine/test_descriptors.py": LIMITS,
    "machine/test_registries.py": GUEST,
    "share/test_ninep.py": FOLDERS,
    "share/test_ninep_attacks.py": FOLDERS,
    "share/test_ninep_pretender.py": FOLDERS,
    "share/test_share_folders.py": FOLDERS,
    "share/test_watcher.py": FOLDERS,
    "support/test_verify.py": PROCESSES,
    "cli/test_stream.py": {
        "test_an_input_that_does_not_block_is_waited_for": "Windows has no pipes that do not block",
    },
}
"""By file: the reason, or a reason for each test."""


def left_out(file: Path, test: str = "") -> str:
    """Why; "" for what is not left out."""
    found = LEFT_OUT.get(file.relative_to(UNIT).as_posix(), {})
    if isinstance(found, str):
        return "" if test else found
    return found.get(test, "")
