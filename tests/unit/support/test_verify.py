"""`cove verify` with a program that stands in for cove: steps, what becomes of failures, and the report."""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
from cove.machine.paths import config_dir
from cove.support import verify

# Remembers what it was called with, and answers as a cove would whose machine runs.
COVE = """
import json, os, pathlib, sys
words, home = sys.argv[1:], pathlib.Path(os.environ["COVE_HOME"])
with open(os.environ["CALLS"], "a") as calls:
    calls.write(json.dumps(words) + "\\n")
words = words[2:] if words[:1] == ["-m"] else words
if words[:2] == ["machine", "init"]:
    home.mkdir()
    pathlib.Path(os.environ["CALLS"] + ".mirror").write_text(os.environ["COVE_DEBIAN_MIRROR"])
elif words[0] == "uninstall":
    if not os.environ.get("LEAVES"):
        home.rmdir()
    else:
        (home / "data").mkdir()
elif words[:2] == ["machine", "start"] and os.environ.get("BROKEN"):
    sys.exit("cove: it does not start, password=hunter22")
elif words[:2] == ["machine", "status"]:
    print(json.dumps({"accelerator": os.environ.get("USED", "hvf"), "accelerator_reason": "it ran code", "docker_socket": str(home)}))
elif words[0] == "diagnose":
    print(json.dumps({"findings": [{"state": "ok", "check": "qemu", "text": "10.0"}]}))
    sys.exit(1)
elif words[0] == "inspect":
    print("true")
elif words[0] == "run" and "echo" in words:
    print(words[-1])
elif words[0] == "rm" and os.environ.get("STUCK"):
    sys.exit("cove: it is stuck")
elif words[0] == "--version":
    print("Cove version 0")
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> verify.Verification:
    program = tmp_path / "cove.py"
    program.write_text(COVE)
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("PATH", str(tmp_path))  # no docker, no store of credentials
    monkeypatch.setenv("COVE_MACHINE", "mine")
    monkeypatch.setattr(verify, "_fetch", lambda port: "It works")
    monkeypatch.setattr(verify.Verification, "_folder", lambda self: "read and written")
    monkeypatch.setattr(verify.Verification, "_socket", lambda self: "of the user alone")
    return verify.Verification(tmp_path / "home", None, [sys.executable, str(program)])


def states(verification: verify.Verification) -> dict[str, str]:
    return {each.name: each.state for each in verification.run()}


def test_what_works_passes_and_what_cannot_be_done_here_is_skipped(stand_in: verify.Verification) -> None:
    found = states(stand_in)
    assert {name for name, state in found.items() if state == verify.SKIPPED} == {
        "docker",
        "compose",
        "sleep",
        "credentials",
    }
    assert set(found.values()) == {verify.PASSED, verify.SKIPPED}
    assert list(found)[-1] == "removal"


def test_nothing_of_the_users_machines_is_touched(stand_in: verify.Verification, tmp_path: Path) -> None:
    states(stand_in)
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    named = [words for words in calls if words[0] in ("-m", "machine")]
    assert named
    assert all(verify.MACHINE in words for words in named)
    assert all(words[0] in ("-m", "machine", "diagnose", "uninstall", "--version") for words in calls)


def test_the_image_is_made_from_the_mirror_that_the_user_has_named(
    stand_in: verify.Verification, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("COVE_DEBIAN_MIRROR", raising=False)
    monkeypatch.setenv("COVE_HOME", str(tmp_path / "users"))
    config_dir().mkdir(parents=True)
    (config_dir() / "vm-image.toml").write_text('debian_mirror = "http://company.test/debian"')
    states(verify.Verification(tmp_path / "home", None, [sys.executable, str(tmp_path / "cove.py")]))
    assert (tmp_path / "calls.mirror").read_text() == "http://company.test/debian"


def test_emulation_is_a_failure_that_ends_nothing(
    stand_in: verify.Verification, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("USED", "tcg")
    found = states(verify.Verification(tmp_path / "home", None, [sys.executable, str(tmp_path / "cove.py")]))
    assert found["accelerator"] == verify.FAILED
    assert found["restart"] == verify.PASSED


def test_a_machine_that_does_not_start_ends_it_and_the_report_keeps_no_secret(
    stand_in: verify.Verification, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from cove.support import bundle

    monkeypatch.setenv("BROKEN", "1")
    results = list(verify.Verification(tmp_path / "home", None, [sys.executable, str(tmp_path / "cove.py")]).run())
    assert [each.name for each in results] == ["computer", "diagnose", "first start", "removal"]
    told = verify.report(results, bundle.cleaner())
    assert "FAILED   first start" in told
    assert "it does not start" in told
    assert "hunter22" not in told


def test_what_uninstalling_leaves_is_a_failure(
    stand_in: verify.Verification, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LEAVES", "1")
    *_, last = verify.Verification(tmp_path / "home", None, [sys.executable, str(tmp_path / "cove.py")]).run()
    assert (last.name, last.state) == ("removal", verify.FAILED)
    assert "data" in last.text


def test_somebody_who_is_there_is_asked_once_and_may_decline(stand_in: verify.Verification, tmp_path: Path) -> None:
    asked: list[str] = []

    def no(what: str) -> bool:
        asked.append(what)
        return False

    found = states(verify.Verification(tmp_path / "home", no, [sys.executable, str(tmp_path / "cove.py")]))
    assert found["sleep"] == verify.SKIPPED
    assert len(asked) == 1


@pytest.mark.parametrize(("system", "skipped"), [("linux", set()), ("darwin", {"suspend"}), ("win32", {"suspend"})])
def test_what_cove_does_not_do_on_a_system_yet_is_skipped_there(
    stand_in: verify.Verification, monkeypatch: pytest.MonkeyPatch, system: str, skipped: set[str]
) -> None:
    monkeypatch.setattr(verify, "sys", SimpleNamespace(platform=system))
    found = states(stand_in)
    assert {each for each in ("suspend", "folder") if found[each] == verify.SKIPPED} == skipped
    assert verify.FAILED not in found.values()


def test_what_hyper_v_runs_is_suspended_on_windows(
    stand_in: verify.Verification, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(stand_in._environment, "USED", "hyperv")
    monkeypatch.setattr(verify, "sys", SimpleNamespace(platform="win32"))
    assert states(stand_in)["suspend"] == verify.PASSED
    calls = [json.loads(line) for line in (tmp_path / "calls").read_text().splitlines()]
    assert ["machine", "suspend", verify.MACHINE] in calls


def test_a_failure_is_told_rather_than_that_of_tidying_up_after_it(
    stand_in: verify.Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no(port: int) -> str:
        raise ConnectionRefusedError("nobody answers")

    monkeypatch.setitem(stand_in._environment, "STUCK", "1")
    port = {each.name: each for each in stand_in.run()}["port"]
    assert (port.state, "it is stuck" in port.text) == (verify.FAILED, True)
    monkeypatch.setattr(verify, "_fetch", no)
    port = {each.name: each for each in stand_in.run()}["port"]
    assert (port.state, port.text) == (verify.FAILED, "ConnectionRefusedError: nobody answers")


def test_the_page_on_localhost_is_fetched_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<title>mine</title>")

        def log_message(self, *words: object) -> None:
            pass

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        try:
            assert verify._fetch(server.server_port) == "mine"
        finally:
            server.shutdown()
            serving.join()
