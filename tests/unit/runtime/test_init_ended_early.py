"""An init that has ended before its slow shim could join its pid namespace: what is told is why it ended."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest
from coved.runtime import shim as module
from coved.runtime import syscalls
from coved.runtime.process import RunningProcess, SetupError
from coved.runtime.rootfs import PreparedRoot


class Ended:
    pidfd = -1
    says: SetupError | None = SetupError("/etc/passwd is not a directory")

    def __init__(self, *of: Any) -> None:
        pass

    def spawn_init(self, *of: Any) -> None:
        pass

    def await_ready(self) -> None:
        if self.says is not None:
            raise self.says

    def destroy(self) -> None:
        pass


def made_by(init: type[Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    def setns(fd: int, kinds: int) -> None:
        raise OSError(errno.ESRCH, "setns: no such process")

    monkeypatch.setattr(syscalls, "setns", setns)
    monkeypatch.setattr(module, "RunningProcess", init)
    shim: Any = module.Shim("/nowhere")
    shim._spec = {"process": {}}
    shim.spaces = SimpleNamespace(join=lambda: None, new=syscalls.CLONE_NEWPID)
    shim.cgroup_fd = -1
    shim._make_init("", "id", None, PreparedRoot("/", -1, []))


def test_its_own_words_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match="is not a directory"):
        made_by(Ended, monkeypatch)


def test_without_any_the_kernels_are(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Ended):
        says = None

    with pytest.raises(OSError, match="setns: no such process"):
        made_by(Silent, monkeypatch)


@pytest.mark.parametrize(
    ("said", "told"), [([b'{"kind": "create", "error": "no space left"}'], "no space left"), ([], "killed")]
)
def test_it_need_not_have_read_that_it_may_go_on(said: list[bytes], told: str) -> None:
    """The kernel tells that as a reset connection, before what was said."""
    stdio: Any = None  # which has no part in it
    process = RunningProcess("", {}, stdio)
    process.let_go()
    for message in said:
        process._child_sync.send(message)
    process._child_sync.close()
    with pytest.raises(SetupError, match=told):
        process.await_ready()
    process.destroy()
