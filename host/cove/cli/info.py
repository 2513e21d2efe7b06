"""`version` and `info`."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from typing import Any

from cove.cli import format as fmt
from cove.cli.command import Command, Context
from cove.cli.errors import CliError
from cove.cli.flags import Values, format_flag, switch

ARCHITECTURES = {"x86_64": "amd64", "AMD64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def _client() -> dict[str, Any]:
    machine = platform.machine()
    return {
        "Version": metadata.version("cove"),
        "ApiVersion": "1.51",
        "PythonVersion": platform.python_version(),
        "Os": {"win32": "windows"}.get(sys.platform, sys.platform),
        "Arch": ARCHITECTURES.get(machine, machine),
        "Context": "default",
    }


def _apply(form: str, data: dict[str, Any]) -> str:
    from cove.cli.gotemplate import Template, TemplateError, to_json

    if form == "json":
        return to_json(data)
    try:
        return Template(form).render(data, lambda name: f"can't evaluate field {name}")
    except TemplateError as error:
        raise CliError(f"template parsing error: {error.message}", 64) from error


def _rows(rows: list[tuple[str, str]]) -> str:
    return "".join(f"{name + ':':<20}{value}".rstrip() + "\n" for name, value in rows)


def version(context: Context, values: Values) -> int:
    """`cove version`: the client's half is printed even when there is no engine."""
    client = _client()
    server: dict[str, Any] | None = None
    failure: CliError | None = None
    try:
        server = context.engine.json("GET", "/version")
    except CliError as error:
        failure = error
    form = values["format"] or ("json" if values["json"] else "")
    if form:
        data = {"Client": client, "Server": server}
        print(_apply(form, data))
    else:
        text = "Client: Cove\n" + _rows(
            [
                (" Version", client["Version"]),
                (" API version", client["ApiVersion"]),
                (" Python version", client["PythonVersion"]),
                (" OS/Arch", f"{client['Os']}/{client['Arch']}"),
                (" Context", client["Context"]),
            ]
        )
        if server is not None:
            text += "\n" + _server_text(server)
        sys.stdout.write(text)
    if failure is not None:
        sys.stdout.flush()
        raise failure
    return 0


def _server_text(server: dict[str, Any]) -> str:
    name = (server.get("Platform") or {}).get("Name")
    text = f"Server: {name}\n" if name else "Server:\n"
    labels = {
        "ApiVersion": "API version", "GoVersion": "Go version", "GitCommit": "Git commit", "BuildTime": "Built",
        "Experimental": "Experimental",
    }  # fmt: skip
    components = server.get("Components") or [{"Name": "Engine", "Version": server["Version"], "Details": server}]
    for component in components:
        details = component.get("Details") or {}
        text += f" {component['Name']}:\n"
        rows = [("  Version", str(component.get("Version", "")))]
        if component["Name"] != "Engine":
            rows += [(f"  {key}", str(details[key])) for key in sorted(details)]
        else:
            for key in ("ApiVersion", "GoVersion", "GitCommit", "BuildTime"):
                if value := details.get(key):
                    if key == "ApiVersion":
                        value = f"{value} (minimum version {details.get('MinAPIVersion', '')})"
                    elif key == "BuildTime":
                        value = _built(str(value))
                    rows.append((f"  {labels[key]}", str(value)))
            rows.append(("  OS/Arch", f"{details.get('Os', '')}/{details.get('Arch', '')}"))
            rows.append(("  Experimental", str(details.get("Experimental", False)).lower()))
        text += _rows(rows)
    return text


def _built(moment: str) -> str:
    import time

    try:
        return time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(fmt.parse_time(moment)))
    except ValueError:
        return moment


def info(context: Context, values: Values) -> int:
    """`cove info`"""
    data = context.engine.json("GET", "/info")
    if form := values["format"] or ("json" if values["json"] else ""):
        print(_apply(form, data | {"ClientInfo": _client()}))
        return 0
    client = _client()
    print(f"Client: Cove\n Version:    {client['Version']}\n Context:    default\n Debug Mode: false\n\nServer:")
    for line in _info_lines(data):
        print(line)
    print()
    for warning in data.get("Warnings") or ():
        print(warning, file=sys.stderr)
    return 0


def _info_lines(data: dict[str, Any]) -> Iterator[str]:
    yield f" Containers: {data['Containers']}"
    yield f"  Running: {data['ContainersRunning']}"
    yield f"  Paused: {data['ContainersPaused']}"
    yield f"  Stopped: {data['ContainersStopped']}"
    yield f" Images: {data['Images']}"
    if data.get("ServerVersion"):
        yield f" Server Version: {data['ServerVersion']}"
    yield f" Storage Driver: {data['Driver']}"
    for name, value in data.get("DriverStatus") or ():
        yield f"  {name}: {value}"
    for field, label in (
        ("LoggingDriver", "Logging Driver"),
        ("CgroupDriver", "Cgroup Driver"),
        ("CgroupVersion", "Cgroup Version"),
    ):
        if data.get(field):
            yield f" {label}: {data[field]}"
    plugins = data.get("Plugins") or {}
    yield " Plugins:"
    for kind in ("Volume", "Network", "Authorization", "Log"):
        if plugins.get(kind):
            yield f"  {kind}: {' '.join(plugins[kind])}"
    if state := (data.get("Swarm") or {}).get("LocalNodeState"):
        yield f" Swarm: {state}"
    if data.get("Runtimes"):
        yield f" Runtimes: {' '.join(sorted(data['Runtimes']))}"
    if data.get("DefaultRuntime"):
        yield f" Default Runtime: {data['DefaultRuntime']}"
    if data.get("InitBinary"):
        yield f" Init Binary: {data['InitBinary']}"
    for field, label in (("ContainerdCommit", "containerd"), ("RuncCommit", "runc"), ("InitCommit", "init")):
        if (data.get(field) or {}).get("ID"):
            yield f" {label} version: {data[field]['ID']}"
    options = data.get("SecurityOptions") or ()
    if options:
        yield " Security Options:"
    for option in options:
        fields = [field.partition("=")[::2] for field in option.split(",")]
        yield f"  {next((value for key, value in fields if key == 'name'), option)}"
        for key, value in fields:
            if key != "name":
                yield f"   {key[:1].upper()}{key[1:]}: {value}"
    for field, label in (
        ("KernelVersion", "Kernel Version"),
        ("OperatingSystem", "Operating System"),
        ("OSType", "OSType"),
        ("Architecture", "Architecture"),
    ):
        yield f" {label}: {data.get(field, '')}"
    yield f" CPUs: {data['NCPU']}"
    yield f" Total Memory: {fmt.bytes_size(data['MemTotal'])}"
    yield f" Name: {data['Name']}"
    yield f" ID: {data['ID']}"
    yield f" Docker Root Dir: {data['DockerRootDir']}"
    yield f" Debug Mode: {str(data.get('Debug', False)).lower()}"
    for field, label in (("HttpProxy", "HTTP Proxy"), ("HttpsProxy", "HTTPS Proxy"), ("NoProxy", "No Proxy")):
        if data.get(field):
            yield f" {label}: {data[field]}"
    if data.get("Labels"):
        yield " Labels:"
        for label in data["Labels"]:
            yield f"  {label}"
    yield f" Experimental: {str(data.get('ExperimentalBuild', False)).lower()}"
    registries = data.get("RegistryConfig") or {}
    insecure = [name for name, entry in (registries.get("IndexConfigs") or {}).items() if not entry.get("Secure")]
    insecure += registries.get("InsecureRegistryCIDRs") or []
    if insecure:
        yield " Insecure Registries:"
        for name in insecure:
            yield f"  {name}"
    if registries.get("Mirrors"):
        yield " Registry Mirrors:"
        for name in registries["Mirrors"]:
            yield f"  {name}"
    yield f" Live Restore Enabled: {str(data.get('LiveRestoreEnabled', False)).lower()}"


_FORMAT = format_flag("f", tables=False)
_JSON = switch("json", "", "Print JSON, as Cove's own commands do", hidden=True)

COMMANDS = {
    "version": Command(version, "Show the Docker version information", "", (_FORMAT, _JSON), most=0),
    "info": Command(info, "Display system-wide information", "", (_FORMAT, _JSON), most=0),
}
