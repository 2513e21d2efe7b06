"""Which disk is the data's where a hypervisor gives disks no serial numbers: the one that is Cove's, never anybody else's."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from coved.boot import disk
from coved.boot.console import BootError

BLANK = bytes(1 << 16)


def ext4(label: bytes) -> bytes:
    head = bytearray(BLANK)
    struct.pack_into("<H", head, 1024 + 56, 0xEF53)
    struct.pack_into("<II", head, 1024, 0, 1024)
    head[1024 + 120 : 1024 + 120 + len(label)] = label
    return bytes(head)


OURS, FOREIGN, PARTITIONED = ext4(b"cove-data"), ext4(b"holidays"), bytes(510) + b"\x55\xaa" + bytes(65024)


class Computer:
    def __init__(self, place: Path) -> None:
        self.blocks, self.devices = place / "block", place / "dev"
        self.blocks.mkdir()
        self.devices.mkdir()

    def add(
        self, name: str, head: bytes, serial: str = "", parts: int = 0, removable: bool = False, device: bool = True
    ) -> None:
        place = self.blocks / name
        place.mkdir()
        (self.devices / name).write_bytes(head)
        (place / "removable").write_text(f"{removable:d}\n")
        if device:
            (place / "device").mkdir()
        if serial:
            (place / "serial").write_text(f"{serial}\n")
        for number in range(1, parts + 1):
            (place / f"{name}{number}").mkdir()
            (place / f"{name}{number}/partition").write_text(f"{number}\n")

    def found(self) -> str:
        return disk.find(str(self.blocks), str(self.devices)).removeprefix(f"{self.devices}/")


@pytest.fixture
def computer(tmp_path: Path) -> Computer:
    return Computer(tmp_path)


def test_a_serial_number_decides(computer: Computer) -> None:
    computer.add("sda", OURS)
    computer.add("vda", BLANK, serial="cove-system")
    computer.add("vdb", BLANK, serial="cove-data")
    assert computer.found() == "vdb"


def test_the_disk_with_coves_file_system_is_taken(computer: Computer) -> None:
    computer.add("sda", PARTITIONED, parts=2)
    computer.add("sdb", BLANK)
    computer.add("sdc", OURS)
    computer.add("sdd", FOREIGN)
    assert computer.found() == "sdc"


def test_the_first_boot_takes_the_blank_one(computer: Computer) -> None:
    computer.add("sda", PARTITIONED, parts=2)
    computer.add("sdb", BLANK)
    computer.add("sr0", BLANK, removable=True)
    computer.add("loop0", BLANK, device=False)
    assert computer.found() == "sdb"


@pytest.mark.parametrize(
    ("disks", "message"),
    [
        ([FOREIGN], "none is"),
        ([PARTITIONED], "none is"),
        ([b""], "none is"),
        ([], "none is"),
        ([BLANK, BLANK], "more than one"),
        ([OURS, OURS, BLANK], "more than one"),
    ],
)
def test_in_doubt_none_is_taken(computer: Computer, disks: list[bytes], message: str) -> None:
    for index, head in enumerate(disks):
        computer.add(f"sd{'abc'[index]}", head)
    with pytest.raises(BootError, match=message):
        computer.found()
