import asyncio
import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from coved.errors import Conflict, EngineError, InvalidParameter, NotFound, no_space
from coved.events import Events
from coved.filters import Filters
from coved.store.database import Database
from coved.volumes import Volumes, manager, mounting


def with_volumes(root: Path, work: Callable[[Volumes], Awaitable[Any]]) -> Any:
    """Runs ``work`` with a volumes domain as a newly started engine has it."""

    async def main() -> Any:
        database = Database(root / "metadata.db")
        volumes = Volumes(database, Events(), root)
        await volumes.start()
        try:
            return await work(volumes)
        finally:
            database.close()

    return asyncio.run(main())


def test_volumes_outlive_the_engine(tmp_path: Path) -> None:
    async def create(volumes: Volumes) -> None:
        volume = await volumes.create("data", labels={"a": "b"})
        (volume.path / "file").write_text("content")
        volumes.acquire("data", "c1")

    async def look(volumes: Volumes) -> None:
        volume = volumes.get("data")
        assert (volume.labels, (volume.path / "file").read_text()) == ({"a": "b"}, "content")
        assert volume.path == tmp_path / "volumes/data/_data"
        assert volumes.users("data") == ["c1"]

    with_volumes(tmp_path, create)
    with_volumes(tmp_path, look)


def test_what_is_forgotten_by_an_engine_that_dies_of_it_is_gone_after_the_next_start(tmp_path: Path) -> None:
    """As with the record of its container, in one transaction."""

    async def forget(volumes: Volumes) -> None:
        for name in ("kept", "gone"):
            (await volumes.create(name)).path.joinpath("file").touch()
        with pytest.raises(ZeroDivisionError), volumes._database.transaction():
            volumes.forget("kept")
            raise ZeroDivisionError
        volumes.acquire("gone", "c1")
        with volumes._database.transaction():
            with pytest.raises(Conflict):
                volumes.forget("gone")
            volumes.release("gone", "c1")
            volumes.forget("gone")

    async def look(volumes: Volumes) -> None:
        assert [one.name for one in volumes.list()] == ["kept"]
        assert sorted(path.name for path in (tmp_path / "volumes").iterdir()) == ["kept"]
        assert (tmp_path / "volumes/kept/_data/file").exists()

    with_volumes(tmp_path, forget)
    with_volumes(tmp_path, look)


def test_what_was_made_for_a_container_that_never_came_to_be_is_removed(tmp_path: Path) -> None:
    """And nothing else: neither what a removed container has left, nor what somebody has taken into use meanwhile."""
    names: dict[str, str] = {}

    async def create(volumes: Volumes) -> None:
        for name in ("left", "its own", "in vain", "taken"):
            names[name] = (await volumes.create(made_for={"left": "c0", "its own": "c1"}.get(name, "c2"))).name
            volumes.path(names[name]).joinpath("file").touch()
        await volumes.create("named")
        assert volumes.get("named") == await volumes.create("named", made_for="c2")  # it was there before
        volumes.acquire(names["taken"], "c3")
        volumes.acquire("named", "c2")  # whose record was lost
        with pytest.raises(Conflict):
            await volumes.remove(names["in vain"])
        assert (await volumes.prune()).names == []
        volumes.release(names["left"], "c0")  # as `docker rm` does without -v

    async def start(volumes: Volumes) -> None:
        assert volumes.made_in_vain({"c1", "c3"}) == {"c2"}
        await volumes.give_up("c2")
        assert volumes.made_in_vain({"c1", "c3"}) == set()
        there = {"named", names["left"], names["its own"], names["taken"]}
        assert {one.name for one in volumes.list()} == there
        assert volumes.users("named") == []
        assert {path.name for path in (tmp_path / "volumes").iterdir()} == there
        assert volumes.path(names["left"]).joinpath("file").exists()
        assert (volumes.users(names["its own"]), volumes.users(names["taken"])) == (["c1"], ["c3"])

    with_volumes(tmp_path, create)
    with_volumes(tmp_path, start)


@pytest.mark.parametrize("tries", ["create", "remove", "prune", "give_up"])
def test_on_a_full_disk_what_was_made_in_vain_waits_until_volumes_come_or_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tries: str
) -> None:
    """And nobody is said to use it meanwhile."""

    async def work(volumes: Volumes) -> None:
        name = (await volumes.create(made_for="c1")).name
        for named in ("mine", "other"):
            await volumes.create(named)
            volumes.acquire(named, "c1")

        def full(self: Volumes, name: str, container_id: str) -> None:
            raise no_space("the disk")

        with monkeypatch.context() as patch:
            patch.setattr(Volumes, "release", full)
            await volumes.give_up("c1")
        assert volumes.users(name) == volumes.users("mine") == []
        if tries == "create":
            await volumes.create("mine")
        elif tries == "remove":
            await volumes.remove("other")
        elif tries == "prune":
            await volumes.prune()
        else:
            await volumes.give_up("c2")
        assert {one.name for one in volumes.list()} == {"mine", "other"} - ({"other"} if tries == "remove" else set())
        assert volumes.made_in_vain(()) == set()

    with_volumes(tmp_path, work)


def test_what_was_made_in_vain_is_deleted_however_often_its_creation_is_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(volumes: Volumes) -> None:
        for _ in range(3):
            await volumes.create(made_for="c1")
        begun, goes_on = asyncio.Event(), asyncio.Event()
        delete = manager._delete

        async def slowly(path: Path) -> None:
            begun.set()
            await goes_on.wait()
            await delete(path)

        monkeypatch.setattr(manager, "_delete", slowly)
        giving_up = asyncio.create_task(volumes.give_up("c1"))
        await begun.wait()
        for _ in range(2):
            giving_up.cancel()
            await asyncio.sleep(0)
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await giving_up
        assert [*(tmp_path / "trash").iterdir()] == []

    with_volumes(tmp_path, work)


@pytest.mark.root
def test_what_cannot_be_deleted_waits_until_it_can(tmp_path: Path) -> None:
    async def remove(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        (volume.path / "file").write_text("content")
        subprocess.run(["chattr", "+i", volume.path / "file"], check=True)  # noqa: ASYNC221 - nothing else runs
        await volumes.remove("data")
        with pytest.raises(NotFound):
            volumes.get("data")

    async def nothing(volumes: Volumes) -> None:
        assert volumes.list() == []

    with_volumes(tmp_path, remove)
    with_volumes(tmp_path, nothing)  # and an engine starts
    (left,) = (tmp_path / "trash").rglob("file")
    subprocess.run(["chattr", "-i", left], check=True)
    with_volumes(tmp_path, nothing)
    assert not [*(tmp_path / "trash").iterdir()]


def test_creating_an_existing_volume_finds_it(tmp_path: Path) -> None:
    async def work(volumes: Volumes) -> None:
        first = await volumes.create("data", labels={"a": "b"})
        assert await volumes.create("data", labels={"other": "label"}) == first

    with_volumes(tmp_path, work)


def test_a_volume_without_name_is_anonymous(tmp_path: Path) -> None:
    async def work(volumes: Volumes) -> None:
        volume = await volumes.create()
        assert len(volume.name) == 64 and volume.anonymous

    with_volumes(tmp_path, work)


@pytest.mark.parametrize("name", ["x!", "-a", ".a", "a/b", "../a", "..", "a b", "a\n", "äb", "a" * 256])
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    async def work(volumes: Volumes) -> None:
        with pytest.raises(InvalidParameter) as error:
            await volumes.create(name)
        assert str(error.value) == (
            f'create {name}: "{name}" includes invalid characters for a local volume name, only '
            '"[a-zA-Z0-9][a-zA-Z0-9_.-]" are allowed. If you intended to pass a host directory, use absolute path'
        )

    with_volumes(tmp_path, work)


def test_other_drivers_are_refused(tmp_path: Path) -> None:
    async def work(volumes: Volumes) -> None:
        with pytest.raises(NotFound, match='plugin "nfs" not found'):
            await volumes.create("data", driver="nfs")
        with pytest.raises(InvalidParameter, match='create data: missing required option: "type"'):
            await volumes.create("data", options={"device": "x"})
        assert volumes.list() == []

    with_volumes(tmp_path, work)


def test_a_volume_in_use_is_not_removed(tmp_path: Path) -> None:
    async def work(volumes: Volumes) -> None:
        await volumes.create("data")
        volumes.acquire("data", "c1")
        volumes.acquire("data", "c1")
        volumes.acquire("data", "c2")
        for force in (False, True):
            with pytest.raises(Conflict) as error:
                await volumes.remove("data", force=force)
            assert str(error.value) == "remove data: volume is in use - [c1, c2]"
        volumes.release("data", "c1")
        volumes.release("data", "c2")
        volumes.release("data", "c2")
        await volumes.remove("data")
        assert not (tmp_path / "volumes/data").exists()
        with pytest.raises(NotFound, match="get data: no such volume"):
            await volumes.remove("data")
        await volumes.remove("data", force=True)

    with_volumes(tmp_path, work)


def test_a_link_inside_a_volume_is_not_followed_when_it_goes(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()

    async def work(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        (volume.path / "link").symlink_to(outside)
        (volume.path / "deep/er").mkdir(parents=True)
        await volumes.remove("data")

    with_volumes(tmp_path, work)
    assert (outside / "file").exists()
    assert list((tmp_path / "volumes").iterdir()) == []
    assert list((tmp_path / "trash").iterdir()) == []


def test_a_new_volume_is_not_removed_with_its_namesake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is too full for the old one to be moved away first."""

    def rename(path: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def work(volumes: Volumes) -> None:
        (await volumes.create("data")).path.joinpath("old").touch()
        monkeypatch.setattr(Path, "rename", rename)
        begun, may_end = threading.Event(), threading.Event()
        remove = manager._remove

        def slowly(path: Path) -> None:
            begun.set()
            assert may_end.wait(10)
            remove(path)

        monkeypatch.setattr(manager, "_remove", slowly)
        removal = asyncio.create_task(volumes.remove("data"))
        assert await asyncio.to_thread(begun.wait, 10)
        removal.cancel()  # whoever asked for it is gone
        with pytest.raises(Conflict, match=r"^create data: the volume that had this name is being removed$"):
            await volumes.create("data")
        may_end.set()
        await asyncio.wait({removal})
        assert [*(await volumes.create("data")).path.iterdir()] == []

    with_volumes(tmp_path, work)


def test_names_are_found_by_regular_expressions_as_dockerd_has_it(tmp_path: Path) -> None:
    async def work(volumes: Volumes) -> None:
        for name in ("data", "data2", "my.data"):
            await volumes.create(name)
        for wanted, found in (
            (["data"], ["data", "data2", "my.data"]),
            (["^data"], ["data", "data2"]),
            (["^data$", "^my"], ["data", "my.data"]),
            (["d.t.2"], ["data2"]),
            (["("], []),
        ):
            assert [volume.name for volume in volumes.list(Filters({"name": wanted}))] == found

    with_volumes(tmp_path, work)


def test_leftovers_go_at_the_next_start(tmp_path: Path) -> None:
    async def work(volumes: Volumes) -> None:
        assert volumes.list() == []

    with_volumes(tmp_path, work)
    (tmp_path / "volumes/stray/_data/x").mkdir(parents=True)
    (tmp_path / "trash/old").mkdir(parents=True)
    with_volumes(tmp_path, work)
    assert list((tmp_path / "volumes").iterdir()) == list((tmp_path / "trash").iterdir()) == []


def test_volumes_outlive_the_metadata(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The database is gone (a disk that was repaired, a hand that slipped): the users' files must not follow it."""

    async def create(volumes: Volumes) -> None:
        (await volumes.create("data")).path.joinpath("file").write_text("content")
        (await volumes.create()).path.joinpath("file").write_text("anonymous")

    async def look(volumes: Volumes) -> None:
        texts = {(volume.path / "file").read_text(): volume for volume in volumes.list()}
        assert sorted(texts) == ["anonymous", "content"] and texts["content"].name == "data"
        assert not (await volumes.prune()).names  # nobody can say by now what was anonymous

    with_volumes(tmp_path, create)
    for file in tmp_path.glob("metadata.db*"):
        file.unlink()
    (tmp_path / "volumes/.hidden").mkdir()
    for _ in range(2):
        with_volumes(tmp_path, look)
    assert "no metadata of volume data were found: it is kept" in caplog.text


def test_list_filters(tmp_path: Path) -> None:
    async def work(volumes: Volumes) -> None:
        await volumes.create("used", labels={"tier": "db"})
        await volumes.create("unused")
        volumes.acquire("used", "c1")

        def names(**filters: list[str]) -> list[str]:
            return [volume.name for volume in volumes.list(Filters(filters))]

        assert names() == ["unused", "used"]
        assert names(dangling=["true"]) == ["unused"]
        assert names(dangling=["false"]) == ["used"]
        assert names(label=["tier=db"]) == ["used"]
        assert names(name=["unu"]) == ["unused"]
        assert names(driver=["nfs"]) == []
        with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
            names(colour=["red"])

    with_volumes(tmp_path, work)


def test_prune_takes_anonymous_volumes_and_named_ones_when_told(tmp_path: Path) -> None:
    async def work(volumes: Volumes) -> None:
        anonymous = await volumes.create()
        (anonymous.path / "file").write_bytes(b"x" * 100_000)
        used = await volumes.create()
        volumes.acquire(used.name, "c1")
        await volumes.create("named")
        pruned = await volumes.prune()
        assert pruned.names == [anonymous.name]
        assert pruned.reclaimed >= 100_000
        assert (await volumes.prune(Filters({"all": ["true"]}))).names == ["named"]
        assert [volume.name for volume in volumes.list()] == [used.name]

    with_volumes(tmp_path, work)


def test_populate_copies_into_an_empty_volume_only(tmp_path: Path) -> None:
    source = tmp_path / "image"
    (source / "sub").mkdir(parents=True)
    (source / "file").write_text("content")
    (source / "file").chmod(0o640)
    os.utime(source / "file", (1000, 2000))
    os.link(source / "file", source / "sub/hard")
    (source / "soft").symlink_to("/etc/passwd")
    os.mkfifo(source / "fifo")
    source.chmod(0o750)

    async def work(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        directory = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        await asyncio.gather(volumes.populate("data", directory), volumes.populate("data", directory))
        copied = volume.path
        assert (copied / "file").read_text() == "content"
        status = (copied / "file").stat()
        assert (status.st_mode & 0o7777, status.st_mtime) == (0o640, 2000)
        assert (copied / "sub/hard").stat().st_ino == status.st_ino
        assert (copied / "soft").readlink() == Path("/etc/passwd")
        assert (copied / "fifo").is_fifo()
        assert copied.stat().st_mode & 0o7777 == 0o750
        (copied / "file").write_text("changed")
        await volumes.populate("data", directory)
        os.close(directory)
        assert (copied / "file").read_text() == "changed"

    with_volumes(tmp_path, work)


def test_what_a_new_container_alone_has_gets_the_directory_that_was_copied(tmp_path: Path) -> None:
    """Nobody looks at the volume yet, and so nothing has to be moved into it."""
    source = tmp_path / "image"
    source.mkdir()
    (source / "file").touch()

    async def work(volumes: Volumes) -> None:
        directory = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        for user, replaced in (("c1", True), ("c2", False)):
            volume = await volumes.create(made_for="c1")
            volumes.acquire(volume.name, user)
            before = volume.path.stat().st_ino
            await volumes.populate(volume.name, directory, made_for="c1")
            assert (volume.path / "file").exists() and (volume.path.stat().st_ino != before) is replaced
        os.close(directory)

    with_volumes(tmp_path, work)


def test_an_empty_volume_gets_empty_files_where_the_image_has_nothing(tmp_path: Path) -> None:
    source, outside = tmp_path / "image", tmp_path / "outside"
    source.mkdir()
    (source / "hosts").write_text("the image's")
    (source / "resolv.conf").symlink_to(outside)

    async def work(volumes: Volumes) -> None:
        volume = await volumes.create("data")
        directory = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        for names in (["hosts", "hostname", "resolv.conf"], ["later"]):
            await volumes.populate("data", directory, names)
        os.close(directory)
        assert {path.name for path in volume.path.iterdir()} == {"hosts", "hostname", "resolv.conf"}
        assert (volume.path / "hosts").read_text() == "the image's"
        assert (volume.path / "hostname").read_bytes() == b""
        assert (volume.path / "resolv.conf").readlink() == outside
        assert not outside.exists()

    with_volumes(tmp_path, work)


def test_what_is_being_mounted_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may take minutes; a removal meanwhile would find nothing mounted, and then delete the server's files."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(place: Path, options: Mapping[str, str], found: object) -> None:
        begun.set()
        go_on.wait(10)
        raise EngineError("no answer")

    monkeypatch.setattr(mounting, "_mount", slow)

    async def look(volumes: Volumes) -> None:
        async with volumes.opened(["data"]):
            pytest.fail("it is not mounted")

    async def work(volumes: Volumes) -> None:
        await volumes.create("data", options={"type": "nfs", "device": ":/x"})
        looking = asyncio.create_task(look(volumes))
        await asyncio.to_thread(begun.wait, 10)
        with pytest.raises(Conflict, match=r"^remove data: volume has active mounts$"):
            await volumes.remove("data")
        go_on.set()
        with pytest.raises(EngineError, match=r"^no answer$"):
            await looking
        await volumes.remove("data")

    with_volumes(tmp_path, work)


@pytest.mark.root
def test_what_nobody_waits_for_any_more_is_not_mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client leaves while a server is asked; the mount would be there for ever, and in the way of a removal."""
    begun, go_on = threading.Event(), threading.Event()
    mount = mounting._mount

    def slow(place: Path, options: Mapping[str, str], found: object) -> None:
        begun.set()
        go_on.wait(10)
        mount(place, options, None)
        assert mounting.mounts_below(tmp_path)

    monkeypatch.setattr(mounting, "_mount", slow)

    async def work(volumes: Volumes) -> None:
        await volumes.create("data", options={"type": "tmpfs", "device": "tmpfs"})
        mounted = asyncio.create_task(volumes.mount(["data"], "somebody"))
        await asyncio.to_thread(begun.wait, 10)
        mounted.cancel()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await mounted
        assert mounting.mounts_below(tmp_path) == [] and not volumes.in_use("data")
        await volumes.mount(["data"], "another")
        assert len(mounting.mounts_below(tmp_path)) == 1
        await volumes.unmount(["data"], "another")

    try:
        with_volumes(tmp_path, work)
    finally:
        mounting.clear_mounts(tmp_path)


def test_a_prune_goes_on_when_a_volume_is_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(volumes: Volumes) -> None:
        for name in ("aa", "bb", "cc", "dd"):
            await volumes.create(name)
        count = volumes.size

        async def meanwhile(name: str) -> int:
            if name == "bb":
                await volumes.remove("bb")
            elif name == "cc":
                shutil.rmtree(volumes.path("cc"))  # a removal that is between its two steps
            return await count(name)

        monkeypatch.setattr(volumes, "size", meanwhile)
        assert (await volumes.prune(Filters({"all": ["true"]}))).names == ["aa", "dd"]

    with_volumes(tmp_path, work)


@pytest.mark.root
def test_nothing_is_deleted_while_something_is_mounted_in_it(tmp_path: Path) -> None:
    """What an engine left that was killed in a removal is removed at the next start, but not what is mounted there."""

    async def nothing(volumes: Volumes) -> None:
        assert volumes.list() == []

    with_volumes(tmp_path, nothing)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    for place in ("volumes/stray/_data", "trash/volume-1/_data"):
        (tmp_path / place).mkdir(parents=True)
        subprocess.run(["mount", "--bind", outside, tmp_path / place], check=True)
    with_volumes(tmp_path, nothing)
    assert (outside / "precious").read_text() == "precious"
    assert list((tmp_path / "volumes").iterdir()) == list((tmp_path / "trash").iterdir()) == []
    assert mounting.mounts_below(tmp_path) == []
