"""An X server of its own with a panel that has a tray, and somebody who clicks there."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageColor

BOUND_S = 60.0
WIDTH, HEIGHT = 640, 480
PANEL = (40, 24)
ICON = (3, 22)
KINDS_OF_SESSION = ("DBUS_SESSION_BUS_ADDRESS", "WAYLAND_DISPLAY", "XDG_CURRENT_DESKTOP", "XDG_SESSION_TYPE")


class Screen:
    """`environment` is for programs that are to be on it."""

    def __init__(self, display: str, folder: Path) -> None:
        left_out = {*KINDS_OF_SESSION, "DISPLAY"}
        self.environment = {name: value for name, value in os.environ.items() if name not in left_out}
        # Qt asks the session's bus for another kind of tray: there is none.
        self.environment |= {"DISPLAY": display, "DBUS_SESSION_BUS_ADDRESS": f"unix:path={folder}/no-bus"}
        self._folder = folder

    def picture(self) -> Image.Image:
        path = self._folder / "screen.png"
        self._run("import", "-window", "root", str(path))
        with Image.open(path) as image:
            return image.convert("RGB")

    def icon_has(self, plate: str) -> bool:
        """Whether the plate of the tray's icon has this colour."""
        wanted = ImageColor.getrgb(plate)
        counted = self.picture().crop((0, 0, *PANEL)).getcolors(PANEL[0] * PANEL[1]) or []
        return any(colour == wanted and number > 20 for number, colour in counted)

    def open_menu(self) -> None:
        self._run("xdotool", "mousemove", str(ICON[0]), str(ICON[1]), "click", "3")
        until(self.menu, "the menu opens")

    def menu(self) -> tuple[int, int, int, int] | None:
        """Where it is: left, top, width, height."""
        for window in self._run("xdotool", "search", "--onlyvisible", "--class", "cove", check=False).split():
            told = self._run("xdotool", "getwindowgeometry", window, check=False)
            if found := re.search(r"Position: (-?\d+),(-?\d+).*Geometry: (\d+)x(\d+)", told, re.DOTALL):
                left, top, width, height = map(int, found.groups())
                if height > PANEL[1]:
                    return left, top, width, height
        return None

    def press(self, *keys: str) -> None:
        """In the menu."""
        self._run("xdotool", "key", "--delay", "50", *keys)

    def close_menu(self) -> None:
        self.press("Escape")
        until(lambda: self.menu() is None, "the menu closes")

    def _run(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=BOUND_S, check=False)
        if check and done.returncode:
            pytest.fail(f"{' '.join(words)}: {done.stderr}")
        return done.stdout


def until(holds: Callable[[], Any], what: str) -> Any:
    """What a screen shows nobody tells: look until it is so."""
    deadline = time.monotonic() + BOUND_S
    while not (found := holds()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {BOUND_S:g} s: {what}")
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def screen(*, panel: bool = True) -> Iterator[Screen]:
    """Xvfb, and trayer in its corner."""
    with tempfile.TemporaryDirectory(prefix="cove-x") as folder, contextlib.ExitStack() as ended:
        reading, writing = os.pipe()
        server = ("Xvfb", "-displayfd", str(writing), "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-nolisten", "tcp")
        _begun(ended, server, os.environ, (writing,))
        os.close(writing)
        with os.fdopen(reading) as told:
            number = told.readline().strip()  # and its end, if the server ends
        assert number, "Xvfb did not start"
        made = Screen(f":{number}", Path(folder))
        if not panel:
            yield made
            return
        size = ("--widthtype", "pixel", "--width", str(PANEL[0]), "--heighttype", "pixel", "--height", str(PANEL[1]))
        _begun(ended, ("trayer", "--edge", "top", "--align", "left", *size), made.environment)
        yield made


def _begun(
    ended: contextlib.ExitStack, words: tuple[str, ...], environment: Mapping[str, str], passed: tuple[int, ...] = ()
) -> None:
    process = subprocess.Popen(
        words, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        pass_fds=passed,
    )  # fmt: skip
    ended.callback(process.wait, BOUND_S)
    ended.callback(process.terminate)


def small_picture(shown: Screen, path: Path) -> None:
    """The tray with its menu, and little around it, large enough to be read."""
    found = until(shown.menu, "the menu is there")
    left, top, width, height = found
    image = shown.picture().crop((0, 0, left + width + 8, top + height + 8))
    image = image.resize((image.width * 2, image.height * 2), Image.Resampling.LANCZOS)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
