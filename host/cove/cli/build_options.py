"""What the flags of `build` ask of the engine: the attributes that a Dockerfile's frontend knows, and what becomes of the result.

Words and order of the checks are those of docker's client (buildx).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cove.build.secrets import Secret, located
from cove.build.solve import Exporter
from cove.cli import terminal
from cove.cli.docker_config import PROXIES
from cove.cli.errors import CliError, os_error_text
from cove.cli.flags import FALSE, TRUE, Values
from cove.cli.platforms import parse as parse_platform
from cove.cli.reference import parse_reference
from cove.cli.values import csv_fields

if TYPE_CHECKING:
    from cove.build.receiver import Output
    from cove.build.ssh import Agent

UNSUPPORTED = (
    "{what} is not supported for the docker driver.\n"
    "Switch to a different driver, or turn on the containerd image store, and try again.\n"
    "Learn more at https://docs.docker.com/go/{page}/"
)
HOST_GATEWAY = "host-gateway"
CALLS = {"check": "lint"}
"""What `--call` knows by another name."""


@dataclass
class Results:
    """What becomes of what was built."""

    exporters: list[Exporter] = field(default_factory=list)
    outputs: dict[int, Output] = field(default_factory=dict)
    """What the exporters of these numbers send back."""

    @property
    def pushed(self) -> list[str]:
        """Names under which the image goes to registries."""
        return [
            name
            for each in self.exporters
            if each.attributes.get("push") in TRUE
            for name in each.attributes.get("name", "").split(",")
        ]


@dataclass(frozen=True)
class Call:
    """A question about a Dockerfile (`--call`)."""

    name: str
    format: str = ""
    ignore_status: bool = False


def attributes(values: Values) -> dict[str, str]:
    """The frontend's attributes, all but those that the files of the build give. Raises `ValueError`."""
    found: dict[str, str] = {}
    for name, value in build_arguments(values["build-arg"]).items():
        found[f"build-arg:{name}"] = value
    for name, value in _pairs(values["label"], from_environment=False).items():
        found[f"label:{name}"] = value
    found["image-resolve-mode"] = "pull" if values["pull"] else "local"
    for flag, key in (("target", "target"), ("cgroup-parent", "cgroup-parent")):
        if values[flag]:
            found[key] = values[flag]
    if values["no-cache"] and values["no-cache-filter"]:
        raise ValueError("--no-cache and --no-cache-filter cannot currently be used together")
    if values["no-cache"] or values["no-cache-filter"]:
        found["no-cache"] = ",".join(values["no-cache-filter"])
    if platforms := [_platform(part) for text in values["platform"] for part in text.split(",") if part]:
        found["platform"] = ",".join(platforms)
    mode = values["network"]
    if mode in ("host", "none"):
        found["force-network-mode"] = mode
    elif mode not in ("", "default"):
        raise ValueError(
            f'network mode "{mode}" not supported by buildkit - you can define a custom network for your builder'
            " using the network driver-opt in buildx create"
        )
    if values["shm-size"] > 0:
        found["shm-size"] = str(values["shm-size"])
    if limits := {item["Name"]: item for item in values["ulimit"]}:
        found["ulimit"] = ",".join(f"{name}={item['Soft']}:{item['Hard']}" for name, item in limits.items())
    imports = caches(values["cache-from"])
    if imports:
        entries = [{"Type": each.type, "Attrs": dict(each.attributes)} for each in imports]
        found["cache-imports"] = json.dumps(entries, separators=(",", ":"))
    return found


def build_arguments(given: Iterable[str]) -> dict[str, str]:
    """`--build-arg`: a bare name has the client's value, if there is one. Raises `ValueError`."""
    found = _pairs(given, from_environment=True)
    if date := os.environ.get("SOURCE_DATE_EPOCH"):
        found.setdefault("SOURCE_DATE_EPOCH", date)
    if "BUILDKIT_SYNTAX" in found and not found["BUILDKIT_SYNTAX"].strip():
        raise ValueError(
            "empty BUILDKIT_SYNTAX build-arg is invalid, use --build-arg BUILDKIT_SYNTAX without '=' for optional behavior"
        )
    return found


def proxies(settings: Any, given: Mapping[str, str]) -> dict[str, str]:
    """Build arguments of docker's configuration file (`proxies`), all that were not given."""
    default = settings.get("default") if isinstance(settings, dict) else None
    known = {name.lower() for name in given}
    result = {}
    for key, variable in PROXIES.items():
        value = default.get(key) if isinstance(default, dict) else None
        if isinstance(value, str) and value:
            for name in (variable, variable.lower()):
                if name.lower() not in known:
                    result[f"build-arg:{name}"] = value
    return result


def _pairs(given: Iterable[str], *, from_environment: bool) -> dict[str, str]:
    result = {}
    for item in given:
        name, equals, value = item.partition("=")
        if not name:
            from cove.cli.quoting import quoted

            raise ValueError(f"invalid key-value pair {quoted(item)}: empty key")
        if equals:
            result[name] = value
        elif not from_environment:
            result[name] = ""
        elif name in os.environ:
            result[name] = os.environ[name]
    return result


def _platform(text: str) -> str:
    if text == "local":
        return text
    found = parse_platform(text)
    version = f"({found['os.version']})" if found.get("os.version") else ""
    return "/".join(filter(None, (found["os"] + version, found["architecture"], found.get("variant", ""))))


def add_hosts(given: Iterable[str], gateway: str) -> str:
    """`--add-host` as the frontend takes it; `gateway` is what host-gateway stands for. Raises `ValueError`."""
    import ipaddress

    hosts = []
    for item in (part for text in given for part in csv_fields(text)):
        name, separator, place = item.partition("=") if "=" in item else item.partition(":")
        if not separator or not name or not place:
            raise ValueError(f"invalid host {item}")
        if place == HOST_GATEWAY:
            if not gateway:
                raise ValueError("unable to derive the IP value for host-gateway: host-gateway IP not found")
            hosts.append(f"{name}={gateway}")
            continue
        for address in place.split(","):
            bare = address[1:-1] if len(address) > 2 and address[0] == "[" and address[-1] == "]" else address
            try:
                ipaddress.ip_address(bare)
            except ValueError:
                raise ValueError(f"invalid host {item}") from None
            hosts.append(f"{name}={bare}")
    return ",".join(hosts)


def contexts(given: Iterable[str]) -> dict[str, str]:
    """`--build-context name=place`. Raises `ValueError`."""
    result = {}
    for item in filter(None, given):
        name, equals, place = item.partition("=")
        if not equals:
            raise ValueError(f"invalid context value: {item}, expected key=value")
        try:
            reference = parse_reference(name)
        except CliError as error:
            raise ValueError(f"invalid context name {name}: {error.message}") from None
        hub = "docker.io/library/" if reference.name.startswith("docker.io/library/") else "docker.io/"
        familiar = str(reference).removeprefix(hub)
        result[familiar.removesuffix(":latest")] = place
    return result


def secrets(given: Iterable[str]) -> dict[str, Secret]:
    """`--secret`. Raises `ValueError`."""
    result = {}
    for text in filter(None, given):
        settings = {}
        for item in csv_fields(text):
            key, equals, value = item.partition("=")
            if not equals:
                raise ValueError(f"invalid field '{item}' must be a key=value pair")
            key = {"source": "src"}.get(key.lower(), key.lower())
            if key not in ("type", "id", "src", "env"):
                raise ValueError(f"unexpected key '{key}' in '{item}'")
            if key == "type" and value not in ("file", "env"):
                raise ValueError(f'unsupported secret type "{value}"')
            settings[key] = value
        path, variable = settings.get("src", ""), settings.get("env", "")
        if settings.get("type") == "env" and not variable:
            path, variable = "", path
        secret = located(Secret(settings.get("id", ""), path, variable))
        result[secret.id] = secret
    return result


def agents(given: Sequence[str]) -> dict[str, Agent]:
    """`--ssh id[=path]`. Raises `ValueError`."""
    from cove.build import ssh

    result = {}
    for text in filter(None, given):
        id, equals, paths = text.partition("=")
        agent = ssh.located(id or "default", paths.split(",") if equals else ())
        result[agent.id] = agent
    return result


def caches(given: Iterable[str]) -> list[Exporter]:
    """`--cache-from` and `--cache-to`. Raises `ValueError`."""
    result = []
    for text in filter(None, given):
        if "=" not in text:
            result += [Exporter("registry", {"ref": name}) for name in csv_fields(text)]
            continue
        settings = {}
        for item in csv_fields(text):
            key, equals, value = item.partition("=")
            if not equals:
                raise ValueError(f"invalid value {item}")
            settings[key.lower()] = value
        kind = settings.pop("type", "")
        if not kind:
            raise ValueError(f'type required for "{text}"')
        result.append(Exporter(kind, settings))
    return result


def cache_exports(given: Iterable[str], arguments: Mapping[str, str]) -> list[Exporter]:
    """Where the cache goes. Raises `ValueError` for a place that only the client could write to."""
    result = caches(given)
    if arguments.get("BUILDKIT_INLINE_CACHE") in TRUE:
        result.append(Exporter("inline"))
    if any(each.type == "local" for each in result):
        raise ValueError(UNSUPPORTED.format(what="Cache export", page="build-cache-backends"))
    return result


def results(values: Values) -> Results:
    """What becomes of the result. Raises `ValueError`."""
    found = Results()
    for text in filter(None, values["output"]):
        _add(found, text, values["iidfile"])
    if values["push"] and not any(each.type == "image" for each in found.exporters):
        found.exporters.append(Exporter("image"))
    if values["load"] and not any(each.type == "docker" for each in found.exporters):
        found.exporters.append(Exporter("docker"))
    if not found.exporters:
        found.exporters.append(Exporter("image"))
    names = ",".join(map(_tag, values["tag"]))
    annotations = {}
    for text in filter(None, values["annotation"]):
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f'invalid annotation "{text}", expected key=value')
        annotations[f"annotation.{key}"] = value
    exporters = []
    for number, each in enumerate(found.exporters):
        settings = {**each.attributes, **annotations}
        if each.type == "image" and values["push"]:
            settings["push"] = "true"
        if names and each.type in ("image", "oci", "docker"):
            settings["name"] = names
        if settings.get("push") in TRUE and not settings.get("name"):
            raise ValueError("tag is needed when pushing to registry")
        kind = each.type
        if kind == "image" or (kind == "docker" and number not in found.outputs):
            kind = "moby"  # what the engine calls its own store
        exporters.append(Exporter(kind, settings))
    found.exporters = [each for each in exporters if each.type != "cacheonly"]
    return found


def _tag(name: str) -> str:
    try:
        parse_reference(name)
    except CliError as error:
        reason = error.message
        if "must be lowercase" in reason:
            reason = "repository name must be lowercase"
        raise ValueError(f'invalid tag "{name}": {reason}') from None
    return name


def _add(found: Results, text: str, iidfile: str) -> None:
    """One `--output`."""
    fields = csv_fields(text)
    settings: dict[str, str] = {}
    if len(fields) == 1 and fields[0] == text and not text.startswith("type="):
        settings = {"type": "tar" if text == "-" else "local", "dest": text}
    else:
        for item in fields:
            key, equals, value = item.partition("=")
            if not equals:
                raise ValueError(f"invalid value {item}")
            settings[key.strip().lower()] = value
    kind, destination = settings.pop("type", ""), settings.pop("dest", "")
    if not kind:
        raise ValueError("type is required for output")
    if iidfile and kind in ("local", "tar"):
        raise ValueError("local and tar exporters are incompatible with image ID file")
    if kind == "registry":
        kind, settings["push"] = "image", "true"
    number = len(found.exporters)
    if kind == "local" or (kind in ("oci", "docker") and settings.get("tar") in FALSE):
        found.outputs[number] = _folder(kind, destination)
    elif kind == "tar" or kind == "oci" or (kind == "docker" and destination):
        found.outputs[number] = _archive(found, kind, destination or "-")
    found.exporters.append(Exporter(kind, settings))


def _folder(kind: str, destination: str) -> Output:
    from cove.build.receiver import Folder

    if kind != "local":
        raise ValueError(f"this version of Cove takes no folders from the {kind} exporter: leave tar=false out")
    if not destination:
        raise ValueError(f"dest is required for {kind} exporter")
    if destination == "-":
        raise ValueError(f"dest cannot be stdout for {kind} exporter")
    try:
        if Path(destination).exists() and not Path(destination).is_dir():
            raise ValueError(f"destination directory {destination} is a file")
    except OSError as error:
        raise ValueError(f"invalid destination directory: {destination}: {os_error_text(error, 'stat')}") from None
    return Folder(Path(destination))


def _archive(found: Results, kind: str, destination: str) -> Output:
    from cove.build.receiver import Archive

    if destination == "-":
        if any(isinstance(each, Archive) and each.to_stdout for each in found.outputs.values()):
            raise ValueError("multiple outputs configured to write to stdout")
        if terminal.is_terminal(1):
            raise ValueError(f"dest file is required for {kind} exporter. refusing to write to console")
        return Archive(None)
    if Path(destination).is_dir():
        raise ValueError(f"destination file {destination} is a directory")
    if not Path(destination).absolute().parent.is_dir():
        raise ValueError(f"invalid destination file: {destination}: no such file or directory")
    return Archive(Path(destination))


def call(text: str) -> Call | None:
    """`--call`; None is a build. Raises `ValueError`."""
    name, settings = "", {}
    for item in csv_fields(text) if text else ():
        key, equals, value = item.partition("=")
        if equals and key not in ("format", "ignorestatus"):
            raise ValueError(f"invalid print field: {item}")
        if equals:
            settings[key] = value
        elif name:
            raise ValueError(f"invalid print value: {text}")
        else:
            name = item
    ignored = settings.get("ignorestatus", "false")
    if ignored not in TRUE | FALSE:
        raise ValueError(
            f'invalid ignorestatus print value: {ignored}: strconv.ParseBool: parsing "{ignored}": invalid syntax'
        )
    if name in ("", "build"):
        return None
    return Call(CALLS.get(name, name), settings.get("format", ""), ignored in TRUE)


def check_attestations(values: Values) -> None:
    """Raises `ValueError` when there are to be any: this engine, and docker's with its own store, makes none."""
    wanted = [*values["attest"], *(values[name] and f"type={name},{values[name]}" for name in ("provenance", "sbom"))]
    for text in filter(None, wanted):
        settings = csv_fields(text)
        if not any(item in FALSE or item == "disabled=true" for item in settings):
            raise ValueError(UNSUPPORTED.format(what="Attestation", page="attestations"))
