"""Restart policies: whether a container that has ended starts again, and after how long (Engine API, "RestartPolicy")."""

from __future__ import annotations

from coved.containers.config_schema import Json
from coved.containers.durations import NANOSECONDS
from coved.errors import InvalidParameter

BOOT_POLICIES = ("always", "unless-stopped")
FIRST_S, MAX_S, RESET_S = 0.1, 60.0, 10


def check(policy: Json) -> Json:
    """A policy of a request with both of its fields. Raises InvalidParameter in Docker's words."""
    name, count = policy.get("Name") or "", policy.get("MaximumRetryCount") or 0
    if not isinstance(name, str) or isinstance(count, bool) or not isinstance(count, int):
        raise InvalidParameter("invalid JSON: RestartPolicy must have a string Name and an integer MaximumRetryCount")
    if name not in ("", "no", "always", "on-failure", "unless-stopped"):
        raise InvalidParameter(
            f"invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
        )
    if name == "on-failure" and count < 0:
        raise InvalidParameter("invalid restart policy: maximum retry count cannot be negative")
    if name not in ("", "on-failure") and count:
        also = " and cannot be negative" if count < 0 else ""
        raise InvalidParameter(f"invalid restart policy: maximum retry count can only be used with 'on-failure'{also}")
    # Without a name there is no policy, whatever its count (clients from before Docker 25 send that).
    return {"Name": name or "no", "MaximumRetryCount": count if name == "on-failure" else 0}


def has_policy(host: Json) -> bool:
    """Whether a container with this HostConfig may ever be started again without being asked for."""
    return bool(host["RestartPolicy"]["Name"] not in ("", "no"))


def wanted(host: Json, *, exit_code: int, restarts: int, stopped: bool, after_boot: bool = False) -> bool:
    """Whether the policy wants a container that has ended to run.

    ``restarts``: how many there have been. ``stopped``: by a user. ``after_boot``: the engine has just started.
    """
    policy = host["RestartPolicy"]
    if policy["Name"] == "always":
        return after_boot or not stopped
    if stopped:
        return False
    if policy["Name"] == "on-failure":
        limit = policy["MaximumRetryCount"]
        return exit_code != 0 and (not limit or restarts < limit)
    return bool(policy["Name"] == "unless-stopped")


def next_delay(previous_s: float, ran_ns: int) -> float:
    """Seconds until the next start: doubled each time, from the beginning again after a run of ten seconds."""
    if ran_ns >= RESET_S * NANOSECONDS:
        previous_s = 0.0
    return min(max(2 * previous_s, FIRST_S), MAX_S)
