"""Volumes as archives: what goes out comes in the same, whole or not at all, and nowhere but where it belongs."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from isolation_support import making, output

pytestmark = [pytest.mark.root, pytest.mark.native]

Cove = Callable[..., "subprocess.CompletedProcess[bytes]"]

FILL = """
cd /d; mkdir -p a/b; echo hi >a/f; ln a/f a/g; ln -s ../x a/l; mkfifo p; mknod dev c 1 7; chown -R 33:44 a; chmod 4755 a/f
chown 5:6 .; chmod 1770 .; dd if=/dev/zero of=sparse bs=1 count=1 seek=20M 2>/dev/null; echo end >>sparse; echo z >'sp ace'
"""
LOOK = "find . | sort | while read -r one; do stat -c '%n %F %a %u %g %h %s %t %T %Y' \"$one\"; done; cat a/f a/g; readlink a/l"


@pytest.fixture
def name(docker_client: Any) -> Iterator[str]:
    made = f"v-{uuid.uuid4().hex[:12]}"
    yield made
    for volume in docker_client.volumes.list(filters={"name": made}):
        volume.remove(force=True)


@pytest.fixture
def make(docker_client: Any, name: str) -> Iterator[Callable[..., Any]]:
    """Containers that are gone before the volumes are."""
    with making(docker_client) as create:
        yield create


@pytest.fixture
def cove(engine: Any) -> Cove:
    def run(*words: str, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        environment = {**os.environ, "COVE_HOST": engine.url}
        command = [sys.executable, "-m", "cove", "volume", *words]
        given: dict[str, Any] = {"stdin": subprocess.DEVNULL} if data is None else {"input": data}
        return subprocess.run(command, capture_output=True, timeout=60, env=environment, **given)

    return run


def archive(*members: tuple[str, bytes, str]) -> bytes:
    """A tar of entries: name, type, what it links to (or holds)."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(text)
            else:
                member.linkname = text
            tar.addfile(member, io.BytesIO(text.encode()))
    return stream.getvalue()


LARGE = archive(("f", tarfile.REGTYPE, "x" * 2_000_000))


def drafts(engine: Any) -> list[str]:
    return [one for one in engine.names(engine.root / "trash") if one.startswith("volume-")]


def wait_for(condition: Callable[[], bool]) -> None:
    """Of what nobody tells. It leaves the computer to those who are waited for."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("file", "magic"), [("x.tar", b"./"), ("x.tgz", b"\x1f\x8b"), ("x.tar.zst", b"\x28\xb5\x2f\xfd")]
)
def test_what_goes_out_comes_in_the_same(
    engine: Any, make: Callable[..., Any], name: str, cove: Cove, tmp_path: Path, file: str, magic: bytes
) -> None:
    make("sh", "-c", f"{FILL}\nsleep 300", volumes=[f"{name}:/d"])  # it runs all the while
    folders = [Path(engine.root, "volumes", one, "_data") for one in (name, f"{name}-2")]
    wait_for(Path(folders[0], "sp ace").exists)
    os.setxattr(folders[0] / "a/f", "user.note", b"\xff\0text")
    os.utime(folders[0] / "a", ns=(1, 1_234_567_890_123_456_789))
    done = cove("export", name, "-o", str(tmp_path / file))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (tmp_path / file).read_bytes().startswith(magic)
    done = cove("import", f"{name}-2", str(tmp_path / file))
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name}-2\n".encode(), b"")
    looks = [engine.sh(f"cd {folder}; {LOOK}") for folder in folders]
    assert looks[0] == looks[1] and "character special" in looks[0]
    assert os.getxattr(folders[1] / "a/f", "user.note") == b"\xff\0text"
    assert (folders[1] / "a").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (folders[1] / "a/f").samefile(folders[1] / "a/g")
    assert (folders[1] / "sparse").stat().st_blocks <= 16  # 20 MiB, of which five bytes are something
    assert (folders[1] / "sparse").read_bytes() == (folders[0] / "sparse").read_bytes()


def test_through_a_pipe_and_into_what_has_content(
    engine: Any, docker_client: Any, make: Callable[..., Any], name: str, cove: Cove
) -> None:
    output(make("sh", "-c", "echo one >/d/f", volumes=[f"{name}:/d"]))
    packed = cove("export", name, "--compression", "zstd").stdout
    used = make(volumes=[f"{name}-2:/d"])
    assert used.exec_run(["sh", "-c", "mkdir /d/old; echo two >/d/old/g"]).exit_code == 0
    refused = cove("import", f"{name}-2", "-", data=packed)
    assert refused.returncode == 1
    assert refused.stderr.decode() == (
        f"Error response from daemon: import {name}-2: the volume is not empty: use --force to replace what is in it\n"
    )
    assert cove("import", "--force", f"{name}-2", data=packed[:-20]).returncode == 1
    assert used.exec_run(["ls", "/d"]).output == b"old\n"  # nothing has changed
    assert cove("import", "--force", f"{name}-2", data=packed).returncode == 0
    assert used.exec_run(["sh", "-c", "ls /d; cat /d/f"]).output == b"f\none\n"
    # One that is mounted is filled where it is, as long as it is.
    in_memory = docker_client.volumes.create(f"{name}-3", driver_opts={"type": "tmpfs", "device": "tmpfs"})
    assert b"nothing would be kept" in cove("import", in_memory.name, data=packed).stderr
    user = make(volumes=[f"{in_memory.name}:/d"])
    assert cove("import", in_memory.name, data=packed).returncode == 0
    assert user.exec_run(["cat", "/d/f"]).output == b"one\n"
    assert cove("export", in_memory.name).stdout.count(b"one\n") == 1
    assert drafts(engine) == []


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "unexpected EOF: the archive is empty"),
        (b"no archive at all\n" * 100, "this is not a tar archive"),
        (archive(("f", tarfile.REGTYPE, "x" * 5000))[:2048], "unexpected EOF"),
        (archive(("../evil", tarfile.REGTYPE, "x")), "leads out of it"),
        (archive(("l", tarfile.SYMTYPE, "/tmp"), ("l/evil", tarfile.REGTYPE, "x")), "which is no directory"),
        (archive(("l", tarfile.LNKTYPE, "../../../../metadata.db")), "leads out of it"),
    ],
)
def test_what_is_damaged_or_means_harm_makes_no_volume(
    engine: Any, docker_client: Any, name: str, cove: Cove, data: bytes, problem: str
) -> None:
    done = cove("import", name, data=data)
    assert done.returncode == 1 and problem in done.stderr.decode()
    assert docker_client.volumes.list(filters={"name": name}) == []
    assert drafts(engine) == [] and not os.path.exists("/tmp/evil")


def test_what_is_broken_off_makes_no_volume(engine: Any, docker_client: Any, name: str) -> None:
    """By the user, in the middle; the engine hears of it when the connection ends."""
    environment = {**os.environ, "COVE_HOST": engine.url}
    words = [sys.executable, "-m", "cove", "volume", "import", name]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(LARGE[:1_500_000])
        process.stdin.flush()
        wait_for(lambda: bool(drafts(engine)))
        process.send_signal(2)
        assert process.wait(20) == 130
    wait_for(lambda: not drafts(engine))
    assert docker_client.volumes.list(filters={"name": name}) == []


def test_names_that_cannot_be(cove: Cove, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(archive())
    for words in (("import", "a/b", str(tmp_path / "x.tar")), ("export", "a/b")):
        assert b'"a/b" includes invalid characters for a local volume name' in cove(*words).stderr
    assert cove("export", "none-of-this").stderr == b"Error response from daemon: get none-of-this: no such volume\n"
    assert b"no such file or directory" in cove("import", "xx", str(tmp_path / "nothing.tar")).stderr
    assert cove("export", "none-of-this", "-o", str(tmp_path / "out.tar")).returncode == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["x.tar"]


def test_a_killed_engine_has_a_volume_whole_or_not_at_all(engine_with: Any) -> None:
    """Killed in the middle of an import, it keeps nothing of it."""
    with engine_with() as engine:
        environment = {**os.environ, "COVE_HOST": engine.url}
        words = [sys.executable, "-m", "cove", "volume", "import", "half"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
            assert process.stdin is not None
            process.stdin.write(LARGE[:1_500_000])
            process.stdin.flush()
            wait_for(lambda: bool(drafts(engine)))
            engine.kill()
            process.stdin.close()
            assert process.wait(20) == 1
        engine.start()
        assert drafts(engine) == [] and engine.names(engine.root / "volumes") == []


IMPORT = [sys.executable, "-m", "cove", "volume", "import"]


@contextlib.contextmanager
def importing(engine: Any, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """An import that waits for the rest of its archive, of which the engine has got the beginning."""
    environment = {**os.environ, "COVE_HOST": engine.url}
    with subprocess.Popen([*IMPORT, *words], stdin=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdin is not None
        process.stdin.write(LARGE[:1_500_000])
        process.stdin.flush()
        wait_for(lambda: bool(drafts(engine)))
        yield process


def test_what_a_container_writes_during_an_import_stays(engine: Any, docker_client: Any, name: str) -> None:
    """Without --force; the volume was empty when the upload began. What is mounted is no different."""
    outside = Path(engine.root, "outside")
    outside.mkdir(exist_ok=True)
    docker_client.volumes.create(name)
    bind = {"type": "none", "o": "bind", "device": str(outside)}
    docker_client.volumes.create(f"{name}-bind", driver_opts=bind)
    for one, folder in ((name, Path(engine.root, "volumes", name, "_data")), (f"{name}-bind", outside)):
        with importing(engine, one) as process:
            (folder / "precious").write_text("precious")
            _, problem = process.communicate(LARGE[1_500_000:], 30)
        assert process.returncode == 1 and b"the volume is not empty: use --force" in problem
        assert [entry.name for entry in folder.iterdir()] == ["precious"]
        assert (folder / "precious").read_text() == "precious"
    shutil.rmtree(outside)


def test_what_is_mounted_keeps_its_files_until_the_archive_was_checked(
    engine: Any, make: Callable[..., Any], docker_client: Any, name: str, cove: Cove
) -> None:
    options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
    docker_client.volumes.create(name, driver_opts=options)
    user = make(volumes=[f"{name}:/d"])
    assert user.exec_run(["sh", "-c", "echo precious >/d/f"]).exit_code == 0
    for damaged in (LARGE[:-1_000_000], b"no archive at all\n" * 100, archive(("../evil", tarfile.REGTYPE, "x"))):
        assert cove("import", "--force", name, data=damaged).returncode == 1
        assert user.exec_run(["cat", "/d/f"]).output == b"precious\n"
    done = cove("import", "--force", name, data=LARGE)  # what is too much for it is only seen then
    assert done.returncode == 1 and b"the volume is empty now: " in done.stderr and b"No space left" in done.stderr
    assert user.exec_run(["ls", "/d"]).output == b""
    assert cove("import", name, data=archive(("g", tarfile.REGTYPE, "fits"))).returncode == 0
    assert user.exec_run(["cat", "/d/g"]).output == b"fits"
    assert drafts(engine) == []
