"""The drawing of progress: what docker's own client draws (docker_progress.json), and where Cove's does better."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cove.cli import jsonmessage
from cove.cli.errors import CliError
from told_engine import COVE, Engine, engine_at, on_terminal, stream

RECORDED = json.loads(Path(__file__).with_name("docker_progress.json").read_text())


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with engine_at(tmp_path / "engine.sock") as made:
        yield made


@pytest.fixture
def environment(engine: Engine, tmp_path: Path) -> dict[str, str]:
    return os.environ | {"COVE_HOST": engine.url, "DOCKER_CONFIG": str(tmp_path), "TZ": "UTC"}


@pytest.mark.parametrize("columns", list(RECORDED["drawn"]))
def test_a_terminal_sees_what_docker_draws(engine: Engine, environment: dict[str, str], columns: str) -> None:
    engine.answers["POST", "/images/create"] = 200, stream(RECORDED["messages"])
    drawn = on_terminal([*COVE, "pull", "x:1"], 24, int(columns), environment)
    assert drawn == (1, RECORDED["drawn"][columns])


def test_a_pipe_gets_what_docker_tells_it(engine: Engine, environment: dict[str, str]) -> None:
    engine.answers["POST", "/images/create"] = 200, stream(RECORDED["messages"])
    done = subprocess.run([*COVE, "pull", "x:1"], env=environment, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout, done.stderr) == (1, RECORDED["piped"], RECORDED["told"])


def screen(printed: str, rows: int, columns: int) -> list[str]:
    """What stands on a terminal of that size after `printed`, and above it what has left it at the top."""
    lines, gone, row, column = [""] * rows, [], 0, 0
    for piece in re.findall(r"\x1b\[\d*[A-Za-z]|[^\x1b]", printed):
        count = int(re.sub(r"\D", "", piece) or 1) if piece.startswith("\x1b") else 0
        if piece.endswith("A") and count:
            row = max(row - count, 0)
        elif piece.endswith("B") and count:
            row = min(row + count, rows - 1)
        elif piece.endswith("K") and count:
            lines[row] = ""
        elif piece == "\r":
            column = 0
        elif piece == "\n" or column == columns:
            row, column = row + 1, 0
            if row == rows:
                gone.append(lines.pop(0))
                lines.append("")
                row -= 1
        if len(piece) == 1 and piece not in "\r\n":
            lines[row] = lines[row].ljust(column)[:column] + piece + lines[row][column + 1 :]
            column += 1
    return [line.rstrip() for line in [*gone, *lines]]


def layers(count: int) -> list[dict[str, Any]]:
    """The progress of `count` layers, in turns."""
    names = [f"layer{number:07d}" for number in range(count)]
    steps: list[tuple[str, dict[str, int]]] = [
        ("Waiting", {}),
        *(("Downloading", {"current": part, "total": 4000000}) for part in (1, 2000000, 4000000)),
        ("Pull complete", {}),
    ]
    return [{"id": name, "status": status, "progressDetail": detail} for status, detail in steps for name in names]


def test_a_narrow_terminal_keeps_a_line_for_each_layer(engine: Engine, environment: dict[str, str]) -> None:
    engine.answers["POST", "/images/create"] = 200, stream([*layers(3), {"status": "Done"}])
    status, printed = on_terminal([*COVE, "pull", "x:1"], 24, 30, environment)
    shown = [line for line in screen(printed.replace("\n", "\r\n"), 24, 30) if line]
    assert status == 0
    assert shown == [*(f"layer{number:07d}: Pull complete" for number in range(3)), "Done", "docker.io/library/x:1"]


def test_what_has_left_the_terminal_is_not_drawn_over_the_rest(engine: Engine, environment: dict[str, str]) -> None:
    engine.answers["POST", "/images/create"] = 200, stream([*layers(9), {"status": "Done"}])
    _, printed = on_terminal([*COVE, "pull", "x:1"], 6, 100, environment)
    shown = [line for line in screen(printed.replace("\n", "\r\n"), 6, 100) if line]
    names = [line.partition(":")[0] for line in shown[:9]]
    assert names == [f"layer{number:07d}" for number in range(9)]
    assert all(line.endswith(": Pull complete") for line in shown[4:9])
    assert shown[9:] == ["Done", "docker.io/library/x:1"]


def test_an_engine_cannot_move_the_cursor_in_a_layers_line(engine: Engine, environment: dict[str, str]) -> None:
    hostile = {"id": "a\x1b[2J", "status": "b\n\x9bc\r", "progressDetail": {}}
    engine.answers["POST", "/images/create"] = 200, stream([hostile])
    _, printed = on_terminal([*COVE, "pull", "x:1"], 24, 80, environment)
    assert printed == "\n\x1b[1A\x1b[2K\ra?[2J: b??c? \r\x1b[1Bdocker.io/library/x:1\n"


@pytest.mark.parametrize("answer", [b"[1]\n", b"no json\n", b'{"status": "cut', b"\xff\n"])
def test_what_is_no_message_is_a_failure_in_words(engine: Engine, environment: dict[str, str], answer: bytes) -> None:
    engine.answers["POST", "/images/create"] = 200, answer
    done = subprocess.run([*COVE, "pull", "x:1"], env=environment, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "the engine answered with something that is not JSON\n"


@pytest.mark.parametrize(
    ("detail", "drawn"),
    [
        ({}, ""),
        ({"current": "x", "total": None}, ""),
        ({"current": -5, "total": 10}, "[>" + " " * 50 + "]      -5B/10B"),
        ({"current": 10, "total": 100, "start": 1000}, "[=====>" + " " * 45 + "]      10B/100B 1m30s"),
        ({"current": 1, "total": 361, "start": 1000}, "[>" + " " * 50 + "]       1B/361B 1h0m0s"),
        ({"current": 100, "total": 100, "start": 1000}, "[" + "=" * 50 + ">]     100B/100B"),
        ({"current": 10, "total": 100, "start": 2000}, "[=====>" + " " * 45 + "]      10B/100B -2h28m30s"),
    ],
)
def test_progress_with_the_time_that_is_left(detail: dict[str, Any], drawn: str) -> None:
    assert jsonmessage.progress(detail, 200, now=1010.0) == drawn


def test_quiet_looks_for_failures_and_passes_on_what_is_told_aside() -> None:
    aside: list[Any] = []
    with pytest.raises(CliError, match="no more"):
        jsonmessage.show([{"status": "x"}, {"aux": {"a": 1}}, {"error": "no more"}], None, aside.append)
    assert aside == [{"a": 1}]


def test_a_failure_without_details_is_one(tmp_path: Path) -> None:
    with (tmp_path / "out").open("w") as out, pytest.raises(CliError, match="short"):
        jsonmessage.show([{"error": "short"}], out)
