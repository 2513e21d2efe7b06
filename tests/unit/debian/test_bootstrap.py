"""A base image from a small archive: everything but the container, which plays back what a real one says."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pysequoia
import pytest
from cove.debian import releases
from cove.debian.bootstrap import bootstrap
from cove.errors import CoveError
from cove.image import download, inputs, mirror
from cove.progress import Event, ignore
from debian_archive import BUILT, Archive, directory, member, package, tar

KEYRING = "usr/share/keyrings/debian-archive-keyring.pgp"


class Engine:
    """Takes images as an engine does. `fails` is where it does not: "load", "setup" or "export"."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.images: dict[str, dict[str, bytes]] = {}
        self.containers: list[str] = []
        self.ran: tuple[Sequence[str], Mapping[str, str]] | None = None

    def load(self, tag: str, archive: Iterable[bytes]) -> str:
        with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as opened:
            members = {entry.name: opened.extractfile(entry) for entry in opened}
        files = {name: stream.read() for name, stream in members.items() if stream}
        (manifest,) = json.loads(files["manifest.json"])
        assert manifest["RepoTags"] == [tag]
        if self.fails == "load":
            raise CoveError("no room")
        self.images[tag] = {"config": files[manifest["Config"]], "layer": files[manifest["Layers"][0]]}
        return "sha256:" + str(manifest["Config"]).removesuffix(".json")

    @contextlib.contextmanager
    def temporary(self, tag: str, archive: Iterable[bytes]) -> Iterator[None]:
        try:
            self.load(tag, archive)
            yield
        finally:
            self.images.pop(tag, None)

    @contextlib.contextmanager
    def running(
        self, name: str, image: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> Iterator[Running]:
        self.containers.append(name)
        self.ran = (command, environment)
        try:
            yield Running(self, self.images[image]["layer"])
        finally:
            self.containers.remove(name)


class Running:
    def __init__(self, engine: Engine, root: bytes) -> None:
        self._engine = engine
        self._root = root

    def lines(self) -> Iterator[str]:
        yield "Setting up base-files (1.0-1) ..."
        if self._engine.fails == "setup":
            yield "postinst: something is wrong"

    def wait(self) -> int:
        return 1 if self._engine.fails == "setup" else 0

    def export(self) -> Iterable[bytes]:
        if self._engine.fails == "export":
            return [b"<html>" * 300]
        with tarfile.open(fileobj=io.BytesIO(self._root)) as opened:
            members = [
                (entry, (opened.extractfile(entry) or io.BytesIO()).read()) for entry in opened if not entry.islnk()
            ]
        members += [member("etc/hostname", b"a1b2"), member("etc/passwd", b"root", mtime=BUILT + 5_000_000)]
        content = tar(members)
        return [content[:100], content[100:]]


PACKAGES = [
    package("base-files", directory(""), directory("etc"), member("etc/debian_version", b"13\n"), Essential="yes"),
    package("apt", member(KEYRING, b"keys"), member("usr/share/man/man8/apt.8", b"manual"), Depends="libx"),
    package("libx", member("usr/lib/libx.so", b"code")),
    package("unused", member("opt/x", b"")),
    package("ca-certificates", member("etc/ca", b"")),
]


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    made = Archive(tmp_path, releases.RELEASES[0])
    made.publish(PACKAGES)
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(inputs, "recipe_dir", lambda: made.recipe)
    yield made
    made.close()


def make(archive: Archive, engine: Engine, name: str = "debian:13", report: Any = ignore) -> str:
    return bootstrap(releases.parse(name), mirror.named(archive.url), engine, report)


def test_an_image_for_another_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is of that port's packages, says so, and replaces no index of this machine's own."""
    arm = releases.parse("debian:13", releases.port_of("arm", "v7"))
    made = Archive(tmp_path, arm.release)
    made.publish(PACKAGES)
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(inputs, "recipe_dir", lambda: made.recipe)
    engine = Engine()
    try:
        bootstrap(arm, mirror.named(made.url), engine, ignore)
    finally:
        made.close()
    assert any(path.endswith("/main/binary-armhf/Packages.xz") for path in made.asked)
    assert not any("binary-amd64" in path for path in made.asked)
    config = json.loads(engine.images["debian:13"]["config"])
    assert (config["os"], config["architecture"], config["variant"]) == ("linux", "arm", "v7")
    assert config["history"][0]["created_by"] == "cove image bootstrap debian:13 --platform linux/arm/v7"


def layer_of(engine: Engine, tag: str) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(engine.images[tag]["layer"]))


def test_an_image_is_made(archive: Archive) -> None:
    engine, events = Engine(), list[Event]()
    identity = make(archive, engine, report=events.append)
    assert list(engine.images) == ["debian:13"]
    assert not engine.containers
    config = json.loads(engine.images["debian:13"]["config"])
    assert config["config"]["Cmd"] == ["bash"]
    assert config["created"] == "2023-11-14T22:13:20Z"
    assert identity.startswith("sha256:")
    layer = layer_of(engine, "debian:13")
    names = layer.getnames()
    assert {"etc/debian_version", "usr/lib/libx.so", "usr/share/man/man8/apt.8", "var/lib/dpkg/status"} < set(names)
    assert not {"opt/x", "etc/hostname", "etc/ca", "etc/dpkg/dpkg.cfg.d/docker"} & set(names)
    assert layer.getmember("etc/passwd").mtime == BUILT
    sources = (layer.extractfile("etc/apt/sources.list.d/debian.sources") or io.BytesIO()).read().decode()
    assert f"URIs: {archive.url}\nSuites: trixie trixie-updates\n" in sources
    assert f"URIs: {archive.url}-security\nSuites: trixie-security\n" in sources
    assert f"Signed-By: /{KEYRING}\n" in sources
    assert layer.getmember("usr/sbin/policy-rc.d").mode == 0o755
    assert engine.ran is not None
    assert engine.ran[1]["SOURCE_DATE_EPOCH"] == str(BUILT)
    assert {event.phase for event in events} == {"index", "download", "unpack", "load", "setup", "image"}
    assert Event("index", "signatures good, 3 packages needed") in events
    assert events[-1].text.startswith("debian:13, 0 MB, done in ")


def test_the_slim_one_has_no_manuals_and_lets_dpkg_install_none(archive: Archive) -> None:
    engine = Engine()
    make(archive, engine, "debian:13-slim")
    layer = layer_of(engine, "debian:13-slim")
    assert "usr/share/man/man8/apt.8" not in layer.getnames()
    stream = layer.extractfile("etc/dpkg/dpkg.cfg.d/docker")
    assert stream is not None and b"path-exclude /usr/share/man/*\n" in stream.read()


def test_the_same_packages_are_the_same_image_under_any_name(archive: Archive) -> None:
    engine = Engine()
    first = make(archive, engine)
    archive.publish(PACKAGES)  # another date, another signature
    assert make(archive, engine, "debian:latest") == first
    assert make(archive, engine, "debian:13-slim") != first


def test_downloads_are_kept(archive: Archive) -> None:
    make(archive, Engine())
    archive.asked.clear()
    make(archive, Engine())
    assert {path.rpartition("/")[2] for path in archive.asked} == {"InRelease"}


def test_an_old_index_is_not_kept(archive: Archive, tmp_path: Path) -> None:
    make(archive, Engine())
    archive.publish([*PACKAGES, package("more")])
    make(archive, Engine())
    assert len([*(tmp_path / "home/cache/debian-indexes/trixie").iterdir()]) == 1


@pytest.mark.parametrize(
    ("fails", "said", "hint"),
    [
        ("load", "no room", ""),
        ("setup", "could not be configured", "something is wrong"),
        ("export", "export of the container cannot be read", ""),
    ],
)
def test_a_failure_leaves_nothing_behind(archive: Archive, tmp_path: Path, fails: str, said: str, hint: str) -> None:
    engine = Engine(fails)
    with pytest.raises(CoveError, match=said) as raised:
        make(archive, engine)
    assert hint in raised.value.hint
    assert not engine.images
    assert not engine.containers
    assert {path.name for path in (tmp_path / "home/cache").iterdir()} == {
        "packages",
        "packages-locks",
        "debian-indexes",
    }


def test_another_signature_is_none(archive: Archive) -> None:
    archive.publish(PACKAGES, key=pysequoia.Tsk.generate("Somebody <else@test.invalid>"))
    with pytest.raises(CoveError, match="is not signed by Debian"):
        make(archive, Engine())


def test_an_index_that_was_held_back_is_told(archive: Archive) -> None:
    archive.publish(PACKAGES, until_days=-1)
    with pytest.raises(CoveError, match="was only valid until"):
        make(archive, Engine())


def test_a_package_that_is_another_is_told(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    path = "/debian/pool/libx_1.0-1.deb"
    archive.files[path] = archive.files[path][:-1] + b"?"
    with pytest.raises(CoveError, match=r"libx 1\.0-1 could not be downloaded: its SHA-256"):
        make(archive, Engine())


def test_a_package_that_is_gone_is_told(archive: Archive) -> None:
    del archive.files["/debian/pool/libx_1.0-1.deb"]
    with pytest.raises(CoveError, match="names packages that the mirror does not have: libx") as raised:
        make(archive, Engine())
    assert "try again" in raised.value.hint


def test_a_mirror_without_the_release_is_told(archive: Archive) -> None:
    with pytest.raises(CoveError, match="the index of bookworm is not on the mirror"):
        make(archive, Engine(), "debian:12")


def test_a_mirrors_password_stays_here(archive: Archive) -> None:
    engine = Engine()
    archive.url = archive.url.replace("//", "//me:secret@")
    make(archive, engine)
    assert b"secret" not in engine.images["debian:13"]["layer"] + engine.images["debian:13"]["config"]


def test_certificates_come_with_a_mirror_that_needs_them(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = mirror.named(archive.url)
    secure = mirror.Mirrors("https://mirror.test/debian", "https://mirror.test/debian-security")
    urls = {"debian": plain.debian, "debian-security": plain.debian_security}
    monkeypatch.setattr(mirror.Mirrors, "base", lambda self, name: urls[name])
    engine = Engine()
    bootstrap(releases.parse("debian:13"), secure, engine, ignore)
    assert "etc/ca" in layer_of(engine, "debian:13").getnames()
    assert engine.ran is not None and engine.ran[0][-1] == "ca-certificates"
