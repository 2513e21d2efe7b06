"""What a bind gets in the VM, and what is said when it gets nothing; mounting itself is left to machines' tests."""

from __future__ import annotations

import asyncio
import base64
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import ParamSpec

import pytest
from coved.containers.binds import Binds
from coved.containers.mountpoints import MountPoint, collect
from coved.errors import EngineError, InvalidParameter
from coved.outside import Zone
from coved.shares import Share, Table, mounting, shares, stream
from coved.shares import zone as zones
from coved.shares.shares import Located, Shares
from coved.watching.mounted import Mounted
from coved.watching.watched import Watched

P = ParamSpec("P")


def looped(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    @functools.wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(test(*arguments, **named))

    return run


HOME = Share("folder0", "/home/me")
DATA = Share("folder1", "/data", read_only=True)


@pytest.fixture
def mounted(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is "mounted", by tag, with how it was: the kernel's part."""
    kept: dict[str, str] = {}

    def mount(share: Share, place: Path) -> None:
        if share.driver == "virtiofs":
            raise OSError(22, "Invalid argument")
        place.mkdir(exist_ok=True)
        kept[share.tag] = share.path

    monkeypatch.setattr(mounting, "mount", mount)
    monkeypatch.setattr(mounting, "mounted", lambda root: {*kept})
    monkeypatch.setattr(mounting, "unmount", lambda place: kept.pop(place.name))
    monkeypatch.setattr(mounting, "drop", lambda place: kept.pop(place.name, None))
    return kept


@pytest.fixture
def engine(tmp_path: Path, mounted: dict[str, str]) -> Shares:
    return Shares(tmp_path)


@looped
async def test_folders_are_exactly_those_told(engine: Shares, mounted: dict[str, str]) -> None:
    assert await engine.set(Table((HOME, DATA))) == ({}, [])
    assert set(mounted) == {"folder0", "folder1"}
    assert await engine.set(Table((HOME,))) == ({}, [])
    assert set(mounted) == {"folder0"}
    # One folder by two names is mounted once.
    assert await engine.set(Table((HOME, Share("folder0", "/users/me")))) == ({}, [])
    assert engine.table.find("/users/me/x") is not None


@looped
async def test_what_is_in_use_stays(engine: Shares, mounted: dict[str, str]) -> None:
    await engine.set(Table((HOME, DATA)))
    engine.users = lambda: [("web", "/home/me/src"), ("db", "/var/lib/cove/x")]
    assert await engine.set(Table()) == ({}, ["web"])
    assert set(mounted) == {"folder0", "folder1"}
    assert await engine.set(Table((HOME,))) == ({}, [])
    # What answers no more goes, whoever has it.
    assert await engine.set(Table(), lost=["folder0"]) == ({}, [])
    assert not mounted


@looped
async def test_a_bind_waits_for_folders_that_come_back(
    engine: Shares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shares, "TOLD_S", 0.05)
    with pytest.raises(EngineError, match="has not been given the folders"):
        await engine.locate("/home/me", create=False)
    await engine.set(Table((HOME,)))
    assert await engine.locate("/home/me", create=False) == Located(str(tmp_path / "folder0"))
    await engine.set(Table())  # a suspension takes them away
    with pytest.raises(EngineError, match="has not been given the folders"):
        await engine.locate("/home/me", create=False)
    assert await engine.locate("/var/run/docker.sock", create=False) == Located("/var/run/docker.sock")


@looped
async def test_what_is_not_shared_is_refused_with_what_to_do(engine: Shares, tmp_path: Path) -> None:
    await engine.set(Table((HOME,)))
    (tmp_path / "folder0/evil").symlink_to("/var/lib/cove")
    with pytest.raises(
        InvalidParameter,
        match=r"exist: /nosuch/x \(/nosuch/x is not in .* set shared_folders /nosuch/x && cove machine restart; of a file, .*: /nosuch\)",
    ):
        await engine.locate("/nosuch/x", create=True)
    with pytest.raises(InvalidParameter, match=r"\(/var/lib/cove, where /home/me/evil leads, is not in .* machine\)"):
        await engine.locate("/home/me/evil", create=True)
    assert await engine.locate("/etc", create=False) == Located("/etc")
    assert "/etc is a path in Cove's VM" in engine.warning("/etc")
    assert not engine.warning("/home/me/x")
    assert not engine.warning("/dev/null")


@looped
async def test_what_is_proposed_names_the_machine_and_keeps_what_is_shared(engine: Shares) -> None:
    engine.machine, engine.listed = "far", ("~/my src", "/data:ro")
    await engine.set(Table((HOME,)))
    proposed = r"set -m far shared_folders '~/my src,/data:ro,/nosuch/x' && cove machine restart far;"
    with pytest.raises(InvalidParameter, match=proposed):
        await engine.locate("/nosuch/x", create=True)


@looped
async def test_a_machine_that_can_have_no_folders_is_not_to_be_given_more(engine: Shares) -> None:
    await engine.set(Table((Share("folder0", "/data", driver="virtiofs"),)))
    with pytest.raises(
        InvalidParameter, match=r"machine; no folder of this computer can be shared: Invalid argument\)$"
    ):
        await engine.locate("/nosuch/x", create=True)


@looped
async def test_only_a_folder_that_was_mounted_is_said_to_answer_no_more(
    engine: Shares, caplog: pytest.LogCaptureFixture
) -> None:
    await engine.set(Table((HOME,)), lost=["folder0"])  # an agent that has just come knows of none
    assert not caplog.records
    await engine.set(Table((HOME,)), lost=["folder0"])
    assert [one.getMessage() for one in caplog.records] == ["/home/me of the user's computer does not answer any more"]


@looped
async def test_the_files_of_the_time_zone_are_the_users_own_for_reading_alone(tmp_path: Path) -> None:
    zone = Zone("Europe/Berlin", base64.b64encode(b"TZif2...").decode())
    told = [zone]
    engine = Shares(tmp_path, lambda: told[0], tmp_path / "zone")
    for path, data in (("/etc/localtime", b"TZif2..."), ("/etc/timezone", b"Europe/Berlin\n")):
        file = tmp_path / "zone" / Path(path).name
        assert await engine.locate(path, create=True) == Located(str(file), read_only=True)
        assert file.read_bytes() == data
        assert not engine.warning(path)
    (tmp_path / "zone/localtime").unlink()
    await asyncio.gather(
        *(engine.locate("/etc/localtime", create=False) for _ in range(8))
    )  # as compose starts containers
    first = (tmp_path / "zone/localtime").stat().st_ino
    await engine.locate("/etc/localtime", create=False)
    assert (tmp_path / "zone/localtime").stat().st_ino == first
    told[0] = Zone("", base64.b64encode(b"TZif3").decode())  # of another place: who has the old one keeps it
    await engine.locate("/etc/localtime", create=False)
    assert (tmp_path / "zone/localtime").stat().st_ino != first
    assert [one.name for one in sorted((tmp_path / "zone").iterdir())] == ["localtime", "timezone"]
    assert not zones.is_known("/etc/timezone", told[0])  # its name is not
    assert not zones.is_known("/etc/passwd", zone)
    ((mount, _),) = await Binds(None, engine).ready([MountPoint("bind", "/l", "/etc/localtime", create_source=True)])  # type: ignore[arg-type]
    assert not mount.writable


@looped
async def test_a_folder_that_could_not_be_mounted_says_so(engine: Shares) -> None:
    broken = Share("folder1", "/data", driver="virtiofs")
    assert await engine.set(Table((HOME, broken))) == ({"folder1": "Invalid argument"}, [])
    with pytest.raises(
        EngineError, match=r"^/data/x: the folder /data of .* Invalid argument \(see: cove machine status\)"
    ):
        await engine.locate("/data/x", create=True)
    engine.machine = "far"
    with pytest.raises(EngineError, match=r"^the folder /data of .* Invalid argument \(see: cove machine status far\)"):
        await engine.locate("/data", create=True)


@looped
async def test_mounts_of_a_container(engine: Shares, tmp_path: Path) -> None:
    await engine.set(Table((HOME,)))
    (tmp_path / "folder0/src").mkdir()
    binds = Binds(None, engine)  # type: ignore[arg-type]
    v = MountPoint("bind", "/v", "/home/me/new", create_source=True)
    mount = MountPoint("bind", "/m", "/home/me/src", create_source=False)
    assert await binds.check([v, mount]) == []
    assert list((tmp_path / "folder0").iterdir()) == [
        tmp_path / "folder0/src"
    ]  # a container that is only made makes nothing
    ((first, source), (second, _)) = await binds.ready([v, mount])
    assert (first.subpath, second.subpath, source) == ("new", "src", str(tmp_path / "folder0"))
    assert first.source == "/home/me/new"  # as an inspect tells
    assert (tmp_path / "folder0/new").is_dir()
    gone = MountPoint("bind", "/m", "/home/me/gone", create_source=False)
    with pytest.raises(InvalidParameter, match=r"exist: /home/me/gone$"):
        await binds.check([gone])
    assert await binds.there([gone]) == []


@looped
async def test_what_a_container_has_of_a_read_only_folder_is_read_only(engine: Shares, tmp_path: Path) -> None:
    await engine.set(Table((HOME, DATA)))
    (tmp_path / "folder1/x").mkdir()
    binds = Binds(None, engine)  # type: ignore[arg-type]
    mounts = [MountPoint("bind", "/a", source, create_source=False) for source in ("/data/x", "/home/me")]
    assert [mount.writable for mount, _ in await binds.ready(mounts)] == [False, True]
    assert [mount.writable for mount, _ in await binds.there(mounts)] == [False, True]


@pytest.mark.parametrize(("driver", "read_only"), [("agent", 0), ("9p", 1), ("virtiofs", 1)])
def test_only_where_changes_can_be_pretended_a_read_only_folder_is_not_mounted_so(
    driver: str, read_only: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: list[int] = []
    monkeypatch.setattr(mounting, "_call", lambda source, target, kind, given, options: flags.append(given))
    monkeypatch.setattr(stream, "mount", lambda share, mount: mount(""))
    mounting.mount(Share("folder1", "/data", read_only=True, driver=driver), tmp_path)
    assert flags == [2 | 4 | read_only]


class _Volumes:
    def device(self, name: str) -> str:
        return {"src": "/home/me/src", "away": "/nowhere"}.get(name, "")

    def path(self, name: str) -> str:
        return f"/volumes/{name}"


@looped
async def test_folders_that_come_by_volumes_are_watched_like_binds(
    engine: Shares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coved.watching.mounted.find", lambda path: Mounted(str(tmp_path / "folder0"), "own", 0))
    monkeypatch.setattr(Mounted, "forget", lambda mount: None)
    await engine.set(Table((HOME,)))
    (tmp_path / "folder0/src").mkdir()
    told: list[tuple[str, ...]] = []
    binds = Binds(_Volumes(), engine, Watched(told.append))  # type: ignore[arg-type]
    mounts = [MountPoint("volume", "/v", name) for name in ("src", "away", "own")]
    await binds.begin_again("ended", mounts, lambda: False)
    assert told == []
    await binds.begin("c", await binds.ready(mounts))
    binds.end("c")
    await binds.begin_again("c", mounts, lambda: True)
    assert told == [(str(tmp_path / "folder0/src"),), (), (str(tmp_path / "folder0/src"),)]


@looped
async def test_windows_paths_are_binds_where_the_computer_has_windows(engine: Shares, tmp_path: Path) -> None:
    binds = Binds(None, engine)  # type: ignore[arg-type]
    home = Share("folder0", "C:\\Users\\me")
    await engine.set(Table((home,), windows=True, fold_case=True))
    (tmp_path / "folder0/src").mkdir()
    asked = ["C:\\Users\\me\\src:/a", "c:/Users/me/src:/b:ro", "/c/Users/me/src:/c", "//c/users/Me/src:/d", "vol:/e"]
    host = {"Binds": asked, "Mounts": None, "Tmpfs": None, "VolumeDriver": ""}
    mounts = collect({"Volumes": None}, host, [], **await binds.reading(host))
    assert [mount.kind for mount in mounts] == ["bind"] * 4 + ["volume"]
    assert mounts[0].source == "C:\\Users\\me\\src"
    assert not mounts[1].writable
    assert {mount.subpath for mount, _ in await binds.ready(mounts[:4])} == {"src"}
    raw = {"Type": "bind", "Source": "C:\\Users\\me\\src", "Target": "/m"}
    host = {"Binds": None, "Mounts": [raw], "Tmpfs": None, "VolumeDriver": ""}
    (mount,) = collect({"Volumes": None}, host, [], **await binds.reading(host))
    assert (await binds.ready([mount]))[0][0].subpath == "src"
    await engine.set(Table((HOME,)))
    with pytest.raises(InvalidParameter, match="mount path must be absolute"):
        collect({"Volumes": None}, host, [], **await binds.reading(host))


@looped
async def test_the_laptops_docker_socket_is_the_engines(engine: Shares, tmp_path: Path) -> None:
    """As testcontainers binds it: by the path that a docker context or DOCKER_HOST has, or by that of a link to it."""
    sockets = ("/run/user/1000/cove/default/docker.sock", "/home/me/.cove/run/default/docker.sock")
    await engine.set(Table((HOME,), sockets=sockets))
    theirs = Located("/run/docker.sock")
    home = tmp_path / "folder0"
    (home / ".cove/run/default").mkdir(parents=True)
    (home / ".cove/run/default/docker.sock").touch()  # no program of the VM reaches what listens there
    (home / ".docker/run").mkdir(parents=True)
    (home / ".docker/run/docker.sock").symlink_to(sockets[0])
    for path in (*sockets, "/home/me/.docker/run/docker.sock", "/run/user//1000/./cove/default/docker.sock"):
        assert await engine.locate(path, create=True) == theirs
        assert not engine.warning(path)
    with pytest.raises(InvalidParameter, match="is not in a folder that this computer shares"):
        await engine.locate("/run/user/1000/cove/other/docker.sock", create=True)
    assert await engine.locate("/home/me/.cove/run/default", create=False) == Located(str(home), ".cove/run/default")


@looped
async def test_a_docker_socket_is_found_by_any_case_where_names_have_none(engine: Shares) -> None:
    await engine.set(Table((HOME,), fold_case=True, sockets=("/Users/Me/.cove/run/default/docker.sock",)))
    assert await engine.locate("/users/me/.cove/run/default/docker.sock", create=True) == Located("/run/docker.sock")


def test_files_of_the_host_that_an_engine_runs_beside_are_meant(tmp_path: Path) -> None:
    engine = Shares(tmp_path, beside="/host")
    assert not engine.warning("/host/srv/data")
    assert not engine.warning("/host")
    assert engine.warning("/hosts")
    assert Shares(tmp_path).warning("/host/srv/data")
