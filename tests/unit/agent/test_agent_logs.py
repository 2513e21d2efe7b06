"""The agent's log: lines of JSON, within a bound, and readable."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from cove.agent import logs


def record(message: str, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    return logging.LogRecord("cove.x", level, "f", 1, message, None, extra.get("error"))


def test_it_does_not_grow_beyond_its_bound(tmp_path: Path) -> None:
    file = tmp_path / "agent.log"
    handler = logs.Rotating(file, 10_000)
    handler.setFormatter(logs.Lines())
    for number in range(1000):
        handler.emit(record(f"line {number} " + "x" * 100))
    handler.close()
    earlier = file.with_name("agent.log.1")
    assert file.stat().st_size < 10_500 and earlier.stat().st_size < 10_500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["agent.log", "agent.log.1"]
    told = [json.loads(line)["message"].split()[1] for line in (earlier.read_text() + file.read_text()).splitlines()]
    assert told == [str(number) for number in range(1000 - len(told), 1000)]  # none is lost between the two


def test_a_line_has_no_newline_but_its_end_and_is_read_back() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        text = logs.Lines().format(
            record('he said\n"no"', logging.ERROR, error=(ValueError, error, error.__traceback__))
        )
    assert "\n" not in text
    value = logs.parsed(text)
    assert (value["level"], value["logger"], value["message"]) == ("error", "cove.x", 'he said\n"no"')
    assert value["time"].endswith("Z") and value["traceback"].endswith("ValueError: two\nlines")
    assert f'{value["time"]} ERROR   cove.x: he said\n"no"\nTraceback' in logs.readable(text)


@pytest.mark.parametrize("line", ["", "Traceback (most recent call last):", "[1]", "3", '{"a": 1}', "{"])
def test_other_lines_are_messages(line: str) -> None:
    assert logs.parsed(line) == {"message": line}
    assert logs.readable(line) == line


def test_the_supervisor_says_it_in_the_same_form_and_where_it_is_read(cove: Any, eventually: Any) -> None:
    paths = cove.make()
    cove.run("machine", "start")
    for _ in range(2):  # as the agent does it, which has the file open by its name
        paths.agent_log.replace(paths.agent_log.with_name("agent.log.1"))
        paths.agent_log.touch()
    os.kill(cove.status()["agent_pid"], signal.SIGKILL)
    eventually(lambda: "the agent has died (status -9); here is another" in paths.agent_log.read_text())
    value = json.loads(paths.agent_log.read_text().splitlines()[0])
    assert set(value) == {"time", "level", "logger", "message"}


def test_it_is_shown(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    cove.run("machine", "stop")
    lines = cove.run("machine", "logs", "--agent").stdout.splitlines()
    assert [line for line in lines if not (line[:4].isdecimal() and " INFO " in line)] == []
    assert lines[-1].endswith("root: the agent ends")
    assert cove.run("machine", "logs", "--agent", "--tail", "2").stdout.splitlines() == lines[-2:]
    told = [json.loads(line) for line in cove.run("machine", "logs", "--agent", "--json").stdout.splitlines()]
    assert [each["message"] for each in told] == [line.split(": ", 1)[1] for line in lines]
    console = cove.run("machine", "logs").stdout
    assert cove.run("machine", "logs", "-n", "1").stdout == console.splitlines()[-1] + "\n"
    assert json.loads(cove.run("machine", "logs", "-n1", "--json").stdout) == {"message": console.splitlines()[-1]}
