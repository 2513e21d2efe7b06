"""A model of Hyper-V for tests of the driver: it knows each script by its text, and does what the script would."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cove.drivers.hyperv import scripts
from cove.drivers.hyperv.powershell import PowerShell, Script, ScriptError
from cove.image import vhdx
from coved.streams.knock import HYPERV_SERVICE

GOOD = {
    "version": "10.0.22631.0", "module": True, "service": "Running", "hypervisor": True, "may": True, "registered": True,
}  # fmt: skip
COMMANDS = "Microsoft.HyperV.PowerShell.Commands"


def gone() -> ScriptError:
    return ScriptError("it was not found", f"ObjectNotFound,{COMMANDS}.GetVM", "ObjectNotFound")


@dataclass
class Vm:
    name: str
    notes: str
    state: str = "Off"
    pid: int = 0
    disks: list[str] = field(default_factory=list)
    sizes: tuple[int, int] = (0, 0)


def make_disk(path: Path, size: int) -> None:
    with path.open("wb") as output:
        vhdx.write((), size, output)


def size_of(path: Path) -> int:
    with path.open("rb") as file:
        return vhdx.virtual_size(file)


class Pipe(asyncio.Transport):
    def close(self) -> None:
        pass


class HyperV(PowerShell):
    """Its disks are empty ones; its consoles are transports that a test may abort."""

    def __init__(self) -> None:
        super().__init__(["none"])
        self.host: dict[str, Any] = dict(GOOD)
        self.vms: dict[str, Vm] = {}
        self.switches: Any = "Default Switch"
        self.fails: dict[str, Exception] = {}
        """By the name of a script."""
        self.ran: list[str] = []
        self.hangs_on_turn_off = False
        self.guest_obeys = True
        self.consoles: list[asyncio.Protocol] = []
        self.no_console: OSError | None = None
        self.heard = asyncio.Event()
        """Set when a console is connected."""

    async def open_console(self, factory: Callable[[], asyncio.Protocol], address: str) -> Any:
        if self.no_console is not None:
            raise self.no_console
        protocol = factory()
        protocol.connection_made(Pipe())
        self.consoles.append(protocol)
        self.heard.set()
        return None, protocol

    def ended(self, vm: Vm, state: str = "Off") -> None:
        vm.state, vm.pid = state, 0
        for one in self.consoles:
            one.connection_lost(None)
        self.consoles.clear()

    async def run(self, script: str, timeout_s: float | None = None) -> Any:
        return self.run_blocking(script)

    def run_blocking(self, script: str) -> Any:
        name, values = recognized(script)
        self.ran.append(name)
        if name in self.fails:
            raise self.fails[name]
        return getattr(self, f"_{name.lower()}")(**values)

    def _vm(self, id: str) -> Vm:
        if id not in self.vms:
            raise gone()
        return self.vms[id]

    def _host(self, services: str, service: str) -> Any:
        assert services.startswith("HKLM:") and service == HYPERV_SERVICE
        return self.host

    def _switches(self, id: str) -> Any:
        return self.switches

    def _find(self, name: str) -> Any:
        found = [{"id": id, "notes": vm.notes} for id, vm in self.vms.items() if vm.name == name]
        return found[0] if len(found) == 1 else found or None

    def _create(self, name: str, memory: int, folder: str, notes: str, console: str) -> str:
        id = str(uuid.uuid4())
        self.vms[id] = Vm(name, notes)
        Path(folder).mkdir()
        return id

    def _create_disk(self, disk: str, size: int) -> None:
        if not Path(disk).exists():
            make_disk(Path(disk), size)

    def _equip(
        self, id: str, cpus: int, memory: int, system: str, boot_disk: str, data: str, size: int,
        seed: str, switch: str,
    ) -> None:  # fmt: skip
        vm = self._vm(id)
        if vm.state not in ("Off", "Saved"):
            raise ScriptError("it is not off", f"InvalidState,{COMMANDS}.SetVMProcessor")
        vm.state = "Off"
        make_disk(Path(data), max(size, size_of(Path(data))))
        Path(system).write_text(boot_disk)
        assert Path(seed).read_bytes().startswith(b"vhdxfile")
        vm.disks, vm.sizes = [system, data, seed], (cpus, memory)

    def _start(self, id: str) -> None:
        vm = self._vm(id)
        vm.state, vm.pid = "Running", 4711

    def _look(self, id: str) -> Any:
        vm = self._vm(id)
        return {"state": vm.state, "pid": vm.pid}

    def _shut_down(self, id: str) -> None:
        if self.guest_obeys:
            self.ended(self._vm(id))

    def _turn_off(self, id: str) -> None:
        vm = self._vm(id)
        if vm.state not in ("Off", "Saved") and not self.hangs_on_turn_off:
            self.ended(vm)

    def _end_worker(self, pid: int) -> None:
        for vm in self.vms.values():
            if vm.pid == pid:
                self.ended(vm)

    def _save(self, id: str) -> None:
        self.ended(self._vm(id), "Saved")

    def _continue(self, id: str) -> None:
        self._vm(id).state = "Running"

    def _remove(self, id: str, paths: list[str]) -> None:
        self.vms.pop(id, None)
        for path in map(Path, paths):
            if path.is_dir():
                path.rmdir()
            else:
                path.unlink(missing_ok=True)


_MARKS = "'\u2018\u2019\u201a\u201b"


def recognized(script: str) -> tuple[str, dict[str, Any]]:
    """Which script it is, and its values."""
    literal = f"'(?:[^{_MARKS}]|[{_MARKS}]{{2}})*'"
    for name, template in vars(scripts).items():
        if not isinstance(template, Script):
            continue
        seen: set[str] = set()
        pattern = ""
        for index, part in enumerate(re.split(r"<([a-z_]+)>", template.text.strip())):
            if index % 2 == 0:
                pattern += re.escape(part)
            else:
                pattern += f"(?P={part})" if part in seen else rf"(?P<{part}>{literal}|\d+|@\((?:(?:, )?{literal})*\))"
                seen.add(part)
        if match := re.fullmatch(pattern, script):
            return name, {place: _value(text, literal) for place, text in match.groupdict().items()}
    raise AssertionError(f"no script of the driver: {script}")


def _value(text: str, literal: str) -> Any:
    if text.startswith("@("):
        return [_value(one, literal) for one in re.findall(literal, text)]
    return re.sub(f"[{_MARKS}]([{_MARKS}])", r"\1", text[1:-1]) if text.startswith("'") else int(text)
