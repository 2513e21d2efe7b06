"""Containers in the dashboard: the list and its actions, logs, the dialog that runs one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from browser import comes_true
from machine_support import Machine
from playwright.sync_api import Page, WebSocketRoute, expect

Visit = Callable[[str], Page]


def _state(machine: Machine, container: str) -> str:
    return machine.docker("inspect", "-f", "{{.State.Status}}", container).stdout.strip()


def _row(page: Page, name: str) -> Any:
    return page.get_by_role("row").filter(has_text=name)


def test_a_container_is_stopped_started_paused_restarted_and_removed(
    machine: Machine, visit: Visit, running: str
) -> None:
    page = visit("containers")
    row = _row(page, running)
    expect(row).to_contain_text("Running")

    row.get_by_role("button", name=f"Pause: {running}").click()
    expect(row).to_contain_text("Paused")
    assert _state(machine, running) == "paused"
    row.get_by_role("button", name=f"Resume: {running}").click()
    expect(row).to_contain_text("Running")
    assert _state(machine, running) == "running"

    before = machine.docker("inspect", "-f", "{{.State.StartedAt}}", running).stdout
    row.get_by_role("button", name=f"Restart: {running}").click()
    comes_true(
        lambda: machine.docker("inspect", "-f", "{{.State.StartedAt}}", running).stdout != before, "it was restarted"
    )

    expect(row.get_by_role("button", name=f"Stop: {running}")).to_be_enabled()
    row.get_by_role("button", name=f"Stop: {running}").click()
    expect(row).to_contain_text(re.compile("Ended|Failed"))
    assert _state(machine, running) == "exited"
    row.get_by_role("button", name=f"Start: {running}", exact=True).click()
    expect(row).to_contain_text("Running")
    assert _state(machine, running) == "running"

    row.get_by_role("button", name=f"Remove: {running}").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert _state(machine, running) == "running", "nothing is removed unasked"
    row.get_by_role("button", name=f"Remove: {running}").click()
    dialog.get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    assert machine.docker("inspect", running, check=False).returncode


def test_what_docker_does_is_seen_at_once(machine: Machine, visit: Visit, name: str) -> None:
    page = visit("containers")
    expect(page.get_by_role("heading", name="Containers", level=1)).to_be_visible()
    machine.docker("run", "-d", "--name", name, "busybox", "sleep", "100000")
    expect(_row(page, name)).to_contain_text("Running")
    expect(page.locator("[data-heard]")).to_contain_text(name)
    machine.docker("rm", "-f", name)
    expect(_row(page, name)).to_have_count(0)


def test_the_dialog_runs_a_container_whose_port_is_a_link(machine: Machine, visit: Visit, name: str) -> None:
    page = visit("containers")
    page.get_by_role("button", name=re.compile("Run (a container|the first one)")).first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Image", exact=True).fill("busybox")
    dialog.get_by_label("Name", exact=True).fill(name)
    dialog.get_by_label("Ports", exact=True).fill("nonsense")
    dialog.get_by_label("Command", exact=True).fill("sh -c 'echo \"$GREETING\"; exec sleep 100000'")
    dialog.get_by_label("Environment", exact=True).fill("GREETING=hello from the page")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog.get_by_role("alert").filter(has_text="nonsense")).to_be_focused()
    dialog.get_by_label("Ports", exact=True).fill("80")
    right = dialog.get_by_label("Command", exact=True).input_value()
    dialog.get_by_label("Command", exact=True).fill("no-such-program")
    dialog.get_by_role("button", name="Run").click()
    expect(dialog.get_by_role("alert").filter(has_text="no-such-program")).to_be_focused()
    assert machine.docker("ps", "-aq", "--filter", f"name={name}").stdout == "", "its name is wanted for the next try"
    dialog.get_by_label("Command", exact=True).fill(right)
    dialog.get_by_role("button", name="Run").click()
    expect(page.get_by_role("heading", name=name)).to_be_visible()
    expect(page.get_by_role("region", name=f"Log of {name}")).to_contain_text("hello from the page")
    port = machine.docker("port", name, "80/tcp").stdout.strip().rpartition(":")[2]
    visit("containers")
    expect(_row(page, name).get_by_role("link", name=port)).to_have_attribute("href", f"http://localhost:{port}/")


def test_a_compose_project_is_a_group_and_is_stopped_and_started_as_one(
    machine: Machine, visit: Visit, name: str
) -> None:
    for service in ("web", "db"):
        labels = (f"com.docker.compose.project={name}", f"com.docker.compose.service={service}")
        words = [word for label in labels for word in ("--label", label)]
        machine.docker("run", "-d", "--stop-timeout", "1", "--name", f"{name}-{service}", *words, "busybox", "sleep", "100000")  # fmt: skip
    page = visit("containers")
    expect(_row(page, name).filter(has_text="2 of 2 running")).to_be_visible()
    # All of it, whatever of it is shown.
    page.get_by_role("searchbox").fill(f"{name}-web")
    expect(page.locator("[data-row]")).to_have_count(1)
    page.get_by_role("button", name=f"Stop all of {name}").click()
    expect(_row(page, name).filter(has_text="0 of 2 running")).to_be_visible()
    assert {_state(machine, f"{name}-{service}") for service in ("web", "db")} == {"exited"}
    page.get_by_role("button", name=f"Start all of {name}").click()
    expect(_row(page, name).filter(has_text="2 of 2 running")).to_be_visible()
    assert {_state(machine, f"{name}-{service}") for service in ("web", "db")} == {"running"}


def test_search_and_filter_choose_what_is_shown(machine: Machine, visit: Visit, running: str) -> None:
    page = visit("containers")
    expect(_row(page, running)).to_be_visible()
    page.locator("body").press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("no such container")
    expect(page.get_by_role("heading", name="Nothing matches")).to_be_visible()
    page.get_by_role("searchbox").fill(running)
    expect(_row(page, running)).to_be_visible()
    page.get_by_role("button", name="Stopped", exact=True).click()
    expect(_row(page, running)).to_have_count(0)


def test_rows_are_walked_and_opened_by_the_keyboard(visit: Visit, running: str) -> None:
    page = visit("containers")
    page.get_by_role("searchbox").fill(running)
    link = page.get_by_role("link", name=running)
    expect(link).to_be_visible()
    link.focus()
    page.keyboard.press("End")
    expect(link).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=running)).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("i")
    expect(page.get_by_role("heading", name="Images")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_the_log_is_followed_and_searched(machine: Machine, visit: Visit, name: str) -> None:
    written = "i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done; echo wrong >&2"
    script = f"mkfifo /pipe; sleep 100000 >/pipe & {written}; exec cat /pipe"
    machine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    page = visit("containers")
    page.get_by_role("link", name=name).click()
    log = page.get_by_role("region", name=f"Log of {name}")
    expect(log).to_contain_text("line 499")
    expect(log.locator(".stderr")).to_contain_text("wrong")
    machine.docker("exec", name, "sh", "-c", "echo a later line >/pipe")
    expect(log).to_contain_text("a later line")

    page.get_by_role("searchbox").fill("LINE 12")
    expect(page.get_by_role("status").filter(has_text="found")).to_contain_text("11 found")
    page.keyboard.press("Enter")
    expect(log.locator(".current")).to_have_text("line 12")
    page.keyboard.press("Enter")
    expect(log.locator(".current")).to_have_text("line 120")
    page.get_by_role("button", name="Match before").press("Enter")
    expect(log.locator(".current")).to_have_text("line 12")
    page.get_by_label("Only matches").check()
    expect(log.locator(".log-line")).to_have_count(11)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download the log").click()
    text = download.value.path().read_text()
    assert text.splitlines()[0] == "line 0"
    assert "a later line\n" in text


def test_a_log_that_was_cut_goes_on_and_has_each_line_once(machine: Machine, visit: Visit, name: str) -> None:
    script = "mkfifo /pipe; sleep 100000 >/pipe & echo first; echo second; exec cat /pipe"
    machine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    page = visit("containers")
    streams: list[WebSocketRoute] = []

    def through(route: WebSocketRoute) -> None:
        streams.append(route)
        route.connect_to_server()

    page.route_web_socket(re.compile("/logs[?]"), through)
    page.get_by_role("link", name=name).click()
    log = page.get_by_role("region", name=f"Log of {name}")
    expect(log).to_contain_text("second")
    streams[0].close(code=3000, reason="cut")
    machine.docker("exec", name, "sh", "-c", "echo third >/pipe")
    expect(log.locator(".log-line")).to_have_text(["first", "second", "third"])
    assert len(streams) == 2, "the log was asked for again"
    expect(page.get_by_text("The container has ended.")).to_have_count(0)
    expect(page.locator(".toast.bad")).to_have_count(0)


def test_the_focus_goes_to_the_next_row_when_one_is_removed(machine: Machine, visit: Visit, name: str) -> None:
    for each in ("a", "b"):
        machine.docker("create", "--name", f"{name}-{each}", "busybox")
    page = visit("containers")
    page.get_by_role("searchbox").fill(name)
    rows = page.locator("[data-row]")
    expect(rows).to_have_count(2)
    other = rows.nth(1).inner_text()
    first = rows.nth(0).inner_text()
    page.get_by_role("button", name=f"Remove: {first}").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(rows).to_have_count(1)
    expect(page.get_by_role("link", name=other)).to_be_focused()


def test_a_container_that_goes_while_it_is_shown_is_said_to_be_gone(
    machine: Machine, visit: Visit, running: str
) -> None:
    page = visit("containers")
    page.get_by_role("link", name=running).click()
    expect(page.get_by_role("heading", name=running)).to_be_visible()
    machine.docker("rm", "-f", running)
    expect(page.get_by_role("heading", name="This container is gone")).to_be_visible()
    page.get_by_role("link", name="All containers").click()
    expect(page.get_by_role("heading", name="Containers", level=1)).to_be_visible()
