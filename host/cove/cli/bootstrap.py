"""`image bootstrap`: a base image of Debian from its signed archive, where no registry is in reach."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from cove.cli.client import EngineClient, quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, DaemonError
from cove.cli.flags import Values, switch, text
from cove.cli.stream import frames

if TYPE_CHECKING:
    from cove.debian.releases import Port
    from cove.image.mirror import Mirrors


def bootstrap(context: Context, values: Values) -> int:
    """`cove image bootstrap`"""
    from cove.debian import releases
    from cove.debian.bootstrap import bootstrap as make
    from cove.progress import ignore, renderer

    releases.parse(values.args[0])  # what cannot be made is told before a machine is started
    port = _port(values["platform"]) if values["platform"] else None
    mirrors = _mirrors(values["mirror"])
    engine = context.engine
    version = engine.json("GET", "/version")  # starts the machine, with progress of its own
    wanted = releases.parse(values.args[0], port or releases.port_of(str(version.get("Arch"))))
    with _ended_by_signals(), contextlib.ExitStack() as stack:
        title = f"Making {wanted.tag} from {_shown(mirrors)}"
        report = ignore if values["quiet"] else stack.enter_context(renderer(title))
        identity = make(wanted, mirrors, _Engine(engine), report)
    if values["json"]:
        from cove.cli import as_json

        as_json.show({"image": wanted.tag, "id": identity})
    else:
        print(identity)
    return 0


def _port(given: str) -> Port:
    from cove.cli import platforms
    from cove.debian.releases import port_of

    try:
        asked = platforms.parse(given)
    except ValueError as error:
        raise CliError(f"cove: {error}") from None
    if "/" in given and asked["os"] != "linux":
        raise CliError(f"cove: base images of Debian are for linux, not for {asked['os']}")
    return port_of(asked["architecture"], asked.get("variant", ""))


def _mirrors(given: str) -> Mirrors:
    from cove.image import mirror

    return mirror.named(given) if given else mirror.find()


def _shown(mirrors: Mirrors) -> str:
    from cove.debian.settings import public

    return public(mirrors.debian)


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Make SIGTERM and SIGHUP end the block as Ctrl-C does: in order."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Engine:
    """`cove.debian.bootstrap.Engine` over the API."""

    def __init__(self, client: EngineClient) -> None:
        self._client = client

    def load(self, tag: str, archive: Iterable[bytes]) -> str:
        response = self._client.request(
            "POST", "/images/load", {"quiet": True}, upload=archive, content_type="application/x-tar"
        )
        for message in response.json_lines():
            if error := message.get("error"):
                raise CliError(f"cove: the engine could not load {tag}: {error}")
        response.close()
        return str(self._client.json("GET", f"/images/{quote(tag)}/json")["Id"])

    @contextlib.contextmanager
    def temporary(self, tag: str, archive: Iterable[bytes]) -> Iterator[None]:
        try:
            self.load(tag, archive)
            yield
        finally:
            self._remove(f"/images/{quote(tag)}", {"force": True})

    @contextlib.contextmanager
    def running(
        self, name: str, image: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> Iterator[_Running]:
        body = {
            "Image": image,
            "Cmd": list(command),
            "Env": [f"{key}={value}" for key, value in environment.items()],
            "HostConfig": {"NetworkMode": "none"},
        }
        try:
            self._client.json("POST", "/containers/create", {"name": name}, body)
            self._client.json("POST", f"/containers/{name}/start")
            yield _Running(self._client, name)
        finally:
            self._remove(f"/containers/{name}", {"force": True, "v": True})

    def _remove(self, path: str, query: Mapping[str, bool]) -> None:
        # A connection of its own: the other may have been left in the middle of an answer.
        try:
            EngineClient(self._client.path).json("DELETE", path, query)
        except DaemonError as error:
            if error.code != 404:  # it was not made
                raise


class _Running:
    def __init__(self, client: EngineClient, name: str) -> None:
        self._client = client
        self._path = f"/containers/{name}"

    def lines(self) -> Iterator[str]:
        response = self._client.request("GET", f"{self._path}/logs", {"stdout": True, "stderr": True, "follow": True})
        pending = b""
        for _, part in frames(response):
            *whole, pending = (pending + part).split(b"\n")
            yield from (line.decode(errors="replace") for line in whole)
        if pending:
            yield pending.decode(errors="replace")
        response.close()

    def wait(self) -> int:
        return int(self._client.json("POST", f"{self._path}/wait")["StatusCode"])

    def export(self) -> Iterable[bytes]:
        return self._client.request("GET", f"{self._path}/export")


COMMANDS = {
    "image bootstrap": Command(
        bootstrap,
        """Make a base image of Debian from its signed archive, without a registry

NAME is debian:13 (debian:trixie, debian:latest) or debian:12 (debian:bookworm), each with
-slim for the one without documentation and translations. The image gets that name, and has
what Docker Hub's has: Debian's required packages and apt, the newest version of each.

The packages come from the mirror of --mirror, else of COVE_DEBIAN_MIRROR or vm-image.toml,
else of this computer's own apt; the image's apt will use the same.
Debian's signature is verified. The packages are configured in a container without network,
by their own programs: for another processor than the machine's that takes its emulator minutes.
Downloads are kept for the next time. The image's id is printed.""",
        "NAME",
        (
            switch("json", "", "Print JSON"),
            text("mirror", "", "Debian mirror to use (http://HOST/debian), its security archive beside it"),
            text("platform", "", "Platform of the image, such as linux/arm64 (default: the engine's own)"),
            switch("quiet", "q", "Print the image's id only"),
        ),
        least=1,
        most=1,
    )
}
