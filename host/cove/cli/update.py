"""`update`: change the limits and the restart policy of containers, running ones too."""

from __future__ import annotations

from typing import Any

from cove.cli import values
from cove.cli.client import quote
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Flag, Values, integer, parse_uint16, text
from cove.cli.run_options import restart_policy


def _bytes(name: str, short: str, help: str, *, swap: bool = False) -> Flag:
    return Flag(name, short, kind="bytes", parse=values.swap_size if swap else values.size, default=0, help=help)


FLAGS = (
    Flag(
        "blkio-weight",
        kind="uint16",
        parse=parse_uint16,
        default=0,
        help="Block IO (relative weight), between 10 and 1000, or 0 to disable (default 0)",
    ),
    integer("cpu-period", "", "Limit CPU CFS (Completely Fair Scheduler) period"),
    integer("cpu-quota", "", "Limit CPU CFS (Completely Fair Scheduler) quota"),
    integer("cpu-rt-period", "", "Limit the CPU real-time period in microseconds"),
    integer("cpu-rt-runtime", "", "Limit the CPU real-time runtime in microseconds"),
    integer("cpu-shares", "c", "CPU shares (relative weight)"),
    Flag("cpus", kind="decimal", parse=values.nano_cpus, default=0, help="Number of CPUs"),
    text("cpuset-cpus", "", "CPUs in which to allow execution (0-3, 0,1)"),
    text("cpuset-mems", "", "MEMs in which to allow execution (0-3, 0,1)"),
    Flag("kernel-memory", kind="bytes", parse=values.size, default=0, help="Kernel memory limit", hidden=True),
    _bytes("memory", "m", "Memory limit"),
    _bytes("memory-reservation", "", "Memory soft limit"),
    _bytes("memory-swap", "", "Swap limit equal to memory plus swap: -1 to enable unlimited swap", swap=True),
    integer("pids-limit", "", "Tune container pids limit (set -1 for unlimited)"),
    text("restart", "", "Restart policy to apply when a container exits"),
)


def update(context: Context, values: Values) -> int:
    """`cove update`: names what it has updated; the engine's warnings come after, on stdout as in docker."""
    body = update_body(values)
    warnings: list[str] = []
    failures: list[str] = []
    for name in values.args:
        try:
            answer = context.engine.json("POST", f"/containers/{quote(name)}/update", body=body)
        except CliError as error:
            failures.append(error.message)
        else:
            print(name, flush=True)
            warnings += answer.get("Warnings") or ()
    if warnings:
        print("\n".join(warnings), flush=True)
    if failures:
        raise CliError("\n".join(failures))
    return 0


def update_body(values: Values) -> dict[str, Any]:
    """The request of `values`; fields at their zero value mean no change. Raises `CliError` in docker's words."""
    if not any(values.changed(flag.name) for flag in FLAGS):
        raise CliError("you must provide one or more flags when using this command")
    try:
        policy = restart_policy(values["restart"]) if values["restart"] else {}
    except ValueError as error:
        raise CliError(str(error)) from error
    return {
        "BlkioWeight": values["blkio-weight"],
        "CpuPeriod": values["cpu-period"],
        "CpuQuota": values["cpu-quota"],
        "CpuRealtimePeriod": values["cpu-rt-period"],
        "CpuRealtimeRuntime": values["cpu-rt-runtime"],
        "CpuShares": values["cpu-shares"],
        "CpusetCpus": values["cpuset-cpus"],
        "CpusetMems": values["cpuset-mems"],
        "KernelMemory": values["kernel-memory"],
        "Memory": values["memory"],
        "MemoryReservation": values["memory-reservation"],
        "MemorySwap": values["memory-swap"],
        "NanoCpus": values["cpus"],
        "PidsLimit": values["pids-limit"] or None,
        "RestartPolicy": policy,
    }


COMMANDS = {
    "update": Command(
        update, "Update configuration of one or more containers", "CONTAINER [CONTAINER...]", FLAGS, least=1
    )
}
