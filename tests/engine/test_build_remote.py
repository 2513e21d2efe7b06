"""What builds have from elsewhere, and what becomes of it.

On this computer always: the servers are programs in the engine's network namespace.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from image_archives import tar

pytestmark = pytest.mark.root

SERVER = """
import functools, http.server, sys
page = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[1])
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), page)
print(server.server_port, flush=True)
server.serve_forever()
"""
PORT = 9419
DOCKERFILE = "FROM busybox\nCOPY . /x/\nRUN --network=none ls -A /x | xargs echo has\n"
TREE_SIZE = 3000 + len(DOCKERFILE) + 40
"""Of the repository's files, and the note of its commit."""


@pytest.fixture
def url(own_engine: Any, tmp_path: Path) -> Iterator[str]:
    (tmp_path / "web").mkdir()
    (tmp_path / "web/file").write_bytes(b"f" * 1000)
    files = [("Dockerfile", b"FROM scratch\nCOPY inside /\n"), ("inside", b"i" * 2000)]
    (tmp_path / "web/files.tar").write_bytes(tar(files))
    words = own_engine.in_network(sys.executable, "-c", SERVER, str(tmp_path / "web"))
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as running:
        assert running.stdout is not None
        yield f"http://127.0.0.1:{running.stdout.readline().strip()}"
        running.kill()


@pytest.fixture
def repository(own_engine: Any, tmp_path: Path) -> Iterator[str]:
    work = tmp_path / "git/x.git"
    work.mkdir(parents=True)
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q", "-b", "main"], check=True)
    (work / "tracked").write_bytes(b"t" * 3000)
    (work / "Dockerfile").write_text(DOCKERFILE)
    for words in (["add", "-A"], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    words = own_engine.in_network(
        "git", "daemon", "--verbose", "--reuseaddr", "--export-all", "--listen=127.0.0.1", f"--port={PORT}",
        f"--base-path={tmp_path / 'git'}", str(tmp_path / "git"),
    )  # fmt: skip
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as running:
        assert running.stderr is not None
        assert "Ready to rumble" in running.stderr.readline()
        yield f"git://127.0.0.1:{PORT}/x.git"
        os.killpg(running.pid, 15)


def ask(engine: Any, method: str, path: str) -> Any:
    words = ["curl", "-sS", "-m", "60", "--unix-socket", str(engine.socket), "-X", method, f"http://engine{path}"]
    return json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def build(engine: Any, *words: str) -> str:
    """What it says."""
    command = [sys.executable, "-m", "cove", "--host", engine.url, "build", "--progress=plain", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def context(root: Path, dockerfile: str) -> str:
    root.mkdir()
    (root / "Dockerfile").write_text(dockerfile)
    return str(root)


def test_the_cache_has_it_in_its_books(own_engine: Any, url: str, repository: str, tmp_path: Path) -> None:
    ask(own_engine, "POST", "/build/prune?all=1")
    build(own_engine, context(tmp_path / "c", f"FROM busybox\nADD {url}/file /\nADD {repository}#main /git/\n"))
    build(own_engine, f"{url}/files.tar")
    found = {one["Description"]: one for one in ask(own_engine, "GET", "/system/df?type=build-cache")["BuildCache"]}
    one, tree = found[f"http url {url}/file"], found[f"git snapshot for {repository}#main"]
    assert (one["Type"], one["Size"], one["InUse"], one["UsageCount"]) == ("regular", 1000, False, 1)
    assert (tree["Type"], tree["Size"], tree["InUse"]) == ("source.git.checkout", TREE_SIZE, False)
    unpacked = found[f"http context {url}/files.tar"]
    assert (unpacked["Type"], unpacked["Size"], unpacked["InUse"]) == ("regular", 2027, False)
    (only,) = ask(
        own_engine, "POST", "/build/prune?filters=" + urllib.parse.quote(json.dumps({"id": {one["ID"]: True}}))
    )["CachesDeleted"]
    assert only == one["ID"]
    pruned = ask(own_engine, "POST", "/build/prune?all=1")
    assert {tree["ID"], unpacked["ID"]} < {*pruned["CachesDeleted"]}
    assert pruned["SpaceReclaimed"] >= TREE_SIZE + 2027
    assert ask(own_engine, "GET", "/system/df?type=build-cache")["BuildCache"] in ([], None)
    for folder in ("downloads", "git", "remote-contexts"):
        assert not [path for path in (own_engine.root / "build" / folder).rglob("*") if path.is_file()]


def test_a_named_context_of_the_web_is_a_file(own_engine: Any, url: str, tmp_path: Path) -> None:
    """Also when it is an archive, which only a build's own context is unpacked from."""
    said = build(
        own_engine, "--no-cache", "--build-context", f"more={url}/files.tar",
        context(
            tmp_path / "c",
            "FROM busybox\nCOPY --from=more / /more/\nRUN --network=none find /more -type f -exec wc -c {} +\n",
        ),
    )  # fmt: skip
    assert f"{(tmp_path / 'web/files.tar').stat().st_size} /more/files.tar" in said


def test_whether_a_repository_keeps_its_git_folder(own_engine: Any, repository: str) -> None:
    keep = "BUILDKIT_CONTEXT_KEEP_GIT_DIR"
    assert " has Dockerfile tracked\n" in build(own_engine, "--no-cache", repository)
    assert " has Dockerfile tracked\n" in build(own_engine, "--no-cache", "--build-arg", f"{keep}=false", repository)
    assert " has .git Dockerfile tracked\n" in build(own_engine, "--no-cache", "--build-arg", f"{keep}=1", repository)
