"""Titles and lines of a list of processes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from coved.containers.ps.columns import COMMANDS, Column
from coved.containers.ps.options import Listing, PsError
from coved.containers.ps.process import Machine, Process

_NAMES = {*COMMANDS, "comm", "ucmd", "ucomm"}


def rows(listing: Listing, pids: Iterable[int]) -> list[list[str]]:
    """The lines of the processes that are still there. Raises PsError when nothing is chosen, as ps fails then."""
    machine = Machine()
    processes = [process for process in _alive(machine, pids) if _is_wanted(listing, process)]
    if not processes and (listing.chosen or listing.running_only):
        raise PsError("exit status 1")
    for key, descending in reversed(listing.order):
        processes.sort(key=key, reverse=descending)
    lines: list[list[str]] = []
    branches = _branches(processes) if listing.tree else ((process, "") for process in processes)
    for process, branch in branches:
        for one in process.threads() if listing.threads else (process,):
            lines.append([_cell(column, one, branch, last=column is listing.columns[-1]) for column in listing.columns])
    return lines


def _alive(machine: Machine, pids: Iterable[int]) -> Iterator[Process]:
    for pid in pids:
        try:
            yield Process(machine, pid)
        except OSError:
            continue  # it has ended since


def _is_wanted(listing: Listing, process: Process) -> bool:
    if listing.running_only and process.state not in "RD":
        return False
    return not listing.chosen or any(chooses(process) for chooses in listing.chosen)


def _cell(column: Column, process: Process, branch: str, *, last: bool) -> str:
    text = column.of(process, last=last)
    if branch and column.name in _NAMES:
        text = f"{branch}{text}"
    # Several spaces in a row are one: dockerd cuts the lines of ps at spaces.
    return " ".join(text.split()) or "-"


def _branches(processes: Sequence[Process]) -> Iterator[tuple[Process, str]]:
    """The processes as a tree, each below its parent, and what stands before its command."""
    present = {process.pid for process in processes}
    children: dict[int, list[Process]] = {}
    roots = []
    for process in processes:
        if process.parent in present and process.parent != process.pid:
            children.setdefault(process.parent, []).append(process)
        else:
            roots.append(process)
    # Containers may nest deeper than calls of functions may.
    waiting = [(root, "") for root in reversed(roots)]
    while waiting:
        process, before = waiting.pop()
        yield process, f"{before}\\_ "
        below = children.get(process.pid, [])
        waiting += [(child, before + ("| " if child is not below[-1] else "")) for child in reversed(below)]
