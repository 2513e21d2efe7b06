"""`stats`: what containers use, as a table that is drawn again twice a second."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cove.cli import format as fmt
from cove.cli.client import EngineClient, filters, quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Values, format_flag, switch

HEADERS = {
    "BlockIO": "BLOCK I/O", "CPUPerc": "CPU %", "Container": "CONTAINER", "ID": "CONTAINER ID", "MemPerc": "MEM %",
    "MemUsage": "MEM USAGE / LIMIT", "Name": "NAME", "NetIO": "NET I/O", "PIDs": "PIDS",
}  # fmt: skip
COLUMNS = ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs")
REDRAW_S = 0.5
SILENCE_S = 2.0
"""After so long without news, numbers are not shown any more."""

Stats = Mapping[str, Any]


def cpu_percent(stats: Stats) -> float:
    """Share of one processor, 200 for two busy ones (Engine API, ContainerStats)."""
    now, before = stats["cpu_stats"], stats["precpu_stats"]
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    total = now.get("system_cpu_usage", 0) - before.get("system_cpu_usage", 0)
    processors = now.get("online_cpus", 0) or len(now["cpu_usage"].get("percpu_usage") or ())
    return used / total * processors * 100.0 if total > 0 and used > 0 else 0.0


def memory_used(stats: Stats) -> int:
    """Bytes without those of the file cache that can be given back at once."""
    memory = stats["memory_stats"]
    usage: int = memory.get("usage", 0)
    counted = memory.get("stats") or {}
    for name in ("total_inactive_file", "inactive_file"):  # cgroup v1, cgroup v2
        if name in counted:
            return usage - counted[name] if counted[name] < usage else usage
    return usage


def memory_percent(stats: Stats) -> float:
    limit = stats["memory_stats"].get("limit", 0)
    return memory_used(stats) / limit * 100.0 if limit else 0.0


def _pair(first: float, second: float) -> str:
    return f"{fmt.human_size(first, 3)} / {fmt.human_size(second, 3)}"


def network_traffic(stats: Stats) -> str:
    networks = (stats.get("networks") or {}).values()
    return _pair(sum(one["rx_bytes"] for one in networks), sum(one["tx_bytes"] for one in networks))


def block_traffic(stats: Stats) -> str:
    entries = stats["blkio_stats"].get("io_service_bytes_recursive") or ()

    def total(letter: str) -> int:
        return sum(entry["value"] for entry in entries if entry["op"][:1].lower() == letter)

    return _pair(total("r"), total("w"))


def row(container: str, stats: Stats | None, *, valid: bool, truncate: bool) -> dict[str, Any]:
    """One container as the names that `--format` knows; dashes for numbers that are not `valid`."""
    known = stats or {}
    identity = known.get("id") or ""
    # In the order in which docker's JSON has them.
    result = {
        "BlockIO": "--",
        "CPUPerc": "--",
        "Container": container,
        "ID": fmt.short_id(identity) if truncate else identity,
        "MemPerc": "--",
        "MemUsage": "-- / --",
        "Name": (known.get("name") or "").removeprefix("/") or "--",
        "NetIO": "--",
        "PIDs": "--",
    }
    if stats is None or not valid:
        return result
    limit = stats["memory_stats"].get("limit", 0)
    return result | {
        "CPUPerc": f"{cpu_percent(stats):.2f}%",
        "MemUsage": f"{fmt.bytes_size(memory_used(stats))} / {fmt.bytes_size(limit)}",
        "MemPerc": f"{memory_percent(stats):.2f}%",
        "NetIO": network_traffic(stats),
        "BlockIO": block_traffic(stats),
        "PIDs": str((stats.get("pids_stats") or {}).get("current", 0)),
    }


@dataclass
class Watched:
    """One container, followed by a thread of its own; ``first`` is set by the first news, good or bad."""

    container: str
    first: threading.Event
    stats: Stats | None = None
    error: CliError | None = None
    heard_at: float = 0.0
    ended: bool = False

    def row(self, *, truncate: bool, now: float) -> dict[str, Any]:
        valid = not self.ended and now - self.heard_at <= SILENCE_S
        return row(self.container, self.stats, valid=valid, truncate=truncate)


class Watch:
    """The containers that are shown, in the order in which they came."""

    def __init__(self, engine: EngineClient, *, stream: bool) -> None:
        self._engine = engine
        self._stream = stream
        self._lock = threading.Lock()
        self._watched: dict[str, Watched] = {}

    def add(self, container: str) -> None:
        """Begin to follow a container that is not followed yet."""
        with self._lock:
            if container in self._watched:
                return
            one = self._watched[container] = Watched(container, threading.Event())
        threading.Thread(target=self._follow, args=(one,), daemon=True).start()

    def remove(self, container: str) -> None:
        with self._lock:
            self._watched.pop(container, None)

    def all(self) -> list[Watched]:
        with self._lock:
            return [*self._watched.values()]

    def wait(self) -> None:
        """Until every container has been heard of, or has been silent for too long."""
        for one in self.all():
            one.first.wait(SILENCE_S if self._stream else None)

    def _follow(self, one: Watched) -> None:
        path = f"/containers/{quote(one.container)}/stats"
        engine = EngineClient(self._engine.path)  # a connection takes one request at a time
        try:
            for stats in engine.request("GET", path, {"stream": self._stream or "0"}).json_lines():
                one.stats, one.heard_at = stats, time.monotonic()
                one.first.set()
            one.ended = self._stream
        except CliError as error:
            one.error, one.ended = error, True
        finally:
            one.first.set()


def _render(watched: Iterable[Watched], form: str, *, truncate: bool) -> str:
    now = time.monotonic()
    rows = [one.row(truncate=truncate, now=now) for one in watched]
    return fmt.render(rows, form, HEADERS, COLUMNS, "container.statsContext")


def frame(text: str) -> str:
    """What draws `text` over the one before it: home, every line with what is left of the old one erased, and the rest too."""
    return "\033[H" + "".join(f"{line}\033[K\n" for line in text.splitlines()) + "\033[J"


class _Events(threading.Thread):
    """Containers that come and go while no container was named on the command line."""

    def __init__(self, engine: EngineClient, watch: Watch, *, all: bool) -> None:
        super().__init__(daemon=True)
        self._watch = watch
        self._all = all
        self._response = EngineClient(engine.path).request("GET", "/events", {"filters": filters(["type=container"])})
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            for event in self._response.json_lines():
                container = fmt.short_id(event["Actor"]["ID"])
                if event["Action"] == "start" or (event["Action"] == "create" and self._all):
                    self._watch.add(container)
                elif event["Action"] == "die" and not self._all:
                    self._watch.remove(container)
        except CliError:
            pass  # the engine has been stopped: that ends the display, and is no error
        finally:
            self.ended.set()


def stats(context: Context, values: Values) -> int:
    """`cove stats`: until Ctrl-C, or once with --no-stream."""
    if any(not name.strip() for name in values.args):
        raise CliError("invalid container name or ID: value is empty")
    stream, form, truncate = not values["no-stream"], values["format"], not values["no-trunc"]
    engine = context.engine
    engine.connect().close()  # starts the machine if need be; several threads would each do so
    watch = Watch(engine, stream=stream)
    events: _Events | None = None
    if values.args:
        for name in values.args:
            watch.add(name)
        watch.wait()
        if errors := [one.error for one in watch.all() if one.error is not None]:
            raise CliError("\n".join(error.message for error in errors))
    else:
        # Listens before it asks, so that none is missed in between.
        events = _Events(engine, watch, all=values["all"])
        for item in engine.json("GET", "/containers/json", {"all": values["all"]}):
            watch.add(fmt.short_id(item["Id"]))
        events.start()
        watch.wait()
    if not stream:
        sys.stdout.write(_render(watch.all(), form, truncate=truncate))
        return 0
    never = threading.Event()
    while not (events.ended if events is not None else never).wait(REDRAW_S):
        sys.stdout.write(frame(_render(watch.all(), form, truncate=truncate)))
        sys.stdout.flush()
    return 0


COMMANDS = {
    "stats": Command(
        stats,
        "Display a live stream of container(s) resource usage statistics",
        "[CONTAINER...]",
        (
            switch("all", "a", "Show all containers (default shows just running)"),
            format_flag(),
            switch("no-stream", "", "Disable streaming stats and only pull the first result"),
            switch("no-trunc", "", "Do not truncate output"),
        ),
    )
}
