"""How the dashboard is made: access for all (axe), size and speed, long lists and logs, languages, what it is built of."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from browser import ASSETS, PATIENCE_MS, SOURCES, Dashboard, comes_true
from cove.dashboard import launch
from machine_support import Machine
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

Visit = Callable[[str], Page]
PAGES = ("overview", "containers", "images", "builds", "cache", "volumes", "networks", "settings", "diagnose", "tour")
TABS = ("logs", "terminal", "inspect", "stats", "files")
MOST_BYTES = 250_000
"""Compressed, until the first page is whole."""
LOG_LINES = 100_000
CONTAINERS = 300
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"}
LOOKS: dict[str, dict[str, Any]] = {
    "light": {**WIDE, "color_scheme": "light"},
    "dark": {**WIDE, "color_scheme": "dark"},
    "Japanese": {**WIDE, "locale": "ja-JP"},
    "phone": {**WIDE, "viewport": {"width": 390, "height": 844}},
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_any_page(
    browser: Browser, dashboard: Dashboard, machine: Machine, running: str, name: str, look: str
) -> None:
    identity = machine.docker("inspect", "-f", "{{.Id}}", running).stdout[:12]
    image = machine.docker("image", "inspect", "-f", "{{.Id}}", "busybox").stdout.strip().removeprefix("sha256:")[:12]
    machine.docker("volume", "create", name)
    places = [
        *PAGES, *(f"containers/{identity}/{tab}" for tab in TABS), f"images/{image}", f"volumes/{name}", "networks/bridge",
        "containers/none",
    ]  # fmt: skip
    axe = (SOURCES / "node_modules/axe-core/axe.min.js").read_text()
    found = {}
    context = browser.new_context(**LOOKS[look])
    dashboard.choose(toured="yes")
    page = context.new_page()
    page.goto(dashboard.address())
    for place in places:
        page.evaluate("place => { location.hash = '#/' + place; }", place)
        expect(page.locator("h1")).to_be_visible(timeout=PATIENCE_MS)
        expect(page.locator(".loading, [aria-busy=true]")).to_have_count(0, timeout=PATIENCE_MS)
        told = page.evaluate(f"{axe}; axe.run()")
        if told["violations"]:
            found[place] = [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in told["violations"]]
        high = page.evaluate("document.scrollingElement.scrollHeight - innerHeight")
        assert high <= 0, f"{place} can be scrolled away as a whole"
        if look == "phone":
            wide = page.evaluate("document.scrollingElement.scrollWidth - innerWidth")
            assert wide <= 0, f"{place} is wider than a phone"
    context.close()
    assert not found


def test_dialogs_have_no_findings_either(page: Page) -> None:
    axe = (SOURCES / "node_modules/axe-core/axe.min.js").read_text()
    page.evaluate("location.hash = '#/containers'")
    page.get_by_role("button", name=re.compile("Run (a container|the first one)")).first.click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate(f"{axe}; axe.run()")["violations"] == []


def test_little_is_sent_before_the_first_page_is_whole(
    context: BrowserContext, dashboard: Dashboard, machine: Machine
) -> None:
    page = context.new_page()
    sent: dict[str, int] = {}
    page.on("requestfinished", lambda request: sent.update({request.url: request.sizes()["responseBodySize"]}))
    page.goto(dashboard.address())
    expect(page.get_by_role("heading", name="Disk space")).to_be_visible()
    expect(page.locator(".loading")).to_have_count(0)
    assert sum(sent.values()) < MOST_BYTES, sent
    painted = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    print(f"\n{sum(sent.values())} bytes in {len(sent)} files; first paint with content after {painted:.0f} ms")


def test_hundreds_of_containers_are_no_burden(page: Page) -> None:
    made = [_container(number) for number in range(CONTAINERS)]
    page.route("**/docker/containers/json?all=1", lambda route: _fulfill(route, made))
    page.reload()
    page.evaluate("location.hash = '#/containers'")
    expect(page.get_by_role("row")).to_have_count(CONTAINERS + 1)
    # The floor: what this browser takes at this moment for the same table without a page behind it.
    told = page.evaluate(
        """async () => {
            const input = document.querySelector('[data-search]');
            const table = document.querySelector('table');
            const picture = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
            const spent = async work => {
                const begin = performance.now();
                work();
                document.body.offsetHeight;
                await picture();
                return performance.now() - begin;
            };
            const all = table.querySelectorAll('*').length;
            let touched = 0;
            const watch = new MutationObserver(seen => seen.forEach(({ addedNodes }) => (touched += addedNodes.length)));
            const spans = [], floors = [], shown = {};
            for (let round = 0; round < 5; round += 1) {
                for (const words of ['c', 'c-1', 'c-12', 'c-1', '']) {
                    spans.push(await spent(() => {
                        input.value = words;
                        input.dispatchEvent(new Event('input', { bubbles: true }));
                    }));
                    shown[words] = document.querySelectorAll('[data-row]').length;
                }
                const other = document.createElement('div');
                document.body.append(other);
                floors.push(await spent(() => (other.innerHTML = table.outerHTML)));
                other.remove();
            }
            for (let wait = 0; wait < 1000 && document.querySelectorAll('[data-row]').length < 300; wait += 1) await picture();
            await picture();
            watch.observe(document.body, { childList: true, subtree: true });
            input.value = 'c-';
            input.dispatchEvent(new Event('input', { bubbles: true }));
            await picture();
            watch.disconnect();
            return { all, spans, floors, shown, touched };
        }"""
    )
    spans, floors = sorted(told["spans"]), sorted(told["floors"])
    print(f"\nms from a key to its picture, with {CONTAINERS} containers: {_whole(spans)}; floor {_whole(floors)}")
    assert told["shown"]["c-12"] == 11
    assert told["all"] < CONTAINERS * 60, "elements of a row"
    assert told["touched"] < 20, "what still matches is not drawn again"
    assert spans[len(spans) // 2] < 5 * floors[len(floors) // 2]
    page.get_by_role("searchbox").fill("")
    expect(page.get_by_role("row")).to_have_count(CONTAINERS + 1)


@pytest.mark.timeout(600)
def test_a_log_of_ten_megabytes_is_shown_by_a_few_lines(machine: Machine, visit: Visit, name: str) -> None:
    text = "x" * 90
    script = f"i=0; while [ $i -lt {LOG_LINES} ]; do echo $i {text}; i=$((i+1)); done"
    machine.docker("run", "-d", "--name", name, "busybox", "sh", "-c", script)
    machine.docker("wait", name, timeout_s=300)
    identity = machine.docker("inspect", "-f", "{{.Id}}", name).stdout[:12]
    page = visit(f"containers/{identity}/logs")
    log = page.get_by_role("region", name=f"Log of {name}")
    expect(page.get_by_text("100,000 lines")).to_be_visible(timeout=4 * PATIENCE_MS)
    expect(log).to_contain_text(f"{LOG_LINES - 1} {text}")
    assert page.locator(".log-line").count() < 200
    page.get_by_role("searchbox").fill(f"{LOG_LINES // 2} x")
    page.keyboard.press("Enter")
    expect(log.locator(".current")).to_contain_text(str(LOG_LINES // 2))
    # The floor: two pictures of this browser in which nothing is done.
    told = log.evaluate(
        """async box => {
            const picture = async work => {
                const begin = performance.now();
                work();
                await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
                return performance.now() - begin;
            };
            const spans = [], floors = [];
            let most = 0, lines = new Set();
            for (let step = 0; step < 40; step += 1) {
                floors.push(await picture(() => {}));
                spans.push(await picture(() => (box.scrollTop = (box.scrollHeight / 40) * step)));
                most = Math.max(most, box.querySelectorAll('*').length);
                lines.add(box.querySelector('.log-line').textContent);
            }
            return { spans, floors, most, different: lines.size };
        }"""
    )
    spans, floors = sorted(told["spans"]), sorted(told["floors"])
    print(f"\nms of a picture while scrolling: {_whole(spans)}; of none {_whole(floors)}")
    assert told["different"] > 30, "it was scrolled"
    assert told["most"] < 1000, "elements in the page, of ten megabytes"
    assert spans[len(spans) // 2] < 20 * floors[len(floors) // 2]


def test_language_and_colours_are_kept_for_the_next_dashboard(
    page: Page, dashboard: Dashboard, machine: Machine, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    page.get_by_role("button", name="日本語").click()
    expect(page.get_by_role("heading", name="概要")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "ja")
    page.get_by_role("button", name="配色").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.get_by_role("button", name="配色").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    comes_true(lambda: dashboard.chosen() == {"toured": "yes", "language": "ja", "theme": "dark"}, "choices are kept")
    page.reload()
    expect(page.get_by_role("heading", name="概要")).to_be_visible()

    port = urlsplit(page.url).port
    page.close()
    monkeypatch.setenv("COVE_HOME", str(machine.home))
    launch.end("default")
    context = browser.new_context(**{**WIDE, "color_scheme": "light"})
    # Its first picture is of the right colours, whatever has not come yet.
    context.route("**/*.js", lambda route: route.abort())
    other = context.new_page()
    other.goto(dashboard.address())
    assert urlsplit(other.url).port != port
    expect(other.locator("html")).to_have_attribute("lang", "ja")
    assert other.evaluate("getComputedStyle(document.documentElement).colorScheme") == "dark"
    assert other.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    context.unroute("**/*.js")
    other.reload()
    expect(other.get_by_role("heading", name="概要")).to_be_visible()
    context.close()


def test_the_first_run_opens_with_the_first_steps_and_no_other(browser: Browser, dashboard: Dashboard) -> None:
    dashboard.choose()
    for heading in ("First steps", "Overview"):
        context = browser.new_context(locale="en-US")
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.route("**/docker/containers/json?all=1", lambda route: _fulfill(route, []))
        page.goto(dashboard.address())
        if heading == "Overview":
            expect(page.get_by_text("No container is running.")).to_be_visible()
        expect(page.get_by_role("heading", name=heading, level=1)).to_be_visible()
        comes_true(lambda: dashboard.chosen() == {"toured": "yes"}, "that they were seen is kept")
        context.close()


def test_a_part_whose_script_does_not_come_leaves_the_rest(page: Page) -> None:
    page.route("**/assets/diagnose-*.js", lambda route: route.abort())
    page.evaluate("location.hash = '#/diagnose'")
    expect(page.get_by_role("alert").filter(has_text="cannot be shown")).to_be_visible()
    expect(page.get_by_role("button", name="Load again")).to_be_visible()
    page.evaluate("location.hash = '#/images'")
    expect(page.get_by_role("heading", name="Images", level=1)).to_be_visible()


def test_letters_can_be_no_keys(page: Page) -> None:
    page.keyboard.press("?")
    page.get_by_label("Single letters are keys").uncheck()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.keyboard.press("g")
    page.keyboard.press("i")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("heading", name="Overview", level=1)).to_be_visible()


def test_an_engine_that_refuses_is_told_with_what_to_do(page: Page) -> None:
    page.route("**/docker/images/json*", lambda route: route.fulfill(status=500, json={"message": "the disk is full"}))
    page.evaluate("location.hash = '#/images'")
    expect(page.get_by_role("alert").filter(has_text="the disk is full")).to_be_visible()
    page.unroute("**/docker/images/json*")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("table")).to_be_visible()


@pytest.mark.short
def test_what_is_committed_is_what_the_sources_build(tmp_path: Path) -> None:
    built = tmp_path / "assets"
    node = os.environ | {"PATH": f"{Path(shutil.which('npx') or '').parent}:{os.environ['PATH']}"}
    words = ["npx", "vite", "build", "--outDir", str(built), "--logLevel", "error"]
    subprocess.run(words, cwd=SOURCES, env=node, check=True, timeout=240)
    names = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    kept = {path.relative_to(ASSETS).as_posix() for path in ASSETS.rglob("*") if path.is_file()}
    assert names == {name for name in kept if not name.endswith((".br", ".gz"))}, "make dashboard-assets"
    for name in sorted(names):
        assert (built / name).read_bytes() == (ASSETS / name).read_bytes(), f"{name}: make dashboard-assets"
    for name in sorted(kept):
        if name.endswith(".gz"):
            assert gzip.decompress((ASSETS / name).read_bytes()) == (ASSETS / name[:-3]).read_bytes()
            assert name[:-3] + ".br" in kept


def _whole(numbers: list[float]) -> list[int]:
    return [round(number) for number in numbers]


def _fulfill(route: Route, value: object) -> None:
    route.fulfill(content_type="application/json", body=json.dumps(value))


def _container(number: int) -> dict[str, object]:
    return {
        "Id": f"{number:064x}", "Names": [f"/c-{number}"], "Image": "busybox", "ImageID": "sha256:0", "Command": "sleep 1",
        "Created": 1_700_000_000 + number, "State": "running", "Status": "Up 2 minutes", "Labels": {}, "Mounts": [],
        "Ports": [{"IP": "127.0.0.1", "PrivatePort": 80, "PublicPort": 20_000 + number, "Type": "tcp"}],
        "NetworkSettings": {"Networks": {}},
    }  # fmt: skip
