"""`cove diagnose --bundle`: one archive for a report: findings, versions, settings, logs. Secrets are taken out of everything in it;
keys, a suspended machine's memory and its disk are never read for it.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cove.agent import runstate
from cove.agent.client import ask
from cove.errors import CoveError
from cove.machine import docker_context, effective, engine, lifecycle, policy
from cove.machine.paths import MachinePaths
from cove.support import machine, redact
from cove.support.computer import OTHER_VARIABLES
from cove.support.findings import Finding
from cove.support.redact import Redactor

LOG_BYTES = 1 << 20
"""Of the end of each log."""
ENGINE_LOG = "tail -c 1000000 /var/lib/cove/log/engine.log"
ENGINE_LOG_S = 15.0
README = """\
This was made by `cove diagnose --bundle` for a report of trouble with Cove. Look through it before you give it away.

Passwords, tokens, keys, the names and passwords in addresses and the values of variables have been taken out ("[removed]"), and your
home folder is "~". Not here: the machine's keys and disk, containers, images, and what is in them. Logs of the machine's console may
have what programs in it have written there.
"""


def default_name() -> str:
    return f"cove-diagnose-{time.strftime('%Y%m%d-%H%M%S')}.tar.gz"


def write(
    file: Path, name: str, findings: Sequence[Finding], guest: Callable[[str, float], str],
    environment: Mapping[str, str] | None = None,
) -> list[str]:  # fmt: skip
    """Write the bundle whole, for its owner alone, and return the names of what is in it. Ends in .zip: a zip, else a tar.gz.

    `guest` runs a command in the machine and returns its output. Raises `CoveError`.
    """
    from cove.machine.files import write_whole

    environment = os.environ if environment is None else environment
    clean = Redactor(_secrets(environment), Path.home())
    folder = file.name.removesuffix(".zip").removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    members = {f"{folder}/{path}": text.encode() for path, text in _members(name, findings, guest, environment, clean)}
    data = io.BytesIO()
    if file.name.endswith(".zip"):
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in members.items():
                archive.writestr(path, content)
    else:
        with tarfile.open(fileobj=data, mode="w:gz") as tar:
            for path, content in members.items():
                info = tarfile.TarInfo(path)
                info.size, info.mtime, info.mode = len(content), int(time.time()), 0o600
                tar.addfile(info, io.BytesIO(content))
    try:
        write_whole(file, data.getvalue())
    except OSError as error:
        raise CoveError(
            f"{file} cannot be written: {error.strerror}", "give another place: cove diagnose --bundle FILE"
        ) from error
    return sorted(members)


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    yield from redact.of_environment(environment)
    yield from redact.of_docker(_text(docker_context.folder() / "config.json"))
    for name in lifecycle.names():
        paths = MachinePaths(name)
        yield from (_text(path) for path in (paths.ssh_key, paths.host_key))


def _members(
    name: str, findings: Sequence[Finding], guest: Callable[[str, float], str], environment: Mapping[str, str], clean: Redactor
) -> Iterator[tuple[str, str]]:  # fmt: skip
    paths = MachinePaths(name)
    yield "README.txt", README
    shown = [clean.document(each.shown()) for each in findings]
    yield "findings.json", _json({"machine": name, "findings": shown})
    yield "findings.txt", "".join(f"{each['state']:<9}{each['check']:<16}{each['text']}\n" for each in shown)
    yield "environment.json", _json(_variables(environment, clean))
    yield "docker-config.json", _json(_docker(clean))
    if rules := _text(policy.place()):
        yield "policy.toml", clean(rules)
    for one in lifecycle.names():
        yield f"machines/{one}/machine.toml", clean(_text(MachinePaths(one).settings))
    yield f"machines/{name}/settings.json", _json(_settings(paths, clean))
    yield f"machines/{name}/status.json", _json(clean.document(_status(paths)))
    yield f"machines/{name}/files.json", _json(_files(paths, clean))
    for log in (paths.console_log, paths.agent_log, paths.qemu_log, paths.folders_log):
        for part in (log.with_name(log.name + ".1"), log):
            if text := _text(part, LOG_BYTES):
                yield f"machines/{name}/{part.name}", clean(text)
    if machine.runs(paths):
        for path in ("/version", "/info", "/system/df?type=image"):
            with contextlib.suppress(OSError, ValueError):
                answer = engine.get(paths.docker_socket, path, time.monotonic() + machine.ENGINE_S)
                yield (
                    f"machines/{name}/engine{path.partition('?')[0].replace('/', '-')}.json",
                    _json(clean.document(answer)),
                )
        yield f"machines/{name}/engine.log", clean(guest(ENGINE_LOG, ENGINE_LOG_S))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, default=str) + "\n"


def _text(path: Path, most: int = 256 << 10) -> str:
    """The end of a file; "" when it cannot be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            data = file.read(most)
    except OSError:
        return ""
    if size > most:  # the first line is not whole: what stood before it on that line may be what tells a secret
        data = data.partition(b"\n")[2]
    return data.decode("utf-8", "replace")


def _variables(environment: Mapping[str, str], clean: Redactor) -> dict[str, str]:
    """Names alone, but of those that Cove reads the values too."""
    from cove.machine.settings import SCHEMA

    known = {*OTHER_VARIABLES, "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"}
    known |= {effective.variable(name) for name in SCHEMA}
    return {name: clean(value) if name in known else redact.GONE for name, value in sorted(environment.items())}


def _docker(clean: Redactor) -> Any:
    try:
        value = json.loads(_text(docker_context.folder() / "config.json"))
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    auths, headers = value.get("auths"), value.get("HttpHeaders")
    if isinstance(auths, dict):
        value["auths"] = dict.fromkeys(auths, redact.GONE)
    if isinstance(headers, dict):
        value["HttpHeaders"] = dict.fromkeys(headers, redact.GONE)
    return {key: each if key in ("auths", "HttpHeaders") else clean.document(each) for key, each in value.items()}


def _settings(paths: MachinePaths, clean: Redactor) -> Any:
    from cove.machine.settings import SCHEMA

    try:
        values = effective.values(paths.settings)
    except CoveError as error:
        return {"error": clean(error.message)}
    return {
        name: {"toml": clean(SCHEMA[name].public(each.value)), "origin": each.origin} for name, each in values.items()
    }


def _status(paths: MachinePaths) -> Any:
    try:
        return ask(paths, "status", 5)
    except (CoveError, OSError):
        with contextlib.suppress(OSError):
            return runstate.without_agent(paths)
    return None


def _files(paths: MachinePaths, clean: Redactor) -> list[dict[str, Any]]:
    """What lies there, by name, size and mode: of keys too, but not what is in them."""
    found = []
    for folder in (paths.folder, paths.run_dir):
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            with contextlib.suppress(OSError):
                info = path.lstat()
                found.append(
                    {
                        "path": clean(str(path)),
                        "bytes": info.st_size,
                        "mode": f"{info.st_mode:o}",
                        "changed": info.st_mtime,
                    }
                )
    return found
