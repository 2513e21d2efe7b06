"""Where everything lies on the user's computer. docs/on-disk-layout.md describes it for people.

`COVE_HOME` puts data, configuration, cache and sockets under one folder. Without it, data and cache are where the operating
system wants them (platformdirs), and sockets in a short private directory, because a unix socket's path has room for about
a hundred bytes (unix(7): sun_path is 108 bytes on Linux, 104 on macOS).

The module imports platformdirs only when `COVE_HOME` does not decide, since every command loads it.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

from cove.errors import CoveError

DEFAULT_MACHINE = "default"
MAX_SOCKET_PATH = 100
"""Bytes of a socket's path that every supported system accepts."""
LONGEST = 50
"""Bytes of the longest name of a machine, and of one of its sockets, with their slashes."""

# Lower case alone: the folders must not collide on file systems that ignore case. It is also a valid host name label.
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,29}[a-z0-9])?")


def is_name(name: str) -> bool:
    """Whether it can name a machine."""
    return _NAME.fullmatch(name) is not None


def validate_name(name: str) -> str:
    """Return `name` when it can name a machine; raise `CoveError` otherwise."""
    if not is_name(name):
        raise CoveError(
            f"{name!r} cannot be the name of a machine",
            "use 1 to 31 lower-case letters, digits and dashes; a dash neither first nor last",
        )
    return name


def _home() -> Path | None:
    home = os.environ.get("COVE_HOME")
    return Path(home).absolute() if home else None


def data_dir() -> Path:
    """What must be kept: machines and VM images."""
    if home := _home():
        return home / "data"
    import platformdirs

    return Path(platformdirs.user_data_dir("cove", appauthor=False))


def config_dir() -> Path:
    """What the user says about Cove as a whole."""
    if home := _home():
        return home / "config"
    import platformdirs

    return Path(platformdirs.user_config_dir("cove", appauthor=False))


def cache_dir() -> Path:
    """What can be had again: downloads, results of probes."""
    if home := _home():
        return home / "cache"
    import platformdirs

    return Path(platformdirs.user_cache_dir("cove", appauthor=False))


def images_dir() -> Path:
    """VM images, one folder per digest."""
    return data_dir() / "images"


def machines_dir() -> Path:
    """One folder per machine."""
    return data_dir() / "machines"


def runtime_dir() -> Path:
    """The directory of all sockets. It may not exist yet: `private_dir` makes it."""
    if home := _home():
        return home / "run"
    if sys.platform == "win32":
        import platformdirs

        return Path(platformdirs.user_data_dir("cove", appauthor=False)) / "run"
    if sys.platform == "darwin":
        # TMPDIR is too long, and what lies in it or in /tmp for three days may be removed.
        own = Path.home() / ".cove" / "run"
        if len(os.fsencode(own)) + LONGEST <= MAX_SOCKET_PATH:
            return own
    uid = os.getuid()
    if xdg := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(xdg) / "cove"
    # A session without the variable (cron, ssh without PAM, su) must find the same sockets as one that has it.
    login = Path(f"/run/user/{uid}")
    if sys.platform == "linux" and login.is_dir() and login.stat().st_uid == uid:
        return login / "cove"
    # The ownership check of private_dir protects us.
    return Path(f"/tmp/cove-{uid}")


def private_dir(path: Path) -> Path:
    """Make `path` a directory of this user alone (0700) and return it.

    Raises `CoveError` when it is a symbolic link or another user's: in a shared place like /tmp somebody could have put it there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise CoveError(f"{path} cannot be created: {error.strerror}") from error
    if sys.platform == "win32":
        return path  # below the user's profile, whose access list already keeps others out
    info = path.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise CoveError(f"{path} is not a directory of yours", "remove it, or set COVE_HOME to a folder of your own")
    if stat.S_IMODE(info.st_mode) != 0o700:
        path.chmod(0o700)
    return path


class MachinePaths:
    """Every file and socket of one machine. Raises `CoveError` for a name that cannot be one."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = validate_name(name)

    @property
    def folder(self) -> Path:
        """Everything of the machine that lasts, 0700."""
        return machines_dir() / self.name

    @property
    def settings(self) -> Path:
        """The settings, written by people and by `cove machine config set`."""
        return self.folder / "machine.toml"

    @property
    def option(self) -> str:
        """What names the machine in a command that is told to a user; nothing for the usual one."""
        return "" if self.name == DEFAULT_MACHINE else f" -m {self.name}"

    @property
    def settings_draft(self) -> Path:
        """What `cove config edit` could not take, kept for who wrote it."""
        return self.folder / "machine.toml.draft"

    @property
    def disk(self) -> Path:
        """The data disk of a machine that QEMU runs: containers, images, volumes."""
        return self.folder / "data.qcow2"

    @property
    def vhdx(self) -> Path:
        """That of one that Hyper-V runs."""
        return self.folder / "data.vhdx"

    @property
    def hyperv(self) -> Path:
        """There while Hyper-V has a VM for the machine: its identifier."""
        return self.folder / "hyper-v.json"

    @property
    def remote(self) -> Path:
        """There when the machine's engine runs on another computer: where that is, and its key."""
        return self.folder / "remote.json"

    @property
    def remote_run(self) -> Path:
        """There from when such a machine is started until it is stopped, whether it can be reached or not."""
        return self.folder / "remote-run.json"

    @property
    def console_log(self) -> Path:
        """What the guest's kernel and PID 1 say."""
        return self.folder / "console.log"

    @property
    def agent_log(self) -> Path:
        """What the agent did and why."""
        return self.folder / "agent.log"

    @property
    def qemu_log(self) -> Path:
        """QEMU's own messages."""
        return self.folder / "qemu.log"

    @property
    def folders_log(self) -> Path:
        """What the servers of shared folders have to say."""
        return self.folder / "folders.log"

    @property
    def run_state(self) -> Path:
        """How the running VM was started; only meaningful while `vm_lock` is held by it."""
        return self.folder / "run.json"

    @property
    def crash(self) -> Path:
        """How its VM or its engine ended last without being told to, and how often that was."""
        return self.folder / "crash.json"

    @property
    def systems(self) -> Path:
        """Which VM image it starts with, and which it can go back to."""
        return self.folder / "systems.json"

    @property
    def suspended(self) -> Path:
        """The state of the VM while the machine is suspended: its memory, and so all that is secret in it (0600)."""
        return self.folder / "suspended.vm"

    @property
    def suspended_run(self) -> Path:
        """There exactly while the machine is suspended: how its VM was started."""
        return self.folder / "suspended.json"

    @property
    def settings_lock(self) -> Path:
        """Locked by a command while it reads, changes and writes the settings."""
        return self.folder / "settings.lock"

    @property
    def lock(self) -> Path:
        """Locked by the agent for as long as it lives."""
        return self.folder / "agent.lock"

    @property
    def launch_lock(self) -> Path:
        """Locked by a command while it creates the machine or starts its agent."""
        return machines_dir() / f".{self.name}.launch.lock"

    @property
    def vm_lock(self) -> Path:
        """Locked by QEMU itself (an inherited descriptor): held exactly as long as it lives, agent or no agent."""
        return self.folder / "vm.lock"

    @property
    def ssh_key(self) -> Path:
        """The agent's private key, ed25519, OpenSSH format."""
        return self.folder / "ssh_key"

    @property
    def host_key(self) -> Path:
        """The guest's private host key, given to it in the seed; the agent accepts no other."""
        return self.folder / "host_key"

    @property
    def known_hosts(self) -> Path:
        """The host key in the form that the system's ssh reads."""
        return self.folder / "known_hosts"

    @property
    def run_dir(self) -> Path:
        """The machine's sockets."""
        return runtime_dir() / self.name

    @property
    def docker_socket(self) -> Path:
        return self._socket("docker.sock")

    @property
    def down(self) -> Path:
        """There while the docker socket is and the engine behind it has to be started first."""
        return self.run_dir / "down"

    @property
    def agent_socket(self) -> Path:
        return self._socket("agent.sock")

    @property
    def qmp_socket(self) -> Path:
        return self._socket("qmp.sock")

    @property
    def link_socket(self) -> Path:
        return self._socket("link.sock")

    @property
    def seed_socket(self) -> Path:
        return self._socket("seed.sock")

    @property
    def streams_socket(self) -> Path:
        return self._socket("streams.sock")

    def make_run_dir(self) -> Path:
        """Create the private directory of the sockets. Raises `CoveError` as `private_dir` does."""
        private_dir(runtime_dir())
        return private_dir(self.run_dir)

    @property
    def folder_keys(self) -> Path:
        """By which agent and folders' servers know each other, where those inherit no sockets."""
        return self.run_dir / "folder-tls"

    def folder_socket(self, tag: str) -> Path:
        """Of a shared folder's server. Raises `CoveError` when its path is too long for a socket."""
        return self._socket(f"{tag}.sock")

    def _socket(self, file: str) -> Path:
        path = self.run_dir / file
        if sys.platform != "win32" and len(os.fsencode(path)) > MAX_SOCKET_PATH:  # there it is a file that names a pipe
            raise CoveError(
                f"the path of the socket {path} is too long ({len(os.fsencode(path))} bytes, at most {MAX_SOCKET_PATH})",
                "set COVE_HOME or XDG_RUNTIME_DIR to a shorter folder",
            )
        return path
