"""Builds in the dashboard: as they go, and afterwards."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import PATIENCE_MS, SOURCES, Dashboard
from debian_files import docker_config
from machine_support import Machine
from playwright.sync_api import Browser, Page, expect

BOUND_S = 120
WIDE = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US"}
LOOKS: dict[str, dict[str, object]] = {
    "light": {**WIDE, "color_scheme": "light"},
    "dark": {**WIDE, "color_scheme": "dark"},
    "Japanese": {**WIDE, "locale": "ja-JP"},
    "phone": {**WIDE, "viewport": {"width": 390, "height": 844}},
}


class Docker:
    """docker's client with Debian's buildx, before the dashboard's machine."""

    def __init__(self, machine: Machine, config: Path) -> None:
        self.environment = {
            **machine.environment, "DOCKER_HOST": machine.docker_host, "DOCKER_CONFIG": str(config),
            "DOCKER_CLI_HINTS": "false",
        }  # fmt: skip

    def __call__(self, *words: str | Path, status: int = 0, **more: str) -> str:
        done = subprocess.run(
            ["docker", *map(str, words)],
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=BOUND_S,
        )
        assert done.returncode == status, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def docker(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    return Docker(machine, docker_config(tmp_path_factory.mktemp("docker") / "config"))


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """A folder with a Dockerfile and other files."""

    def make(dockerfile: str, **files: str) -> Path:
        for path, text in {"Dockerfile": dockerfile, **files}.items():
            (tmp_path / path).write_text(text)
        return tmp_path

    return make


Visit = Callable[[str], Page]
Made = Callable[..., Path]


def test_where_the_time_and_the_cache_misses_went(docker: Docker, visit: Visit, made: Made, name: str) -> None:
    dockerfile = "FROM busybox\nRUN echo first; echo to be found\nCOPY f /\nRUN sleep 1; echo slow\nRUN echo last\n"
    docker("build", "-t", name, "--build-arg", "WHO=me", made(dockerfile, f="one"))
    docker("build", "-t", name, made(dockerfile, f="two"))
    page = visit("builds")
    rows = page.get_by_role("row").filter(has=page.get_by_role("link", name=name))
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("completed")
    expect(rows.first).to_contain_text(re.compile(r"2 of \d+ cached"))
    rows.first.get_by_role("link", name=name).click()

    expect(page.locator("h1")).to_have_text(name)
    steps = page.locator(".waterfall li")
    expect(steps.filter(has_text="RUN echo first")).to_contain_text("cached")
    miss = page.locator(".build-miss")
    expect(miss).to_contain_text("COPY f /")
    expect(miss).to_contain_text(re.compile(r"and so had 2 more that come after it: \S+ together"))
    expect(miss).to_contain_text("files that it copies have changed")
    expect(steps.filter(has_text="COPY f /")).to_contain_text("first cache miss")
    page.get_by_role("button", name="Longest first").click()
    expect(page.get_by_role("button", name="Longest first")).to_have_attribute("aria-pressed", "true")
    shares = [float(each.rstrip("%")) for each in page.locator(".step-share").all_inner_texts()]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[0] <= 100

    log = page.locator(".log")
    expect(log).to_contain_text("slow")
    expect(log).to_contain_text("last")
    steps.filter(has_text="RUN sleep 1").get_by_role("button").click()
    expect(page.get_by_role("heading", name=re.compile("Log of .*RUN sleep 1"))).to_be_visible()
    expect(log).not_to_contain_text("last")
    page.get_by_role("button", name="Log of all steps").click()
    page.get_by_role("searchbox").fill("LAST")
    page.keyboard.press("Enter")
    expect(log.locator(".current mark")).to_have_text("last")
    image = docker("image", "inspect", "-f", "{{.Id}}", name).strip().removeprefix("sha256:")
    page.get_by_role("link", name=image[:12]).click()
    expect(page.locator("h1")).to_contain_text(name)
    docker("image", "rm", "-f", name)


def test_a_build_is_seen_as_it_goes(docker: Docker, visit: Visit, made: Made, name: str, tmp_path: Path) -> None:
    """Nothing is loaded again: the page is told."""
    # It waits for a file in a cache mount, which another build makes.
    mount = f"--mount=type=cache,id={name},sharing=shared,target=/c"
    waiting = made(f"FROM busybox\nRUN {mount} echo it waits; until [ -e /c/go ]; do sleep 0.1; done; echo it goes\n")
    other = tmp_path / "other"
    other.mkdir()
    (other / "Dockerfile").write_text(f"FROM busybox\nRUN {mount} touch /c/go\n")
    page = visit("builds")
    process = subprocess.Popen(
        ["docker", "build", "-t", name, waiting], env=docker.environment, stderr=subprocess.DEVNULL
    )
    try:
        row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name))
        expect(row).to_contain_text("running")
        expect(row.get_by_role("button")).to_have_count(0)
        row.get_by_role("link", name=name).click()
        expect(page.locator(".log")).to_contain_text("it waits")
        expect(page.locator(".waterfall li.running")).to_contain_text("it waits")
        docker("build", "-t", f"{name}-other", other)
        expect(page.locator(".log")).to_contain_text("it goes")
        expect(page.locator(".page-title")).to_contain_text("completed")
        assert process.wait(BOUND_S) == 0
    finally:
        process.kill()
        process.wait(BOUND_S)
    assert docker("image", "inspect", "-f", "{{.Id}}", name)
    docker("image", "rm", name, f"{name}-other")


def test_a_failure_is_shown_with_its_lines(docker: Docker, visit: Visit, made: Made, name: str) -> None:
    folder = made("FROM busybox\n# here\nRUN echo why; exit 7\n")
    docker("build", "-t", name, folder, status=1)
    page = visit("builds")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name))
    expect(row).to_contain_text("failed")
    row.get_by_role("link", name=name).click()
    alert = page.get_by_role("alert").filter(has_text="exit code: 7")
    expect(alert.locator(".wrong")).to_have_text("RUN echo why; exit 7")
    expect(page.locator(".waterfall li.wrong")).to_contain_text("RUN echo why")


def test_classic_builds_are_there_and_records_are_removed(docker: Docker, visit: Visit, made: Made, name: str) -> None:
    docker("build", "-t", name, made("FROM busybox\nRUN echo classic\n"), DOCKER_BUILDKIT="0")
    page = visit("builds")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name=name))
    row.get_by_role("button", name=f"Remove: {name}").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)
    assert docker("image", "inspect", "-f", "{{.Id}}", name)  # the image stays

    docker("build", "-t", name, made("FROM busybox\nRUN echo classic\n"))
    row.get_by_role("link", name=name).click()
    expect(page.locator(".notice.good")).to_contain_text("came from the cache")
    page.get_by_role("button", name="Remove", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("heading", name="Builds", level=1)).to_be_visible()
    expect(row).to_have_count(0)
    docker("image", "rm", name)


def test_the_keyboard_is_enough(docker: Docker, visit: Visit, made: Made, name: str) -> None:
    docker("build", "-t", name, made("FROM busybox\nRUN echo keys\n"))
    page = visit("overview")
    page.keyboard.press("g")
    page.keyboard.press("b")
    expect(page.get_by_role("heading", name="Builds", level=1)).to_be_focused()
    expect(page.get_by_role("link", name=name)).to_be_visible()
    page.keyboard.press("/")
    page.keyboard.type(name)
    expect(page.locator("[data-row]")).to_have_count(1)
    page.locator("[data-row]").focus()
    page.keyboard.press("Enter")
    step = page.locator(".waterfall li").filter(has_text="RUN echo keys").get_by_role("button")
    step.focus()
    page.keyboard.press("Enter")
    expect(step).to_have_attribute("aria-pressed", "true")
    docker("image", "rm", name)


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing(
    browser: Browser, dashboard: Dashboard, docker: Docker, made: Made, name: str, look: str
) -> None:
    docker("build", "-t", name, made("FROM busybox\nLABEL a=b\nRUN echo all good\nARG B=c\n"), status=0)
    failing = made("FROM busybox\nRUN echo all good\nRUN echo a longer line than a phone is wide, which fails; false\n")
    docker("build", "-t", f"{name}-failed", "--build-arg", "A=b", failing, status=1)
    axe = (SOURCES / "node_modules/axe-core/axe.min.js").read_text()
    dashboard.choose(toured="yes")
    context = browser.new_context(**LOOKS[look])  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(dashboard.address())
    try:
        for link in ("", name, f"{name}-failed", "none"):
            page.evaluate("place => { location.hash = '#/' + place; }", "builds/none" if link == "none" else "builds")
            if link and link != "none":
                page.get_by_role("link", name=link, exact=True).first.click()
                expect(page.locator(".waterfall li").first).to_be_visible(timeout=PATIENCE_MS)
                page.locator(".waterfall button").first.click()
            expect(page.locator("h1")).to_be_visible(timeout=PATIENCE_MS)
            expect(page.locator(".loading, [aria-busy=true]")).to_have_count(0, timeout=PATIENCE_MS)
            assert page.evaluate(f"{axe}; axe.run()")["violations"] == []
            if look == "phone":
                assert page.evaluate("document.scrollingElement.scrollWidth - innerWidth") <= 0
    finally:
        context.close()
    docker("image", "rm", name)
