"""What the dashboard's page follows: as long as somebody can see it, and in which words it tells of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from browser import comes_true
from machine_support import Machine
from playwright.sync_api import Page, WebSocket, expect

Visit = Callable[[str], Page]
ENGLISH = r"""() => {
    const found = [];
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const { data, parentElement: parent } = texts.currentNode;
        if (!/[A-Za-z]+( [a-z']+){3}/.test(data) || parent.closest('code, pre, .mono, noscript')) continue;
        if (parent.closest('[lang]').lang !== 'en') found.push(data);
    }
    return found;
}"""
PAGES = ("overview", "containers", "images", "cache", "volumes", "networks", "settings", "diagnose", "tour")
HIDDEN = """hidden => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event('visibilitychange'));
}"""


def _listeners(machine: Machine) -> int:
    return int(machine.docker("info", "-f", "{{.NEventsListener}}").stdout)


def test_a_page_that_nobody_sees_is_no_client_of_dockers(machine: Machine, page: Page, visit: Visit, name: str) -> None:
    script = "mkfifo /pipe; sleep 100000 >/pipe & echo first; exec cat /pipe"
    machine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    opened: list[WebSocket] = []
    page.on("websocket", lambda socket: opened.append(socket))
    page.clock.install()
    visit("containers")
    page.get_by_role("link", name=name).click()
    log = page.get_by_role("region", name=f"Log of {name}")
    expect(log).to_contain_text("first")
    comes_true(lambda: _listeners(machine) == 1, "the page follows events")
    (stream,) = (each for each in opened if "/logs?" in each.url)

    page.evaluate(HIDDEN, True)
    page.clock.fast_forward("00:30")
    page.evaluate(HIDDEN, False)
    page.clock.fast_forward("05:00")
    assert not stream.is_closed(), "a short look elsewhere is no matter"

    page.evaluate(HIDDEN, True)
    page.clock.fast_forward("05:00")
    comes_true(lambda: _listeners(machine) == 0, "nobody follows events")
    comes_true(lambda: page.evaluate("1") and stream.is_closed(), "nobody follows the log")
    assert not any("/docker/" in each.url for each in opened if not each.is_closed())
    machine.docker("exec", name, "sh", "-c", "echo second >/pipe")
    machine.docker("run", "-d", "--name", f"{name}-other", "busybox", "sleep", "100000")

    page.evaluate(HIDDEN, False)
    page.clock.run_for(5000)
    expect(log.locator(".log-line")).to_have_text(["first", "second"])
    machine.docker("exec", name, "sh", "-c", "echo third >/pipe")
    expect(log.locator(".log-line")).to_have_text(["first", "second", "third"])
    comes_true(lambda: _listeners(machine) == 1, "the page follows events again")
    visit("containers")
    expect(page.get_by_role("link", name=f"{name}-other")).to_be_visible()
    expect(page.locator(".toast")).to_have_count(0)


def test_what_containers_carry_is_drawn_on_the_overview(
    machine: Machine, visit: Visit, running: str, name: str
) -> None:
    address = machine.docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", running).stdout.strip()
    page = visit("overview")
    chart = page.get_by_role("img", name="Network of the containers")
    expect(chart).to_have_attribute("aria-label", re.compile("in 0 B/s, out 0 B/s$"))
    machine.docker("exec", "-d", running, "sh", "-c", "head -c 1000000 /dev/zero >/tmp/f; exec httpd -f -h /tmp")
    fetch = f"while :; do wget -q -O /dev/null http://{address}/f; done"
    machine.docker("run", "-d", "--name", f"{name}-b", "busybox", "sh", "-c", fetch)
    expect(chart).to_have_attribute("aria-label", re.compile(r"in [\d.]+ [kKMG]B/s, out [\d.]+ [kKMG]B/s$"))


def test_the_focus_stays_near_when_its_button_goes(machine: Machine, visit: Visit, running: str, name: str) -> None:
    machine.docker("network", "create", name)
    machine.docker("network", "connect", name, running)
    page = visit("containers")
    row: Any = page.get_by_role("row").filter(has_text=running)
    row.get_by_role("button", name=f"Pause: {running}").press("Enter")
    expect(row.get_by_role("button", name=f"Resume: {running}")).to_be_focused()
    machine.docker("unpause", running)
    visit("networks")
    page.get_by_role("table").get_by_role("link", name=name, exact=True).click()
    page.get_by_role("button", name="Disconnect").press("Enter")
    expect(page.get_by_role("button", name="Disconnect")).to_have_count(0)
    expect(page.get_by_role("heading", name=name, level=1)).to_be_focused()
    machine.docker("network", "rm", name)


class TestInJapanese:
    @pytest.fixture
    def looks(self) -> dict[str, object]:
        return {"viewport": {"width": 1280, "height": 800}, "locale": "ja-JP"}

    @pytest.fixture
    def heading(self) -> str:
        return "概要"

    def test_words_of_the_server_are_said_to_be_english(self, page: Page, visit: Visit, running: str) -> None:
        """A screen reader would read them in Japanese sounds."""
        for place in PAGES:
            visit(place)
            expect(page.locator("h1")).to_be_visible()
            expect(page.locator(".loading, [aria-busy=true]")).to_have_count(0)
            assert page.evaluate(ENGLISH) == [], place
