"""The machine in the dashboard: its settings, what is wrong with it, and its rest."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from browser import comes_true
from machine_support import START_S, Machine
from playwright.sync_api import Page, expect

Visit = Callable[[str], Page]
MOVE_MS = START_S * 1000


def _value(machine: Machine, key: str) -> object:
    return json.loads(machine.cove("config", "get", key, "--json").stdout)["value"]


def test_settings_are_a_form_of_their_schema(machine: Machine, visit: Visit) -> None:
    page = visit("settings")
    field = page.get_by_label("suspend_after", exact=True)
    before = field.input_value()
    field.fill("soon")
    page.get_by_role("button", name="Save 1").click()
    expect(page.get_by_role("alert").filter(has_text="soon")).to_be_visible()
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("17m")
    page.get_by_role("button", name="Save 1").click()
    expect(page.get_by_role("status").filter(has_text="Settings are saved.")).to_be_visible()
    assert _value(machine, "suspend_after") == "17m"
    field.fill(before)
    page.get_by_role("button", name="Save 1").click()
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    assert _value(machine, "suspend_after") == before


def test_a_list_is_typed_by_lines(machine: Machine, visit: Visit) -> None:
    page = visit("settings")
    field = page.get_by_label("no_proxy", exact=True)
    before = field.input_value()
    field.press_sequentially("one.example:5000\n two.example:5000\n")
    expect(field).to_have_value("one.example:5000\n two.example:5000\n")
    page.get_by_role("button", name="Save 1").click()
    expect(page.get_by_role("status").filter(has_text="Settings are saved.")).to_be_visible()
    assert _value(machine, "no_proxy") == ["one.example:5000", "two.example:5000"]
    field.fill(before)
    page.get_by_role("button", name="Save 1").click()
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    assert _value(machine, "no_proxy") == before.split()


def test_what_counts_later_says_so(machine: Machine, visit: Visit) -> None:
    page = visit("settings")
    field = page.get_by_label("cpus", exact=True)
    before = int(field.input_value())
    field.fill(str(before - 1))
    page.get_by_role("button", name="Save 1").click()
    expect(page.get_by_text("What you changed counts from the machine's next start.")).to_be_visible()
    assert _value(machine, "cpus") == before - 1
    field.fill(str(before))
    page.get_by_role("button", name="Save 1").click()
    expect(page.get_by_text("What you changed counts from the machine's next start.")).to_have_count(0)


def test_findings_are_shown_as_they_are_made(visit: Visit) -> None:
    page = visit("diagnose")
    expect(page.get_by_role("heading", name="versions")).to_be_visible()
    expect(page.get_by_role("button", name="Look again")).to_be_enabled()
    expect(page.get_by_role("status").filter(has_text="Looking")).to_have_count(0)


def test_what_happens_is_told_on_the_overview(machine: Machine, visit: Visit, name: str) -> None:
    page = visit("overview")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    machine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", "exit 3")
    events = page.get_by_role("list", name="Events")
    expect(events).to_contain_text(f"{name} started")
    expect(events).to_contain_text(f"{name} ended with status 3")
    expect(page.get_by_role("img", name="CPU")).to_be_visible()


@pytest.mark.timeout(2 * START_S + 300)
def test_the_machine_is_stopped_and_started(machine: Machine, visit: Visit, running: str) -> None:
    page = visit("overview")
    expect(page.get_by_role("link", name=running)).to_be_visible()
    page.get_by_role("button", name="Stop machine").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("running containers will stop")
    dialog.get_by_role("button", name="Stop machine").click()
    start = page.get_by_role("button", name="Start machine")
    expect(start).to_be_visible(timeout=MOVE_MS)
    assert _state(machine) == "stopped"
    visit("containers")
    expect(page.get_by_role("heading", name="The machine is stopped")).to_be_visible()
    start.click()
    expect(page.get_by_role("row").filter(has_text=running)).to_be_visible(timeout=MOVE_MS)
    assert _state(machine) == "running"


@pytest.mark.timeout(2 * START_S + 300)
def test_a_suspended_machine_is_not_woken_by_looking(machine: Machine, visit: Visit) -> None:
    page = visit("overview")
    page.get_by_role("button", name="Suspend").click()
    expect(page.get_by_role("heading", name="The machine is suspended")).to_be_visible(timeout=MOVE_MS)
    for other in ("containers", "images", "volumes", "networks"):
        visit(other)
        expect(page.get_by_role("heading", name="The machine is suspended")).to_be_visible()
    assert _state(machine) == "suspended"
    page.get_by_role("button", name="Start machine").click()
    expect(page.get_by_role("table")).to_be_visible(timeout=MOVE_MS)
    comes_true(lambda: _state(machine) == "running", "the machine runs")


def _state(machine: Machine) -> str:
    return str(json.loads(machine.cove("machine", "status", "--json").stdout)["state"])
