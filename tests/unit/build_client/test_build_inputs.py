"""By what the engine knows again the folders that it was sent before."""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path

import pytest
from cove.build.inputs import gather


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("app", "other/app", "one", "two"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "Dockerfile").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def key(context: str, dockerfile: str = "", stdin: bytes = b"", **named: str) -> str:
    with ExitStack() as cleanup:
        return gather(context, dockerfile, named, "archive", io.BytesIO(stdin), cleanup).shared_key


def test_the_same_folders_have_the_same_key(place: Path) -> None:
    assert key("app", x="one").startswith("app:")
    assert key("app", x="one", y="two") == key(str(place / "app"), y="two", x=str(place / "one"))
    assert key("app") == key("app", "-", b"FROM scratch\n") == key("app", "one/Dockerfile")


def test_other_folders_have_another(place: Path) -> None:
    keys = [key("app"), key("other/app"), key("app", x="one"), key("app", x="two"), key("app", y="one")]
    assert len({*keys}) == len(keys)


@pytest.mark.usefixtures("place")
def test_what_does_not_come_again_has_none() -> None:
    assert key("-", stdin=b"FROM scratch\n", x="one") == ""
    assert key("https://example.com/a.git", x="one") == ""
