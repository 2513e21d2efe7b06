"""The seed on a disk of its own: found among others, taken once."""

from __future__ import annotations

from pathlib import Path

import pytest
from coved.boot import disk, init, seeddisk, seedform
from coved.boot.console import BootError

SEED = b'{"version": 1}'


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(seeddisk, "COMES_S", 0.0)
    for name in ("block", "dev"):
        (tmp_path / name).mkdir()
    return tmp_path


def add(computer: Path, name: str, content: bytes) -> Path:
    (computer / "block" / name / "device").mkdir(parents=True)
    (computer / "block" / name / "removable").write_text("0\n")
    (computer / "dev" / name).write_bytes(content)
    return computer / "dev" / name


def take(computer: Path) -> bytes:
    return seeddisk.take(str(computer / "block"), str(computer / "dev"))


def test_it_is_taken_from_the_disk_that_says_what_it_is_and_once(computer: Path) -> None:
    add(computer, "sda", bytes(1 << 16))
    place = add(computer, "sdb", seedform.of(SEED))
    assert take(computer) == SEED
    assert SEED not in place.read_bytes() and place.stat().st_size == seedform.SIZE
    with pytest.raises(BootError, match="used up"):
        take(computer)


def test_a_computer_without_one_is_told_of(computer: Path) -> None:
    add(computer, "sda", b"something else".ljust(1 << 16, b"\0"))
    with pytest.raises(BootError, match="no port for a seed, and no disk"):
        take(computer)


def test_a_disk_that_comes_late_is_waited_for(computer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeddisk, "COMES_S", 10.0)
    monkeypatch.setattr(seeddisk.time, "sleep", lambda _: add(computer, "sda", seedform.of(SEED)))
    assert take(computer) == SEED


@pytest.mark.parametrize("taken", [False, True])
def test_nobody_takes_it_for_the_data_disk(computer: Path, taken: bool) -> None:
    add(computer, "sda", seedform.of(SEED))
    add(computer, "sdb", bytes(1 << 16))
    if taken:
        take(computer)
    assert disk.find(str(computer / "block"), str(computer / "dev")) == str(computer / "dev/sdb")


def test_the_port_is_asked_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A VM of QEMU's looks at no disk."""
    port = tmp_path / "port"
    monkeypatch.setattr(init, "SEED_PORT", str(port))
    monkeypatch.setattr(init.disk, "let_go", lambda: "")
    monkeypatch.setattr(init.bytecode, "put_by", lambda: None)
    monkeypatch.setattr(init, "_from_port", lambda: (_ for _ in ()).throw(BootError("the port's")))
    monkeypatch.setattr(seeddisk, "take", lambda: (_ for _ in ()).throw(BootError("the disk's")))
    with pytest.raises(BootError, match="the disk's"):
        init.begin(0)
    port.touch()
    with pytest.raises(BootError, match="the port's"):
        init.begin(0)


def test_a_seed_has_room_or_is_refused() -> None:
    most = bytes(seedform.SIZE - seedform.BEGIN - 1)
    assert len(seedform.of(most)) == seedform.SIZE
    with pytest.raises(ValueError, match="a seed has"):
        seedform.of(most + b"\0")
