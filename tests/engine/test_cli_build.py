"""`cove build` on the engine: what users see, and what comes of it."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import tarfile
import termios
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

LIMIT_S = 120
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Makes a context."""

    def make(dockerfile: str, files: Mapping[str, str] | None = None) -> Path:
        root = tmp_path / "context"
        for name, text in {"Dockerfile": dockerfile, **(files or {})}.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return root

    return make


def words(engine: Any, *given: str) -> list[str]:
    return [sys.executable, "-m", "cove", "--host", engine.url, *given]


@pytest.fixture
def cove(engine: Any) -> Run:
    def run(*given: str, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"text": True, "stdin": subprocess.DEVNULL, **options}
        if "input" in options:
            del options["stdin"]
        return subprocess.run(words(engine, *given), capture_output=True, timeout=LIMIT_S, check=False, **options)

    return run


@pytest.fixture
def image(docker_client: Any, name: str) -> Iterator[str]:
    yield name
    docker_client.images.remove(name, force=True)


def told(err: str) -> list[str]:
    """Plain progress without what differs from one build to the next."""
    without_sizes = re.sub(r"(transferring \w+:)(?: [\d.]+k?B)?", r"\1", err)
    without_times = re.sub(r" \d+\.\ds", "", re.sub(r"^(#\d+) \d+\.\d+ ", r"\1 ", without_sizes, flags=re.M))
    lines = re.sub(r"sha256:\w{64}", "ID", without_times).splitlines()
    return [line for line in lines if line and not line.endswith("transferring dockerfile:")]


def test_a_build(cove: Run, folder: Callable[..., Path], image: str, docker_client: Any) -> None:
    dockerfile = 'FROM busybox\nWORKDIR /app\nCOPY . .\nRUN cat a.txt; ls -a\nCMD ["cat", "a.txt"]\n'
    root = folder(dockerfile, {"a.txt": "hello\n", "skipped.md": "", ".dockerignore": "*.md\n"})
    done = cove("build", "--no-cache", "-t", image, str(root))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = told(done.stderr)
    assert lines[:4] == [
        '#0 building with "default" instance using docker driver',
        "#1 [internal] load build definition from Dockerfile",
        "#1 transferring dockerfile: done",
        "#1 DONE",
    ]
    step = next(line for line in lines if line.endswith("RUN cat a.txt; ls -a")).split()[0]
    assert [line for line in lines if line.startswith(f"{step} ")][1:] == [
        f"{step} {text}" for text in ("hello", ".", "..", ".dockerignore", "Dockerfile", "a.txt", "DONE")
    ]
    assert any(line.endswith("exporting to image") for line in lines)
    assert docker_client.containers.run(image, remove=True) == b"hello\n"

    again = cove("build", "-t", image, str(root))
    assert again.returncode == 0
    assert {line.split(" ", 1)[1] for line in told(again.stderr) if "CACHED" in line} == {"CACHED"}
    quiet = cove("build", "-q", str(root))
    assert (quiet.stdout, quiet.stderr) == (docker_client.images.get(image).id + "\n", "")


def test_a_build_that_fails(cove: Run, folder: Callable[..., Path]) -> None:
    done = cove("build", "--no-cache", str(folder("FROM busybox\nRUN echo doing; exit 3\nRUN true\n")))
    assert done.returncode == 1
    assert re.sub(r"^\d\.\d+", "T", done.stderr, flags=re.M).endswith(
        "------\n > [2/3] RUN echo doing; exit 3:\nT doing\n------\n"
        "Dockerfile:2\n--------------------\n"
        "   1 |     FROM busybox\n   2 | >>> RUN echo doing; exit 3\n   3 |     RUN true\n   4 |     \n"
        "--------------------\n"
        'ERROR: failed to solve: process "/bin/sh -c echo doing; exit 3" did not complete successfully: exit code: 3\n'
    )


def test_a_dockerfile_that_is_none(cove: Run, folder: Callable[..., Path]) -> None:
    done = cove("build", str(folder("FROM busybox\nRUNN true\n")))
    assert done.returncode == 1
    assert done.stderr.endswith(
        "Dockerfile:2\n--------------------\n   1 |     FROM busybox\n   2 | >>> RUNN true\n   3 |     \n--------------------\n"
        "ERROR: failed to solve: dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\n"
    )


def test_secrets(cove: Run, folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from a file")
    script = "cat /run/secrets/a /run/secrets/b | tr a-z A-Z"
    mounts = "--mount=type=secret,id=a --mount=type=secret,id=b,required=true"
    root = folder(f"FROM busybox\nRUN {mounts} {script}\n")
    given = ["--secret", f"id=a,src={tmp_path / 'secret'}", "--secret", "id=b,env=B"]
    done = cove("build", "--no-cache", *given, str(root), env=os.environ | {"B": " and a variable"})
    assert done.returncode == 0, done.stderr
    assert "FROM A FILE AND A VARIABLE" in done.stderr
    missing = cove("build", "--no-cache", str(root))
    assert missing.returncode == 1


OUTPUT = "FROM busybox AS base\nRUN mkdir -p /out/d && echo x >/out/d/x && ln -s d/x /out/l\nFROM scratch\nCOPY --from=base /out /\n"


def test_files_come_back(cove: Run, folder: Callable[..., Path], tmp_path: Path) -> None:
    root = folder(OUTPUT)
    target = tmp_path / "target"
    done = cove("build", "-o", str(target), str(root))
    assert done.returncode == 0, done.stderr
    assert sorted(str(path.relative_to(target)) for path in target.rglob("*")) == ["d", "d/x", "l"]
    assert (target / "d/x").read_text() == "x\n"
    assert (target / "l").readlink() == Path("d/x")


def test_an_archive_comes_back(cove: Run, folder: Callable[..., Path]) -> None:
    done = cove("build", "--progress=none", "-o", "-", str(folder(OUTPUT)), text=False)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        assert [member.name for member in archive] == ["d", "d/x", "l"]


def test_a_dockerfile_and_a_context_on_stdin(cove: Run, folder: Callable[..., Path]) -> None:
    done = cove("build", "-q", "-", input="FROM busybox\nRUN echo a >/a\n")
    assert (done.returncode, done.stderr) == (0, "")
    data = io.BytesIO()
    root = folder("FROM busybox\nCOPY a.txt /\n", {"a.txt": "a"})
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        archive.add(root, "")
    done = cove("build", "--no-cache", "-q", "-", input=data.getvalue(), text=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_named_contexts(cove: Run, folder: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "extra").mkdir()
    (tmp_path / "extra/x").write_text("extra\n")
    root = folder("FROM busybox\nCOPY --from=more x /\nRUN cat /x\n")
    done = cove("build", "--no-cache", "--build-context", f"more={tmp_path / 'extra'}", str(root))
    assert done.returncode == 0, done.stderr
    assert " extra\n" in done.stderr


def test_an_interrupt_cancels_and_leaves_nothing_running(
    engine: Any, folder: Callable[..., Path], docker_client: Any
) -> None:
    root = folder("FROM busybox\nRUN echo begun; sleep 4711\n")
    given = words(engine, "build", "--no-cache", "--progress=plain", str(root))
    with subprocess.Popen(given, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        seen = ""
        while "begun\n" not in seen.split("RUN", 1)[-1].split("\n", 1)[-1]:
            line = process.stderr.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(LIMIT_S) == 130
    assert re.search(r"#\d+ CANCELED\nERROR: failed to solve: Canceled: context canceled\n\Z", rest)
    # Whoever looks has the words in its own command line, but not one after the other.
    assert (
        engine.sh("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' ' | grep -c 'sleep [4]711' || true").strip() == "0"
    )


def test_the_view_on_a_terminal(engine: Any, folder: Callable[..., Path]) -> None:
    root = folder("FROM busybox\nRUN echo seen; sleep 1\n")
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    given = words(engine, "build", "--no-cache", str(root))
    process = subprocess.Popen(given, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    drawn = b""
    try:
        while data := os.read(master, 65536):
            drawn += data
    except OSError:
        pass  # how Linux says that the other end is closed
    finally:
        os.close(master)
    assert process.wait(LIMIT_S) == 0
    text = drawn.decode()
    assert re.search(r"\x1b\[2m => => # seen +\r\n", text)
    assert re.search(r"\[\+\] Building \d+\.\ds \((\d+)/\1\) FINISHED +docker:default\r\n", text)
    assert re.search(r"\x1b\[34m => \[2/2\] RUN echo seen; sleep 1 +\d\.\ds\r\n", text.rpartition("[+] Building")[2])
    assert text.endswith("\x1b[?25h")


def test_a_check(cove: Run, folder: Callable[..., Path], tmp_path: Path) -> None:
    done = cove("build", "--check", str(folder("FROM busybox\nMAINTAINER me\n")))
    assert done.returncode == 1
    assert done.stdout.startswith(
        "Check complete, 1 warning has been found!\n\nWARNING: MaintainerDeprecated - https://"
    )
    assert cove("build", "--check", str(folder("FROM busybox\n"))).stdout == "Check complete, no warnings found.\n"


def test_what_a_dockerfile_offers(cove: Run, folder: Callable[..., Path]) -> None:
    root = folder("FROM busybox AS base\n# A how much\nARG A=1\n# last the result\nFROM base AS last\nARG B=${A}2\n")
    done = cove("build", "--call=outline", "--build-arg=A=5", str(root))
    assert done.stdout == (
        "TARGET:      last\nDESCRIPTION: the result\n\n"
        "BUILD ARG   VALUE   DESCRIPTION\nA           5       how much\nB           52      \n\n"
    ), done.stderr
    done = cove("build", "--call=targets", str(root))
    assert done.stdout == "TARGET         DESCRIPTION\nbase           \nlast (default) the result\n", done.stderr
    done = cove("build", "--call=targets,format=json", str(root))
    assert [one["name"] for one in json.loads(done.stdout)["targets"]] == ["base", "last"]


def test_what_is_kept_can_be_seen_and_removed(cove: Run, folder: Callable[..., Path]) -> None:
    root = folder("FROM busybox\nRUN head -c 1234567 /dev/zero >/kept\n")
    assert cove("build", "-q", str(root)).returncode == 0
    listed = cove("builder", "du")
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.splitlines()[0].split() == ["ID", "RECLAIMABLE", "SIZE", "LAST", "ACCESSED"]
    assert "1.235MB" in listed.stdout
    assert "RUN head -c 1234567" in cove("builder", "du", "--verbose").stdout
    removed = cove("builder", "prune", "-af")
    assert removed.returncode == 0, removed.stderr
    assert removed.stdout.splitlines()[-1].startswith("Total:\t")
    assert "1.235MB" not in cove("builder", "du").stdout
