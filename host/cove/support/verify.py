"""`cove verify`: does on this computer what Cove promises, as a user would, and tells what came of it (docs/verify-on-your-laptop.md).

Everything happens in a home of its own, with a machine of its own, so that nothing of the user's is touched and at the end nothing may be
left. The programs are run as they are, from outside: what is looked at is what people get.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

from cove.agent.hypervisor import HYPERV
from cove.errors import CoveError
from cove.image import mirror
from cove.local import sockets

PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"
MACHINE = "verify"
IMAGE = "cove/starter"
"""Is in every machine: no registry is needed."""
STEP_S, FIRST_START_S, SLEEP_S = 120, 900, 3600
CLOCK_S = 5
"""Seconds that the machine's clock may be off; starting a container is among them."""
HELPERS = {"darwin": "osxkeychain", "win32": "wincred"}
COMPOSE_FILE = """\
services:
  page:
    image: cove/starter
    ports: ["127.0.0.1:{port}:80"]
"""


class Skip(Exception):
    """Why a step cannot be done here."""


class Failed(Exception):
    """What is not as it should be."""


@dataclass(frozen=True, slots=True)
class Result:
    name: str
    state: str
    seconds: float
    text: str


Ask = Callable[[str], bool]
"""Asks the person at the computer to do something; whether it was done."""


class Verification:
    """`home` is a folder that does not exist yet, below the user's home; `ask` is None when nobody is there."""

    def __init__(
        self, home: Path, ask: Ask | None = None, program: Sequence[str] = (sys.executable, "-m", "cove")
    ) -> None:
        self.home = home
        self._ask = ask
        self._program = list(program)
        self._environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("COVE_", "DOCKER_"))
        }
        with contextlib.suppress(CoveError):  # the first start tells of it
            mirrors = mirror.find()  # of the user's own Cove, which its own home hides
            self._environment["COVE_DEBIAN_MIRROR"] = mirrors.debian
            self._environment["COVE_DEBIAN_SECURITY_MIRROR"] = mirrors.debian_security
        self._environment["COVE_HOME"] = str(home)

    def run(self) -> Iterator[Result]:
        """Each step's result as it comes. The first that later ones stand on ends it when it fails; what was made goes in any case."""
        try:
            for name, step, needed in self._steps():
                result = _result(name, step)
                yield result
                if needed and result.state == FAILED:
                    break
        finally:
            yield _result("removal", self._removal)

    def _steps(self) -> Iterator[tuple[str, Callable[[], str], bool]]:
        yield "computer", self._computer, False
        yield "diagnose", self._diagnose, False
        yield "first start", self._first_start, True
        yield "accelerator", self._accelerator, False
        yield "container", self._container, True
        yield "port", self._port, False
        yield "folder", self._folder, False
        yield "docker", self._docker, False
        yield "compose", self._compose, False
        yield "socket", self._socket, False
        yield "suspend", self._suspend, False
        yield "restart", self._restart, False
        yield "sleep", self._sleep, False
        yield "credentials", self._credentials, False

    def _computer(self) -> str:
        return (
            f"{platform.platform()}, {platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}, "
            f"{self._cove('--version').strip()}"
        )

    def _diagnose(self) -> str:
        found = json.loads(self._call([*self._program, "diagnose", "--json"], STEP_S, failing=True))["findings"]
        return "\n".join(f"{each['state']} {each['check']}: {each['text']}" for each in found)

    def _first_start(self) -> str:
        self._cove("machine", "init", MACHINE)
        self._cove("machine", "start", MACHINE, bound_s=FIRST_START_S)
        return "the VM image is made and the machine runs"

    def _accelerator(self) -> str:
        status = self._status()
        used = str(status.get("accelerator"))
        if used == "tcg":
            raise Failed(f"software emulation: {status.get('accelerator_reason')}")
        return f"{used}: {status.get('accelerator_reason')}"

    def _container(self) -> str:
        said, seconds = self._timed("run", "--rm", IMAGE, "echo", "from a container")
        _expect(said.strip(), "from a container")
        _, again = self._timed("run", "--rm", IMAGE, "true")
        return f"the first run took {seconds:.1f} s, the second {again:.1f} s"

    def _port(self) -> str:
        port = _free_port()
        self._cove("run", "-d", "--name", "page", "-p", f"127.0.0.1:{port}:80", IMAGE)
        with self._afterwards([*self._program, "-m", MACHINE, "rm", "-f", "page"]):
            return f"http://localhost answers: {_fetch(port)}"

    def _folder(self) -> str:
        with tempfile.TemporaryDirectory(prefix="cove-verify-", dir=Path.home()) as name:
            folder = Path(name)
            (folder / "here.txt").write_text("from the laptop\n", "utf-8")
            said = self._cove(
                "run",
                "--rm",
                "-v",
                f"{folder}:/it",
                IMAGE,
                "sh",
                "-c",
                "cat /it/here.txt && echo from inside >/it/there.txt",
            )
            _expect(said.strip(), "from the laptop")
            _expect((folder / "there.txt").read_text("utf-8").strip(), "from inside")
        return "a folder of your home is read and written from a container"

    def _docker(self) -> str:
        said = self._call([*self._docker_words(), "run", "--rm", IMAGE, "echo", "by docker"])
        _expect(said.strip(), "by docker")
        return self._call(["docker", "--version"]).strip()

    def _compose(self) -> str:
        docker = self._docker_words()
        try:
            version = self._call([*docker, "compose", "version"]).strip()
        except Failed:
            raise Skip("docker has no compose") from None
        port = _free_port()
        file = self.home / "compose.yaml"
        file.write_text(COMPOSE_FILE.format(port=port), "utf-8")
        compose = [*docker, "compose", "-p", "verify", "-f", str(file)]
        with self._afterwards([*compose, "down"]):
            self._call([*compose, "up", "-d"])
            return f"{version}: {_fetch(port)}"

    def _socket(self) -> str:
        path = Path(str(self._status()["docker_socket"]))
        if sys.platform == "win32":
            return sockets.url(path)
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise Failed(f"others may open {path} (mode {mode:o})")
        return f"{path}, mode {mode:o}"

    def _suspend(self) -> str:
        if sys.platform != "linux" and self._status().get("accelerator") != HYPERV:
            raise Skip("QEMU's machines are suspended on Linux alone yet: here they boot")
        self._cove("run", "-d", "--name", "stays", IMAGE)
        _, asleep = self._timed_machine("suspend")
        _, awake = self._timed_machine("start")
        _expect(self._cove("-m", MACHINE, "inspect", "-f", "{{.State.Running}}", "stays").strip(), "true")
        return f"asleep in {asleep:.1f} s, awake in {awake:.1f} s, and the container ran on"

    def _restart(self) -> str:
        _, stopped = self._timed_machine("stop")
        _, started = self._timed_machine("start")
        return f"stopped in {stopped:.1f} s, started in {started:.1f} s"

    def _sleep(self) -> str:
        if self._ask is None:
            raise Skip("nobody is there to put the computer to sleep")
        began = time.time()
        if not self._ask(
            "Put the computer to sleep for half a minute (close its lid), wake it, and press Enter. To leave this out: n, Enter"
        ):
            raise Skip("left out")
        away = time.time() - began
        guest = float(self._cove("run", "--rm", IMAGE, "date", "+%s").strip())
        if abs(guest - time.time()) > CLOCK_S:
            raise Failed(f"{away:.0f} s later the machine's clock is {guest - time.time():+.0f} s off")
        return f"{away:.0f} s later a container runs, and the clock is right"

    def _credentials(self) -> str:
        """A round through the system's store, as `cove login` makes it."""
        helper = f"docker-credential-{HELPERS.get(sys.platform, 'secretservice')}"
        if shutil.which(helper) is None:
            raise Skip(f"there is no {helper}")
        server, secret = "https://verify.cove.invalid", "not-a-secret"
        self._call([helper, "store"], given=json.dumps({"ServerURL": server, "Username": "verify", "Secret": secret}))
        with self._afterwards([helper, "erase"], given=server):
            _expect(json.loads(self._call([helper, "get"], given=server))["Secret"], secret)
        return helper

    def _removal(self) -> str:
        if not self.home.exists():
            return "nothing was made"
        self._cove("uninstall", "--force", machine=False)
        (self.home / "compose.yaml").unlink(missing_ok=True)
        if self.home.exists():
            left = sorted(str(path.relative_to(self.home)) for path in self.home.rglob("*"))
            if left:
                raise Failed(f"left behind: {', '.join(left[:20])}")
            self.home.rmdir()
        return "nothing is left"

    def _status(self) -> Mapping[str, object]:
        status: Mapping[str, object] = json.loads(self._cove("machine", "status", MACHINE, "--json"))
        return status

    def _docker_words(self) -> list[str]:
        if shutil.which("docker") is None:
            raise Skip("there is no docker client")
        return ["docker", "--host", sockets.url(Path(str(self._status()["docker_socket"])))]

    def _timed(self, *words: str) -> tuple[str, float]:
        began = time.monotonic()
        return self._cove(*words), time.monotonic() - began

    def _timed_machine(self, verb: str) -> tuple[str, float]:
        return self._timed("machine", verb, MACHINE)

    def _cove(self, *words: str, bound_s: float = STEP_S, machine: bool = True) -> str:
        verbs = ["-m", MACHINE] if machine and words[0] in ("run", "rm") else []
        return self._call([*self._program, *verbs, *words], bound_s)

    @contextlib.contextmanager
    def _afterwards(self, words: Sequence[str], given: str = "") -> Iterator[None]:
        """A program that tidies up. Its own failure is told when nothing has failed before."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Failed):
                self._call(words, given=given)
            raise
        self._call(words, given=given)

    def _call(self, words: Sequence[str], bound_s: float = STEP_S, *, given: str = "", failing: bool = False) -> str:
        """What a program prints. Raises `Failed` with all that it says."""
        try:
            done = subprocess.run(
                words, env=self._environment, input=given, capture_output=True, text=True, encoding="utf-8", errors="replace",
                timeout=bound_s,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Failed(f"{_shown(words)} did not end within {bound_s:.0f} s") from None
        if done.returncode and not failing:
            raise Failed(
                f"{_shown(words)} ended with status {done.returncode}: {(done.stderr or done.stdout).strip()[-2000:]}"
            )
        return done.stdout


def report(results: Sequence[Result], clean: Callable[[str], str]) -> str:
    """What is sent back. `clean` takes secrets out."""
    lines = [f"cove verify, {time.strftime('%Y-%m-%d %H:%M')}", ""]
    for each in results:
        first, *more = each.text.splitlines() or [""]
        lines.append(f"{each.state:<8} {each.name:<12} {each.seconds:7.1f} s  {first}")
        lines += [f"{'':33}{line}" for line in more]
    return clean("\n".join(lines) + "\n")


def _result(name: str, step: Callable[[], str]) -> Result:
    began = time.monotonic()
    try:
        state, text = PASSED, step()
    except Skip as reason:
        state, text = SKIPPED, str(reason)
    except Exception as error:
        # Whatever it is: the steps after it tell something too, and this one is what the report is for.
        state, text = FAILED, str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
    return Result(name, state, time.monotonic() - began, text)


def _expect(got: str, wanted: str) -> None:
    if got != wanted:
        raise Failed(f"{got!r} came instead of {wanted!r}")


def _fetch(port: int) -> str:
    direct = build_opener(ProxyHandler({}))  # a proxy's localhost is another one
    with direct.open(f"http://localhost:{port}", timeout=30) as answer:
        page = answer.read(1 << 16).decode()
    title = re.search(r"<title>(.*?)</title>", page)
    return title.group(1) if title else f"{len(page)} bytes"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _shown(words: Sequence[str]) -> str:
    return " ".join(["cove", *words[3:]] if words[1:3] == ["-m", "cove"] else words)
