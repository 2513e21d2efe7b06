"""A Windows of a test's own: Wine with an empty prefix. It stands in for Windows where nothing better is there; it is not Windows."""

from __future__ import annotations

import contextlib
import getpass
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

BOUND_S = 600
LAST_WORDS_S = 2.0
PRIMITIVES = """
#include <windows.h>
#include <ntsecapi.h>
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE data, SIZE_T length) { return RtlGenRandom(data, (ULONG)length); }
"""
"""What Windows has since its version 8 in bcryptprimitives.dll, and Wine 8 has not: where `cryptography` takes its random numbers from."""


class Wine:
    """`more`: of the environment that its programs have."""

    def __init__(self, prefix: Path, more: Mapping[str, str] | None = None) -> None:
        self.prefix = prefix
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("COVE", "PYTHON"))
        }
        self._environment |= {"WINEPREFIX": str(prefix), "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}
        self._environment |= more or {}
        self.run("wineboot", "--init")
        # Wine 8 says that it is Windows 7 to some.
        self.run("winecfg", "-v", "win10")

    def lay_primitives(self) -> None:
        """For programs that want `PRIMITIVES`."""
        folder = self.prefix / "drive_c/windows/system32"
        source = folder / "bcryptprimitives.c"
        source.write_text(PRIMITIVES)
        made = ["x86_64-w64-mingw32-gcc", "-shared", "-O1", "-o", folder / "bcryptprimitives.dll", source]
        subprocess.run(made, timeout=BOUND_S, check=True)

    def have_windows(self) -> None:
        """For programs that have some, on no screen."""
        self.run("reg", "add", r"HKCU\Software\Wine\Drivers", "/v", "Graphics", "/d", "null", "/f")

    @property
    def home(self) -> Path:
        return self.prefix / "drive_c/users" / getpass.getuser()

    def run(
        self, *words: str | Path, status: int = 0, cwd: Path | None = None, bound_s: float = BOUND_S, **more: str
    ) -> str:
        """Run a Windows program and all that it leaves running, to the end; return what it says. Both streams are pipes: a file of Linux's
        is no standard stream to Windows' Python under Wine. `more`: of its environment."""
        done = subprocess.run(
            ["wine", *map(str, words)], env=self.environment(**more), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=bound_s, cwd=cwd,
        )  # fmt: skip
        self.wait()
        assert done.returncode == status, done.stdout
        return done.stdout.replace("\r\n", "\n")

    def call(self, *words: str | Path, status: int = 0, given: str = "", bound_s: float = BOUND_S) -> str:
        """Run a Windows program, whatever it leaves running; return its output. Under Wine each process has, to Linux, the standard error
        of the one that started it, so the end of that is not waited for."""
        ours, its = os.pipe()
        errors: list[bytes] = []

        def hear() -> None:
            while data := os.read(ours, 1 << 16):
                errors.append(data)
            os.close(ours)

        hearing = threading.Thread(target=hear, daemon=True)
        hearing.start()
        try:
            done = subprocess.run(
                ["wine", *map(str, words)], env=self._environment, input=given, stdout=subprocess.PIPE, stderr=its, text=True,
                timeout=bound_s,
            )  # fmt: skip
        finally:
            os.close(its)
        if done.returncode != status:
            hearing.join(LAST_WORDS_S)
            raise AssertionError(
                f"status {done.returncode}: {done.stdout}{b''.join(errors).decode('utf-8', 'replace')}"
            )
        return done.stdout.replace("\r\n", "\n")

    @contextlib.contextmanager
    def running(self, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
        """A program with pipes, which ends with its input at the end of the block."""
        with subprocess.Popen(
            ["wine", *map(str, words)], env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                assert process.stdin is not None
                process.stdin.close()
                process.wait(BOUND_S)

    def wait(self) -> None:
        """Until none of its programs runs any more."""
        subprocess.run(["wineserver", "--wait"], env=self._environment, timeout=BOUND_S, check=True)

    def end(self) -> None:
        """All that runs in it, at once."""
        subprocess.run(["wineserver", "--kill"], env=self._environment, timeout=BOUND_S, check=False)

    def environment(self, **more: str) -> dict[str, str]:
        return self._environment | more

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
