"""A new VM image is taken at the next start; `cove machine rollback` goes back; what is interrupted leaves a machine that starts."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from cove.agent import images as choosing
from cove.image import builder, inputs, store
from cove.machine import systems, templates
from cove.machine.architecture import AMD64
from cove.machine.paths import MachinePaths, images_dir
from made_vm_images import publish_image

OLD, NEW = "0" * 64, "1" * 64


def there() -> set[str]:
    return {path.name for path in store.folders()}


def started_anew(cove: Any, digit: str = "1") -> str:
    """A machine that has been used with the old image, and for which there is a new one."""
    cove.make()
    cove.run("machine", "start")
    cove.run("machine", "stop")
    return publish_image(digit)


def test_a_new_image_is_taken_and_exactly_the_one_before_kept(cove: Any) -> None:
    started_anew(cove)
    cove.run("machine", "start")
    status = cove.status()
    assert status["image"] == NEW
    assert status["images"] == {"used": NEW, "before": OLD, "newest": NEW, "failed": None, "pinned": False}
    assert there() == {OLD, NEW}
    saved = {path.name[:16] for path in templates.folder().iterdir()}
    assert saved == {OLD[:16], NEW[:16]}
    newest = publish_image("2")
    assert "the next start takes a newer one" in cove.run("machine", "status").stdout
    cove.run("machine", "upgrade")
    assert cove.status()["image"] == newest
    assert there() == {NEW, newest}
    assert OLD[:16] not in {path.name[:16] for path in templates.folder().iterdir()}


def test_a_machine_goes_back_and_stays_there_until_an_upgrade(cove: Any) -> None:
    started_anew(cove)
    cove.run("machine", "start")
    said = cove.run("machine", "rollback").stdout
    assert f"gone back to the VM image {OLD[:16]}" in said
    cove.run("machine", "restart")
    publish_image("2")
    cove.run("machine", "restart")
    status = cove.status()
    assert (status["image"], status["images"]["pinned"]) == (OLD, True)
    assert "has gone back already" in cove.run("machine", "rollback", status=1).stderr
    assert f"running with the VM image {'2' * 16}" in cove.run("machine", "upgrade").stdout
    assert there() == {OLD, "2" * 64}


def test_an_image_that_does_not_start_says_what_to_do_and_is_left_by_a_rollback(cove: Any) -> None:
    started_anew(cove)
    cove.faults = "bad-image=1111"
    for _ in range(2):  # nor is it taken for good
        failed = cove.run("machine", "start", status=1).stderr
        assert "the machine default did not start: the data is of a newer engine" in failed
        assert "its template cannot be used" not in failed
        assert (
            "for the first time. Go back to the one before it, with all data: cove machine rollback default" in failed
        )
    assert f"{NEW[:16]} did not start" in cove.run("machine", "status").stdout
    cove.run("machine", "rollback")
    cove.run("machine", "restart")
    status = cove.status()
    assert (status["image"], status["images"]["pinned"]) == (OLD, True)
    cove.faults = ""
    cove.run("machine", "upgrade")
    assert cove.status()["images"] == {"used": NEW, "before": OLD, "newest": NEW, "failed": None, "pinned": False}


def test_a_rollback_that_fails_changes_nothing(cove: Any) -> None:
    started_anew(cove)
    cove.run("machine", "start")
    cove.faults = "bad-image=0000"
    cove.run("machine", "stop")
    failed = cove.run("machine", "rollback", status=1).stderr
    assert f"cannot go back to the VM image {OLD[:16]}" in failed
    assert "the data is of a newer engine" in failed
    cove.run("machine", "start")
    assert cove.status()["images"] == {"used": NEW, "before": OLD, "newest": NEW, "failed": None, "pinned": False}


@pytest.mark.parametrize("answered", [True, False])
def test_a_rollback_whose_command_is_killed_is_gone_through_with_or_changes_nothing(
    cove: Any, eventually: Any, answered: bool
) -> None:
    """``answered``: the engine of the newer image has; without, it never started."""
    started_anew(cove)
    paths = MachinePaths("default")
    if answered:
        cove.run("machine", "start")
    else:
        cove.faults = "bad-image=1111"
        cove.run("machine", "start", status=1)
    before = systems.load(paths)
    for refuses in (True, False):
        cove.run("machine", "stop")
        cove.faults = "silent"
        with cove.spawn("machine", "rollback") as command:
            eventually(lambda: systems.load(paths).pinned and cove.status()["state"] == "starting")
            command.kill()
        assert systems.load(paths).used == before.used
        cove.run("machine", "stop")
        assert f"{OLD[:16]}, to which it is to go back" in cove.run("machine", "status").stdout
        cove.faults = "bad-image=0000" if refuses else ""
        if refuses:
            failed = cove.run("machine", "start", status=1).stderr
            assert f"It was to go back to the VM image {OLD[:16]}, and has not" in failed
            assert systems.load(paths) == systems.Systems(before.used, before.before)
            cove.faults = ""
            cove.run("machine", "start")
            assert cove.status()["image"] == NEW
            before = systems.load(paths)
    cove.run("machine", "start")
    assert cove.status()["images"] == {"used": OLD, "before": NEW, "newest": NEW, "failed": None, "pinned": True}


def test_an_interrupted_rollback_is_asked_for_again_or_given_up_by_an_upgrade(cove: Any) -> None:
    started_anew(cove)
    cove.run("machine", "start")
    cove.run("machine", "stop")
    paths = MachinePaths("default")
    before = systems.load(paths)
    systems.save(paths, before.back("default"))
    cove.run("machine", "upgrade")
    assert systems.load(paths) == before
    systems.save(paths, before.back("default"))
    cove.faults = "bad-image=0000"
    failed = cove.run("machine", "rollback", status=1).stderr
    assert f"cannot go back to the VM image {OLD[:16]}" in failed
    assert systems.load(paths) == before
    systems.save(paths, before.back("default"))
    cove.faults = ""
    cove.run("machine", "rollback")
    assert systems.load(paths) == systems.Systems(OLD, NEW, pinned=True)


def test_where_a_new_image_cannot_be_made_the_old_one_starts(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started_anew(cove)
    for pointer in (images_dir() / "inputs").iterdir():
        pointer.unlink()
    monkeypatch.setenv("COVE_DEBIAN_MIRROR", "http://127.0.0.1:9/debian")
    said = cove.run("machine", "start").stderr
    assert "the new one could not be made: this start takes the one before" in said
    assert cove.status()["image"] == OLD
    assert "this Cove has a newer one" in cove.run("machine", "status").stdout


def test_a_suspended_machine_goes_on_with_its_own_and_then_takes_the_new_one(cove: Any) -> None:
    cove.make()
    cove.run("machine", "start")
    cove.run("machine", "suspend")
    publish_image("1")
    store.prune()
    cove.run("machine", "resume")
    assert (cove.status()["start"], cove.status()["image"]) == ("resumed", OLD)
    cove.run("machine", "restart")
    assert cove.status()["image"] == NEW


def test_a_machine_of_a_cove_that_noted_nothing_can_go_back(cove: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = cove.make()
    paths.disk.touch()
    monkeypatch.setattr(store, "current", lambda _: None)  # another recipe than the one that OLD was made of
    monkeypatch.setattr(builder, "build", lambda *_: store.find(publish_image("1")))
    assert choosing.choose(paths, AMD64, lambda _: None).digest == NEW
    assert systems.load(paths) == systems.Systems(used=OLD, trying=NEW)
    store.prune()
    assert there() == {OLD, NEW}


KILLER = """
import os, signal, sys
folder = {folder!r}
def hook(event, arguments):
    if event == "os.rename" and os.path.basename(str(arguments[1])) == {name!r}:
        with open(folder + "/seen", "a") as seen:
            seen.write("x")
        if os.path.getsize(folder + "/seen") == {count}:
            os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[0] == "-m" and "cove.agent" in sys.orig_argv:
    sys.addaudithook(hook)
"""


@pytest.mark.parametrize(("name", "count"), [("systems.json", 1), ("systems.json", 2), ("run.json", 2)])
def test_an_agent_that_is_killed_amid_an_upgrade(
    cove: Any, monkeypatch: pytest.MonkeyPatch, name: str, count: int
) -> None:
    """Before what it was to start is noted, before that it answers is; when it has been given its seed."""
    started_anew(cove)
    site = cove.home / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(KILLER.format(folder=str(cove.home), name=name, count=count))
    monkeypatch.setenv("PYTHONPATH", f"{site}{os.pathsep}{os.environ['PYTHONPATH']}")
    cove.run("machine", "start", status=None)
    assert len((cove.home / "seen").read_text()) >= count
    cove.run("machine", "start")
    images = cove.status()["images"]
    assert (images["used"], images["before"], images["failed"]) == (NEW, OLD, None)


def _killed(step: int, digit: str) -> bool:
    """Publish an image, note it and tidy up, in a child that is killed before its `step`th change of a file. Whether it came so far."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    try:
        left = step

        def hook(event: str, _: Any) -> None:
            nonlocal left
            if event in ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        _publish(digit)
    finally:
        os._exit(0)


def _publish(digit: str) -> None:
    with store.building(lambda _: None):
        publish_image(digit)
    systems.answered(MachinePaths("default"), digit * 64)
    store.prune()


def test_every_step_of_taking_an_image_can_be_the_last(cove: Any) -> None:
    paths, step = cove.make(), 1
    inputs.key(AMD64)  # its hundreds of files are not what is looked at
    key = inputs.key(AMD64)
    _publish("0")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(inputs, "key", lambda _: key)
        digits = "01"
        while _killed(step, digits[1]):
            noted, newest = systems.load(paths), store.current(AMD64)
            assert noted.used in (digits[0] * 64, digits[1] * 64)
            assert store.find(noted.used) is not None
            assert newest is None or store.find(newest.digest) is not None
            for folder in store.folders():  # nothing that is half there looks as if it was whole
                if (folder / "manifest.json").exists():
                    json.loads((folder / "manifest.json").read_text())
                    assert store.find(folder.name) is not None
            _publish(digits[1])
            assert [path.name for path in images_dir().glob(".new-*")] == []
            assert [path.name for path in (images_dir() / "inputs").iterdir() if path.name != key] == []
            assert there() == {digits[0] * 64, digits[1] * 64}
            digits = digits[1] + ("0" if digits[1] == "f" else f"{int(digits[1], 16) + 1:x}")
            step += 1
    assert step > 20


def test_images_of_all_machines_are_kept_and_no_others(cove: Any) -> None:
    for name, digit in (("one", "0"), ("two", "1")):
        systems.save(cove.make(name), systems.Systems(used=digit * 64))
        publish_image(digit)
    asleep = MachinePaths("two").suspended_run
    asleep.write_text(json.dumps({"run": {"image": "2" * 64}, "disk": None}))
    for digit in "2345":
        publish_image(digit)
        Path(images_dir() / "inputs" / digit).write_text(digit * 64)
        os.utime(images_dir() / "inputs" / digit, ns=(int(digit), int(digit)))
    assert store.prune() and there() == {digit * 64 for digit in "0125"}
    MachinePaths("one").systems.write_text("[")
    assert store.prune() == [OLD]
