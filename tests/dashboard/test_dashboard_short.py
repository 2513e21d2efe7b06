"""What each run of `make test` has of the dashboard: a real browser comes in, sees what an engine has, and everybody can use it."""

from __future__ import annotations

import pytest
from browser import SOURCES
from machine_support import Machine
from playwright.sync_api import Page, expect

pytestmark = pytest.mark.short


def test_a_browser_comes_in_and_sees_a_container_that_runs(machine: Machine, page: Page, running: str) -> None:
    axe = (SOURCES / "node_modules/axe-core/axe.min.js").read_text()
    for place in ("overview", "containers"):
        page.evaluate("place => { location.hash = '#/' + place; }", place)
        expect(page.get_by_role("link", name=running)).to_be_visible()
        expect(page.locator(".loading, [aria-busy=true]")).to_have_count(0)
        assert page.evaluate(f"{axe}; axe.run()")["violations"] == []
    page.get_by_role("link", name=running).click()
    expect(page.get_by_role("region", name=f"Log of {running}")).to_contain_text("up")
    machine.docker("rm", "-f", running)
    expect(page.get_by_role("heading", name="This container is gone")).to_be_visible()
