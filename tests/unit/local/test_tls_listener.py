"""A port of this computer that is for who has the key alone."""

from __future__ import annotations

import contextlib
import socket
import threading
from pathlib import Path

import pytest
from cove.local import certificates, tls
from cove.local.tls import Listener

WAIT_S = 60.0


def keys(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    certificates.make(folder)
    return folder


def test_who_has_the_key_is_heard_whoever_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, others = keys(tmp_path / "ours"), keys(tmp_path / "others")
    monkeypatch.setattr(tls, "STRANGER_S", 0.2)
    listener = Listener(ours)
    silent = socket.create_connection(("127.0.0.1", listener.port))
    hasty = socket.create_connection(("127.0.0.1", listener.port))
    hasty.close()
    outcomes: dict[Path, object] = {}

    def connect(folder: Path) -> None:
        try:
            outcomes[folder] = tls.connect(listener.port, folder, WAIT_S)
        except OSError as error:
            outcomes[folder] = error

    threads = [threading.Thread(target=connect, args=(folder,)) for folder in (others, ours)]
    threads[0].start()
    with pytest.raises(TimeoutError):  # a stranger is none
        listener.accept(2)
    threads[1].start()
    near = listener.accept(WAIT_S)
    for thread in threads:
        thread.join(WAIT_S)
    assert isinstance(outcomes[others], OSError)
    far = outcomes[ours]
    assert isinstance(far, socket.socket)
    with near, far, silent:
        near.settimeout(WAIT_S)
        far.settimeout(WAIT_S)
        for one, other, words in ((near, far, b"here"), (far, near, b"there")):
            one.sendall(words * 10_000)
            said = b""
            while len(said) < len(words) * 10_000:
                said += other.recv(1 << 16)
            assert said == words * 10_000
        far.close()
        assert near.recv(1) == b""
    listener.close()


def test_who_says_a_byte_now_and_then_holds_nobody_up(tmp_path: Path) -> None:
    """Neither the one with the key, nor the end of the time in which it is to come."""
    ours = keys(tmp_path / "ours")
    listener = Listener(ours)
    over = threading.Event()
    outcomes: list[object] = []

    def drip(begun: threading.Event) -> None:
        with socket.create_connection(("127.0.0.1", listener.port)) as slow, contextlib.suppress(OSError):
            slow.sendall(b"\x16\x03\x01\x3f\xff")  # a record's head, and then a long one's bytes
            while not over.wait(0.05):
                begun.set()
                slow.sendall(b"\x01")

    def accept(within_s: float) -> None:
        try:
            outcomes.append(listener.accept(within_s))
        except OSError as error:
            outcomes.append(error)

    started = [threading.Event() for _ in range(tls.MOST // 2)]
    slow = [threading.Thread(target=drip, args=(begun,)) for begun in started]
    for one in slow:
        one.start()
    assert all(begun.wait(WAIT_S) for begun in started)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tls, "STRANGER_S", 10 * WAIT_S)
        for within_s in (1.0, WAIT_S):
            waiting = threading.Thread(target=accept, args=(within_s,), daemon=True)
            waiting.start()
            if within_s == WAIT_S:
                tls.connect(listener.port, ours, WAIT_S).close()
            waiting.join(2 * WAIT_S)
            assert len(outcomes) == (1 if within_s < WAIT_S else 2)
    over.set()
    for one in slow:
        one.join(WAIT_S)
    assert isinstance(outcomes[0], TimeoutError)
    assert isinstance(outcomes[1], socket.socket)
    outcomes[1].close()
    listener.close()


def test_a_listener_that_is_closed_keeps_nobody_waiting(tmp_path: Path) -> None:
    ours = keys(tmp_path / "ours")
    for _ in range(20):
        listener = Listener(ours)
        failures: list[OSError] = []
        waits = threading.Event()

        def accept(
            listener: Listener = listener, failures: list[OSError] = failures, waits: threading.Event = waits
        ) -> None:
            waits.set()
            try:
                listener.accept(10 * WAIT_S)
            except OSError as error:
                failures.append(error)

        waiting = threading.Thread(target=accept, daemon=True)
        waiting.start()
        assert waits.wait(WAIT_S)
        listener.close()
        waiting.join(WAIT_S)
        assert failures, "it waits for those who cannot come"


def test_a_listener_that_says_a_byte_now_and_then_is_none(tmp_path: Path) -> None:
    over = threading.Event()

    def drip() -> None:
        client, _ = mute.accept()
        with client, contextlib.suppress(OSError):
            client.sendall(b"\x16\x03\x03\x3f\xff")
            while not over.wait(0.05):
                client.sendall(b"\x01")

    with socket.create_server(("127.0.0.1", 0)) as mute:
        dripping = threading.Thread(target=drip, daemon=True)
        dripping.start()
        with pytest.raises(TimeoutError):
            tls.connect(mute.getsockname()[1], keys(tmp_path / "ours"), 1)
        over.set()
        dripping.join(WAIT_S)
