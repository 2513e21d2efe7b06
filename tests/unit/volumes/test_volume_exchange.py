"""A volume's files are exchanged whole or not at all, whatever fails, and whenever the engine is killed."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from coved.errors import EngineError
from coved.events import Events
from coved.store import trees
from coved.store.database import Database
from coved.volumes import Volumes, exchange, manager

OLD = {"a": "old a", "b": "old b", "only old": "x"}
NEW = {"a": "new a", "b": "new b", b"\xff only new".decode(errors="surrogateescape"): "y"}


@contextlib.contextmanager
def domain(root: Path) -> Iterator[Volumes]:
    database = Database(root / "metadata.db")
    try:
        volumes = Volumes(database, Events(), root)
        asyncio.run(volumes.start())
        yield volumes
    finally:
        database.close()


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)


def look(folder: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in folder.iterdir()}


def appearance(folder: Path) -> tuple[int, int, bytes]:
    status = folder.stat()
    return status.st_mode & 0o7777, status.st_mtime_ns, os.getxattr(folder, "user.note")


def prepared(root: Path) -> tuple[Path, Path]:
    """The directory of a volume, and a draft's folder, each with files, and no engine."""
    with domain(root) as volumes:
        target = asyncio.run(volumes.create("data")).path
        volumes.acquire("data", "somebody")
    folder = root / "trash/volume-1"
    (folder / "_data").mkdir(parents=True)
    for place, files, mode, note in ((target, OLD, 0o1770, b"old"), (folder / "_data", NEW, 0o700, b"new")):
        write(place, files)
        os.setxattr(place, "user.note", note)
        place.chmod(mode)
        os.utime(place, ns=(1, mode * 10**9))
    return target, folder


def exchange_and_be_killed(folder: Path, target: Path, moves: int, patch: pytest.MonkeyPatch) -> bool:
    """Whether the exchange was killed before its move number ``moves``."""
    pid = os.fork()
    if not pid:
        done = 0
        move = exchange._move

        def counted(*words: Any, **options: Any) -> None:
            nonlocal done
            if done == moves:
                os.kill(os.getpid(), signal.SIGKILL)
            done += 1
            move(*words, **options)

        with contextlib.suppress(BaseException):
            patch.setattr(exchange, "_move", counted)
            exchange.exchange(folder, "data", target, replace=True)
            os._exit(0)
        os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("moves", range(len(OLD) + len(NEW) + 1))
def test_killed_between_any_two_moves(tmp_path: Path, moves: int, monkeypatch: pytest.MonkeyPatch) -> None:
    target, folder = prepared(tmp_path)
    before = appearance(target)
    killed = exchange_and_be_killed(folder, target, moves, monkeypatch)
    assert killed is (moves < len(OLD) + len(NEW))
    with domain(tmp_path) as volumes:
        assert look(target) == (OLD if killed else NEW)
        assert appearance(target) == (before if killed else (0o700, 0o700 * 10**9, b"new"))
        assert [one.name for one in volumes.list()] == ["data"]
    assert list((tmp_path / "trash").iterdir()) == []


def test_what_cannot_be_put_back_at_the_start_is_another_volume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = prepared(tmp_path)
    assert exchange_and_be_killed(folder, target, len(OLD), monkeypatch)
    (target / "b").write_text("of a container that went on")
    with domain(tmp_path) as volumes:
        assert look(target) == {**OLD, "b": "of a container that went on"}
        (kept,) = (one for one in volumes.list() if one.name != "data")
        assert kept.name.startswith("data-") and not kept.anonymous
        assert look(kept.path) == {"b": "old b"}
    assert list((tmp_path / "trash").iterdir()) == []


def test_the_undo_goes_on_after_what_it_cannot_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full in the middle, and a container has made something in the place of the first entry to be put back."""
    target, folder = prepared(tmp_path)
    move = exchange._move

    def failing(source: Path, place: Path, *, over: bool) -> None:
        if over:
            (target / "a").write_text("of a container")
            (target / "b").mkdir()
            raise OSError(errno.ENOSPC, "No space left on device")
        move(source, place, over=over)

    monkeypatch.setattr(exchange, "_move", failing)

    async def work(volumes: Volumes) -> str:
        await volumes.start()
        async with volumes.draft() as draft:
            write(draft, NEW)
            with pytest.raises(EngineError) as error:
                await volumes.fill("data", draft, replace=True)
        return str(error.value)

    database = Database(tmp_path / "metadata.db")
    volumes = Volumes(database, Events(), tmp_path)
    said = asyncio.run(work(volumes))
    (kept,) = (one for one in volumes.list() if one.name != "data")
    assert said.startswith("the files of volume data could not be exchanged: [Errno 28] No space left on device; ")
    assert "'a': file exists" in said and "'b': file exists" in said and said.endswith(f" is in the volume {kept.name}")
    assert (target / "a").read_text() == "of a container" and (target / "b").is_dir()
    assert (target / "only old").read_text() == "x"
    assert look(kept.path) == {"a": "old a", "b": "old b"}
    database.close()
    assert not exchange.unfinished(folder)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[int]:
    """The descriptor of an image's directory."""
    folder = tmp_path / "image"
    folder.mkdir()
    folder.chmod(0o1775)
    write(folder, OLD)
    fd = os.open(folder, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize("where", ["trees.copy", "exchange.move"])
def test_a_volume_that_was_half_filled_from_an_image_is_filled_by_the_next(
    tmp_path: Path, image: int, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is killed in the middle of copying, or of moving; and before that the disk was full."""
    subject, attribute = (trees._Copy, "_entry") if where == "trees.copy" else (exchange, "_move")
    work = getattr(subject, attribute)

    def once(then: Callable[[], None]) -> Callable[..., None]:
        done = 0

        def counted(*words: Any, **options: Any) -> None:
            nonlocal done
            done += 1
            if done == 2:
                then()
            work(*words, **options)

        return counted

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with domain(tmp_path) as volumes:
        asyncio.run(volumes.create("data"))
        volumes.acquire("data", "somebody")  # who sees the directory as it is
        target = volumes.path("data")
        inode = target.stat().st_ino
        monkeypatch.setattr(subject, attribute, once(full))
        with pytest.raises(OSError, match="No space"):
            asyncio.run(volumes.populate("data", image))
        assert look(target) == {} and list((tmp_path / "trash").iterdir()) == []
        volume = volumes.get("data")
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            monkeypatch.setattr(subject, attribute, once(lambda: os.kill(os.getpid(), signal.SIGKILL)))
            draft = tmp_path / "trash/volume-1"
            assert manager._copy(image, volume, draft)
            manager._move_in(draft, volume)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    monkeypatch.setattr(subject, attribute, work)
    with domain(tmp_path) as volumes:
        assert look(target) == {} and list((tmp_path / "trash").iterdir()) == []
        asyncio.run(volumes.populate("data", image))
        assert look(target) == OLD and target.stat().st_mode & 0o7777 == 0o1775 and target.stat().st_ino == inode
        assert list((tmp_path / "trash").iterdir()) == []


def test_nothing_that_is_there_is_touched_unless_it_is_to_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = prepared(tmp_path)
    with pytest.raises(exchange.NotEmpty):
        exchange.exchange(folder, "data", target, replace=False)
    assert look(target) == OLD
    # In the middle of it, too.
    for one in target.iterdir():
        one.unlink()
    move = exchange._move

    def meanwhile(source: Path, place: Path, *, over: bool) -> None:
        if not list(target.iterdir()):
            (target / ("a" if source.name == "b" else "b")).write_text("of a container")
        move(source, place, over=over)

    monkeypatch.setattr(exchange, "_move", meanwhile)
    with pytest.raises(exchange.NotEmpty):
        exchange.exchange(folder, "data", target, replace=False)
    assert list(look(target).values()) == ["of a container"] and look(folder / "_data") == NEW
    assert not exchange.unfinished(folder)
