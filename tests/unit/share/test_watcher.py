"""What the guest is told of folders' changes, and what it is not."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from cove.local import sockets
from cove.share.manager import Carried
from cove.share.watching import below
from cove.share.watching.echoes import FRESH_S, MAX_KNOWN, Echoes
from cove.share.watching.pending import MAX_PENDING, Pending, describe
from cove.share.watching.source import Seen, Tell
from cove.share.watching.watcher import Watcher
from coved.link.protocol import MAX_CHANGES, Change, Changes, encode

GUEST = "/run/cove/host/folder0"


def told(pending: Pending) -> list[tuple[str, str]]:
    return [(one.kind, one.path) for one in pending.take()[0]]


def test_writes_of_one_file_are_one_change_until_something_else_happens_to_it() -> None:
    pending = Pending()
    pending.add(
        [Seen("create", "a"), Seen("attrib", "a"), Seen("modify", "a"), Seen("modify", "a"), Seen("close", "a")]
    )
    pending.add([Seen("close", "b"), Seen("modify", "b"), Seen("move", "a", to="c"), Seen("modify", "c")])
    assert told(pending) == [("create", "a"), ("modify", "a"), ("modify", "b"), ("move", "a"), ("modify", "c")]


def test_a_burst_is_told_as_lost_and_what_comes_after_it_is_told() -> None:
    pending = Pending()
    pending.add(Seen("create", str(number)) for number in range(MAX_PENDING + 1))
    pending.add([Seen("create", "after")])
    assert pending.take() == ([Seen("create", "after")], True)
    assert not pending


def test_a_message_takes_so_many_changes_that_it_fits_into_a_frame() -> None:
    pending = Pending()
    pending.add(Seen("move", f"{number}/" + "\u20ac" * 1000, to="\u20ac" * 1000) for number in range(600))
    batches = []
    while pending:
        seen, _ = pending.take()
        assert len(seen) <= MAX_CHANGES
        changes = tuple(Change(one.kind, one.path, to=one.to, real=one.to) for one in seen)
        encode(Changes(1, "/x", "t", changes).to_json())
        batches.append(len(seen))
    assert sum(batches) == 600


def test_a_name_that_is_no_text_is_left_out() -> None:
    pending = Pending()
    pending.add([Seen("create", "\udcff"), Seen("create", "a")])
    assert told(pending) == [("create", "a")]


def test_changes_say_where_the_file_is_by_now(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "final").write_text("12345")
    if os.name == "posix":
        (tmp_path / "link").symlink_to("nowhere")
    else:  # Wine 8 has no links
        (tmp_path / "link").touch()
    seen = [
        Seen("create", "tmp"), Seen("modify", "tmp"), Seen("move", "tmp", to="c/final"), Seen("move", "c", True, "d"),
        Seen("create", "gone"), Seen("modify", "gone"), Seen("delete", "gone"), Seen("create", "link"),
    ]  # fmt: skip
    assert describe(tmp_path, tmp_path, seen) == [
        Change("create", "tmp", "file", real="d/final"),
        Change("modify", "tmp"),
        Change("move", "tmp", "file", "c/final", real="d/final"),
        Change("move", "c", "dir", "d", real="d"),
        Change("create", "gone", "file", real=None),
        Change("delete", "gone", "file"),
        Change("create", "link", "symlink" if os.name == "posix" else "file", real="link"),
    ]


def test_an_overwritten_file_is_not_taken_for_the_one_that_took_its_name(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("of a")
    seen = [Seen("create", "b"), Seen("move", "a", to="b")]
    assert describe(tmp_path, tmp_path, seen)[0] == Change("create", "b", "file", real=None)


def test_what_the_guest_did_is_an_echo_once(tmp_path: Path) -> None:
    now = [0.0]
    echoes = Echoes(lambda: now[0])
    a = str(tmp_path / "a")
    echoes.guest_does("create", a)
    assert echoes.is_echo(tmp_path, Seen("create", "a")) and echoes.is_echo(tmp_path, Seen("attrib", "a"))
    assert not echoes.is_echo(tmp_path, Seen("create", "a"))
    echoes.guest_does("move", a, str(tmp_path / "b"))
    assert not echoes.is_echo(tmp_path, Seen("move", "a", to="c"))
    assert echoes.is_echo(tmp_path, Seen("move", "a", to="b"))
    echoes.guest_does("delete", a)
    now[0] += FRESH_S + 1
    assert not echoes.is_echo(tmp_path, Seen("delete", "a")), "an operation that failed must not hide a later one"


def test_what_a_guest_says_that_it_does_has_bounds(tmp_path: Path) -> None:
    echoes = Echoes()
    for number in range(MAX_KNOWN + 10):
        echoes.guest_does("delete", str(tmp_path / str(number)))
    echoed = [echoes.is_echo(tmp_path, Seen("delete", str(number))) for number in range(MAX_KNOWN + 10)]
    assert echoed == [False] * 10 + [True] * MAX_KNOWN


def test_who_writes_to_what_has_no_name_any_more_hides_nothing(tmp_path: Path) -> None:
    echoes = Echoes()
    for op in ("delete", "create"):
        echoes.guest_does("write", str(tmp_path / "a"))
        echoes.guest_does(op, str(tmp_path / "a"))
        assert not echoes.is_echo(tmp_path, Seen("modify", "a"))
    echoes.guest_does("write", str(tmp_path / "a"))
    echoes.guest_does("move", str(tmp_path / "b"), str(tmp_path / "a"))
    assert not echoes.is_echo(tmp_path, Seen("modify", "a"))


def test_a_write_of_the_guests_is_an_echo_and_one_of_the_users_after_it_is_not(tmp_path: Path) -> None:
    echoes = Echoes()
    file = tmp_path / "a"
    echoes.guest_does("write", str(file))
    file.write_text("guest")
    assert echoes.is_echo(tmp_path, Seen("modify", "a"))
    echoes.guest_does("written", str(file))
    assert echoes.is_echo(tmp_path, Seen("modify", "a")) and echoes.is_echo(tmp_path, Seen("close", "a"))
    file.write_text("by the user")
    assert not echoes.is_echo(tmp_path, Seen("modify", "a"))
    echoes.guest_does("write", str(file))
    assert not echoes.uncertain
    echoes.lost()
    assert echoes.uncertain and not echoes.is_echo(tmp_path, Seen("modify", "a"))


class FakeSource:
    """Sees what the test says."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.watched: dict[Path, bool] = {}
        self.left_out = 0
        self.refused: set[Path] = set()

    def watch(self, within: Path, folder: Path, *, deep: bool = True) -> None:
        if folder in self.refused:
            raise PermissionError(13, "Permission denied")
        self.watched[folder] = deep

    def unwatch(self, folder: Path) -> None:
        self.watched.pop(folder, None)

    def unwatched(self) -> int:
        return self.left_out

    def close(self) -> None: ...


Scenario = Callable[[Watcher, "asyncio.Queue[Changes]", list[FakeSource]], Awaitable[None]]


class Server:
    """Of the folder: it says what the guest does, as the test has it."""

    def __init__(self, control: Path, *, listens: bool = True) -> None:
        self._listener = sockets.listen(control, 8)
        self._listens = listens
        self._connections: list[socket.socket] = []
        self.asked: list[object] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.asked.append(json.loads(connection.recv(4096)))
            self._connections.append(connection)
            if self._listens:
                connection.sendall(b'{"op": "listening"}\n')

    def say(self, *lines: object) -> None:
        self._connections[-1].sendall(b"".join(json.dumps(line).encode() + b"\n" for line in lines))

    def leave(self) -> None:
        for each in self._connections:
            each.close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.leave()


def watching(folder: Path, scenario: Scenario, *, server: Server | None = None) -> None:
    control = folder.parent / f"{folder.name}.sock"

    async def run() -> None:
        sent: asyncio.Queue[Changes] = asyncio.Queue()
        sources: list[FakeSource] = []

        def source(tell: Tell) -> FakeSource:
            sources.append(FakeSource(tell))
            return sources[-1]

        watcher = Watcher(lambda: [Carried(GUEST, folder, control, "ab")], sent.put_nowait, source)
        async with asyncio.timeout(10):
            await scenario(watcher, sent, sources)
        await watcher.close()

    server = server or Server(control)
    try:
        asyncio.run(run())
    finally:
        server.close()


async def begun(watcher: Watcher, sent: asyncio.Queue[Changes], paths: Sequence[str]) -> None:
    await watcher.watch(paths)
    await asyncio.sleep(0)
    assert sent.empty(), "the guest has forgotten what it knew already, and writes by now"


def test_one_message_is_under_way_at_a_time_and_the_next_has_all_that_came_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for name in "abc":
        (tmp_path / "src" / name).write_text("x")

    async def scenario(watcher: Watcher, sent: asyncio.Queue[Changes], sources: list[FakeSource]) -> None:
        await begun(watcher, sent, [f"{GUEST}/src"])
        assert sources[0].watched == {tmp_path / "src": True}
        sources[0].tell(tmp_path / "src", [Seen("create", "a")], False)
        first = await sent.get()
        assert (first.path, first.token, first.lost) == (f"{GUEST}/src", "ab", False)
        assert first.changes == (Change("create", "a", real="a"),)
        sources[0].tell(tmp_path / "src", [Seen("create", "b")], False)
        sources[0].tell(tmp_path / "src", [Seen("create", "c")], False)
        await asyncio.sleep(0.05)
        assert sent.empty()
        watcher.answered(first.id)
        assert [one.path for one in (await sent.get()).changes] == ["b", "c"]
        watcher.guest_began()  # which never answers that: it is told that it may have missed some
        again = await sent.get()
        assert (again.lost, again.changes) == (True, ())
        watcher.answered(again.id)
        sources[0].tell(tmp_path / "src", [Seen("delete", "c")], False)
        assert [one.kind for one in (await sent.get()).changes] == ["delete"]

    watching(tmp_path, scenario)


def test_only_shared_folders_are_watched_and_each_once(tmp_path: Path) -> None:
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yml").touch()
    (tmp_path / "out").symlink_to("/etc")

    async def scenario(watcher: Watcher, sent: asyncio.Queue[Changes], sources: list[FakeSource]) -> None:
        out_of_it = [f"{GUEST}/../x", f"{GUEST}/src/../../../etc", f"{GUEST}/.."]
        asked = [*out_of_it, "/etc", f"{GUEST}0/src", f"{GUEST}/src", f"{GUEST}/src/deep", f"{GUEST}/conf/a.yml"]
        await watcher.watch(asked)
        assert sources[0].watched == {tmp_path / "src": True, tmp_path / "conf": False}
        sources[0].tell(tmp_path / "conf", [Seen("modify", "other"), Seen("modify", "a.yml")], False)
        message = await sent.get()
        assert (message.path, [one.path for one in message.changes]) == (f"{GUEST}/conf", ["a.yml"])
        watcher.answered(message.id)
        await watcher.watch([])
        assert sources[0].watched == {}

    watching(tmp_path, scenario)


def test_what_cannot_be_watched_is_said(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()

    async def scenario(watcher: Watcher, sent: asyncio.Queue[Changes], sources: list[FakeSource]) -> None:
        await begun(watcher, sent, [f"{GUEST}/src"])
        await watcher.watch([])
        sources[0].refused.add(tmp_path / "src")
        sources[0].left_out = 7
        await watcher.watch([f"{GUEST}/src"])
        said = " ".join(watcher.trouble.values())
        assert "Permission denied" in said and "7 directories" in said and "max_user_watches" in said

    watching(tmp_path, scenario)


def test_what_the_server_says_that_the_guest_does_is_not_told_to_it(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    server = Server(tmp_path.parent / f"{tmp_path.name}.sock")

    async def scenario(watcher: Watcher, sent: asyncio.Queue[Changes], sources: list[FakeSource]) -> None:
        await begun(watcher, sent, [GUEST])
        assert server.asked == [{"token": "ab"}]
        server.say({"op": "create", "path": str(tmp_path / "a"), "to": ""}, "nonsense")
        # Both are there before the loop turns: what was said must be heard before what was seen is told.
        sources[0].tell(tmp_path, [Seen("create", "a"), Seen("delete", "b")], False)
        assert [(one.kind, one.path) for one in (await sent.get()).changes] == [("delete", "b")]

    watching(tmp_path, scenario, server=server)


def test_what_the_guest_has_missed_it_is_told_when_it_can_be(tmp_path: Path) -> None:
    (tmp_path / "log").touch()
    server = Server(tmp_path.parent / f"{tmp_path.name}.sock")

    async def scenario(watcher: Watcher, sent: asyncio.Queue[Changes], sources: list[FakeSource]) -> None:
        await begun(watcher, sent, [GUEST])
        server.say({"op": "missed", "path": "/elsewhere"}, {"op": "missed", "path": str(tmp_path / "log")})
        assert (await sent.get()).changes == (Change("modify", "log"),)

    watching(tmp_path, scenario, server=server)


@pytest.mark.parametrize("how", ["not all was told", "it ends"])
def test_what_may_be_the_guests_own_is_not_done_again_but_forgotten(tmp_path: Path, how: str) -> None:
    (tmp_path / "a").touch()
    server = Server(tmp_path.parent / f"{tmp_path.name}.sock")

    async def scenario(watcher: Watcher, sent: asyncio.Queue[Changes], sources: list[FakeSource]) -> None:
        await begun(watcher, sent, [GUEST])
        if how == "it ends":
            server.leave()
        else:
            server.say({"op": "lost"}, {"op": "create", "path": str(tmp_path / "known"), "to": ""})
            sources[0].tell(tmp_path, [Seen("create", "known")], False)
            await asyncio.sleep(0.05)
            assert sent.empty()
        sources[0].tell(tmp_path, [Seen("create", "a"), Seen("modify", "a")], False)
        message = await sent.get()
        assert (message.changes, message.lost) == ((), True)

    watching(tmp_path, scenario, server=server)


def test_a_server_that_does_not_begin_to_tell_is_not_waited_for_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cove.share.watching.guest_changes.ANSWER_S", 0.1)
    server = Server(tmp_path.parent / f"{tmp_path.name}.sock", listens=False)

    async def scenario(watcher: Watcher, sent: asyncio.Queue[Changes], sources: list[FakeSource]) -> None:
        await begun(watcher, sent, [GUEST])
        sources[0].tell(tmp_path, [Seen("create", "a")], False)
        message = await sent.get()
        assert (message.changes, message.lost) == ((), True)

    watching(tmp_path, scenario, server=server)


def test_a_message_that_cannot_be_sent_does_not_end_the_telling(tmp_path: Path) -> None:
    async def scenario(watcher: Watcher, sent: asyncio.Queue[Changes], sources: list[FakeSource]) -> None:
        await begun(watcher, sent, [GUEST])
        failed = asyncio.Event()
        send, failures = watcher._send, [OSError("no link")] * 2

        def failing(message: Changes) -> None:
            if failures:
                if len(failures) == 1:
                    failed.set()
                raise failures.pop()
            send(message)

        watcher._send = failing
        sources[0].tell(tmp_path, [Seen("delete", "a")], False)
        await failed.wait()
        watcher.guest_began()
        message = await sent.get()
        assert (message.lost, message.changes) == (True, ())

    watching(tmp_path, scenario)


def test_no_link_on_the_way_is_followed_where_names_are_all_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: each directory on the way is looked at."""
    (tmp_path / "share" / "d").mkdir(parents=True)
    (tmp_path / "share" / "d" / "f").touch()
    monkeypatch.setattr(below, "_BY_DESCRIPTOR", False)
    share = tmp_path / "share"
    assert below.lstat_below(share, share) and below.lstat_below(share, share / "d" / "f")
    monkeypatch.setattr(below, "kind", lambda found: stat.S_IFLNK)
    assert below.lstat_below(share, share / "d" / "f") is None
    assert below.lstat_below(share, share / "d")
