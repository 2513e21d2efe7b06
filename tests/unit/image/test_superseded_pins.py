"""Whole builds of the VM image from a mirror: pins that are gone, and mirrors that lie, break off, or are out of date."""

from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pysequoia
import pytest
from cove.errors import CoveError
from cove.image import bootdisk, builder, erofs, inputs, store
from cove.image.download import Downloader
from cove.image.recipe import load_lock
from cove.machine.architecture import AMD64
from cove.progress import Event
from debian_mirror import Mirror, efi_stub


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    made = Mirror(tmp_path)
    made.add_all()
    made.pin()
    made.publish()
    (tmp_path / "coved").mkdir()
    (tmp_path / "coved/engine.py").write_text("print('an engine')\n")
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COVE_DEBIAN_MIRROR", made.url)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(inputs, "recipe_dir", lambda: made.recipe)
    monkeypatch.setattr(inputs, "engine_dir", lambda: tmp_path / "coved")
    monkeypatch.setitem(Downloader.__init__.__kwdefaults__, "retry_delay_s", 0.001)
    yield made
    made.close()


def built() -> tuple[store.VmImage, list[str], dict[str, Any]]:
    """The image, what was said while it was built, and its manifest."""
    events: list[Event] = []
    image = builder.build(AMD64, events.append)
    return image, [event.text for event in events], json.loads(image.manifest.read_text())


def versions(manifest: dict[str, Any]) -> dict[str, str]:
    return {package["name"]: package["version"] for package in manifest["packages"]}


def cache(tmp_path: Path) -> dict[str, bytes]:
    """Whole files of the cache of downloads, each of which must be what its name says."""
    folder = tmp_path / "home/cache/packages"
    files = {path.name: path.read_bytes() for path in folder.glob("*") if path.suffix != ".part"}
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in files.items())
    return files


def test_pins_that_are_there_are_used_and_nothing_else_is_asked_for(mirror: Mirror) -> None:
    image, said, manifest = built()
    assert versions(manifest)["tool"] == "1.0-1"
    assert not manifest["resolved_again"]
    assert not any("dists" in path for path in mirror.asked)
    assert "signature good" in said[-1]
    assert b"one" in image.system.read_bytes()
    mirror.asked.clear()
    assert builder.build(AMD64).digest == image.digest
    assert mirror.asked == []


def test_a_pin_that_is_gone_is_resolved_again_through_the_signed_index_and_said_so(
    mirror: Mirror, tmp_path: Path
) -> None:
    lock = (mirror.recipe / "lock-amd64.json").read_bytes()
    mirror.add("tool", "1.0-1+deb13u1", {"usr/bin/tool": b"two"})
    mirror.publish()
    image, said, manifest = built()
    assert versions(manifest)["tool"] == "1.0-1+deb13u1"
    assert versions(manifest)["busybox-static"] == "1.37"
    assert manifest["resolved_again"]
    assert "1 pinned packages are superseded; resolving again through the signed index" in said
    assert said[-1].endswith("; pins resolved again")
    assert b"two" in image.system.read_bytes()
    # The lock is for people to change; and what was resolved for one build is not passed off as the lock's.
    assert (mirror.recipe / "lock-amd64.json").read_bytes() == lock
    assert not [*(tmp_path / "home/cache").glob("vm-image-base/*")]


def test_two_builds_of_one_lock_give_one_digest(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, _ = built()
    contents = {path.name: path.read_bytes() for path in (first.kernel, first.system, first.initramfs)}
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "elsewhere"))
    second, _, _ = built()
    assert second.directory != first.directory
    assert second.digest == first.digest
    assert {path.name: path.read_bytes() for path in (second.kernel, second.system, second.initramfs)} == contents


def test_the_unpacked_base_gives_the_same_image_as_the_packages(mirror: Mirror, tmp_path: Path) -> None:
    first, _, _ = built()
    engine = tmp_path / "coved/engine.py"
    engine.write_text("print('another engine')\n")
    mirror.files.clear()  # an engine's change needs no mirror
    second, _, _ = built()
    assert second.digest != first.digest
    engine.write_text("print('an engine')\n")
    for image in (tmp_path / "home/data/images").iterdir():
        if image.name == "inputs":
            for pointer in image.iterdir():
                pointer.unlink()
    again, _, _ = built()
    assert again.digest == first.digest


def tampered_index(mirror: Mirror) -> None:
    mirror.files["/debian/dists/trixie/main/binary-amd64/Packages.xz"] = b"x" * len(
        mirror.files["/debian/dists/trixie/main/binary-amd64/Packages.xz"]
    )


def tampered_release(mirror: Mirror) -> None:
    path = "/debian/dists/trixie/InRelease"
    mirror.files[path] = mirror.files[path].replace(b"main/binary-amd64", b"main/binary-evil6")


def another_signer(mirror: Mirror) -> None:
    mirror.publish(key=pysequoia.Tsk.generate("Somebody else <else@test.invalid>"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (tampered_index, "damaged or was tampered with"),
        (tampered_release, "is not signed by Debian"),
        (another_signer, "is not signed by Debian"),
        (lambda mirror: mirror.publish(valid=timedelta(days=-1)), "was only valid until"),
        (lambda mirror: mirror.publish(codename="bookworm"), "gave the index of bookworm for that of trixie"),
        (lambda mirror: mirror.files.pop("/debian/dists/trixie/InRelease"), "is not on the mirror"),
        (lambda mirror: mirror.short.add("/debian/dists/trixie/InRelease"), "the index of trixie could not be downloaded"),
        (lambda mirror: mirror.short.add("/debian/dists/trixie/main/binary-amd64/Packages.xz"), "the connection ended after"),
        (lambda mirror: mirror.files.update({"/debian/dists/trixie/InRelease": b"<html>log in</html>"}), "is not signed by Debian"),
        (lambda mirror: mirror.files.update({"/debian/dists/trixie/InRelease": b"x" * (3 << 20)}), "is longer than"),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_trusted_is_refused(mirror: Mirror, tmp_path: Path, spoil: Any, said: str) -> None:
    mirror.add("tool", "1.0-2", {"usr/bin/tool": b"two"})
    mirror.publish()
    spoil(mirror)
    with pytest.raises(CoveError, match=said) as error:
        built()
    assert "COVE_DEBIAN_MIRROR" in error.value.hint or said == "is longer than"
    assert store.current(AMD64) is None
    before = cache(tmp_path)
    assert len(before) == 2  # the pins that are there
    mirror.short.clear()
    mirror.publish()  # and with a mirror that is right, the same cache gives an image
    assert versions(built()[2])["tool"] == "1.0-2"
    assert before.items() <= cache(tmp_path).items()


@pytest.mark.parametrize("how", ["tampered", "short", "long", "another"])
def test_a_package_that_is_not_what_it_should_be_is_refused(mirror: Mirror, tmp_path: Path, how: str) -> None:
    path = mirror.path("tool")
    good = mirror.files[path]
    if how == "tampered":
        mirror.files[path] = good.replace(b"one", b"bad")
    elif how == "long":
        mirror.files[path] = good + b"more"
    elif how == "another":
        mirror.files[path] = mirror.files[mirror.path("busybox-static")]
    else:
        mirror.short.add(path)
    with pytest.raises(CoveError, match=r"tool 1.0-1 could not be downloaded: ") as error:
        built()
    assert path in error.value.message
    said = {"tampered": "tampered with", "short": "the connection ended after", "long": "longer than the"}
    assert (
        said.get(how, "the index says" if len(mirror.files[path]) >= len(good) else "ended after")
        in error.value.message
    )
    assert store.current(AMD64) is None
    assert hashlib.sha256(good).hexdigest() not in cache(tmp_path)
    mirror.files[path] = good
    mirror.short.clear()
    image, _, manifest = built()
    assert b"one" in image.system.read_bytes()
    assert not manifest["resolved_again"]


def test_an_index_ahead_of_its_pool_says_try_again(mirror: Mirror) -> None:
    mirror.add("tool", "1.0-2", {"usr/bin/tool": b"two"})
    mirror.publish()
    del mirror.files[mirror.path("tool")]
    with pytest.raises(CoveError, match="names packages that the mirror does not have") as error:
        built()
    assert "try again in some minutes" in error.value.hint


def test_a_package_that_debian_dropped_is_named(mirror: Mirror) -> None:
    mirror.add("tool", "1.0-2", {"usr/bin/tool": b"two"})
    del mirror._packages["tool"]
    mirror.publish()
    with pytest.raises(CoveError, match="index has no package tool"):
        built()


def test_lock_writes_what_the_signed_index_has(mirror: Mirror) -> None:
    mirror.add("tool", "2.0", {"usr/bin/tool": b"two"})
    mirror.publish()
    builder.write_lock(AMD64)
    assert {package.name: package.version for package in load_lock(mirror.recipe / "lock-amd64.json")}["tool"] == "2.0"
    assert not built()[2]["resolved_again"]


def test_a_damaged_cache_is_mended(mirror: Mirror, tmp_path: Path) -> None:
    first, _, _ = built()
    for folder in ("packages", "vm-image-base"):
        for path in (tmp_path / "home/cache" / folder).iterdir():
            path.write_bytes(path.read_bytes()[:-1] + b"!")
    (first.directory / "system.erofs").write_bytes(b"cut")
    assert store.current(AMD64) is None
    second, _, _ = built()
    assert second.digest == first.digest
    assert second.system.stat().st_size > 3
    cache(tmp_path)


@pytest.mark.parametrize("where", ["download", "image", "base cache"])
def test_a_full_disk_is_told_and_the_next_build_is_good(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    def fail(*_: Any, **__: Any) -> Any:
        raise full

    with monkeypatch.context() as patch:
        if where == "download":
            patch.setattr(Downloader, "_attempt", fail)
        elif where == "image":
            patch.setattr(erofs, "write", fail)
        else:
            patch.setattr("cove.image.base_cache.save", fail)
            assert built()[2]["packages"]  # it is only slower next time
            return
        with pytest.raises(CoveError, match="the disk is full: there is no room in"):
            built()
    assert store.current(AMD64) is None
    assert not [*(tmp_path / "home/data/images").glob(".new-*")]
    assert not [*(tmp_path / "home/cache/packages").glob("*.part")]
    built()


def test_a_mirror_that_is_not_there_is_told_plainly(mirror: Mirror) -> None:
    mirror.close()
    with pytest.raises(CoveError, match=r"could not be downloaded: Connection refused \(http://") as error:
        built()
    assert "COVE_DEBIAN_MIRROR" in error.value.hint


def test_progress_counts_each_byte_once(mirror: Mirror) -> None:
    mirror.short.add(mirror.path("tool"))
    with pytest.raises(CoveError):
        built()
    mirror.short.clear()
    events: list[Event] = []
    builder.build(AMD64, events.append)
    counts = [event.done for event in events if event.text.endswith("Debian packages") and event.done is not None]
    assert max(counts) == counts[-1] == events[0].total


def test_the_disk_for_uefi_is_the_image_and_its_stub_and_the_same_each_time(mirror: Mirror, tmp_path: Path) -> None:
    image = builder.build(AMD64)
    for name in ("a.raw", "b.raw", "a.vhdx", "b.VHDX"):
        bootdisk.write(image, tmp_path / name)
    disk = (tmp_path / "a.raw").read_bytes()
    assert disk == (tmp_path / "b.raw").read_bytes()
    assert (tmp_path / "a.vhdx").read_bytes() == (tmp_path / "b.VHDX").read_bytes()
    assert (tmp_path / "a.vhdx").read_bytes().startswith(b"vhdxfile")
    assert image.system.read_bytes() in disk and b"the kernel" in disk and b"BOOTX64 EFI" in disk
    assert f"{image.command_line} console=ttyS0\0".encode() in disk
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_stub_whose_pin_is_gone_is_resolved_again(mirror: Mirror, tmp_path: Path) -> None:
    image = builder.build(AMD64)
    mirror.add("boot-stub", "1.1", {"usr/lib/stub.efi": efi_stub(b"two")})
    mirror.publish()
    events: list[Event] = []
    bootdisk.write(image, tmp_path / "disk.raw", events.append)
    assert efi_stub(b"two")[1024:] in (tmp_path / "disk.raw").read_bytes()
    assert any("superseded" in event.text for event in events)
    bootdisk.write_lock()
    (pinned,) = load_lock(mirror.recipe / bootdisk.LOCK)
    assert pinned.version == "1.1"


@pytest.mark.parametrize(
    ("files", "message"),
    [({"usr/lib/other.efi": b"x"}, "has no usr/lib/stub.efi"), ({"usr/lib/stub.efi": b"x"}, "no boot program")],
)
def test_a_stub_that_is_none_leaves_no_disk(
    mirror: Mirror, tmp_path: Path, files: dict[str, bytes], message: str
) -> None:
    image = builder.build(AMD64)
    mirror.add("boot-stub", "1.1", files)
    mirror.pin()
    with pytest.raises(CoveError, match=message):
        bootdisk.write(image, tmp_path / "disk.raw")
    assert not list(tmp_path.glob("*disk.raw*"))


def test_a_disk_is_not_made_of_an_image_of_another_version(mirror: Mirror, tmp_path: Path) -> None:
    image = builder.build(AMD64)
    image.kernel.write_bytes(b"another")
    with pytest.raises(CoveError, match="another version"):
        bootdisk.write(image, tmp_path / "disk.raw")
