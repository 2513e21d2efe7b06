"""Where `kube generate` and `kube deploy` have an application from: a compose file, by docker compose, or containers, by the engine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cove.cli.clicked import switch
from cove.cli.client import quote
from cove.cli.command import Context
from cove.cli.errors import CliError
from cove.cli.flags import one_of
from cove.plain import printable

if TYPE_CHECKING:
    from cove.kube.generate.manifests import Options, Route
    from cove.kube.generate.model import Application, Note

F = TypeVar("F", bound=Callable[..., Any])

COMPOSE_S = 120.0
"""How long docker compose may take to read its file, which may include others from elsewhere."""


@dataclass(frozen=True)
class Asked:
    """What the command line says of an application, and of what it is to become."""

    containers: tuple[str, ...]
    file: tuple[str, ...]
    project_name: str
    profile: tuple[str, ...]
    env_file: tuple[str, ...]
    name: str
    namespace: str
    service_type: str
    volume_size: str
    storage_class: str
    ingress: tuple[str, ...]
    ingress_class: str
    bind_mounts: str
    strict: bool


def options(command: F) -> F:
    """The options of `Asked`, each a parameter, and the argument."""
    for decorate in reversed(
        (
            click.argument("containers", metavar="[CONTAINER...]", nargs=-1),
            click.option(
                "--bind-mounts",
                default="refuse",
                help="What becomes of files of this computer (refuse, configmap, ignore)",
            ),
            _several("--env-file", help="File with variables of the compose file"),
            _several("--file", "-f", help="Compose file"),
            _several("--ingress", help="Lead a host to a service: HOST=SERVICE[:PORT]"),
            click.option("--ingress-class", default="", help="Class of the Ingress"),
            click.option("--name", default="", help="Name of the application"),
            click.option("--namespace", "-n", default="", help="Namespace of all objects"),
            _several("--profile", help="Profile of the compose file"),
            click.option("--project-name", "-p", default="", help="Project name for docker compose"),
            click.option(
                "--service-type", default="ClusterIP", help="Of published ports (ClusterIP, NodePort, LoadBalancer)"
            ),
            click.option("--storage-class", default="", help="Storage class of volumes"),
            switch("--strict", help="Fail when something cannot be carried"),
            click.option("--volume-size", default="1Gi", help="Size of each volume"),
        )
    ):
        command = decorate(command)
    return command


def _several(*names: str, help: str) -> Callable[[F], F]:
    return click.option(*names, multiple=True, type=click.STRING, help=help)


def application(context: Context, asked: Asked) -> Application:
    """Raises `CliError`, `CoveError`."""
    from cove.kube.generate import binds, manifests

    one_of("bind-mounts", asked.bind_mounts, binds.CHOICES)
    choice = binds.Binds(asked.bind_mounts)
    if asked.containers:
        if asked.file or asked.project_name or asked.profile or asked.env_file:
            raise CliError("cove: name containers, or a compose file with -f, not both")
        from cove.kube.generate import containers

        made = containers.application(_inspected(context, asked.containers), asked.name, choice)
    else:
        from cove.kube.generate import compose

        made = compose.application(_composed(context, asked), asked.name, choice)
    choice.check()
    made.notes += [*manifests.shared_volumes(made), *manifests.bound_here(made, asked.service_type)]
    return made


_HOST = re.compile(r"(?:\*\.)?[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")


def manifest_options(asked: Asked) -> Options:
    """Raises `CliError` for what a cluster would refuse, by then with half of the application in it."""
    from cove.kube import quantity
    from cove.kube.generate.manifests import Options

    try:
        if quantity.parse(asked.volume_size) < 1:
            raise ValueError(f"{asked.volume_size!r} is nothing")
    except ValueError as error:
        raise CliError(f"cove: --volume-size: {error}") from None
    return Options(
        namespace=asked.namespace,
        service_type=one_of("service-type", asked.service_type, ("ClusterIP", "NodePort", "LoadBalancer")),
        volume_size=asked.volume_size,
        storage_class=asked.storage_class,
        routes=tuple(_route(text) for text in asked.ingress),
        ingress_class=asked.ingress_class,
    )


def tell(notes: Sequence[Note], *, strict: bool) -> None:
    """On stderr, each on a line. Raises `CliError` when something is lost that must not be."""
    for note in notes:
        print(printable(f"not carried: {note}" if note.lost else f"note: {note}"), file=sys.stderr)
    if strict and (lost := sum(note.lost for note in notes)):
        things = "1 thing" if lost == 1 else f"{lost} things"
        raise CliError(f"cove: {things} cannot be carried to Kubernetes, and --strict is given: nothing is done")


def notes_json(notes: Sequence[Note]) -> list[dict[str, Any]]:
    return [{"workload": note.workload or None, "text": note.text, "lost": note.lost} for note in notes]


def _route(text: str) -> Route:
    from cove.kube.generate import terms
    from cove.kube.generate.manifests import Route

    host, equals, backend = text.partition("=")
    service, colon, port = backend.partition(":")
    number = terms.number(port)
    if not host or not service or not equals or (colon and number is None):
        raise CliError(f"cove: --ingress {text}: it is HOST=SERVICE or HOST=SERVICE:PORT")
    if not _HOST.fullmatch(host) or len(host) > 253 or _is_address(host):
        raise CliError(f"cove: --ingress {text}: {host!r} is no name of a host")
    return Route(host, service, number)


def _is_address(host: str) -> bool:
    """As Kubernetes reads them: also 010.0.0.1."""
    parts = host.split(".")
    return len(parts) == 4 and all(part.isdigit() and int(part) < 256 for part in parts)


def _inspected(context: Context, names: Sequence[str]) -> list[Any]:
    from cove.kube.generate.containers import Found

    found: dict[str, Found] = {}
    for name in names:
        container = context.engine.json("GET", f"/containers/{quote(name)}/json")
        image = context.engine.json("GET", f"/images/{quote(container['Image'])}/json")
        found[container["Id"]] = Found(container, image)
    return list(found.values())


def _composed(context: Context, asked: Asked) -> dict[str, Any]:
    """The compose file as docker compose understands it."""
    from cove.cli import compose
    from cove.local.sockets import url

    program = compose.find()
    if program is None:
        raise CliError(compose.missing())
    words = [str(program)]
    for option, values in (("--file", asked.file), ("--profile", asked.profile), ("--env-file", asked.env_file)):
        words += [word for value in values for word in (option, value)]
    if asked.project_name:
        words += ["--project-name", asked.project_name]
    try:
        done = subprocess.run(
            [*words, "config", "--format", "json"],
            stdout=subprocess.PIPE,
            env=compose.environment(os.environ, url(context.engine.path)),
            timeout=COMPOSE_S,
            check=False,
        )
    except OSError as error:
        raise CliError(f"cove: {program}: {error.strerror}") from error
    except subprocess.TimeoutExpired:
        raise CliError(f"cove: docker compose has not read its file within {COMPOSE_S:.0f} s") from None
    if done.returncode:
        raise CliError("")  # it has said why
    try:
        config = json.loads(done.stdout)
    except ValueError:
        raise CliError(f"cove: {program}: what it says of the compose file is not JSON: it must be version 2") from None
    assert isinstance(config, dict)
    return config
