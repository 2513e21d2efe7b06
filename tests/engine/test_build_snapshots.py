"""What steps have changed, from a draft to a layer of an image, on a real file system: this process has the stores."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import os
import secrets
import shutil
import signal
import stat
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from coved.build.cache.snapshots import Snapshots
from coved.build.cache.steps import Steps
from coved.errors import EngineError
from coved.events import Events
from coved.images import Images
from coved.images.adoption import Adoption
from coved.images.arrivals import Arrival
from coved.images.catalog import Catalog
from coved.images.layers import LayerStore
from coved.runtime import syscalls
from coved.store.blobs import BlobStore
from coved.store.database import Database

Work = Callable[["Stores"], Coroutine[Any, Any, None]]


class Stores:
    """An engine's stores in a folder. As with an engine, everything begins with cleaning up."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = Database(root / "metadata.db")
        self.images = Images(self.database, Events(), root)
        self.snapshots = Snapshots(self.database, self.images, root)
        self.steps = Steps(self.database, self.snapshots)

    async def __aenter__(self) -> Stores:
        await self.images.start(self.root / "no starter")
        await self.snapshots.start()
        self.steps.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.snapshots.close()
        await self.images.close()
        self.database.close()

    async def sealed(
        self, fill: Callable[[Path], object], key: str = "", hold: Callable[[str], object] = lambda _: None
    ) -> str:
        """A step's result; the step has the key, or any."""
        key = key or secrets.token_hex(8)

        def note(ref: str) -> None:
            self.steps.record(key, ref, "", key, same=False, hold=hold)

        async with self.snapshots.draft() as draft:
            fill(draft.upper)
            return await self.snapshots.seal(draft, note)

    def steps_of(self, refs: Iterable[str]) -> list[str]:
        """Keys of the steps that have snapshots."""
        return [step.key for step in self.steps.all() if step.ref in {*refs}]

    async def image(self, *diff_ids: str, name: str = "") -> str:
        config = {"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [*diff_ids]}}
        async with self.images.receiving() as staging:
            added = await self.images.add([Arrival(json.dumps(config).encode())], staging, [name] if name else [])
        assert added is not None
        return added.images[0].id

    def files(self) -> dict[str, list[str]]:
        """What lies in each folder of the stores."""
        places = {"layers": "layers", "blobs": "blobs/sha256", "snapshots": "build/snapshots", "drafts": "build/drafts"}
        return {name: sorted(os.listdir(self.root / place)) for name, place in places.items()}


def run(root: Path, *works: Work) -> None:
    """Each with stores of its own, one after the other: an engine that is started again."""

    async def one(work: Work) -> None:
        async with Stores(root) as stores:
            await work(stores)

    for work in works:
        asyncio.run(one(work))


def text(name: str, content: str = "x") -> Callable[[Path], object]:
    def fill(upper: Path) -> None:
        (upper / name).write_text(content)
        os.utime(upper / name, ns=(0, 1_600_000_000_123_456_789))

    return fill


def everything(upper: Path) -> None:
    """All kinds of files that a step can leave."""
    (upper / "folder").mkdir(mode=0o1777)
    (upper / "folder").chmod(0o1777)
    (upper / "folder" / "file").write_bytes(b"12345")
    os.chown(upper / "folder" / "file", 7, 8)
    (upper / "folder" / "file").chmod(0o4755)
    os.link(upper / "folder" / "file", upper / "another name")
    os.symlink("folder/file", upper / "link")
    os.mkfifo(upper / "fifo")
    os.mknod(upper / "gone", stat.S_IFCHR, os.makedev(0, 0))
    (upper / "anew").mkdir()
    os.setxattr(upper / "anew", "trusted.overlay.opaque", b"y")
    (upper / "größe").write_text("x" * 3000)


def test_a_layer_is_the_same_wherever_its_image_goes(tmp_path: Path) -> None:
    archive: list[bytes] = []
    ids: list[str] = []

    async def build(stores: Stores) -> None:
        ref = await stores.sealed(everything)
        (before,) = stores.snapshots.lower_dirs((ref,))
        inode = (before / "folder" / "file").stat().st_ino
        diff_id = await stores.snapshots.diff_id(ref)
        assert await stores.snapshots.diff_id(ref) == await stores.snapshots.diff_id(diff_id) == diff_id
        (layer,) = stores.snapshots.lower_dirs((ref, diff_id))
        assert layer == stores.images.layer(diff_id)[0] != before
        assert not layer.is_symlink()
        # Moved, not copied; and whoever had the old path finds it by that.
        assert (layer / "folder" / "file").stat().st_ino == inode == (before / "folder" / "file").stat().st_ino
        assert stores.snapshots.size(ref) == 3005
        ids.append(await stores.image(diff_id, name="docker.io/library/x:latest"))
        assert stores.images.get("x").size == 3005
        archive.extend([chunk async for chunk in await stores.images.save(["x"])])

    async def load(stores: Stores) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for chunk in archive:
                yield chunk

        (image,) = await stores.images.load(chunks(), lambda _: None)
        assert [image.id, image.size] == [ids[0], 3005]
        (layer,) = stores.images.lower_dirs(image)
        assert (layer / "folder" / "file").stat().st_mode & 0o7777 == 0o4755
        assert (layer / "another name").stat().st_ino == (layer / "folder" / "file").stat().st_ino
        assert stat.S_ISCHR((layer / "gone").stat().st_mode)
        assert os.getxattr(layer / "anew", "trusted.overlay.opaque") == b"y"
        assert layer.stat().st_mode & 0o7777 == 0o755

    run(tmp_path / "here", build)
    run(tmp_path / "there", load)


def test_nothing_changed_is_no_layer(tmp_path: Path) -> None:
    async def work(stores: Stores) -> None:
        assert await stores.sealed(lambda _: None) == ""
        (only,) = stores.snapshots.lower_dirs(("", ""))  # overlayfs has to have one
        assert os.listdir(only) == []
        await stores.snapshots.close()
        assert stores.files()["drafts"] == stores.files()["snapshots"] == []

    run(tmp_path, work)


def test_layers_are_topmost_first_and_none_is_there_twice(tmp_path: Path) -> None:
    async def work(stores: Stores) -> None:
        one, same, other = [await stores.sealed(text(name)) for name in ("a", "a", "b")]
        diff_id = await stores.snapshots.diff_id(one)
        assert await stores.snapshots.diff_id(same) == diff_id
        layer, second = stores.images.layer(diff_id)[0], stores.root / "build" / "snapshots" / other
        assert stores.snapshots.lower_dirs((one, other)) == [second, layer]
        assert stores.snapshots.lower_dirs((one, other, same)) == [layer, second]
        with pytest.raises(EngineError, match="does not exist"):
            stores.snapshots.lower_dirs((one, "cafe"))

    run(tmp_path, work)


def test_a_second_tree_of_a_layer_goes_when_nobody_can_have_it_mounted(tmp_path: Path) -> None:
    async def work(stores: Stores) -> None:
        one, same = [await stores.sealed(text("a")) for _ in range(2)]
        await stores.snapshots.diff_id(one)
        with contextlib.ExitStack() as late, stores.snapshots.held([one]):  # others are busy all the time
            with stores.snapshots.held([same, one, same]), stores.snapshots.held([same]):
                (mounted,) = stores.snapshots.lower_dirs((same,))
                opened = os.open(mounted, os.O_PATH | os.O_DIRECTORY)
                await stores.snapshots.diff_id(same)
                late.enter_context(stores.snapshots.held([same]))  # whoever comes now gets the layer
                assert stores.snapshots.lower_dirs((same,)) != [mounted]
                assert os.stat("a", dir_fd=opened)
                assert (mounted / "a").read_text() == "x"
            await stores.snapshots.close()
            with pytest.raises(FileNotFoundError):
                os.stat("a", dir_fd=opened)
            os.close(opened)
            assert stores.files()["drafts"] == []
            assert (stores.snapshots.lower_dirs((same,))[0] / "a").read_text() == "x"

    run(tmp_path, work)


def test_layers_that_many_hold_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(stores: Stores) -> None:
        refs = [await stores.sealed(text(name)) for name in ("a", "b")]
        layers = [await stores.snapshots.diff_id(ref) for ref in refs]
        await stores.image(*layers, name="docker.io/library/x:latest")
        await stores.snapshots.remove(refs)
        looked: list[Sequence[str]] = []
        drop = stores.images.drop_layers

        async def dropping(diff_ids: Sequence[str]) -> None:
            looked.append(sorted(diff_ids))
            await drop(diff_ids)

        monkeypatch.setattr(stores.images, "drop_layers", dropping)
        with stores.snapshots.holding() as hold:
            for layer in layers:
                hold(layer)
                with stores.snapshots.held([layer]):
                    pass
            await stores.images.remove("x")
            assert len(stores.files()["layers"]) == 2 and looked == []
        await stores.snapshots.close()
        assert looked == [sorted(layers)]
        assert stores.files()["layers"] == []

    run(tmp_path, work)


def test_layers_stay_as_long_as_an_image_or_the_cache_has_them(tmp_path: Path) -> None:
    refs: list[str] = []

    async def build(stores: Stores) -> None:
        for name in ("a", "b", "c"):
            refs.append(await stores.sealed(text(name)))
        layers = [await stores.snapshots.diff_id(ref) for ref in refs[:2]]
        await stores.image(*layers, name="docker.io/library/x:latest")

    async def without_image(stores: Stores) -> None:
        first, second, _ = refs
        await stores.images.remove("x")
        assert all(ref in stores.snapshots for ref in refs)
        assert len(stores.files()["layers"]) == 2
        layers = [stores.snapshots.layer_of(ref) for ref in refs[:2]]
        assert all(layer in stores.snapshots for layer in layers)
        await stores.image(layers[1], name="docker.io/library/y:latest")
        await stores.snapshots.remove([first, second])
        assert [layer in stores.snapshots for layer in layers] == [False, True]
        assert [ref in stores.snapshots for ref in refs] == [False, False, True]
        with stores.snapshots.held([layers[1]]):
            await stores.images.remove("y")
            assert (stores.snapshots.lower_dirs((layers[1],))[0] / "b").read_text() == "x"
        await stores.snapshots.close()
        assert stores.files() == {"layers": [], "blobs": [], "snapshots": [refs[2]], "drafts": []}

    async def end(stores: Stores) -> None:
        assert (stores.snapshots.lower_dirs((refs[2],))[0] / "c").read_text() == "x"
        await stores.snapshots.remove([refs[2], "none such", "sha256:none such"])
        assert not any(stores.files().values())

    run(tmp_path, build, without_image, end)


def test_a_machines_death_takes_what_was_not_settled(tmp_path: Path) -> None:
    async def build(stores: Stores) -> None:
        await stores.sealed(text("settled"))
        await stores.snapshots.settle()
        await stores.sealed(text("not"))
        # As if it had been in an earlier boot; the row of the first says nothing of one any more.
        stores.database.execute("UPDATE build_snapshots SET boot = 'another' WHERE boot != ''")
        (tmp_path / "refs").write_text(json.dumps([*stores.snapshots]))
        os.kill(os.getpid(), signal.SIGKILL)

    async def look(stores: Stores) -> None:
        settled, lost = json.loads((tmp_path / "refs").read_text())
        assert [*stores.snapshots] == [settled] == stores.files()["snapshots"]
        assert lost not in stores.snapshots

    pid = os.fork()
    if not pid:
        run(tmp_path, build)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    run(tmp_path, look, look)


def test_an_engine_that_ends_leaves_everything_settled(tmp_path: Path) -> None:
    refs: list[str] = []

    async def build(stores: Stores) -> None:
        refs.append(await stores.sealed(text("a")))

    async def look(stores: Stores) -> None:
        row = stores.database.query_one("SELECT boot FROM build_snapshots WHERE id = ?", (refs[0],))
        assert row is not None
        assert row["boot"] == ""

    run(tmp_path, build, look)


def test_whoever_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def work(stores: Stores) -> None:
        async def step() -> None:
            async with stores.snapshots.draft() as draft:
                text("a")(draft.upper)
                ref = await stores.snapshots.seal(draft)
            await stores.snapshots.remove([ref])

        for turns in range(24):
            task = asyncio.create_task(step())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await stores.snapshots.close()
            assert not any(stores.files().values())
        assert [*stores.snapshots] == []

    run(tmp_path, work)


def test_whoever_is_cancelled_leaves_whole_steps(tmp_path: Path) -> None:
    async def work(stores: Stores) -> None:
        kept = 0
        for turns in range(24):
            task = asyncio.create_task(stores.sealed(text("a"), "a"))  # and replaces what there is
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await stores.snapshots.close()
            assert stores.files()["snapshots"] == [*stores.snapshots] == [one.ref for one in stores.steps.all()]
            kept += len([*stores.snapshots])
        assert kept

    run(tmp_path, work)


def test_what_a_full_disk_lets_nobody_note_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(stores: Stores) -> None:
        kept = await stores.sealed(text("a"), "a")

        def full(*arguments: Any, **options: Any) -> None:
            raise EngineError("no space left on device")

        with monkeypatch.context() as patch, pytest.raises(EngineError, match="no space"):
            patch.setattr(stores.steps, "record", full)
            await stores.sealed(text("b"), "a")
        assert stores.files()["snapshots"] == [*stores.snapshots] == [kept] == [one.ref for one in stores.steps.all()]

    run(tmp_path, work)


def test_what_is_replaced_goes_with_the_last_who_holds_it(tmp_path: Path) -> None:
    async def work(stores: Stores) -> None:
        with stores.steps.holding() as hold:
            with stores.steps.holding() as late:
                first = await stores.sealed(text("a", "1"), "a", hold)
                late(first)
                second = await stores.sealed(text("a", "2"), "a", hold)
                third = await stores.sealed(text("a", "3"), "a", late)
                fourth = await stores.sealed(text("a", "4"), "a")
            await stores.snapshots.close()
            assert {*stores.files()["snapshots"]} == {*stores.snapshots} == {first, second, fourth} and third
        await stores.snapshots.close()
        assert stores.files()["snapshots"] == [*stores.snapshots] == [fourth]
        assert stores.steps_of([fourth]) == ["a"]
        fifth = await stores.sealed(text("a", "5"), "a")
        await stores.snapshots.close()
        assert stores.files()["snapshots"] == [fifth]

    run(tmp_path, work)


def test_what_cannot_be_recorded_is_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(stores: Stores) -> None:
        refs = [await stores.sealed(text(name)) for name in ("a", "b", "a")]
        add = Catalog.add_layer

        def full(catalog: Catalog, diff_id: str, *arguments: Any) -> None:
            if stores.database.query("SELECT * FROM layers"):  # one of them has a row by now
                raise OSError("full")
            add(catalog, diff_id, *arguments)

        with monkeypatch.context() as patch, pytest.raises(OSError, match="full"):
            patch.setattr(Catalog, "add_layer", full)
            await stores.snapshots.diff_ids(refs)
        assert stores.files() == {"layers": [], "blobs": [], "snapshots": sorted(refs), "drafts": []}
        for ref, name in zip(refs, "aba", strict=True):
            (tree,) = stores.snapshots.lower_dirs((ref,))
            assert (tree / name).read_text() == "x"
            assert not tree.is_symlink()
        found = await stores.snapshots.diff_ids(refs)
        assert len({*found.values()}) == len(stores.files()["layers"]) == 2
        assert all(diff_id in stores.snapshots for diff_id in found.values())

    run(tmp_path, work)


_INSTANTS: tuple[tuple[Any, str], ...] = (
    (os, "mkdir"), (os, "rename"), (os, "symlink"), (os, "unlink"), (os, "rmdir"), (os, "fsync"), (syscalls, "exchange"),
    (BlobStore, "publish"), (LayerStore, "adopt"), (Catalog, "add_layer"), (Database, "execute"), (Adoption, "_add"),
    (LayerStore, "sync"), (Snapshots, "_forget"), (Snapshots, "remove_soon"),
)  # fmt: skip


def test_an_engine_that_is_killed_at_any_instant_leaves_whole_things_only(tmp_path: Path) -> None:
    """Killed before, and after, each call that changes files or rows; and what was a step's result then is so still."""

    async def scenario(count: int, stores: Stores) -> None:
        def whole(*keys: str) -> None:
            (stores.root / "whole").write_text(" ".join(keys))

        async def prune(*refs: str) -> None:
            stores.steps.forget(stores.steps_of(refs))
            await stores.snapshots.remove(refs)

        _die_at(count)
        first = await stores.sealed(text("a"), "first")
        same = await stores.sealed(text("a"), "same")
        second = await stores.sealed(text("b"), "second")
        whole("first", "same", "second")
        await stores.snapshots.diff_ids([first, same, second])
        third = await stores.sealed(text("c"), "third")
        whole("first", "same", "second", "third")
        await stores.image(stores.snapshots.layer_of(first), name="docker.io/library/x:latest")
        with stores.steps.holding() as hold:
            hold(third)
            third = await stores.sealed(text("d"), "third")
        whole("first", "same")
        await prune(second, third)
        await stores.images.remove("x")
        whole("same")
        await prune(first)

    async def look(stores: Stores) -> None:
        await stores.snapshots.close()  # what the start has begun is done
        noted = {step.key: step.ref for step in stores.steps.all()}
        assert sorted(noted.values()) == sorted(stores.snapshots)
        expected = (stores.root / "whole").read_text().split() if (stores.root / "whole").exists() else []
        assert {*expected} <= {*noted}
        assert all(stores.steps.find(key) for key in noted)
        layers = {*stores.files()["layers"]}
        plain = set()
        for ref in stores.snapshots:
            tree = stores.snapshots.lower_dirs((ref,))[0]
            assert stores.snapshots.size(ref) == 1 == sum(len(path.read_bytes()) for path in tree.iterdir())
            if not stores.snapshots.layer_of(ref):
                plain.add(ref)
        needed = {stores.snapshots.layer_of(ref).removeprefix("sha256:") for ref in stores.snapshots} - {""}
        for image in stores.images.list():
            needed |= {one.removeprefix("sha256:") for one in image.diff_ids}
            assert [chunk async for chunk in await stores.images.save([image.id])]
        assert layers == needed
        assert {*stores.files()["snapshots"]} == plain
        assert stores.files()["drafts"] == []
        assert (
            needed
            <= {*stores.files()["blobs"]}
            <= needed | {one.id.removeprefix("sha256:") for one in stores.images.list()}
        )

    for count in itertools.count():
        root = tmp_path / str(count)
        pid = os.fork()
        if not pid:
            try:
                run(root, functools.partial(scenario, count))
                os._exit(0)
            finally:
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, 77)
        run(root, look)
        if status == 0:
            break
    assert count > 100


def test_an_engine_that_is_killed_while_it_takes_up_a_killed_ones_layers_loses_none(tmp_path: Path) -> None:
    def died(work: Callable[[], object]) -> int:
        pid = os.fork()
        if not pid:
            try:
                work()
                os._exit(0)
            finally:
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    async def build(stores: Stores) -> None:
        refs = [await stores.sealed(text(name), name) for name in "ab"]
        # Everything is where the layers are by then, and nothing is recorded.
        Catalog.add_layer = lambda *_: os._exit(77)  # type: ignore[method-assign]
        await stores.snapshots.diff_ids(refs)

    async def nothing(stores: Stores) -> None:
        pass

    async def look(stores: Stores) -> None:
        for name in "ab":
            step = stores.steps.find(name)
            assert step is not None
            assert (stores.snapshots.lower_dirs((step.ref,))[0] / name).read_text() == "x"
        assert stores.files()["layers"] == stores.files()["blobs"] == []

    def start(root: Path, count: int) -> None:
        _die_at(count)
        run(root, nothing)

    assert died(functools.partial(run, tmp_path / "first", build)) == 77
    assert all(path.is_symlink() for path in (tmp_path / "first/build/snapshots").iterdir())
    for count in itertools.count():
        root = tmp_path / str(count)
        shutil.copytree(tmp_path / "first", root, symlinks=True)
        status = died(functools.partial(start, root, count))
        assert status in (0, 77)
        run(root, look)
        if status == 0:
            break
    assert count > 20


def _die_at(count: int) -> None:
    """Ends this process before the call of that number, of all that change something, or after it."""
    left = itertools.count(count, -1)

    def mortal(call: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*arguments: Any, **options: Any) -> Any:
            if next(left) == 0:
                os._exit(77)
            result = call(*arguments, **options)
            if next(left) == 0:
                os._exit(77)
            return result

        return instead

    for owner, name in _INSTANTS:
        setattr(owner, name, mortal(getattr(owner, name)))
