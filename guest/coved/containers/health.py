"""Health checks as configuration and as state (Engine API, "HealthConfig" and "Health"). Running them is in ``probes``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from coved.containers.config_schema import Json
from coved.containers.durations import NANOSECONDS
from coved.errors import InvalidParameter

STATUSES = ("none", "starting", "healthy", "unhealthy")
OUTPUT_LIMIT = 4096
LOG_LENGTH = 5
SHELL = ["/bin/sh", "-c"]

_MILLISECOND = 1_000_000
# What dockerd takes for a field that is 0, in nanoseconds.
_DEFAULTS = {
    "Interval": 30 * NANOSECONDS,
    "Timeout": 30 * NANOSECONDS,
    "StartPeriod": 0,
    "StartInterval": 5 * NANOSECONDS,
}
_RETRIES = 3


def read(raw: Mapping[str, Any]) -> Json:
    """The fields of a request or an image that hold something. Raises InvalidParameter."""
    folded = {key.lower(): value for key, value in raw.items()}
    result: Json = {}
    test = folded.get("test")
    if test is not None and not (isinstance(test, list) and all(isinstance(word, str) for word in test)):
        raise InvalidParameter("invalid JSON: Config.Healthcheck.Test must be an array of strings")
    if test:
        result["Test"] = test
    for name in (*_DEFAULTS, "Retries"):
        value = folded.get(name.lower()) or 0
        if isinstance(value, bool) or not isinstance(value, int) or not -(1 << 63) <= value < 1 << 63:
            raise InvalidParameter(f"invalid JSON: Config.Healthcheck.{name} must be an integer")
        if value:
            result[name] = value
    return result


def inherit(own: Json | None, image: Mapping[str, Any] | None) -> Json | None:
    """Each field that the request leaves open comes from the image."""
    if not image:
        return own
    return {**read(image), **(own or {})}


def check(config: Json | None) -> None:
    """Raises InvalidParameter in Docker's words."""
    for name in ("Interval", "Timeout", "Retries", "StartPeriod", "StartInterval"):
        value = (config or {}).get(name, 0)
        if name == "Retries":
            if value < 0:
                raise InvalidParameter("Retries in Healthcheck cannot be negative")
        elif value and value < _MILLISECOND:
            raise InvalidParameter(f"{name} in Healthcheck cannot be less than 1ms")


def command(config: Json) -> list[str] | None:
    """The command line of a container's probe; None when it has none, or was told to have none."""
    kind, *words = (config["Healthcheck"] or {}).get("Test") or [""]
    if kind == "CMD":
        return words or None
    if kind == "CMD-SHELL":
        return [*(config["Shell"] or SHELL), *words]
    return None


def period(config: Json, name: str) -> int:
    """A time of the check in nanoseconds, dockerd's default when it is not set."""
    return int(config["Healthcheck"].get(name) or _DEFAULTS[name])


@dataclass
class Health:
    """What an inspect shows. ``log`` has the results as the API gives them, oldest first."""

    status: str = "starting"
    failing_streak: int = 0
    log: list[Json] = field(default_factory=list)

    def note(self, result: Json, config: Json, since_start_ns: int) -> bool:
        """Take in a probe's result, made ``since_start_ns`` after the container's start; whether the status changed."""
        before = self.status
        self.log = [*self.log, result][-LOG_LENGTH:]
        if result["ExitCode"] == 0:
            self.failing_streak = 0
            self.status = "healthy"
        elif self.status != "starting" or since_start_ns >= period(config, "StartPeriod"):
            self.failing_streak += 1
            if self.failing_streak >= ((config["Healthcheck"] or {}).get("Retries") or _RETRIES):
                self.status = "unhealthy"
        return self.status != before

    def pause_ns(self, config: Json, since_start_ns: int) -> int:
        """Nanoseconds until the next probe."""
        starting = self.status == "starting" and since_start_ns < period(config, "StartPeriod")
        return period(config, "StartInterval" if starting else "Interval")

    def shown(self) -> Json:
        return {"Status": self.status, "FailingStreak": self.failing_streak, "Log": self.log}


class Output:
    """A probe's output, cut where dockerd cuts it."""

    def __init__(self) -> None:
        self._kept = bytearray()
        self._cut = False

    def feed(self, data: bytes) -> None:
        room = OUTPUT_LIMIT - len(self._kept)
        self._kept += data[:room]
        self._cut = self._cut or len(data) > room

    def text(self) -> str:
        return self._kept.decode("utf-8", "replace") + ("..." if self._cut else "")
