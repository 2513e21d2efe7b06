"""What becomes of a move that the server refuses to pretend."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

import pytest
from coved.link.protocol import Change
from coved.watching.place import Place
from coved.watching.pretend import Pretender


@pytest.mark.parametrize("refused", ["at once", "when it is renamed"])
def test_what_a_container_writes_by_its_new_name_is_gone_by_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """A folder of this computer stands for the mount: what the kernel has cached."""
    (tmp_path / "old").write_text("cached")
    (tmp_path / "new").write_text("written by a container")
    kinds: list[object] = []

    def arm(self: Pretender, order: dict[str, object]) -> None:
        kinds.append(order["kind"])
        if order["kind"] == "move" and refused == "at once":
            raise OSError(errno.EBUSY, "a container writes to it")

    def rename(*_: object, **__: object) -> None:
        raise OSError(errno.EBUSY, "a container writes to it")

    monkeypatch.setattr(Pretender, "_arm", arm)
    monkeypatch.setattr("os.rename", rename)
    with contextlib.closing(Place(str(tmp_path))) as place:
        Pretender(place, "", "t").do(Change("move", "old", "file", "new", "new"))
    assert kinds == ["move", "delete"]
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"new": "written by a container"}
