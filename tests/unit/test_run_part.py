"""A short look at what has tests of its own fails when it hangs, and is forgiven only where CI ends before (tests/run_part.py)."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import run_part

FOREVER = (sys.executable, "-c", "import time; time.sleep(600)")
MOMENT_S = 1.0
PATIENCE_S = 60


def look(limit_s: float = 600, *, needs: Sequence[Sequence[str]] = (), tests: Path = Path("none")) -> run_part.Short:
    return run_part.Short(
        "this", "this", limit_s, 0, needs, (f"--rootdir={tests}", "-c", "/dev/null", "-q", str(tests))
    )


@pytest.fixture
def hanging(tmp_path: Path) -> Path:
    (tmp_path / "test_hangs.py").write_text("import time\ndef test_it():\n    time.sleep(600)\n")
    return tmp_path


def ends_in(monkeypatch: pytest.MonkeyPatch, span_s: float) -> None:
    monkeypatch.setenv("COVE_TESTS_END", str(time.time() + span_s))


def run(short: run_part.Short, tmp_path: Path) -> int:
    return run_part.short(short, ["-o", f"cache_dir={tmp_path}/cache"], tmp_path / "cache/v/cache/lastfailed")


@pytest.mark.parametrize("in_ci", [True, False])
def test_what_its_own_limit_cuts_has_failed(monkeypatch: pytest.MonkeyPatch, hanging: Path, in_ci: bool) -> None:
    if in_ci:
        ends_in(monkeypatch, 3600)
    else:
        monkeypatch.delenv("COVE_TESTS_END", raising=False)
    assert run(look(MOMENT_S, needs=[FOREVER]), hanging) != 0
    assert run(look(MOMENT_S, tests=hanging), hanging) != 0


def test_what_the_end_of_ci_cuts_is_told_of(
    monkeypatch: pytest.MonkeyPatch, hanging: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for what in (look(needs=[FOREVER]), look(tests=hanging)):
        ends_in(monkeypatch, MOMENT_S)
        assert run(what, hanging) == 0
        assert "TO BE LOOKED AT: CI had no time for this: make this" in capfd.readouterr().out


def test_what_has_no_time_is_not_begun(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ends_in(monkeypatch, -1)
    made = tmp_path / "made"
    assert run(look(needs=[("touch", str(made))]), tmp_path) == 0
    assert not made.exists()


def test_a_need_that_fails_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ends_in(monkeypatch, 300)
    assert run(look(needs=[("sh", "-c", "exit 3")]), tmp_path) == 3


def test_a_need_that_is_cut_takes_with_it_what_it_has_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("COVE_TESTS_END", raising=False)
    mark = f"of-{tmp_path}"
    child = f"{sys.executable} -c 'import time; time.sleep(600)' {mark} & wait"
    assert run(look(MOMENT_S, needs=[("sh", "-c", child)]), tmp_path) != 0
    end = time.monotonic() + PATIENCE_S
    while left := [*processes(mark)]:
        assert time.monotonic() < end, f"still there: {left}"
        time.sleep(0.05)


def test_a_pytest_that_has_to_be_killed_has_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What failed in it, it has not written down."""
    begun = tmp_path / "begun"
    (tmp_path / "test_hangs.py").write_text(
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"pathlib.Path({str(begun)!r}).touch()\n"
        "def test_it():\n    time.sleep(600)\n"
    )
    monkeypatch.setattr(run_part, "CLEANED_S", 0.1)
    limit = MOMENT_S
    while not begun.exists():  # else it has been interrupted before it could hang
        assert limit < PATIENCE_S
        limit *= 2
        ends_in(monkeypatch, limit)
        status = run(look(tests=tmp_path), tmp_path)
    assert status == 1


def processes(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if mark.encode() in words:
            found.append(path.parent.name)
    return found
