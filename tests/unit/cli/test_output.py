"""Files that --output names appear whole, with the mode that docker gives them, or not at all."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from cove.cli.errors import CliError
from cove.cli.output import check_file, write_file, write_stdout


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")
    write_file(str(target), [b"new", b"er"])
    assert target.read_bytes() == b"newer"
    assert stat.S_IMODE(target.stat().st_mode) == 0o600

    def broken() -> Iterator[bytes]:
        yield b"part"
        raise CliError("the engine closed the connection")

    with pytest.raises(CliError, match="closed"):
        write_file(str(target), broken())
    assert target.read_bytes() == b"newer"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_no_file_takes_the_place_of(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    check_file(str(tmp_path / "file"), "no")
    check_file(str(tmp_path / "new"), "no")
    check_file("new", "no")
    for path, reason in (
        (str(tmp_path), "cannot write to a directory"),
        (f"{tmp_path}/link", "cannot write to a symbolic link directly"),
        (f"{tmp_path}/pipe", "cannot write to a named pipe (FIFO)"),
        (f"{tmp_path}/socket", "cannot write to a socket"),
        ("/dev/null", "cannot write to a character device file"),
        (f"{tmp_path}/no/x", f"invalid output path: stat {tmp_path}/no: no such file or directory"),
        (f"{tmp_path}/file/x", f"invalid output path: stat {tmp_path}/file: not a directory"),
    ):
        with pytest.raises(CliError) as told:
            check_file(path, "failed")
        assert told.value.message == f"failed: {reason}"


def test_a_full_disk_is_told_in_docker_s_words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def full(descriptor: int, data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(CliError, match=r"^write /dev/stdout: no space left on device$"):
        write_stdout([b"x"])
    with pytest.raises(CliError, match=rf"^write {tmp_path}/\.tmp-x.*: no space left on device$"):
        write_file(str(tmp_path / "x"), [b"x"])
    assert not list(tmp_path.iterdir())
