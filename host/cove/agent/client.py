"""Asking an agent: one JSON line there, JSON lines back, the last one with "done". Light to import."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import IO, Any

from cove.errors import AgentError, CoveError, GivenUp, MachineInUse
from cove.local.sockets import connect
from cove.machine.locks import whose
from cove.machine.paths import MachinePaths
from cove.progress import Event, Report, ignore

SUSPEND, SUSPEND_ANYWAY = "suspend", "suspend anyway"
HOLD, SETTINGS, WATCH = "hold", "settings", "watch"
"""Operations; `SUSPEND` is refused while docker clients are connected. `SETTINGS`: those that count at once have been changed. `WATCH`:
the status, and again whenever the state has changed, and progress, until the client or the agent ends; it uses nothing."""
CONNECT_TIMEOUT_S = 5.0
MAX_LINE = 1 << 20
GIVE_UP_S = 20.0


class NoAgent(AgentError):
    """No agent of this machine is running."""


def answers(paths: MachinePaths) -> bool:
    """Whether an agent of this machine takes questions."""
    try:
        connect(paths.agent_socket, CONNECT_TIMEOUT_S).close()
    except OSError:
        return False
    return True


def out_of_reach(paths: MachinePaths) -> AgentError:
    """Of an agent that holds its machine and does not answer: it hangs, or its sockets were removed, as at a logout."""
    return AgentError(
        f"the agent of machine {paths.name} lives, and does not answer at {paths.agent_socket}",
        f"{whose(paths.lock)}; end what that names (kill -9), then: cove machine start {paths.name}. Its log: {paths.agent_log}",
    )


@contextlib.contextmanager
def held(paths: MachinePaths) -> Iterator[None]:
    """The machine is not suspended by itself, nor ended because its engine does not start, as long as the block lasts, or its agent
    lives."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            sock = stack.enter_context(connect(paths.agent_socket, CONNECT_TIMEOUT_S))
            sock.settimeout(CONNECT_TIMEOUT_S)
            sock.sendall(json.dumps({"op": HOLD}).encode() + b"\n")
            sock.recv(MAX_LINE)
        yield


def ask(
    paths: MachinePaths, operation: str, timeout_s: float, report: Report = ignore, **details: Any
) -> dict[str, Any]:  # fmt: skip
    """The agent's last line. `timeout_s` bounds the wait for each line; `details` go with the operation.

    Raises `NoAgent` when none runs, `CoveError` with the agent's words, `AgentError` when it falls silent. After Ctrl-C the agent
    gives up a start that was waited for, unless somebody else waits for it, and `GivenUp` says so; a second one ends the wait.
    """
    try:
        with connect(paths.agent_socket, CONNECT_TIMEOUT_S) as sock:
            sock.settimeout(timeout_s)
            sock.sendall(json.dumps({"op": operation, **details}).encode() + b"\n")
            with sock.makefile("rb") as lines:
                try:
                    return _answer(lines, report)
                except KeyboardInterrupt:
                    if operation != "ready":
                        raise
                    sock.settimeout(GIVE_UP_S)
                    sock.sendall(b'{"op": "give up"}\n')
                    # What was read of a line when the interrupt came may be lost: the rest of it is no answer.
                    try:
                        _answer(lines, ignore, skip=1)
                    except CoveError as told:
                        raise GivenUp(told.message, told.hint) from None
                    raise  # it has just become ready
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise NoAgent(
            f"the machine {paths.name} is not running", f"start it with: cove machine start {paths.name}"
        ) from error
    except (ConnectionResetError, BrokenPipeError):
        pass  # it ended before it took the question
    except TimeoutError as error:
        raise AgentError(
            f"the agent of machine {paths.name} did not answer within {sock.gettimeout():.0f} s",
            f"its log is {paths.agent_log}",
        ) from error
    except (OSError, ValueError, KeyError) as error:
        raise AgentError(f"the agent of machine {paths.name} does not answer as agreed: {error}") from error
    except EOFError:
        pass  # it ended before it answered
    raise NoAgent(f"the agent of machine {paths.name} has ended", f"its log is {paths.agent_log}")


def _answer(lines: IO[bytes], report: Report, skip: int = 0) -> dict[str, Any]:
    """The last line. The first `skip` lines may be broken. Raises `EOFError` when there is none."""
    while line := lines.readline(MAX_LINE):
        skip -= 1
        try:
            answer = _object(json.loads(line))
        except ValueError:
            if skip < 0:
                raise
            continue
        if "event" in answer:
            report(Event.from_json(_object(answer["event"])))
        elif answer.get("error"):
            raise (MachineInUse if answer.get("in_use") else CoveError)(answer["error"], answer.get("hint", ""))
        else:
            return answer
    raise EOFError


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"it said {str(value)[:60]!r}")
    return value
