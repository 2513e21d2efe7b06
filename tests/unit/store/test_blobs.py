import errno
import hashlib
import os
from pathlib import Path

import pytest
from coved.store.blobs import BlobStore, DamagedBlob, DigestMismatch


def test_a_blob_is_found_by_its_digest(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"content")
    assert digest == "sha256:" + hashlib.sha256(b"content").hexdigest()
    assert store.get(digest, 100) == b"content"
    assert store.put(b"content") == digest
    store.remove(digest)
    with pytest.raises(DamagedBlob, match="missing"):
        store.get(digest, 100)


def test_what_was_not_announced_is_not_kept(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    with pytest.raises(DigestMismatch), store.writer() as writer:
        writer.write(b"something else")
        writer.commit("sha256:" + "0" * 64)
    assert list((tmp_path / "blobs/sha256").iterdir()) == []


def test_an_abandoned_writer_leaves_nothing(tmp_path: Path) -> None:
    with BlobStore(tmp_path).writer() as writer:
        writer.write(b"half")
    assert list((tmp_path / "blobs/sha256").iterdir()) == []


def test_damage_is_noticed(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    digest = store.put(b"content")
    store.path(digest).write_bytes(b"contemt")
    with pytest.raises(DamagedBlob, match="damaged"):
        store.get(digest, 100)


def test_cleaning_keeps_what_is_known(tmp_path: Path) -> None:
    store = BlobStore(tmp_path)
    kept, gone = store.put(b"a"), store.put(b"b")
    (tmp_path / "blobs/sha256/incomplete-0").touch()
    store.clean(lambda digest: digest == kept)
    assert [path.name for path in (tmp_path / "blobs/sha256").iterdir()] == [kept.removeprefix("sha256:")]
    assert gone != kept


def test_what_cannot_be_adopted_leaves_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, file = BlobStore(tmp_path), tmp_path / "file"
    file.write_bytes(b"x")

    def fail(fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        store.adopt(file, "sha256:" + "0" * 64)
    assert [*(tmp_path / "blobs/sha256").iterdir()] == [] and file.read_bytes() == b"x"
