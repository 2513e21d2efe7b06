"""One container in the dashboard: its terminal, its files, what it takes, what it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from browser import comes_true
from machine_support import Machine
from playwright.sync_api import Page, WebSocketRoute, expect

Visit = Callable[[str], Page]


def _open(machine: Machine, visit: Visit, container: str, tab: str) -> Page:
    identity = machine.docker("inspect", "-f", "{{.Id}}", container).stdout.strip()
    return visit(f"containers/{identity[:12]}/{tab}")


def _read(machine: Machine, container: str, path: str) -> str:
    return machine.docker("exec", container, "cat", path, check=False).stdout


def test_the_terminal_is_one(machine: Machine, visit: Visit, running: str) -> None:
    page = _open(machine, visit, running, "terminal")
    rows = page.locator(".xterm-rows")
    expect(rows).to_contain_text("#")
    page.keyboard.type("echo $((6 * 7)) >/answer; stty size >/size; tty\n")
    assert comes_true(lambda: _read(machine, running, "/size"), "the command ran")
    assert _read(machine, running, "/answer") == "42\n"
    expect(rows).to_contain_text("/dev/pts/")

    before = _read(machine, running, "/size")
    page.set_viewport_size({"width": 900, "height": 600})
    page.keyboard.type('while [ "$(stty size)" = \'' + before.strip() + "' ]; do :; done; stty size >/size\n")
    comes_true(lambda: _read(machine, running, "/size") != before, "the terminal has the window's size")
    page.keyboard.type("exit\n")
    expect(page.get_by_text("The shell has ended.")).to_be_visible()
    page.get_by_role("button", name="New shell").click()
    expect(page.get_by_text("The shell has ended.")).to_have_count(0)
    expect(page.locator(".xterm-rows")).to_contain_text("#")


def test_other_colours_leave_the_shell(machine: Machine, visit: Visit, running: str) -> None:
    page = _open(machine, visit, running, "terminal")
    expect(page.locator(".xterm-rows")).to_contain_text("#")
    page.keyboard.type("kept=here\n")
    page.get_by_role("button", name="Colours").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="Colours").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator(".xterm-helper-textarea").focus()
    page.keyboard.type('echo "$kept" >/answer; echo done >/done\n')
    comes_true(lambda: _read(machine, running, "/done"), "the command ran")
    assert _read(machine, running, "/answer") == "here\n"
    page.keyboard.press("Shift+F6")
    expect(page.get_by_role("link", name="Terminal")).to_be_focused()


def test_a_terminal_that_is_flooded_has_the_server_wait(machine: Machine, visit: Visit, running: str) -> None:
    page = visit("overview")
    told: list[str] = []

    def flood(socket: WebSocketRoute) -> None:
        def heard(text: str | bytes) -> None:
            if isinstance(text, str) and "hold" in text:
                told.append(text)
                if len(told) == 2:
                    socket.send(b"all is drawn")

        socket.on_message(heard)
        socket.send(b"y\r\n" * 1_000_000)

    page.route_web_socket(re.compile("/api/exec/"), flood)
    _open(machine, visit, running, "terminal")
    expect(page.locator(".xterm-rows")).to_contain_text("all is drawn")
    assert told == ['{"hold":true}', '{"hold":false}']


def test_a_container_without_a_shell_says_so(machine: Machine, visit: Visit, running: str) -> None:
    machine.docker("exec", running, "rm", "/bin/sh")
    page = _open(machine, visit, running, "terminal")
    expect(page.locator(".terminal-end")).not_to_contain_text("The shell has ended.")
    expect(page.locator(".terminal-end")).to_contain_text(re.compile("no shell|no such file", re.IGNORECASE))


def test_leaving_the_terminal_ends_its_shell(machine: Machine, visit: Visit, running: str) -> None:
    page = _open(machine, visit, running, "terminal")
    expect(page.locator(".xterm-rows")).to_contain_text("#")
    assert "ash" in machine.docker("top", running).stdout
    visit("overview")
    comes_true(lambda: "ash" not in machine.docker("top", running).stdout, "the shell has ended")


def test_files_are_walked_up_and_downloaded(machine: Machine, visit: Visit, running: str, tmp_path: Path) -> None:
    machine.docker("exec", running, "sh", "-c", "mkdir -p /data/deep && echo inside >/data/deep/there")
    page = _open(machine, visit, running, "files")
    page.get_by_role("button", name="data", exact=True).click()
    page.get_by_role("button", name="deep", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download there").click()
    assert download.value.path().read_text() == "inside\n"

    brought = tmp_path / "brought along.txt"
    brought.write_text("from this computer\n")
    page.locator("[data-upload]").set_input_files(brought)
    expect(page.get_by_role("row").filter(has_text=brought.name)).to_be_visible()
    assert _read(machine, running, f"/data/deep/{brought.name}") == "from this computer\n"


def test_files_of_a_stopped_container_are_there_too(machine: Machine, visit: Visit, running: str) -> None:
    machine.docker("exec", running, "sh", "-c", "mkdir /data && echo kept >/data/file")
    machine.docker("kill", running)
    page = _open(machine, visit, running, "files")
    page.get_by_role("button", name="data", exact=True).click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download file").click()
    assert download.value.path().read_text() == "kept\n"


def test_what_it_takes_is_drawn_as_it_is_told(machine: Machine, visit: Visit, running: str) -> None:
    page = _open(machine, visit, running, "stats")
    for what in ("CPU", "Memory", "Network", "Disk"):
        expect(page.get_by_role("img", name=what)).to_be_visible()
    expect(page.get_by_role("img", name="Memory")).to_have_accessible_name(_digits())
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("row").filter(has_text="sleep 100000")).to_be_visible()
    machine.docker("kill", running)
    expect(page.get_by_role("heading", name="Nothing to measure")).to_be_visible()


def _digits() -> re.Pattern[str]:
    return re.compile(r"\d")


def test_what_it_is_is_told_in_words_and_as_json(machine: Machine, visit: Visit, name: str) -> None:
    machine.docker("run", "-d", "--name", name, "-e", "PLACE=here", "--label", "kind=test", "busybox", "sleep", "1000")
    page = _open(machine, visit, name, "inspect")
    expect(page.get_by_role("row").filter(has_text="PLACE")).to_contain_text("here")
    expect(page.get_by_role("row").filter(has_text="kind")).to_contain_text("test")
    page.get_by_role("button", name="JSON", exact=True).click()
    expect(page.get_by_role("region", name="JSON")).to_contain_text("HostConfig")
