"""Files of removed containers: gone at once, deleted in time, and by the next engine when this one is killed."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from coved.containers import removals
from coved.containers.removals import Removals
from coved.store import trees


def tree(path: Path) -> Path:
    (path / "upper" / "deep").mkdir(parents=True)
    (path / "upper" / "deep" / "file").write_text("x")
    return path


def within(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scenario()

    asyncio.run(bounded())


async def emptied(folder: Path) -> None:
    while any(folder.iterdir()):  # noqa: ASYNC110, ASYNC240 - it happens in a thread
        await asyncio.sleep(0.005)


def test_what_is_taken_is_gone_at_once_and_deleted_then(tmp_path: Path) -> None:
    async def scenario() -> None:
        made = Removals(tmp_path / "removed")
        made.start()
        for name in "abc":
            one = tree(tmp_path / name)
            made.take(one)
            assert not one.exists()
            assert (tmp_path / "removed" / name / "upper" / "deep" / "file").exists()
        made.take(tmp_path / "a")  # again
        await emptied(tmp_path / "removed")
        made.take(tree(tmp_path / "d"))
        await emptied(tmp_path / "removed")
        await made.close()

    within(scenario)


@pytest.mark.parametrize("short", [False, True])
def test_on_a_disk_with_little_room_it_is_deleted_when_the_removal_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, short: bool
) -> None:
    if short:
        monkeypatch.setattr(removals, "SHORT_BYTES", 1 << 62)

    async def scenario() -> None:
        made = Removals(tmp_path / "removed")
        made.start()
        made.take(tree(tmp_path / "a"))
        await made.make_room()
        assert any((tmp_path / "removed").iterdir()) != short
        await made.close()

    within(scenario)


def test_the_next_engine_deletes_what_is_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        first = Removals(tmp_path / "removed")
        first.start()
        for name in "ab":
            first.take(tree(tmp_path / name))
        await first.close()  # before anything could be begun
        assert len([*(tmp_path / "removed").iterdir()]) == 2
        second = Removals(tmp_path / "removed")
        second.start()
        await emptied(tmp_path / "removed")
        await second.close()

    within(scenario)


def test_an_end_does_not_wait_for_a_whole_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of its files takes until the end has begun, as on a disk that has to be waited for."""
    begun, ending, real = threading.Event(), threading.Event(), trees._unlink

    def unlink(parent: int, name: str) -> bool:
        if name.isdecimal():
            begun.set()
            assert ending.wait(60)
        return real(parent, name)

    monkeypatch.setattr(trees, "_unlink", unlink)
    folder = tmp_path / "a" / "upper" / "deep"
    folder.mkdir(parents=True)
    for number in range(500):
        (folder / str(number)).touch()

    async def scenario() -> None:
        made = Removals(tmp_path / "removed")
        made.start()
        made.take(tmp_path / "a")
        assert await asyncio.to_thread(begun.wait, 10)
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        ending.set()
        await closing

    asyncio.run(scenario())
    left = len([*(tmp_path / "removed" / "a" / "upper" / "deep").iterdir()])
    assert left == 499  # which are the next engine's


def test_what_cannot_be_deleted_is_logged_and_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = removals.remove_tree

    def remove(path: Path, wanted: Callable[[], bool]) -> None:
        if path.name == "bad":
            raise OSError(5, "Input/output error", str(path))
        real(path, wanted)

    monkeypatch.setattr(removals, "remove_tree", remove)

    async def scenario() -> None:
        made = Removals(tmp_path / "removed")
        made.start()
        for name in ("good", "bad", "better"):
            made.take(tree(tmp_path / name))
        while len(os.listdir(tmp_path / "removed")) > 1:  # noqa: ASYNC110, PTH208
            await asyncio.sleep(0.005)
        assert (tmp_path / "removed" / "bad").exists()
        await made.close()

    within(scenario)
    assert "Input/output error" in caplog.text


def test_what_cannot_be_taken_stays(tmp_path: Path) -> None:
    async def scenario() -> None:
        made = Removals(tmp_path / "removed")
        made.start()
        (tmp_path / "removed").rmdir()
        (tmp_path / "removed").write_text("no folder")
        with pytest.raises(OSError):
            made.take(tree(tmp_path / "a"))
        assert (tmp_path / "a" / "upper").exists()

    within(scenario)
