"""What a connection does with a host that is slow, silent, or says no."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cove.errors import RemoteError
from cove.remote import connection
from ssh_server import LIMIT_S, Rules, connected

SHORT_S = 0.2


@pytest.fixture
def aside() -> Iterator[Callable[..., Any]]:
    """Something that may not end, in a thread: its outcome, within the limit."""
    pool = ThreadPoolExecutor(1)
    yield lambda call, *given, **more: pool.submit(call, *given, **more)
    pool.shutdown(wait=False, cancel_futures=True)


def test_a_command_that_a_host_does_not_take_has_its_time(aside: Any) -> None:
    rules = Rules(silent=True)
    made, _served = connected(rules)
    try:
        with pytest.raises(RemoteError, match="far: a command did not end within 0 s"):
            aside(made.run, ["true"], timeout_s=SHORT_S).result(LIMIT_S)
        assert rules.asked.is_set()
    finally:
        rules.closed.set()
        made.close()


def test_a_command_that_a_host_refuses_is_told_at_once() -> None:
    made, _served = connected(Rules())
    try:
        with pytest.raises(RemoteError, match="the connection broke"):
            made.run(["true"], timeout_s=LIMIT_S)
    finally:
        made.close()


def test_a_host_that_allows_no_more_sessions_has_answered() -> None:
    made, _served = connected(Rules(sessions=False))
    try:
        assert made.answers(LIMIT_S)
    finally:
        made.close()


def test_what_a_host_says_to_something_else_is_an_answer(aside: Any) -> None:
    rules = Rules(silent=True)
    made, served = connected(rules)
    try:
        session = made._transport.open_session(timeout=LIMIT_S)
        its = served.accept(LIMIT_S)
        answer = aside(made.answers, LIMIT_S)
        assert rules.asked.wait(LIMIT_S)
        its.sendall(b"still here")
        assert answer.result(LIMIT_S) is True
        assert session.recv(100) == b"still here"
    finally:
        rules.closed.set()
        made.close()


def test_a_host_that_says_nothing_has_not_answered() -> None:
    rules = Rules(silent=True)
    made, _served = connected(rules)
    try:
        assert not made.answers(SHORT_S)
    finally:
        rules.closed.set()
        made.close()


def test_a_connection_that_has_ended_does_not_answer() -> None:
    made, _served = connected(Rules())
    made.close()
    assert not made.answers(SHORT_S)


def test_a_file_that_was_closed_meanwhile_is_no_trouble() -> None:
    file = io.BytesIO(b"x")
    file.close()
    connection._feed(Any, file)  # type: ignore[arg-type]


def test_the_kernel_of_macos_is_to_give_up_what_nobody_confirms() -> None:
    assert (0x80, 30) in connection._keeping("darwin")
    assert (0x80, 30) not in connection._keeping("linux")
