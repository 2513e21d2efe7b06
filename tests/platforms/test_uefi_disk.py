"""The disk of `cove vm-image disk`, booted by real firmware to a working engine: what Hyper-V would do with it, as far as QEMU can."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import host_in_guest
import pytest
from cove.drivers.hyperv import seeddisk
from cove.machine import keys
from cove.machine.paths import MachinePaths
from coved.streams.key import KEY_SIZE
from machine_support import Machine, shared_cache
from uefi_vm import UefiVm, running

pytestmark = pytest.mark.timeout(1800)
NAME = "uefi"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("uefi")


@pytest.fixture(scope="module")
def paths(place: Path) -> Iterator[MachinePaths]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COVE_HOME", str(place / "home"))
        made = MachinePaths(NAME)
        made.folder.mkdir(parents=True)
        keys.ensure(made)
        yield made


@pytest.fixture(scope="module")
def disks(place: Path, paths: MachinePaths) -> dict[str, Path]:
    """The disk in both forms, and one for data."""
    (place / "home/user").mkdir()
    (place / "home/cache").symlink_to(shared_cache(), target_is_directory=True)
    cove = Machine(place / "home")
    made = {"vhdx": place / "boot.vhdx", "raw": place / "boot.raw", "data": place / "data.raw"}
    for form in ("vhdx", "raw"):
        cove.cove("vm-image", "disk", str(made[form]), timeout_s=600)
    made["data"].touch()
    os.truncate(made["data"], 2 << 30)
    return made


def said(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_others_read_the_disk(place: Path, disks: dict[str, Path]) -> None:
    """Their makers' tools find no fault in VHDX, partition table and FAT, and the program where firmware looks for it."""
    said("qemu-img", "check", "-f", "vhdx", disks["vhdx"])
    said("qemu-img", "compare", "-f", "raw", "-F", "vhdx", disks["raw"], disks["vhdx"])
    assert "No problems found" in said("sgdisk", "-v", disks["raw"])
    sizes = [line.split() for line in said("sgdisk", "-i", "1", disks["raw"]).splitlines()]
    first, sectors = (
        next(int(line[2]) for line in sizes if line[:2] == words)
        for words in (["First", "sector:"], ["Partition", "size:"])
    )
    volume = place / "volume.img"
    with disks["raw"].open("rb") as disk:
        disk.seek(first * 512)
        volume.write_bytes(disk.read(sectors * 512))
    said("fsck.vfat", "-n", volume)
    said("mcopy", "-n", "-i", volume, "::EFI/BOOT/BOOTX64.EFI", place / "boot.efi")
    assert (place / "boot.efi").read_bytes()[:2] == b"MZ"


def ran(vm: UefiVm) -> str:
    """What a container of the starter's image says. The image is loaded in the background of a first boot."""
    status = 404
    while status == 404:
        status, answer = vm.api(
            "POST", "/containers/create?name=hello", {"Image": "cove/starter", "Cmd": ["uname", "-s"], "Tty": True}
        )
    assert status == 201, answer
    assert vm.api("POST", "/containers/hello/start")[0] == 204
    assert vm.api("POST", "/containers/hello/wait")[0] == 200
    return vm.api("GET", "/containers/hello/logs?stdout=1")[1].decode().strip()


@pytest.fixture(scope="module")
def first(place: Path, paths: MachinePaths, disks: dict[str, Path]) -> dict[str, str]:
    """What a first boot of an empty disk came to, which has ended in order."""
    with running(place / "first", paths, [("vhdx", disks["vhdx"]), ("raw", disks["data"])]) as vm:
        assert vm.boot().boot_id == vm.boot_id
        found = {"container": ran(vm)}
        looks = {
            "names": "cat /etc/resolv.conf",
            "routes": "ip route",
            "firmware": "ls /sys/firmware/efi",
            "mounts": "cat /proc/mounts",
        }
        # By SSH, so the address that the network has given is that of the VM.
        found |= {what: vm.sh(script) for what, script in looks.items()}
        # What Hyper-V's service in the kernel runs when the host asks for an end.
        vm.sh("$(cat /proc/sys/kernel/poweroff_cmd)")
        vm.wait_off()
    return found


@pytest.mark.smoke
def test_firmware_boots_the_disk_to_a_working_engine(first: dict[str, str]) -> None:
    assert first["container"] == "Linux"
    assert "nameserver 10.0.2.3" in first["names"]
    assert "default via 10.0.2.2" in first["routes"]
    assert "efivars" in first["firmware"]
    assert "/dev/vdb /var/lib/cove ext4" in first["mounts"]


@pytest.mark.usefixtures("first")
def test_what_containers_have_left_is_there_whatever_the_disks_order_and_size(
    place: Path, paths: MachinePaths, disks: dict[str, Path]
) -> None:
    os.truncate(disks["data"], 3 << 30)
    # The other way round, and the other form: neither disk is known by its place.
    with running(place / "second", paths, [("raw", disks["data"]), ("raw", disks["raw"])]) as vm:
        assert vm.boot().boot_id == vm.boot_id
        assert vm.api("GET", "/containers/hello/json")[0] == 200
        assert "/dev/vda /var/lib/cove ext4" in vm.sh("cat /proc/mounts")
        assert int(vm.sh("df -k /var/lib/cove | tail -n 1").split()[1]) > 2 << 20
        assert "recover" not in vm.console
        vm.sh("kill -USR2 1")
        vm.wait_off()


BY_STREAMS = """
key = bytes.fromhex(open("/run/cove/streams_key").read())
transport = served(Here, key, 99)
port = sys.argv[1]
print(asked(transport, "/run/docker.sock", b"GET /_ping HTTP/1.0\\r\\n\\r\\n").split("\\r\\n\\r\\n")[-1])
print(asked(transport, "tcp:" + port, b"GET / HTTP/1.0\\r\\n\\r\\n").split()[1])
print(asked(transport, "tcp:22", b"hello\\r\\n").partition("-")[0])
try:
    transport.open_stream("tcp:9")
except Exception as error:
    print(error)
"""


def test_without_ports_seed_link_and_streams_find_another_way(
    place: Path, paths: MachinePaths, disks: dict[str, Path]
) -> None:
    """As under Hyper-V: the seed is on a disk, and all else goes by the streams' service, here by vsock within the VM."""
    seed, data = place / "data-seed.vhdx", place / "data-other.raw"
    data.touch()
    os.truncate(data, 2 << 30)
    listed = [("vhdx", disks["vhdx"]), ("raw", data), ("vhdx", seed)]
    boot_id, key = secrets.token_hex(16), secrets.token_hex(KEY_SIZE)
    seeddisk.write(seed, keys.seed(paths, boot_id, streams_key=key))
    assert seed.stat().st_mode & 0o777 == 0o600 and key.encode() in seed.read_bytes()
    with running(place / "third", paths, listed, ports=False) as vm:
        assert vm.boot_by_disk().boot_id == boot_id
        assert "/dev/vdb /var/lib/cove ext4" in vm.sh("cat /proc/mounts")
        body = {"Image": "cove/starter", "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}}
        status = 404
        while status == 404:  # the image is loaded in the background of a first boot
            status, answer = vm.api("POST", "/containers/create?name=page", body)
        assert status == 201, answer
        assert vm.api("POST", "/containers/page/start")[0] == 204
        (bound,) = vm.bound
        said = vm.sh(host_in_guest.line(BY_STREAMS, str(bound.guest_port))).splitlines()
        assert said[:3] == ["OK", "200", "SSH"] and "refused" in said[3], said
        # Whoever is on the VM's network has no way to what is published.
        assert 'iifname "lo"' in vm.sh("nft list chain inet cove prerouting")
        # The service that the host would come to is there, and the seed is not any more.
        taking = "from coved.boot import seeddisk; seeddisk.take()"
        tried = vm.sh(f"PYTHONPATH=/usr/lib/cove python3 -c '{taking}' 2>&1 || true")
        assert "its seed is used up" in tried
        assert "streams ended" not in vm.console
        vm.sh("kill -USR2 1")
        vm.wait_off()
    assert key.encode() not in seed.read_bytes()
