"""Screenshots of each page for the documentation: `make screenshots`."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browser import CHROMIUM, FLAGS, PATIENCE_MS, Dashboard
from cove.tray.icons import COLOURS
from cove.tray.menu import RUNNING
from machine_support import Machine, running_machine
from playwright.sync_api import Browser, Page, expect, sync_playwright
from xtray import screen, small_picture, until

WEB = r"""
i=0
while :; do
    i=$((i+1))
    printf "10.0.0.%d - \033[32mGET\033[0m /articles/%d 200 %dms\n" $((i%9)) $i $((i*7%40))
    [ $((i%17)) = 0 ] && echo "slow query: 812 ms" >&2
    usleep 300000
done
"""
DB = "mkdir -p /data/base; head -c 300000 /dev/zero >/data/wal; echo 'ready for connections'; exec sleep 100000"
WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}
LINES_S = 15_000
MENU_WITH_CONTAINERS = 220
"""Pixels of height; without them it has less."""
KERNEL = "6.12.0"
HOME = "/home/ada/.local/share/cove"
RENAMED = """([from, to]) => {
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) texts.currentNode.data = texts.currentNode.data.replaceAll(from, to);
}"""


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with running_machine() as machine, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=[*FLAGS])
        take(machine, browser, folder)
        browser.close()
        take_tray(machine, folder)


def take_tray(machine: Machine, folder: Path) -> None:
    """Its menu, with the containers of the example."""
    with screen() as shown:
        machine.environment |= {name: shown.environment[name] for name in ("DISPLAY", "DBUS_SESSION_BUS_ADDRESS")}
        machine.cove("tray", "--wait", "60")
        until(lambda: shown.icon_has(COLOURS[RUNNING]), "the icon tells that the machine is running")
        shown.open_menu()
        until(lambda: (menu := shown.menu()) and menu[3] > MENU_WITH_CONTAINERS, "the containers are shown")
        small_picture(shown, folder / "tray.png")
        shown.close_menu()
        machine.cove("tray", "--quit")


def take(machine: Machine, browser: Browser, folder: Path) -> None:
    example(machine)
    web = machine.docker("inspect", "-f", "{{.Id}}", "shop-web-1").stdout[:12]
    image = machine.docker("image", "inspect", "-f", "{{.Id}}", "cove/starter").stdout.strip().removeprefix("sha256:")
    with opened(machine, browser, folder) as page:
        page.page.wait_for_timeout(LINES_S)  # charts are of what has been
        page.shot("overview", "overview")
        page.shot("containers", "containers")
        page.shot("logs", f"containers/{web}/logs")
        page.page.evaluate(f"location.hash = '#/containers/{web}/terminal'")
        expect(page.page.locator(".xterm-rows")).to_contain_text("#")
        page.page.keyboard.type("uname -sm; df -h /; ls -l /\n")
        expect(page.page.locator(".xterm-rows")).to_contain_text("usr")
        page.shot("terminal", f"containers/{web}/terminal")
        page.shot("inspect", f"containers/{web}/inspect")
        page.page.evaluate(f"location.hash = '#/containers/{web}/stats'")
        page.page.wait_for_timeout(LINES_S)
        page.shot("stats", f"containers/{web}/stats")
        page.shot("files", f"containers/{web}/files")
        page.shot("images", "images")
        page.shot("image", f"images/{image[:12]}")
        page.shot("volumes", "volumes")
        page.shot("volume", "volumes/shop_db")
        page.shot("networks", "networks")
        page.shot("settings", "settings")
        page.shot("diagnose", "diagnose")
        page.shot("tour", "tour")
    with opened(machine, browser, folder, color_scheme="dark") as page:
        page.shot("containers-dark", "containers")
        page.shot("logs-dark", f"containers/{web}/logs")
    with opened(machine, browser, folder, locale="ja-JP") as page:
        page.page.wait_for_timeout(LINES_S)
        page.shot("overview-ja", "overview")
        page.shot("containers-ja", "containers")
    with opened(machine, browser, folder, viewport=NARROW) as page:
        page.shot("containers-phone", "containers")
        page.shot("logs-phone", f"containers/{web}/logs")


def example(machine: Machine) -> None:
    """What there is to be seen."""

    def service(name: str, *words: str) -> None:
        labels = ("--label", "com.docker.compose.project=shop", "--label", f"com.docker.compose.service={name}")
        machine.docker("run", "-d", "--name", f"shop-{name}-1", *labels, *words)

    machine.docker("network", "create", "shop_default")
    machine.docker("network", "create", "--internal", "shop_back")
    machine.docker("volume", "create", "build-cache")
    service("web", "--network", "shop_default", "-p", "18080:80", "cove/starter", "sh", "-c", WEB)
    machine.docker("network", "connect", "shop_back", "shop-web-1")
    service("db", "--network", "shop_back", "-v", "shop_db:/data", "busybox", "sh", "-c", DB)
    service("worker", "--network", "shop_back", "busybox", "sh", "-c", "echo 'no such queue' >&2; exit 3")
    machine.docker("run", "-d", "--name", "notes", "-p", "18081:8080", "busybox", "sleep", "100000")
    machine.docker("pause", "notes")
    machine.docker("run", "--name", "once", "busybox", "true")


class Shots:
    def __init__(self, page: Page, folder: Path, machine: Machine) -> None:
        self.page = page
        self._folder = folder
        self._machine = machine

    def shot(self, name: str, place: str) -> None:
        self.page.evaluate("place => { location.hash = '#/' + place; }", place)
        expect(self.page.locator("h1")).to_be_visible(timeout=PATIENCE_MS)
        expect(self.page.locator(".loading, [aria-busy=true]")).to_have_count(0, timeout=PATIENCE_MS)
        if "logs" in place:
            expect(self.page.locator(".log-line").nth(30)).to_be_visible(timeout=PATIENCE_MS)
        # Not the folders of whoever takes them, nor of a test's machine, nor the name of their computer's kernel.
        folders = {f"{self._machine.home}/user": "/home/ada", str(self._machine.home): HOME}
        for shown, instead in {**folders, platform.release(): KERNEL}.items():
            self.page.evaluate(RENAMED, [shown, instead])
        path = self._folder / f"{name}.png"
        self.page.screenshot(path=path)
        small(path)


def small(path: Path) -> None:
    """Few colours make small files, and these pages have few."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(path, optimize=True)


@contextmanager
def opened(machine: Machine, browser: Browser, folder: Path, **looks: object) -> Iterator[Shots]:
    context = browser.new_context(**{"viewport": WIDE, "locale": "en-US", **looks})  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    dashboard = Dashboard(machine)
    dashboard.choose(toured="yes")
    page = context.new_page()
    page.goto(dashboard.address())
    expect(page.locator("[data-machine=running]")).to_be_visible(timeout=PATIENCE_MS)
    yield Shots(page, folder, machine)
    context.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
