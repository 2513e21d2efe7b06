"""Volumes with options of the local driver: mounted for the first container that uses them, and for no longer than the last."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from isolation_support import making, output, refusal

pytestmark = [pytest.mark.root, pytest.mark.native]

TMPFS = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,mode=700"}


@pytest.fixture
def volume(docker_client: Any) -> Iterator[Callable[..., str]]:
    """Makes volumes by their options, which are gone after the test."""
    names: list[str] = []

    def create(options: dict[str, str] | None = None) -> str:
        names.append(f"v-{uuid.uuid4().hex[:12]}")
        docker_client.volumes.create(names[-1], driver_opts=options or {})
        return names[-1]

    yield create
    for name in names:
        docker_client.volumes.get(name).remove(force=True)


@pytest.fixture
def make(docker_client: Any, volume: Callable[..., str]) -> Iterator[Callable[..., Any]]:
    """Containers that are gone before the volumes are."""
    with making(docker_client) as create:
        yield create


def mounted(engine: Any, name: str) -> int:
    """How many mounts there are on a volume."""
    return int(engine.sh(f"grep -c ' {engine.root}/volumes/{name}/_data ' /proc/{engine.pid}/mountinfo || true"))


def test_a_tmpfs_is_there_from_the_first_container_to_the_last(
    engine: Any, make: Callable[..., Any], volume: Callable[..., str]
) -> None:
    name = volume(TMPFS)
    binds = [f"{name}:/d"]
    assert mounted(engine, name) == 0
    first = make(volumes=binds)
    second = make("sh", "-c", "grep -o ' /d tmpfs.*' /proc/mounts; echo hello >/d/f", volumes=binds)
    assert output(second) == " /d tmpfs rw,relatime,size=1024k,mode=700 0 0\n"
    assert mounted(engine, name) == 1
    assert first.exec_run(["cat", "/d/f"]).output == b"hello\n"
    first.restart(timeout=0)  # alone with it by now: it comes back empty, as dockerd's does
    assert first.exec_run(["ls", "/d"]).output == b""
    assert mounted(engine, name) == 1
    first.kill()
    assert mounted(engine, name) == 0
    assert engine.names(engine.root / "volumes" / name / "_data") == []


def test_a_bind_shows_a_folder_and_leaves_it_when_the_volume_goes(
    engine: Any, docker_client: Any, make: Callable[..., Any], scratch: Path
) -> None:
    engine.sh(f"mkdir -p {scratch}/real/sub; echo kept >{scratch}/real/f; ln -s real {scratch}/link")
    options = {"type": "none", "o": "bind", "device": f"{scratch}/link"}
    docker_client.volumes.create("bound", driver_opts=options)
    assert docker_client.volumes.get("bound").attrs["Options"] == options
    again = docker_client.volumes.create("bound", driver_opts=TMPFS)  # no error, as with dockerd
    assert again.attrs["Options"] == options
    container = make("sh", "-c", "cat /d/f; echo new >/d/sub/g", volumes=["bound:/d"])
    assert output(container) == "kept\n"
    held = make(volumes=["bound:/d"])
    with pytest.raises(docker.errors.APIError, match="volume is in use"):
        again.remove(force=True)
    assert [one["Name"] for one in docker_client.df()["Volumes"] or () if one["Name"] == "bound"] == []
    held.remove(force=True)
    container.remove()
    assert "bound" not in (docker_client.volumes.prune(filters={"all": True})["VolumesDeleted"] or ())
    again.remove()
    assert not engine.exists(engine.root / "volumes/bound")
    assert engine.read(scratch / "real/f") == "kept\n"
    assert engine.read(scratch / "real/sub/g") == "new\n"


def test_what_is_mounted_in_a_bind_stays_mounted_there(
    engine: Any, make: Callable[..., Any], volume: Callable[..., str], scratch: Path
) -> None:
    """The folder's mounts are shared with the volume, and taking the volume off must not take them off as well."""
    engine.sh(f"mkdir {scratch}/top && mount -t tmpfs top {scratch}/top && mount --make-shared {scratch}/top")
    try:
        engine.sh(f"mkdir {scratch}/top/sub && mount -t tmpfs sub {scratch}/top/sub && echo deep >{scratch}/top/sub/f")
        name = volume({"type": "none", "o": "rbind", "device": f"{scratch}/top"})
        assert output(make("cat", "/d/sub/f", volumes=[f"{name}:/d"])) == "deep\n"
        assert mounted(engine, name) == 0
        assert engine.read(scratch / "top/sub/f") == "deep\n"
    finally:
        engine.sh(f"umount -l {scratch}/top")


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"type": "none", "o": "bind", "device": "/nonexistent"},
            "mount /nonexistent:{place}, flags: 0x1000: no such file or directory",
        ),
        (
            {"type": "tmpfs", "device": "tmpfs", "o": "size=1m,bogus=1"},
            "mount tmpfs:{place}, data: size=1m,bogus=1: invalid argument",
        ),
        (
            {"type": "nosuchfs", "device": "x", "o": "ro,password=secret"},
            "mount x:{place}, flags: 0x1, data: password=********: no such device",
        ),
    ],
)
def test_a_mount_that_fails_is_told_and_leaves_nothing(
    engine: Any, make: Callable[..., Any], volume: Callable[..., str], options: dict[str, str], problem: str
) -> None:
    name = volume(options)
    container = make(volumes=[f"{name}:/d", f"{volume(TMPFS)}:/e"], start=False)
    place = engine.root / "volumes" / name / "_data"
    with pytest.raises(docker.errors.APIError) as refused:
        container.start()
    told = problem.format(place=place)
    assert refused.value.explanation == f"error while mounting volume '{place}': failed to mount local volume: {told}"
    container.reload()
    assert container.attrs["State"]["Error"] == refused.value.explanation
    for mount in container.attrs["Mounts"]:
        assert mounted(engine, mount["Name"]) == 0


def test_copies_go_into_what_is_mounted(
    engine: Any, make: Callable[..., Any], volume: Callable[..., str], scratch: Path
) -> None:
    """Into a container that does not run: what is written must not lie below the mount when that is made."""
    name = volume({"type": "none", "o": "bind", "device": str(scratch)})
    container = make("cat", "/d/passwd", volumes=[f"{name}:/d"], start=False)
    stream, _ = container.get_archive("/etc/passwd")
    assert container.put_archive("/d", b"".join(stream))
    assert mounted(engine, name) == 0
    assert engine.names(scratch) == ["passwd"]
    container.start()
    assert "root" in output(container)


def test_a_new_volume_has_the_images_files_from_its_containers_creation(
    docker_client: Any, make: Callable[..., Any], volume: Callable[..., str]
) -> None:
    """Of all layers together, and the folder's own owner and mode; others may use it before that container is started."""
    first = make("sh", "-c", "mkdir /data; cd /data; echo a >a; echo gone >gone; chown 33:44 .; chmod 2750 .")
    first.wait()
    one = first.commit()
    second = docker_client.containers.create(one.id, ["sh", "-c", "cd /data; echo b >b; rm gone; chmod 1711 ."])
    second.start()
    second.wait()
    two = second.commit()
    name, untouched = volume(), volume()
    holder = docker_client.containers.create(
        two.id, ["true"], volumes=[f"{name}:/data"], mounts=[docker.types.Mount("/data2", untouched, no_copy=True)]
    )
    try:
        look = make("sh", "-c", "cd /x; ls; stat -c '%u %g %a' .; ls /y", volumes=[f"{name}:/x", f"{untouched}:/y"])
        assert output(look) == "a\nb\n33 44 1711\n"
    finally:
        for container in (holder, second):
            container.remove(force=True)
        docker_client.images.remove(two.id)
        docker_client.images.remove(one.id)


def test_a_part_of_a_volume(docker_client: Any, make: Callable[..., Any], volume: Callable[..., str]) -> None:
    name = volume()
    output(make("sh", "-c", "cd /d; mkdir -p a/b; echo x >a/f; ln -s /etc out; ln -s a in", volumes=[f"{name}:/d"]))

    def part(subpath: str, **options: Any) -> Any:
        mount = {"Type": "volume", "Source": name, "Target": "/p", "VolumeOptions": {"Subpath": subpath}, **options}
        return make("sh", "-c", "ls /p; touch /p/new", start=False, mounts=[mount])

    for subpath in ("a", "in", "a/../in/./."):
        container = part(subpath)
        container.start()
        assert output(container).split() == ["b", "f", *(["new"] if subpath != "a" else [])]
    container = part("a", ReadOnly=True)
    container.start()
    assert container.wait()["StatusCode"] == 1
    place = docker_client.volumes.get(name).attrs["Mountpoint"]
    for subpath, problem in (
        ("out", f"path concatenation escapes the base directory, base: {place}, subpath: out"),
        ("none", f"cannot access path {place}/none: lstat {place}/none: no such file or directory"),
    ):
        with pytest.raises(docker.errors.APIError) as refused:
            part(subpath).start()
        assert refused.value.explanation == problem
    mount = {"Type": "volume", "Source": name, "Target": "/p", "VolumeOptions": {"Subpath": "../x"}}
    assert refusal(docker_client, {"Mounts": [mount]}) == (
        400,
        'invalid mount config for type "volume": subpath must be a relative path within the volume',
    )


def test_an_image_is_mounted_read_only(docker_client: Any, make: Callable[..., Any]) -> None:
    """All of its layers as one, or a part of it; it stays as long as a container has it."""
    made = make("sh", "-c", "mkdir -p /data/sub; echo text >/data/sub/f; rm /etc/group")
    made.wait()
    image = made.commit()
    try:
        for options, script, said in (
            ({}, "cat /m/data/sub/f; ls /m/etc/passwd /m/etc/group; touch /m/x", "text\n/m/etc/passwd\n"),
            ({"ImageOptions": {"Subpath": "data"}}, "cat /m/sub/f; touch /m/x", "text\n"),
        ):
            mount = {"Type": "image", "Source": image.id, "Target": "/m", **options}
            container = make("sh", "-c", f"({script}) 2>/dev/null", mounts=[mount], start=False)
            container.start()
            assert container.wait()["StatusCode"] == 1
            assert container.logs().decode() == said
            container.reload()
            assert [(one["Type"], one["RW"]) for one in container.attrs["Mounts"]] == [("image", False)]
            with pytest.raises(docker.errors.APIError, match=r"is using its referenced image|is being used"):
                docker_client.images.remove(image.id)
            container.remove()
    finally:
        docker_client.images.remove(image.id)


def test_binds_that_do_not_go_all_the_way_down(engine: Any, make: Callable[..., Any], scratch: Path) -> None:
    """Without what is mounted in the source, and read-only all the way or only at the top."""
    engine.sh(f"mkdir {scratch}/sub && mount -t tmpfs sub {scratch}/sub && touch {scratch}/sub/f")
    try:
        for options, seen, writable in (
            ({}, "f\n", False),
            ({"NonRecursive": True}, "", False),
            ({"ReadOnlyNonRecursive": True}, "f\n", True),
            ({"ReadOnlyForceRecursive": True, "Propagation": "rprivate"}, "f\n", False),
        ):
            mount = {"Type": "bind", "Source": str(scratch), "Target": "/d", "ReadOnly": True, "BindOptions": options}
            script = "ls /d/sub; touch /d/x 2>/dev/null && echo top; touch /d/sub/f 2>/dev/null && echo sub; true"
            assert output(make("sh", "-c", script, mounts=[mount])) == seen + ("sub\n" if writable else "")
    finally:
        engine.sh(f"umount {scratch}/sub")


def test_a_killed_engine_leaves_mounts_to_those_who_use_them(engine_with: Any) -> None:
    """What runs keeps its volume, to the last one; what has ended meanwhile, and what was being removed, keeps nothing."""
    with engine_with() as engine:
        client = docker.DockerClient(engine.url, timeout=60)
        try:
            for name in ("kept", "left", "gone"):
                client.volumes.create(name, driver_opts=TMPFS)
            run = client.containers.run
            keeper = run("busybox", ["sh", "-c", "echo mine >/d/f; exec sleep 300"], volumes=["kept:/d"], detach=True)
            ending = run("busybox", ["sleep", "300"], volumes=["left:/d"], detach=True)
            ending.reload()
            folder = engine.folder / "outside"
            folder.mkdir()
            (folder / "precious").write_text("precious")
            # As if killed in a removal: no record of it any more, and something mounted in its folder.
            stray = engine.root / "volumes/stray/_data"
            engine.kill(
                f"kill -9 {ending.attrs['State']['Pid']}; mkdir -p {stray}; mount --bind {folder} {stray};"
                f"mount -t tmpfs x {engine.root}/volumes/gone/_data"
            )
            assert mounted_here(engine, "kept", "left", "gone", "stray") == [1, 1, 1, 1]
            engine.start()
            assert mounted_here(engine, "kept", "left", "gone", "stray") == [1, 0, 0, 0]
            assert (folder / "precious").read_text() == "precious" and not stray.exists()
            other = run("busybox", ["cat", "/d/f"], volumes=["kept:/d"], detach=True)
            assert output(other) == "mine\n"  # the very same file system
            assert mounted_here(engine, "kept") == [1]
            with pytest.raises(docker.errors.APIError, match="in use"):
                client.volumes.get("kept").remove(force=True)
            keeper.kill()
            assert mounted_here(engine, "kept") == [0]
            for container in (keeper, other, ending):
                container.remove(force=True)
            for name in ("kept", "left", "gone"):
                client.volumes.get(name).remove()
            assert engine.names(engine.root / "volumes") == []
        finally:
            client.close()


def mounted_here(engine: Any, *names: str) -> list[int]:
    table = Path("/proc/self/mountinfo").read_text()
    return [table.count(f" {engine.root}/volumes/{name}/_data ") for name in names]


def test_a_new_volume_at_etc_may_be_read_only(make: Callable[..., Any], volume: Callable[..., str]) -> None:
    """It has what the engine mounts there, empty, as dockerd's volumes do."""
    name = volume()
    inside = make("sh", "-c", "cat /etc/hosts /etc/passwd; ! touch /etc/x 2>/dev/null", volumes=[f"{name}:/etc:ro"])
    assert "127.0.0.1" in (said := output(inside)) and "root:" in said
    shown = make("sh", "-c", "cd /v; cat hostname hosts resolv.conf; stat -c '%n %s %a' *", volumes=[f"{name}:/v"])
    lines = output(shown).splitlines()
    assert {"hostname 0 755", "hosts 0 755", "resolv.conf 0 755"} < {*lines}
    assert not any(line.startswith("x ") for line in lines)
