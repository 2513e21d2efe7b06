"""What PID 1 does: bring the system up, then wait for children, connections and orders."""

import contextlib
import os
import selectors
import signal
import socket
import struct
import time

from coved.boot import bytecode, disk, network, power, seed, system
from coved.boot.console import BootError, say
from coved.boot.places import SEED_PORT
from coved.boot.services import Service, Ssh, said, spawn
from coved.errors import UNFIT

ORDERS = {signal.SIGUSR2: power.RB_POWER_OFF, signal.SIGTERM: power.RB_POWER_OFF, signal.SIGINT: power.RB_AUTOBOOT}
# The power button's, the balloon, and those that networks want soon: loaded while the engine imports its modules.
MODULES = (
    "button" if os.uname().machine == "x86_64" else "gpio_keys",
    "evdev",
    "virtio_balloon",  # by it free memory goes back to the host (free page reporting)
    "bridge",
    "veth",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_ipv4",
    "nf_flow_table_inet",
    "nft_flow_offload",
    "nft_masq",
    "nft_nat",
    # Of folders: nobody loads them when a device comes, as udev would.
    "9p",
    "9pnet_virtio",
)
_INPUT_EVENT = struct.Struct("@llHHi")
_EV_KEY, _KEY_POWER = 1, 116


def set_up() -> None:
    """Make the system that the services need, as far as every machine has it. Raises ``BootError``."""
    system.prepare()
    system.name_ports()
    system.reboot(power.RB_DISABLE_CAD)  # Ctrl-Alt-Del arrives as SIGINT
    network.up()


def wait(*loaded: int) -> None:
    """Return when the services have loaded what they need, each of which then closes its descriptor."""
    for descriptor in loaded:
        os.read(descriptor, 1)
        os.close(descriptor)


def begin(rehearsing: int) -> None:
    """Become the machine that the host's seed tells of, with its data disk. Raises ``BootError``.

    Args:
        rehearsing: descriptor by which a service that is held is told to rehearse its beginning meanwhile.

    While this waits for the seed the host may save the VM, and start others from what it has saved. So nothing of a machine is
    known until then, not even its disk. Where the hypervisor has no such port, nobody saves VMs, and the seed is on a disk.
    """
    data = disk.let_go()
    bytecode.put_by()
    told = _from_port() if os.path.exists(SEED_PORT) else _from_disk()
    bytecode.forget()
    with contextlib.suppress(OSError):  # it has ended, and is started again like any other
        os.write(rehearsing, b"\n")
    seed.apply(told)
    disk.attach(disk.take(data))
    disk.tidy()


def _from_port() -> bytes:
    """The seed, once the host gives it. Raises ``BootError``."""
    try:
        port = os.open(SEED_PORT, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise BootError(f"the host's port for a seed cannot be opened: {error.strerror}") from error
    told = seed.receive(port, {bytecode.ASKED: bytecode.give})
    os.close(port)
    return told


def _from_disk() -> bytes:
    """The seed that has been there before the VM was. Raises ``BootError``."""
    from coved.boot import seeddisk  # no QEMU has one

    return seeddisk.take()


class Init:
    """Waits for children that end, connections for sshd, the power button and orders; nothing is periodic."""

    def __init__(self, engine: Service, spawner: Service, streams: Service) -> None:
        self._engine = engine
        self._services = (spawner, engine, streams)
        self._ssh = Ssh()
        self._button = self._modules = -1
        self._wake, wake_writer = socket.socketpair()
        self._wake.setblocking(False)
        wake_writer.setblocking(False)
        self._wake_writer = wake_writer
        self._due: dict[Service, float] = {}
        self._selector = selectors.EpollSelector()

    def take_signals(self) -> None:
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, *ORDERS):
            signal.signal(number, lambda *_: None)
        self._selector.register(self._wake, selectors.EVENT_READ)

    def load_modules(self) -> None:
        """In the background, while services load what they need."""
        self._modules = spawn(("/usr/sbin/modprobe", "-a", *MODULES), {})

    def modules_loaded(self) -> None:
        """Return when they are. One saved before would go on with it in each start, and for a module the kernel patches itself."""
        os.waitpid(self._modules, 0)
        self._button = _power_button()
        if self._button >= 0:
            self._selector.register(self._button, selectors.EVENT_READ)

    def run(self) -> None:
        """Serve until the order to end comes. Does not return."""
        ssh = self._ssh
        self._selector.register(ssh.listener, selectors.EVENT_READ)
        while True:
            for key, _ in self._selector.select(self._timeout()):
                if key.fileobj is ssh.listener:
                    ssh.accept()
                elif key.fileobj is self._wake:
                    self._signals()
                elif _pressed(self._button):
                    power.down(self._engine.pid, power.RB_POWER_OFF)
            now = time.monotonic()
            for service in [service for service, due in self._due.items() if due <= now]:
                del self._due[service]
                service.start()

    def _timeout(self) -> float | None:
        return max(0.0, min(self._due.values()) - time.monotonic()) if self._due else None

    def _signals(self) -> None:
        for number in self._wake.recv(4096):
            if number in ORDERS:
                power.down(self._engine.pid, ORDERS[signal.Signals(number)])
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            self._ssh.children.discard(pid)
            if pid == self._engine.pid and os.waitstatus_to_exitcode(status) == UNFIT:
                say(f"cannot go on: {said(self._engine.name) or 'the engine does not fit the data'}")
                power.down(0, power.RB_POWER_OFF)
            for service in self._services:
                if service.pid == pid:
                    self._due[service] = time.monotonic() + service.ended(os.waitstatus_to_exitcode(status))


def _power_button() -> int:
    """The input device of the power button (linux/input.h), ACPI's or that of a board without it, or -1."""
    for name in os.listdir("/sys/class/input") if os.path.isdir("/sys/class/input") else ():
        try:
            with open(f"/sys/class/input/{name}/device/name") as file:
                if name.startswith("event") and file.read().strip() in ("Power Button", "gpio-keys"):
                    return os.open(f"/dev/input/{name}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
    say("this VM has no power button")
    return -1


def _pressed(button: int) -> bool:
    try:
        data = os.read(button, 64 * _INPUT_EVENT.size)
    except BlockingIOError:
        return False
    events = (_INPUT_EVENT.unpack_from(data, offset) for offset in range(0, len(data), _INPUT_EVENT.size))
    return any(kind == _EV_KEY and code == _KEY_POWER and value == 1 for _, _, kind, code, value in events)
