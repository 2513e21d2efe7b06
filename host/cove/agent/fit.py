"""Whether this computer can hold what a machine's settings say: what it cannot is refused, what is unwise is told."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cove.agent import disk
from cove.drivers.qemu import binary, board, probe
from cove.errors import CoveError, SettingsError
from cove.machine import certificates, computer, effective
from cove.machine.architecture import here, named
from cove.machine.effective import Value
from cove.machine.paths import MachinePaths
from cove.machine.settings import SCHEMA, Settings
from cove.machine.sizes import approximate_size, format_size
from cove.share import choice, folders

SPARED = 8
"""So small a part of its memory this computer needs for itself."""
BEFORE_START = ("cpus", "memory", "disk", "accelerator", "bind_address")
"""What is told by a start beforehand; of what else does not fit it tells when it comes to it."""
_SYSTEMS = {"kvm": ("linux", "Linux"), "hvf": ("darwin", "macOS"), "whpx": ("win32", "Windows")}


@dataclass(frozen=True, slots=True)
class Misfit:
    """A setting that does not fit this computer. `refused`: it is not taken; `stops`: a machine with it cannot start."""

    key: str
    message: str
    hint: str = ""
    refused: bool = False
    stops: bool = False
    of_file: bool = True
    """Whether it is the file's word, as far as the file has it, and not a variable's or the policy's."""

    @property
    def words(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def misfits(paths: MachinePaths, wanted: Settings, keys: Collection[str] = tuple(SCHEMA)) -> list[Misfit]:
    """What does not fit of these settings. Blocks for a moment."""
    checks = dict.fromkeys(_CHECKS[key] for key in SCHEMA if key in keys and key in _CHECKS)
    return [one for check in checks for one in check(paths, wanted) if one.key in keys]


def of_values(paths: MachinePaths, values: Mapping[str, Value], keys: Collection[str] = tuple(SCHEMA)) -> list[Misfit]:
    """`misfits` of what is in force, each with the variable or the policy that says it."""
    wanted = Settings(**{name: found.value for name, found in values.items()})
    return [_of_origin(one, values[one.key]) for one in misfits(paths, wanted, keys)]


def look_before_start(paths: MachinePaths) -> list[str]:
    """What a start tells of. Raises `SettingsError` for what it would only fail of later."""
    return told(of_values(paths, effective.values(paths.settings), BEFORE_START))


def check_startable(paths: MachinePaths) -> None:
    """Raises `SettingsError` for what would keep a start from succeeding."""
    told(of_values(paths, effective.values(paths.settings)))


def told(found: list[Misfit]) -> list[str]:
    """The words of those that stop no start. Raises `SettingsError` for the others."""
    if stops := [one for one in found if one.stops]:
        raise refusal(stops)
    return [one.words for one in found]


def refusal(found: Collection[Misfit]) -> SettingsError:
    messages, hints = ([getattr(one, what) for one in found] for what in ("message", "hint"))
    return SettingsError("\n".join(dict.fromkeys(messages)), "\n".join(dict.fromkeys(filter(None, hints))))


def _of_origin(one: Misfit, found: Value) -> Misfit:
    if found.origin not in ("environment", "policy"):
        return one
    way = "ask your administrator" if found.origin == "policy" else f"unset {found.place}, or give it another value"
    return replace(one, message=f"{found.place}: {one.message}", hint=way, of_file=False)


def _set(paths: MachinePaths, key: str, value: object) -> str:
    if not paths.settings.exists():
        return f"make it with --{key} {value}"
    return f"cove config set{paths.option} {key} {value}"


def _processors(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    has = computer.processors()
    if wanted.cpus > has:
        yield Misfit(
            "cpus", f"cpus: {wanted.cpus} are more than this computer has ({has}), which makes a machine slower",
            _set(paths, "cpus", has),
        )  # fmt: skip


def _memory(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    has = computer.memory()
    if has is None:
        return
    half = format_size((has // 2 >> 30 << 30) or (has // 2 >> 20 << 20))
    if wanted.memory > has:
        yield Misfit(
            "memory", f"memory: {format_size(wanted.memory)} is more than this computer has ({approximate_size(has)})",
            _set(paths, "memory", half), refused=True,
        )  # fmt: skip
    elif wanted.memory > has - has // SPARED:
        yield Misfit(
            "memory",
            f"memory: {format_size(wanted.memory)} is nearly all that this computer has ({approximate_size(has)}): it is slow,"
            " or ends programs, once the machine uses that",
            _set(paths, "memory", half),
        )


def _disk(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    try:
        disk.check_size(paths, wanted.disk)
    except CoveError as error:
        yield Misfit("disk", error.message, error.hint, refused=True, stops=True)
        return
    place = paths.folder
    while not place.exists():
        place = place.parent
    has = shutil.disk_usage(place).total
    if wanted.disk > has and wanted.disk != Settings().disk:  # which nobody has asked for
        yield Misfit(
            "disk",
            f"disk: {format_size(wanted.disk)} is more than the disk that {paths.folder} is on has"
            f" ({approximate_size(has)}), which is full first",
        )


def _hypervisor(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    if wanted.driver == "auto":  # whatever there is
        return
    from cove.agent import hypervisor  # all of the drivers, for a check that few settings need

    if (wrong := hypervisor.unfit(paths, wanted)) is not None:
        yield Misfit("driver", wrong.message, wrong.hint, refused=True, stops=True)


def _accelerator(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    name = wanted.accelerator
    system, called = _SYSTEMS.get(name, (sys.platform, ""))
    way = _set(paths, "accelerator", "auto")
    if system != sys.platform:
        system = {"linux": "Linux", "darwin": "macOS", "win32": "Windows"}.get(sys.platform, sys.platform)
        text = f"accelerator: {name} is of {called}, and this computer has {system}"
        yield Misfit("accelerator", text, way, refused=True, stops=True)
    elif called and (kind := named(wanted.architecture)) != here():
        text = f"accelerator: {name} runs processors of this computer's kind ({here().name}), and architecture is {kind.name}"
        for key in ("accelerator", "architecture"):
            yield Misfit(key, text, way, refused=True, stops=True)
    elif reason := probe.unusable(name):
        yield Misfit("accelerator", f"accelerator: {name} does not work here now: {reason}", way, stops=True)


def _address(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    if not computer.has_address(wanted.bind_address):
        yield Misfit(
            "bind_address",
            f"bind_address: {wanted.bind_address} is none of this computer's addresses now: ports cannot be published there",
            "127.0.0.1 is this computer alone, 0.0.0.0 all its addresses",
        )


def _program(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    if not wanted.qemu:  # it is searched for, and told of when it is needed
        return
    try:
        binary.version(binary.find(wanted.qemu, named(wanted.architecture)))
    except CoveError as error:
        said, _, _ = error.message.partition("\n")
        way = f"name a {board.of(named(wanted.architecture)).program}, or have it searched for: " + _set(
            paths, "qemu", "''"
        )
        yield Misfit("qemu", f"qemu: {said}", way, refused=True, stops=True)


def _folders(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    try:
        _, said = folders.wanted(wanted)
    except SettingsError as error:
        for key in ("share_home", "shared_folders"):  # either can mend it
            yield Misfit(key, error.message, error.hint, refused=True, stops=True)
        return
    for line in said:
        key = "share_home" if line.startswith(f"{Path.home()} is ") else "shared_folders"
        yield Misfit(key, f"{key}: {line}")


def _driver(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    if wanted.folder_driver == "auto":
        return
    try:
        choice.choose(wanted.folder_driver, binary.find(wanted.qemu, named(wanted.architecture)))
    except SettingsError as error:
        yield Misfit("folder_driver", error.message, error.hint, stops=True)
    except CoveError:  # no QEMU: another check's business
        return


def _certificates(paths: MachinePaths, wanted: Settings) -> Iterator[Misfit]:
    try:
        for one in wanted.extra_certificates:
            certificates.of_file(Path(one).expanduser())
    except SettingsError as error:
        yield Misfit("extra_certificates", error.message, error.hint, refused=True)


_CHECKS: dict[str, Callable[[MachinePaths, Settings], Iterator[Misfit]]] = {
    "cpus": _processors,
    "memory": _memory,
    "disk": _disk,
    "driver": _hypervisor,
    "accelerator": _accelerator,
    "architecture": _accelerator,
    "bind_address": _address,
    "qemu": _program,
    "share_home": _folders,
    "shared_folders": _folders,
    "folder_driver": _driver,
    "extra_certificates": _certificates,
}
