"""The builder's promises: verified input, the same bits for the same input, a cache that stays good."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cove.errors import CoveError
from cove.image import archive, assemble, builder, cpio, erofs
from cove.image.download import Downloader, Gone, Wanted
from cove.image.inputs import recipe_dir
from cove.image.recipe import Recipe, load_lock
from cove.image.tree import Tree, directory, file, symlink
from cove.machine.architecture import AMD64


def small_tree() -> Tree:
    tree = Tree()
    tree.add("etc/motd", file(b"hello\n"))
    tree.add("usr/lib/big", file(b"x" * 10000, 0o755))
    tree.add("usr/link", symlink("lib/big"))
    for number in range(300):
        tree.add(f"many/file-{number:03}", file(b""))
    tree.add("tmp", directory(0o1777))
    return tree


def written(directory: Path) -> str:
    recipe = Recipe.load(recipe_dir(), AMD64)
    base = assemble.Base(b"kernel", small_tree(), small_tree())
    directory.mkdir()
    return str(builder.write(directory, recipe, base, [])["digest"])


def test_two_builds_give_one_digest(tmp_path: Path) -> None:
    assert written(tmp_path / "a") == written(tmp_path / "b")
    assert (tmp_path / "a/system.erofs").read_bytes() == (tmp_path / "b/system.erofs").read_bytes()


def test_the_engine_changes_the_digest(tmp_path: Path) -> None:
    recipe, base = Recipe.load(recipe_dir(), AMD64), assemble.Base(b"kernel", small_tree(), small_tree())
    (tmp_path / "code.py").write_text("pass\n")
    digests = set()
    for name, engine in (("without", []), ("with", [("code.py", tmp_path / "code.py")])):
        (tmp_path / name).mkdir()
        digests.add(builder.write(tmp_path / name, recipe, base, engine)["digest"])
    assert len(digests) == 2


def test_erofs_is_what_erofs_tools_take_for_one(tmp_path: Path) -> None:
    image = tmp_path / "image.erofs"
    with image.open("wb") as output:
        erofs.write(small_tree(), output, label="cove-system")
    assert shutil.which("fsck.erofs"), "erofs-utils is missing: sh installers/linux/prerequisites.sh test"
    checked = subprocess.run(["fsck.erofs", f"--extract={tmp_path / 'out'}", image], capture_output=True, timeout=60)
    assert checked.returncode == 0, checked.stderr
    assert (tmp_path / "out/etc/motd").read_bytes() == b"hello\n"
    assert (tmp_path / "out/usr/lib/big").read_bytes() == b"x" * 10000
    assert len([*(tmp_path / "out/many").iterdir()]) == 300


def test_cpio_is_what_cpio_takes_for_one() -> None:
    output = io.BytesIO()
    cpio.write(small_tree(), output)
    assert output.getvalue().startswith(b"070701")
    assert b"TRAILER!!!" in output.getvalue()[-200:]


def test_a_path_that_leaves_the_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="leads out"):
        Tree().add("../etc/passwd", file(b""))


def test_a_missing_library_is_named() -> None:
    tree = Tree()
    tree.add("usr/bin/program", file(Path("/bin/ls").read_bytes(), 0o755))
    with pytest.raises(CoveError, match=r"lacks .*libc\.so\.6 \(for /usr/bin/program\)"):
        assemble.check_libraries(tree, ["usr/lib"])


def test_the_lock_pins_every_package_of_the_recipe() -> None:
    recipe = Recipe.load(recipe_dir(), AMD64)
    pinned = {package.name for package in load_lock(recipe.lock)}
    assert set(recipe.packages) <= pinned
    assert all(len(package.sha256) == 64 for package in load_lock(recipe.lock))


@pytest.mark.parametrize(
    "text", ["", "not signed", "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nCodename: trixie\n"]
)
def test_an_index_without_debians_signature_is_refused(text: str) -> None:
    keys = archive.load_keys(recipe_dir() / "keys", ["debian-archive-trixie-automatic.asc"])
    with pytest.raises(CoveError, match="signed"):
        archive.verify_release(text.encode(), "trixie", keys)


@pytest.mark.parametrize(
    ("lower", "higher"),
    [("1.0~rc1", "1.0"), ("1.0", "1.0+b1"), ("9", "10"), ("1:0.1", "2:0"), ("1.0-1", "1.0-1+deb13u2")],
)
def test_versions_sort_as_debian_policy_says(lower: str, higher: str) -> None:
    assert archive.compare_versions(lower, higher) < 0 < archive.compare_versions(higher, lower)


CONTENT = b"package " * 10000


class Handler(BaseHTTPRequestHandler):
    """`/good`, `/tampered`, `/short` (ends early, once), and nothing else."""

    interrupted = False

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        if self.path not in ("/good", "/tampered", "/short"):
            self.send_error(404)
            return
        body = CONTENT if self.path != "/tampered" else CONTENT[:-1] + b"!"
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        if self.path == "/short" and not Handler.interrupted:
            Handler.interrupted = True
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
            return
        self.wfile.write(body[start:])

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def wanted(server: str, path: str) -> Wanted:
    return Wanted("a package", server + path, hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def test_a_download_that_breaks_goes_on_where_it_broke(server: str, tmp_path: Path) -> None:
    Handler.interrupted = False
    path = Downloader(tmp_path, retry_delay_s=0.01).fetch(wanted(server, "/short"))
    assert path.read_bytes() == CONTENT
    assert Handler.interrupted


def test_a_tampered_download_is_refused_and_leaves_the_cache_good(server: str, tmp_path: Path) -> None:
    downloader = Downloader(tmp_path, retry_delay_s=0.01)
    with pytest.raises(CoveError, match="damaged or was tampered with"):
        downloader.fetch(wanted(server, "/tampered"))
    assert [*tmp_path.iterdir()] == []
    assert downloader.fetch(wanted(server, "/good")).read_bytes() == CONTENT


def test_a_damaged_file_in_the_cache_is_fetched_again(server: str, tmp_path: Path) -> None:
    downloader = Downloader(tmp_path, retry_delay_s=0.01)
    file = wanted(server, "/good")
    downloader.path(file.sha256).write_bytes(b"rot")
    assert downloader.fetch(file).read_bytes() == CONTENT


def test_what_the_mirror_does_not_have_any_more_is_told_apart(server: str, tmp_path: Path) -> None:
    gone = Downloader(tmp_path, retry_delay_s=0.01).fetch_all([wanted(server, "/superseded")])
    assert [type(error) for error in gone] == [Gone]
