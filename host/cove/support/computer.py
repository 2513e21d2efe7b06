"""Checks of this computer: what a machine needs of it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from cove.errors import CoveError
from cove.local.sockets import url
from cove.machine import effective, ownership, policy
from cove.machine.architecture import named
from cove.machine.paths import DEFAULT_MACHINE, MachinePaths, cache_dir, data_dir, machines_dir, runtime_dir
from cove.machine.settings import SCHEMA
from cove.machine.sizes import approximate_size, format_size
from cove.support.findings import NOTE, OK, PROBLEM, WARNING, Found, cove_of, settings_of

LEAST_QEMU = (7, 2)
"""Debian 12's; nobody has tried older ones (docs/install.md). What is refused, the channels to QEMU say."""
TORN_QEMU = (8, 1)
"""Before it software emulation may run a torn instruction (docs/troubleshooting.md)."""
NEEDED = 3 << 30
"""Bytes for an image, its packages and a machine's first containers."""
SCARCE = 512 << 20
OTHER_VARIABLES = (
    "COVE_HOME",
    "COVE_MACHINE",
    "COVE_HOST",
    "COVE_DEBUG",
    "COVE_DEBIAN_MIRROR",
    "COVE_DEBIAN_SECURITY_MIRROR",
)
"""Those of Cove's that are not of a setting."""
USUAL = "registry-1.docker.io"


def look_at_versions() -> Found:
    import platform
    from importlib import metadata

    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    yield OK, f"Cove {metadata.version('cove')}, Python {platform.python_version()}, {system}"


def look_at_policy() -> Found:
    try:
        found = policy.load()
    except CoveError as error:
        yield PROBLEM, error.message, error.hint
        return
    if found.file is None:
        yield OK, f"there is no administrator's policy ({policy.place()})"
        return
    rules = [f"locked: {', '.join(found.locked)}"] if found.locked else []
    if found.allowed_registries is not None:
        rules.append(f"registries allowed: {', '.join(found.allowed_registries) or 'none'}")
    yield NOTE, f"{found.file}: {'; '.join(rules) or 'says nothing'}"


def look_at_settings(paths: MachinePaths, environment: Mapping[str, str]) -> Found:
    import difflib

    known = [*OTHER_VARIABLES, *(effective.variable(name) for name in SCHEMA)]
    for name in sorted(environment):
        if name.startswith("COVE_") and name not in known and (close := difflib.get_close_matches(name, known, 1, 0.8)):
            yield WARNING, f"the variable {name} means nothing to Cove", f"did you mean {close[0]}?"
    try:
        values = effective.values(paths.settings, environment)
    except CoveError as error:
        if paths.settings.exists():
            yield PROBLEM, error.message, error.hint
        elif paths.name == DEFAULT_MACHINE:
            yield NOTE, "there is no machine yet", "the first command that needs one makes it; or: cove machine start"
        else:
            yield (
                PROBLEM,
                f"there is no machine {paths.name}",
                f"see those that exist with: cove machine list; or make it: cove machine init {paths.name}",
            )
        return
    over = [f"{name} by {each.place}" for name, each in values.items() if each.origin in ("environment", "policy")]
    yield OK, f"{paths.settings} is in order" + (f"; overridden: {', '.join(over)}" if over else "")
    yield from _resources(values["cpus"].value, values["memory"].value, cove_of(paths))


def _resources(cpus: int, memory: int, cove: str) -> Found:
    has = os.cpu_count() or 1
    if cpus > has:
        yield (
            WARNING,
            f"the machine has {cpus} CPUs, this computer {has}",
            f"give it fewer: {cove} config set cpus {has}",
        )
    if sys.platform == "win32":
        return
    with contextlib.suppress(ValueError, OSError):
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        if memory > whole:
            yield (
                WARNING, f"the machine may take {format_size(memory)}, this computer has {approximate_size(whole)}",
                f"give it less: {cove} config set memory 2GiB",
            )  # fmt: skip


def look_at_hypervisor(paths: MachinePaths) -> Found:
    from cove.agent import hypervisor
    from cove.drivers.qemu import binary, channels

    name = hypervisor.settled(paths, settings_of(paths))
    if name != hypervisor.QEMU:
        if (wrong := _without_hyperv(paths)) is None:
            yield OK, "Hyper-V is ready for Cove"
            return
        if name == hypervisor.HYPERV:
            yield PROBLEM, wrong.message, wrong.hint
            return
        yield NOTE, f"QEMU is to run the machine: {wrong.message}", wrong.hint
    try:
        architecture = named(settings_of(paths).architecture)
        program = binary.find(settings_of(paths).qemu, architecture)
        version = binary.version(program)
    except CoveError as error:
        yield PROBLEM, error.message, error.hint
        return
    number = tuple(int(part) for part in version.split(".")[:2])
    if number < (needed := channels.of(paths).oldest):
        least = ".".join(map(str, needed))
        yield (
            PROBLEM,
            f"QEMU {version} ({program}) is too old: {least} is needed here",
            binary.install_hint(architecture),
        )
    elif number < LEAST_QEMU:
        least = ".".join(map(str, LEAST_QEMU))
        yield (
            WARNING,
            f"QEMU {version} ({program}) is old: Cove is tested with {least} and later",
            binary.install_hint(architecture),
        )
    else:
        yield OK, f"QEMU {version}, {program}"


def _without_hyperv(paths: MachinePaths) -> CoveError | None:
    """Why Hyper-V cannot run it."""
    from cove.agent import hypervisor
    from cove.drivers.hyperv.driver import HyperVDriver

    return hypervisor.unusable(HyperVDriver(paths))


def look_at_virtualisation(paths: MachinePaths) -> Found:
    from cove.agent import hypervisor
    from cove.drivers.qemu import binary, probe
    from cove.image import store

    name = hypervisor.settled(paths, settings_of(paths))
    if name == hypervisor.HYPERV or (not name and _without_hyperv(paths) is None):
        yield NOTE, "Hyper-V's own"
        return
    wanted = settings_of(paths)
    architecture = named(wanted.architecture)
    try:
        program = binary.find(wanted.qemu, architecture)
    except CoveError:
        yield NOTE, "without QEMU nothing can be said of it"
        return
    image = store.current(architecture)
    try:
        if image is not None:
            _, found = probe.choose(program, architecture, image.kernel, wanted.accelerator)
        else:
            found = probe.run(program, architecture, probe.candidates(wanted.accelerator, architecture))
    except CoveError as error:
        yield PROBLEM, error.message, error.hint
        return
    if found.accelerator != "tcg":
        yet = "" if image is not None else "; whether it boots the machine's kernel is tried at the first start"
        yield OK, f"{found.accelerator} runs code on this computer's processors{yet}"
        return
    yield (
        WARNING,
        f"software emulation (tcg), five to ten times slower: {found.reason or 'the settings want it'}",
        _virtually(found.reason, cove_of(paths)),
    )
    with contextlib.suppress(CoveError):
        version = binary.version(program)
        if tuple(int(part) for part in version.split(".")[:2]) < TORN_QEMU:
            yield (
                NOTE, f"QEMU {version} can make the guest's kernel panic under software emulation, rarely",
                "QEMU 8.1 and later do not; the machine is booted again by its next client",
            )  # fmt: skip


def _virtually(reason: str, cove: str) -> str:
    if "permission denied" in reason:
        return "sudo usermod -aG kvm $USER, and log in again"
    if "absent" in reason:
        return (
            "turn virtualisation on in the firmware (BIOS: VT-x, AMD-V), or, in a virtual machine, nested virtualisation;"
            " then: sudo modprobe kvm_intel (or kvm_amd)"
        )
    if "failed:" in reason:
        return "the accelerator is there and refuses: look into the system's log (dmesg); in a virtual machine, ask who runs it"
    if "did not boot" in reason or "ran no guest code" in reason:
        return "this computer is a virtual machine whose nested virtualisation does not work: ask who runs it"
    return f"{cove} config set accelerator auto takes the best there is"


def look_at_room() -> Found:
    for what, folder in (("data", data_dir()), ("downloads", cache_dir())):
        place = folder
        while not os.path.exists(place):  # noqa: PTH110 - Path.exists raises where it may not look
            place = place.parent
        free = shutil.disk_usage(place).free
        text = f"{what}: {approximate_size(free)} are free in {folder}"
        fix = (
            "remove what is not needed there (cove system prune frees what is in the machine), or set COVE_HOME to a folder"
            " on another disk"
        )
        if free < SCARCE:
            yield PROBLEM, text, fix
        elif free < NEEDED:
            yield WARNING, f"{text}, which is little", fix
        else:
            yield OK, text
        if not os.access(place, os.W_OK):
            yield (
                PROBLEM,
                f"you cannot write to {place}",
                f"it is needed for Cove's {what}: {ownership.way_out(folder)}",
            )


def look_at_image(paths: MachinePaths) -> Found:
    from cove.image import store

    image = store.current(named(settings_of(paths).architecture))
    if image is None:
        yield (
            NOTE,
            "the VM image has not been built, or a part of it is missing",
            "it is built at the first start (a minute), or by: cove vm-image build",
        )
        return
    if spoilt := store.spoilt(image):
        yield (
            PROBLEM,
            f"{', '.join(map(str, spoilt))} is not what was built",
            f"remove it, and it is built again: rm -r '{image.directory}'; if it happens again, look at the disk",
        )
        return
    yield OK, f"the VM image {image.digest[:12]} is whole"


def look_at_name_service() -> Found:
    begin = time.monotonic()
    try:
        found = socket.getaddrinfo(USUAL, 443, type=socket.SOCK_STREAM)
    except OSError as error:
        yield (
            WARNING, f"this computer does not find {USUAL}: {error.strerror or error}",
            "without a network that is so; behind a proxy, or with a mirror (registry_mirrors), it may be meant",
        )  # fmt: skip
        return
    yield OK, f"{USUAL} is found ({found[0][4][0]}) in {(time.monotonic() - begin) * 1000:.0f} ms"


def look_at_docker(paths: MachinePaths, environment: Mapping[str, str]) -> Found:
    import json

    from cove.machine import docker_context

    program = shutil.which("docker")
    if program is None:
        yield NOTE, "there is no docker client; cove does its work", "alias docker=cove"
    else:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=4, check=False, stdin=subprocess.DEVNULL
        )
        match = re.search(r"version ([\w.+~-]+)", done.stdout)
        yield OK, f"docker's client {match[1] if match else 'of an unknown version'}, {program}"
    name = docker_context.name_for(paths.name)
    meta = docker_context.meta_file(paths.name)
    for variable in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        if (value := environment.get(variable)) and value not in (url(paths.docker_socket), name):
            yield (
                NOTE,
                f"{variable} is set: docker's client does not use Cove without --context {name}",
                f"unset {variable}",
            )
    if not paths.settings.exists():
        return
    try:
        host = json.loads(meta.read_text("utf-8"))["Endpoints"]["docker"]["Host"]
    except FileNotFoundError:
        yield (
            WARNING,
            f"docker's client has no context {name}",
            f"docker context create {name} --docker host={url(paths.docker_socket)}",
        )
        return
    except (OSError, ValueError, KeyError, TypeError):
        yield WARNING, f"the docker context {name} cannot be read: {meta}", f"docker context rm -f {name}"
        return
    if host != url(paths.docker_socket):
        yield (
            WARNING, f"the docker context {name} is of another place: {host}",
            f"docker context update {name} --docker host={url(paths.docker_socket)}",
        )  # fmt: skip
    else:
        yield OK, f"the docker context {name} leads to the machine"


def look_at_permissions(paths: MachinePaths) -> Found:
    import stat

    try:
        socket_path = paths.docker_socket
    except CoveError as error:
        yield PROBLEM, error.message, error.hint
        return
    if sys.platform == "win32":
        yield OK, "folders are below the user's profile"
        return
    wrong = False
    others: list[Path] = []
    for path, allowed in (
        (data_dir(), 0o7777), (machines_dir(), 0o7777), (paths.folder, 0o700), (runtime_dir(), 0o700), (paths.run_dir, 0o700),
        (paths.settings, 0o7777), (socket_path, 0o600), (paths.ssh_key, 0o600), (paths.host_key, 0o600), (paths.suspended, 0o600),
    ):  # fmt: skip
        if any(path.is_relative_to(each) for each in others):
            continue  # it goes with that one
        with contextlib.suppress(OSError):  # what lies where one may not look is told of by its folder
            info = path.lstat()
            mode = stat.S_IMODE(info.st_mode)
            if info.st_uid != os.getuid():
                wrong = True
                others.append(path)
                yield PROBLEM, f"{path} belongs to user {info.st_uid}, not to you", f"sudo chown -R $USER '{path}'"
            elif stat.S_ISDIR(info.st_mode) and mode & 0o700 != 0o700:
                wrong = True
                yield PROBLEM, f"you may not use {path} yourself", f"chmod {mode & allowed | 0o700:03o} '{path}'"
            elif mode & ~allowed:
                wrong = True
                yield PROBLEM, f"others may use {path} (mode {mode:04o})", f"chmod {allowed:03o} '{path}'"
    if not wrong:
        yield OK, f"sockets and keys are yours alone ({Path(paths.run_dir)})"
