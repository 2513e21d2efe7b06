"""A port of this computer that is for who has the key alone."""

from __future__ import annotations

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
