"""`build`: an image from a Dockerfile, or files from one, by the engine's BuildKit."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cove.cli import terminal, values
from cove.cli.build_engine import BUILDER, builder_name, dialer
from cove.cli.command import Command, Context
from cove.cli.errors import CliError, os_error_text
from cove.cli.flags import Flag, Values, integer, several, switch, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cove.build.display import Display, Paced
    from cove.build.engine import Engine
    from cove.build.solve import Built
    from cove.build.status import Warn
    from cove.cli.build_options import Call, Results
    from cove.cli.docker_config import DockerConfig

CONFIG_DIGEST, DIGEST = "containerimage.config.digest", "containerimage.digest"
STATUSES = {1: 130, 8: 102, 13: 100}
"""Exit statuses for gRPC's codes (canceled, resource exhausted, internal); 1 is every other's."""
HUB_HOST = "registry-1.docker.io"
WARNED = {
    "isolation": "isolation flag is deprecated with BuildKit.",
    "security-opt": 'security-opt flag is deprecated. "RUN --security=insecure" should be used with BuildKit.',
    "squash": (
        "experimental flag squash is removed with BuildKit. You should squash inside build using a multi-stage Dockerfile"
        " for efficiency."
    ),
}
"""Flags that mean nothing any more, and what is said of them."""


def build(context: Context, given: Values) -> int:
    """`cove build`"""
    for flag, warning in WARNED.items():
        if given.changed(flag):
            print(f"WARNING: {warning}", file=sys.stderr)
    with ExitStack() as cleanup:
        try:
            return _Build(context, given, cleanup).run()
        except ValueError as error:
            raise CliError(f"ERROR: {error}") from error
        except OSError as error:
            if isinstance(error, BrokenPipeError):
                raise
            raise CliError(f"ERROR: {os_error_text(error)}") from error


class _Build:
    """One run of the command."""

    def __init__(self, context: Context, given: Values, cleanup: ExitStack) -> None:
        """Raises `ValueError` for what cannot be asked for."""
        from cove.build import inputs, session
        from cove.cli import build_options as options
        from cove.cli.docker_config import DockerConfig

        self._context = context
        self._given = given
        self._mode, self._quiet = _mode(given)
        self._config: DockerConfig = DockerConfig.load()
        self._attributes = options.attributes(given)
        named = options.contexts(given["build-context"])
        options.check_attestations(given)
        self._results: Results = options.results(given)
        arguments = options.build_arguments(given["build-arg"])
        self._attributes |= options.proxies(self._config.value("proxies"), arguments)
        self._cache_exports = options.cache_exports(given["cache-to"], arguments)
        self._call: Call | None = options.call("check" if given["check"] else given["call"])
        secrets, agents = options.secrets(given["secret"]), options.agents(given["ssh"])
        if given["iidfile"]:
            with suppress(FileNotFoundError):
                Path(given["iidfile"]).unlink()
        self._offer = session.Offer(
            secrets=secrets, agents=agents, outputs=self._results.outputs, account=self._account, shared=self._shared
        )
        place = given.args[0]
        found = inputs.gather(place, given["file"], named, self._offer.archive_id, sys.stdin.buffer, cleanup)
        self._offer.trees, self._offer.archive = found.trees, found.archive
        self._attributes |= found.attributes
        self._inputs = found
        self._paced: Paced | None = None

    def run(self) -> int:
        """Build; the exit status."""
        from cove.build.display import choose
        from cove.build.engine import Engine
        from cove.build.solve import BuildFailed

        builder = builder_name(self._context.engine, self._given["builder"])
        stderr = sys.stderr.buffer
        display = choose(self._mode, stderr, builder, lambda: terminal.size(2))
        engine = Engine(dialer(self._context.engine))
        try:
            with terminal.drawing():
                built = _until_interrupted(self._build(engine, display))
        except BuildFailed as error:
            from cove.cli.hints import hint_of_build

            sys.stderr.write("".join(error.excerpts))
            advice = "".join(f"\n      {line}" for line in hint_of_build(str(error), self._context.engine).splitlines())
            raise CliError(f"ERROR: {error}{advice}", STATUSES.get(error.code, 1)) from error
        except KeyboardInterrupt:
            raise CliError("ERROR: failed to solve: Canceled: context canceled", 130) from None
        finally:
            if self._mode not in ("quiet", "none", "rawjson"):
                _tell_warnings(display.trace.warnings)
        return self._finish(built)

    async def _build(self, engine: Engine, display: Display) -> Built:
        from cove.build.display import Paced
        from cove.build.solve import Order, solve
        from cove.cli import build_options as options

        self._paced = Paced(display)
        try:
            async with engine.channel() as channel:
                gateway = (
                    await _gateway(channel) if any("host-gateway" in each for each in self._given["add-host"]) else ""
                )
                attributes = dict(self._attributes)
                if hosts := options.add_hosts(self._given["add-host"], gateway):
                    attributes["add-hosts"] = hosts
                exporters = self._results.exporters
                if self._call is not None:
                    attributes["requestid"] = f"frontend.{self._call.name}"
                    caps = "moby.buildkit.frontend.subrequests+forward"
                    attributes["frontend.caps"] = ",".join(filter(None, (attributes.get("frontend.caps"), caps)))
                    exporters = []
                entitlements = [part for each in self._given["allow"] for part in each.split(",")]
                if self._given["network"] == "host":
                    entitlements.append("network.host")
                order = Order(
                    attributes,
                    exporters,
                    self._cache_exports,
                    entitlements,
                    internal=self._call is not None,
                    shared_key=self._inputs.shared_key,
                )
                built = await solve(engine, channel, order, self._offer, self._paced.update)
                if self._call is None and (names := self._results.pushed):
                    built = await self._push(built, names)
                return built
        finally:
            self._paced.done()

    def _account(self, host: str) -> tuple[str, str]:
        from cove.cli.credentials import HUB, find_quietly, registry_key

        known = find_quietly(self._config, HUB if host == HUB_HOST else registry_key(host))
        return ("", known.identity_token) if known.identity_token else (known.username, known.password)

    def _shared(self, host: str) -> None:
        from cove.build.solve import told

        if self._paced is not None:
            self._paced.update(told(f"[auth] sharing credentials for {host}"))

    async def _push(self, built: Built, names: Sequence[str]) -> Built:
        """Give the image to its registries: with docker's own store that is asked of the engine after the build."""
        from dataclasses import replace

        from cove.cli.build_push import push

        assert self._paced is not None
        digest = ""
        for name in names:
            digest = await push(self._context.engine.path, self._config, name, self._paced.update) or digest
        if not digest:
            return built
        response = dict(built.response)
        response.setdefault(CONFIG_DIGEST, response.get(DIGEST, ""))
        return replace(built, response={**response, DIGEST: digest})

    def _finish(self, built: Built) -> int:
        """What is told and written after a build."""
        given = self._given
        image = built.response.get(CONFIG_DIGEST) or built.response.get(DIGEST, "")
        if self._quiet and self._call is None:
            print(image)
        if given["iidfile"]:
            Path(given["iidfile"]).write_text(image)
        if given["metadata-file"]:
            reference = {} if self._call else {"buildx.build.ref": f"default/default/{built.ref}"}
            found = dict(built.response) | {
                key: value.decode(errors="replace") for key, value in built.metadata.items()
            }
            _write_metadata(given["metadata-file"], found if self._call else {**built.response, **reference})
        return 0 if self._call is None else _answer(self._call, built, self._inputs.shown)


def _mode(given: Values) -> tuple[str, bool]:
    """How the progress is shown, and whether the image's id is printed in its place."""
    mode = given["progress"]
    if given["quiet"] and mode not in ("auto", "quiet"):
        raise ValueError(f"progress={mode} and quiet cannot be used together")
    quiet = given["quiet"] or mode == "quiet"
    return "quiet" if quiet else mode, quiet


def _until_interrupted(work: Coroutine[Any, Any, Built]) -> Built:
    """Do `work`. INT and TERM cancel it, which it has time to tell of; after a second one it is left as it is. Either raises
    `KeyboardInterrupt`.
    """
    loop = asyncio.new_event_loop()  # of which nothing is waited for at the end: a thread may read from a silent stdin
    task = loop.create_task(work)
    asked = 0

    def interrupted(*_: object) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise KeyboardInterrupt
        loop.call_soon_threadsafe(task.cancel)

    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return loop.run_until_complete(task)
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


async def _gateway(channel: Any) -> str:
    """The address of the machine itself, as the engine knows it."""
    from coved.buildkit import messages as m

    workers = await channel.unary(m.LIST_WORKERS, m.ListWorkersRequest())
    label = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"
    return next((record.labels[label] for record in workers.record if label in record.labels), "")


def _tell_warnings(warnings: Sequence[Warn]) -> None:
    """What was warned of, once more, after all progress."""
    from cove.build.excerpt import excerpt

    every = list({(each.short, each.url, each.ranges): each for each in warnings}.values())
    if not every:
        return
    details = bool(os.environ.get("COVE_DEBUG"))
    count = "1 warning found" if len(every) == 1 else f"{len(every)} warnings found"
    head = f"{count}:\n" if details else f"{count} (use cove --debug to expand):\n"
    if terminal.is_terminal(2) and not os.environ.get("NO_COLOR"):
        head = f"\x1b[33m{head}\x1b[0m"
    lines = [f"\n {head}"]
    for each in every:
        lines.append(f" - {each.short}\n")
        if details:
            lines += [f"{line}\n" for line in each.detail]
            lines += [f"More info: {each.url}\n"] if each.url else []
            lines += [excerpt(each.source, each.ranges)] if each.source and each.ranges else []
            lines.append("\n")
    sys.stderr.write("".join(lines))
    sys.stderr.flush()


def _write_metadata(path: str, response: dict[str, str]) -> None:
    from cove.cli.output import write_file

    found = {key: _plain(key, value) for key, value in sorted(response.items())}
    try:
        write_file(path, [json.dumps(found, indent=2, ensure_ascii=False).encode()])
    except CliError as error:
        raise ValueError(error.message) from error
    if sys.platform != "win32":
        Path(path).chmod(0o644)


def _plain(key: str, value: str) -> Any:
    """What is JSON is kept as that."""
    try:
        data = value.encode() if key == "result.json" else base64.b64decode(value, validate=True)
        found = json.loads(data)
    except ValueError:
        return value
    return found if isinstance(found, dict | list) and found else value


def _answer(call: Call, built: Built, shown: str) -> int:
    """Print what the frontend answers to a question; the exit status."""
    from cove.build import excerpt

    told = {key: value.decode(errors="replace") for key, value in built.metadata.items()}
    result, error = told.get("result.json", ""), ""
    if call.format == "json":
        print(result)
    elif call.name == "lint" and result:
        plain, error = excerpt.lint(result, shown)
        print(plain, end="")
    elif call.name in ("outline", "targets") and result:
        print(getattr(excerpt, call.name)(result), end="")
    else:
        print(told.get("result.txt", ""), end="")
    if error:
        raise CliError(f"ERROR: {error}".rstrip("\n"))
    status = told.get("result.statuscode", "")
    return int(status) if status.isascii() and status.isdigit() and not call.ignore_status else 0


def _array(name: str, short: str = "", help: str = "") -> Flag:
    return several(name, short, help, kind="stringArray")


def _hidden(flag: Flag) -> Flag:
    flag.hidden = True
    return flag


COMMANDS = {
    "build": Command(
        build,
        "Build an image from a Dockerfile",
        "PATH | URL | -",
        (
            several("add-host", "", 'Add a custom host-to-IP mapping (format: "host:ip")', kind="strings"),
            _array("allow", "", 'Allow extra privileged entitlement (e.g., "network.host", "security.insecure")'),
            _array("annotation", "", "Add annotation to the image"),
            _array("attest", "", 'Attestation parameters (format: "type=sbom,generator=image")'),
            _array("build-arg", "", "Set build-time variables"),
            BUILDER,
            _array("build-context", "", "Additional build contexts (e.g., name=path)"),
            _array(
                "cache-from", "", 'External cache sources (e.g., "user/app:cache", "type=registry,ref=user/app:cache")'
            ),
            _array("cache-to", "", 'Cache export destinations (e.g., "user/app:cache", "type=inline")'),
            text("call", "", 'Set method for evaluating build ("build", "check", "outline", "targets")', "build"),
            text("cgroup-parent", "", 'Set the parent cgroup for the "RUN" instructions during build'),
            switch("check", "", 'Shorthand for "--call=check"'),
            text("file", "f", 'Name of the Dockerfile (default: "PATH/Dockerfile")'),
            text("iidfile", "", "Write the image ID to a file"),
            _array("label", "", "Set metadata for an image"),
            switch("load", "", 'Shorthand for "--output=type=docker"'),
            text("metadata-file", "", "Write build result metadata to a file"),
            text("network", "", 'Set the networking mode for the "RUN" instructions during build', "default"),
            switch("no-cache", "", "Do not use cache when building the image"),
            _array("no-cache-filter", "", "Do not cache specified stages"),
            _array("output", "o", 'Output destination (format: "type=local,dest=path")'),
            Flag(
                "platform",
                kind="stringArray",
                many=True,
                default=[preset] if (preset := os.environ.get("DOCKER_DEFAULT_PLATFORM")) else (),
                help="Set target platform for build",
            ),
            text(
                "progress",
                "",
                'Set type of progress output ("auto", "none", "plain", "quiet", "rawjson", "tty").'
                " Use plain to show container output",
                "auto",
            ),
            text("provenance", "", 'Shorthand for "--attest=type=provenance"'),
            switch("pull", "", "Always attempt to pull all referenced images"),
            switch("push", "", 'Shorthand for "--output=type=registry"'),
            switch("quiet", "q", "Suppress the build output and print image ID on success"),
            text("sbom", "", 'Shorthand for "--attest=type=sbom"'),
            _array("secret", "", 'Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")'),
            Flag(
                "shm-size", kind="bytes", parse=values.size, default=0, help="Shared memory size for build containers"
            ),
            _array("ssh", "", 'SSH agent socket to expose to the build (format: "default|<id>[=<socket>]")'),
            _array("tag", "t", 'Name and optionally a tag (format: "name:tag")'),
            text("target", "", "Set the target build stage to build"),
            several("ulimit", "", "Ulimit options", values.ulimit, "ulimit"),
            # What docker's old builder knew, and BuildKit passes over.
            _hidden(switch("compress", "", "Compress the build context using gzip")),
            _hidden(integer("cpu-period", "", "Limit the CPU CFS (Completely Fair Scheduler) period")),
            _hidden(integer("cpu-quota", "", "Limit the CPU CFS (Completely Fair Scheduler) quota")),
            _hidden(integer("cpu-shares", "c", "CPU shares (relative weight)")),
            _hidden(text("cpuset-cpus", "", 'CPUs in which to allow execution ("0-3", "0,1")')),
            _hidden(text("cpuset-mems", "", 'MEMs in which to allow execution ("0-3", "0,1")')),
            _hidden(switch("disable-content-trust", "", "Skip image verification", True)),
            _hidden(switch("force-rm", "", "Always remove intermediate containers")),
            _hidden(text("isolation", "", "Container isolation technology")),
            _hidden(text("memory", "m", "Memory limit")),
            _hidden(text("memory-swap", "", 'Swap limit equal to memory plus swap: "-1" to enable unlimited swap')),
            _hidden(switch("rm", "", "Remove intermediate containers after a successful build", True)),
            _hidden(several("security-opt", "", "Security options", kind="strings")),
            _hidden(switch("squash", "", "Squash newly built layers into a single new layer")),
        ),
        least=1,
        most=1,
    )
}
