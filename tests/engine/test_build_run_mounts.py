"""RUN --mount: binds, caches, tmpfs, secrets and sockets, and what is left of them."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from coved.build.errors import BuildError
from coved.build.orders import BindMount, CacheMount, Files, SecretMount, SocketMount, TmpfsMount
from coved.errors import EngineError

from build_support import NOTHING, Parts, Session, session, until


@pytest.fixture(scope="module")
def shared() -> Iterator[Session]:
    with session() as made:
        yield made


def context(parts: Parts) -> Path:
    """A client's files, hostile ones among them."""
    made = parts.folder / "context"
    if not made.exists():
        (made / "sub").mkdir(parents=True)
        (made / "sub" / "file").write_text("content\n")
        (made / "out").symlink_to("/etc")
        (made / "far").symlink_to("../../../../../../etc/passwd")
        (made / "near").symlink_to("/sub/file")
    return made


def test_binds_of_a_clients_files(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        files = Files(context(parts))
        told, _, ref = await parts.run(
            "cat /in/sub/file /one; (echo x >/in/new) 2>&1; (echo x >/one) 2>&1; readlink /in/out",
            mounts=[BindMount(files, "", "/in"), BindMount(files, "sub/file", "one")],
        )
        assert told.splitlines() == [
            "content", "content", "/bin/sh: can't create /in/new: Read-only file system",
            "/bin/sh: can't create /one: Read-only file system", "/etc",
        ]  # fmt: skip
        assert parts.files(ref) == []

    shared.run(work)


def test_a_bind_that_can_be_written_to_loses_what_was_written(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        files = Files(context(parts))
        told, _, ref = await parts.run(
            "echo more >>/in/file; rm /one; echo other >/two; cat /in/file /two",
            mounts=[
                BindMount(files, "sub", "/in", read_only=False),
                BindMount(files, "sub/file", "/two", read_only=False),
                BindMount(Files(refs=parts.base), "/bin", "/three", read_only=False),
            ],
        )
        assert told == "content\nmore\nother\n"
        assert parts.files(ref) == []
        assert (context(parts) / "sub" / "file").read_text() == "content\n"

    shared.run(work)


def test_binds_of_layers(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        one = (await parts.run("mkdir -p /d/e; echo 1 >/d/e/f; ln -s /d /link; ln -s ../../../../etc /up"))[2]
        two = (await parts.run("echo 2 >/d/g", base=(*parts.base, one)))[2]
        files = Files(refs=(*parts.base, one, two))
        told = await parts.mounting(
            "ls /all/d /d; cat /f; ls /through/e; head -1 /up/passwd; ls /scratch; (echo >/d/x) 2>&1 || true",
            BindMount(files, "/", "/all"), BindMount(files, "d", "/d"), BindMount(files, "/link/e/f", "/f"),
            BindMount(files, "link", "/through"), BindMount(files, "up", "/up"), BindMount(Files(), "", "/scratch"),
        )  # fmt: skip
        assert told.splitlines() == [
            "/all/d:", "e", "g", "", "/d:", "e", "g", "1", "f", "root:x:0:0:root:/root:/bin/sh",
            "/bin/sh: can't create /d/x: Read-only file system",
        ]  # fmt: skip

    shared.run(work)


def test_no_link_in_a_clients_files_leads_out_of_them(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        files = Files(context(parts))
        assert await parts.mounting("cat /x", BindMount(files, "near", "/x")) == "content\n"
        for source in ("out/passwd", "far", "../../../../etc/passwd", "nosuch"):
            for read_only in (True, False):
                with pytest.raises((EngineError, BuildError)) as caught:
                    await parts.mounting("cat /x", BindMount(files, source, "/x", read_only=read_only))
                assert "root:" not in "".join(getattr(caught.value, "__notes__", ()))
        # Places are within the root as well, wherever links in it lead.
        below = (await parts.run("ln -s ../../../../../../../tmp /esc; ln -s /nowhere/yet /dangling"))[2]
        told = await parts.mounting(
            "ls -d /tmp/here /nowhere/yet",
            TmpfsMount("/esc/../../../../esc/here"), TmpfsMount("/dangling"), base=(*parts.base, below),
        )  # fmt: skip
        assert told.split() == ["/nowhere/yet", "/tmp/here"]
        assert not Path("/tmp/here").exists()
        assert await parts.leftovers() == NOTHING

    shared.run(work)


def test_places_for_mounts_do_not_stay(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        mounts = [
            TmpfsMount("/a/b/c"), CacheMount("places", "/cache/x"), SecretMount("/run/secrets/s", b"1"),
            BindMount(Files(context(parts)), "sub/file", "/etc/conf"), TmpfsMount("relative"),
        ]  # fmt: skip
        order: dict[str, Any] = {"mounts": mounts, "cwd": "/tmp"}
        told, _, ref = await parts.run("ls -d /a/b/c /cache/x /run/secrets/s /etc/conf /tmp/relative", **order)
        assert len(told.split()) == 5
        assert parts.files(ref) == []
        _, _, ref = await parts.run("touch /a/b/kept /cache/x/lost; mkdir /a/d", **order)
        assert parts.files(ref) == ["a", "a/b", "a/b/kept", "a/d"]
        # What there was stays, whatever it looks like.
        below = (await parts.run("mkdir -p /a/b; touch /etc/conf"))[2]
        order["base"] = (*parts.base, below)
        _, _, ref = await parts.run("true", **order)
        assert parts.files(ref) == []
        # A command that puts something else there has changed just that.
        _, _, ref = await parts.run(
            "umount /a/b/c && rmdir /a/b/c && ln -s /etc /a/b/c && rm -r /a/b/../b/c", insecure=True, **order
        )
        assert parts.files(ref) in (["a", "a/b"], [])

    shared.run(work)


def test_a_tmpfs(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        told = await parts.mounting(
            "stat -c %a /t /tmp; df -k /sized | tail -1 | awk '{print $2}'; grep ' /t ' /proc/mounts",
            TmpfsMount("/t"), TmpfsMount("/tmp"), TmpfsMount("/sized", 1 << 20),
        )  # fmt: skip
        assert told.splitlines()[2] == "1024"
        assert "tmpfs /t tmpfs rw,nosuid" in told
        assert told.splitlines()[1] == "1777"

    shared.run(work)


def test_secrets_are_in_memory_only(shared: Session) -> None:
    token = b"t0psecret" * 5000

    async def work(parts: Parts) -> None:
        order = asyncio.create_task(
            parts.run(
                "stat -c '%a %u %g %s' /run/secrets/one /two; id -u; wc -c </run/secrets/one; (echo >/two) 2>&1; "
                "grep /run/secrets/one /proc/mounts; sleep 0.4",
                mounts=[SecretMount("/run/secrets/one", token), SecretMount("/two", b"", 0o640, 7, 8)],
            )
        )
        await asyncio.sleep(0.3)
        for path in [*parts.root.rglob("*"), *(parts.state / "shims").rglob("*")]:
            assert not path.is_file() or b"t0psecret" not in path.read_bytes()
        told, _, ref = await order
        lines = told.splitlines()
        assert lines[:4] == [f"400 0 0 {len(token)}", "640 7 8 0", "0", str(len(token))]
        assert lines[4] == "/bin/sh: can't create /two: Read-only file system"
        assert lines[5].startswith("tmpfs /run/secrets/one tmpfs ro,nosuid,nodev,noexec")
        assert parts.files(ref) == []

    shared.run(work)


def test_a_socket(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        path = parts.folder / "agent.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            told = await parts.mounting("stat -c '%F %a %u %g %i' /agent", SocketMount("/agent", path, 0o666, 9, 8))
        assert told == f"socket 666 9 8 {path.stat().st_ino}\n"
        path.unlink()

    shared.run(work)


def test_a_mount_that_cannot_be_fails_as_with_buildkit(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        for mount in (CacheMount("f", "/etc/passwd"), TmpfsMount("/etc/passwd"), SecretMount("/etc", b"")):
            with pytest.raises(BuildError, match="did not complete successfully: exit code: 1") as caught:
                await parts.mounting("true", mount)
            assert (
                "runc run failed: unable to start container process: error during container init: error mounting"
                in "".join(caught.value.__notes__)
            )
        (context(parts) / "sub" / "self").mkdir()
        below = (await parts.run("ln -s /proc /way; ln -s /proc/self/attr /other"))[2]
        for target, words in (
            ("/proc", "is not of type proc"), ("/way", "is not of type proc"), ("/proc/bus", "is inside /proc"),
            ("/other", "is inside /proc"), ("/way/1", "is inside /proc"),
        ):  # fmt: skip
            for read_only in (True, False):
                mount = BindMount(Files(context(parts)), "sub", target, read_only)
                with pytest.raises(BuildError) as caught:
                    await parts.mounting("true", mount, base=(*parts.base, below))
                assert f'"{target}" cannot be mounted because it {words}' in "".join(caught.value.__notes__)
        for target in ("/", "/..", "/tmp/.."):
            with pytest.raises(EngineError, match="invalid mount target"):
                await parts.mounting("true", TmpfsMount(target))
        assert await parts.leftovers() == NOTHING

    shared.run(work)


def test_a_cache_stays_and_is_of_its_mount_s_owner(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        mount = CacheMount("../../odd id\n/ü", "/c", mode=0o710, uid=5, gid=6)
        assert await parts.mounting("stat -c '%a %u %g' /c; echo 1 >/c/x; ls -A /c", mount) == "710 5 6\nx\n"
        assert await parts.mounting("cat /other/x", CacheMount(mount.id, "/other", mode=0o710, uid=5, gid=6)) == "1\n"
        assert await parts.mounting("ls /c", CacheMount("odd id", "/c", mode=0o710, uid=5, gid=6)) == ""
        read_only = CacheMount(mount.id, "/c", mode=0o710, uid=5, gid=6, read_only=True)
        assert "Read-only" in await parts.mounting("cat /c/x; (echo >/c/y) 2>&1 || true", read_only)
        one = await parts.mounting(
            "echo 2 >/c/x; cat /d/x", mount, CacheMount(mount.id, "/d", mode=0o710, uid=5, gid=6)
        )
        assert one == "2\n"  # the same folder twice

    async def again(parts: Parts) -> None:
        mount = CacheMount("../../odd id\n/ü", "/c", mode=0o710, uid=5, gid=6)
        assert await parts.mounting("cat /c/x; dd if=/dev/zero of=/c/big bs=1k count=100 2>/dev/null", mount) == "2\n"
        await parts.executor.caches.measure()
        sizes = {one.size: one for one in parts.executor.caches.all()}
        found = sizes[102402]
        assert (found.target, found.in_use, found.uses) == ("/c", False, 5)
        assert found.created_ns < found.used_ns
        assert await parts.executor.caches.remove([found.id, "none"]) == [found.id]
        assert await parts.mounting("ls /c", mount) == ""

    shared.run(work, again)


def test_a_cache_may_begin_with_files(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        of_client, of_image = Files(context(parts), key="k1"), Files(refs=parts.base)
        seeded = CacheMount("seeded", "/c", seed=of_client, source="sub")
        assert await parts.mounting("cat /c/file; echo changed >/c/file", seeded) == "content\n"
        assert await parts.mounting("cat /c/file", seeded) == "changed\n"
        assert (context(parts) / "sub" / "file").read_text() == "content\n"
        assert "passwd" in await parts.mounting("ls /c", CacheMount("seeded", "/c", seed=of_image, source="/etc"))
        with pytest.raises(EngineError, match='"/nosuch"'):
            await parts.mounting("ls /c", CacheMount("seeded", "/c", seed=of_image, source="/nosuch"))
        for source in ("out", "../../etc"):
            with pytest.raises(EngineError):
                await parts.mounting("ls /c", CacheMount("hostile", "/c", seed=of_client, source=source))

    shared.run(work)


async def together(parts: Parts, sharing: str) -> list[str]:
    """What two commands with the same cache see of each other: each says when it begins and ends, and what it finds. The first does
    not end before the second has, if that may begin."""
    mount = CacheMount(f"of {sharing}", "/c", sharing=sharing)
    script = "ls /c; touch /c/a; until [ -e /c/go ]; do usleep 10000; done; rm /c/a /c/go"
    first = asyncio.create_task(parts.mounting(script, mount))
    folders = parts.root / "build" / "cache-mounts"
    await until(lambda: [*folders.glob("*/a")])
    (of_first,) = folders.glob("*/a")
    second = asyncio.create_task(parts.mounting("ls /c; touch /c/b; rm /c/b", mount))
    if sharing == "locked":
        await asyncio.sleep(0.2)
        assert not second.done()
    else:
        await asyncio.wait([second])
    of_first.with_name("go").touch()
    return [await first, await second]


@pytest.mark.parametrize(("sharing", "seen", "folders"), [("shared", "a\n", 1), ("private", "", 2), ("locked", "", 1)])
def test_how_commands_at_the_same_time_share_a_cache(shared: Session, sharing: str, seen: str, folders: int) -> None:
    async def work(parts: Parts) -> None:
        assert await together(parts, sharing) == ["", seen]
        assert len([one for one in parts.executor.caches.all() if "of " + sharing in one.key]) == folders
        in_use = [one.id for one in parts.executor.caches.all() if one.in_use]
        assert in_use == []

    shared.run(work)


def test_nobody_waits_for_ever_for_a_locked_cache(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        one, other = CacheMount("lock 1", "/1", sharing="locked"), CacheMount("lock 2", "/2", sharing="locked")
        async with asyncio.timeout(20):
            await asyncio.gather(
                *(parts.mounting("sleep 0.05", *mounts) for mounts in [(one, other), (other, one)] * 3)
            )
            holder = asyncio.create_task(parts.mounting("sleep 1000", one))
            await until(lambda: any(one.in_use for one in parts.executor.caches.all()))
            assert (
                await parts.executor.caches.remove([one.id for one in parts.executor.caches.all() if one.in_use]) == []
            )
            waiting = asyncio.create_task(parts.mounting("true", other, one))
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            next_one = asyncio.create_task(parts.mounting("echo mine", one))
            await asyncio.sleep(0.1)
            assert not next_one.done()
            holder.cancel()
            assert await next_one == "mine\n"
        assert not any(one.in_use for one in parts.executor.caches.all())
        assert await parts.leftovers() == NOTHING

    shared.run(work)


def test_what_a_killed_engine_has_begun_of_caches_goes(shared: Session) -> None:
    folder = shared.folder / "root" / "build" / "cache-mounts"

    async def make(parts: Parts) -> None:
        await parts.mounting("echo kept >/c/x", CacheMount("kept", "/c"))
        (folder / "cafe").mkdir()
        (folder / "cafe" / "half").touch()

    async def look(parts: Parts) -> None:
        assert not (folder / "cafe").exists()
        assert await parts.mounting("cat /c/x", CacheMount("kept", "/c")) == "kept\n"
        for one in os.listdir(folder):
            os.rename(folder / one, shared.folder / one)

    async def without(parts: Parts) -> None:
        assert parts.executor.caches.all() == []

    shared.run(make, look, without)


def test_a_target_may_have_any_depth_of_places_made(shared: Session) -> None:
    async def work(parts: Parts) -> None:
        target = "/" + "/".join(["ä" * 120] * 15)
        told, _, ref = await parts.run("grep -c tmpfs /proc/mounts", mounts=[TmpfsMount(target)])
        assert told
        assert parts.files(ref) == []

    shared.run(work)
