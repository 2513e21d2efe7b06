"""`cove machine upgrade`, `rollback`, and what `status` tells of a machine's VM images (docs/decisions/0049)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cove.cli import as_json as json_output
from cove.errors import CoveError
from cove.machine.architecture import Architecture, named
from cove.machine.paths import MachinePaths

SHOWN = 16
"""Digits of an image's digest, which are also its name in the VM."""


def rows(value: dict[str, Any]) -> list[tuple[str, str]]:
    """Of a `status`."""
    name, images = value["machine"], value["images"]
    going_back = images["failed"] if images["pinned"] else None
    image = going_back or value.get("image") or images["used"]
    if image is None:
        return []
    shown = image[:SHOWN]
    if images["pinned"]:
        shown += f", to which it {'is to go' if going_back else 'has gone'} back; the newest one: cove machine upgrade {name}"
    elif images["newest"] is None:
        shown += "; this Cove has a newer one, which is made for the next start"
    elif images["newest"] != image:
        shown += f"; the next start takes a newer one, {images['newest'][:SHOWN]}"
    result = [("image", shown)]
    if images["failed"] and images["failed"] != image and value["state"] != "starting":
        result.append(("", f"{images['failed'][:SHOWN]} did not start; leave it with: cove machine rollback {name}"))
    elif images["before"] and not images["pinned"]:
        result.append(("", f"before it {images['before'][:SHOWN]}; go back with: cove machine rollback {name}"))
    return result


def upgrade(
    name: str, status: dict[str, Any], as_json: bool, stop: Callable[[str], None], start: Callable[[str], object]
) -> None:
    """Raises `CoveError`."""
    from cove.image import builder
    from cove.machine import lifecycle, systems
    from cove.progress import renderer

    paths = lifecycle.existing(name)
    with renderer(f"Cove is making the VM image for machine {name}") as report:
        digest = builder.build(_architecture(paths), report).digest
    noted = systems.load(paths)
    if noted.pinned:
        systems.save(paths, replace(noted, trying="", pinned=False))
    state, shown = status["state"], digest[:SHOWN]
    if digest == (status.get("image") or noted.used):
        said = f"machine {name} uses the newest VM image, {shown}"
    elif state == "stopped":
        said = f"machine {name} takes the VM image {shown} at its next start"
    else:
        stop(name)
        start(name)
        said, state = f"machine {name} is running with the VM image {shown}", "running"
    json_output.told(as_json, said, machine=name, state=state, image=digest)


def rollback(name: str, as_json: bool, stop: Callable[[str], None], start: Callable[[str], object]) -> None:
    """Raises `CoveError`, and then the machine has the image that it had."""
    from cove.image import store
    from cove.machine import lifecycle, systems

    paths = lifecycle.existing(name)
    noted = systems.load(paths).stayed()
    going = noted.back(name)
    target = going.kept
    if store.find(target) is None:
        raise CoveError(
            f"the VM image {target[:SHOWN]}, which the machine {name} used before, is not there any more",
            "nothing was changed",
        )
    stop(name)
    systems.save(paths, going)
    try:
        start(name)
        if systems.load(paths).used != target:
            raise CoveError("another command has started it with its present image", "try again")
    except BaseException as error:
        undone = systems.load(paths) == noted  # by the agent, which says so
        systems.save(paths, noted)
        if not isinstance(error, CoveError):
            raise
        said = "" if undone else "It is stopped, and its next start takes the image that it had."
        raise CoveError(
            f"the machine {name} cannot go back to the VM image {target[:SHOWN]}: {error.message}",
            "\n".join(filter(None, (error.hint, said))),
        ) from error
    json_output.told(
        as_json,
        f"machine {name} has gone back to the VM image {target[:SHOWN]}, and stays there until: cove machine upgrade {name}",
        machine=name, state="running", image=target,
    )  # fmt: skip


def _architecture(paths: MachinePaths) -> Architecture:
    from cove.machine import effective

    return named(effective.load(paths.settings).architecture)
