"""The store of build contexts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from coved.build.cache import contexts
from coved.build.cache.contexts import Contexts


def run(body: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await body()

    asyncio.run(bounded())


async def put(store: Contexts, key: str, text: str = "x", *, whole: bool = True) -> str:
    """What was there before; the folder's name is the text's key in ``names``."""
    async with store.use(key) as folder:
        file = folder.path / "file"
        before = file.read_text() if file.exists() else ""
        assert folder.fresh == (before == "")
        file.write_text(text)
        folder.whole = whole
    return before


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name not in ("boot", "synced"))


def test_the_next_use_finds_what_the_last_one_left(tmp_path: Path) -> None:
    async def body() -> None:
        store = Contexts(tmp_path)
        assert await put(store, "a", "one") == ""
        assert await put(store, "b", "two") == ""
        assert await put(store, "a", "three") == "one"
        assert [(kept.key, kept.size, kept.uses) for kept in await store.entries()] == [("b", 3, 1), ("a", 5, 2)]

    run(body)


def test_what_is_not_whole_is_gone(tmp_path: Path) -> None:
    async def body() -> None:
        store = Contexts(tmp_path)
        await put(store, "a", whole=True)
        await put(store, "a", whole=False)
        assert left(tmp_path) == []
        with pytest.raises(ValueError, match="broken"):
            async with store.use("a"):
                raise ValueError("broken")
        assert left(tmp_path) == []

    run(body)


def test_a_build_that_fails_keeps_its_whole_context(tmp_path: Path) -> None:
    async def body() -> None:
        store = Contexts(tmp_path)
        with pytest.raises(ValueError, match="broken"):
            async with store.use("a") as folder:
                folder.whole = True
                raise ValueError("broken")
        assert len(await store.entries()) == 1

    run(body)


def test_without_a_key_nothing_is_kept(tmp_path: Path) -> None:
    async def body() -> None:
        await put(Contexts(tmp_path), "")
        assert left(tmp_path) == []

    run(body)


def test_two_at_once_have_two_folders(tmp_path: Path) -> None:
    async def body() -> None:
        store = Contexts(tmp_path)
        await put(store, "a", "one")
        async with store.use("a") as first, store.use("a") as second:
            assert first.path != second.path
            assert (first.fresh, second.fresh) == (False, True)
            first.whole = second.whole = True
            (second.path / "file").write_text("two")
        assert sorted([kept.key for kept in await store.entries()]) == ["a", "a"]

    run(body)


def test_another_engine_finds_it(tmp_path: Path) -> None:
    async def body() -> None:
        await put(Contexts(tmp_path), "a", "one")
        assert await put(Contexts(tmp_path), "a", "two") == "one"

    run(body)


def test_what_a_killed_engine_was_writing_is_gone(tmp_path: Path) -> None:
    async def body() -> None:
        store = Contexts(tmp_path)
        await put(store, "a", "one")
        await put(store, "b", "two")
        async with store.use("a") as folder:
            # As the disk is now, a new engine finds it.
            other = Contexts(tmp_path)
            assert [kept.key for kept in await other.entries()] == ["b"]
            assert not folder.path.exists()

    run(body)


def test_another_boot_trusts_what_was_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    boot = tmp_path / "boot_id"
    boot.write_text("one\n")
    monkeypatch.setattr(contexts, "_BOOT_ID", boot)
    root = tmp_path / "contexts"

    async def body() -> None:
        store = Contexts(root)
        await put(store, "a", "one")
        await store.close()
        boot.write_text("two\n")
        store = Contexts(root)
        assert [kept.key for kept in await store.entries()] == ["a"]
        boot.write_text("three\n")  # the machine died
        assert await Contexts(root).entries() == []
        assert left(root) == []

    run(body)


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"name": "x"}', "\udcff", '{"a":' * 2000, "null"])
def test_notes_that_are_none(tmp_path: Path, note: str) -> None:
    async def body() -> None:
        store = Contexts(tmp_path)
        await put(store, "a")
        name = (await store.entries())[0].name
        (tmp_path / f"{name}.json").write_bytes(note.encode("utf-8", "surrogateescape"))
        other = Contexts(tmp_path)
        assert await other.entries() == []
        assert not (tmp_path / name).exists()

    run(body)


def test_those_not_used_for_longest_make_room(tmp_path: Path) -> None:
    async def body() -> None:
        store = Contexts(tmp_path, limit_bytes=100)
        for key in ("a", "b", "c"):
            await put(store, key, "x" * 40)
        assert [kept.key for kept in await store.entries()] == ["b", "c"]
        await put(store, "b", "x" * 40)
        await put(store, "d", "x" * 40)
        assert [kept.key for kept in await store.entries()] == ["b", "d"]
        await put(store, "e", "x" * 200)
        assert await store.entries() == []
        assert left(tmp_path) == []
        few = Contexts(tmp_path, limit_count=2)
        for key in ("a", "b", "c"):
            await put(few, key)
        assert [kept.key for kept in await few.entries()] == ["b", "c"]

    run(body)


def test_removing(tmp_path: Path) -> None:
    async def body() -> None:
        store = Contexts(tmp_path)
        await put(store, "a")
        await put(store, "b")
        await store.remove([(await store.entries())[0].name, "unknown"])
        assert [kept.key for kept in await store.entries()] == ["b"]
        assert len(left(tmp_path)) == 2

    run(body)


def test_a_use_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def body() -> None:
        store = Contexts(tmp_path)
        inside = asyncio.Event()

        async def use() -> None:
            async with store.use("a") as folder:
                (folder.path / "file").write_text("x")
                inside.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(use())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left(tmp_path) == []

    run(body)
