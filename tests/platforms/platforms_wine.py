"""A Windows of a test's own: Wine with an empty prefix. It stands in for Windows where nothing better is there; it is not Windows."""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

BOUND_S = 600


class Wine:
    def __init__(self, prefix: Path) -> None:
        self.prefix = prefix
        self.run("wineboot", "--init")
        # Wine 8 says that it is Windows 7 to some.
        self.run("winecfg", "-v", "win10")

    @property
    def home(self) -> Path:
        return self.prefix / "drive_c/users" / getpass.getuser()

    def run(self, *words: str | Path, status: int = 0) -> str:
        """Run a Windows program and all that it leaves running, to the end; return what it says. Both streams are pipes: a file of Linux's
        is no standard stream to Windows' Python under Wine."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("COVE", "PYTHON"))}
        environment |= {"WINEPREFIX": str(self.prefix), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
        done = subprocess.run(
            ["wine", *map(str, words)], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=BOUND_S,
        )  # fmt: skip
        subprocess.run(["wineserver", "--wait"], env=environment, timeout=BOUND_S, check=True)
        assert done.returncode == status, done.stdout
        return done.stdout.replace("\r\n", "\n")

    def files(self) -> set[str]:
        """All files and folders of the user, but the folder for what lasts a moment."""
        found = (path.relative_to(self.home).as_posix() for path in self.home.rglob("*"))
        return {name for name in found if not name.startswith(("Temp/", "AppData/Local/Temp/"))}

    def registry(self) -> dict[str, dict[str, str]]:
        """The user's part: key -> name -> value, as Wine keeps them."""
        found: dict[str, dict[str, str]] = {}
        values: dict[str, str] = {}
        for line in (self.prefix / "user.reg").read_text("utf-8", "replace").splitlines():
            if line.startswith("["):
                key = line[1 : line.rindex("]")].replace("\\\\", "\\")
                values = found.setdefault(key, {})
            elif line.startswith('"') and "=" in line:
                name, _, value = line.partition("=")
                values[name.strip('"').lower()] = value.replace("\\\\", "\\")
        return found

    def set_path(self, path: str) -> None:
        self.run("reg", "add", r"HKCU\Environment", "/v", "Path", "/t", "REG_EXPAND_SZ", "/d", path, "/f")

    def path(self) -> str:
        """The user's PATH."""
        return self.registry().get("Environment", {}).get("path", "")
