"""Asking an agent: one JSON line there, JSON lines back, the last one with "done". Light to import."""

from __future__ import annotations

import json
import socket
from typing import Any

from cove.errors import AgentError, CoveError
from cove.machine.paths import MachinePaths
from cove.progress import Event, Report, ignore

CONNECT_TIMEOUT_S = 5.0
MAX_LINE = 1 << 20


class NoAgent(AgentError):
    """No agent of this machine is running."""


def answers(paths: MachinePaths) -> bool:
    """Whether an agent of this machine takes questions."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(CONNECT_TIMEOUT_S)
        try:
            sock.connect(str(paths.agent_socket))
        except OSError:
            return False
        return True


def ask(paths: MachinePaths, operation: str, timeout_s: float, report: Report = ignore) -> dict[str, Any]:
    """The agent's last line. `timeout_s` bounds the wait for each line.

    Raises `NoAgent` when none runs, `CoveError` with the agent's words, `AgentError` when it falls silent.
    """
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.connect(str(paths.agent_socket))
            sock.settimeout(timeout_s)
            sock.sendall(json.dumps({"op": operation}).encode() + b"\n")
            with sock.makefile("rb") as lines:
                while line := lines.readline(MAX_LINE):
                    answer = _object(json.loads(line))
                    if "event" in answer:
                        report(Event.from_json(_object(answer["event"])))
                    elif answer.get("error"):
                        raise CoveError(answer["error"], answer.get("hint", ""))
                    else:
                        return answer
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoAgent(
            f"the machine {paths.name} is not running", f"start it with: cove machine start {paths.name}"
        ) from error
    except (ConnectionResetError, BrokenPipeError):
        pass  # it ended before it took the question
    except TimeoutError as error:
        raise AgentError(
            f"the agent of machine {paths.name} did not answer within {timeout_s:.0f} s",
            f"its log is {paths.agent_log}",
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise AgentError(f"the agent of machine {paths.name} does not answer as agreed: {error}") from error
    raise NoAgent(f"the agent of machine {paths.name} has ended", f"its log is {paths.agent_log}")


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"it said {str(value)[:60]!r}")
    return value
