"""Restart policies: whether a container that has ended starts again, and after how long (Engine API, "RestartPolicy")."""

from __future__ import annotations

from coved.containers.container import NS, Container

BOOT_POLICIES = ("always", "unless-stopped")
FIRST_S, MAX_S, RESET_S = 0.1, 60.0, 10


def wanted(container: Container, *, after_boot: bool = False) -> bool:
    """Whether the policy wants ``container``, which has ended, to run; ``after_boot``: the engine has just started."""
    policy = container.host["RestartPolicy"]
    if policy["Name"] == "always":
        return after_boot or not container.stopped_by_user
    if container.stopped_by_user:
        return False
    if policy["Name"] == "on-failure":
        limit = policy["MaximumRetryCount"]
        return container.state.exit_code != 0 and (not limit or container.state.restart_count < limit)
    return bool(policy["Name"] == "unless-stopped")


def next_delay(previous_s: float, ran_ns: int) -> float:
    """Seconds until the next start: doubled each time, from the beginning again after a run of ten seconds."""
    if ran_ns > RESET_S * NS:
        previous_s = 0.0
    return min(max(2 * previous_s, FIRST_S), MAX_S)
