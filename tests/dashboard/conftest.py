"""The dashboard in a real browser, before a real machine. What a page has done, docker's own client is asked."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, FLAGS, PATIENCE_MS, Dashboard
from machine_support import Machine, running_machine
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

UNIT = Path(__file__).parents[1] / "unit"
sys.path += [str(UNIT), str(UNIT / "agent")]  # of stand-ins for a machine
sys.path += [str(UNIT.with_name("engine"))]  # of an engine on this computer

expect.set_options(timeout=PATIENCE_MS)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test's time is its own: the machine that the first one has started has a bound itself."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            marked = item.get_closest_marker("timeout")
            bound = marked.args[0] if marked else float(config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(bound, func_only=True), append=False)


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A VM of these tests; with --native a machine that seems to run, and whose engine is this computer's."""
    from native_machine import native_machine

    with native_machine() if request.config.getoption("--native") else running_machine() as made:
        yield made


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=[*FLAGS])
        yield made
        made.close()


@pytest.fixture(scope="session")
def dashboard(machine: Machine) -> Iterator[Dashboard]:
    yield Dashboard(machine)


@pytest.fixture
def looks() -> dict[str, object]:
    """How the browser is; a test may ask for another."""
    return {"viewport": {"width": 1280, "height": 800}, "locale": "en-US", "accept_downloads": True}


@pytest.fixture
def context(browser: Browser, dashboard: Dashboard, looks: dict[str, object]) -> Iterator[BrowserContext]:
    dashboard.choose(toured="yes")
    made = browser.new_context(**looks)  # type: ignore[arg-type]
    made.set_default_timeout(PATIENCE_MS)
    yield made
    made.close()


@pytest.fixture
def heading() -> str:
    """Of the page that is there first, in its language."""
    return "Overview"


@pytest.fixture
def page(context: BrowserContext, dashboard: Dashboard, heading: str) -> Iterator[Page]:
    """The dashboard, opened. That the page's policy refused something, or a script failed, fails every test."""
    made = context.new_page()
    wrong: list[str] = []

    def said(message: ConsoleMessage) -> None:
        # A refusal by the engine is an answer like another: what the page makes of it, tests look at.
        if message.type == "error" and "Failed to load resource" not in message.text:
            wrong.append(message.text)

    made.on("console", said)
    made.on("pageerror", lambda error: wrong.append(str(error)))
    made.goto(dashboard.address())
    expect(made.locator("h1")).to_have_text([heading])
    yield made
    assert not wrong


@pytest.fixture
def visit(page: Page) -> Callable[[str], Page]:
    """Goes to a page of the dashboard by its path."""

    def go(path: str) -> Page:
        page.evaluate("path => { location.hash = '#/' + path; }", path)
        return page

    return go


@pytest.fixture
def name(machine: Machine) -> Iterator[str]:
    """Of this test alone; the container, volume, network and image with it go afterwards."""
    made = f"t{uuid.uuid4().hex[:10]}"
    yield made
    ids = machine.docker("ps", "-aq", "--filter", f"name={made}").stdout.split()
    if ids:
        machine.docker("rm", "-f", *ids)
    for kind in ("volume", "network", "image"):
        machine.docker(kind, "rm", made, check=False)


@pytest.fixture
def running(machine: Machine, name: str) -> str:
    """A container that says when it is up, and then nothing."""
    machine.docker(
        "run", "-d", "--stop-timeout", "1", "--name", name, "busybox", "sh", "-c", "echo up; exec sleep 100000"
    )
    return name


@pytest.fixture
def inspect(machine: Machine) -> Callable[[str], dict[str, object]]:
    """A container as docker's client sees it."""

    def look(container: str) -> dict[str, object]:
        found = json.loads(machine.docker("inspect", container).stdout)[0]
        assert isinstance(found, dict)
        return found

    return look
